//! What can go wrong in `gm`; each variant says whose fault it is. Errors about secrets carry no detail on purpose.

use std::path::PathBuf;

use crate::{chain::Usage, judgement::Fault};

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system gave no randomness; the caller should stop.
    #[error("no randomness from the operating system")]
    Randomness,
    /// A secret key outside 1..=n-2.
    #[error("secret key out of range")]
    SecretKeyRange,
    /// Not an uncompressed point on the SM2 curve.
    #[error("not an SM2 public key (uncompressed point on the curve expected)")]
    PublicKey,
    /// The signing arithmetic hit one of the standard's forbidden values.
    #[error("signing failed")]
    Sign,
    /// Whoever holds the key and was asked for a signature gave none that verifies; why, for a person.
    #[error("no signature: {0}")]
    NoSignature(String),
    /// A text that cannot be decrypted: another key, a wrong password, or changed bytes. Deliberately not said which.
    #[error("cannot be decrypted")]
    Decrypt,
    /// Nothing, or too much, to encrypt to a public key.
    #[error("a text to encrypt to a public key must be 1 byte to 1 MiB")]
    PlainLength,
    /// Not a mode of SM4 that is known here, parameters it cannot have, or a text too long for it.
    #[error("not an SM4 mode with parameters that are known here")]
    Mode,
    /// Bytes that are not the DER expected here; the sender's fault.
    #[error("not the DER expected here: {0}")]
    Der(#[from] der::Error),
    /// DER that has a second, shorter or ordered form; the sender's fault.
    #[error("not canonical DER")]
    NotCanonical,
    /// A certificate id that is not 32 bytes.
    #[error("certificate id is not 32 bytes")]
    CertIdLength,
    /// A file could not be opened, read, created or synced; the person who named it, or the disk.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Group or others may touch a key file; its owner must run `chmod 600`.
    #[error("{}: mode {mode:04o} gives group or others access to a secret; 0600 or less is needed", path.display())]
    KeyFileMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key file without exactly one usable secret in it.
    #[error("{}: not the secret key file expected here", path.display())]
    KeyFileMalformed {
        /// The file.
        path: PathBuf,
    },
    /// A key file of somebody else, who could put another key in its place; `chown` it to root or to whoever reads it.
    #[error("{}: belongs to user {uid}; root or the reader itself must own a secret", path.display())]
    KeyFileOwner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// A key file under a password, and none was given.
    #[error("{}: the key is encrypted and no password was given", path.display())]
    KeyFileEncrypted {
        /// The file.
        path: PathBuf,
    },
    /// A password was given, and the key in the file is not encrypted: somebody believes what is not so.
    #[error("{}: a password was given, but the key in it is not encrypted", path.display())]
    KeyFileClear {
        /// The file.
        path: PathBuf,
    },
    /// The password does not open the key file, or its bytes are damaged; nothing tells which.
    #[error("{}: wrong password, or a damaged file", path.display())]
    KeyFilePassword {
        /// The file.
        path: PathBuf,
    },
    /// A password that is none: empty, too long, of several lines, or with a zero byte.
    #[error("not a password: one line of 1 to 1024 bytes without a zero byte expected")]
    Password,
    /// Fewer or more rounds of PBKDF2 than are read or written.
    #[error("rounds of PBKDF2 out of range: 1000 to 10000000 are read, from 65536 on are written")]
    Iterations,
    /// An encrypted key by another scheme than the national one.
    #[error("the key is not encrypted by PBES2 with PBKDF2-HMAC-SM3 and SM4-CBC")]
    KeyEncryption,
    /// A certificate, request or revocation list signed with, or naming, anything but SM2-with-SM3; or naming two.
    #[error("signature algorithm is not SM2-with-SM3")]
    SignatureAlgorithm,
    /// A certificate or revocation list of an unsupported version (certificates: v3, or v1; lists: v2; requests: v1).
    #[error("unsupported version")]
    Version,
    /// A revocation list with a critical extension this crate does not know (partitioned, indirect and delta lists).
    #[error("unknown critical extension {0}")]
    CriticalExtension(der::asn1::ObjectIdentifier),
    /// An extension stands twice in one certificate, request or list.
    #[error("extension {0} stands twice")]
    DoubleExtension(der::asn1::ObjectIdentifier),
    /// The signature of a request or list is not its maker's.
    #[error("signature does not verify")]
    BadSignature,
    /// A subject name that is empty or cannot be read as `CN=..,O=..,C=..`.
    #[error("not a distinguished name such as CN=node-1,O=site,C=CN")]
    Name,
    /// A challenge password that cannot be written or read: one PrintableString of 1 to 64 characters.
    #[error("the challenge password must be one PrintableString of 1 to 64 characters")]
    Challenge,
    /// A DNS name that is empty, longer than 253 characters, or not ASCII.
    #[error("not a DNS name")]
    DnsName,
    /// A serial number that is not 8 to 20 bytes.
    #[error("serial number must be 8 to 20 random bytes")]
    Serial,
    /// A certificate whose serial number is negative, zero, or longer than 20 bytes (RFC 5280 4.1.2.2).
    #[error("the serial number must be positive and at most 20 bytes long")]
    SerialForm,
    /// A certificate or list without the name of its issuer.
    #[error("the issuer has no name")]
    NamelessIssuer,
    /// A validity that ends before it begins, in a certificate or list that somebody else made.
    #[error("it ends before it begins")]
    Backwards,
    /// A validity that ends before it begins, is longer than 3653 days, or lies outside the years 1970 to 9999.
    #[error("validity must be 1 second to 3653 days, within the years 1970 to 9999")]
    Validity,
    /// The issuer's key and certificate are not a pair, or the certificate may not sign what is asked.
    #[error("the issuer's key and certificate may not sign this")]
    Issuer,
    /// No, or an unfinished, PEM block where one is needed.
    #[error("no complete PEM block with the expected label")]
    Pem,
    /// A certificate that is not the key's.
    #[error("key and certificate are not a pair")]
    NotAPair,
    /// More than any reader of the message would take.
    #[error("longer than {limit} bytes, the most that a message carries")]
    TooLarge {
        /// The limit, bytes.
        limit: usize,
    },
    /// A message for nobody, or for more than any reader would take.
    #[error("a message needs 1 to {limit} recipients")]
    NoRecipient {
        /// The limit.
        limit: usize,
    },
    /// Signed attributes in a form that has none.
    #[error("signedAndEnvelopedData has no signed attributes")]
    Attributes,
    /// A seal that cannot be made or used so.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A certificate that may not be trusted.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// Why a certificate may not be trusted: which certificate of the path, and what is wrong with it. Subjects are
/// distinguished names as RFC 4514 writes them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// Nobody trusted stands above `subject`: its issuer is neither an anchor nor a known intermediate.
    #[error("{subject}: no path to a trust anchor; its issuer {issuer} is unknown")]
    NoAnchor {
        /// The last certificate that could be reached.
        subject: String,
        /// Who would have to be known.
        issuer: String,
    },
    /// The bytes of `subject` are not what its issuer signed.
    #[error("{subject}: not what {issuer} signed")]
    BadSignature {
        /// The certificate.
        subject: String,
        /// The issuer whose key was used.
        issuer: String,
    },
    /// The signature of `subject` is not a strict DER SM2 signature.
    #[error("{subject}: the signature is not DER of an SM2 signature")]
    MalformedSignature {
        /// The certificate.
        subject: String,
    },
    /// A revocation list that carries the issuer's name is not signed by it.
    #[error("the revocation list of {issuer} does not verify")]
    BadCrl {
        /// Whose list it claims to be.
        issuer: String,
    },
    /// Used before its time.
    #[error("{subject}: not yet valid")]
    NotYetValid {
        /// The certificate.
        subject: String,
        /// When it becomes valid, ns since 1970.
        not_before_ns: i64,
    },
    /// Used after its time.
    #[error("{subject}: expired")]
    Expired {
        /// The certificate.
        subject: String,
        /// Its last second, ns since 1970.
        not_after_ns: i64,
    },
    /// An issuer that is not a CA.
    #[error("{subject}: not a CA, but used as an issuer")]
    NotAnAuthority {
        /// The issuer.
        subject: String,
    },
    /// keyUsage does not allow what the certificate is used for.
    #[error("{subject}: keyUsage does not allow {usage:?}")]
    KeyUsage {
        /// The certificate.
        subject: String,
        /// What it is used for.
        usage: Usage,
    },
    /// More CAs below an issuer than it allows.
    #[error("{subject}: more than {limit} CAs stand below it")]
    PathLength {
        /// The issuer.
        subject: String,
        /// Its pathLenConstraint.
        limit: u8,
    },
    /// A critical extension this crate cannot honour.
    #[error("{subject}: unknown critical extension {oid}")]
    CriticalExtension {
        /// The certificate.
        subject: String,
        /// The extension.
        oid: der::asn1::ObjectIdentifier,
    },
    /// Nobody said whether it was taken back: no list of its issuer is at hand.
    #[error("{subject}: no revocation list of its issuer")]
    NoCrl {
        /// The certificate.
        subject: String,
    },
    /// The newest list of the issuer is over its time, or not made yet at the instant in question.
    #[error("the revocation list of {issuer} does not cover that time")]
    StaleCrl {
        /// Whose list it is.
        issuer: String,
        /// When it was made, ns since 1970.
        this_update_ns: i64,
        /// When the next one was due, ns since 1970.
        next_update_ns: Option<i64>,
    },
    /// Its issuer took it back.
    #[error("{subject}: revoked")]
    Revoked {
        /// The certificate.
        subject: String,
        /// From when on, ns since 1970.
        revoked_at_ns: i64,
    },
    /// The path is longer than [`crate::chain::PATH_COUNT_MAX`].
    #[error("{subject}: the path is too long")]
    PathTooLong {
        /// Where it was cut off.
        subject: String,
    },
    /// Too many intermediates could stand above a certificate; the search was given up.
    #[error("{subject}: too many possible paths")]
    TooManyPaths {
        /// Where the search was given up.
        subject: String,
    },
}

/// The kinds of [`ChainError`], for whoever must tell an unknown CA from a forged certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainFault {
    /// Nothing is wrong but the missing anchor.
    Untrusted,
    /// Bytes are not what was signed.
    Damaged,
    /// Whole and signed, but not for this use or this time.
    Refused,
}

impl ChainError {
    /// Which kind this is.
    pub fn fault(&self) -> ChainFault {
        match self {
            Self::NoAnchor { .. } => ChainFault::Untrusted,
            Self::BadSignature { .. } | Self::MalformedSignature { .. } | Self::BadCrl { .. } => ChainFault::Damaged,
            _ => ChainFault::Refused,
        }
    }
}
