//! Demands, responses and rotations: what each check refuses, and which key may sign which block.

use hufu_trade::{
    Error,
    demand::{Demand, DemandRefusal, Response},
    entry::octet_string,
    octets::Octets,
    rotation::{SignedRotation, Signers},
};

use crate::{
    golden_kinds::{demand, next_node, response, rotated},
    parties::{POOL, Parties},
    wire::digest,
};

fn field(found: Result<impl std::fmt::Debug, Error>, name: &str) -> &'static str {
    match found {
        Err(Error::Field { field, .. }) => field,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn a_demand_out_of_range_is_refused() {
    let good = demand(Octets([1; 32])).unwrap();
    good.check().unwrap();
    type Change = fn(&mut Demand);
    let changes: [(&str, &str, Change); 17] = [
        ("another relay", "relay", |d| d.relay = "site-1/node-a".to_owned()),
        ("lapsed at once", "validUntil", |d| d.valid_until = d.time),
        ("directed to nobody", "pools", |d| d.pools = Some(vec![])),
        ("directed to a platform", "pools", |d| d.pools = Some(vec!["site-1/platform".to_owned()])),
        ("a node twice", "pools", |d| d.pools = Some(vec![POOL.to_owned(); 2])),
        ("no template", "template", |d| d.template = String::new()),
        ("nothing looked for", "items", |d| d.items.clear()),
        ("an unknown class", "items", |d| d.items[0].class = "XaaS".to_owned()),
        ("none of it", "items", |d| d.items[0].quantity = 0),
        ("an unknown resource", "items", |d| d.items[0].minima[0].resource = "soul".to_owned()),
        ("minima that fall", "items", |d| d.items[0].minima.reverse()),
        ("attributes that fall", "attributes", |d| d.attributes.reverse()),
        ("an attribute of nothing", "attributes", |d| d.attributes[0].value = String::new()),
        ("a term of nothing", "termNs", |d| d.term_ns = 0),
        ("a start that cannot be", "startUntil", |d| d.start_until = d.start_from),
        ("a negative ceiling", "ceiling", |d| d.ceiling = Some("-1".parse().unwrap())),
        ("more after it had its number", "demandNo", |d| d.items[0].quantity = 4),
    ];
    for (name, want, change) in changes {
        let mut other = good.clone();
        change(&mut other);
        if want != "demandNo" {
            other.demand_no = other.number().unwrap();
        }
        assert_eq!(field(other.check(), name), want, "{name}");
    }
    let open = Demand { pools: None, ..good.clone() };
    assert!(open.is_for("site-9/n") && good.is_for(POOL) && !good.is_for("site-9/n"));
}

#[test]
fn a_response_out_of_range_or_to_another_demand_is_refused() {
    let asked = demand(Octets([1; 32])).unwrap();
    let follows = digest(b"an entry");
    let good = response(follows, &asked, None).unwrap();
    let refusal = DemandRefusal { code: "stock".to_owned(), why: String::new() };
    let no = response(follows, &asked, Some(refusal.clone())).unwrap();
    let hash = good.demand;
    for one in [&good, &no] {
        one.check().unwrap();
        one.answers(follows, (hash, &asked)).unwrap();
    }
    type Change = fn(&mut Response);
    let changes: [(&str, &str, Change); 8] = [
        ("nobody answers", "computingPoolId", |r| r.computing_pool_id = "site-1".to_owned()),
        ("neither yes nor no", "proposal", |r| r.proposal = None),
        ("no product", "proposal", |r| r.proposal.as_mut().unwrap().product_id = String::new()),
        ("no unit", "proposal", |r| r.proposal.as_mut().unwrap().quantity = 0),
        ("no term", "proposal", |r| r.proposal.as_mut().unwrap().term_ns = 0),
        ("half a fen", "proposal", |r| r.proposal.as_mut().unwrap().estimate.0 += 500_000),
        ("held until before", "proposal", |r| r.proposal.as_mut().unwrap().hold_until = r.time),
        ("less after it had its number", "proposalNo", |r| r.proposal.as_mut().unwrap().quantity = 1),
    ];
    for (name, want, change) in changes {
        let mut other = good.clone();
        change(&mut other);
        if want != "proposalNo" {
            other.proposal_no = other.number().unwrap();
        }
        assert_eq!(field(other.check(), name), want, "{name}");
    }
    let mut both = Response { refusal: Some(refusal), ..good.clone() };
    both.proposal_no = both.number().unwrap();
    assert_eq!(field(both.check(), "yes and no"), "proposal");

    let other = Demand { ceiling: None, ..asked.clone() };
    let elsewhere = Response { computing_pool_id: "site-1/node-b".to_owned(), ..good.clone() };
    let late = Response { time: asked.valid_until, ..good.clone() };
    let other_hash = digest(&hufu_trade::encode(&other, "Demand").unwrap());
    for (name, want, found) in [
        ("another demand", "demand", good.answers(follows, (other_hash, &other))),
        ("another entry", "demand", good.answers(digest(b"x"), (hash, &asked))),
        ("not asked", "computingPoolId", elsewhere.answers(follows, (hash, &asked))),
        ("too late", "time", late.answers(follows, (hash, &asked))),
    ] {
        assert_eq!(field(found, name), want, "{name}");
    }
}

#[test]
fn a_rotation_needs_both_keys_and_this_node() {
    let parties = Parties::new().unwrap();
    let next = next_node(&parties, POOL).unwrap();
    let (node, buyer) = (&parties.node, &parties.buyer);
    let old = (node.id(), &node.key.public_key());
    let (rotation, good) = rotated(node, &next).unwrap();
    assert_eq!(good.check(POOL, old).unwrap(), (rotation.clone(), next.certificate.clone()));
    let octets = |bytes: &[u8]| octet_string(bytes, "x").unwrap();
    let by = |key: &hufu_gm::SecretKey| octets(&key.sign(good.rotation.as_bytes()).unwrap());
    let with = |change: &dyn Fn(&mut SignedRotation)| {
        let mut other = good.clone();
        change(&mut other);
        other
    };
    for (name, want, other) in [
        ("without the old signature", "oldSignature", with(&|r| r.old_signature = octets(&[]))),
        ("without the new signature", "newSignature", with(&|r| r.new_signature = octets(&[]))),
        ("the new key in the old one's place", "oldSignature", with(&|r| r.old_signature = by(&next.key))),
        ("somebody's for the new one", "newSignature", with(&|r| r.new_signature = by(&buyer.key))),
        ("without the certificate", "certificates", with(&|r| r.certificates.clear())),
        ("another certificate", "certificates", with(&|r| r.certificates[0] = octets(buyer.certificate.der()))),
        ("to the same certificate", "new", rotated(node, node).unwrap().1),
        ("from another key", "old", rotated(buyer, &next).unwrap().1),
    ] {
        assert_eq!(field(other.check(POOL, old), name), want, "{name}");
    }
    assert_eq!(field(good.check("site-1/node-b", old), "another node"), "computingPoolId");
}

#[test]
fn each_key_signs_its_own_blocks_only() {
    let parties = Parties::new().unwrap();
    let next = next_node(&parties, POOL).unwrap();
    let (a, b, c) = (parties.node.key.public_key(), next.key.public_key(), parties.buyer.key.public_key());
    let (rotation, _) = rotated(&parties.node, &next).unwrap();
    let mut signers = Signers::default();
    signers.introduce(&a);
    assert!(signers.may_sign(0, u64::MAX - 1, &a), "without a rotation nothing ends");
    signers.rotate(33, &rotation, (&a, &b)).unwrap();
    for (log, height, by_old) in [(0, 0, true), (0, 33, true), (0, 34, false), (1, 4, true), (1, 5, false)] {
        assert_eq!(signers.may_sign(log, height, &a), by_old, "old, log {log} height {height}");
        assert_eq!(signers.may_sign(log, height, &b), !by_old, "new, log {log} height {height}");
    }
    // A certificate of the old key that comes later brings nothing back, and no key comes a second time.
    signers.introduce(&a);
    assert!(!signers.may_sign(0, 34, &a));
    let mut back = rotation.clone();
    back.finance_from = 9;
    assert!(signers.rotate(40, &back, (&b, &a)).is_err());
    back.finance_from = 4;
    assert_eq!(field(signers.rotate(40, &back, (&b, &c)), "finance"), "financeFrom");
    back.finance_from = 9;
    signers.rotate(40, &back, (&b, &c)).unwrap();
    for (height, by) in [(33, &a), (34, &b), (40, &b), (41, &c)] {
        let may = [&a, &b, &c].map(|key| signers.may_sign(0, height, key));
        assert_eq!(may, [&a, &b, &c].map(|key| key == by), "height {height}");
    }
    assert!(signers.may_sign(0, 0, &parties.platform.key.public_key()), "an unknown key is another question");
}
