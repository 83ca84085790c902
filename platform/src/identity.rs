//! Who the platform is and whom it trusts: its key, its certificates, the trust anchors. Read once at start.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use hufu_audit::{Exit, Failure};
use hufu_gm::{Certificate, Hash, Usage, keyfile, known::KnownKeys, sm2::SecretKey, verify_chain};
use hufu_trade::{
    if2::{PLATFORM, segment_ok},
    octets::{Digest, Octets},
    party::is_named,
};

use crate::text::Text;

/// The platform's own identity.
#[derive(Debug)]
pub(crate) struct Identity {
    /// `{site}/platform`.
    pub(crate) name: String,
    /// Signs receipts and answers.
    pub(crate) key: SecretKey,
    /// The platform's certificates, leaf first.
    pub(crate) chain: Vec<Certificate>,
    /// SM3 of the leaf.
    pub(crate) cert_id: Hash,
    /// Who may issue certificates of nodes and buyers.
    pub(crate) anchors: Vec<Certificate>,
    /// Whether messages of nodes must show a token.
    pub(crate) needs_tokens: bool,
    /// Tables of the nodes' keys, under which every block and message is checked.
    pub(crate) known: KnownKeys,
}

/// Nodes whose keys have tables at a time: at most 21 MiB.
pub(crate) const KNOWN_KEY_COUNT_MAX: usize = 256;

impl Identity {
    /// Reads key, certificates and anchors, and checks that they belong together, are valid at `now_ns` and name the platform
    /// of `site`: nodes would refuse every receipt otherwise.
    ///
    /// # Errors
    /// 74 for a file that cannot be read, 78 for one that does not fit.
    pub(crate) fn load(
        site: &str,
        (key, password, cert): (&Path, Option<&Path>, &Path),
        trust: &[PathBuf],
        now_ns: i64,
    ) -> Result<Self, Failure<Text>> {
        if !segment_ok(site) {
            return Err(wrong("--site", "1 to 64 of a-z, 0-9, _ and - expected"));
        }
        let secret = read_key(&handed(key)?, password.map(handed).transpose()?.as_deref())?;
        let chain = certificates(cert)?;
        let mut anchors = Vec::new();
        for path in trust {
            anchors.extend(certificates(path)?);
        }
        let shown = cert.display().to_string();
        let (leaf, rest) = chain.split_first().ok_or_else(|| wrong(&shown, "no certificate"))?;
        if *leaf.public_key() != secret.public_key() {
            return Err(wrong(&shown, "the first certificate is not that of the key"));
        }
        verify_chain(leaf, rest, &anchors, &[], now_ns, Usage::Signing)
            .map_err(|error| wrong(&shown, &error.to_string()))?;
        let party = format!("{site}/{PLATFORM}");
        if !is_named(leaf, &party) {
            let (subject, dns) = (leaf.subject(), format!("{PLATFORM}.{site}"));
            return Err(Failure::new(Exit::Config, Text::NotNamed { path: shown, subject, party, dns }));
        }
        let known = KnownKeys::new(KNOWN_KEY_COUNT_MAX);
        Ok(Self { name: party, key: secret, cert_id: leaf.id(), chain, anchors, needs_tokens: false, known })
    }

    /// The certificate id as evidence writes it.
    pub(crate) fn digest(&self) -> Digest {
        Octets(self.cert_id)
    }
}

fn wrong(path: &str, why: &str) -> Failure<Text> {
    Failure::new(Exit::Config, Text::ConfigWrong { path: path.to_owned(), why: why.to_owned() })
}

fn key_failure(path: &Path, error: hufu_gm::Error) -> Failure<Text> {
    let shown = path.display().to_string();
    match error {
        hufu_gm::Error::Io { source, .. } => {
            Failure::new(Exit::Io, Text::FileUnreadable { path: shown, why: source.to_string() })
        }
        hufu_gm::Error::KeyFileMode { mode, .. } => {
            Failure::new(Exit::Config, Text::KeyFileMode { path: shown, mode: format!("{mode:04o}") })
        }
        hufu_gm::Error::KeyFileOwner { uid, .. } => {
            Failure::new(Exit::Config, Text::KeyFileOwner { path: shown, uid: uid.to_string() })
        }
        hufu_gm::Error::KeyFileEncrypted { .. } => Failure::new(Exit::Config, Text::KeyFileEncrypted { path: shown }),
        hufu_gm::Error::KeyFileClear { .. } => Failure::new(Exit::Config, Text::KeyFileClear { path: shown }),
        hufu_gm::Error::KeyFilePassword { .. } => Failure::new(Exit::Config, Text::KeyFilePassword { path: shown }),
        hufu_gm::Error::KeyFileMalformed { .. } => wrong(&shown, "not an SM2 secret key file"),
        other => wrong(&shown, &other.to_string()),
    }
}

/// The secret key, under its password if it has one.
fn read_key(path: &Path, password: Option<&Path>) -> Result<SecretKey, Failure<Text>> {
    let Some(place) = password else { return keyfile::read(path).map_err(|error| key_failure(path, error)) };
    let password = keyfile::read_password(place).map_err(|error| key_failure(place, error))?;
    keyfile::read_encrypted(path, &password).map_err(|error| key_failure(path, error))
}

/// Before the name of a secret that systemd hands over (`LoadCredential=`).
const CREDENTIAL: &str = "credential:";

/// The file of a secret, which may be one that systemd hands over.
fn handed(named: &Path) -> Result<PathBuf, Failure<Text>> {
    let Some(name) = named.to_str().and_then(|named| named.strip_prefix(CREDENTIAL)) else {
        return Ok(named.to_owned());
    };
    let is_name = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    if !is_name {
        return Err(wrong(&named.display().to_string(), "the name of a credential expected, not a path"));
    }
    let dir = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let without = "systemd hands over no credentials here; the unit's LoadCredential= names them";
    dir.map(|dir| dir.join(name)).ok_or_else(|| wrong(&named.display().to_string(), without))
}

/// No file of certificates is larger; what is behind that is not read.
pub(crate) const PEM_BYTES_MAX: u64 = 4 << 20;

/// The certificates of a PEM file.
///
/// # Errors
/// 74 for a file that cannot be read, 78 for one that holds none.
pub(crate) fn certificates(path: &Path) -> Result<Vec<Certificate>, Failure<Text>> {
    let shown = path.display().to_string();
    let mut text = String::new();
    let file = std::fs::File::open(path).map(|file| file.take(PEM_BYTES_MAX));
    file.and_then(|mut file| file.read_to_string(&mut text)).map_err(|error| {
        Failure::new(Exit::Io, Text::FileUnreadable { path: shown.clone(), why: error.to_string() })
    })?;
    Certificate::from_pem_many(&text).map_err(|error| wrong(&shown, &error.to_string()))
}
