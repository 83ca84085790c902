//! Prepaid contracts: one bill for what was held, the rest of the price goes back; and what a pack says of another price, another
//! refund, another proration.

use hufu_trade::{
    money::Money,
    rules,
    statement::{ContractValue, Payment, Statement},
    usage::{Reading, Reason, Status, UsageRecord},
};

use crate::{
    story::{Cause, check_each},
    synthetic::{By, Plan, Step, correct, notice, pay, refund},
};

/// The term: an hour at 0.30 CNY.
const MINUTES: u64 = 60;
const LEFT: [&str; 3] = ["leave", "leaving", "ended"];

/// One core was held for a minute.
fn held(record: &mut UsageRecord) {
    if record.readings.iter().any(|reading| reading.code == 32) {
        return;
    }
    let (minute, count) = (60_000_000_000, u128::from(record.order_seq) + 1);
    let total = Some(minute * count);
    record.readings.push(Reading {
        code: 32,
        qualifier: None,
        status: Status::Measured,
        delta: Some(minute),
        total,
        why: None,
    });
}

fn price(order: &mut Statement, fen: i128) {
    order.contract_value = Some(ContractValue { payment: Payment::Prepaid, amount: Money(fen * 1_000_000) });
}

/// Given up after so many minutes of an hour.
fn given_up(records: u64) -> Plan {
    Plan {
        records,
        minutes: Some(MINUTES),
        reserved: true,
        record: held,
        order: |order| price(order, 30),
        service: vec![notice("terminate", By::Buyer)],
        ends: vec![LEFT],
        ..Plan::default()
    }
}

fn by(proration: &str, plan: Plan) -> Plan {
    let text = "proration = \"exact\"";
    assert!(rules::DEFAULT.contains(text));
    Plan { rules: rules::DEFAULT.replace(text, &format!("proration = {proration:?}")), ..plan }
}

fn right() -> Vec<Cause> {
    let fine = |name, plan| (name, plan, "pppp", "recomputed");
    vec![
        fine("prepaid and given up", given_up(10)),
        fine("to its end", Plan { service: vec![], ends: vec![["expire", "serving", "ended"]], ..given_up(60) }),
        fine("begun hours", by("hour", given_up(10))),
        fine("begun days", by("day", given_up(10))),
        fine("the term", by("term", given_up(1))),
        fine("at the dearer tier", by("exact", given_up(6))),
        fine("paid, the rest gone back", Plan { after: vec![pay(), Step::Score], ..given_up(10) }),
        (
            "corrected, then paid",
            Plan { after: vec![notice("dispute", By::Buyer), correct(1), pay()], ..given_up(10) },
            "pfpw",
            "AmountMatches",
        ),
        (
            "corrected, and named so",
            Plan {
                after: vec![
                    notice("dispute", By::Buyer),
                    correct(1),
                    Step::Pay(By::Platform, |said| said.refund_cny = Some("0.26".to_owned()), |_| {}),
                ],
                ..given_up(10)
            },
            "pppw",
            "are due",
        ),
        (
            "refunded after a correction",
            Plan { after: vec![pay(), notice("dispute", By::Buyer), correct(1), refund()], ..given_up(10) },
            "pppw",
            "are due",
        ),
        fine(
            "renewed at the price of both terms",
            Plan {
                service: vec![
                    Step::Notice("renew", By::Buyer, |notice| {
                        if let Some(renewal) = &mut notice.renewal {
                            renewal.term_ns = 3_600_000_000_000;
                            renewal.contract_value.amount = Money(60_000_000);
                        }
                    }),
                    notice("terminate", By::Buyer),
                ],
                ..given_up(10)
            },
        ),
    ]
}

fn wrong() -> Vec<Cause> {
    let bill = |change| Plan { bill: change, ..given_up(10) };
    let said = |state| Plan { after: vec![Step::Pay(By::Platform, state, |_| {})], ..given_up(10) };
    vec![
        ("nothing goes back", bill(|bill| bill.refund = None), "pppf", "#refund"),
        ("too little goes back", bill(|bill| bill.refund = Some(Money(1_000_000))), "pppf", "#refund"),
        (
            "charged by begun hours where it is exact",
            bill(|bill| {
                let more = Money(30_000_000);
                if let Some(line) = bill.lines.first_mut() {
                    (line.quantity, line.amount) = (3_600_000_000_000, more);
                }
                (bill.total, bill.rounding, bill.refund) = (more, Money(0), Some(Money(0)));
            }),
            "pppf",
            "#total",
        ),
        (
            "a price above that of the term",
            Plan { order: |order| price(order, 31), ..given_up(10) },
            "pfpp",
            "WithinOffer",
        ),
        ("a price below", Plan { order: |order| price(order, 29), ..given_up(10) }, "pfpp", "WithinOffer"),
        (
            "another amount goes back than is told",
            said(|said| said.refund_cny = Some("0.01".to_owned())),
            "pfpp",
            "AmountMatches",
        ),
        ("nobody says what goes back", said(|said| said.refund_cny = None), "pfpp", "AmountMatches"),
        (
            "something goes back of a postpaid contract",
            Plan {
                after: vec![Step::Pay(By::Platform, |said| said.refund_cny = Some("0.00".to_owned()), |_| {})],
                ..Plan::default()
            },
            "pfpp",
            "AmountMatches",
        ),
        (
            "a refund in a postpaid bill",
            Plan { bill: |bill| bill.refund = Some(Money(0)), ..Plan::default() },
            "pppf",
            "#refund",
        ),
        (
            "renewed at the old price",
            Plan {
                service: vec![
                    Step::Notice("renew", By::Buyer, |notice| {
                        if let Some(renewal) = &mut notice.renewal {
                            renewal.term_ns = 3_600_000_000_000;
                        }
                    }),
                    notice("terminate", By::Buyer),
                ],
                ..given_up(10)
            },
            "pfpp",
            "WithinOffer",
        ),
        (
            "exhausted",
            Plan { service: vec![], ends: vec![["exhaust", "serving", "ended"]], ..given_up(10) },
            "pfpp",
            "no ceiling",
        ),
        (
            "billed by period",
            Plan { service: vec![Step::Bill(1, |_| {}), notice("terminate", By::Buyer)], ..by("exact", given_up(10)) },
            "pfpp",
            "billed once",
        ),
    ]
}

pub(crate) fn causes() -> Vec<Cause> {
    right().into_iter().chain(wrong()).collect()
}

#[test]
fn a_prepaid_contract_is_charged_for_what_was_held_and_the_rest_goes_back() {
    check_each(causes());
}

#[test]
fn what_was_not_measured_is_not_charged() {
    let gap = |record: &mut UsageRecord| {
        held(record);
        if record.order_seq >= 8 {
            (record.reason, record.why) = (Reason::Gap, Some("agent was down".to_owned()));
            for reading in &mut record.readings {
                let more = reading.delta.replace(0).unwrap_or(0) * if record.order_seq == 8 { 1 } else { 2 };
                reading.total = reading.total.map(|total| total - more);
            }
            record.readings.retain(|reading| reading.code == 32);
        }
    };
    // Eight minutes of ten: 0.04 at 0.30 an hour; of the price of 0.30 are 0.26 left.
    check_each(vec![("gaps", Plan { record: gap, ..given_up(10) }, "ppwp", "billed 0.04 CNY")]);
}
