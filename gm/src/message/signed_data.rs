//! `SignedData`: a content, or only its absence (detached), with the signatures over it. What a signer signs is in `signer.rs`.

use crate::{
    Error,
    fields::{self, Fields, OCTETS, SEQUENCE, SET, constructed},
    judgement::{Fault, Judgement, Refusal, Trust},
    message::{
        ContentType, MESSAGE_BYTES_MAX, close, open_as,
        signer::{Along, Signer, Signing, digests, read_digests, read_signers, verify_all},
    },
};
use der::Encode;

/// A content whose signatures are all good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedContent {
    /// The octets that were signed.
    pub content: Vec<u8>,
    /// Everybody who signed them, at least one.
    pub signers: Vec<Signer>,
    /// Whether the content was outside of the message.
    pub is_detached: bool,
}

/// Signs `content`: `SignedData`, version 1, digest SM3, the signer's certificates in it. Detached, the content stays out.
///
/// # Errors
/// [`Error::NotAPair`] when the certificate is not the key's; [`Error::Chain`] when its keyUsage does not allow signatures;
/// [`Error::TooLarge`] for a content that no reader would take; those of [`crate::Sign::sign`].
pub fn sign(content: &[u8], signing: &Signing<'_>, detached: bool) -> Result<Vec<u8>, Error> {
    if content.len() > MESSAGE_BYTES_MAX / 2 {
        return Err(Error::TooLarge { limit: MESSAGE_BYTES_MAX / 2 });
    }
    let signer = signing.signer_info(content)?;
    let data = ContentType::Data.oid().to_der()?;
    let inner = if detached {
        fields::sequence(&[&data])
    } else {
        fields::sequence(&[&data, &fields::value(constructed(0), &[&fields::octets(content)])])
    };
    let members: [&[u8]; 5] =
        [&fields::number(1)?, &digests()?, &inner, &signing.certificates(), &fields::set_of(SET, vec![signer])];
    close(ContentType::SignedData, &members)
}

/// Judges `message`. `content` is needed when the message is detached; given with one that is not, both must be the same.
/// Every signer must be trusted and have signed the content, certificates must hold at `trust.at_ns`.
pub fn verify(message: &[u8], content: Option<&[u8]>, trust: &Trust<'_>) -> Judgement<SignedContent> {
    judge(message, content, trust).into()
}

fn judge(message: &[u8], given: Option<&[u8]>, trust: &Trust<'_>) -> Result<SignedContent, Fault> {
    let mut fields = open_as(message, ContentType::SignedData)?;
    fields.version(1, "SignedData.version")?;
    read_digests(&mut fields)?;
    let inside = read_data(&mut fields)?;
    let along = Along::read(&mut fields)?;
    let signers = read_signers(&mut fields)?;
    fields.finish("SignedData")?;
    let content = match (inside, given) {
        (Some(inside), Some(given)) if inside != given => return Err(Refusal::ContentOther.into()),
        (Some(content), _) | (None, Some(content)) => content,
        (None, None) => return Err(Refusal::ContentMissing.into()),
    };
    let signers = verify_all(&signers, content, &along, trust)?;
    Ok(SignedContent { content: content.to_vec(), signers, is_detached: inside.is_none() })
}

/// The inner `ContentInfo`, which must be of type data; its octets unless it is detached.
fn read_data<'a>(fields: &mut Fields<'a>) -> Result<Option<&'a [u8]>, Fault> {
    const PART: &str = "contentInfo";
    let mut info = Fields::of(fields.take(SEQUENCE, PART)?.content);
    let kind = ContentType::from_oid(info.oid(PART)?, PART)?;
    if kind != ContentType::Data {
        return Err(fields::Malformed::new(PART, format!("data expected, {} found", kind.name())).into());
    }
    let Some(explicit) = info.optional(constructed(0), PART)? else {
        info.finish(PART)?;
        return Ok(None);
    };
    info.finish(PART)?;
    let mut inside = Fields::of(explicit.content);
    let content = inside.take(OCTETS, PART)?.content;
    inside.finish(PART)?;
    Ok(Some(content))
}
