//! The fork proofs that this node holds, one file each, and those that others found.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hufu_gm::{Certificate, Hash, PublicKey, Usage, sm3::sm3, verify_chain};
use hufu_ledger::{
    Error, ForkProof,
    storage::{Access, Storage},
};
use hufu_trade::party::is_named;

use super::{Effect, Peers};

/// Most proofs that are kept: one convicts.
const FORKS_MAX: usize = 256;
/// Ending of their files.
const ENDING: &str = ".fork";

/// What is held.
pub(super) struct Forks {
    storage: Arc<dyn Storage>,
    /// By number: node, log, bytes.
    held: BTreeMap<String, (String, String, Vec<u8>)>,
}

/// The number of a proof: the first octets of SM3 of its DER.
fn number_of(bytes: &[u8]) -> String {
    hex::encode(&sm3(&[bytes])[..8])
}

impl Forks {
    /// Reads what is there; a file that is none is left alone.
    ///
    /// # Errors
    /// [`Error`] of the disk.
    pub(super) fn open(storage: Arc<dyn Storage>) -> Result<Self, Error> {
        let failed = |name: &str, source| Error::Io { path: storage.path(name), source };
        storage.make().map_err(|e| failed("", e))?;
        let mut held = BTreeMap::new();
        for name in storage.list().map_err(|e| failed("", e))? {
            if !name.ends_with(ENDING) || held.len() >= FORKS_MAX {
                continue;
            }
            let file = storage.open(&name, Access::Read).map_err(|e| failed(&name, e))?;
            let size = file.size().map_err(|e| failed(&name, e))?;
            let mut bytes = vec![0; usize::try_from(size.min(64 * 1024)).unwrap_or(0)];
            file.read_at(&mut bytes, 0).map_err(|e| failed(&name, e))?;
            if let Ok(proof) = ForkProof::from_bytes(&bytes) {
                held.insert(number_of(&bytes), (proof.node, proof.log.to_string(), bytes));
            }
        }
        Ok(Self { storage, held })
    }

    /// Keeps a proof durably; its number, or `None` where it is held or there is no room.
    ///
    /// # Errors
    /// [`Error`] of the disk.
    pub(super) fn add(&mut self, proof: &ForkProof, bytes: &[u8]) -> Result<Option<String>, Error> {
        let number = number_of(bytes);
        if self.held.contains_key(&number) || self.held.len() >= FORKS_MAX {
            return Ok(None);
        }
        let name = format!("{number}{ENDING}");
        let written = self.storage.open(&name, Access::Create).and_then(|file| {
            file.write_at(bytes, 0)?;
            file.sync_data()
        });
        let written = written.and_then(|()| self.storage.sync_dir());
        written.map_err(|source| Error::Io { path: self.storage.path(&name), source })?;
        self.held.insert(number.clone(), (proof.node.clone(), proof.log.to_string(), bytes.to_vec()));
        Ok(Some(number))
    }

    /// Where a proof lies.
    pub(super) fn path(&self, number: &str) -> String {
        self.storage.path(&format!("{number}{ENDING}")).display().to_string()
    }

    /// All of them, number and bytes.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.held.iter().map(|(number, (.., bytes))| (number.as_str(), bytes.as_slice()))
    }

    /// One of each node: the one with the lowest number, which is so for everybody who holds the same ones.
    pub(super) fn of_each_node(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut seen = BTreeSet::new();
        let first = self.held.iter().filter(move |(_, (node, ..))| seen.insert(node.as_str()));
        first.map(|(number, (.., bytes))| (number.as_str(), bytes.as_slice()))
    }

    /// Node, log and file of each.
    pub(super) fn shown(&self) -> Vec<(String, String, String)> {
        self.held.iter().map(|(number, (node, log, _))| (node.clone(), log.clone(), self.path(number))).collect()
    }
}

impl Peers {
    /// Somebody shows a fork proof: whoever it convicts is judged by its own signatures under this node's anchors.
    pub(super) fn fork_told(&mut self, payload: &[u8]) -> Result<Vec<Effect>, Error> {
        let Ok(proof) = ForkProof::from_bytes(payload) else { return Ok(Vec::new()) };
        if self.forks.held.contains_key(&number_of(payload)) {
            return Ok(Vec::new());
        }
        let keys = signers(&proof, &self.me.anchors);
        let judged = proof.judge(&|id| keys.iter().find(|(known, _)| known == id).map(|(_, key)| key.clone()));
        let Ok(Some(parted)) = judged else { return Ok(Vec::new()) };
        let Some(number) = self.forks.add(&proof, payload)? else { return Ok(Vec::new()) };
        if let Some(peer) = self.peers.get_mut(&proof.node) {
            peer.has_forked = true;
        }
        let detail = format!("{}: log {}, {parted:?}; {}", proof.node, proof.log, self.forks.path(&number));
        let again = self.told(hufu_trade::if2::Told::Fork(number), payload.to_vec(), true);
        Ok(vec![Effect::Alarm { what: "peer forked", detail }, again])
    }
}

/// Keys of the certificates in a proof that name its node and lead to an anchor. They are judged as of the time that each was issued for:
/// an old fork stays one.
pub(crate) fn signers(proof: &ForkProof, anchors: &[Certificate]) -> Vec<(Hash, PublicKey)> {
    let found: Vec<Certificate> =
        proof.certificates.iter().filter_map(|der| Certificate::from_der(der.as_bytes()).ok()).collect();
    let named = found.iter().filter(|leaf| is_named(leaf, &proof.node));
    let good =
        named.filter(|leaf| verify_chain(leaf, &found, anchors, &[], leaf.not_before_ns(), Usage::Signing).is_ok());
    good.map(|leaf| (leaf.id(), leaf.public_key().clone())).collect()
}
