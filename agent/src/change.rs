//! What moves a contract after its deal: notices of the buyer and the platform, corrections by the site, a bill that the
//! platform refused. Pure, like `act.rs`; state changes only when the entries are applied (`contract.rs`).

use hufu_gm::{Signed, sm3::Hash, sm3::sm3};
use hufu_ledger::{Log, NewBlock};
use hufu_trade::{
    contract::{Facts, next, replay},
    correction::{Adjustment, Correction},
    decode, encode,
    entry::{EntryKind, Receipt},
    if2::{OrderChange, Problem},
    money::Money,
    notice::Notice,
    octets::{ContractNo, Digest, Octets},
    rules::{CONTEST, CORRECT},
};

use crate::{
    act::{self, Plan, malformed, problem},
    batch::{Batch, Draft},
    books::{self, BookError},
    contract::{Billed, Contract},
    node::Core,
};

/// Judges a notice and turns it into its entry; gives SM3 of what was signed, by which it is found again.
///
/// # Errors
/// The [`Problem`] for whoever signed it.
pub(crate) fn notice(core: &Core, now_ns: i64, request: &OrderChange) -> Result<(ContractNo, Hash, Plan), Problem> {
    let signed = Signed::from_bytes(&request.notice.0).map_err(malformed)?;
    let notice: Notice = decode(signed.tbs(), "Notice").map_err(malformed)?;
    notice.check().map_err(malformed)?;
    if notice.computing_pool_id != core.identity.pool {
        let here = &core.identity.pool;
        return Err(malformed(format!("computingPoolId {} where this node is {here}", notice.computing_pool_id)));
    }
    let (no, hash) = (notice.contract_no, sm3(&[signed.tbs()]));
    let contract = core.contract(no)?;
    if contract.notices.iter().any(|(known, _)| *known == hash) {
        return Ok((no, hash, Plan::Again));
    }
    if now_ns.abs_diff(notice.time) > act::FRESH_NS.unsigned_abs() {
        return Err(act::stale());
    }
    let Some((deal, _)) = &contract.deal else {
        return Err(problem("state", None, "there is no deal yet", "尚无交易"));
    };
    if notice.deal != deal.hash {
        return Err(malformed("deal is not the entry hash of this contract's deal"));
    }
    if notice.bill.is_some_and(|bill| contract.bills.iter().all(|billed| billed.name.hash != bill)) {
        return Err(problem("unknown", Some("bill"), "this contract has no such bill", "该合约没有此账单"));
    }
    let facts = facts(core, contract, &notice, &signed)?;
    let Some((.., table)) = core.book.table_of(Some(contract)) else { return Err(act::own_fault("no rule table")) };
    let step = replay(table, &contract.state, &notice.act, EntryKind::Notice, facts).map_err(|r| act::refused(&r))?;
    let mut batch = core.batch();
    if !table.is_metered(&contract.state) && table.is_metered(step.next) {
        books::suspended(core, &mut batch, contract, now_ns).map_err(act::own_fault)?;
    }
    let draft = (EntryKind::Notice, Some(no), request.notice.0.clone());
    batch.entry(Log::Trade, draft).map_err(act::own_fault)?;
    Ok((no, hash, Plan::Write(batch.finish())))
}

/// Who signed it, and whether a renewal stays within the offer.
fn facts(core: &Core, contract: &Contract, notice: &Notice, signed: &Signed) -> Result<Facts, Problem> {
    let platform = &core.identity.platform;
    let by = |id: Hash, key| signed.cert_id() == id && signed.verify(key).is_valid();
    let buyer_signed = contract.buyer_key.as_ref().is_some_and(|key| by(contract.buyer.0, key));
    let platform_signed = by(platform.id(), platform.public_key());
    if !buyer_signed && !platform_signed {
        let en = "the notice is signed neither by the contract's buyer nor by this node's platform";
        return Err(problem("signature", None, en, "通知既不是该合约买方、也不是本节点的平台签署的"));
    }
    let within_offer = notice.renewal.is_none_or(|renewal| {
        let terms = contract.in_force.zip(contract.offer.as_ref()).zip(contract.deal.as_ref());
        terms.is_some_and(|((in_force, (_, offer, _)), (_, deal))| in_force.takes(&renewal, (offer, deal), notice.time))
    });
    Ok(Facts { buyer_signed, platform_signed, within_offer, ..core.facts(contract, notice.time) })
}

/// What the site takes off a bill in dispute: the correction with the trade log's entry naming it back, and what is due then.
///
/// # Errors
/// The [`Problem`] for the site.
pub(crate) fn correct(
    core: &Core,
    now_ns: i64,
    (bill_no, adjustments): (&str, Vec<Adjustment>),
) -> Result<(Correction, Vec<NewBlock>), Problem> {
    let found = core.book.contracts.values().find_map(|contract| {
        let billed = contract.bills.iter().find(|billed| billed.bill.number == bill_no)?;
        Some((contract, billed))
    });
    let Some((contract, billed)) = found else {
        let (en, zh) = (format!("no bill {bill_no} here"), format!("本节点没有账单 {bill_no}"));
        return Err(problem("unknown", Some("bill_no"), en, zh));
    };
    let Some((.., table)) = core.book.table_of(Some(contract)) else { return Err(act::own_fault("no rule table")) };
    let facts = core.facts(contract, now_ns);
    next(table, &contract.state, CORRECT, facts).map_err(|refusal| act::refused(&refusal))?;
    let correction = correction(core, (contract, billed), adjustments, now_ns)?;
    billed.due.corrected(Octets([0; 32]), &correction).map_err(|error| {
        problem(
            "amount",
            Some("adjustments"),
            format!("the correction is wrong: {error}"),
            format!("更正有误：{error}"),
        )
    })?;
    let mut batch = core.batch();
    let body = encode(&correction, "Correction").map_err(act::own_fault)?;
    let name = batch.entry(Log::Finance, (EntryKind::Correction, Some(contract.no), body)).map_err(act::own_fault)?;
    books::link(&mut batch, contract.no, EntryKind::Correction, name).map_err(act::own_fault)?;
    Ok((correction, batch.finish()))
}

fn correction(
    core: &Core,
    (contract, billed): (&Contract, &Billed),
    adjustments: Vec<Adjustment>,
    now_ns: i64,
) -> Result<Correction, Problem> {
    let due = &billed.due;
    let total = adjustments.iter().map(|line| line.amount).try_fold(due.total, Money::plus).map_err(malformed)?;
    let rests_on = contract.moved.clone().ok_or_else(|| act::own_fault("nothing moved the contract"))?;
    Ok(Correction {
        version: 1,
        number: format!("{}-c{}", due.number, u64::from(due.count) + 1),
        contract_no: contract.no,
        computing_pool_id: core.identity.pool.clone(),
        bill: due.bill,
        previous: due.last,
        rests_on,
        time: now_ns,
        before: due.total,
        adjustments,
        total,
    })
}

/// The receipts that waited, and for each contract whose bill the newest refuses the act by which the node takes note of it.
///
/// # Errors
/// [`BookError`].
pub(crate) fn receipts(
    core: &Core,
    now_ns: i64,
    newest: &Receipt,
    waiting: Vec<Draft>,
) -> Result<Vec<NewBlock>, BookError> {
    let mut batch = Batch::new(&core.identity.salt_key, core.sizes);
    batch.block(Log::Trade, waiting)?;
    let refused: Vec<Digest> = newest.refused.iter().map(|refused| refused.entry).collect();
    for contract in core.book.contracts.values() {
        let Some(billed) = contract.bills.iter().find(|billed| refused.contains(&billed.newest())) else { continue };
        let table = core.book.table_of(Some(contract));
        if table.is_none_or(|(.., table)| table.row(&contract.state, CONTEST).is_none()) {
            continue;
        }
        let why = format!("the platform refuses bill {}", billed.bill.number);
        let status = core.status_entry(contract, CONTEST, now_ns, &why)?;
        let body = encode(&status, "OrderStatus")?;
        batch.entry(Log::Trade, (EntryKind::OrderStatus, Some(contract.no), body))?;
    }
    Ok(batch.finish())
}
