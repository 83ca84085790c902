//! What judging a message or a seal can find: three outcomes that no caller can take for one another, and the reasons. Errors
//! about secrets are one, without a cause.

use crate::{Certificate, ChainError, Crl, Usage, chain, fields::Malformed};

/// What was found of bytes that somebody signed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Judgement<T> {
    /// Of the standard's form, and everything that it claims holds.
    Valid(T),
    /// Of the standard's form, but what it claims does not hold, or is not trusted.
    Invalid(Refusal),
    /// Not of the standard's form; nothing about its claims is known.
    Malformed(Malformed),
}

impl<T> Judgement<T> {
    /// What is in it, only if it is valid.
    ///
    /// # Errors
    /// Why it is not.
    pub fn valid(self) -> Result<T, Fault> {
        match self {
            Self::Valid(found) => Ok(found),
            Self::Invalid(refusal) => Err(refusal.into()),
            Self::Malformed(malformed) => Err(malformed.into()),
        }
    }
}

impl<T> From<Result<T, Fault>> for Judgement<T> {
    fn from(result: Result<T, Fault>) -> Self {
        match result {
            Ok(found) => Self::Valid(found),
            Err(Fault::Refused(refusal)) => Self::Invalid(refusal),
            Err(Fault::Malformed(malformed)) => Self::Malformed(malformed),
        }
    }
}

/// The two ways in which something is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not of the standard's form.
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
    /// Of the form, and not right.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Why a well-formed message or seal is not valid. Subjects are distinguished names as RFC 4514 writes them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The message carries no content, and none was given.
    #[error("the content is not in the message (detached), and none was given")]
    ContentMissing,
    /// The message carries a content that is not the one given.
    #[error("the content in the message is not the one given")]
    ContentOther,
    /// Nobody signed it.
    #[error("nobody signed it")]
    NoSigner,
    /// No certificate at hand is the signer's.
    #[error("the certificate of signer {0} is not at hand")]
    SignerUnknown(String),
    /// A certificate that may not be trusted for this, at this time.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// An attribute that must be there is not, or is there twice, or says something else.
    #[error("signed attribute {attribute}: {why}")]
    Attribute {
        /// Its name.
        attribute: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The digest that was signed is not that of the content.
    #[error("the content is not what {0} signed: its digest is another")]
    Digest(String),
    /// A time-stamp over other data.
    #[error("the time-stamp is over other data")]
    Imprint,
    /// A signature that is not SM2's and that nobody here can check.
    #[error("signed with algorithm {0}, which is not SM2 with SM3: `openssl ts -verify` checks it")]
    ForeignAlgorithm(String),
    /// Not this signer's signature.
    #[error("not the signature of {0}")]
    Signature(String),
    /// The message cannot be opened with this key. There is one such error, whatever the cause.
    #[error("cannot be opened with this key")]
    NotOpened,
    /// The message is for others.
    #[error("not for this certificate")]
    NotRecipient,
    /// The seal does not list the certificate that was used with it.
    #[error("the seal does not list the certificate of {0}")]
    NotListed(String),
    /// Something says that it was made at a time that has not come yet.
    #[error("made at {at_s} (Unix seconds), which lies in the future")]
    Future {
        /// The time named.
        at_s: i64,
    },
    /// The seal was used outside of its own validity.
    #[error("used at {at_s} (Unix seconds), the seal is valid from {start_s} to {end_s}")]
    SealTime {
        /// When it was used.
        at_s: i64,
        /// From when it is valid.
        start_s: i64,
        /// Until when.
        end_s: i64,
    },
}

/// Whom a reader trusts, and as of when.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// Trust anchors.
    pub anchors: &'a [Certificate],
    /// Certificates that a message may leave out: signers' and intermediate ones.
    pub known: &'a [Certificate],
    /// Revocation lists.
    pub crls: &'a [Crl],
    /// The instant at which certificates must hold, ns since 1970.
    pub at_ns: i64,
}

impl Trust<'_> {
    /// Checks that `certificate` may be used so, with the help of certificates and lists that came along.
    pub(crate) fn check(
        &self,
        certificate: &Certificate,
        along: &[Certificate],
        along_crls: &[Crl],
        usage: Usage,
    ) -> Result<(), Refusal> {
        self.check_at(certificate, along, along_crls, usage, self.at_ns)
    }

    /// As [`Self::check`], as of another instant.
    pub(crate) fn check_at(
        &self,
        certificate: &Certificate,
        along: &[Certificate],
        along_crls: &[Crl],
        usage: Usage,
        at_ns: i64,
    ) -> Result<(), Refusal> {
        let others: Vec<Certificate> = along.iter().chain(self.known).cloned().collect();
        // A list that came with the message and is not its issuer's would be the sender's way to have good certificates
        // refused; it would refuse only his own message. One that is counts against him, as it should.
        let crls: Vec<Crl> = self.crls.iter().chain(along_crls).cloned().collect();
        chain::verify_chain(certificate, &others, self.anchors, &crls, at_ns, usage)?;
        Ok(())
    }
}

/// Reads one certificate inside a message or seal.
pub(crate) fn certificate(der: &[u8], part: &'static str) -> Result<Certificate, Malformed> {
    Certificate::from_der(der).map_err(|error| Malformed::new(part, error.to_string()))
}
