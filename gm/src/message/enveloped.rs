//! `EnvelopedData`: a content that only its recipients can open. It is not signed: whoever has the certificate can have made
//! it, and a changed one may open to something else. `signed_enveloped.rs` is for what must be both.

use zeroize::Zeroizing;

use crate::{
    Certificate, Error, SecretKey, fields,
    judgement::{Fault, Judgement},
    message::{
        ContentType, close,
        encrypted::{self, Encrypted},
        open_as, recipient,
    },
    sm4::Key,
};

/// Encrypts `content` to each of `recipients`, whose certificates must allow encryption; whether they are trusted is for the
/// caller to know. `fill` gives fresh randomness.
///
/// # Errors
/// [`Error::NoRecipient`], [`Error::Chain`] for a certificate that only signs, [`Error::TooLarge`], [`Error::Randomness`].
pub fn envelop(
    content: &[u8],
    recipients: &[Certificate],
    mut fill: impl FnMut(&mut [u8]) -> Result<(), Error>,
) -> Result<Vec<u8>, Error> {
    let key = Key::generate(&mut fill)?;
    let recipients = recipient::write(recipients, &key, &mut fill)?;
    let inside = encrypted::write(content, &key, &mut fill)?;
    close(ContentType::EnvelopedData, &[&fields::number(1)?, &recipients, &inside])
}

/// Opens an `EnvelopedData` for the holder of `certificate` and `key`. Valid means opened, and nothing about who made it.
pub fn open(message: &[u8], certificate: &Certificate, key: &SecretKey) -> Judgement<Zeroizing<Vec<u8>>> {
    let read = || -> Result<Zeroizing<Vec<u8>>, Fault> {
        let mut fields = open_as(message, ContentType::EnvelopedData)?;
        fields.version(1, "EnvelopedData.version")?;
        let recipients = recipient::read(&mut fields)?;
        let encrypted = Encrypted::read(&mut fields)?;
        fields.finish("EnvelopedData")?;
        let content_key = recipient::unwrap(&recipients, certificate, key)?;
        Ok(encrypted.open(&content_key)?)
    };
    read().into()
}
