//! The fork proofs that this node holds, one file each, and those that others found.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hufu_audit::fork::{number, signers};
use hufu_ledger::{
    Error, ForkProof,
    storage::{Access, Storage, replace},
};

use super::{Effect, Peers};

/// Most proofs that are kept.
const FORKS_MAX: usize = 256;
/// Most of one node: one convicts, and of one fork a liar makes as many files as he likes, with other certificates in them.
const FORKS_OF_ONE_MAX: usize = 16;
/// Ending of their files.
const ENDING: &str = ".fork";

/// What is held.
pub(super) struct Forks {
    storage: Arc<dyn Storage>,
    /// By number: node, log, bytes.
    held: BTreeMap<String, (String, String, Vec<u8>)>,
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
                held.insert(number(&bytes), (proof.node, proof.log.to_string(), bytes));
            }
        }
        Ok(Self { storage, held })
    }

    /// Keeps a proof durably; its number, or `None` where it is held or there is no room.
    ///
    /// # Errors
    /// [`Error`] of the disk.
    pub(super) fn add(&mut self, proof: &ForkProof, bytes: &[u8]) -> Result<Option<String>, Error> {
        let number = number(bytes);
        let of_node = self.held.values().filter(|(node, ..)| *node == proof.node).count();
        if self.held.contains_key(&number) || of_node >= FORKS_OF_ONE_MAX || self.held.len() >= FORKS_MAX {
            return Ok(None);
        }
        replace(&*self.storage, &format!("{number}{ENDING}"), bytes)?;
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
        if self.forks.held.contains_key(&number(payload)) {
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

#[cfg(test)]
mod tests {
    use hufu_gm::{SecretKey, Signed};
    use hufu_ledger::{
        BlockHeader, Log, TimeQuality, TimeState,
        block::{NO_PARENT, VERSION},
        storage::Directory,
    };

    use super::*;

    /// The same fork of a node, with these octets for a certificate.
    fn proof(node: &str, certificate: u8) -> ForkProof {
        let key = SecretKey::from_scalar(&[7; 32]).unwrap();
        let signed = |content: u8| {
            let quality = TimeQuality { state: TimeState::Relative, max_error_ns: None };
            let (node, time, root) = (node.to_owned(), 1, [content; 32]);
            let (version, log, previous) = (VERSION, Log::Trade, NO_PARENT);
            let header =
                BlockHeader { version, log, node, epoch: 0, height: 0, previous, time, quality, root, count: 1 };
            Signed::seal(header.to_bytes().unwrap(), &[1; 32], &key).unwrap()
        };
        ForkProof::of_headers(&signed(1), &signed(2), &[vec![certificate]]).unwrap()
    }

    #[test]
    fn one_liar_does_not_take_the_room_of_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Forks::open(Arc::new(Directory::new(&folder.path().join("forks")))).unwrap();
        let mut forks = open();
        let mut add = |node: &str, certificate: u8| {
            let proof = proof(node, certificate);
            forks.add(&proof, &proof.to_bytes().unwrap()).unwrap().is_some()
        };
        assert_eq!((0..40).filter(|certificate| add("s1/a", *certificate)).count(), FORKS_OF_ONE_MAX);
        assert!(add("s1/b", 0) && !add("s1/b", 0));
        let kept = open();
        assert_eq!((kept.shown(), kept.of_each_node().count()), (forks.shown(), 2));
        assert_eq!(kept.all().count(), FORKS_OF_ONE_MAX + 1);
    }
}
