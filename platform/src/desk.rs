//! What is known of a node while the messages of a batch are judged, so that it is not read anew for every block, and what they add,
//! so that it is written at once. Where nobody else wrote (`seat.rs`) it is still known with the next batch. Here goes the ordinary
//! course alone: a block at the end of its log, of an epoch that goes on, whose entries ask for nothing that only the database knows.
//! Everything else is `blocks.rs`, after the desk was put away.

use std::collections::{BTreeMap, BTreeSet};

use hufu_ledger::{
    Entry, Log,
    merkle::{self, Frontier},
};
use hufu_trade::{
    bill::Bill,
    decode,
    entry::{EntryKind, ReceivedBill, Refused},
    octets::ContractNo,
    rules::CORRECT,
};
use sqlx::AnyConnection;

use crate::{
    error::Error,
    identity::Identity,
    judge::{
        Facts,
        block::{self, JudgedEntry, NextBlock, Opened, Outcome},
    },
    store::{
        bill, block as stored, contract, lost, node,
        receipt::{LISTED_MAX, Listed},
        rows::Rows,
        tree,
    },
};

/// Entries remembered by their hashes, and contracts, of one node; a desk with more is put away. From one batch to the next all desks
/// together keep no more of them and of usage records.
const KEPT_MAX: usize = 20_000;
/// Desks kept from one batch to the next.
const DESKS_KEPT_MAX: usize = 64;
/// Blocks of a desk for which its node's keys are counted: enough for a table of a key that comes again in one batch.
const COUNTED: u32 = 16;
/// Kinds that are judged by what the desk has. The others ask for what an operator recorded, or change what the node is.
const ORDINARY: [EntryKind; 13] = [
    EntryKind::Browse,
    EntryKind::Offer,
    EntryKind::Order,
    EntryKind::Deal,
    EntryKind::OrderStatus,
    EntryKind::Usage,
    EntryKind::Gap,
    EntryKind::Window,
    EntryKind::Bill,
    EntryKind::FinanceLink,
    EntryKind::Receipt,
    EntryKind::Allocation,
    EntryKind::SetAside,
];

/// One node's.
#[derive(Debug)]
struct Desk {
    facts: Facts,
    /// Sizes of the logs when it was laid out: what lies above is in `taken`.
    laid: [u64; 2],
    trees: [Frontier; 2],
    /// Contracts that were looked for.
    sought: BTreeSet<ContractNo>,
    /// Those that were not there: nothing of them was ever disputed.
    young: BTreeSet<ContractNo>,
    /// Those whose records since the last bill are all at hand.
    whole: BTreeSet<ContractNo>,
    turn: i64,
    /// Blocks judged so far, up to [`COUNTED`].
    counted: u32,
    waits: bool,
    /// Refused entries and payable bills of what was taken, by log and height.
    refused: Vec<(u8, u64, Refused)>,
    bills: Vec<(u64, ReceivedBill)>,
    rows: Rows,
}

/// The desks of one batch, by node.
#[derive(Debug, Default)]
pub(crate) struct Desks(BTreeMap<String, Desk>);

impl Desks {
    /// Writes what a node's messages added, for who looks for it in the database; what is known stays known.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(crate) async fn write(&mut self, db: &mut AnyConnection, pool: &str) -> Result<(), Error> {
        match self.0.get_mut(pool) {
            Some(desk) => desk.write(db).await,
            None => Ok(()),
        }
    }

    /// The same for all of them.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(crate) async fn write_all(&mut self, db: &mut AnyConnection) -> Result<(), Error> {
        for desk in self.0.values_mut() {
            desk.write(&mut *db).await?;
        }
        Ok(())
    }

    /// Writes what a node's messages added, and forgets what was known: the database has it all.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(crate) async fn put_away(&mut self, db: &mut AnyConnection, pool: &str) -> Result<(), Error> {
        match self.0.remove(pool) {
            Some(mut desk) => desk.write(db).await,
            None => Ok(()),
        }
    }

    /// What may be kept after everything was written and committed, for a batch that begins where this one ended.
    pub(crate) fn kept(mut self) -> Self {
        self.0.retain(|_, desk| !desk.waits);
        let weight: usize = self.0.values().map(Desk::weight).sum();
        if self.0.len() > DESKS_KEPT_MAX || weight > KEPT_MAX {
            return Self::default();
        }
        self.0.values_mut().for_each(Desk::begin_anew);
        self
    }

    /// A batch begins at this time.
    pub(crate) fn at(mut self, now_ns: i64) -> Self {
        self.0.values_mut().for_each(|desk| desk.facts.now_ns = now_ns);
        self
    }

    /// Whether a node has one: it is known, then.
    pub(crate) fn has(&self, pool: &str) -> bool {
        self.0.contains_key(pool)
    }

    /// A receipt was given over a log as the database has it.
    pub(crate) fn receipted(&mut self, pool: &str, log: Log) {
        let held = self.0.get_mut(pool).and_then(|desk| desk.facts.logs.get_mut(usize::from(log.number())));
        if let Some(held) = held {
            held.receipted = held.receipted.max(held.size);
        }
    }

    /// Takes a block in the ordinary course: false where it is not that, and the desk has been put away.
    ///
    /// # Errors
    /// [`Error`] from the database.
    pub(crate) async fn take(
        &mut self,
        db: &mut AnyConnection,
        identity: &Identity,
        now_ns: i64,
        (pool, log, height): (&str, Log, u64),
        (bytes, opened): (&[u8], &Opened),
    ) -> Result<bool, Error> {
        if !self.0.contains_key(pool) {
            let desk = Desk::lay(&mut *db, identity, now_ns, pool).await?;
            self.0.insert(pool.to_owned(), desk);
        }
        let Some(desk) = self.0.get_mut(pool) else { return Ok(false) };
        if desk.holds(&mut *db, (log, height), bytes).await? {
            return Ok(true);
        }
        let next = desk.judge(&mut *db, identity, (log, height), opened).await?;
        if let Some(next) = next
            && desk.facts.named.len() < KEPT_MAX
            && desk.sought.len() < KEPT_MAX
        {
            desk.append(&mut *db, (log, height), bytes, &next).await?;
            return Ok(true);
        }
        self.put_away(db, pool).await?;
        Ok(false)
    }

    /// The receipt over a log that has grown on the desk, listing from height `since` on; `None` where the database must be asked.
    ///
    /// # Errors
    /// [`Error`] when it cannot be signed.
    pub(crate) fn receipt(
        &mut self,
        identity: &Identity,
        (pool, log): (&str, u8),
        since: u64,
        now_ns: i64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let Some(desk) = self.0.get_mut(pool) else { return Ok(None) };
        let (Some(held), Some(laid), Some(tree)) = (
            desk.facts.logs.get_mut(usize::from(log)),
            desk.laid.get(usize::from(log)),
            desk.trees.get(usize::from(log)),
        ) else {
            return Ok(None);
        };
        // A receipt of this size may have been given before.
        if since < *laid || held.size <= held.receipted {
            return Ok(None);
        }
        let mut refused: Vec<(u64, &Refused)> = desk
            .refused
            .iter()
            .filter(|(of, at, _)| *of == log && *at >= since)
            .map(|(_, at, found)| (*at, found))
            .collect();
        let mut bills: Vec<&(u64, ReceivedBill)> =
            desk.bills.iter().filter(|(at, _)| log == 1 && *at >= since).collect();
        let most = usize::try_from(LISTED_MAX).unwrap_or(usize::MAX);
        refused.drain(..refused.len().saturating_sub(most));
        bills.drain(..bills.len().saturating_sub(most));
        let heights = refused.iter().map(|(at, _)| *at).chain(bills.iter().map(|(at, _)| *at));
        let listed = Listed {
            first: heights.min(),
            refused: refused.into_iter().map(|(_, found)| found.clone()).collect(),
            bills: bills.into_iter().map(|(_, found)| found.clone()).collect(),
        };
        let since = listed.first.unwrap_or(held.size);
        let bytes = crate::receipt::sealed(identity, (pool, log), (held.size, tree.root()), listed, now_ns)?;
        desk.rows.receipt((pool, log), (held.size, since), &bytes, now_ns);
        held.receipted = held.size;
        Ok(Some(bytes))
    }
}

impl Desk {
    async fn lay(db: &mut AnyConnection, identity: &Identity, now_ns: i64, pool: &str) -> Result<Self, Error> {
        let facts = node::facts(&mut *db, pool, identity, now_ns).await?;
        let laid = [0, 1].map(|log: usize| facts.logs.get(log).map_or(0, |held| held.size));
        let [trade, finance] = laid;
        let trees =
            [tree::frontier(&mut *db, pool, 0, trade).await?, tree::frontier(&mut *db, pool, 1, finance).await?];
        let turn = lost::last_turn(&mut *db, pool).await?;
        let waits = stored::waits(&mut *db, pool).await?;
        Ok(Self {
            facts,
            laid,
            trees,
            sought: BTreeSet::new(),
            young: BTreeSet::new(),
            whole: BTreeSet::new(),
            turn,
            counted: 0,
            waits,
            refused: Vec::new(),
            bills: Vec::new(),
            rows: Rows::default(),
        })
    }

    /// Writes what came since the last time.
    async fn write(&mut self, db: &mut AnyConnection) -> Result<(), Error> {
        std::mem::take(&mut self.rows).write(&mut *db, &self.facts.pool).await?;
        if self.waits {
            for (log, (held, laid)) in (0_u8..).zip(self.facts.logs.iter().zip(self.laid)) {
                if held.size > laid {
                    stored::wait_anew(&mut *db, (&self.facts.pool, log)).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether this very block is held: a broker keeps what a node repeats while its platform is away.
    async fn holds(&mut self, db: &mut AnyConnection, (log, height): (Log, u64), bytes: &[u8]) -> Result<bool, Error> {
        if self.facts.logs.get(usize::from(log.number())).is_none_or(|held| height >= held.size) {
            return Ok(false);
        }
        self.write(&mut *db).await?;
        Ok(stored::bytes(db, &self.facts.pool, (log.number(), height)).await? == bytes)
    }

    /// Entries and records that it holds.
    fn weight(&self) -> usize {
        let records: usize = self.facts.contracts.values().map(|contract| contract.records.len()).sum();
        self.facts.named.len().saturating_add(records)
    }

    /// As if it had just been laid out.
    fn begin_anew(&mut self) {
        self.laid = self.facts.logs.each_ref().map(|held| held.size);
        self.refused.clear();
        self.bills.clear();
    }

    /// Judges a block; `None` where it is not the ordinary course. What is known may be spoiled then.
    async fn judge(
        &mut self,
        db: &mut AnyConnection,
        identity: &Identity,
        (log, height): (Log, u64),
        opened: &Opened,
    ) -> Result<Option<Box<NextBlock>>, Error> {
        let Some(held) = self.facts.logs.get(usize::from(log.number())) else { return Ok(None) };
        if height != held.size || held.receipted > height || opened.block().header().epoch != held.epoch {
            return Ok(None);
        }
        let mut is_order = false;
        for kind in opened.kinds() {
            if kind.is_none_or(|kind| !ORDINARY.contains(&kind)) {
                return Ok(None);
            }
            is_order |= kind == Some(EntryKind::Order);
        }
        if self.counted < COUNTED {
            self.counted = self.counted.saturating_add(1);
            for known in self.facts.certificates.values_mut() {
                *known = identity.known.equip(known.clone());
            }
        }
        let needs = block::needs(opened);
        for (no, with_records) in &needs.contracts {
            if self.sought.insert(*no) {
                match contract::load(&mut *db, &self.facts.pool, *no, false).await? {
                    Some(found) => drop(self.facts.contracts.insert(*no, found)),
                    None => {
                        self.young.insert(*no);
                        self.whole.insert(*no);
                    }
                }
            }
            let known = self.facts.contracts.get_mut(no).filter(|_| *with_records && self.whole.insert(*no));
            if let Some(known) = known {
                contract::complete(&mut *db, &self.facts.pool, *no, known).await?;
            }
            let buyer = self.facts.contracts.get_mut(no).and_then(|contract| contract.buyer.as_mut());
            if let Some((_, key)) = buyer.filter(|_| is_order)
                && let Some(known) = identity.known.with_table(key)
            {
                *key = known;
            }
        }
        let named: Vec<_> = needs.named.into_iter().filter(|hash| !self.facts.named.contains_key(hash)).collect();
        node::named(&mut *db, &mut self.facts, &named).await?;
        Ok(match block::judge(&mut self.facts, log, opened) {
            Outcome::Next(next) if next.opens.is_none() => Some(next),
            _ => None,
        })
    }

    async fn append(
        &mut self,
        db: &mut AnyConnection,
        (log, height): (Log, u64),
        bytes: &[u8],
        next: &NextBlock,
    ) -> Result<(), Error> {
        let (pool, now_ns, log) = (self.facts.pool.clone(), self.facts.now_ns, log.number());
        self.rows.block((&pool, log, height), (&next.hash, &next.header, bytes), now_ns);
        if let Some(tree) = self.trees.get_mut(usize::from(log)) {
            for (level, completed) in (0_u32..).zip(tree.push(merkle::leaf(&next.hash))) {
                self.rows.subtree((&pool, log), (level, height >> level), &completed);
            }
        }
        for entry in &next.entries {
            self.append_entry(&mut *db, &pool, entry).await?;
        }
        crate::blocks::alarm_of_refusals(db, &self.facts, next).await
    }

    async fn append_entry(&mut self, db: &mut AnyConnection, pool: &str, entry: &JudgedEntry) -> Result<(), Error> {
        let moved = entry.state.is_some();
        self.turn = self.turn.saturating_add(i64::from(moved));
        self.rows.entry(pool, entry, moved.then_some(self.turn));
        let known = entry.contract.and_then(|no| self.facts.contracts.get(&no));
        if let (Some(no), Some(state)) = (entry.contract, &entry.state) {
            let buyer = known.and_then(|contract| contract.buyer.as_ref()).map(|(id, _)| *id);
            self.rows.state(no, state, buyer);
        }
        let may_be_disputed = entry.contract.is_some_and(|no| !self.young.contains(&no))
            && known.is_some_and(|contract| !contract.bills.is_empty());
        if let (Some(no), Some(state)) = (entry.contract.filter(|_| may_be_disputed), &entry.state)
            && self.facts.table(known).is_none_or(|table| table.row(state, CORRECT).is_none())
        {
            bill::settle(&mut *db, pool, no).await?;
        }
        let (log, height, hash) = (entry.name.log, entry.name.height, entry.name.hash);
        if let Some(refusal) = &entry.refused {
            self.refused.push((log, height, Refused { entry: hash, code: refusal.code.name().to_owned() }));
        }
        if EntryKind::from_number(entry.kind) != Some(EntryKind::Bill) {
            return stored::follow(&mut *db, &self.facts, entry).await;
        }
        if let Some(billed) = entry.contract.and_then(|no| self.facts.contracts.get_mut(&no)) {
            let unbilled = billed.unbilled();
            billed.records.retain(|(_, record)| record.order_seq >= unbilled);
        }
        if let Ok(found) = decode::<Bill>(&Entry::from_bytes(&entry.bytes)?.body, "Bill") {
            let state = if entry.refused.is_some() { bill::State::Refused } else { bill::State::Payable };
            self.rows.bill(pool, &entry.name, &found, state);
            if entry.refused.is_none() {
                self.bills.push((height, ReceivedBill { entry: hash, number: found.number }));
            }
        }
        Ok(())
    }
}
