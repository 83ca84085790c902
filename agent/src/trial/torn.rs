//! Entries that are appended together and of which a loss took some: what is left comes to an end all the same.

use hufu_ledger::{Log, NewBlock, NewEntry};
use hufu_trade::entry::{EntryKind, OrderStatus, key_of};

use super::market::{Market, SECOND};
use crate::node::Effect;

/// A node that has of another one's log what was written until `last`, and knows that something is lost.
fn torn_after(last: EntryKind) -> (Market, hufu_trade::octets::ContractNo) {
    let mut whole = Market::open();
    let (no, _) = whole.deal(1, 60);
    let mut torn = Market::open();
    torn.core.book.has_lost = true;
    let entries = whole.entries();
    let end = entries.iter().position(|(kind, _)| *kind == last).unwrap();
    // The rule table is there already.
    for (kind, body) in entries.into_iter().take(end + 1).skip(1) {
        let entry = NewEntry { kind: kind.number(), body, key: key_of(Some(no)), sealed: false };
        torn.execute(vec![Effect::Append(vec![NewBlock { log: Log::Trade, entries: vec![entry] }])]);
    }
    torn.settle();
    (torn, no)
}

#[test]
fn a_browse_whose_offer_is_lost_lapses_and_keeps_no_segment_from_being_archived() {
    for last in [EntryKind::Browse, EntryKind::Offer] {
        let (mut torn, no) = torn_after(last);
        torn.receipt(Log::Trade);
        let browse = torn.core.book.contracts[&no].browse.height;
        assert_eq!((torn.state(no), torn.core.book.settled_below().trade), ("offered", browse), "{last:?}");
        torn.pass(3601 * SECOND);
        torn.receipt(Log::Trade);
        assert_eq!(torn.state(no), "lapsed", "{last:?}");
        assert!(torn.core.book.settled_below().trade > browse, "{last:?}");
    }
}

#[test]
fn an_order_whose_deal_is_lost_is_refused() {
    let (torn, no) = torn_after(EntryKind::Order);
    assert_eq!(torn.state(no), "refused");
    let entries = torn.entries();
    let (kind, body) = entries.last().unwrap();
    let status: OrderStatus = hufu_trade::decode(body, "OrderStatus").unwrap();
    assert_eq!((*kind, status.act.as_str(), status.from.as_str()), (EntryKind::OrderStatus, "refuse", "ordered"));
    assert!(!status.why.is_empty());
    // With its deal it is served.
    let (dealt, no) = torn_after(EntryKind::Deal);
    assert_eq!(dealt.state(no), "serving");
}
