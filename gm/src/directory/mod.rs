//! Certificates and revocation lists in an LDAP directory (RFC 4511, RFC 4523), by certificate id and by subject, with a cache
//! of what was found. What a directory says is never trusted: a certificate counts by its own bytes, a list by its issuer's
//! signature, so the connection needs no protection, and whoever sits on it can only withhold. The wire is `wire.rs`.
//!
//! How a CA lays its entries out: `cn` is the common name of the certificate's subject; a party's entry has the certificate id
//! (SM3 of the DER, lower-case hexadecimal) as `uid` and the certificate in `userCertificate;binary`; the CA's has its
//! certificate in `cACertificate;binary` and its list in `certificateRevocationList;binary`. In the schemas that every server
//! has these are `device` with `pkiUser` and `uidObject`, and `device` with `pkiCA`.

mod address;
mod cache;
mod wire;

use std::{path::PathBuf, time::Duration};

pub use address::Address;
use cache::Cache;

use crate::{Certificate, Crl, Hash, name};

/// Most entries that one question may be answered with.
pub const ENTRIES_MAX: usize = 64;
/// Longest answer, all entries together, bytes.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Why a directory gave nothing of use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Not an address of a directory.
    #[error("{0:?} is not of the form ldap://host[:port]/base, for example ldap://ldap.example.org/dc=ca,dc=example")]
    Address(String),
    /// Nobody is there, or the connection broke.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("gave no complete answer in {0} ms")]
    TimedOut(u128),
    /// More than anybody asked for.
    #[error("answered with more than {0}")]
    TooMuch(&'static str),
    /// What came is not LDAP.
    #[error("did not answer in LDAP: {0}")]
    NotLdap(&'static str),
    /// It will not answer, or failed.
    #[error("refused to answer: result {code}{text}")]
    Refused {
        /// The result code of RFC 4511.
        code: u8,
        /// What it says for a person, made printable.
        text: String,
    },
    /// It sends the reader on to others, who are not asked.
    #[error("refers to another directory; name that one")]
    Referral,
    /// There is none.
    #[error("does not have it")]
    NotFound,
    /// What it gave is not what was asked for; the first reason.
    #[error("gave something else: {0}")]
    Unfit(String),
    /// The cache cannot be read or written.
    #[error("cache {path}: {why}")]
    Cache {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        why: String,
    },
}

/// Something found, and how old the knowledge is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// What was asked for.
    pub value: T,
    /// When the directory gave it, Unix seconds.
    pub fetched_at_s: i64,
    /// Why it comes from the cache, if it does.
    pub cached_because: Option<DirectoryError>,
}

/// How long to wait, and by which clock.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For one whole answer.
    pub limit: Duration,
    /// A clock that never goes back, ns.
    pub mono_ns: fn() -> u64,
}

/// A directory, and what is remembered of it.
#[derive(Debug)]
pub struct Directory {
    address: Address,
    cache: Option<Cache>,
    patience: Patience,
}

impl Directory {
    /// The directory at `address`; what it gives is kept in `cache`, a directory on the disk that is made when missing.
    pub fn new(address: Address, cache: Option<PathBuf>, patience: Patience) -> Self {
        Self { address, cache: cache.map(Cache::new), patience }
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The certificate of this id. It is the same for ever, so the cache is asked first.
    ///
    /// # Errors
    /// Why there is none. [`DirectoryError::Unfit`] when the entry has another certificate.
    pub fn certificate(&self, id: &Hash, now_s: i64) -> Result<Found<Certificate>, DirectoryError> {
        let text = hex(id);
        let slot = format!("id-{text}");
        let kept = self.kept(&slot, |pem| Certificate::from_pem_many(pem).ok())?;
        if let Some((found, fetched_at_s)) = kept {
            let fitting = found.into_iter().find(|certificate| certificate.id() == *id);
            if let Some(value) = fitting {
                return Ok(Found { value, fetched_at_s, cached_because: None });
            }
        }
        let found = self.ask("uid", &text, &["userCertificate", "cACertificate"])?;
        let value = fitting(&found, Certificate::from_der, |certificate: &Certificate| {
            if certificate.id() == *id { Ok(()) } else { Err(format!("a certificate of {}", certificate.subject())) }
        })?;
        let value = value.into_iter().next().ok_or(DirectoryError::NotFound)?;
        self.keep(&slot, &value.to_pem(), now_s)?;
        Ok(Found { value, fetched_at_s: now_s, cached_because: None })
    }

    /// All certificates of this subject (`CN=node-1,O=site,C=CN`). The directory is asked; the cache answers when it does not.
    ///
    /// # Errors
    /// Why there is none. [`DirectoryError::Unfit`] when only others' certificates came.
    pub fn certificates_of(&self, subject: &str, now_s: i64) -> Result<Found<Vec<Certificate>>, DirectoryError> {
        let unfit = || DirectoryError::Unfit(format!("{subject:?} is not a name with one common name"));
        let name = name::parse(subject).map_err(|_| unfit())?;
        let wanted = name.to_string();
        let common = name::common_name(&name).ok_or_else(unfit)?;
        let slot = format!("subject-{}", hex(&crate::sm3::sm3(&[wanted.as_bytes()])));
        let asked = self.ask("cn", &common, &["userCertificate", "cACertificate"]).and_then(|found| {
            fitting(&found, Certificate::from_der, |certificate: &Certificate| {
                let subject = certificate.subject();
                if subject == wanted { Ok(()) } else { Err(format!("a certificate of {subject}")) }
            })
        });
        match asked {
            Ok(value) => {
                self.keep(&slot, &value.iter().map(Certificate::to_pem).collect::<String>(), now_s)?;
                Ok(Found { value, fetched_at_s: now_s, cached_because: None })
            }
            Err(error) => self.instead(&slot, error, |pem| Certificate::from_pem_many(pem).ok()),
        }
    }

    /// The newest revocation list that `issuer` signed. The cache answers when the directory does not, and when it has only an
    /// older list than one that was seen before.
    ///
    /// # Errors
    /// Why there is none. [`DirectoryError::Unfit`] when no list is `issuer`'s.
    pub fn crl(&self, issuer: &Certificate, now_s: i64) -> Result<Found<Crl>, DirectoryError> {
        let slot = format!("crl-{}", hex(&issuer.id()));
        let read = |pem: &str| {
            let all = Crl::from_pem_many(pem).ok()?;
            all.into_iter().find(|crl| crl.verify_signature(issuer).is_valid())
        };
        let asked = self.ask_crl(issuer);
        let kept = self.kept(&slot, read)?;
        match (asked, kept) {
            (Ok(new), Some((old, fetched_at_s))) if old.this_update_ns() > new.this_update_ns() => {
                let why = "a list that is older than one seen before".to_owned();
                Ok(Found { value: old, fetched_at_s, cached_because: Some(DirectoryError::Unfit(why)) })
            }
            (Ok(value), _) => {
                self.keep(&slot, &value.to_pem(), now_s)?;
                Ok(Found { value, fetched_at_s: now_s, cached_because: None })
            }
            (Err(error), Some((value, fetched_at_s))) => Ok(Found { value, fetched_at_s, cached_because: Some(error) }),
            (Err(error), None) => Err(error),
        }
    }

    fn ask_crl(&self, issuer: &Certificate) -> Result<Crl, DirectoryError> {
        let common =
            issuer.common_name().ok_or_else(|| DirectoryError::Unfit("an issuer without a common name".into()))?;
        let found = self.ask("cn", &common, &["certificateRevocationList"])?;
        let all = fitting(&found, Crl::from_der, |crl: &Crl| {
            if crl.names_issuer(issuer) && crl.verify_signature(issuer).is_valid() {
                return Ok(());
            }
            Err(format!("a revocation list of {} that this issuer did not sign", crl.issuer()))
        })?;
        all.into_iter().max_by_key(Crl::this_update_ns).ok_or(DirectoryError::NotFound)
    }

    fn ask(&self, attribute: &str, value: &str, wanted: &[&str]) -> Result<Vec<Vec<u8>>, DirectoryError> {
        wire::search(&self.address, &self.patience, attribute, value, wanted)
    }

    fn keep(&self, slot: &str, pem: &str, now_s: i64) -> Result<(), DirectoryError> {
        self.cache.as_ref().map_or(Ok(()), |cache| cache.put(slot, pem, now_s))
    }

    fn kept<T>(&self, slot: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<(T, i64)>, DirectoryError> {
        let Some(cache) = &self.cache else { return Ok(None) };
        // A slot that cannot be understood is as good as none: what is in it can be fetched again.
        Ok(cache.get(slot)?.and_then(|(pem, fetched_at_s)| Some((read(&pem)?, fetched_at_s))))
    }

    fn instead<T>(
        &self,
        slot: &str,
        error: DirectoryError,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Found<T>, DirectoryError> {
        match self.kept(slot, read)? {
            Some((value, fetched_at_s)) => Ok(Found { value, fetched_at_s, cached_because: Some(error) }),
            None => Err(error),
        }
    }
}

/// Reads a recorded answer to one search: the values of these attributes in all its entries.
///
/// # Errors
/// Why it is none; [`DirectoryError::Unreachable`] when it ends too early.
pub fn read_answer(answer: &[u8], attributes: &[&str]) -> Result<Vec<Vec<u8>>, DirectoryError> {
    let mut rest = answer;
    let mut fill = |bytes: &mut [u8]| {
        let ended = || DirectoryError::Unreachable("the answer ends too early".into());
        let (now, later) = rest.split_at_checked(bytes.len()).ok_or_else(ended)?;
        bytes.copy_from_slice(now);
        rest = later;
        Ok(())
    };
    wire::collect(&mut fill, attributes)
}

/// Those of the values that are what was asked for; when none is, the first reason why not.
fn fitting<T>(
    values: &[Vec<u8>],
    read: impl Fn(&[u8]) -> Result<T, crate::Error>,
    check: impl Fn(&T) -> Result<(), String>,
) -> Result<Vec<T>, DirectoryError> {
    let mut found = Vec::new();
    let mut reason = None;
    for value in values {
        let judged = read(value).map_err(|error| error.to_string()).and_then(|one| check(&one).map(|()| one));
        match judged {
            Ok(one) => found.push(one),
            Err(why) => {
                reason.get_or_insert(why);
            }
        }
    }
    match (found.is_empty(), reason) {
        (false, _) => Ok(found),
        (true, None) => Err(DirectoryError::NotFound),
        (true, Some(why)) => Err(DirectoryError::Unfit(why)),
    }
}

fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
