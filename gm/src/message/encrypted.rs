//! The encrypted content of every enveloped message, and `EncryptedData`, whose key both sides have already. SM4-CBC hides
//! and does not protect against change: what must not be changed is signed, too.

use der::Encode;
use zeroize::Zeroizing;

use crate::{
    Error, Mode,
    fields::{self, Fields, Malformed, SEQUENCE, primitive},
    judgement::{Fault, Judgement, Refusal},
    message::{ContentType, MESSAGE_BYTES_MAX, close, open_as},
    sm4::{self, Key},
};

/// Encrypts `content` under a key that the reader has: `EncryptedData`. `fill` gives 16 bytes of fresh randomness.
///
/// # Errors
/// [`Error::TooLarge`] for a content that no reader would take; [`Error::Randomness`].
pub fn encrypt_with(
    content: &[u8],
    key: &Key,
    mut fill: impl FnMut(&mut [u8]) -> Result<(), Error>,
) -> Result<Vec<u8>, Error> {
    let inside = write(content, key, &mut fill)?;
    close(ContentType::EncryptedData, &[&fields::number(1)?, &inside])
}

/// Opens an `EncryptedData` under `key`. Valid means only that the padding is: nobody signed it.
pub fn decrypt_with(message: &[u8], key: &Key) -> Judgement<Zeroizing<Vec<u8>>> {
    let read = || -> Result<Zeroizing<Vec<u8>>, Fault> {
        let mut fields = open_as(message, ContentType::EncryptedData)?;
        fields.version(1, "EncryptedData.version")?;
        let encrypted = Encrypted::read(&mut fields)?;
        fields.finish("EncryptedData")?;
        Ok(encrypted.open(key)?)
    };
    read().into()
}

/// `EncryptedContentInfo` as written: SM4-CBC, parameters its initial vector.
pub(super) fn write(
    content: &[u8],
    key: &Key,
    fill: &mut dyn FnMut(&mut [u8]) -> Result<(), Error>,
) -> Result<Vec<u8>, Error> {
    if content.len() > MESSAGE_BYTES_MAX / 2 {
        return Err(Error::TooLarge { limit: MESSAGE_BYTES_MAX / 2 });
    }
    let mut iv = [0; sm4::NONCE_BYTES];
    fill(&mut iv)?;
    let mode = Mode::Cbc { iv };
    let text = mode.encrypt(key, content, &[])?;
    Ok(fields::sequence(&[&ContentType::Data.oid().to_der()?, &mode.to_der()?, &fields::value(primitive(0), &[&text])]))
}

/// An `EncryptedContentInfo` as received.
#[derive(Debug)]
pub(super) struct Encrypted<'a> {
    mode: Mode,
    text: &'a [u8],
}

impl<'a> Encrypted<'a> {
    /// Reads it; the content must be of type data, in the message, and under SM4-CBC.
    pub(super) fn read(fields: &mut Fields<'a>) -> Result<Self, Malformed> {
        const CIPHER: &str = "contentEncryptionAlgorithm";
        let mut info = Fields::of(fields.take(SEQUENCE, "encryptedContentInfo")?.content);
        let kind = ContentType::from_oid(info.oid("encryptedContentInfo")?, "encryptedContentInfo")?;
        if kind != ContentType::Data {
            return Err(Malformed::new("encryptedContentInfo", format!("data expected, {} found", kind.name())));
        }
        let named = info.take(SEQUENCE, CIPHER)?;
        let mode = Mode::from_der(named.whole).map_err(|error| Malformed::new(CIPHER, error.to_string()))?;
        if !matches!(mode, Mode::Cbc { .. }) {
            return Err(Malformed::new(CIPHER, "not SM4-CBC"));
        }
        let text = info.take(primitive(0), "encryptedContent")?.content;
        // Information that both sides share for a key agreement, which is not used here.
        info.optional(primitive(1), "sharedInfo1")?;
        info.optional(primitive(2), "sharedInfo2")?;
        info.finish("encryptedContentInfo")?;
        Ok(Self { mode, text })
    }

    /// Decrypts it.
    ///
    /// # Errors
    /// [`Refusal::NotOpened`], whatever the cause.
    pub(super) fn open(&self, key: &Key) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        self.mode.decrypt(key, self.text, &[]).map_err(|_| Refusal::NotOpened)
    }
}
