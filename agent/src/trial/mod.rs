//! Tests of the core, with time as an argument. The world around it is `market.rs`.

mod account;
mod again;
mod alarms;
mod anew;
mod asked;
mod backlog;
mod change;
mod course;
mod demand;
mod dice;
mod fetch;
mod gpu;
mod hardware;
mod market;
mod measured;
mod memory;
mod peers;
mod period;
mod personal;
mod prepaid;
mod public;
mod served;
mod session;
mod settled;
mod site;
mod torn;
mod week;
mod word;

use hufu_ledger::Log;
use hufu_trade::{
    contract::overall_score,
    entry::Receipt,
    if2::{Answer, Interface, PaymentState, Problem, Remedy, Sealed, SendOrder, Topic},
    octets::{Octets, rfc3339},
    statement::{ScoreCard, ScoreItem, Statement},
    usage::Reason,
};

use crate::node::Event;
use market::{Market, POOL, QUALITY, SECOND, START_NS, core, party, replay};

#[test]
fn a_contract_goes_from_browse_to_scored_and_replays_to_the_same_state() {
    let mut market = Market::open();
    market.event(Event::Linked);
    let (no, deal) = market.deal(1, 20);
    assert_eq!(market.provided, [no]);
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    for (second, total) in [(5, 4), (10, 9)] {
        market.elapsed_ns = second * SECOND;
        let draft = market.draft(no, Reason::Continue, total * 1_000_000_000);
        market.window(vec![draft]);
    }
    market.elapsed_ns = 20 * SECOND;
    market.event(Event::Tick);
    assert_eq!(market.withdrawn, [no]);
    let last = market.draft(no, Reason::End, 100_000_000_000);
    market.event(Event::Final { contract: no, drafts: vec![last], quality: QUALITY });
    assert_eq!(market.state(no), "billed");
    let bill = market.core.book.contracts[&no].bills[0].bill.clone();
    // 100 core-seconds at 0.36 CNY a core-hour are exactly one fen.
    assert_eq!((bill.total.to_string().as_str(), bill.first_seq, bill.last_seq), ("0.01", 0, 2));
    assert_eq!(bill.period_start, deal.contract_time);
    assert!(market.core.book.contracts[&no].bills[0].linked);

    market.receipt(Log::Finance);
    assert!(market.core.book.contracts[&no].bills[0].receipted);
    let number = bill.number.clone();
    let paid = |amount: &str| {
        let (amount_cny, paid_at) = (Some(amount.to_owned()), Some(rfc3339(START_NS)));
        Answer::Ok(PaymentState {
            bill_no: number.clone(),
            state: "paid".to_owned(),
            amount_cny,
            paid_at,
            ..PaymentState::default()
        })
    };
    market.say(Interface::PaymentConfirm, &paid("0.02"));
    assert_eq!(market.state(no), "billed", "a wrong amount pays nothing");
    market.say(Interface::PaymentConfirm, &paid("0.01"));
    assert_eq!(market.state(no), "paid");
    market.say(Interface::PaymentConfirm, &paid("0.01"));

    let items = vec![ScoreItem { code: 0, score: 87 }];
    let table = market.core.book.tables[0].2.clone();
    let overall = overall_score(&table, &items).unwrap();
    let (offer_hash, deal_hash) = {
        let contract = &market.core.book.contracts[&no];
        (contract.offer.as_ref().unwrap().2, contract.deal.as_ref().unwrap().0.hash)
    };
    let mut score = market.browse_statement(1);
    (score.con_type, score.nonce, score.contract_no) = (4, None, no);
    (score.offer, score.follows) = (Some(offer_hash), Some(deal_hash));
    score.score = Some(ScoreCard { overall: overall + 1, items: items.clone() });
    let wrong = market.signed(&score);
    assert_eq!(Market::code(market.say(Interface::Score, &wrong)), "amount");
    score.score = Some(ScoreCard { overall, items });
    let right = market.signed(&score);
    assert_eq!(Market::code(market.say(Interface::Score, &right)), "accepted");
    assert_eq!(market.state(no), "scored");
    let size = market.ledger.size(Log::Trade);
    assert_eq!(Market::code(market.say(Interface::Score, &right)), "accepted", "the same again is answered again");
    assert_eq!(market.ledger.size(Log::Trade), size, "and written once");
    score.contract_time += 1;
    let other = market.signed(&score);
    assert_eq!(Market::code(market.say(Interface::Score, &other)), "duplicate");

    let root = party(None, "root", 1);
    let mut again = core(&market.platform, &party(Some(&root), "node", 3), &root);
    replay(&mut again, &market.ledger);
    assert_eq!(again.book.contracts[&no].state, "scored");
    assert_eq!((again.sizes, again.book.obligation), (market.core.sizes, market.core.book.obligation));
    assert_eq!(market.alarms.len(), 1, "{:?}", market.alarms);
    drop(market.dir);
}

#[test]
fn capacity_is_never_oversold_and_a_refusal_is_written() {
    let mut market = Market::open();
    let (first, _) = market.deal(1, 20);
    // Two cores: room for one more, so of two offers made at once only one becomes a deal.
    let (offer_b, hash_b) = market.browse(2);
    let (offer_c, hash_c) = market.browse(3);
    assert_eq!((offer_b.stock, offer_c.stock), (1, 1));
    let b = market.order_request(&offer_b, hash_b, 20, |_| {});
    let c = market.order_request(&offer_c, hash_c, 20, |_| {});
    assert_eq!(Market::code(market.say(Interface::SendOrder, &b)), "accepted");
    assert_eq!(Market::code(market.say(Interface::SendOrder, &c)), "stock");
    assert_eq!(market.state(offer_c.contract_no), "refused");
    assert_eq!(Market::code(market.say(Interface::SendOrder, &c)), "stock", "the same answer again");
    assert_eq!((market.state(first), market.state(offer_b.contract_no)), ("serving", "serving"));
}

#[test]
fn storage_is_sold_as_far_as_there_is_some_and_rates_of_io_are_listed() {
    let mut market = Market::open();
    market.core.shop.capacity.storage_bytes = 7 << 30;
    let disk = &mut market.core.shop.products[0].disk;
    (disk.storage_bytes, disk.write_ops_s) = (4 << 30, 100);
    let (offer, hash) = market.browse(1);
    assert_eq!(offer.stock, 1, "two cores, but storage for one");
    let held = |name: &str| offer.reserves.iter().find(|held| held.resource == name).map(|held| held.quantity);
    assert_eq!((held("storage"), held("disk_write_ops"), held("disk_read")), (Some(4 << 30), Some(100), None));
    let order = market.order_request(&offer, hash, 20, |_| {});
    assert_eq!(Market::code(market.say(Interface::SendOrder, &order)), "accepted");
    assert_eq!(market.browse(2).0.stock, 0);
    market.core.shop.capacity.storage_bytes = 1 << 30;
    assert_eq!(market.browse(3).0.stock, 0, "less than what is held: nothing is sold");
}

#[test]
fn an_order_asked_again_is_answered_with_its_address_while_it_has_a_place() {
    let mut market = Market::open();
    let (offer, hash) = market.browse(1);
    let order = market.order_request(&offer, hash, 20, |_| {});
    let address = |market: &mut Market| market.say(Interface::SendOrder, &order).unwrap()["ok"]["address"].clone();
    assert!(address(&mut market).is_null(), "the deal is signed before its place is made");
    let no = offer.contract_no;
    market.event(Event::Provisioned { contract: no, outcome: Ok(Some("ssh://n1.s1.example".to_owned())) });
    assert_eq!(address(&mut market), "ssh://n1.s1.example");
    market.pass(30 * SECOND);
    let last = market.draft(no, Reason::End, 1_000_000_000);
    market.event(Event::Final { contract: no, drafts: vec![last], quality: QUALITY });
    market.event(Event::Tick);
    assert_eq!(market.workloads, [("remove", no)]);
    assert!(address(&mut market).is_null(), "nothing is there any more");
}

#[test]
fn orders_that_are_not_the_offers_are_refused_and_leave_nothing() {
    let mut market = Market::open();
    let (offer, hash) = market.browse(1);
    let size = market.ledger.size(Log::Trade);
    let mut cases: Vec<(&str, SendOrder, &str)> = Vec::new();
    let mut case = |name, code, edit: &dyn Fn(&mut Statement)| {
        cases.push((name, market.order_request(&offer, hash, 20, edit), code));
    };
    case("another tariff", "offer", &|s| s.requirement.as_mut().unwrap().tariff = Octets([0; 32]));
    case("another revision", "offer", &|s| s.requirement.as_mut().unwrap().catalogue_revision += 1);
    case("too long", "offer", &|s| s.requirement.as_mut().unwrap().term_ns = 7200 * SECOND);
    case("too many", "offer", &|s| s.requirement.as_mut().unwrap().items[0].quantity = 3);
    case("another offer", "offer", &|s| s.offer = Some(Octets([1; 32])));
    case("another browse", "offer", &|s| s.follows = Some(Octets([1; 32])));
    case("unknown contract", "unknown", &|s| s.contract_no = Octets([1; 16]));
    case("another node", "malformed", &|s| s.computing_pool_id = "site-1/other".to_owned());
    case("before the offer", "offer", &|s| s.contract_time -= 1);
    case("stale", "offer", &|s| s.contract_time -= 2 * 3_600_000_000_000);
    let mut forged = market.order_request(&offer, hash, 20, |_| {});
    forged.signature = Sealed(market.platform.key.sign(&forged.statement.0).unwrap());
    cases.push(("another signer", forged, "signature"));
    for (name, request, code) in cases {
        assert_eq!(Market::code(market.say(Interface::SendOrder, &request)), code, "{name}");
    }
    assert_eq!(market.ledger.size(Log::Trade), size);
    market.pass(3601 * SECOND);
    assert_eq!(market.state(offer.contract_no), "lapsed");
}

#[test]
fn only_the_platform_is_heard() {
    let mut market = Market::open();
    let request = SendOrder { statement: Sealed(vec![1]), signature: Sealed(vec![2]) };
    let (key, cert) = (market.buyer.key.clone(), Octets(market.buyer.certificate.id()));
    assert_eq!(market.say_as(Interface::SendOrder, &request, &key, cert), None);
    let platform = Octets(market.platform.certificate.id());
    assert_eq!(market.say_as(Interface::SendOrder, &request, &key, platform), None, "a borrowed name");
    assert_eq!(Market::code(market.say(Interface::SendOrder, &request)), "malformed");
    assert_eq!(market.alarms.len(), 2);
}

#[test]
fn a_platform_that_holds_more_than_this_disk_stops_the_node() {
    let mut market = Market::open();
    let receipt = Receipt {
        version: 1,
        computing_pool_id: POOL.to_owned(),
        log: 0,
        size: 99,
        root: Octets([0; 32]),
        stored_at: START_NS,
        refused: Vec::new(),
        bills: Vec::new(),
    };
    let now = market.now();
    assert!(market.core.handle(now, Event::Receipted { receipt, signed: Vec::new() }).is_err());
}

#[test]
fn an_order_that_could_not_be_provided_is_a_gap_and_costs_nothing() {
    let mut market = Market::open();
    let (no, _) = market.deal(1, 20);
    market.event(Event::Provisioned { contract: no, outcome: Err("no cgroup".to_owned()) });
    market.pass(30 * SECOND);
    market.event(Event::Final { contract: no, drafts: Vec::new(), quality: QUALITY });
    assert_eq!(market.state(no), "billed");
    let bill = &market.core.book.contracts[&no].bills[0].bill;
    assert_eq!((bill.total.0, bill.gaps.len(), bill.lines.len()), (0, 1, 0));
}

#[test]
fn a_platform_that_lost_what_it_held_is_asked_for_both_logs_again() {
    let mut market = Market::open();
    market.event(Event::Linked);
    let (no, _) = market.deal(1, 20);
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    let last = market.draft(no, Reason::End, 100_000_000_000);
    market.event(Event::Final { contract: no, drafts: vec![last], quality: QUALITY });
    market.receipt(Log::Trade);
    market.receipt(Log::Finance);
    let acked = |market: &Market| market.core.cursors.each_ref().map(crate::outbox::Cursor::acked);
    assert!(acked(&market).iter().all(Option::is_some));
    let receipt = Receipt {
        version: 1,
        computing_pool_id: POOL.to_owned(),
        log: 0,
        size: 1,
        root: Octets([0; 32]),
        stored_at: START_NS,
        refused: Vec::new(),
        bills: Vec::new(),
    };
    let now = market.now();
    let effects = market.core.handle(now, Event::Receipted { receipt, signed: Vec::new() }).unwrap();
    assert!(effects.is_empty());
    // Each log waits for what the platform holds of the other: with one stale cursor neither would ever move again.
    assert_eq!(acked(&market), [None, None]);
}

#[test]
fn a_log_that_does_not_move_has_the_other_one_asked_for_anew() {
    let mut market = Market::open();
    market.event(Event::Linked);
    let (no, _) = market.deal(1, 20);
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    market.pass(20 * SECOND);
    let last = market.draft(no, Reason::End, 100_000_000_000);
    market.event(Event::Final { contract: no, drafts: vec![last], quality: QUALITY });
    let size = market.ledger.size(Log::Trade);
    let receipt = |log: u8, size: u64| Receipt {
        version: 1,
        computing_pool_id: POOL.to_owned(),
        log,
        size,
        root: Octets([0; 32]),
        stored_at: START_NS,
        refused: Vec::new(),
        bills: Vec::new(),
    };
    let mut told = |seconds: u64, receipt: Receipt| {
        // What is due is sent, and sent again.
        market.pass(seconds * SECOND);
        let now = market.now();
        market.core.handle(now, Event::Receipted { receipt, signed: Vec::new() }).unwrap();
        market.core.cursors.each_ref().map(crate::outbox::Cursor::acked)
    };
    // From before the platform was restored from a backup: it says that the bill is there.
    assert_eq!(told(0, receipt(1, 1)), [None, Some(1)]);
    assert_eq!(told(0, receipt(0, size - 1)), [Some(size - 1), Some(1)]);
    assert_eq!(told(0, receipt(0, size - 1)), [Some(size - 1), Some(1)], "it may be that of a message that came twice");
    assert_eq!(told(2, receipt(0, size - 1)), [Some(size - 1), None], "what names the bill back is not taken");
}

#[test]
fn a_platform_that_does_not_know_the_node_gets_its_catalogue_again() {
    let mut market = Market::open();
    market.event(Event::Linked);
    let told = |market: &mut Market, code: &str| {
        let remedy = Remedy { en: String::new(), zh: String::new() };
        let problem = Problem { code: code.to_owned(), field: None, remedy };
        market.say(Interface::Blocks, &Answer::<()>::Error(problem));
        let is_catalogue = |topic: &Topic| matches!(topic, Topic::Products { .. });
        market.published.iter().filter(|(topic, _)| is_catalogue(topic)).count()
    };
    assert_eq!(told(&mut market, "malformed"), 0, "told once a link");
    assert_eq!(told(&mut market, "certificate"), 1);
}

#[test]
fn another_rule_table_is_followed_with_no_code_changed() {
    let mut market = Market::under(include_str!("../../../trade/testdata/rules/other.toml"));
    let (lapsing, _) = market.browse(9);
    market.pass(599 * SECOND);
    assert_eq!(market.state(lapsing.contract_no), "quoted");
    market.pass(SECOND);
    assert_eq!(market.state(lapsing.contract_no), "gone", "a shorter timer");
    let (no, _) = market.deal(1, 20);
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    assert_eq!(market.state(no), "running");
    market.pass(20 * SECOND);
    assert_eq!(market.withdrawn, [no]);
    let last = market.draft(no, Reason::End, 100_000_000_000);
    market.event(Event::Final { contract: no, drafts: vec![last], quality: QUALITY });
    assert_eq!(market.state(no), "cooling");
    let stock = |market: &mut Market, nonce| market.browse(nonce).0.stock;
    assert_eq!(stock(&mut market, 2), 1, "held while cooling");
    market.pass(119 * SECOND);
    assert_eq!((market.state(no), market.core.book.contracts[&no].bills.len()), ("cooling", 0));
    market.pass(SECOND);
    assert_eq!(market.state(no), "due", "an added state, and a bill without a signer");
    assert_eq!(stock(&mut market, 3), 2, "free again");
    market.receipt(Log::Finance);
    let bill = market.core.book.contracts[&no].bills[0].bill.clone();
    let (amount_cny, paid_at) = (Some(bill.total.to_string()), Some(rfc3339(START_NS)));
    let paid =
        PaymentState { bill_no: bill.number, state: "paid".to_owned(), amount_cny, paid_at, ..PaymentState::default() };
    market.say(Interface::PaymentConfirm, &Answer::Ok(paid));
    assert_eq!(market.state(no), "settled");
}

#[test]
fn a_bill_is_overdue_after_its_grace_and_can_still_be_paid() {
    let mut market = Market::open();
    let (no, _) = market.deal(1, 20);
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    market.pass(20 * SECOND);
    let last = market.draft(no, Reason::End, 100_000_000_000);
    market.event(Event::Final { contract: no, drafts: vec![last], quality: QUALITY });
    market.pass(15 * 86_400 * SECOND - SECOND);
    assert_eq!(market.state(no), "billed");
    market.pass(SECOND);
    assert_eq!(market.state(no), "overdue");
    market.receipt(Log::Finance);
    let bill = market.core.book.contracts[&no].bills[0].bill.clone();
    let (amount_cny, paid_at) = (Some(bill.total.to_string()), Some(rfc3339(market.now().real_ns)));
    let paid =
        PaymentState { bill_no: bill.number, state: "paid".to_owned(), amount_cny, paid_at, ..PaymentState::default() };
    let moved = market.core.book.contracts[&no].moved.clone().unwrap();
    market.say(Interface::PaymentConfirm, &Answer::Ok(paid));
    assert_eq!(market.state(no), "paid");
    let payment =
        market.entries().into_iter().find(|(kind, _)| *kind == hufu_trade::entry::EntryKind::Payment).unwrap();
    let payment: hufu_trade::entry::Payment = hufu_trade::decode(&payment.1, "Payment").unwrap();
    assert_eq!(payment.rests_on, moved, "the status of being overdue comes before it");
}
