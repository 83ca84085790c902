//! The full check of a ledger from its bytes: every file, frame, block, link, root and signature, and the indexes made
//! again from the frames. It only reads, goes on after each problem, and may run beside the agent. What a problem means for
//! a bill is `audit`'s business.

use std::{path::Path, time::Duration};

use hufu_gm::{Hash, sm3::sm3};

use crate::{
    block::{BlockHeader, Expected, NO_PARENT, check_entries, read_parts},
    entry::{Entry, Log, PerLog, salt},
    error::{Error, Fault},
    identity::{Identity, last_nonzero},
    index::{BlockSlot, Frames, Index},
    merkle::{self, Frontier},
    recover::{SetAside, set_aside_files},
    report::{CheckOptions, LogReport, Problem, Report},
    seal::Seal,
    segment::{
        FRAME_HEAD_LEN, FrameAt, FramedBlock, HEADER_BYTES, HEADER_LEN, SegmentFile, SegmentHeader, find_frame,
        io_error, read_frame, read_loose, read_payload, segment_name,
    },
    storage::{Access, Directory, Storage},
    verifier::{Task, Verifier},
};

/// Time between two looks at a frame that the agent may be writing right now.
const REREAD_AFTER: Duration = Duration::from_millis(10);

/// Checks the whole ledger in `dir`.
///
/// # Errors
/// [`Error::Missing`] when there is no ledger, [`Error::Io`] when it cannot be read. Whatever is wrong with its bytes is in
/// the report.
pub fn check(dir: &Path, options: &CheckOptions<'_>) -> Result<Report, Error> {
    check_on(&Directory::new(dir), options)
}

/// As [`check`], on any storage.
///
/// # Errors
/// As [`check`].
pub fn check_on(storage: &dyn Storage, options: &CheckOptions<'_>) -> Result<Report, Error> {
    let threads = if options.key_of.is_some() { options.threads.max(1) } else { 0 };
    std::thread::scope(|scope| {
        let mut walk = Walk::new(storage, options, Verifier::start(scope, threads));
        walk.all()?;
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
            report: Report::default(),
            problems: Vec::new(),
            blocks: 0,
            logs: PerLog { trade: start(), finance: start() },
            at: (0, 0),
            chain: Some([0; 32]),
            previous_end: Some(0),
        }
    }

    fn all(&mut self) -> Result<(), Error> {
        match Identity::read(self.storage) {
            Ok(identity) => {
                self.report.node.clone_from(&identity.node);
                self.identity = Some(identity);
            }
            Err(Error::Damaged { fault, .. }) => self.problem(fault),
            Err(error) => return Err(error),
        }
        self.report.set_aside = set_aside_files(self.storage)?;
        let names = self.storage.list().map_err(|error| io_error(self.storage.path(""), error))?;
        let number =
            |name: &String| name.strip_prefix("seg-")?.parse::<u32>().ok().filter(|n| segment_name(*n) == *name);
        let mut numbers: Vec<u32> = names.iter().filter_map(number).collect();
        numbers.sort_unstable();
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
        let file = SegmentFile::open(self.storage, &segment_name(number), Access::Read)?;
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

    fn header(&mut self, number: u32, header: &SegmentHeader) {
        let sizes = PerLog { trade: self.logs.trade.size, finance: self.logs.finance.size };
        let lost = self.previous_end.is_none();
        let linked = (lost || header.start == sizes)
            && self.chain.is_none_or(|chain| chain == header.chain)
            && self.previous_end.is_none_or(|end| end == header.previous_end);
        let ours = self.identity.as_ref().is_none_or(|identity| identity.id == header.ledger);
        if !linked || !ours || header.number != number {
            self.problem(Fault::SegmentLink);
        }
        self.chain = Some(header.chain);
        if lost {
            self.logs.trade.size = header.start.trade;
            self.logs.finance.size = header.start.finance;
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
            self.problem(fault.unwrap_or(Fault::BadTail(tail.len() as u64)));
            if let Some((payload, chain)) = read_loose(file, offset, capacity)? {
                self.blocks(&payload, index);
                offset += (FRAME_HEAD_LEN + payload.len()) as u64;
                self.chain = Some(chain);
            } else if let Some(at) = find_frame(&tail) {
                offset += at as u64;
                self.lose_track();
            } else {
                return Ok(offset);
            }
        }
    }

    /// A tail is accounted for when the segment's seal says that the frames end before it, and a file keeps it.
    fn is_set_aside(&self, file: &SegmentFile, (number, offset): (u32, u64), tail: &[u8]) -> Result<bool, Error> {
        let hash = sm3(&[tail]);
        let kept = |kept: &SetAside| (kept.segment, kept.offset, kept.sm3) == (number, offset, hash);
        Ok(self.report.set_aside.iter().any(kept) && Seal::read(file)?.is_some_and(|seal| seal.end == offset))
    }

    fn frame(&mut self, payload: &[u8], chain: Hash, index: &mut Index) {
        if self.chain.is_some_and(|before| sm3(&[&before, payload]) != chain) {
            self.problem(Fault::FrameChain);
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

    fn block(&mut self, framed: &FramedBlock<'_>, index: &mut Index) {
        let log = framed.log;
        self.blocks += 1;
        let standing = self.logs.of(log).clone();
        let (signed, header, entries) = match read_parts(framed.bytes) {
            Ok(parts) => parts,
            Err(fault) => {
                self.block_problem(log, standing.size, fault);
                let lost = self.logs.of_mut(log);
                (lost.size, lost.previous, lost.frontier) = (standing.size + 1, None, None);
                return;
            }
        };
        let (height, hash) = (header.height, crate::block::block_hash(signed.tbs()));
        let node = self.identity.as_ref().map_or_else(|| header.node.clone(), |identity| identity.node.clone());
        let previous = standing.previous.unwrap_or(header.previous);
        let placed = Expected { log, node: &node, height: standing.size, previous }.check(&header);
        if let Err(fault) = placed {
            let doubled = height < standing.size && header.log == log;
            self.block_problem(log, height, if doubled { Fault::DuplicateHeight(height) } else { fault });
        }
        let from = standing.head.as_ref().map_or(0, |head| head.epoch);
        if header.epoch < from {
            self.block_problem(log, height, Fault::EpochBackwards { from, to: header.epoch });
        }
        if let Some(key_of) = self.options.key_of {
            match key_of(&signed.cert_id()) {
                None => self.block_problem(log, height, Fault::UnknownCertificate),
                Some(key) => {
                    let ((segment, offset), number) = (self.at, self.blocks);
                    let fault = Fault::BadSignature;
                    let problem = Problem { segment, offset, log: Some(log), height: Some(height), fault };
                    self.verifier.verify(Task { signed, key, number, problem });
                }
            }
        }
        self.entries(framed, &header, &entries);
        if height < standing.size {
            return;
        }
        let now = self.logs.of_mut(log);
        let mut nodes = Vec::new();
        match &mut now.frontier {
            Some(frontier) if height == standing.size => nodes = frontier.push(merkle::leaf(&hash)),
            other => *other = None,
        }
        (now.size, now.previous) = (height.saturating_add(1), Some(hash));
        let slot = BlockSlot::new(self.at.1, framed.bytes);
        index.push(log, slot, &nodes, framed.keys);
        now.head = Some(header);
        self.checkpoints(log);
    }

    fn entries(&mut self, framed: &FramedBlock<'_>, header: &BlockHeader, entries: &[Vec<u8>]) {
        self.report.entries += entries.len() as u64;
        if let Err(fault) = check_entries(header, entries) {
            self.block_problem(framed.log, header.height, fault);
        }
        if entries.len() != framed.keys.len() {
            self.block_problem(framed.log, header.height, Fault::FramePayload);
        }
        let Some(salt_key) = self.options.salt_key else { return };
        for (index, entry) in (0_u32..).zip(entries) {
            let good = Entry::from_bytes(entry)
                .is_ok_and(|entry| entry.salt == salt(salt_key, header.log, header.height, index));
            if !good {
                self.block_problem(framed.log, header.height, Fault::WrongSalt(index));
            }
        }
    }

    fn checkpoints(&mut self, log: Log) {
        let size = self.logs.of(log).size;
        let Some(frontier) = &self.logs.of(log).frontier else { return };
        let kept = self.options.checkpoints.iter().filter(|kept| kept.log == log && kept.size == size);
        let wrong = kept.filter(|kept| kept.root != frontier.root()).count();
        for _ in 0..wrong {
            self.block_problem(log, size.saturating_sub(1), Fault::WrongCheckpoint(size));
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
