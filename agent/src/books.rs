//! From metering's drafts to signed records, and from records to the bill. Pure. Measuring is `metering`, pricing is
//! `trade::rating`; here totals become deltas, sequence numbers and hashes.

use hufu_ledger::{Log, NewBlock};
use hufu_metering::{OrderDraft, WindowDraft};
use hufu_trade::{
    Error,
    contract::{Facts, Refusal, next},
    encode,
    entry::{EntryKind, EntryName, FinanceLink, OrderStatus},
    octets::{ContractNo, Octets},
    prepaid::Prepaid,
    rating::{Before, Recorded, Terms, rate},
    resource::Resource,
    rules::{BILL, BILL_PERIOD},
    usage::{MeterIdentity, Reading, Reason, Status, TimeQuality, UsageRecord, Window},
};

use crate::{
    batch::{Batch, Draft},
    contract::Contract,
    node::Core,
    served,
};

/// Greatest number of entries in one block, the window entry not counted: one signature serves them all.
const RECORDS_PER_BLOCK: usize = 63;
/// Greatest bytes of entry bodies in one block; the ledger's own limit is 40 KiB of whole entries.
const BODY_BYTES_PER_BLOCK: usize = 36 * 1024;

/// The readings of a record: deltas against the record before. The meter counts from `base`, the totals when it began. A total
/// never falls; once known it stays known.
fn readings(draft: &OrderDraft, base: &[Reading], last: Option<&UsageRecord>) -> Result<Vec<Reading>, Error> {
    let mut readings = Vec::with_capacity(draft.totals.len());
    for total in &draft.totals {
        let (code, qualifier) = (total.resource.code(), total.resource.qualifier.clone());
        let known = |readings: &[Reading]| {
            let found = readings.iter().find(|reading| reading.code == code && reading.qualifier == qualifier);
            found.and_then(|reading| reading.total)
        };
        let (began, before) = (known(base).unwrap_or(0), last.and_then(|record| known(&record.readings)));
        let mut reading = Reading { code, qualifier, status: total.status, delta: None, total: before, why: None };
        reading.why = total.why.clone();
        match total.total {
            Some(now) if total.status != Status::Missing => {
                let now = now.checked_add(began).ok_or(Error::Overflow { what: "total of a reading" })?;
                let before = before.unwrap_or(0);
                if now < before {
                    reading.status = Status::Estimated;
                    reading.why = Some("the meter's state was older than the record before".to_owned());
                }
                let now = if draft.reason.is_gap() { before } else { now.max(before) };
                reading.delta = Some(now - before);
                reading.total = Some(now);
            }
            _ => reading.status = Status::Missing,
        }
        readings.push(reading);
    }
    readings.sort_by(|a, b| (a.code, &a.qualifier).cmp(&(b.code, &b.qualifier)));
    Ok(readings)
}

/// The next record of an order's chain.
fn record(
    contract: &Contract,
    last: Option<&(EntryName, UsageRecord)>,
    draft: &OrderDraft,
    quality: TimeQuality,
) -> Result<UsageRecord, Error> {
    let missing_deal =
        || Error::Field { what: "UsageRecord", field: "previous", why: "the order has no deal".to_owned() };
    let (deal_name, deal) = contract.deal.as_ref().ok_or_else(missing_deal)?;
    let (order_seq, previous, start) = match last {
        Some((name, record)) => (record.order_seq + 1, name.hash, record.end),
        None => (0, deal_name.hash, deal.contract_time),
    };
    let identity = MeterIdentity { ..draft.identity.clone() };
    let meter = identity.id()?;
    let before = last.map(|(_, record)| record);
    let changed = before.is_none_or(|record| record.meter != meter);
    // What was never read is told by the first record, by one of another meter, and by the last.
    let tells_all = changed || draft.reason == Reason::End;
    let reason = if order_seq == 0 && draft.reason == Reason::Continue { Reason::Begin } else { draft.reason };
    Ok(UsageRecord {
        version: 1,
        contract_no: contract.no,
        order_seq,
        previous,
        start,
        end: draft.end_real_ns.max(start),
        reason,
        elapsed_ns: draft.elapsed_ns,
        quality,
        meter,
        identity: changed.then_some(identity),
        why: draft.why.clone(),
        readings: readings(draft, &contract.base, before)?,
        delivered: served::delivered(draft, &contract.base_delivered, before, tells_all),
    })
}

/// A body too large for the ledger or a structure that does not fit DER: our own fault, the daemon stops.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BookError {
    #[error(transparent)]
    Trade(#[from] Error),
    #[error(transparent)]
    Ledger(#[from] hufu_ledger::Error),
}

/// The newest record of each order.
type Lasts = std::collections::BTreeMap<ContractNo, (EntryName, UsageRecord)>;

/// Adds the records of `drafts` to a batch: chained, in blocks of at most 64 entries, `head` first.
fn chain(
    core: &Core,
    batch: &mut Batch<'_>,
    head: Vec<Draft>,
    drafts: &[OrderDraft],
    quality: TimeQuality,
) -> Result<Lasts, BookError> {
    let mut lasts = Lasts::new();
    let mut queue: std::collections::VecDeque<&OrderDraft> = drafts.iter().collect();
    let mut head = Some(head);
    while !queue.is_empty() || head.as_ref().is_some_and(|head| !head.is_empty()) {
        let mut block = head.take().unwrap_or_default();
        let (mut bytes, mut records) = (0, Vec::new());
        // An order's next record names the hash of the one before, so one block holds at most one record of an order.
        let mut later = std::collections::VecDeque::new();
        while let Some(draft) = queue.pop_front() {
            let no = Octets(draft.order);
            let Some(contract) = core.book.contracts.get(&no) else { continue };
            let full = records.len() >= RECORDS_PER_BLOCK || bytes > BODY_BYTES_PER_BLOCK;
            if full || records.iter().any(|(other, _): &(ContractNo, UsageRecord)| *other == no) {
                later.push_back(draft);
                continue;
            }
            let record = record(contract, lasts.get(&no).or(contract.last.as_ref()), draft, quality)?;
            let kind = if record.reason.is_gap() { EntryKind::Gap } else { EntryKind::Usage };
            let body = encode(&record, "UsageRecord")?;
            bytes += body.len() + 64;
            block.push((kind, Some(no), body));
            records.push((no, record));
        }
        let skip = block.len() - records.len();
        if !block.is_empty() {
            let names = batch.block(Log::Trade, block)?;
            lasts.extend(names.into_iter().skip(skip).zip(records).map(|(name, (no, record))| (no, (name, record))));
        }
        queue = later;
    }
    Ok(lasts)
}

/// The entries of a closed window: the window entry first, then one or more records an order, then receipts that waited.
///
/// # Errors
/// [`BookError`].
pub(crate) fn window(
    core: &Core,
    draft: &WindowDraft,
    quality: TimeQuality,
    receipts: Vec<Draft>,
) -> Result<Vec<NewBlock>, BookError> {
    let orders = u32::try_from(draft.orders.len()).unwrap_or(u32::MAX);
    let window = Window {
        version: 1,
        start: draft.start_real_ns,
        end: draft.end_real_ns,
        elapsed_ns: draft.elapsed_ns,
        samples_due: draft.samples_due,
        samples_taken: draft.samples_taken,
        boot_id: Octets(draft.boot_id),
        quality,
        orders,
        totals: draft.totals.clone(),
    };
    let mut batch = core.batch();
    let head = vec![(EntryKind::Window, None, encode(&window, "Window")?)];
    chain(core, &mut batch, head, &draft.orders, quality)?;
    if !receipts.is_empty() {
        batch.block(Log::Trade, receipts)?;
    }
    Ok(batch.finish())
}

/// The final records of an order and the act, with its reason, that ends its metering. Where there is none any more, because
/// a renewal came during the final read, only the records: it is metered anew.
///
/// # Errors
/// [`BookError`].
pub(crate) fn finish(
    core: &Core,
    contract: &Contract,
    drafts: &[OrderDraft],
    quality: TimeQuality,
    (now_ns, act): (i64, Option<(&str, &str)>),
) -> Result<Vec<NewBlock>, BookError> {
    let mut batch = core.batch();
    let lasts = chain(core, &mut batch, Vec::new(), drafts, quality)?;
    match act {
        Some((act, why)) => {
            let status = core.status_entry(contract, act, now_ns, why)?;
            batch.entry(Log::Trade, (EntryKind::OrderStatus, Some(contract.no), encode(&status, "OrderStatus")?))?;
        }
        None => carry(core, &mut batch, contract, lasts.get(&contract.no), now_ns)?,
    }
    Ok(batch.finish())
}

/// The record of the time an order was suspended, written when it goes on.
///
/// # Errors
/// [`BookError`].
pub(crate) fn suspended(core: &Core, batch: &mut Batch<'_>, contract: &Contract, now_ns: i64) -> Result<(), BookError> {
    carry(core, batch, contract, contract.last.as_ref(), now_ns)
}

/// A record that carries all totals of the one before over time that is not metered; the meter counts from them anew.
fn carry(
    core: &Core,
    batch: &mut Batch<'_>,
    contract: &Contract,
    last: Option<&(EntryName, UsageRecord)>,
    now_ns: i64,
) -> Result<(), BookError> {
    let Some((name, last)) = last else { return Ok(()) };
    // What is billed up to a boundary stays billed, also where the clock was set back.
    let end = now_ns.max(last.end).max(contract.until.unwrap_or(i64::MIN));
    let unused = |reading: &Reading| Reading {
        status: if reading.total.is_some() { Status::Measured } else { Status::Missing },
        delta: reading.total.map(|_| 0),
        why: reading.why.clone().filter(|_| reading.total.is_none()),
        ..reading.clone()
    };
    let record = UsageRecord {
        order_seq: last.order_seq + 1,
        previous: name.hash,
        start: last.end,
        end,
        reason: Reason::Suspended,
        elapsed_ns: end.abs_diff(last.end),
        quality: core.quality,
        identity: None,
        why: Some("the order was suspended".to_owned()),
        readings: last.readings.iter().map(unused).collect(),
        delivered: served::carried(last),
        ..last.clone()
    };
    batch.entry(Log::Trade, (EntryKind::Usage, Some(contract.no), encode(&record, "UsageRecord")?))?;
    Ok(())
}

/// The last record of an order that was never metered: one gap over its whole service.
pub(crate) fn unmetered(contract: &Contract, metered: &[Resource], end_ns: i64, boot_id: [u8; 16]) -> OrderDraft {
    let start = contract.last.as_ref().map(|(_, record)| record.end);
    let start = start.or(contract.deal.as_ref().map(|(_, deal)| deal.contract_time)).unwrap_or(end_ns);
    let missing = |resource: &Resource| hufu_metering::Total {
        resource: resource.clone(),
        status: Status::Missing,
        total: None,
        why: Some("the order was not metered".to_owned()),
    };
    OrderDraft {
        order: contract.no.0,
        reason: Reason::Gap,
        start_real_ns: start,
        end_real_ns: end_ns,
        elapsed_ns: u64::try_from(end_ns.saturating_sub(start)).unwrap_or(0),
        measured_ns: 0,
        unsampled_ns: u64::try_from(end_ns.saturating_sub(start)).unwrap_or(0),
        identity: MeterIdentity {
            boot_id: Octets(boot_id),
            source: "none".to_owned(),
            path: String::new(),
            instance: 0,
            resolved: None,
            attached: None,
        },
        totals: metered.iter().map(missing).collect(),
        delivered: Vec::new(),
        why: Some("the order was not metered: its place could not be provided".to_owned()),
        lost_cpu_ns_max: None,
        samples_due: 0,
        samples_taken: 0,
    }
}

/// The bill over those of a contract's `records` that are not billed yet, with the trade log's entry naming it back. `end` is the
/// end of the period that it is for; `None`: service has ended.
///
/// # Errors
/// [`BookError`].
pub(crate) fn bill(
    core: &Core,
    contract: &Contract,
    records: &[Recorded],
    end: Option<i64>,
) -> Result<Vec<NewBlock>, BookError> {
    let lacks =
        |what: &'static str| Error::Field { what: "Bill", field: "offer", why: format!("the contract has no {what}") };
    let (_, offer, offer_hash) = contract.offer.as_ref().ok_or_else(|| lacks("offer"))?;
    let (deal, agreed) = contract.deal.as_ref().ok_or_else(|| lacks("deal"))?;
    let (.., table) = core.book.table_of(Some(contract)).ok_or_else(|| lacks("rule table"))?;
    let period_end = records.last().map_or(contract.since, |(_, record)| record.end);
    let refused = |refusal: Refusal| Error::Field { what: "Bill", field: "contractNo", why: refusal.to_string() };
    let act = if end.is_some() { BILL_PERIOD } else { BILL };
    next(table, &contract.state, act, core.facts(contract, period_end)).map_err(refused)?;
    let before = match contract.bills.last() {
        None => None,
        Some(billed) => {
            let last = records.iter().find(|(_, record)| record.order_seq == billed.bill.last_seq);
            let last = last.ok_or_else(|| lacks("record of its last bill"))?.1.clone();
            let count = u32::try_from(contract.bills.len()).unwrap_or(u32::MAX);
            Some(Before { hash: billed.name.hash, count, last })
        }
    };
    let first = before.as_ref().map_or(0, |before| before.last.order_seq + 1);
    // They are in order, and so are the ends of their windows.
    let from = records.partition_point(|(_, record)| record.order_seq < first);
    let until = records.partition_point(|(_, record)| end.is_none_or(|boundary| record.end <= boundary));
    let fresh = records.get(from..until).unwrap_or_default();
    let in_force = contract.in_force.ok_or_else(|| lacks("deal"))?;
    let prepaid = Prepaid::of(offer, agreed, &in_force, table.parameters.proration)?;
    let terms = Terms {
        contract_no: contract.no,
        computing_pool_id: &core.identity.pool,
        buyer: contract.buyer,
        deal: deal.hash,
        offer: *offer_hash,
        tariff: &offer.tariff,
        gap_rule: &table.parameters.gap_rating,
        left: contract.left()?,
        rests_on: contract.moved.clone().filter(|_| end.is_some()),
        prepaid: prepaid.as_ref(),
    };
    let bill = rate(&terms, before.as_ref(), fresh)?;
    let mut batch = core.batch();
    let name = batch.entry(Log::Finance, (EntryKind::Bill, Some(contract.no), encode(&bill, "Bill")?))?;
    link(&mut batch, contract.no, EntryKind::Bill, name)?;
    Ok(batch.finish())
}

/// A finance entry that the platform confirmed, with the trade log's entry naming it back.
///
/// # Errors
/// [`BookError`].
pub(crate) fn confirmed(
    batch: &mut Batch<'_>,
    no: ContractNo,
    kind: EntryKind,
    body: Vec<u8>,
) -> Result<(), BookError> {
    let name = batch.entry(Log::Finance, (kind, Some(no), body))?;
    link(batch, no, kind, name)
}

/// The trade log's entry that names a finance entry back.
///
/// # Errors
/// [`BookError`].
pub(crate) fn link(
    batch: &mut Batch<'_>,
    no: ContractNo,
    kind: EntryKind,
    finance: EntryName,
) -> Result<(), BookError> {
    let link = FinanceLink { contract_no: no, kind: kind.number(), finance };
    batch.entry(Log::Trade, (EntryKind::FinanceLink, Some(no), encode(&link, "FinanceLink")?))?;
    Ok(())
}

impl Core {
    /// What holds for any act of a contract at a time; what only the act's own content shows is for the caller to add.
    pub(crate) fn facts(&self, contract: &Contract, act_ns: i64) -> Facts {
        let table = self.book.table_of(Some(contract));
        let holds = table.is_some_and(|(.., table)| table.is_holding(&contract.state));
        let product = contract.offer.as_ref().and_then(|(_, offer, _)| self.shop.product(&offer.product_id));
        let free = || product.and_then(|product| self.shop.free_for(&self.book, product, contract.buyer));
        Facts {
            node_signed: true,
            capacity_free: holds || free().is_some_and(|free| contract.quantity() <= free),
            within_offer: contract.deal.is_some(),
            window_open: contract.in_force.is_none_or(|in_force| act_ns < in_force.service_end),
            ..Facts::default()
        }
    }

    /// The entry of an act that leaves only a state change.
    ///
    /// # Errors
    /// [`Error::Field`] when the table refuses the act.
    pub(crate) fn status_entry(
        &self,
        contract: &Contract,
        act: &str,
        now_ns: i64,
        why: &str,
    ) -> Result<OrderStatus, Error> {
        let wrong = |why: String| Error::Field { what: "OrderStatus", field: "act", why };
        let (.., table) = self.book.table_of(Some(contract)).ok_or_else(|| wrong("no rule table".to_owned()))?;
        let facts = self.facts(contract, now_ns);
        let step = next(table, &contract.state, act, facts).map_err(|r| wrong(r.to_string()))?;
        Ok(OrderStatus {
            version: 1,
            contract_no: contract.no,
            act: act.to_owned(),
            from: contract.state.clone(),
            to: step.next.to_owned(),
            time: now_ns,
            why: why.to_owned(),
        })
    }
}
