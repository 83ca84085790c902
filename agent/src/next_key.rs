//! The node's next key where it waits for its turn: files beside those of the present key, `node.key.next` and `node.pem.next`.
//! Here they are named, read and matched; what both keys sign is `rotation.rs`, who makes and clears the files
//! `cmd/rotate.rs`.
//!
//! A rotation is asked for by the certificate file alone, which is written last. From then on the files may be in any state that a
//! power cut leaves between two renames: which certificate is in force the ledger says, and each certificate finds its key by
//! itself.

use std::path::{Path, PathBuf};

use hufu_audit::{Exit, Failure};
use hufu_gm::{Usage, cert::Certificate, sm2::SecretKey, verify_chain};

use crate::{bounded, config::Config, key_place::KeyPlace, setup, signer::Address, text::Text};

/// What a file's name ends in while it waits.
const NEXT: &str = ".next";
/// Why the key is changed, when nobody says.
const WHY: &str = "planned by the site";

/// Where the files of both keys are, of a node whose key is in a file.
#[derive(Clone, Debug)]
pub(crate) struct KeyFiles {
    /// The present key.
    pub(crate) key: PathBuf,
    /// The file of the password of both, where they are encrypted.
    pub(crate) password: Option<PathBuf>,
    /// The present chain.
    pub(crate) certificates: PathBuf,
}

/// A key and the chain that names it, leaf first.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) key: SecretKey,
    pub(crate) chain: Vec<Certificate>,
}

/// The pair that is to come, and why.
#[derive(Clone, Debug)]
pub(crate) struct Next {
    pub(crate) pair: Pair,
    /// For a person.
    pub(crate) why: String,
}

/// Whom a chain must lead to, whom it must name, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) anchors: &'a [Certificate],
    /// `{site}/{node}`.
    pub(crate) pool: &'a str,
    /// ns since 1970-01-01Z.
    pub(crate) now_ns: i64,
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

impl KeyFiles {
    /// Those of a configuration.
    ///
    /// # Errors
    /// The signer that holds the key instead.
    pub(crate) fn of(config: &Config) -> Result<Self, &Address> {
        match &config.key {
            KeyPlace::Signer(address) => Err(address),
            KeyPlace::File { key, password } => {
                let (key, password) = (key.clone(), password.clone());
                Ok(Self { key, password, certificates: config.certificates.clone() })
            }
        }
    }

    /// The next key.
    pub(crate) fn next_key(&self) -> PathBuf {
        with(&self.key, NEXT)
    }

    /// The next chain: while it is there the key is to be changed, or was.
    pub(crate) fn next_certificates(&self) -> PathBuf {
        with(&self.certificates, NEXT)
    }

    /// The request for the next certificate.
    pub(crate) fn request(&self) -> PathBuf {
        with(&self.certificates, ".next.csr")
    }

    /// Why the key is changed.
    pub(crate) fn why(&self) -> PathBuf {
        with(&self.certificates, ".next.why")
    }

    /// The key of a file.
    ///
    /// # Errors
    /// 74, 78 or 65 as for every key file.
    pub(crate) fn read_key(&self, path: &Path) -> Result<SecretKey, Failure<Text>> {
        setup::read_key(path, self.password.as_deref())
    }

    /// The present pair. A key that has already got the name of the present one is found, too.
    ///
    /// # Errors
    /// 74, 65 or 78: why there is none.
    pub(crate) fn present(&self, asked: &Asked<'_>) -> Result<Pair, Failure<Text>> {
        self.pair(&self.certificates, [&self.key, &self.next_key()], asked)
    }

    /// The next pair, where one is to come.
    ///
    /// # Errors
    /// 74, 65 or 78: a file is there, and it cannot be used.
    pub(crate) fn next(&self, asked: &Asked<'_>) -> Result<Option<Next>, Failure<Text>> {
        let path = self.next_certificates();
        if !path.try_exists().map_err(|error| setup::unreadable(&path, &error))? {
            return Ok(None);
        }
        let pair = self.pair(&path, [&self.next_key(), &self.key], asked)?;
        let why = match std::fs::exists(self.why()) {
            Ok(true) => bounded::read_text(&self.why()).map_err(|error| setup::unreadable(&self.why(), &error))?,
            _ => WHY.to_owned(),
        };
        Ok(Some(Next { pair, why: why.trim().to_owned() }))
    }

    fn pair(&self, path: &Path, keys: [&Path; 2], asked: &Asked<'_>) -> Result<Pair, Failure<Text>> {
        let chain = checked_chain(path, asked)?;
        let mut failed = None;
        for place in keys {
            // Only the first is where it should be; the other may be anything or nothing.
            match self.read_key(place) {
                Ok(key) if chain.first().is_some_and(|leaf| *leaf.public_key() == key.public_key()) => {
                    return Ok(Pair { key, chain });
                }
                Ok(_) => {}
                Err(failure) => {
                    failed.get_or_insert(failure);
                }
            }
        }
        let other = || {
            let (path, why) = (path.display().to_string(), "the certificate does not belong to the node's key");
            Failure::new(Exit::Config, Text::ConfigWrong { path, why: why.to_owned() })
        };
        Err(failed.unwrap_or_else(other))
    }
}

/// The chain of a file, if it leads to an anchor now and names the node.
///
/// # Errors
/// 74 for a file that cannot be read, 78 for a chain that is none.
pub(crate) fn checked_chain(path: &Path, asked: &Asked<'_>) -> Result<Vec<Certificate>, Failure<Text>> {
    let chain = setup::certificates(path)?;
    let (leaf, rest) = chain.split_first().ok_or_else(|| setup::wrong(path, &"no certificate in it"))?;
    verify_chain(leaf, rest, asked.anchors, &[], asked.now_ns, Usage::Signing)
        .map_err(|error| setup::wrong(path, &error))?;
    setup::named(path, leaf, asked.pool)?;
    Ok(chain)
}
