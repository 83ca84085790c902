//! The full check of one block and its entries, and where it leaves its log. Files, segments and frames are the parent's.

use crate::{
    block::{BlockHeader, Expected, read_parts},
    check::Walk,
    entry::{Entry, Log, salt},
    error::Fault,
    index::{BlockSlot, Index},
    keys::Found,
    merkle,
    report::Problem,
    sealed_entry::{SealedEntry, check_stored, is_sealed},
    segment::FramedBlock,
    verifier::Task,
};

impl Walk<'_, '_> {
    /// Names the first of the blocks that a hole took, up to the height below `next`.
    pub(super) fn missing(&mut self, log: Log, next: u64) {
        let first = self.logs.of(log).size;
        if let Some(last) = next.checked_sub(1).filter(|last| *last >= first) {
            self.block_problem(log, first, Fault::BlocksMissing(last));
        }
    }

    pub(super) fn block(&mut self, framed: &FramedBlock<'_>, index: &mut Index) {
        let log = framed.log;
        self.blocks += 1;
        let mut standing = self.logs.of(log).clone();
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
        if standing.previous.is_none() && header.log == log && header.height > standing.size {
            self.missing(log, header.height);
            standing.size = header.height;
        }
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
        if self.options.may_sign.is_some_and(|may_sign| !may_sign(log, height, &signed.cert_id())) {
            self.block_problem(log, height, Fault::KeyNotInForce);
        }
        // After a hole nobody knows whether the epoch begins here.
        if height == standing.size && standing.previous.is_some() {
            self.epoch(&header, from, &entries);
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

    /// An epoch begins with the entry that names it, its log and its first height, and such an entry stands nowhere else; the
    /// other log's may stand beside it.
    fn epoch(&mut self, header: &BlockHeader, from: u64, entries: &[Vec<u8>]) {
        let Some(opens) = self.options.opens else { return };
        let begins = header.epoch > from;
        let found = |bytes: &Vec<u8>| {
            let entry = Entry::from_bytes(bytes).ok().filter(|_| !is_sealed(bytes))?;
            opens(entry.kind, &entry.body)
        };
        let here = (header.log.number(), header.height, header.epoch);
        if begins && entries.first().and_then(found) != Some(here) {
            let fault = Fault::EpochUnopened { from, to: header.epoch };
            self.block_problem(header.log, header.height, fault);
        }
        for (index, bytes) in (0_u32..).zip(entries) {
            let Some((log, _, epoch)) = found(bytes) else { continue };
            let is_others = log != here.0 && index > 0;
            if !begins || epoch != header.epoch || !(is_others || index == 0) {
                self.block_problem(header.log, header.height, Fault::EpochAstray(index));
            }
        }
    }

    fn entries(&mut self, framed: &FramedBlock<'_>, header: &BlockHeader, entries: &[Vec<u8>]) {
        self.report.entries += entries.len() as u64;
        if let Err(fault) = check_stored(header, entries) {
            self.block_problem(framed.log, header.height, fault);
        }
        if entries.len() != framed.keys.len() {
            self.block_problem(framed.log, header.height, Fault::FramePayload);
        }
        for (index, entry) in (0_u32..).zip(entries) {
            let opened;
            let entry = if is_sealed(entry) {
                let place = usize::try_from(index).unwrap_or(usize::MAX);
                match self.opened(framed.keys.get(place), index, entry) {
                    Ok(Some(plain)) => opened = plain,
                    Ok(None) => continue,
                    Err(fault) => {
                        self.block_problem(framed.log, header.height, fault);
                        continue;
                    }
                }
                &opened
            } else {
                entry
            };
            let Some(salt_key) = self.options.salt_key else { continue };
            let good = Entry::from_bytes(entry)
                .is_ok_and(|entry| entry.salt == salt(salt_key, header.log, header.height, index));
            if !good {
                self.block_problem(framed.log, header.height, Fault::WrongSalt(index));
            }
        }
    }

    /// Counts a sealed entry and opens it, where its key is there and the form is one: a bad form is the block's fault.
    fn opened(&mut self, key: Option<&[u8; 32]>, index: u32, bytes: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.report.sealed += 1;
        let Ok(sealed) = SealedEntry::from_bytes(bytes) else { return Ok(None) };
        if key != Some(&sealed.key) {
            return Err(Fault::SealedKey(index));
        }
        let Some(keys) = &self.keys else { return Ok(None) };
        match keys.find(&sealed.key) {
            Ok(Found::Live(secret)) => match sealed.open(&secret) {
                Some(entry) if Entry::from_bytes(&entry).is_ok() => Ok(Some(entry)),
                _ => Err(Fault::WrongDecryption(index)),
            },
            Ok(Found::Erased) => {
                self.report.erased += 1;
                Ok(None)
            }
            Ok(Found::Missing) => Err(Fault::KeyMissing(index)),
            Err(_) => Err(Fault::KeyFile(index)),
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
}
