//! For whom a message is: `RecipientInfo`, the content key encrypted to each recipient's encryption certificate. The content
//! is in `enveloped.rs`.

use der::{Encode, asn1::ObjectIdentifier};

use crate::{
    Certificate, Error, SecretKey, Usage,
    fields::{self, Fields, Malformed, OCTETS, SEQUENCE, SET, primitive},
    judgement::{Fault, Refusal},
    message::{RECIPIENTS_MAX, algorithm, oid, plain_algorithm, signer},
    sm4::{KEY_BYTES, Key},
};

const SM2_ENCRYPTION: ObjectIdentifier = oid("1.2.156.10197.1.301.3");
/// What others call the same: GmSSL by the name of the key exchange, BouncyCastle by one of its own.
const ALSO_READ: [ObjectIdentifier; 2] = [oid("1.2.156.10197.1.301.2"), oid("1.2.156.10197.1.301.3.2.1")];

/// The set of recipients with `key` for each.
///
/// # Errors
/// [`Error::NoRecipient`] for none or too many; [`Error::Chain`] for a certificate that does not take keys.
pub(super) fn write(
    recipients: &[Certificate],
    key: &Key,
    fill: &mut dyn FnMut(&mut [u8]) -> Result<(), Error>,
) -> Result<Vec<u8>, Error> {
    if recipients.is_empty() || recipients.len() > RECIPIENTS_MAX {
        return Err(Error::NoRecipient { limit: RECIPIENTS_MAX });
    }
    let mut all = Vec::with_capacity(recipients.len());
    for certificate in recipients {
        crate::chain::check_usage(certificate, Usage::Encryption)?;
        let issuer = certificate.issuer_name().to_der()?;
        let serial = certificate.serial_der()?;
        all.push(fields::sequence(&[
            &fields::number(1)?,
            &fields::sequence(&[&issuer, &serial]),
            &algorithm(SM2_ENCRYPTION)?,
            &fields::octets(&certificate.public_key().encrypt(key.as_bytes(), &mut *fill)?),
        ]));
    }
    Ok(fields::set_of(SET, all))
}

/// A `RecipientInfo` as received.
#[derive(Debug)]
pub(super) struct RecipientInfo<'a> {
    who: Who<'a>,
    encrypted_key: &'a [u8],
}

#[derive(Debug)]
enum Who<'a> {
    Issued {
        issuer: &'a [u8],
        serial: &'a [u8],
    },
    /// `[0]` subjectKeyIdentifier, as CFCA writes; version 2 then.
    Key(&'a [u8]),
}

/// Reads `recipientInfos`.
pub(super) fn read<'a>(fields: &mut Fields<'a>) -> Result<Vec<RecipientInfo<'a>>, Malformed> {
    const PART: &str = "recipientInfos";
    let set = fields.take(SET, PART)?;
    let all = Fields::of(set.content).all(SEQUENCE, RECIPIENTS_MAX, PART)?;
    if all.is_empty() {
        return Err(Malformed::new(PART, "nobody"));
    }
    all.into_iter().map(|one| read_one(one.content)).collect()
}

fn read_one(content: &[u8]) -> Result<RecipientInfo<'_>, Malformed> {
    const VERSION: &str = "RecipientInfo.version";
    let mut fields = Fields::of(content);
    let version = fields.number(VERSION)?;
    let who = match fields.optional(primitive(0), "subjectKeyIdentifier")? {
        Some(id) => Who::Key(id.content),
        None => {
            let (issuer, serial) = signer::read_issuer_and_serial(&mut fields)?;
            Who::Issued { issuer, serial }
        }
    };
    let wanted = if matches!(who, Who::Key(_)) { 2 } else { 1 };
    if version != wanted {
        return Err(Malformed::new(VERSION, format!("{wanted} expected, {version} found")));
    }
    let named = plain_algorithm(&mut fields, "keyEncryptionAlgorithm")?;
    if named != SM2_ENCRYPTION && !ALSO_READ.contains(&named) {
        return Err(Malformed::new("keyEncryptionAlgorithm", format!("{named} is not SM2 encryption")));
    }
    let encrypted_key = fields.take(OCTETS, "encryptedKey")?.content;
    fields.finish("RecipientInfo")?;
    Ok(RecipientInfo { who, encrypted_key })
}

/// The content key, for the holder of `certificate` and its key.
///
/// # Errors
/// [`Refusal::NotRecipient`] when nothing is for that certificate; [`Refusal::NotOpened`] for everything that the key decides.
pub(super) fn unwrap(
    recipients: &[RecipientInfo<'_>],
    certificate: &Certificate,
    key: &SecretKey,
) -> Result<Key, Fault> {
    let ours = recipients.iter().find(|recipient| match recipient.who {
        Who::Issued { issuer, serial } => signer::is_named(certificate, issuer, serial),
        Who::Key(id) => certificate.subject_key_id() == Some(id),
    });
    let ours = ours.ok_or(Refusal::NotRecipient)?;
    let bytes = key.decrypt(ours.encrypted_key).map_err(|_| Refusal::NotOpened)?;
    let mut exact = zeroize::Zeroizing::new([0; KEY_BYTES]);
    if bytes.len() != exact.len() {
        return Err(Refusal::NotOpened.into());
    }
    exact.copy_from_slice(&bytes);
    Ok(Key::from_bytes(*exact))
}
