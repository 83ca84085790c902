//! Demands: fetched, judged, answered, held, ordered or freed. The small world is `market.rs`.

use hufu_gm::{Signed, sm3::sm3};
use hufu_trade::{
    decode,
    demand::{Demand, DemandItem, Response},
    encode,
    if2::{Answer, DemandList, Envelope, Interface, PLATFORM, Sealed, Topic},
    matching::{Matching, Selection, candidates},
    money::Money,
    octets::{Digest, Octets},
    statement::Reservation,
};
use serde_json::{Value, json};

use super::market::{Market, POOL, SECOND, START_NS, core, party, replay};
use crate::node::Event;

fn demand(market: &Market, edit: impl FnOnce(&mut Demand)) -> Demand {
    let now = market.now().real_ns;
    let least = vec![Reservation { resource: "cpu".to_owned(), quantity: 1000 }];
    let mut demand = Demand {
        version: 1,
        demand_no: Octets([0; 16]),
        buyer: Octets(market.buyer.certificate.id()),
        relay: "site-1/platform".to_owned(),
        time: now,
        valid_until: now + 3_600_000_000_000,
        pools: None,
        template: "vm".to_owned(),
        items: vec![DemandItem { class: "IaaS".to_owned(), minima: least, quantity: 2 }],
        attributes: Vec::new(),
        term_ns: 1800 * SECOND,
        start_from: now,
        start_until: now + 3_600_000_000_000,
        ceiling: None,
    };
    edit(&mut demand);
    demand.demand_no = demand.number().unwrap();
    demand
}

/// The platform signs it.
fn signed(market: &Market, demand: &Demand) -> Vec<u8> {
    let platform = &market.platform;
    let der = encode(demand, "Demand").unwrap();
    Signed::seal(der, &platform.certificate.id(), &platform.key).unwrap().to_bytes().unwrap()
}

fn hash(demand: &Demand) -> Digest {
    Octets(sm3(&[&encode(demand, "Demand").unwrap()]))
}

fn tell(market: &mut Market, demands: Vec<Vec<u8>>, last: u64) {
    let demands = demands.into_iter().map(Sealed).collect();
    market.say(Interface::Demands, &Answer::Ok(DemandList { demands, matchings: Vec::new(), last, more: false }));
}

/// The platform tells what was chosen.
fn choose(market: &mut Market, matching: &Matching, last: u64) {
    let platform = &market.platform;
    let der = encode(matching, "Matching").unwrap();
    let signed = Signed::seal(der, &platform.certificate.id(), &platform.key).unwrap().to_bytes().unwrap();
    let told = DemandList { demands: Vec::new(), matchings: vec![Sealed(signed)], last, more: false };
    market.say(Interface::Demands, &Answer::Ok(told));
}

/// The buyer chooses one of two answers: the node's, or that of another node at the same price.
fn matching(market: &Market, own: &Response, is_own: bool) -> Matching {
    let mut other = own.clone();
    other.computing_pool_id = "site-1/node-2".to_owned();
    other.proposal_no = other.number().unwrap();
    let chosen = if is_own { own } else { &other };
    let selection = Selection {
        version: 1,
        demand: own.demand,
        time: market.now().real_ns,
        chosen: vec![chosen.proposal_no],
        why: String::new(),
    };
    let answers = [own, &other].map(|answer| (Octets(sm3(&[&encode(answer, "Response").unwrap()])), answer));
    let buyer = &market.buyer;
    let sealed = Signed::seal(encode(&selection, "Selection").unwrap(), &buyer.certificate.id(), &buyer.key);
    Matching {
        version: 1,
        demand: own.demand,
        relay: "site-1/platform".to_owned(),
        time: market.now().real_ns,
        candidates: candidates(answers, &selection),
        selection: sealed.unwrap(),
    }
}

/// What the node answered to a demand, by its book, after its message said the same.
fn answered(market: &Market, demand: &Demand) -> Response {
    let (name, body, response) = market.core.book.demands[&hash(demand)].answer.clone().expect("an answer");
    let signed = Signed::from_bytes(&body).unwrap();
    assert!(signed.verify(&market.core.identity.key.public_key()).is_valid());
    response.check().unwrap();
    response.answers(market.core.book.demands[&hash(demand)].entry.hash, (hash(demand), demand)).unwrap();
    let told = said(market, Interface::DemandResponse);
    let told = told.iter().find(|body| body["demand_no"] == demand.demand_no.to_string()).expect("it is told");
    let entry: Sealed = serde_json::from_value(told["entry"].clone()).unwrap();
    assert_eq!(hufu_ledger::entry_hash(&entry.0), name.hash.0, "the very entry of the log");
    response
}

/// Bodies of what the node said on an interface since it was last listened to.
fn said(market: &Market, interface: Interface) -> Vec<Value> {
    let wanted = Topic::Call { pool: POOL.to_owned(), interface, answer: false };
    let key = market.core.identity.key.public_key();
    let ours = market.published.iter().filter(|(topic, _)| *topic == wanted);
    ours.map(|(_, bytes)| {
        Envelope::parse(bytes).unwrap().open::<Value>(&key, interface, PLATFORM, bytes).unwrap().payload.body
    })
    .collect()
}

fn stock(market: &Market) -> u32 {
    market.core.shop.catalogue(&market.core.book).products[0].stock
}

#[test]
fn a_demand_that_can_be_served_is_answered_with_a_price_and_held_until_its_time_passed() {
    let mut market = Market::open();
    market.event(Event::Linked);
    market.pass(3 * SECOND);
    assert_eq!(said(&market, Interface::Demands), [json!({ "after": 0 })]);
    let asked = demand(&market, |_| ());
    let (revision, before) = (market.core.book.revision, stock(&market));
    assert_eq!(before, 2);
    let der = signed(&market, &asked);
    tell(&mut market, vec![der.clone()], 7);
    let proposal = answered(&market, &asked).proposal.expect("a proposal");
    // Two cores for half an hour at 0.36 CNY a core-hour.
    assert_eq!(
        (proposal.product_id.as_str(), proposal.quantity, proposal.estimate.to_string().as_str()),
        ("small", 2, "0.36")
    );
    assert_eq!((stock(&market), market.core.book.revision), (0, revision + 1), "the capacity is held");
    // Told again it is answered no second time, and another buyer finds nothing.
    let size = market.ledger.size(hufu_ledger::Log::Trade);
    tell(&mut market, vec![der], 7);
    assert_eq!(market.ledger.size(hufu_ledger::Log::Trade), size);
    let other = demand(&market, |other| (other.buyer, other.items[0].quantity) = (Octets([7; 32]), 1));
    let der = signed(&market, &other);
    tell(&mut market, vec![der], 8);
    assert_eq!(answered(&market, &other).refusal.expect("a refusal").code, "stock");
    market.published.clear();
    market.pass(60 * SECOND);
    assert_eq!(said(&market, Interface::Demands), [json!({ "after": 8 })]);
    assert_eq!(said(&market, Interface::DemandResponse).len(), 2, "until the platform has them");
    market.say(Interface::DemandResponse, &json!({ "ok": { "demand_no": asked.demand_no.to_string() } }));
    market.published.clear();
    market.pass(20 * SECOND);
    assert_eq!(said(&market, Interface::DemandResponse).len(), 1);
    market.pass(900 * SECOND);
    assert_eq!((stock(&market), market.core.book.revision), (2, revision + 2), "and free again");
    replays(&market, revision + 2);
}

/// A node that is started anew tells no lower revision, and holds no more, and knows the same from a kept state.
fn replays(market: &Market, revision: u64) {
    let root = party(None, "root", 1);
    let mut again = core(&market.platform, &party(Some(&root), "node", 3), &root);
    replay(&mut again, &market.ledger);
    again.due(market.now(), super::market::QUALITY).unwrap();
    assert_eq!((again.book.revision, again.book.demands.clone()), (revision, market.core.book.demands.clone()));
    let state = crate::core_state::write(&market.core.book).unwrap();
    let kept = crate::core_state::read(&state, &market.ledger).unwrap();
    assert_eq!((kept.revision, &kept.demands), (revision, &market.core.book.demands));
}

#[test]
fn what_the_buyer_did_not_choose_is_free_at_once_and_what_it_chose_stays_held() {
    for (is_own, left) in [(true, 0), (false, 2)] {
        let mut market = Market::open();
        market.event(Event::Linked);
        let asked = demand(&market, |_| ());
        let der = signed(&market, &asked);
        tell(&mut market, vec![der], 1);
        let own = answered(&market, &asked);
        assert_eq!(stock(&market), 0);
        let chosen = matching(&market, &own, is_own);
        let mut foreign = chosen.clone();
        foreign.selection = Signed::from_parts(chosen.selection.tbs().to_vec(), &[9; 32], vec![1]).unwrap();
        let mut raised = chosen.clone();
        raised.candidates[0].score -= 1;
        let size = market.ledger.size(hufu_ledger::Log::Trade);
        for (name, wrong) in [("of another buyer", foreign), ("with other scores", raised)] {
            market.alarms.clear();
            choose(&mut market, &wrong, 2);
            assert_eq!((market.alarms.len(), stock(&market)), (1, 0), "{name}");
        }
        assert_eq!(market.ledger.size(hufu_ledger::Log::Trade), size);
        let revision = market.core.book.revision;
        for place in [3, 4] {
            choose(&mut market, &chosen, place);
            assert_eq!(market.ledger.size(hufu_ledger::Log::Trade), size + 1, "once");
        }
        let expected = revision + u64::from(!is_own);
        assert_eq!((stock(&market), market.core.book.revision), (left, expected));
        replays(&market, expected);
    }
}

#[test]
fn what_is_held_for_a_buyer_is_what_its_order_takes() {
    let mut market = Market::open();
    market.event(Event::Linked);
    let asked = demand(&market, |_| ());
    let der = signed(&market, &asked);
    tell(&mut market, vec![der], 1);
    assert_eq!(stock(&market), 0);
    let (offer, offer_hash) = market.browse(1);
    assert_eq!(offer.stock, 2, "to this buyer it is offered");
    let request = market.order_request(&offer, offer_hash, 1800, |statement| {
        statement.requirement.as_mut().unwrap().items[0].quantity = 2;
    });
    assert_eq!(Market::code(market.say(Interface::SendOrder, &request)), "accepted");
    assert_eq!(stock(&market), 0, "held once, by the order");
    let revision = market.core.book.revision;
    market.pass(901 * SECOND);
    assert_eq!((stock(&market), market.core.book.revision), (0, revision));
    replays(&market, revision);
}

#[test]
fn what_cannot_be_served_is_refused_with_the_reason_of_what_came_closest() {
    let hour = 3_600_000_000_000_i64;
    type Edit = fn(&mut Demand);
    let cases: [(&str, &str, Edit); 8] = [
        ("another class", "unknown", |d| d.items[0].class = "SaaS".to_owned()),
        ("more of a unit than there is", "unknown", |d| d.items[0].minima[0].quantity = 1001),
        ("a resource that it has not", "unknown", |d| d.items[0].minima[0].resource = "gpu".to_owned()),
        ("a longer term", "offer", |d| d.term_ns = 3601 * SECOND),
        ("more units", "stock", |d| d.items[0].quantity = 3),
        ("units beyond 32 bits", "stock", |d| {
            let more = DemandItem { quantity: u32::MAX, ..d.items[0].clone() };
            d.items.push(more);
        }),
        ("too cheap", "amount", |d| d.ceiling = Some("0.35".parse::<Money>().unwrap())),
        ("a later start", "offer", |d| {
            (d.start_from, d.start_until) = (d.start_from + 1_000_000_000_000, d.start_until + 1_000_000_000_000)
        }),
    ];
    let mut market = Market::open();
    market.event(Event::Linked);
    for (place, (name, code, edit)) in (1..).zip(cases) {
        let asked = demand(&market, edit);
        let der = signed(&market, &asked);
        tell(&mut market, vec![der], place);
        assert_eq!(answered(&market, &asked).refusal.expect(name).code, code, "{name}");
    }
    assert_eq!(stock(&market), 2);
    // At the price that it names it is served; one that starts before now is over.
    let fits = demand(&market, |d| d.ceiling = Some("0.36".parse::<Money>().unwrap()));
    let past = demand(&market, |d| (d.start_from, d.start_until) = (START_NS - 2 * hour, START_NS - hour));
    let both = vec![signed(&market, &fits), signed(&market, &past)];
    tell(&mut market, both, 20);
    assert!(answered(&market, &fits).proposal.is_some());
    assert_eq!(answered(&market, &past).refusal.unwrap().code, "offer");
}

#[test]
fn a_demand_that_is_not_the_platforms_own_for_this_node_is_an_alarm_and_no_entry() {
    let mut market = Market::open();
    market.event(Event::Linked);
    let size = market.ledger.size(hufu_ledger::Log::Trade);
    let good = demand(&market, |_| ());
    let by_buyer = {
        let der = encode(&good, "Demand").unwrap();
        Signed::seal(der, &market.buyer.certificate.id(), &market.buyer.key).unwrap().to_bytes().unwrap()
    };
    let elsewhere = demand(&market, |d| d.pools = Some(vec!["site-1/node-2".to_owned()]));
    let relayed = demand(&market, |d| d.relay = "site-2/platform".to_owned());
    let mut renumbered = demand(&market, |_| ());
    renumbered.demand_no = Octets([3; 16]);
    let lapsed = demand(&market, |d| (d.time, d.valid_until) = (d.time - 10, d.time));
    for (place, (name, der, alarms)) in (1..).zip([
        ("signed by another", by_buyer, 1),
        ("for another node", signed(&market, &elsewhere), 1),
        ("of another platform", signed(&market, &relayed), 1),
        ("of another number", signed(&market, &renumbered), 1),
        ("no DER", vec![7; 40], 1),
        ("lapsed", signed(&market, &lapsed), 0),
    ]) {
        market.alarms.clear();
        tell(&mut market, vec![der], place);
        assert_eq!(market.alarms.len(), alarms, "{name}: {:?}", market.alarms);
    }
    // A count that goes back, more than a page, an error.
    for wrong in [
        json!({ "ok": { "demands": [], "matchings": [], "last": 0, "more": false } }),
        json!({ "ok": { "demands": vec!["AA"; 9], "matchings": vec!["AA"; 8], "last": 9, "more": false } }),
        json!({ "error": { "code": "malformed", "remedy": { "en": "x", "zh": "x" } } }),
    ] {
        market.alarms.clear();
        market.say(Interface::Demands, &wrong);
        assert_eq!(market.alarms.len(), 1, "{wrong}");
    }
    assert_eq!(market.ledger.size(hufu_ledger::Log::Trade), size);
    let found: Response = {
        let der = signed(&market, &good);
        tell(&mut market, vec![der], 9);
        let (_, body, _) = market.core.book.demands[&hash(&good)].answer.clone().unwrap();
        decode(Signed::from_bytes(&body).unwrap().tbs(), "Response").unwrap()
    };
    assert!(found.proposal.is_some(), "after all of that it still answers");
}
