//! Every alarm that somebody must look at is raised by what it is about, and by its name: the operator's document explains it under
//! that name.

use hufu_ledger::Log;
use hufu_metering::window::WindowDraft;
use hufu_trade::{
    entry::{Receipt, key_of},
    if2::{Interface, Sealed, SendOrder, Topic},
    octets::Octets,
    resource::{Kind, Resource},
    usage::{HostTotal, Reading, Reason, Status},
};

use super::{
    market::{Market, POOL, QUALITY, SECOND, START_NS},
    personal::{MONTH_S, paid, taken, writer},
};
use crate::{
    link::Stub,
    node::{Effect, Event},
    writer::Input,
};

/// Names of the alarms so far.
fn raised(market: &Market) -> Vec<&str> {
    market.alarms.iter().map(|alarm| alarm.split_once(": ").map_or(alarm.as_str(), |(what, _)| what)).collect()
}

fn receipt(root: [u8; 32], size: u64) -> Receipt {
    let (computing_pool_id, root, refused) = (POOL.to_owned(), Octets(root), Vec::new());
    Receipt { version: 1, computing_pool_id, log: 0, size, root, stored_at: START_NS, refused, bills: Vec::new() }
}

#[test]
fn a_message_of_somebody_else_is_refused_with_an_alarm() {
    let mut market = Market::open();
    let request = SendOrder { statement: Sealed(vec![1]), signature: Sealed(vec![2]) };
    let (key, cert) = (market.buyer.key.clone(), Octets(market.buyer.certificate.id()));
    market.say_as(Interface::SendOrder, &request, &key, cert);
    assert_eq!(raised(&market), ["message refused"]);
}

#[test]
fn a_place_that_cannot_be_provided_or_ended_is_an_alarm() {
    let mut market = Market::open();
    let (no, _) = market.deal(1, 20);
    market.event(Event::Provisioned { contract: no, outcome: Err("no cgroup".to_owned()) });
    market.event(Event::Unstopped { contract: no, why: "it would not die".to_owned() });
    assert_eq!(raised(&market), ["order could not be provided", "workload not suspended or stopped"]);
    assert!(market.alarms.iter().all(|alarm| alarm.contains(&no.to_string())), "{:?}", market.alarms);
}

#[test]
fn orders_that_used_more_than_their_host_are_an_alarm() {
    let mut market = Market::open();
    let total = HostTotal { code: 0, host: Some(1), orders: 2, check: "violated".to_owned() };
    let draft = WindowDraft {
        start_real_ns: START_NS,
        end_real_ns: START_NS,
        elapsed_ns: 0,
        samples_due: 0,
        samples_taken: 0,
        boot_id: [1; 16],
        orders: Vec::new(),
        totals: vec![total],
    };
    market.event(Event::Window { draft, quality: QUALITY });
    assert_eq!(raised(&market), ["conservation violated"]);
}

#[test]
fn a_bill_beyond_all_numbers_is_an_alarm_and_no_bill() {
    let mut market = Market::open();
    let (no, _) = market.deal(1, 20);
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    market.elapsed_ns += 20 * SECOND;
    let (last, now) = (market.draft(no, Reason::End, 1), market.now());
    let effects = market.core.handle(now, Event::Final { contract: no, drafts: vec![last], quality: QUALITY }).unwrap();
    market.execute(effects);
    let mut records = market.records(no);
    let resource = Resource::used(Kind::Cpu);
    let (code, qualifier, all) = (resource.code(), None, Some(u128::MAX));
    for (_, record) in &mut records {
        let qualifier = qualifier.clone();
        record.readings =
            vec![Reading { code, qualifier, status: Status::Measured, delta: all, total: all, why: None }];
    }
    let effects = market.core.handle(now, Event::Records { contract: no, records }).unwrap();
    market.execute(effects);
    assert_eq!(raised(&market), ["bill cannot be computed"]);
    assert!(market.core.book.contracts[&no].bills.is_empty());
}

#[test]
fn an_entry_that_the_platform_refuses_is_an_alarm() {
    let mut market = Market::open();
    let (no, _) = market.deal(1, 20);
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    market.pass(20 * SECOND);
    let last = market.draft(no, Reason::End, 1_000_000_000);
    market.event(Event::Final { contract: no, drafts: vec![last], quality: QUALITY });
    market.refuse(no);
    assert_eq!(raised(&market), ["the platform refuses an entry"]);
    assert!(market.alarms[0].contains("amount"));
}

#[test]
fn a_catalogue_that_fits_no_message_is_an_alarm() {
    let mut market = Market::open();
    let product = market.core.shop.products[0].clone();
    for number in 0..2000 {
        market.core.shop.products.push(crate::catalogue::ProductConfig { id: format!("p{number}"), ..product.clone() });
    }
    market.event(Event::Linked);
    assert_eq!(raised(&market), ["catalogue too large"]);
}

#[test]
fn the_writer_says_what_the_platform_cannot_be_right_about() {
    let mut market = Market::open();
    market.event(Event::Linked);
    let no = paid(&mut market, 1);
    market.pass(MONTH_S * SECOND + SECOND);
    market.receipt(Log::Trade);
    market.receipt(Log::Finance);
    let (mut ledger, _empty) = taken(&mut market);
    ledger.erase(&key_of(Some(no))).unwrap();
    let size = ledger.size(Log::Trade);
    let (mut writer, ..) = writer(&market, ledger);
    writer.replay().unwrap();
    writer.execute(Effect::CheckReceipt { receipt: receipt([7; 32], size), signed: Vec::new() }).unwrap();
    writer.execute(Effect::SendBlocks { log: Log::Trade, from: 0, below: size, room: 4096 }).unwrap();
    let mut whole = writer.begin_comparing().unwrap();
    let topic = Topic::Call { pool: POOL.to_owned(), interface: Interface::Fetch, answer: true };
    let message = Input::Message { topic, payload: b"no answer".to_vec(), stub: Stub::numbered(1) };
    writer.take_comparing(&mut whole, message).unwrap();
    let status: serde_json::Value = serde_json::from_str(&writer.status()).unwrap();
    let names: Vec<&str> = status["alarms"].as_array().unwrap().iter().filter_map(|a| a["what"].as_str()).collect();
    let want = [
        "receipt has another root than this ledger",
        "the platform asks for a block that was erased",
        "what was fetched is not used",
    ];
    assert_eq!(names, want);
}
