//! The parties of the tests: a small CA, keys from fixed seeds, and a folder that is gone after the test.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use hufu_gm::{
    Certificate, Hash, SecretKey,
    ca::{self, Role, Terms},
};

/// First second of every story.
pub(crate) const START_S: i64 = 1_790_000_000;

/// A key with its certificate.
pub(crate) struct Party {
    pub(crate) key: SecretKey,
    pub(crate) certificate: Certificate,
}

impl Party {
    /// The certificate's id.
    pub(crate) fn id(&self) -> Hash {
        self.certificate.id()
    }
}

/// A party certified by `issuer`; a root without one.
pub(crate) fn party(issuer: Option<&Party>, name: &str, seed: u8) -> Party {
    let key = SecretKey::from_scalar(&[seed; 32]).expect("a key");
    let terms = Terms {
        serial: &[seed; 16],
        not_before_s: START_S - 86_400,
        not_after_s: START_S + 400 * 86_400,
        dns_names: &[],
    };
    let subject = format!("CN={name},C=CN");
    let certificate = match issuer {
        None => ca::root(&key, &subject, None, &terms),
        Some(ca) => ca::issue(&ca.certificate, &ca.key, Role::Signer, &subject, &key.public_key(), &terms),
    };
    Party { key, certificate: certificate.expect("a certificate") }
}

/// A folder of this test's own.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("hufu-platform-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::remove_dir_all(&path).ok();
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
