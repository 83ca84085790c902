//! What a change of the hardware leads to: nothing is sold, the platform and a person are told, what runs is metered on, and
//! the same hardware that comes back, or the site's word, ends it.

use hufu_trade::{
    if2::{Catalogue, Envelope, Interface, PLATFORM, Topic},
    octets::{Digest, Octets},
    usage::Reason,
};

use super::market::{Market, QUALITY, SECOND};
use crate::{hardware::Hardware, metrics::Own, node::Event, status};

fn found(number: u8, changed: &[&str]) -> Event {
    let fingerprint: Option<Digest> = Some(Octets([number; 32]));
    Event::Hardware(Hardware { fingerprint, changed: changed.iter().map(|line| (*line).to_owned()).collect() })
}

/// The catalogue that was published last.
fn catalogue(market: &Market) -> Catalogue {
    let retained = market.published.iter().rev().find(|(topic, _)| matches!(topic, Topic::Products { .. }));
    let (_, bytes) = retained.expect("a catalogue");
    let key = market.core.identity.key.public_key();
    let opened = Envelope::parse(bytes).unwrap().open(&key, Interface::ProductReport, PLATFORM, bytes).unwrap();
    opened.payload.body
}

#[test]
fn changed_hardware_sells_nothing_and_names_what_is_open() {
    let mut market = Market::open();
    market.event(Event::Linked);
    market.event(found(1, &[]));
    assert!(market.alarms.is_empty(), "the hardware that was accepted is no news: {:?}", market.alarms);
    let (no, _) = market.deal(1, 20);
    let shown = catalogue(&market);
    assert_eq!((shown.fingerprint, shown.products[0].stock), (Some(Octets([1; 32])), 1));
    let (offer, hash) = market.browse(2);
    assert_eq!((offer.fingerprint, offer.stock), (Some(Octets([1; 32])), 1));

    market.event(found(2, &["- gpu GPU-a"]));
    let [alarm] = market.alarms.as_slice() else { panic!("{:?}", market.alarms) };
    assert!(alarm.starts_with("hardware: - gpu GPU-a; nothing is sold; open contracts: "), "{alarm}");
    assert!(alarm.contains(&no.to_string()) && !alarm.contains(&offer.contract_no.to_string()), "{alarm}");
    let shown = catalogue(&market);
    assert_eq!((shown.fingerprint, shown.products[0].stock), (Some(Octets([2; 32])), 0));
    // An offer from before is no way around it.
    let order = market.order_request(&offer, hash, 20, |_| {});
    assert_eq!(Market::code(market.say(Interface::SendOrder, &order)), "stock");
    assert_eq!(market.browse(3).0.stock, 0);
    // The same change again is no news; another is.
    market.event(found(2, &["- gpu GPU-a"]));
    assert_eq!(market.alarms.len(), 1);
    market.event(found(3, &["- gpu GPU-a", "- gpu GPU-b"]));
    assert_eq!(market.alarms.len(), 2);
    let status = status::render(
        &market.core,
        (&status::Alarms::default(), None, serde_json::Value::Null),
        (&Own::default(), &[], None),
        market.dir.path(),
        market.now(),
    );
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["hardware"]["changed"], serde_json::json!(["- gpu GPU-a", "- gpu GPU-b"]));
    let contracts = status["contracts"].as_array().unwrap();
    let noted = contracts.iter().find(|contract| contract["contract_no"] == no.to_string()).unwrap();
    assert_eq!(noted["note"], "the hardware changed since its offer");
    assert!(status["products"][0]["why"].as_str().unwrap().contains("hufu capacity --accept"), "{status}");
    assert_eq!(status["agent"]["cpu_ns"], serde_json::Value::Null, "what was not read is not zero");

    // The order that runs is metered and billed all the same.
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    market.pass(20 * SECOND);
    let last = market.draft(no, Reason::End, 100_000_000_000);
    market.event(Event::Final { contract: no, drafts: vec![last], quality: QUALITY });
    assert_eq!(market.state(no), "billed");

    market.event(found(1, &[]));
    assert_eq!(market.alarms.len(), 2, "what comes back needs nobody");
    assert_eq!(catalogue(&market).products[0].stock, 2);
    assert_eq!(market.browse(4).0.stock, 2);
}
