//! The quality delivered from drafts to the bill: over a suspension, a gap, and a source that was replaced. The small world is
//! `market.rs`; the single record is `served.rs` of the crate.

use hufu_metering::{OrderDraft, Time};
use hufu_trade::{
    octets::ContractNo,
    quality::{Quality, QualityLine},
    usage::{Reason, SourceIdentity, Status, UsageRecord},
};

use super::{
    change::{ask, replays},
    market::{Market, QUALITY, SECOND},
};
use crate::node::Event;

/// A draft of an order that waited so many seconds for a CPU; nobody tells what was stolen.
fn draft(market: &Market, no: ContractNo, reason: Reason, stalled_s: u64) -> OrderDraft {
    let stalled = Time {
        quality: Quality::CpuStalled,
        status: Status::Measured,
        total_ns: Some(u128::from(stalled_s * SECOND)),
        why: None,
    };
    let stolen = Time {
        quality: Quality::CpuStolen,
        status: Status::Missing,
        total_ns: None,
        why: Some("the host does not say what was stolen"),
    };
    OrderDraft { delivered: vec![stolen, stalled], ..market.draft(no, reason, u128::from(stalled_s * SECOND)) }
}

fn last_read(market: &mut Market, no: ContractNo, stalled_s: u64) {
    let last = draft(market, no, Reason::End, stalled_s);
    market.event(Event::Final { contract: no, drafts: vec![last], quality: QUALITY });
}

fn serving() -> (Market, ContractNo) {
    let mut market = Market::open();
    market.event(Event::Linked);
    let (no, _) = market.deal(1, 600);
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    (market, no)
}

fn records(market: &Market, no: ContractNo) -> Vec<UsageRecord> {
    market.records(no).into_iter().map(|(_, record)| record).collect()
}

#[test]
fn time_stalled_goes_from_the_meter_to_the_bill_over_gap_and_suspension() {
    let (mut market, no) = serving();
    market.pass(5 * SECOND);
    market.window(vec![draft(&market, no, Reason::Continue, 2)]);
    market.pass(5 * SECOND);
    let gap = OrderDraft { why: Some("the cgroup could not be read".to_owned()), ..draft(&market, no, Reason::Gap, 3) };
    market.window(vec![gap]);
    assert_eq!(ask(&mut market, no, "suspend"), "accepted");
    last_read(&mut market, no, 4);
    market.pass(100 * SECOND);
    assert_eq!(ask(&mut market, no, "resume"), "accepted");
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    let known = &market.core.book.contracts[&no];
    assert_eq!(known.counted_times(), [(Quality::CpuStalled, 0)], "another meter counts from nothing");
    market.pass(5 * SECOND);
    market.window(vec![draft(&market, no, Reason::Continue, 1)]);
    let known = &market.core.book.contracts[&no];
    assert_eq!(known.counted_times(), [(Quality::CpuStalled, u128::from(SECOND))]);
    replays(&market);
    assert_eq!(ask(&mut market, no, "terminate"), "accepted");
    last_read(&mut market, no, 2);
    assert_eq!(market.state(no), "billed");
    let told = |record: &UsageRecord| {
        let of = |code| record.delivered.as_ref().and_then(|told| told.iter().find(|one| one.code == code).cloned());
        (record.reason, of(2).and_then(|one| one.delta.zip(one.total)), of(1).is_some())
    };
    let second = |delta: u64, total: u64| Some((delta * SECOND, total * SECOND));
    let all: Vec<_> = records(&market, no).iter().map(told).collect();
    assert_eq!(
        all,
        [
            (Reason::Begin, second(2, 2), true),
            (Reason::Gap, second(0, 2), false),
            (Reason::End, second(2, 4), true),
            (Reason::Suspended, second(0, 4), true),
            (Reason::Continue, second(1, 5), false),
            (Reason::End, second(1, 6), true),
        ]
    );
    let bill = &market.core.book.contracts[&no].bills[0].bill;
    // Four records were served, five seconds each; gap and suspension are no time of service.
    let line = QualityLine { code: 2, ns: 6 * SECOND, elapsed_ns: 20 * SECOND };
    assert_eq!(line.share(), Some(3_000), "30 %");
    assert_eq!(bill.quality, Some(vec![line]));
}

#[test]
fn an_attached_source_that_was_replaced_is_another_identity_in_the_next_record() {
    let (mut market, no) = serving();
    let interface = |instance| SourceIdentity { source: "interface".to_owned(), path: "veth0".to_owned(), instance };
    let mut sent = Vec::new();
    for (instance, again) in [(4, false), (4, true), (5, false), (5, true)] {
        market.pass(5 * SECOND);
        let mut one = draft(&market, no, Reason::Continue, 1);
        one.identity.resolved = Some("docker:3f2a -> system.slice/docker-3f2a.scope".to_owned());
        one.identity.attached = Some(vec![interface(instance)]);
        sent.push((one.identity.clone(), again));
        market.window(vec![one]);
    }
    for (record, (identity, again)) in records(&market, no).iter().zip(sent) {
        assert_eq!(record.meter, identity.id().unwrap());
        assert_eq!(record.identity, (!again).then_some(identity), "record {}", record.order_seq);
    }
}
