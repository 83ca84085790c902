//! Follows a node's ledger block by block, as an auditor who keeps everything he ever saw: what was durable once stays, no height
//! is seen twice, usage is a chain below what was truly used, and a bill is what follows from it. Nothing here is the agent's.

use std::collections::{BTreeMap, BTreeSet};

use hufu_gm::{Hash, Signed, sm3::sm3};
use hufu_ledger::{Entry, EntryRef, HeldEntry, Ledger, Log};
use hufu_trade::{
    bill::Bill,
    decode,
    entry::{Deal, EntryKind, EntryName, Payment, key_of},
    notice::{InForce, Notice},
    octets::{ContractNo, Digest, Octets},
    rating::{Before, Recorded, Terms, rate},
    resource::{Kind, Resource},
    statement::Offer,
    usage::UsageRecord,
};

use crate::host::Host;

/// A contract as its entries tell it.
#[derive(Debug, Default)]
struct Told {
    offer: Option<(Offer, Digest)>,
    deal: Option<(Digest, Deal)>,
    in_force: Option<InForce>,
    records: Vec<Recorded>,
    bills: Vec<(Digest, Bill)>,
    paid: u32,
}

/// What was seen of one node's ledger.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Hashes of the blocks, by log and height.
    pub(crate) heights: [Vec<Hash>; 2],
    /// What ever left the node.
    published: BTreeMap<(usize, u64), Hash>,
    /// Roots that the node ever signed, by log, epoch and size.
    promised: BTreeMap<(usize, u64, u64), Hash>,
    contracts: BTreeMap<ContractNo, Told>,
    /// Keys of contracts of which something was erased before it was seen here.
    erased: BTreeSet<Hash>,
    /// How many entries of each kind there were.
    pub(crate) kinds: BTreeMap<u16, u64>,
}

fn index_of(log: Log) -> usize {
    usize::from(log.number())
}

fn name_of(at: &EntryRef) -> EntryName {
    EntryName { log: at.log.number(), height: at.height, index: at.index, hash: Octets(at.hash) }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Audit {
    /// Takes new blocks in; whether there were any.
    ///
    /// # Errors
    /// What must never be.
    pub(crate) fn follow(&mut self, ledger: &Ledger, host: &Host) -> Result<bool, String> {
        let mut grown = false;
        // A bill rests on usage of the trade log, whose entries come first therefore.
        for log in [Log::Trade, Log::Finance] {
            let from = u64::try_from(self.heights[index_of(log)].len()).unwrap();
            for height in from..ledger.size(log) {
                let block = ledger.held(log, height).map_err(|error| format!("{log} {height} unreadable: {error}"))?;
                if let Some(before) = self.published.get(&(index_of(log), height))
                    && *before != block.hash()
                {
                    return Err(format!("{log} height {height} signed twice"));
                }
                self.heights[index_of(log)].push(block.hash());
                for (at, entry) in block.entry_refs().iter().zip(block.entries()) {
                    match entry {
                        HeldEntry::Plain(bytes) => {
                            let entry = Entry::from_bytes(bytes).map_err(text)?;
                            self.entry(&name_of(at), &entry, host)
                                .map_err(|why| format!("{log} {height}.{} kind {}: {why}", at.index, entry.kind))?;
                        }
                        HeldEntry::Sealed { key, .. } => {
                            self.erased.insert(*key);
                        }
                    }
                }
                grown = true;
            }
        }
        Ok(grown)
    }

    /// After a start: everything seen before is there still.
    ///
    /// # Errors
    /// What was lost or changed.
    pub(crate) fn compare(&self, ledger: &Ledger) -> Result<(), String> {
        for log in [Log::Trade, Log::Finance] {
            let seen = &self.heights[index_of(log)];
            let size = ledger.size(log);
            if size < u64::try_from(seen.len()).unwrap() {
                return Err(format!("acknowledged blocks are lost: {log} had {} blocks and has {size}", seen.len()));
            }
            for (height, hash) in (0..).zip(seen) {
                let found = ledger.held(log, height).map_err(|error| format!("{log} {height} unreadable: {error}"))?;
                if found.hash() != *hash {
                    return Err(format!("{log} height {height} signed twice: it changed over a start"));
                }
            }
        }
        Ok(())
    }

    /// An older copy was restored: everything is followed anew. Of what left the node that stands which the platform `holds`, in
    /// blocks by log; what nobody holds any more may be signed anew.
    pub(crate) fn begin_anew(&mut self, holds: [u64; 2]) {
        let (kinds, published) = (std::mem::take(&mut self.kinds), std::mem::take(&mut self.published));
        let promised = std::mem::take(&mut self.promised);
        *self = Self { kinds, published, promised, ..Self::default() };
        self.published.retain(|(log, height), _| holds.get(*log).is_some_and(|size| height < size));
    }

    /// A block leaves the node.
    ///
    /// # Errors
    /// When it is not the one of its height, now or ever.
    pub(crate) fn publish(&mut self, log: usize, height: u64, hash: Hash) -> Result<(), String> {
        let here = usize::try_from(height).ok().and_then(|height| self.heights.get(log)?.get(height));
        if here != Some(&hash) {
            return Err(format!("log {log} height {height} is sent and does not stand in the ledger"));
        }
        match self.published.insert((log, height), hash) {
            Some(before) if before != hash => Err(format!("log {log} height {height} signed twice")),
            _ => Ok(()),
        }
    }

    /// A checkpoint leaves the node.
    ///
    /// # Errors
    /// When another root was signed in that epoch for the same size.
    pub(crate) fn promise(&mut self, log: usize, (epoch, size): (u64, u64), root: Hash) -> Result<(), String> {
        match self.promised.insert((log, epoch, size), root) {
            Some(before) if before != root => Err(format!("two roots signed over {size} blocks of log {log}")),
            _ => Ok(()),
        }
    }

    /// Whether the deal of a contract was erased before it was seen here: then nothing of it can be recomputed.
    fn is_erased(&self, no: ContractNo) -> bool {
        self.contracts.get(&no).is_none_or(|told| told.deal.is_none()) && self.erased.contains(&key_of(Some(no)))
    }

    fn entry(&mut self, at: &EntryName, entry: &Entry, host: &Host) -> Result<(), String> {
        *self.kinds.entry(entry.kind).or_default() += 1;
        let body = entry.body.as_slice();
        match EntryKind::from_number(entry.kind) {
            Some(EntryKind::Offer) => {
                let signed = Signed::from_bytes(body).map_err(text)?;
                let offer: Offer = decode(signed.tbs(), "Offer").map_err(text)?;
                let told = self.contracts.entry(offer.contract_no).or_default();
                if told.offer.is_some() {
                    return Err("a second offer".to_owned());
                }
                told.offer = Some((offer, Octets(sm3(&[signed.tbs()]))));
            }
            Some(EntryKind::Deal) => {
                let deal: Deal = decode(body, "Deal").map_err(text)?;
                let told = self.contracts.entry(deal.contract_no).or_default();
                if told.deal.is_some() {
                    return Err("a second deal".to_owned());
                }
                told.in_force = Some(InForce::of(&deal));
                told.deal = Some((at.hash, deal));
            }
            Some(EntryKind::Notice) => {
                let signed = Signed::from_bytes(body).map_err(text)?;
                let notice: Notice = decode(signed.tbs(), "Notice").map_err(text)?;
                let told = self.contracts.entry(notice.contract_no).or_default();
                if let (Some(in_force), Some(renewal)) = (&mut told.in_force, &notice.renewal) {
                    *in_force = in_force.renewed(renewal).map_err(text)?;
                }
            }
            Some(EntryKind::Usage | EntryKind::Gap) => {
                let record: UsageRecord = decode(body, "UsageRecord").map_err(text)?;
                if self.is_erased(record.contract_no) {
                    return Ok(());
                }
                let truth_ns = host.truth_ns(record.contract_no);
                self.contracts.entry(record.contract_no).or_default().usage(at, record, truth_ns)?;
            }
            Some(EntryKind::Bill) => {
                let bill: Bill = decode(body, "Bill").map_err(text)?;
                if let Some(rests_on) = &bill.rests_on {
                    let place = usize::try_from(rests_on.height).map_err(text)?;
                    if rests_on.log != 0 || place >= self.heights[0].len() {
                        return Err(format!("bill {} rests on what is not there", bill.number));
                    }
                }
                if !self.is_erased(bill.contract_no) {
                    self.contracts.entry(bill.contract_no).or_default().bill(at, bill)?;
                }
            }
            Some(EntryKind::Payment) => {
                let payment: Payment = decode(body, "Payment").map_err(text)?;
                if self.is_erased(payment.contract_no) {
                    return Ok(());
                }
                let told = self.contracts.entry(payment.contract_no).or_default();
                told.paid += 1;
                if usize::try_from(told.paid).unwrap() > told.bills.len() {
                    return Err("more payments than bills".to_owned());
                }
            }
            Some(_) => {}
            None => return Err("an unknown kind".to_owned()),
        }
        Ok(())
    }
}

impl Told {
    fn usage(&mut self, at: &EntryName, record: UsageRecord, truth_ns: u128) -> Result<(), String> {
        let (deal, terms) = self.deal.as_ref().ok_or("usage without a deal")?;
        let (seq, previous, start) = match self.records.last() {
            None => (0, *deal, terms.contract_time),
            Some((name, last)) => (last.order_seq + 1, name.hash, last.end),
        };
        if (record.order_seq, record.previous, record.start) != (seq, previous, start) || record.end < record.start {
            return Err(format!("record {} does not continue the chain at {seq}", record.order_seq));
        }
        for reading in &record.readings {
            let before = self.records.last().and_then(|(_, last)| {
                let mut readings = last.readings.iter();
                readings.find(|r| (r.code, &r.qualifier) == (reading.code, &reading.qualifier))?.total
            });
            if reading.total < before {
                return Err(format!("a total fell from {before:?} to {:?}", reading.total));
            }
            if reading.code == Resource::used(Kind::Cpu).code() && reading.total.unwrap_or(0) > truth_ns {
                return Err(format!("{:?} ns of CPU recorded, {truth_ns} used", reading.total));
            }
        }
        self.records.push((at.clone(), record));
        Ok(())
    }

    fn bill(&mut self, at: &EntryName, bill: Bill) -> Result<(), String> {
        let ((deal, terms), (offer, offer_hash)) =
            self.deal.as_ref().zip(self.offer.as_ref()).ok_or("a bill without a deal")?;
        let before = match self.bills.last() {
            None => None,
            Some((hash, last)) => {
                let record = self.records.iter().find(|(_, record)| record.order_seq == last.last_seq);
                let record = record.ok_or("a bill's last record is gone")?.1.clone();
                Some(Before { hash: *hash, count: u32::try_from(self.bills.len()).unwrap(), last: record })
            }
        };
        let first = before.as_ref().map_or(0, |before| before.last.order_seq + 1);
        if bill.first_seq != first || self.bills.iter().any(|(_, earlier)| earlier.number == bill.number) {
            return Err(format!("bill {}: a second bill for record {}", bill.number, bill.first_seq));
        }
        let records: Vec<Recorded> =
            self.records.iter().filter(|(_, r)| (first..=bill.last_seq).contains(&r.order_seq)).cloned().collect();
        let billed = self.bills.iter().map(|(_, bill)| bill.total);
        let expected = Terms {
            contract_no: bill.contract_no,
            computing_pool_id: &terms.computing_pool_id,
            buyer: terms.buyer,
            deal: *deal,
            offer: *offer_hash,
            tariff: &offer.tariff,
            gap_rule: "free",
            left: self.in_force.map_or(Ok(None), |in_force| in_force.left(billed)).map_err(text)?,
            // A bill by period rests on what moved the contract last; which entry that is the caller has looked at.
            rests_on: bill.rests_on.clone(),
            prepaid: None,
        };
        if rate(&expected, before.as_ref(), &records).map_err(text)? != bill {
            return Err(format!("bill {} is not what follows from its records", bill.number));
        }
        self.bills.push((at.hash, bill));
        Ok(())
    }
}
