//! A copy of another node's log: its signed headers, as far as there is room, and the tree over all its block hashes, so that every
//! later root can be held against every earlier one. What is copied can be had again; what was promised cannot be taken back, and is
//! durable before anybody is told.
//!
//! Three files in a directory of the copy's own: a ring of headers, the nodes of the tree, and a state of two slots that says how much of
//! both counts. A power cut may lose what the state already names: the copy then begins anew at its own size.

use std::{cmp::Ordering, sync::Arc};

use der::{Encode, Sequence, asn1::OctetString};
use hufu_gm::{Hash, Signed, signed::strict, sm2::PublicKey};

use crate::{
    block::{BlockHeader, Expected, NO_PARENT, block_hash, verify_header},
    checkpoint::Checkpoint,
    entry::Log,
    error::{Error, Fault},
    merkle::{self, Frontier},
    segment::io_error,
    storage::{Access, Storage, StoredFile},
};

/// Octets of one slot of the state.
const SLOT: u64 = 8192;
/// What a signed header has beside the node's name, at most.
const HEADER_ROOM: usize = 320;
/// Octets of a node of the tree.
const NODE: u64 = 32;

/// How much of a copy counts.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
struct Kept {
    version: u8,
    turn: u64,
    /// Blocks below this are known by the tree's peaks alone.
    base: u64,
    base_peaks: Vec<OctetString>,
    size: u64,
    peaks: Vec<OctetString>,
    epoch: u64,
    head: OctetString,
    time: i64,
    /// The checkpoint that was promised last, as the node signed it.
    promised: OctetString,
}

/// A copy of one log of one node.
#[derive(Debug)]
pub struct LogCopy {
    storage: Arc<dyn Storage>,
    headers: Box<dyn StoredFile>,
    tree: Box<dyn StoredFile>,
    state: Box<dyn StoredFile>,
    node: String,
    log: Log,
    /// Headers kept.
    room: u64,
    turn: u64,
    base: u64,
    base_peaks: Vec<Hash>,
    frontier: Frontier,
    epoch: u64,
    head: Hash,
    time: i64,
    promised: Option<Signed>,
}

fn octets(hashes: &[Hash]) -> Vec<OctetString> {
    hashes.iter().filter_map(|hash| OctetString::new(hash.to_vec()).ok()).collect()
}

fn hashes(octets: &[OctetString]) -> Option<Vec<Hash>> {
    octets.iter().map(|hash| hash.as_bytes().try_into().ok()).collect()
}

/// Number of peaks that so many leaves have.
fn peak_count(size: u64) -> usize {
    usize::try_from(size.count_ones()).unwrap_or(usize::MAX)
}

impl LogCopy {
    /// Opens the copy of a log in its directory, or begins an empty one. `room` headers are kept, at least one.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoSpace`]. What does not read back is begun anew.
    pub fn open(storage: Arc<dyn Storage>, node: &str, log: Log, room: u64) -> Result<Self, Error> {
        storage.make().map_err(|e| io_error(storage.path(""), e))?;
        let file = |name: &str| {
            let opened = match storage.open(name, Access::Write) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => storage.open(name, Access::Create),
                opened => opened,
            };
            opened.map_err(|error| io_error(storage.path(name), error))
        };
        let [headers, tree, state] = ["headers", "tree", "state"].map(|kind| file(&format!("{log}.{kind}")));
        let mut copy = Self {
            headers: headers?,
            tree: tree?,
            state: state?,
            storage: Arc::clone(&storage),
            node: node.to_owned(),
            log,
            room: room.max(1),
            turn: 0,
            base: 0,
            base_peaks: Vec::new(),
            frontier: Frontier::default(),
            epoch: 0,
            head: NO_PARENT,
            time: i64::MIN,
            promised: None,
        };
        if let Some(kept) = copy.kept() {
            copy.take(kept);
        }
        Ok(copy)
    }

    /// The newest state that is whole.
    fn kept(&self) -> Option<Kept> {
        let slot = |at: u64| -> Option<Kept> {
            let mut head = [0; 8];
            self.state.read_at(&mut head, at).ok()?;
            let length = usize::try_from(u32::from_be_bytes(*head.first_chunk()?)).ok()?;
            let crc = u32::from_be_bytes(*head.last_chunk()?);
            if length > usize::try_from(SLOT).ok()?.saturating_sub(8) {
                return None;
            }
            let mut bytes = vec![0; length];
            self.state.read_at(&mut bytes, at + 8).ok()?;
            (crc32c::crc32c(&bytes) == crc).then(|| strict::<Kept>(&bytes).ok()).flatten()
        };
        [slot(0), slot(SLOT)].into_iter().flatten().filter(|kept| kept.version == 1).max_by_key(|kept| kept.turn)
    }

    fn take(&mut self, kept: Kept) {
        let (Some(base_peaks), Some(peaks)) = (hashes(&kept.base_peaks), hashes(&kept.peaks)) else { return };
        let Ok(head) = kept.head.as_bytes().try_into() else { return };
        if peaks.len() != peak_count(kept.size) || base_peaks.len() != peak_count(kept.base) || kept.base > kept.size {
            return;
        }
        (self.turn, self.base, self.base_peaks) = (kept.turn, kept.base, base_peaks);
        self.frontier = Frontier::from_peaks(kept.size, peaks);
        (self.epoch, self.head, self.time) = (kept.epoch, head, kept.time);
        self.promised = Signed::from_bytes(kept.promised.as_bytes()).ok();
        // What the state names and the tree has lost is forgotten; the peaks are enough to go on.
        if self.read_frontier(kept.size).ok().as_ref() != Some(&self.frontier) {
            (self.base, self.base_peaks) = (kept.size, self.frontier.peaks().to_vec());
        }
    }

    /// Begins at a checkpoint in place of block 0, for whoever comes late: the size, the peaks of the tree there, the hash and epoch of the
    /// newest block. False, and nothing done, when the peaks are not those of `root`, or what was promised in this epoch could not be held
    /// against it any more.
    pub fn begin(&mut self, checkpoint: &Checkpoint, peaks: &[Hash], head: Hash) -> bool {
        let frontier = Frontier::from_peaks(checkpoint.size, peaks.to_vec());
        if peaks.len() != peak_count(checkpoint.size) || frontier.root() != checkpoint.root || checkpoint.size == 0 {
            return false;
        }
        if self.promise().is_some_and(|promised| promised.epoch >= checkpoint.epoch) {
            return false;
        }
        (self.base, self.base_peaks, self.frontier) = (checkpoint.size, peaks.to_vec(), frontier);
        (self.epoch, self.head, self.time, self.promised) = (checkpoint.epoch, head, i64::MIN, None);
        true
    }

    /// The node whose log it is.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The log.
    pub fn log(&self) -> Log {
        self.log
    }

    /// Blocks that it knows of.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The first block whose hash it has.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The first block whose header it has, if a power cut took none.
    pub fn oldest(&self) -> u64 {
        self.base.max(self.size().saturating_sub(self.room))
    }

    /// Epoch of the newest block.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Hash of the newest block; [`NO_PARENT`] of none.
    pub fn head(&self) -> Hash {
        self.head
    }

    /// Time of the newest block, ns since 1970-01-01Z.
    pub fn time(&self) -> i64 {
        self.time
    }

    /// Root over what it knows.
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// The peaks of the tree, the largest subtree's first: what a late comer begins with.
    pub fn peaks(&self) -> &[Hash] {
        self.frontier.peaks()
    }

    /// The peaks of the tree at an earlier size; `None` where the copy does not reach.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn peaks_at(&self, size: u64) -> Result<Option<Vec<Hash>>, Error> {
        if size < self.base || size > self.size() {
            return Ok(None);
        }
        Ok(Some(self.read_frontier(size)?.peaks().to_vec()))
    }

    /// The checkpoint that was promised last.
    pub fn promised(&self) -> Option<&Signed> {
        self.promised.as_ref()
    }

    /// Takes the next header, which must continue the log. Not durable until [`LogCopy::keep`].
    ///
    /// # Errors
    /// [`Error::Refused`] for another header, [`Error::Io`], [`Error::NoSpace`].
    pub fn extend(&mut self, signed: &Signed, key: &PublicKey) -> Result<BlockHeader, Error> {
        let expected = Expected { log: self.log, node: &self.node, height: self.size(), previous: self.head };
        let header = verify_header(signed, key, &expected)?;
        self.put(signed, header)
    }

    /// As [`LogCopy::extend`], of the owner's own log: what was just appended needs no check of its signature.
    ///
    /// # Errors
    /// As [`LogCopy::extend`].
    pub fn extend_own(&mut self, signed: &Signed) -> Result<BlockHeader, Error> {
        let header = BlockHeader::from_bytes(signed.tbs())?;
        let expected = Expected { log: self.log, node: &self.node, height: self.size(), previous: self.head };
        expected.check(&header).map_err(|fault| fault.refused(Some(self.log), Some(header.height)))?;
        self.put(signed, header)
    }

    fn put(&mut self, signed: &Signed, header: BlockHeader) -> Result<BlockHeader, Error> {
        let height = self.size();
        if header.epoch < self.epoch {
            return Err(Fault::WrongParent.refused(Some(self.log), Some(height)));
        }
        self.write_header(height, signed)?;
        let hash = block_hash(signed.tbs());
        let mut frontier = self.frontier.clone();
        let completed = frontier.push(merkle::leaf(&hash));
        let at = merkle::stored_count(height).saturating_sub(merkle::stored_count(self.base)).saturating_mul(NODE);
        self.tree.write_at(&completed.concat(), at).map_err(|e| self.failed("tree", e))?;
        (self.frontier, self.head, self.epoch, self.time) = (frontier, hash, header.epoch, header.time);
        Ok(header)
    }

    /// Goes back to `size` blocks, for a node that opened a new epoch there. False where the copy does not reach back so far.
    pub fn go_back(&mut self, size: u64, head: Hash) -> bool {
        if size < self.base || size > self.size() {
            return false;
        }
        let Ok(frontier) = self.read_frontier(size) else { return false };
        (self.frontier, self.head) = (frontier, head);
        true
    }

    /// Forgets every block and keeps what was promised: whoever has the whole log fills it anew.
    pub fn empty(&mut self) {
        (self.base, self.base_peaks, self.frontier) = (0, Vec::new(), Frontier::default());
        (self.epoch, self.head, self.time) = (0, NO_PARENT, i64::MIN);
    }

    fn promise(&self) -> Option<Checkpoint> {
        self.promised.as_ref().and_then(|promised| Checkpoint::from_bytes(promised.tbs()).ok())
    }

    /// The checkpoint that was promised last, where no later epoch took the place of what it covers.
    pub fn standing(&self) -> Option<Checkpoint> {
        self.promise().filter(|checkpoint| checkpoint.epoch >= self.epoch)
    }

    /// Whether more was promised than the copy has.
    pub fn is_below_promise(&self) -> bool {
        self.promise().is_some_and(|promised| promised.size > self.size())
    }

    /// Whether a checkpoint that is this copy's may be promised beside the one that was: it is of a later epoch, or what was promised stands
    /// below it here. A copy that was begun anew may hold another past of the same epoch.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn may_promise(&self, checkpoint: &Checkpoint) -> Result<bool, Error> {
        let Some(promised) = self.promise() else { return Ok(true) };
        Ok(match checkpoint.epoch.cmp(&promised.epoch) {
            Ordering::Less => false,
            Ordering::Greater => true,
            // Of what lies below its base the copy is the continuation.
            Ordering::Equal => self.root_at(promised.size)?.is_none_or(|root| root == promised.root),
        })
    }

    /// Makes what the state names durable; a checkpoint given with it is promised: this copy never goes on from another past.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoSpace`]: nothing may be said of it then.
    pub fn keep(&mut self, promised: Option<&Signed>) -> Result<(), Error> {
        if let Some(promised) = promised {
            self.promised = Some(promised.clone());
        }
        let promised = self.promised.as_ref().map(Signed::to_bytes).transpose()?.unwrap_or_default();
        let whole = |bytes: Vec<u8>| OctetString::new(bytes).map_err(hufu_gm::Error::from);
        let kept = Kept {
            version: 1,
            turn: self.turn.saturating_add(1),
            base: self.base,
            base_peaks: octets(&self.base_peaks),
            size: self.size(),
            peaks: octets(self.frontier.peaks()),
            epoch: self.epoch,
            head: whole(self.head.to_vec())?,
            time: self.time,
            promised: whole(promised)?,
        };
        let bytes = kept.to_der().map_err(hufu_gm::Error::from)?;
        let mut slot = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        slot.extend(crc32c::crc32c(&bytes).to_be_bytes());
        slot.extend(bytes);
        let at = kept.turn % 2 * SLOT;
        let written = self.state.write_at(&slot, at).and_then(|()| self.state.sync_data());
        written.and_then(|()| self.storage.sync_dir()).map_err(|e| self.failed("state", e))?;
        self.turn = kept.turn;
        Ok(())
    }

    /// Root over the first `size` blocks; `None` where the copy does not reach.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn root_at(&self, size: u64) -> Result<Option<Hash>, Error> {
        if size < self.base || size > self.size() {
            return Ok(None);
        }
        merkle::root_by(size, &mut |level, place| self.read_node(level, place)).map(Some)
    }

    /// Proof that the first `size` blocks are the beginning of the first `count`, RFC 6962 section 2.1.2; `None` where the copy does not reach.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn consistency(&self, size: u64, count: u64) -> Result<Option<Vec<Hash>>, Error> {
        if size < self.base || size > count || count > self.size() {
            return Ok(None);
        }
        merkle::consistency_by(size, count, &mut |level, place| self.read_node(level, place)).map(Some)
    }

    /// Signed headers from a height on, at most `count`, as many as are kept in one piece.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn headers(&self, from: u64, count: u64) -> Result<Vec<Signed>, Error> {
        let oldest = self.oldest();
        let until = from.saturating_add(count).min(self.size());
        let mut found = Vec::new();
        for height in from.max(oldest)..until {
            match self.read_header(height)? {
                Some(signed) if from >= oldest => found.push(signed),
                _ => break,
            }
        }
        Ok(found)
    }

    fn slot(&self) -> u64 {
        u64::try_from(HEADER_ROOM.saturating_add(self.node.len())).unwrap_or(u64::MAX)
    }

    fn write_header(&self, height: u64, signed: &Signed) -> Result<(), Error> {
        let bytes = signed.to_bytes()?;
        let slot = self.slot();
        let fits = u16::try_from(bytes.len()).ok().filter(|length| u64::from(*length) + 2 <= slot);
        let length = fits.ok_or_else(|| Fault::NotDer.refused(Some(self.log), Some(height)))?;
        let mut whole = length.to_be_bytes().to_vec();
        whole.extend(bytes);
        self.headers.write_at(&whole, height % self.room * slot).map_err(|e| self.failed("headers", e))
    }

    /// A kept header; `None` where the ring holds another, or what was not written before a power cut.
    fn read_header(&self, height: u64) -> Result<Option<Signed>, Error> {
        let (slot, at) = (self.slot(), height % self.room * self.slot());
        let mut length = [0; 2];
        match self.headers.read_at(&mut length, at) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read.map_err(|e| self.failed("headers", e))?,
        }
        let length = u64::from(u16::from_be_bytes(length));
        if length + 2 > slot {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        match self.headers.read_at(&mut bytes, at + 2) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read.map_err(|e| self.failed("headers", e))?,
        }
        let Ok(signed) = Signed::from_bytes(&bytes) else { return Ok(None) };
        let is_here = BlockHeader::from_bytes(signed.tbs()).is_ok_and(|header| header.height == height);
        Ok(is_here.then_some(signed))
    }

    fn read_frontier(&self, size: u64) -> Result<Frontier, Error> {
        Frontier::read(size, &mut |level, place| self.read_node(level, place))
    }

    /// A node of the tree: among those that are stored, or a peak of the base.
    fn read_node(&self, level: u32, place: u64) -> Result<Hash, Error> {
        let end = place.saturating_add(1).checked_shl(level).unwrap_or(u64::MAX);
        if end <= self.base {
            let beyond = || Error::Beyond { log: self.log, wanted: end, size: self.base };
            let mut from = 0;
            let levels = (0..u64::BITS).rev().filter(|bit| self.base >> bit & 1 == 1);
            for (bit, peak) in levels.zip(&self.base_peaks) {
                if bit == level && from >> bit == place {
                    return Ok(*peak);
                }
                from += 1_u64 << bit;
            }
            return Err(beyond());
        }
        let before = merkle::stored_count(self.base);
        let at = merkle::stored_place(level, place).saturating_sub(before).saturating_mul(NODE);
        let mut hash = [0; 32];
        self.tree.read_at(&mut hash, at).map_err(|e| self.failed("tree", e))?;
        Ok(hash)
    }

    fn failed(&self, kind: &str, error: std::io::Error) -> Error {
        io_error(self.storage.path(&format!("{}.{kind}", self.log)), error)
    }
}
