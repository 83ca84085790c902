//! Fills a [`PackInput`] from the node's own ledger. The platform fills one from its tables.

use std::collections::BTreeMap;

use hufu_gm::{Signed, sm3::sm3};
use hufu_ledger::{Checkpoint, Entry, EntryRef, HeldBlock, HeldEntry, Ledger, Log};
use hufu_trade::{
    bill::Bill,
    entry::{Certificates, EntryKind, Receipt, Rules, key_of},
    octets::ContractNo,
    rotation,
    statement::Offer,
    usage::UsageRecord,
};

use crate::{
    Error,
    pack::{ENTRY_FILES_MAX, Located, PackInput, Proof, Witnesses},
    signed::Role,
};

/// Collects everything about the bill `number` (`{contract number}-{n}`) from `ledger`, which may be open for reading only.
/// Certificates come from the ledger's own entries; `node_certificates` and `platform_certificates` add what is not there.
///
/// # Errors
/// [`Error::UnknownBill`]; [`Error::Ledger`] when the ledger cannot be read; [`Error::Trade`] for entries that do not decode.
pub fn from_ledger(
    ledger: &Ledger,
    number: &str,
    node_certificates: &[Vec<u8>],
    platform_certificates: &[Vec<u8>],
) -> Result<PackInput, Error> {
    let unknown = || Error::UnknownBill { number: number.chars().take(80).collect() };
    let contract =
        number.split_once('-').and_then(|(contract, _)| ContractNo::from_hex(contract)).ok_or_else(unknown)?;
    let mut blocks = Blocks { ledger, last: None };
    let mut found = Vec::new();
    for at in ledger.find(&key_of(Some(contract)))? {
        found.push(blocks.entry(at)?);
    }
    let bills = bills(&found)?;
    let (bill_at, bill) = bills.iter().find(|(_, bill)| bill.number == number).ok_or_else(unknown)?;
    let previous = bills.iter().find(|(at, _)| bill.previous_bill.is_some_and(|hash| hash.0 == at.hash));
    let mut entries = Vec::new();
    let mut offer: Option<Offer> = None;
    let mut proven = Vec::new();
    for (at, entry) in &found {
        let kind = EntryKind::from_number(entry.kind);
        let wanted = match kind {
            Some(EntryKind::Usage | EntryKind::Gap) => {
                let record: UsageRecord = hufu_trade::decode(&entry.body, "UsageRecord")?;
                let carried = previous.is_some_and(|(_, before)| before.last_seq == record.order_seq);
                carried || (bill.first_seq..=bill.last_seq).contains(&record.order_seq)
            }
            // Every bill of the contract, so that its course and what is left of the ceiling can be followed.
            Some(EntryKind::Bill) => at != bill_at,
            Some(EntryKind::Offer) => {
                offer = Some(hufu_trade::decode(Signed::from_bytes(&entry.body)?.tbs(), "Offer")?);
                true
            }
            // Who at the site read what is no part of the trade.
            Some(kind) => !matches!(kind, EntryKind::Receipt | EntryKind::UserOperation),
            None => false,
        };
        let is_record = matches!(kind, Some(EntryKind::Usage | EntryKind::Gap));
        if wanted {
            entries.push(*at);
        }
        if wanted && (!is_record || at.hash == bill.last_record.hash.0) {
            proven.push(*at);
        }
    }
    proven.push(*bill_at);
    let mut input = PackInput {
        bill: blocks.located(bill_at)?,
        entries: Vec::new(),
        receipts: Vec::new(),
        checkpoints: Vec::new(),
        stamps: Vec::new(),
        witnesses: Vec::new(),
        node_certificates: node_certificates.to_vec(),
        platform_certificates: platform_certificates.to_vec(),
        buyer_certificates: Vec::new(),
        crls: Vec::new(),
        entry_files_max: ENTRY_FILES_MAX,
    };
    let offer = offer.ok_or_else(|| Error::Input { what: "offer".into(), why: "not in this ledger".into() })?;
    entries.push(blocks.standing(&offer, &mut input)?);
    proven.extend(entries.last().copied());
    let rotations = ledger.find(&rotation::KEY)?;
    entries.extend(&rotations);
    proven.extend(&rotations);
    // What came after the usage that is billed (a score, a payment) may wait for a later receipt.
    let last_height = bill.last_record.height;
    let due = proven
        .iter()
        .filter(|at| {
            at.log == Log::Finance && at.height <= bill_at.height || at.log == Log::Trade && at.height <= last_height
        })
        .copied();
    let sizes = blocks.receipts(&due.collect::<Vec<_>>(), &mut input)?;
    for at in entries {
        let mut located = blocks.located(&at)?;
        if proven.contains(&at) {
            located.proof = Some(blocks.proof(&at, &sizes)?);
        }
        input.entries.push(located);
    }
    input.bill.proof = Some(blocks.proof(bill_at, &sizes)?);
    Ok(input)
}

/// Adds what witnesses signed of one log, and the way to the root that they saw from every entry that is proven: of these checkpoints the one
/// with the most witnesses among those that cover all of the pack, otherwise the newest. What they saw and this ledger does not hold (an
/// epoch took its place) is left out.
///
/// # Errors
/// [`Error::Ledger`] when the ledger cannot be read.
pub fn witness(input: &mut PackInput, ledger: &Ledger, kept: Vec<Witnesses>) -> Result<(), Error> {
    let mut best: Option<((bool, usize, u64), Checkpoint, Witnesses)> = None;
    for one in kept {
        let seen = one.checkpoint.read()?;
        let is_held = seen.node == ledger.node()
            && seen.size <= ledger.size(seen.log)
            && ledger.root_at(seen.log, seen.size)? == seen.root;
        let mut all = input.entries.iter().chain([&input.bill]);
        let covers = all.all(|located| located.log != seen.log.number() || located.height < seen.size);
        let rank = (covers, if covers { one.checkpoint.cosignatures.len() } else { 0 }, seen.size);
        if is_held && best.as_ref().is_none_or(|(other, ..)| *other < rank) {
            best = Some((rank, seen, one));
        }
    }
    let Some((_, seen, witnesses)) = best else { return Ok(()) };
    for located in input.entries.iter_mut().chain([&mut input.bill]) {
        let is_below = located.log == seen.log.number() && located.height < seen.size;
        if let Some(proof) = located.proof.as_mut().filter(|_| is_below) {
            proof.more.push((seen.size, ledger.prove(seen.log, located.height, seen.size)?));
        }
    }
    input.witnesses.push(witnesses);
    Ok(())
}

fn bills(found: &[(EntryRef, Entry)]) -> Result<Vec<(EntryRef, Bill)>, Error> {
    let bills = found.iter().filter(|(_, entry)| entry.kind == EntryKind::Bill.number());
    bills.map(|(at, entry)| Ok((*at, hufu_trade::decode(&entry.body, "Bill")?))).collect()
}

/// In so many first blocks of its log a node says by which rules and under which certificates it acts.
const STANDING_BLOCKS: u64 = 8;

/// The ledger, with the block read last: neighbours are asked for together.
struct Blocks<'a> {
    ledger: &'a Ledger,
    last: Option<(Log, u64, HeldBlock)>,
}

impl Blocks<'_> {
    /// A block as far as it can be read: what is erased of other contracts is in nobody's way.
    fn block(&mut self, log: Log, height: u64) -> Result<&HeldBlock, Error> {
        let held = self.last.as_ref().is_some_and(|(there, at, _)| (*there, *at) == (log, height));
        if !held {
            self.last = Some((log, height, self.ledger.held(log, height)?));
        }
        let lost = || Error::Input { what: "block".into(), why: "not read".into() };
        self.last.as_ref().map(|(.., block)| block).ok_or_else(lost)
    }

    fn bytes(&mut self, at: &EntryRef) -> Result<Vec<u8>, Error> {
        let entry = usize::try_from(at.index).ok();
        let block = self.block(at.log, at.height)?;
        match entry.and_then(|index| block.entries().get(index)) {
            Some(HeldEntry::Plain(bytes)) => Ok(bytes.clone()),
            // Why it cannot be read, or that there is no such entry, is the ledger's word.
            _ => Ok(self.ledger.entry(at.log, at.height, at.index)?),
        }
    }

    fn entry(&mut self, at: EntryRef) -> Result<(EntryRef, Entry), Error> {
        Ok((at, Entry::from_bytes(&self.bytes(&at)?)?))
    }

    fn located(&mut self, at: &EntryRef) -> Result<Located, Error> {
        Ok(Located { log: at.log.number(), height: at.height, index: at.index, entry: self.bytes(at)?, proof: None })
    }

    fn proof(&mut self, at: &EntryRef, sizes: &BTreeMap<u8, u64>) -> Result<Proof, Error> {
        let log_size = sizes.get(&at.log.number()).copied().filter(|size| at.height < *size).unwrap_or(0);
        let log_path = if log_size == 0 { Vec::new() } else { self.ledger.prove(at.log, at.height, log_size)? };
        let block = self.block(at.log, at.height)?;
        let entry_path = block.entry_path(at.index).unwrap_or_default();
        Ok(Proof { header: block.signed().to_bytes()?, entry_path, log_size, log_path, more: Vec::new() })
    }

    /// The rule table that the offer names; certificates of the node and the platform are taken along on the way. They stand
    /// in the first blocks of the log, unless the table was amended.
    fn standing(&mut self, offer: &Offer, input: &mut PackInput) -> Result<EntryRef, Error> {
        let mut rules = None;
        for height in 0..self.ledger.size(Log::Trade) {
            if rules.is_some() && height >= STANDING_BLOCKS {
                break;
            }
            let block = self.block(Log::Trade, height)?;
            for (at, held) in block.entry_refs().iter().zip(block.entries()) {
                let HeldEntry::Plain(bytes) = held else { continue };
                let entry = Entry::from_bytes(bytes)?;
                match EntryKind::from_number(entry.kind) {
                    Some(EntryKind::Rules) => {
                        let found: Rules = hufu_trade::decode(&entry.body, "Rules")?;
                        if sm3(&[found.text.as_bytes()]) == offer.rules.0 {
                            rules = Some(*at);
                        }
                    }
                    Some(EntryKind::Certificates) => {
                        let found: Certificates = hufu_trade::decode(&entry.body, "Certificates")?;
                        let platform = found.role == Role::Platform.name();
                        let list =
                            if platform { &mut input.platform_certificates } else { &mut input.node_certificates };
                        list.extend(found.certificates.iter().map(|der| der.as_bytes().to_vec()));
                    }
                    _ => {}
                }
            }
        }
        rules.ok_or_else(|| Error::Input { what: "rule table".into(), why: "the offer's is not in this ledger".into() })
    }

    /// The first receipt of each log that covers everything that must be proven there; the receipts stand in the trade log
    /// after what they cover. The sizes they acknowledge.
    fn receipts(&mut self, proven: &[EntryRef], input: &mut PackInput) -> Result<BTreeMap<u8, u64>, Error> {
        let mut needed: BTreeMap<u8, u64> = BTreeMap::new();
        for at in proven {
            let size = needed.entry(at.log.number()).or_default();
            *size = (*size).max(at.height.saturating_add(1));
        }
        let mut sizes = BTreeMap::new();
        let first = proven.iter().filter(|at| at.log == Log::Trade).map(|at| at.height).max().unwrap_or(0);
        for height in first..self.ledger.size(Log::Trade) {
            if sizes.len() == needed.len() {
                break;
            }
            let block = self.block(Log::Trade, height)?;
            let receipts: Vec<Entry> =
                block.entries().iter().filter_map(HeldEntry::plain).filter_map(|b| Entry::from_bytes(b).ok()).collect();
            for entry in receipts.into_iter().filter(|entry| entry.kind == EntryKind::Receipt.number()) {
                let receipt: Receipt = hufu_trade::decode(Signed::from_bytes(&entry.body)?.tbs(), "Receipt")?;
                let covers = needed.get(&receipt.log).is_some_and(|size| *size <= receipt.size);
                if covers && !sizes.contains_key(&receipt.log) {
                    sizes.insert(receipt.log, receipt.size);
                    input.receipts.push(entry.body);
                }
            }
        }
        Ok(sizes)
    }
}
