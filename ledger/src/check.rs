//! The full check of a ledger from its bytes: every file, frame, block, link, root and signature, and the indexes made
//! again from the frames. It only reads, goes on after each problem, and may run beside the agent. What a problem means for
//! a bill is `audit`'s business; one block alone is `check/block.rs`.

mod block;

use std::{path::Path, sync::Arc, time::Duration};

use hufu_gm::{Hash, sm3::sm3};

use crate::{
    archive::Archive,
    block::{BlockHeader, NO_PARENT},
    entry::{Log, PerLog},
    error::{Error, Fault},
    identity::{Identity, last_nonzero},
    index::{Frames, Index},
    keys::Keys,
    merkle::Frontier,
    options::keys_beside,
    recover::{SetAside, set_aside_files},
    report::{CheckOptions, LogReport, Problem, Report},
    seal::Seal,
    sealed::{open_segment, segment_numbers},
    segment::{
        FIRST_LOG_AT, FRAME_HEAD_LEN, FrameAt, HEADER_BYTES, HEADER_LEN, SegmentFile, SegmentHeader, find_frame,
        read_frame, read_loose, read_payload,
    },
    storage::{Access, Directory, Storage},
    verifier::Verifier,
};

/// Time between two looks at a frame that the agent may be writing right now.
const REREAD_AFTER: Duration = Duration::from_millis(10);

/// Checks the whole ledger in `dir`.
///
/// # Errors
/// [`Error::Missing`] when there is no ledger, [`Error::Io`] when it cannot be read. Whatever is wrong with its bytes is in
/// the report.
pub fn check(dir: &Path, options: &CheckOptions<'_>) -> Result<Report, Error> {
    let keys = options.keys.clone().map_or_else(|| keys_beside(dir), Ok)?;
    let keys = keys.is_dir().then(|| Arc::new(Directory::private(&keys)) as Arc<dyn Storage>);
    check_with_keys_on(&Directory::new(dir), keys, options)
}

/// As [`check`], on any storage; sealed entries are counted and not opened.
///
/// # Errors
/// As [`check`].
pub fn check_on(storage: &dyn Storage, options: &CheckOptions<'_>) -> Result<Report, Error> {
    check_with_keys_on(storage, None, options)
}

/// As [`check`], on any storage, and with the keys of sealed entries in `keys`, or without any.
///
/// # Errors
/// As [`check`].
pub fn check_with_keys_on(
    storage: &dyn Storage,
    keys: Option<Arc<dyn Storage>>,
    options: &CheckOptions<'_>,
) -> Result<Report, Error> {
    let threads = if options.key_of.is_some() { options.threads.max(1) } else { 0 };
    std::thread::scope(|scope| {
        let mut walk = Walk::new(storage, options, Verifier::start(scope, threads));
        walk.all(keys)?;
        Ok(walk.finish())
    })
}
/// Where one log stands in the walk. What a damaged block hides is `None` until the next good block tells it.
#[derive(Clone, Debug)]
struct Standing {
    size: u64,
    previous: Option<Hash>,
    frontier: Option<Frontier>,
    head: Option<BlockHeader>,
}

struct Walk<'a, 'scope> {
    storage: &'a dyn Storage,
    options: &'a CheckOptions<'a>,
    verifier: Verifier<'scope>,
    identity: Option<Identity>,
    /// Of a ledger whose identity is not known no key is known to be its own.
    keys: Option<Keys>,
    report: Report,
    /// Each with the number of blocks that were read before it, which is its place among those the verifier finds.
    problems: Vec<(u64, Problem)>,
    blocks: u64,
    logs: PerLog<Standing>,
    /// Segment and offset of what is being read.
    at: (u32, u64),
    /// Chain hash and end of the frames so far.
    chain: Option<Hash>,
    previous_end: Option<u64>,
}

impl<'a, 'scope> Walk<'a, 'scope> {
    fn new(storage: &'a dyn Storage, options: &'a CheckOptions<'a>, verifier: Verifier<'scope>) -> Self {
        let start = || Standing { size: 0, previous: Some(NO_PARENT), frontier: Some(Frontier::default()), head: None };
        Self {
            storage,
            options,
            verifier,
            identity: None,
            keys: None,
            report: Report::default(),
            problems: Vec::new(),
            blocks: 0,
            logs: PerLog { trade: start(), finance: start() },
            at: (0, 0),
            chain: Some([0; 32]),
            previous_end: Some(0),
        }
    }

    fn all(&mut self, keys: Option<Arc<dyn Storage>>) -> Result<(), Error> {
        match Identity::read(self.storage) {
            Ok(identity) => {
                self.report.node.clone_from(&identity.node);
                self.keys = keys.map(|keys| Keys::new(keys, identity.id, hufu_gm::random::fill));
                self.identity = Some(identity);
            }
            Err(Error::Damaged { fault, .. }) => self.problem(fault),
            Err(error) => return Err(error),
        }
        self.report.set_aside = set_aside_files(self.storage)?;
        let numbers = segment_numbers(self.storage)?;
        let mut wanted = 0;
        for (place, number) in numbers.iter().enumerate() {
            if *number != wanted {
                self.at = (wanted, 0);
                self.problem(Fault::SegmentMissing);
                self.lose_track();
            }
            self.segment(*number, numbers.get(place + 1).copied())?;
            wanted = number.saturating_add(1);
        }
        if numbers.is_empty() {
            self.problem(Fault::SegmentMissing);
        }
        Ok(())
    }

    fn problem(&mut self, fault: Fault) {
        let (segment, offset) = self.at;
        self.found(Problem { segment, offset, log: None, height: None, fault });
    }

    fn block_problem(&mut self, log: Log, height: u64, fault: Fault) {
        let (segment, offset) = self.at;
        self.found(Problem { segment, offset, log: Some(log), height: Some(height), fault });
    }

    fn found(&mut self, problem: Problem) {
        self.problems.push((self.blocks, problem));
    }

    /// After a hole: the next header and the next blocks say where things stand.
    fn lose_track(&mut self) {
        (self.chain, self.previous_end) = (None, None);
        for log in Log::ALL {
            let standing = self.logs.of_mut(log);
            (standing.previous, standing.frontier) = (None, None);
        }
    }

    fn segment(&mut self, number: u32, next: Option<u32>) -> Result<(), Error> {
        self.at = (number, 0);
        self.report.segments += 1;
        let Some(file) = self.open(number)? else { return Ok(()) };
        let size = file.size()?;
        let header = if size < HEADER_LEN { None } else { SegmentHeader::decode(&file.array::<HEADER_BYTES>(0)?) };
        let header = header.filter(|header| header.capacity <= size);
        match &header {
            None => {
                self.problem(Fault::SegmentHeader);
                self.chain = None;
            }
            Some(header) => self.header(number, header),
        }
        let before = self.problems.len();
        let capacity = header.as_ref().map_or(size, |header| header.capacity);
        let mut index = Index::new(PerLog { trade: self.logs.trade.size, finance: self.logs.finance.size });
        let end = self.frames(&file, (number, capacity), next, &mut index)?;
        self.previous_end = Some(end);
        let (Some(header), Some(chain)) = (header, self.chain) else { return Ok(()) };
        let frames = Frames { capacity, end, chain };
        if self.problems.len() == before {
            self.index(&file, &header, frames, &mut index, next)
        } else if next.is_some() && Seal::read(&file)?.is_none() {
            self.at.1 = capacity;
            self.problem(Fault::SegmentSeal);
            Ok(())
        } else {
            Ok(())
        }
    }

    /// Opens a segment; of an archive everything is unpacked once, and what is damaged reads as zeros from then on.
    fn open(&mut self, number: u32) -> Result<Option<SegmentFile>, Error> {
        let ledger = self.identity.as_ref().map(|identity| identity.id);
        let opened = open_segment(self.storage, number, ledger, Access::Read).and_then(|mut file| {
            let found = file.archive_mut().map_or(Ok(Vec::new()), Archive::survey)?;
            Ok((file, found))
        });
        let (file, found) = match opened {
            Ok((file, found)) => (Some(file), found),
            Err(Error::Damaged { offset, fault, .. }) => {
                self.lose_track();
                (None, vec![(offset, fault)])
            }
            Err(error) => return Err(error),
        };
        for (offset, fault) in found {
            self.at = (number, offset);
            self.problem(fault);
        }
        self.at = (number, 0);
        Ok(file)
    }

    fn header(&mut self, number: u32, header: &SegmentHeader) {
        // Of a log whose blocks a hole took only this is known: that it stands no lower.
        let follows = |log: &Log| {
            let (start, standing) = (*header.start.of(*log), self.logs.of(*log));
            start == standing.size || (standing.previous.is_none() && start > standing.size)
        };
        let linked = Log::ALL.iter().all(follows)
            && self.chain.is_none_or(|chain| chain == header.chain)
            && self.previous_end.is_none_or(|end| end == header.previous_end);
        let ours = self.identity.as_ref().is_none_or(|identity| identity.id == header.ledger);
        if !linked || !ours || header.number != number {
            self.problem(Fault::SegmentLink);
        }
        self.chain = Some(header.chain);
        for log in Log::ALL {
            if self.logs.of(log).previous.is_none() {
                self.missing(log, *header.start.of(log));
                self.logs.of_mut(log).size = *header.start.of(log);
            }
        }
    }

    /// Reads all frames; returns where the good ones end.
    fn frames(
        &mut self,
        file: &SegmentFile,
        (number, capacity): (u32, u64),
        next: Option<u32>,
        index: &mut Index,
    ) -> Result<u64, Error> {
        let (mut offset, mut tries) = (HEADER_LEN, 0);
        loop {
            self.at = (number, offset);
            let fault = match read_frame(file, offset, capacity, None)? {
                FrameAt::Good(frame) => {
                    self.frame(&frame.payload, frame.chain, index);
                    offset = frame.end;
                    continue;
                }
                FrameAt::End => None,
                FrameAt::Bad(fault) => Some(fault),
            };
            let Some(last) = last_nonzero(file, offset, capacity)? else { return Ok(offset) };
            let tail = file.read(offset, usize::try_from(last + 1 - offset).unwrap_or(usize::MAX))?;
            if self.is_set_aside(file, (number, offset), &tail)? {
                return Ok(offset);
            }
            if next.is_none() && tries < self.options.rereads {
                std::thread::sleep(REREAD_AFTER);
                tries += 1;
                continue;
            }
            // A frame that still says which log its first block belongs to hides a block of that log; what is no frame, none.
            let of = fault.as_ref().and_then(|_| tail.get(FRAME_HEAD_LEN + FIRST_LOG_AT).copied());
            let fault = fault.unwrap_or(Fault::BadTail(tail.len() as u64));
            if let Some((payload, chain)) = read_loose(file, offset, capacity)? {
                self.loose(&payload, fault, index);
                offset += (FRAME_HEAD_LEN + payload.len()) as u64;
                self.chain = Some(chain);
                continue;
            }
            match of.and_then(Log::from_number) {
                Some(log) => self.block_problem(log, self.logs.of(log).size, fault),
                None => self.problem(fault),
            }
            let Some(at) = find_frame(&tail) else { return Ok(offset) };
            offset += at as u64;
            self.lose_track();
        }
    }

    /// A damaged frame whose blocks can be read: they say which of them is damaged. If none does, what is wrong is said of
    /// the first.
    fn loose(&mut self, payload: &[u8], fault: Fault, index: &mut Index) {
        let (at, found) = (self.at, self.problems.len());
        self.problem(fault);
        let first = read_payload(payload).and_then(|blocks| blocks.first().map(|block| block.log));
        let height = first.map(|log| self.logs.of(log).size);
        self.blocks(payload, index);
        if self.problems.len() == found + 1
            && let Some((_, problem)) = self.problems.last_mut()
        {
            (problem.log, problem.height) = (first, height);
        }
        self.at = at;
    }

    /// A tail is accounted for when the segment's seal says that the frames end before it, and a file keeps it.
    fn is_set_aside(&self, file: &SegmentFile, (number, offset): (u32, u64), tail: &[u8]) -> Result<bool, Error> {
        let hash = sm3(&[tail]);
        let kept = |kept: &SetAside| (kept.segment, kept.offset, kept.sm3) == (number, offset, hash);
        Ok(self.report.set_aside.iter().any(kept) && Seal::read(file)?.is_some_and(|seal| seal.end == offset))
    }

    fn frame(&mut self, payload: &[u8], chain: Hash, index: &mut Index) {
        if self.chain.is_some_and(|before| sm3(&[&before, payload]) != chain) {
            match payload.get(FIRST_LOG_AT).copied().and_then(Log::from_number) {
                Some(log) => self.block_problem(log, self.logs.of(log).size, Fault::FrameChain),
                None => self.problem(Fault::FrameChain),
            }
        }
        self.chain = Some(chain);
        self.blocks(payload, index);
    }

    fn blocks(&mut self, payload: &[u8], index: &mut Index) {
        let Some(blocks) = read_payload(payload) else { return self.problem(Fault::FramePayload) };
        let frame = self.at.1;
        for framed in blocks {
            self.at.1 = frame.saturating_add((FRAME_HEAD_LEN + framed.offset) as u64);
            self.block(&framed, index);
        }
    }

    /// The index of a sealed segment is exactly the one its frames give. A seal that was interrupted holds a part of it and
    /// zeros, and only the last segment may have one.
    fn index(
        &mut self,
        file: &SegmentFile,
        header: &SegmentHeader,
        frames: Frames,
        index: &mut Index,
        next: Option<u32>,
    ) -> Result<(), Error> {
        self.at.1 = frames.capacity;
        let (trade, finance) = (&self.logs.trade, &self.logs.finance);
        let (Some(trade_tree), Some(finance_tree)) = (&trade.frontier, &finance.frontier) else { return Ok(()) };
        let ends = PerLog { trade: (trade_tree, trade.head.as_ref()), finance: (finance_tree, finance.head.as_ref()) };
        let (wanted, _) = index.seal((header.number, header.ledger), frames, ends)?;
        let length = usize::try_from(file.size()?.saturating_sub(frames.capacity)).unwrap_or(usize::MAX);
        let found = if length > wanted.len() { None } else { Some(file.read(frames.capacity, length)?) };
        let partly = |found: &[u8]| found.iter().zip(&wanted).all(|(found, wanted)| found == wanted || *found == 0);
        match found {
            Some(found) if found == wanted => {}
            Some(found) if next.is_none() && partly(&found) => {}
            Some(_) if Seal::read(file)?.is_none() => self.problem(Fault::SegmentSeal),
            _ => self.problem(Fault::IndexMismatch),
        }
        Ok(())
    }

    fn finish(mut self) -> Report {
        for log in Log::ALL {
            let size = self.logs.of(log).size;
            let mut missing: Vec<u64> =
                self.options.checkpoints.iter().filter(|kept| kept.log == log).map(|kept| kept.size).collect();
            missing.retain(|kept| *kept > size);
            for kept in missing {
                self.block_problem(log, size, Fault::MissingBlocks(kept));
            }
            let standing = self.logs.of(log);
            *self.report.logs.of_mut(log) = LogReport {
                size,
                root: standing.frontier.as_ref().map(Frontier::root),
                head_time: standing.head.as_ref().map(|head| head.time),
            };
        }
        let (good, bad) = self.verifier.finish();
        self.report.signatures = good;
        self.problems.extend(bad);
        // Stable: what was found in one place stays in its order.
        self.problems.sort_by_key(|(number, _)| *number);
        self.report.problems = self.problems.into_iter().map(|(_, problem)| problem).collect();
        self.report
    }
}
