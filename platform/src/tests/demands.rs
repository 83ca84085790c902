//! Demands at the platform: published by a buyer, fetched by nodes, answered once; and plans from catalogues.

use std::collections::BTreeMap;

use hufu_gm::{Signed, sm3::sm3};
use hufu_ledger::Log;
use hufu_trade::{
    decode,
    demand::{Demand, DemandItem, DemandRefusal, Proposal, Response},
    encode,
    entry::EntryKind,
    if2::{
        Answer, Catalogue, DemandList, DemandResponse, Demands, Envelope, Interface, PLATFORM, Product, ProductPrice,
        Sealed, Topic,
    },
    matching::{Matching, Selection},
    octets::{Digest, Octets},
    statement::Reservation,
};
use serde::Serialize;
use serde_json::Value;

use super::{
    parties::{Party, party},
    world::{POOL, SECOND, World},
};
use crate::{
    demand::{self, Publish},
    judge::Code,
    matching::{self, Choose},
    plan::compose,
};

const HOUR: u64 = 3_600_000_000_000;

fn asked(world: &World, edit: impl FnOnce(&mut Demand)) -> Demand {
    let least = vec![Reservation { resource: "cpu".to_owned(), quantity: 2000 }];
    let mut demand = Demand {
        version: 1,
        demand_no: Octets([0; 16]),
        buyer: Octets(world.buyer.id()),
        relay: "s1/platform".to_owned(),
        time: world.now,
        valid_until: world.now + 600 * SECOND,
        pools: None,
        template: "vm".to_owned(),
        items: vec![DemandItem { class: "IaaS".to_owned(), minima: least, quantity: 3 }],
        attributes: Vec::new(),
        term_ns: HOUR,
        start_from: world.now,
        start_until: world.now + 600 * SECOND,
        ceiling: None,
    };
    edit(&mut demand);
    demand.demand_no = demand.number().expect("a number");
    demand
}

fn published(demand: &Demand, by: &Party, chain: &Party) -> Publish {
    let der = encode(demand, "Demand").expect("DER");
    let signature = Sealed(by.key.sign(&der).expect("a signature"));
    Publish { demand: Sealed(der), signature, certificates: vec![Sealed(chain.certificate.der().to_vec())] }
}

impl World {
    async fn publish(&mut self, asked: &Publish) -> Result<Demand, Code> {
        let mut tx = self.store.write().await.expect("a transaction");
        let done = demand::publish(&mut tx, &self.identity, self.now, asked).await.expect("the database");
        tx.commit().await.expect("a commit");
        done.map_err(|refusal| refusal.code)
    }

    /// The node says something; the platform's answer.
    async fn ask<T: Serialize>(&mut self, interface: Interface, body: &T) -> Answer<Value> {
        let (key, id) = (&self.node.key, Octets(self.node.id()));
        let question = interface.is_question().then_some(self.now);
        let sealed =
            Envelope::seal(interface, POOL, PLATFORM, self.now, None, question, body, key, id).expect("a message");
        let topic = Topic::Call { pool: POOL.to_owned(), interface, answer: false };
        let taken = self.inbox.take(self.now, &topic, &sealed.1).await.expect("the database");
        let [answer] = &taken.outgoing[..] else { panic!("{taken:?}") };
        let envelope = Envelope::parse(&answer.payload).expect("an envelope");
        let key = self.identity.key.public_key();
        envelope.open(&key, interface, POOL, &answer.payload).expect("the platform's").payload.body
    }

    async fn demands(&mut self, after: u64) -> DemandList {
        match self.ask(Interface::Demands, &Demands { after }).await {
            Answer::Ok(told) => serde_json::from_value(told).expect("a list"),
            Answer::Error(problem) => panic!("{problem:?}"),
        }
    }
}

/// The node answers a demand: both stand in its log.
fn respond(world: &mut World, demand: &Demand, signed: &[u8], edit: impl FnOnce(&mut Response)) -> DemandResponse {
    let follows = world.append(Log::Trade, vec![(EntryKind::Demand, None, signed.to_vec())]).remove(0).hash;
    let mut response = Response {
        version: 1,
        demand: Octets(sm3(&[&encode(demand, "Demand").expect("DER")])),
        follows,
        proposal_no: Octets([0; 16]),
        computing_pool_id: POOL.to_owned(),
        time: world.now,
        proposal: None,
        refusal: Some(DemandRefusal { code: "stock".to_owned(), why: "nothing is free".to_owned() }),
    };
    edit(&mut response);
    response.proposal_no = response.number().expect("a number");
    let der = encode(&response, "Response").expect("DER");
    let body = Signed::seal(der, &world.node.id(), &world.node.key).expect("a signature").to_bytes().expect("DER");
    let name = world.append(Log::Trade, vec![(EntryKind::Response, None, body)]).remove(0);
    let entry = world.ledger.entry(Log::Trade, name.height, name.index).expect("the entry");
    DemandResponse { demand_no: demand.demand_no.to_string(), entry: Sealed(entry), height: name.height }
}

fn code(answer: Answer<Value>) -> String {
    match answer {
        Answer::Ok(said) => said["state"].as_str().expect("a state").to_owned(),
        Answer::Error(problem) => problem.code,
    }
}

#[tokio::test]
async fn a_demand_reaches_the_nodes_it_is_for_and_is_answered_once() {
    let mut world = World::open().await;
    world.send_all().await;
    let first = asked(&world, |_| ());
    let again = published(&first, &world.buyer, &world.buyer);
    for _ in 0..2 {
        assert_eq!(world.publish(&again).await, Ok(first.clone()), "the same again changes nothing");
    }
    let elsewhere = asked(&world, |d| d.pools = Some(vec!["s1/n2".to_owned()]));
    let last = asked(&world, |d| (d.pools, d.template) = (Some(vec![POOL.to_owned()]), "gpu".to_owned()));
    for demand in [&elsewhere, &last] {
        let request = published(demand, &world.buyer, &world.buyer);
        world.publish(&request).await.expect("it is taken");
    }
    let told = world.demands(0).await;
    assert_eq!((told.demands.len(), told.last, told.more), (2, 3, false));
    let read = |signed: &Sealed| -> Demand {
        let signed = Signed::from_bytes(&signed.0).expect("DER");
        assert!(signed.verify(&world.identity.key.public_key()).is_valid());
        decode(signed.tbs(), "Demand").expect("a demand")
    };
    assert_eq!([read(&told.demands[0]), read(&told.demands[1])], [first.clone(), last]);
    assert_eq!(world.demands(3).await.demands, []);

    let answer = respond(&mut world, &first, &told.demands[0].0, |_| ());
    for _ in 0..2 {
        assert_eq!(code(world.ask(Interface::DemandResponse, &answer).await), "stored");
    }
    world.send_all().await;
    world.now += 1;
    let other = respond(&mut world, &first, &told.demands[0].0, |_| ());
    assert_eq!(code(world.ask(Interface::DemandResponse, &other).await), "duplicate");
    let unknown = asked(&world, |d| d.template = "other".to_owned());
    let stray = respond(&mut world, &unknown, &told.demands[0].0, |_| ());
    assert_eq!(code(world.ask(Interface::DemandResponse, &stray).await), "unknown");
    let foreign = respond(&mut world, &first, &told.demands[0].0, |r| r.computing_pool_id = "s1/n2".to_owned());
    assert_eq!(code(world.ask(Interface::DemandResponse, &foreign).await), "malformed");
    let misnamed = DemandResponse { demand_no: "00".repeat(16), ..answer.clone() };
    assert_eq!(code(world.ask(Interface::DemandResponse, &misnamed).await), "malformed");
    let late = respond(&mut world, &first, &told.demands[0].0, |r| r.time = first.valid_until);
    assert_eq!(code(world.ask(Interface::DemandResponse, &late).await), "offer");
    world.now = first.valid_until;
    assert_eq!(world.demands(0).await.demands, [], "what has lapsed is told to nobody");
}

/// What a buyer signs to choose these proposals.
fn chosen(
    world: &World,
    demand: &Demand,
    by: &Party,
    proposals: &[Octets<16>],
    edit: impl FnOnce(&mut Selection),
) -> Choose {
    let hash = Octets(sm3(&[&encode(demand, "Demand").expect("DER")]));
    let (time, chosen) = (world.now, proposals.to_vec());
    let mut selection = Selection { version: 1, demand: hash, time, chosen, why: "near".to_owned() };
    edit(&mut selection);
    let der = encode(&selection, "Selection").expect("DER");
    let signed = Signed::seal(der, &by.id(), &by.key).expect("a signature");
    Choose { selection: Sealed(signed.to_bytes().expect("DER")) }
}

impl World {
    async fn choose(&mut self, demand: &Demand, asked: &Choose) -> Result<Vec<u8>, Code> {
        let mut tx = self.store.write().await.expect("a transaction");
        let named = (&demand.demand_no.0[..], asked);
        let done = matching::choose(&mut tx, &self.identity, self.now, named).await.expect("the database");
        tx.commit().await.expect("a commit");
        done.map_err(|refusal| refusal.code)
    }
}

#[tokio::test]
async fn what_a_buyer_chooses_is_told_to_the_node_that_answered() {
    let mut world = World::open().await;
    world.send_all().await;
    let wanted = asked(&world, |_| ());
    let request = published(&wanted, &world.buyer, &world.buyer);
    world.publish(&request).await.expect("it is taken");
    let told = world.demands(0).await;
    let hold_until = world.now + 300 * SECOND;
    let proposal = Proposal {
        product_id: "small".to_owned(),
        catalogue_revision: 1,
        quantity: 3,
        term_ns: HOUR,
        tariff: Octets([1; 32]),
        estimate: "1.20".parse().expect("money"),
        hold_until,
    };
    let answer = respond(&mut world, &wanted, &told.demands[0].0, |r| (r.proposal, r.refusal) = (Some(proposal), None));
    assert_eq!(code(world.ask(Interface::DemandResponse, &answer).await), "stored");
    let entry = hufu_ledger::Entry::from_bytes(&answer.entry.0).expect("an entry");
    let response: Response = decode(Signed::from_bytes(&entry.body).expect("DER").tbs(), "Response").expect("one");
    let own = [response.proposal_no];

    let stranger = party(Some(&world.root), "other", 8);
    for (name, request, want) in [
        ("by another", chosen(&world, &wanted, &stranger, &own, |_| ()), Code::Certificate),
        ("no such proposal", chosen(&world, &wanted, &world.buyer, &[Octets([9; 16])], |_| ()), Code::Unknown),
        (
            "of another demand",
            chosen(&world, &wanted, &world.buyer, &own, |s| s.demand = Octets([9; 32])),
            Code::Malformed,
        ),
        ("nothing", chosen(&world, &wanted, &world.buyer, &[], |_| ()), Code::Malformed),
        ("old", chosen(&world, &wanted, &world.buyer, &own, |s| s.time -= 301 * SECOND), Code::Offer),
    ] {
        assert_eq!(world.choose(&wanted, &request).await, Err(want), "{name}");
    }
    let right = chosen(&world, &wanted, &world.buyer, &own, |_| ());
    let made = world.choose(&wanted, &right).await.expect("it is taken");
    assert_eq!(world.choose(&wanted, &right).await, Ok(made.clone()), "the same again");
    let other = chosen(&world, &wanted, &world.buyer, &own, |s| s.why = "far".to_owned());
    assert_eq!(world.choose(&wanted, &other).await, Err(Code::Duplicate));

    world.now += 1;
    let told = world.demands(0).await;
    assert_eq!((told.demands.len(), told.matchings.clone(), told.last), (0, vec![Sealed(made.clone())], 2));
    assert_eq!(world.demands(2).await.matchings, []);
    let signed = Signed::from_bytes(&made).expect("DER");
    assert!(signed.verify(&world.identity.key.public_key()).is_valid());
    let matching: Matching = decode(signed.tbs(), "Matching").expect("a matching");
    matching.check().expect("it holds");
    assert!(matching.chose(&own[0]).expect("a selection") && matching.candidates[0].score == 10_000);
    // The node keeps it, and the platform takes that entry.
    world.append(Log::Trade, vec![(EntryKind::Matching, None, made)]);
    world.send_all().await;

    let late = asked(&world, |d| d.template = "late".to_owned());
    let request = published(&late, &world.buyer, &world.buyer);
    world.publish(&request).await.expect("it is taken");
    let told = world.demands(2).await;
    let answer = respond(&mut world, &late, &told.demands[0].0, |r| {
        (r.proposal, r.refusal) = (response.proposal.clone(), None);
    });
    assert_eq!(code(world.ask(Interface::DemandResponse, &answer).await), "stored");
    let entry = hufu_ledger::Entry::from_bytes(&answer.entry.0).expect("an entry");
    let response: Response = decode(Signed::from_bytes(&entry.body).expect("DER").tbs(), "Response").expect("one");
    world.now = hold_until;
    let request = chosen(&world, &late, &world.buyer, &[response.proposal_no], |_| ());
    assert_eq!(world.choose(&late, &request).await, Err(Code::Offer), "it is held no longer");
}

#[tokio::test]
async fn many_demands_come_in_pages() {
    let mut world = World::open().await;
    world.send_all().await;
    for number in 0..20 {
        let demand = asked(&world, |d| d.template = format!("t{number}"));
        let request = published(&demand, &world.buyer, &world.buyer);
        world.publish(&request).await.expect("it is taken");
    }
    let first = world.demands(0).await;
    assert_eq!((first.demands.len(), first.last, first.more), (16, 16, true));
    world.now += 1;
    let second = world.demands(first.last).await;
    assert_eq!((second.demands.len(), second.last, second.more), (4, 20, false));
}

#[tokio::test]
async fn only_what_its_buyer_signed_for_this_platform_is_published() {
    let mut world = World::open().await;
    let (stranger, self_made) = (party(Some(&world.root), "other", 8), party(None, "self-made", 9));
    let good = asked(&world, |_| ());
    let by_self = asked(&world, |d| d.buyer = Octets(self_made.id()));
    let mut numbered = good.clone();
    numbered.demand_no = Octets([1; 16]);
    let old = asked(&world, |d| d.time -= 301 * SECOND);
    let lapsed = asked(&world, |d| (d.time, d.valid_until) = (d.time - 10, d.time));
    let elsewhere = asked(&world, |d| d.relay = "s2/platform".to_owned());
    let buyer = &world.buyer;
    for (name, request, want) in [
        ("signed by another", published(&good, &stranger, buyer), Code::Signature),
        ("under another certificate", published(&good, buyer, &stranger), Code::Certificate),
        ("under no anchor", published(&by_self, &self_made, &self_made), Code::Certificate),
        ("of another number", published(&numbered, buyer, buyer), Code::Malformed),
        ("for another platform", published(&elsewhere, buyer, buyer), Code::Malformed),
        ("made long ago", published(&old, buyer, buyer), Code::Offer),
        ("lapsed", published(&lapsed, buyer, buyer), Code::Offer),
    ] {
        assert_eq!(world.publish(&request).await, Err(want), "{name}");
    }
    world.send_all().await;
    assert_eq!(world.demands(0).await.demands, []);
}

fn product(id: &str, cpu: u64, stock: u32, price: &str) -> Product {
    Product {
        id: id.to_owned(),
        class: "IaaS".to_owned(),
        name: id.to_owned(),
        spec: BTreeMap::from([("cpu".to_owned(), cpu.to_string())]),
        stock,
        prices: vec![ProductPrice {
            resource: "cpu".to_owned(),
            per: "core-hour".to_owned(),
            scheme: "flat".to_owned(),
            price: price.to_owned(),
        }],
        sla: None,
        delivery: None,
    }
}

fn sold(node: &str, products: Vec<Product>) -> (String, Catalogue) {
    (
        node.to_owned(),
        Catalogue { revision: 1, fingerprint: None::<Digest>, certificates: Vec::new(), products, shop: None },
    )
}

#[tokio::test]
async fn plans_are_composed_of_several_nodes_and_ranked_by_price() {
    let world = World::open().await;
    let demand = asked(&world, |d| d.ceiling = Some("0.70".parse().expect("money")));
    let catalogues = [
        // Two units at 0.20, and dear ones.
        sold("s1/a", vec![product("cheap", 2000, 2, "0.1"), product("dear", 4000, 9, "0.2")]),
        sold("s1/b", vec![product("fair", 2000, 9, "0.15"), product("small", 1999, 9, "0.01")]),
        sold("s1/c", vec![Product { class: "SaaS".to_owned(), ..product("other", 2000, 9, "0.01") }]),
        sold("s1/d", vec![product("none", 2000, 0, "0.01"), product("odd", 2000, 9, "free")]),
    ];
    let plans = compose(&demand, &catalogues);
    let told: Vec<_> = plans
        .iter()
        .map(|plan| {
            let parts = plan.parts.iter().map(|part| format!("{}x{}@{}", part.product, part.quantity, part.node));
            (
                plan.rank,
                plan.estimate_cny.as_str(),
                plan.nodes,
                plan.within_ceiling,
                parts.collect::<Vec<_>>().join(" "),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (1, "0.70", 2, true, "cheapx2@s1/a fairx1@s1/b".to_owned()),
            (2, "0.90", 1, false, "fairx3@s1/b".to_owned()),
            (3, "1.20", 1, false, "cheapx2@s1/a dearx1@s1/a".to_owned()),
        ]
    );
    let directed = Demand { pools: Some(vec!["s1/b".to_owned()]), ..demand.clone() };
    assert_eq!(compose(&directed, &catalogues).len(), 1, "nodes that may not see it take no part");
    let twice = Demand { items: vec![demand.items[0].clone(); 4], ..demand.clone() };
    let plans = compose(&twice, &catalogues[1..2]);
    assert_eq!(plans, [], "four times three of nine");
}
