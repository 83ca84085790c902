//! A node changes its key: what the platform takes of it, and what it refuses. Demands and responses stand here too.

use hufu_gm::{Signed, sm2::SecretKey};
use hufu_ledger::Log;
use hufu_trade::{
    demand::{Demand, DemandItem, DemandRefusal, Response},
    encode,
    entry::{EntryKind, octet_string},
    octets::{Digest, Octets},
    rotation::{KeyRotation, SignedRotation},
};

use super::{
    judgement::alarm_codes,
    parties::{Party, party},
    world::{POOL, World},
};

fn rotation(world: &World, old: &Party, new: &Party, keys: [&SecretKey; 2], pool: &str) -> Vec<u8> {
    let rotation = KeyRotation {
        version: 1,
        computing_pool_id: pool.to_owned(),
        old: Octets(old.id()),
        new: Octets(new.id()),
        finance_from: world.ledger.size(Log::Finance),
        time: world.now,
        why: "a test".to_owned(),
    };
    let tbs = encode(&rotation, "KeyRotation").expect("DER");
    let octets = |bytes: &[u8]| octet_string(bytes, "SignedRotation").expect("octets");
    let [old_signature, new_signature] = keys.map(|key| octets(&key.sign(&tbs).expect("a signature")));
    let certificates = vec![octets(new.certificate.der())];
    let signed = SignedRotation { rotation: octets(&tbs), old_signature, new_signature, certificates };
    encode(&signed, "SignedRotation").expect("DER")
}

fn rotate(world: &mut World, body: Vec<u8>) {
    world.append(Log::Trade, vec![(EntryKind::KeyRotation, None, body)]);
}

#[tokio::test]
async fn after_a_rotation_only_the_new_key_signs() {
    let mut world = World::open().await;
    let next = party(Some(&world.root), POOL, 9);
    let sold = world.deal();
    world.send_all().await;
    let body = rotation(&world, &world.node, &next, [&world.node.key, &next.key], POOL);
    rotate(&mut world, body);
    let (old, height) = (std::mem::replace(&mut world.node, next), world.ledger.size(Log::Trade));
    world.send_all().await;
    // The old key once more, for the next height: refused with its own reason, and nothing of it is stored.
    let new = std::mem::replace(&mut world.node, old);
    let record = world.notice(&sold, "suspend");
    let forged = world.forged_next(&record);
    let answered = world.send_blocks(Log::Trade, height, vec![forged]).await;
    assert_eq!(answered.problems, ["certificate"]);
    assert_eq!(answered.receipt.expect("a receipt").size, height);
    world.node = new;
    let mut sold = sold;
    world.serve(&mut sold);
    world.bill(&sold, |_| {});
    world.send_all().await;
    let found = alarm_codes(&world).await;
    assert_eq!(found, ["certificate"], "only the forged block");
}

#[tokio::test]
async fn a_rotation_that_lacks_something_is_refused() {
    for (name, want) in [
        ("without the old key", "signature"),
        ("without the new key", "signature"),
        ("another node", "malformed"),
        ("from another key", "certificate"),
        ("to another node's certificate", "certificate"),
    ] {
        let mut world = World::open().await;
        let next = party(Some(&world.root), POOL, 9);
        let stranger = party(Some(&world.root), "s1/n2", 10);
        let (node, buyer) = (&world.node, &world.buyer);
        let body = match name {
            "without the old key" => rotation(&world, node, &next, [&next.key, &next.key], POOL),
            "without the new key" => rotation(&world, node, &next, [&node.key, &node.key], POOL),
            "another node" => rotation(&world, node, &next, [&node.key, &next.key], "s1/n2"),
            "from another key" => rotation(&world, buyer, &next, [&buyer.key, &next.key], POOL),
            _ => rotation(&world, node, &stranger, [&node.key, &stranger.key], POOL),
        };
        rotate(&mut world, body);
        let answered = world.send(Log::Trade, 0).await;
        assert_eq!(alarm_codes(&world).await, [want], "{name}");
        assert_eq!(answered.receipt.expect("a receipt").refused.len(), 1, "{name}");
        // The new key is not in force: what it signs is not taken.
        let height = world.ledger.size(Log::Trade);
        world.node = next;
        let _ = world.deal();
        let answered = world.send(Log::Trade, height).await;
        assert_eq!(answered.problems, ["certificate"], "{name}");
    }
}

fn demand(world: &World, pools: Option<Vec<String>>) -> Demand {
    let plain = Demand {
        version: 1,
        demand_no: Octets([0; 16]),
        buyer: Octets(world.buyer.id()),
        relay: "s1/platform".to_owned(),
        time: world.now,
        valid_until: world.now + 1_000_000_000,
        pools,
        template: "vm".to_owned(),
        items: vec![DemandItem { class: "IaaS".to_owned(), minima: Vec::new(), quantity: 1 }],
        attributes: Vec::new(),
        term_ns: 1,
        start_from: 0,
        start_until: 1,
        ceiling: None,
    };
    Demand { demand_no: plain.number().expect("a number"), ..plain }
}

fn response(world: &World, demand: Digest, follows: Digest, later_ns: i64) -> Response {
    let plain = Response {
        version: 1,
        demand,
        follows,
        proposal_no: Octets([0; 16]),
        computing_pool_id: POOL.to_owned(),
        time: world.now + later_ns,
        proposal: None,
        refusal: Some(DemandRefusal { code: "stock".to_owned(), why: String::new() }),
    };
    Response { proposal_no: plain.number().expect("a number"), ..plain }
}

fn by(party: &Party, tbs: Vec<u8>) -> Vec<u8> {
    Signed::seal(tbs, &party.id(), &party.key).expect("a signature").to_bytes().expect("DER")
}

#[tokio::test]
async fn demands_and_answers_are_judged() {
    for (name, want) in [
        ("right", None),
        ("directed here", None),
        ("directed elsewhere", Some("offer")),
        ("the wrong number", Some("malformed")),
        ("an answer to another demand", Some("offer")),
        ("an answer to none", Some("unknown")),
        ("an answer too late", Some("offer")),
        ("an answer of the buyer", Some("signature")),
    ] {
        let mut world = World::open().await;
        let pools = match name {
            "directed here" => Some(vec![POOL.to_owned()]),
            "directed elsewhere" => Some(vec!["s1/n2".to_owned()]),
            _ => None,
        };
        let mut asked = demand(&world, pools);
        if name == "the wrong number" {
            asked.term_ns = 2;
        }
        let tbs = encode(&asked, "Demand").expect("DER");
        let hash = Octets(hufu_gm::sm3::sm3(&[&tbs]));
        let body = by(&world.platform, tbs);
        let entry = world.append(Log::Trade, vec![(EntryKind::Demand, None, body)]).remove(0);
        if !["directed elsewhere", "the wrong number"].contains(&name) {
            let hash = if name == "an answer to another demand" { Octets([1; 32]) } else { hash };
            let follows = if name == "an answer to none" { Octets([2; 32]) } else { entry.hash };
            let later_ns = if name == "an answer too late" { 2_000_000_000 } else { 1 };
            let tbs = encode(&response(&world, hash, follows, later_ns), "Response").expect("DER");
            let body = by(if name == "an answer of the buyer" { &world.buyer } else { &world.node }, tbs);
            world.append(Log::Trade, vec![(EntryKind::Response, None, body)]);
        }
        world.send(Log::Trade, 0).await;
        assert_eq!(alarm_codes(&world).await, want.into_iter().collect::<Vec<_>>(), "{name}");
    }
}
