//! Prepaid orders: only at the price of their term, never exhausted, never billed by period, and what was not served goes back.
//! The small world is `market.rs`.

use hufu_trade::{
    if2::{Answer, Interface, PaymentState},
    notice::{Notice, Renewal},
    octets::{ContractNo, rfc3339},
    statement::{ContractValue, Payment},
    tariff::Tariff,
    usage::Reason,
};

use super::{
    change::{ask, by_buyer, last_read, notice, replays},
    market::{Market, SECOND},
    period::every,
};
use crate::node::Event;

const HOUR: u64 = 3600 * SECOND;

/// A market that prices the one core that an order holds.
fn reserving(rules: &str) -> Market {
    let mut market = Market::under(rules);
    market.core.shop.products[0].tariff =
        Tariff::from_toml("[[price]]\nresource = \"reserved_cpu\"\nprice = \"0.36\"\n").unwrap();
    market.event(Event::Linked);
    market
}

fn prepaid(amount: &str) -> ContractValue {
    ContractValue { payment: Payment::Prepaid, amount: amount.parse().unwrap() }
}

/// An hour, paid before.
pub(super) fn serving(rules: &str) -> (Market, ContractNo) {
    let mut market = reserving(rules);
    let (offer, hash) = market.browse(1);
    let request = market.order_request(&offer, hash, 3600, |s| s.contract_value = Some(prepaid("0.36")));
    assert_eq!(Market::code(market.say(Interface::SendOrder, &request)), "accepted");
    market.event(Event::Provisioned { contract: offer.contract_no, outcome: Ok(None) });
    (market, offer.contract_no)
}

/// Held until now.
pub(super) fn held(market: &Market, no: ContractNo, reason: Reason) -> hufu_metering::OrderDraft {
    let mut draft = market.draft(no, reason, 0);
    draft.totals[0].resource = "reserved_cpu".parse().unwrap();
    draft.totals[0].total = Some(u128::from(market.elapsed_ns));
    draft
}

pub(super) fn pay(market: &mut Market, no: ContractNo, refund: Option<&str>) {
    let due = market.core.book.contracts[&no].bills[0].due.clone();
    let state = PaymentState {
        bill_no: due.number,
        state: "paid".to_owned(),
        amount_cny: Some(due.total.to_string()),
        paid_at: Some(rfc3339(market.now().real_ns)),
        refund_cny: refund.map(str::to_owned),
        ..PaymentState::default()
    };
    market.say(Interface::PaymentConfirm, &Answer::Ok(state));
}

/// Renewed, given up after ten minutes, paid.
pub(super) fn given_up() -> Market {
    let (mut market, no) = serving(&every("hour"));
    market.elapsed_ns = SECOND;
    let renewal = Some(Renewal { term_ns: HOUR, contract_value: prepaid("0.72") });
    let request = by_buyer(&market, &Notice { renewal, ..notice(&market, no, "renew") });
    assert_eq!(Market::code(market.say(Interface::OrderChange, &request)), "accepted");
    market.elapsed_ns = 600 * SECOND;
    assert_eq!(ask(&mut market, no, "terminate"), "accepted");
    let draft = held(&market, no, Reason::End);
    market.event(Event::Final { contract: no, drafts: vec![draft], quality: super::market::QUALITY });
    pay(&mut market, no, Some("0.66"));
    assert_eq!(market.state(no), "paid");
    market
}

#[test]
fn only_the_price_of_the_term_is_accepted_and_only_where_all_is_reserved() {
    for (amount, code) in [("0.35", "amount"), ("0.37", "amount"), ("0.36", "accepted")] {
        let mut market = reserving(&every("month"));
        let (offer, hash) = market.browse(1);
        let request = market.order_request(&offer, hash, 3600, |s| s.contract_value = Some(prepaid(amount)));
        assert_eq!(Market::code(market.say(Interface::SendOrder, &request)), code, "{amount}");
    }
    let mut market = Market::open();
    let (offer, hash) = market.browse(1);
    let request = market.order_request(&offer, hash, 3600, |s| s.contract_value = Some(prepaid("0.36")));
    assert_eq!(Market::code(market.say(Interface::SendOrder, &request)), "malformed", "use is priced");
}

#[test]
fn who_gives_up_gets_back_what_was_not_served_by_the_steps_of_the_table() {
    for (proration, total, refund) in
        [("exact", "0.06", "0.30"), ("hour", "0.36", "0.00"), ("day", "0.36", "0.00"), ("term", "0.36", "0.00")]
    {
        let rules = every("hour").replace("proration = \"exact\"", &format!("proration = {proration:?}"));
        let (mut market, no) = serving(&rules);
        market.elapsed_ns = 600 * SECOND;
        assert_eq!(ask(&mut market, no, "terminate"), "accepted");
        let draft = held(&market, no, Reason::End);
        market.event(Event::Final { contract: no, drafts: vec![draft], quality: super::market::QUALITY });
        assert_eq!(market.state(no), "billed", "{proration}");
        let bill = market.core.book.contracts[&no].bills[0].bill.clone();
        let told = (bill.total.to_string(), bill.refund.map(|refund| refund.to_string()));
        assert_eq!(told, (total.to_owned(), Some(refund.to_owned())), "{proration}");
        for wrong in [None, Some("0.01")] {
            pay(&mut market, no, wrong);
            assert_eq!(market.state(no), "billed", "{proration}: {wrong:?}");
        }
        pay(&mut market, no, Some(refund));
        assert_eq!(market.state(no), "paid", "{proration}");
        replays(&market);
    }
}

#[test]
fn a_prepaid_contract_is_neither_exhausted_nor_billed_while_it_runs() {
    let (mut market, no) = serving(&every("hour"));
    for second in [1000, 2000, 2795, 2800, 3500] {
        market.elapsed_ns = second * SECOND;
        let draft = held(&market, no, Reason::Continue);
        market.window(vec![draft]);
    }
    assert!(market.withdrawn.is_empty() && market.core.book.contracts[&no].bills.is_empty());
    market.elapsed_ns = HOUR;
    market.settle();
    let draft = held(&market, no, Reason::End);
    market.event(Event::Final { contract: no, drafts: vec![draft], quality: super::market::QUALITY });
    let bill = &market.core.book.contracts[&no].bills[0].bill;
    assert_eq!((bill.total.to_string().as_str(), bill.refund.map(|refund| refund.0)), ("0.36", Some(0)));
    replays(&market);
}

#[test]
fn a_renewal_has_the_price_of_the_whole_longer_term() {
    let (mut market, no) = serving(&every("month"));
    let renew = |market: &mut Market, contract_value: ContractValue| {
        market.elapsed_ns += SECOND;
        let renewal = Some(Renewal { term_ns: HOUR, contract_value });
        let request = by_buyer(market, &Notice { renewal, ..notice(market, no, "renew") });
        Market::code(market.say(Interface::OrderChange, &request))
    };
    assert_eq!(renew(&mut market, prepaid("0.36")), "offer");
    assert_eq!(renew(&mut market, prepaid("0.73")), "offer");
    assert_eq!(renew(&mut market, ContractValue { payment: Payment::Postpaid, ..prepaid("10") }), "offer");
    assert_eq!(renew(&mut market, prepaid("0.72")), "accepted");
    assert_eq!(renew(&mut market, prepaid("1.08")), "accepted");
    market.elapsed_ns = 2 * HOUR;
    assert_eq!(ask(&mut market, no, "terminate"), "accepted");
    let draft = held(&market, no, Reason::End);
    market.event(Event::Final { contract: no, drafts: vec![draft], quality: super::market::QUALITY });
    let bill = &market.core.book.contracts[&no].bills[0].bill;
    assert_eq!(
        (bill.total.to_string().as_str(), bill.refund.map(|r| r.to_string())),
        ("0.72", Some("0.36".to_owned()))
    );
    replays(&market);
}

#[test]
fn an_order_that_was_never_provided_costs_nothing() {
    let (mut market, no) = serving(&every("month").replace("proration = \"exact\"", "proration = \"term\""));
    market.elapsed_ns = HOUR;
    market.settle();
    last_read(&mut market, no, 0);
    let bill = &market.core.book.contracts[&no].bills[0].bill;
    assert_eq!((bill.total.0, bill.refund.map(|refund| refund.to_string())), (0, Some("0.36".to_owned())));
}
