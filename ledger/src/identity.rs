//! The identity file `LEDGER` and the making of a new ledger. Opening one is `recover.rs`: it never makes anything out of
//! nothing.
//!
//! `LEDGER`: magic 8, version u32, ledger id 16, node length u16, node, CRC32C of all that u32; integers big-endian.

use hufu_gm::Hash;

use crate::{
    entry::PerLog,
    error::{Error, Fault},
    segment::{HEADER_LEN, Pieces, SegmentFile, SegmentHeader, io_error, segment_name},
    storage::{Access, Storage},
};

pub(crate) const NAME: &str = "LEDGER";
pub(crate) const LOCK: &str = "LOCK";
/// Suffix of a file that is being made; whatever has it holds nothing acknowledged.
pub(crate) const NEW: &str = ".new";
/// Zeros are written in steps of this many bytes, so that making a segment costs little memory.
const ZEROS_LEN: usize = 64 * 1024;

const MAGIC: &[u8; 8] = b"hufuldgr";
const VERSION: u32 = 1;
const NODE_LEN_MAX: usize = 129;
/// Chain hash before the first frame.
const CHAIN_START: Hash = [0; 32];

/// Whose ledger this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: [u8; 16],
    pub(crate) node: String,
}

impl Identity {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(self.id);
        bytes.extend(u16::try_from(self.node.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend(self.node.as_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend(crc.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut pieces = Pieces(bytes);
        if pieces.array()? != *MAGIC || pieces.u32()? != VERSION {
            return None;
        }
        let id = pieces.array()?;
        let length = usize::from(pieces.u16()?);
        let node = String::from_utf8(pieces.take(length)?.to_vec()).ok()?;
        let identity = Self { id, node };
        (identity.encode() == bytes).then_some(identity)
    }

    /// Reads the identity file.
    pub(crate) fn read(storage: &dyn Storage) -> Result<Self, Error> {
        let file = match SegmentFile::open(storage, NAME, Access::Read) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Missing { path: storage.path("") });
            }
            other => other?,
        };
        let length = usize::try_from(file.size()?).unwrap_or(usize::MAX).min(4096);
        Self::decode(&file.read(0, length)?).ok_or(Fault::Identity.damaged(0, 0))
    }
}

/// One segment, or site and node: each 1 to 64 of `a-z 0-9 _ -`, what may stand in an MQTT topic, joined by one slash.
pub(crate) fn check_node(node: &str) -> Result<(), Error> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    let segment = |part: &str| (1..=64).contains(&part.len()) && part.bytes().all(allowed);
    let good = node.len() <= NODE_LEN_MAX && node.split('/').count() <= 2 && node.split('/').all(segment);
    if good { Ok(()) } else { Err(Error::NodeName(node.to_owned())) }
}

/// Takes the writer's lock; it is held until the file is dropped.
pub(crate) fn lock(storage: &dyn Storage) -> Result<SegmentFile, Error> {
    let file = SegmentFile::open(storage, LOCK, Access::Create)?;
    if file.try_lock()? { Ok(file) } else { Err(Error::InUse { path: storage.path(LOCK) }) }
}

/// Makes a new ledger in an existing directory. The identity comes last: until it is there, there is no ledger.
pub(crate) fn create(storage: &dyn Storage, identity: &Identity, segment_size: u64) -> Result<(), Error> {
    check_node(&identity.node)?;
    let _lock = lock(storage)?;
    let names = storage.list().map_err(|error| io_error(storage.path(""), error))?;
    let exists = || Error::Exists { path: storage.path("") };
    // Without an identity only what an interrupted creation leaves may be here: one segment without frames.
    let segments = names.iter().filter(|name| is_segment(name) && !name.ends_with(NEW));
    for name in segments {
        if *name != segment_name(0) || holds_frames(storage, name)? {
            return Err(exists());
        }
    }
    if names.iter().any(|name| name == NAME) {
        return Err(exists());
    }
    let header = SegmentHeader {
        number: 0,
        ledger: identity.id,
        capacity: segment_size.max(HEADER_LEN),
        previous_end: 0,
        chain: CHAIN_START,
        start: PerLog::default(),
    };
    create_segment(storage, &header)?;
    write_new(storage, NAME, |file| file.write(&identity.encode(), 0))?;
    Ok(())
}

fn is_segment(name: &str) -> bool {
    name.starts_with("seg-") || name.starts_with("arc-")
}

fn holds_frames(storage: &dyn Storage, name: &str) -> Result<bool, Error> {
    let file = SegmentFile::open(storage, name, Access::Read)?;
    let size = file.size()?;
    Ok(size > HEADER_LEN && last_nonzero(&file, HEADER_LEN, size)?.is_some())
}

/// Offset of the last byte that is not zero in `from..to`.
pub(crate) fn last_nonzero(file: &SegmentFile, from: u64, to: u64) -> Result<Option<u64>, Error> {
    let (mut at, mut last) = (from, None);
    let mut bytes = vec![0; ZEROS_LEN];
    while at < to {
        let length = usize::try_from(to - at).unwrap_or(ZEROS_LEN).min(ZEROS_LEN);
        let Some(part) = bytes.get_mut(..length) else { break };
        file.fill(part, at)?;
        if let Some(place) = part.iter().rposition(|byte| *byte != 0) {
            last = Some(at + place as u64);
        }
        at += length as u64;
    }
    Ok(last)
}

/// Makes a segment: header and zeros, durable before its name is there.
pub(crate) fn create_segment(storage: &dyn Storage, header: &SegmentHeader) -> Result<SegmentFile, Error> {
    write_new(storage, &segment_name(header.number), |file| {
        file.write(&header.encode(), 0)?;
        let zeros = vec![0; ZEROS_LEN];
        let mut at = HEADER_LEN;
        while at < header.capacity {
            let length = usize::try_from(header.capacity - at).unwrap_or(ZEROS_LEN).min(ZEROS_LEN);
            file.write(zeros.get(..length).unwrap_or_default(), at)?;
            at += length as u64;
        }
        Ok(())
    })
}

/// Writes a file under another name, makes it durable, gives it its name and makes that durable.
pub(crate) fn write_new(
    storage: &dyn Storage,
    name: &str,
    write: impl FnOnce(&SegmentFile) -> Result<(), Error>,
) -> Result<SegmentFile, Error> {
    let new = format!("{name}{NEW}");
    let file = SegmentFile::open(storage, &new, Access::Create)?;
    write(&file)?;
    file.sync()?;
    storage.rename(&new, name).map_err(|error| io_error(storage.path(name), error))?;
    storage.sync_dir().map_err(|error| io_error(storage.path(""), error))?;
    Ok(file)
}
