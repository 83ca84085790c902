//! What stands before the daemon: keys and certificates read and checked, and a new ledger made, only ever on request.

use std::path::Path;

use hufu_audit::{Exit, Failure};
use hufu_gm::{cert::Certificate, keyfile};
use hufu_ledger::{Ledger, Log, NewBlock, NewEntry, Options, Signer};
use hufu_trade::{
    encode,
    entry::{Certificates, EntryKind, Rules, key_of, octet_string},
    octets::Octets,
    party::{is_named, platform_of},
};

use crate::{
    bounded,
    clock::{self, Clock, ledger_quality},
    config::Config,
    key_place::KeyPlace,
    next_key::{Asked, KeyFiles, Next, checked_chain},
    node::Identity,
    signer::{Address, Far, Fault, NodeKey},
    text::Text,
    whole::epoch_of,
    writer::WriterError,
};

/// Everything of the node that is not its ledger.
pub(crate) struct Material {
    pub(crate) identity: Identity,
    /// The node's chain, DER, leaf first.
    pub(crate) certificates: Vec<Vec<u8>>,
    /// The platform's chain, DER, leaf first.
    pub(crate) platform: Vec<Vec<u8>>,
    /// The key that is to come, or why it cannot.
    pub(crate) next: Result<Option<Next>, Failure<Text>>,
}

/// A failure to read a file.
pub(crate) fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> Failure<Text> {
    Failure::new(Exit::Io, Text::FileUnreadable { path: path.display().to_string(), why: why.to_string() })
}

/// Status 78: a file that is there and does not fit.
pub(crate) fn wrong(path: &Path, why: &dyn std::fmt::Display) -> Failure<Text> {
    Failure::new(Exit::Config, Text::ConfigWrong { path: path.display().to_string(), why: why.to_string() })
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// Status 74 or 78.
pub(crate) fn certificates(path: &Path) -> Result<Vec<Certificate>, Failure<Text>> {
    let bytes = bounded::read(path, bounded::TEXT_BYTES_MAX).map_err(|e| unreadable(path, &e))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong(path, &"not UTF-8 text"))?;
    let found = Certificate::from_pem_many(&text).map_err(|e| wrong(path, &e))?;
    if found.is_empty() { Err(wrong(path, &"no certificate in it")) } else { Ok(found) }
}

/// A key-file error as the command contract wants it: unreadable 74, too open 78, malformed 65.
pub(crate) fn key_failure(path: &Path, error: &hufu_gm::Error) -> Failure<Text> {
    let shown = path.display().to_string();
    match error {
        hufu_gm::Error::KeyFileMode { mode, .. } => {
            Failure::new(Exit::Config, Text::KeyFileMode { path: shown, mode: format!("{mode:04o}") })
        }
        hufu_gm::Error::Io { source, .. } => unreadable(path, source),
        hufu_gm::Error::KeyFileOwner { .. }
        | hufu_gm::Error::KeyFileEncrypted { .. }
        | hufu_gm::Error::KeyFileClear { .. }
        | hufu_gm::Error::KeyFilePassword { .. } => crate::cmd::key_file_failure(path, error),
        other => Failure::new(Exit::Malformed, Text::Malformed { path: shown, why: other.to_string() }),
    }
}

/// The key of a file, under its password if it has one.
pub(crate) fn read_key(path: &Path, password: Option<&Path>) -> Result<hufu_gm::SecretKey, Failure<Text>> {
    let Some(place) = password else { return keyfile::read(path).map_err(|error| key_failure(path, &error)) };
    let password = keyfile::read_password(place).map_err(|error| key_failure(place, &error))?;
    keyfile::read_encrypted(path, &password).map_err(|error| key_failure(path, &error))
}

/// A signer that does not sign, as a command says it.
pub(crate) fn signer_failure(address: &Address, fault: &Fault) -> Failure<Text> {
    let (socket, why) = (address.socket.display().to_string(), fault.to_string());
    let exit = match fault {
        Fault::OtherKey | Fault::Peer { .. } => Exit::Config,
        _ => Exit::Unavailable,
    };
    Failure::new(exit, Text::SignerAway { socket, why })
}

/// Asks the signer, where there is one, for a signature that verifies under the node's certificate.
///
/// # Errors
/// Status 69 when it gives none, 78 when it is somebody else's or holds another key.
pub(crate) fn signs(config: &Config, material: &Material) -> Result<(), Failure<Text>> {
    match (&config.key, &material.identity.key) {
        (KeyPlace::Signer(address), NodeKey::Far(far)) => far.probe().map_err(|fault| signer_failure(address, &fault)),
        _ => Ok(()),
    }
}

/// Whether the certificate of a file names the node or platform that it has to.
///
/// # Errors
/// Status 78.
pub(crate) fn named(path: &Path, certificate: &Certificate, party: &str) -> Result<(), Failure<Text>> {
    if is_named(certificate, party) {
        return Ok(());
    }
    let (path, subject) = (path.display().to_string(), certificate.subject());
    let dns = party.split_once('/').map_or_else(String::new, |(site, name)| format!("{name}.{site}"));
    Err(Failure::new(Exit::Config, Text::NotNamed { path, subject, party: party.to_owned(), dns }))
}

/// Reads and checks keys and certificates: the key belongs to the certificate, both chains lead to an anchor now, both leaves
/// name their party.
///
/// # Errors
/// Status 74 for files that cannot be read, 65 for malformed keys, 78 for everything that does not fit together.
pub(crate) fn material(config: &Config) -> Result<Material, Failure<Text>> {
    let now_ns = clock::now().real_ns;
    let salt_key = keyfile::read_secret32(&config.salt).map_err(|error| key_failure(&config.salt, &error))?;
    let mut anchors = Vec::new();
    for path in &config.trust {
        anchors.extend(certificates(path)?);
    }
    let pool = config.pool();
    let asked = Asked { anchors: &anchors, pool: &pool, now_ns };
    let files = KeyFiles::of(config);
    let mut next = files.as_ref().map_or(Ok(None), |files| files.next(&asked));
    let (key, node) = match &files {
        Err(address) => {
            let chain = checked_chain(&config.certificates, &asked)?;
            let leaf = chain.first().ok_or_else(|| wrong(&config.certificates, &"no certificate in it"))?;
            // It is not asked: it may be away.
            (NodeKey::Far(Far::new((*address).clone(), leaf.public_key().clone())), chain)
        }
        Ok(files) => {
            let pair = match (files.present(&asked), &mut next) {
                (Ok(pair), _) => pair,
                // The old key is gone already, and the new one has not got its name yet.
                (Err(failure), Ok(found)) => found.take().ok_or(failure)?.pair,
                (Err(failure), Err(_)) => return Err(failure),
            };
            (NodeKey::File(pair.key), pair.chain)
        }
    };
    let platform = platform_chain(config, &asked)?;
    let (Some(leaf), Some(platform_leaf)) = (node.first(), platform.first()) else {
        return Err(wrong(&config.certificates, &"no certificate in it"));
    };
    Ok(Material {
        identity: Identity {
            pool: pool.clone(),
            cert_id: Octets(leaf.id()),
            key,
            salt_key,
            platform: platform_leaf.clone(),
            anchors: anchors.clone(),
        },
        certificates: node.iter().map(|c| c.der().to_vec()).collect(),
        platform: platform.iter().map(|c| c.der().to_vec()).collect(),
        next,
    })
}

/// Every verifier refuses what a certificate of another name signed; so it must not sign at all.
fn platform_chain(config: &Config, asked: &Asked<'_>) -> Result<Vec<Certificate>, Failure<Text>> {
    let platform = platform_of(asked.pool);
    checked_chain(&config.platform_certificates, &Asked { pool: &platform, ..*asked })
}

/// A ledger error as the command contract wants it.
pub(crate) fn ledger_failure(dir: &Path, error: &hufu_ledger::Error) -> Failure<Text> {
    let path = dir.display().to_string();
    match error {
        hufu_ledger::Error::InUse { .. } => Failure::new(Exit::Io, Text::LedgerInUse { path }),
        other => Failure::new(Exit::Io, Text::LedgerFailed { path, why: other.to_string() }),
    }
}

/// What a new ledger begins with.
#[derive(Clone, Debug)]
pub(crate) struct First {
    /// Text of the rule table.
    pub(crate) rules: String,
    /// The node's chain, DER, leaf first.
    pub(crate) node: Vec<Vec<u8>>,
    /// The platform's chain, DER, leaf first.
    pub(crate) platform: Vec<Vec<u8>>,
}

impl First {
    /// As configuration and material have it.
    pub(crate) fn of(config: &Config, material: &Material) -> Self {
        let (node, platform) = (material.certificates.clone(), material.platform.clone());
        Self { rules: config.rules.clone(), node, platform }
    }
}

/// What a new ledger is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// The first entries: nothing of this name was ever signed.
    New,
    /// Nothing: the agent fetches back what the platform holds, and begins only when that is nothing.
    Recovered,
}

/// Makes the ledger, with its first entries or for the agent to fill.
///
/// # Errors
/// As [`material`]; status 74 when the ledger exists already or cannot be written.
pub(crate) fn create(config: &Config, begin: Begin) -> Result<(), Failure<Text>> {
    let material = material(config)?;
    // Before anything is made: an empty ledger of which nobody signs the first block stands in the way.
    signs(config, &material)?;
    let dir = &config.ledger_dir;
    let failed = |error: hufu_ledger::Error| ledger_failure(dir, &error);
    let bug = |error: &dyn std::fmt::Display| Failure::new(Exit::Software, Text::Bug { why: error.to_string() });
    let mut id = [0; 16];
    hufu_gm::random::fill(&mut id).map_err(|e| bug(&e))?;
    let options = Options::new(&config.pool());
    Ledger::create(dir, &options, id).map_err(failed)?;
    if begin == Begin::New {
        let (mut ledger, _) = Ledger::open(dir, &options).map_err(failed)?;
        first_blocks(&mut ledger, &material.identity, &First::of(config, &material), Clock::SYSTEM).map_err(
            |error| match error {
                WriterError::Ledger(error) => failed(error),
                other => bug(&other),
            },
        )?;
    }
    Ok(())
}

/// Writes the first entries of an empty ledger: the rule table, and the certificates of node and platform.
///
/// # Errors
/// [`WriterError`].
pub(crate) fn first_blocks(
    ledger: &mut Ledger,
    identity: &Identity,
    first: &First,
    clock: Clock,
) -> Result<(), WriterError> {
    let entry =
        |kind: EntryKind, body: Vec<u8>| NewEntry { kind: kind.number(), body, key: key_of(None), sealed: false };
    let bug = |error: hufu_trade::Error| WriterError::Entry(error.to_string());
    let rules = Rules { version: 1, text: first.rules.clone() };
    let rules = entry(EntryKind::Rules, encode(&rules, "Rules").map_err(bug)?);
    let mut certificates = Vec::new();
    for (role, chain) in [("node", &first.node), ("platform", &first.platform)] {
        let octets = chain.iter().map(|der| octet_string(der, "Certificates")).collect::<Result<_, _>>();
        let body = Certificates { role: role.to_owned(), certificates: octets.map_err(bug)? };
        certificates.push(entry(EntryKind::Certificates, encode(&body, "Certificates").map_err(bug)?));
    }
    let signer = Signer { key: &identity.key, cert_id: identity.cert_id.0, salt_key: &identity.salt_key };
    let now = (clock.now)();
    let blocks =
        [NewBlock { log: Log::Trade, entries: vec![rules] }, NewBlock { log: Log::Trade, entries: certificates }];
    ledger.append(&blocks, &signer, epoch_of(ledger), now.real_ns, ledger_quality((clock.quality)(now)))?;
    Ok(())
}
