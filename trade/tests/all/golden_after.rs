//! The golden files of what comes after a deal: a renewal, a dispute of the bill and the platform's word on it, two corrections,
//! the refund, and a bill that is cut at its ceiling.

use hufu_trade::{
    bill::Bill,
    correction::{Adjustment, Correction, Due, RefundPaid},
    encode,
    entry::{EntryKind, EntryName, octet_string},
    if2::{Answer, Envelope, Interface, PLATFORM, PaymentConfirm, PaymentState},
    money::Money,
    notice::{Notice, Renewal},
    octets::{ContractNo, rfc3339},
    quality::Delivered,
    rating::{Recorded, Terms, rate},
    rules::{DISPUTE, RENEW},
    statement::{ContractValue, Payment as Paying},
};

use crate::{
    golden::{Files, Outcome, keep},
    golden_parts::lone,
    parties::{MINUTE, POOL, Parties, Party, SECOND, T0},
};

/// What the rest of the trade has made so far.
pub(crate) struct Before<'a> {
    pub(crate) terms: Terms<'a>,
    pub(crate) records: Vec<Recorded>,
    pub(crate) bill: (EntryName, Bill),
    /// When the bill was paid, ns since 1970-01-01Z.
    pub(crate) paid_at: i64,
}

/// The records of the trade as a node writes them that tells the quality, too: time stalled is read in the first and the last,
/// time stolen in none.
fn with_quality(records: &[Recorded]) -> Vec<Recorded> {
    let mut records = records.to_vec();
    let why = || Some("the host is no virtual machine (主机不是虚拟机)".to_owned());
    for ((_, record), (delta, total)) in
        records.iter_mut().zip([(30_000_000_000, 30_000_000_000), (0, 30_000_000_000), (9_000_000_000, 39_000_000_000)])
    {
        record.delivered = Some(vec![
            Delivered { code: 1, delta: None, total: None, why: why() },
            Delivered { code: 2, delta: Some(delta), total: Some(total), why: None },
        ]);
    }
    records
}

/// Makes everything.
pub(crate) fn after(files: &mut Files, parties: &Parties, before: &Before<'_>) -> Outcome<()> {
    let Before { terms, records, bill: (bill_name, bill), paid_at } = before;
    let capped = rate(&Terms { left: Some("0.5".parse()?), ..terms.clone() }, None, records)?;
    files.der("Bill-capped", &capped)?;
    let by_period = rate(&Terms { rests_on: Some(bill_name.clone()), ..terms.clone() }, None, records)?;
    files.der("Bill-period", &by_period)?;
    let served = with_quality(records);
    let quality = rate(terms, None, &served)?;
    files.der("Bill-quality", &quality)?;
    files.der("QualityLine", quality.quality.iter().flatten().next().ok_or("no quality line")?)?;
    files.der("Bill-prepaid", &Bill { refund: Some("0.93".parse()?), ..capped })?;

    let renewal = Renewal {
        term_ns: 3_600_000_000_000,
        contract_value: ContractValue { payment: Paying::Postpaid, amount: "80".parse()? },
    };
    files.der("Renewal", &renewal)?;
    let plain = Notice {
        version: 1,
        contract_no: terms.contract_no,
        computing_pool_id: POOL.to_owned(),
        deal: terms.deal,
        act: RENEW.to_owned(),
        time: T0 + 100 * MINUTE,
        bill: None,
        renewal: None,
        why: String::new(),
    };
    let renew = Notice { renewal: Some(renewal), ..plain.clone() };
    notice(files, &parties.buyer, "renew", 20, &renew)?;
    let dispute = Notice {
        act: DISPUTE.to_owned(),
        time: T0 + 210 * MINUTE,
        bill: Some(bill_name.hash),
        why: "the node was slow for an hour (算力节点慢了一小时)".to_owned(),
        ..plain.clone()
    };
    let disputed = notice(files, &parties.buyer, "dispute", 21, &dispute)?;
    let uphold = Notice {
        act: "uphold".to_owned(),
        time: T0 + 220 * MINUTE,
        bill: Some(bill_name.hash),
        why: "the records were read again and agree".to_owned(),
        ..plain
    };
    notice(files, &parties.platform, "uphold", 22, &uphold)?;

    let due = Due::of(&bill.number, bill_name.hash, bill.total);
    let first = adjustment("", "goodwill (协商减免)", "-0.07")?;
    files.der("Adjustment", &first)?;
    let due = corrected(files, "", 2, (bill.contract_no, &disputed, T0 + 230 * MINUTE), &due, vec![first])?;
    let more = vec![
        adjustment("memory", "memory was not what was ordered", "-0.03333333")?,
        adjustment("", "rounded down to the fen", "-0.00666667")?,
    ];
    let due = corrected(files, "-again", 3, (bill.contract_no, &disputed, T0 + 240 * MINUTE), &due, more)?;
    refunded(files, parties, (bill, *paid_at), &due, &disputed)
}

/// A signed notice and its entry.
fn notice(files: &mut Files, by: &Party, name: &str, height: u64, notice: &Notice) -> Outcome<EntryName> {
    notice.check()?;
    let body = files.signed(&format!("Notice-{name}"), &by.seal(encode(notice, "Notice")?)?)?;
    lone(files, &format!("notice-{name}"), EntryKind::Notice, height, &body)
}

fn adjustment(resource: &str, why: &str, amount: &str) -> Outcome<Adjustment> {
    Ok(Adjustment { resource: resource.to_owned(), why: why.to_owned(), amount: amount.parse()? })
}

/// A correction of what is due, and its entry in the finance log; gives what is due after it.
fn corrected(
    files: &mut Files,
    which: &str,
    height: u64,
    (contract_no, rests_on, time): (ContractNo, &EntryName, i64),
    due: &Due,
    adjustments: Vec<Adjustment>,
) -> Outcome<Due> {
    let total = adjustments.iter().map(|line| line.amount).try_fold(due.total, Money::plus)?;
    let correction = Correction {
        version: 1,
        number: format!("{}-c{}", due.number, due.count + 1),
        contract_no,
        computing_pool_id: POOL.to_owned(),
        bill: due.bill,
        previous: due.last,
        rests_on: rests_on.clone(),
        time,
        before: due.total,
        adjustments,
        total,
    };
    let body = files.der(&format!("Correction{which}"), &correction)?;
    let name = lone(files, &format!("correction{which}"), EntryKind::Correction, height, &body)?;
    Ok(due.corrected(name.hash, &correction)?)
}

/// What was paid above what is due goes back, and the platform says so in answer to the node's question.
fn refunded(
    files: &mut Files,
    parties: &Parties,
    (bill, paid_at): (&Bill, i64),
    due: &Due,
    rests_on: &EntryName,
) -> Outcome<()> {
    let Parties { node, platform, .. } = parties;
    let (asks, back_at) = (Interface::PaymentConfirm, T0 + 300 * MINUTE);
    let amount = bill.total.minus(due.total)?;
    let question = PaymentConfirm { bill_no: bill.number.clone() };
    let at = back_at + MINUTE;
    let (id, _) = Envelope::seal(asks, POOL, PLATFORM, at, None, Some(at), &question, &node.key, node.id())?;
    let answer = Answer::Ok(PaymentState {
        bill_no: bill.number.clone(),
        state: "refunded".to_owned(),
        amount_cny: Some(bill.total.to_string()),
        paid_at: Some(rfc3339(paid_at)),
        refund_cny: None,
        refunded_cny: Some(amount.to_string()),
        refunded_at: Some(rfc3339(back_at)),
        parent_bill: None,
    });
    let at = at + SECOND;
    let (_, answer) = Envelope::seal(asks, PLATFORM, POOL, at, Some(&id), None, &answer, &platform.key, platform.id())?;
    keep(files, "envelope-refund", &answer, platform)?;
    let refund = RefundPaid {
        version: 1,
        contract_no: bill.contract_no,
        number: bill.number.clone(),
        bill: due.bill,
        correction: due.last.ok_or("nothing was corrected")?,
        amount,
        paid_at: back_at,
        rests_on: rests_on.clone(),
        confirmation: octet_string(&answer, "RefundPaid")?,
    };
    let body = files.der("RefundPaid", &refund)?;
    lone(files, "refund-paid", EntryKind::RefundPaid, 4, &body)?;
    Ok(())
}
