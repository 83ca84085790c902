//! `SignedAndEnvelopedData`: a content that only its recipients can open, and of which they see who signed it. The signature is
//! over the content itself, without attributes.

use zeroize::Zeroizing;

use crate::{
    Certificate, Error, SecretKey,
    fields::{self, Malformed, SET},
    judgement::{Fault, Judgement, Refusal, Trust},
    message::{
        Attributes, ContentType, close,
        encrypted::{self, Encrypted},
        open_as, recipient,
        signer::{Along, Signer, Signing, digests, read_digests, read_signers, trust_all},
    },
    sm4::Key,
};

/// Signs `content` and encrypts it to each of `recipients`. `signing.attributes` must be [`Attributes::None`].
///
/// # Errors
/// As [`super::envelop`] and [`super::sign`]; [`Error::Attributes`] for attributes, which this form does not have.
pub fn sign_and_envelop(
    content: &[u8],
    signing: &Signing<'_>,
    recipients: &[Certificate],
    mut fill: impl FnMut(&mut [u8]) -> Result<(), Error>,
) -> Result<Vec<u8>, Error> {
    if signing.attributes != Attributes::None {
        return Err(Error::Attributes);
    }
    let key = Key::generate(&mut fill)?;
    let recipients = recipient::write(recipients, &key, &mut fill)?;
    let inside = encrypted::write(content, &key, &mut fill)?;
    let signers = fields::set_of(SET, vec![signing.signer_info(content)?]);
    let members: [&[u8]; 6] =
        [&fields::number(1)?, &recipients, &digests()?, &inside, &signing.certificates(), &signers];
    close(ContentType::SignedAndEnvelopedData, &members)
}

/// Opens and judges a `SignedAndEnvelopedData` for the holder of `certificate` and `key`: the content and who signed it.
///
/// Signers are trusted before anything is decrypted. From there on every fault, the signature's too, is
/// [`Refusal::NotOpened`]: whoever changes a message learns nothing from the answer about what it decrypts to.
pub fn open_signed(
    message: &[u8],
    certificate: &Certificate,
    key: &SecretKey,
    trust: &Trust<'_>,
) -> Judgement<(Zeroizing<Vec<u8>>, Vec<Signer>)> {
    judge(message, certificate, key, trust).into()
}

fn judge(
    message: &[u8],
    certificate: &Certificate,
    key: &SecretKey,
    trust: &Trust<'_>,
) -> Result<(Zeroizing<Vec<u8>>, Vec<Signer>), Fault> {
    let mut fields = open_as(message, ContentType::SignedAndEnvelopedData)?;
    fields.version(1, "SignedAndEnvelopedData.version")?;
    let recipients = recipient::read(&mut fields)?;
    read_digests(&mut fields)?;
    let encrypted = Encrypted::read(&mut fields)?;
    let along = Along::read(&mut fields)?;
    let signers = read_signers(&mut fields)?;
    fields.finish("SignedAndEnvelopedData")?;
    if signers.iter().any(|signer| signer.has_attributes()) {
        return Err(Malformed::new("authenticatedAttributes", "this form has none").into());
    }
    let trusted = trust_all(&signers, &along, trust)?;
    let content_key = recipient::unwrap(&recipients, certificate, key)?;
    let content = encrypted.open(&content_key)?;
    let mut found = Vec::with_capacity(signers.len());
    for (signer, certificate) in signers.iter().zip(trusted) {
        found.push(signer.verify(&content, certificate).map_err(|_| Refusal::NotOpened)?);
    }
    Ok((content, found))
}
