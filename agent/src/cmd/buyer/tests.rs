//! The buyer against a node made here: an honest offer and deal pass, and every single change is refused with its own reason.

use hufu_audit::{Exit, Failure};
use hufu_gm::{
    Certificate, SecretKey, Signed,
    ca::{self, Role, Terms},
    sm3::sm3,
};
use hufu_ledger::{Entry, entry_hash};
use hufu_trade::{
    encode,
    entry::{Countersignature, Deal, EntryKind, EntryName, SignedStatement, octet_string},
    if2::{Accepted, Offered, Sealed, SendOrder},
    money::Money,
    octets::Octets,
    statement::{Offer, ScoreItem, Statement},
    tariff::Tariff,
};

use super::{
    check::{self, Checked},
    sign::{self, Buyer},
    state::Asked,
};
use crate::text::Text;

const NOW_NS: i64 = 1_800_000_000_000_000_000;
const HOUR_NS: i64 = 3_600_000_000_000;

/// Root, node and buyer, and what the buyer asked.
struct World {
    anchors: Vec<Certificate>,
    key: SecretKey,
    node: Certificate,
    buyer: Buyer,
    asked: Asked,
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_scalar(&[n; 32]).unwrap()
}

fn terms(serial: &[u8; 16]) -> Terms<'_> {
    let (not_before_s, not_after_s) = (NOW_NS / 1_000_000_000 - 1000, NOW_NS / 1_000_000_000 + 86_400);
    Terms { serial, not_before_s, not_after_s, dns_names: &[] }
}

fn issue(root: &Certificate, name: &str, n: u8, serial: &[u8; 16]) -> Certificate {
    ca::issue(root, &key(1), Role::Signer, name, &key(n).public_key(), &terms(serial)).unwrap()
}

fn world() -> World {
    let root = ca::root(&key(1), "CN=root", None, &terms(&[1; 16])).unwrap();
    let node = issue(&root, "CN=s1/n1", 2, &[2; 16]);
    let buyer = Buyer::new(key(3), vec![issue(&root, "CN=buyer", 3, &[3; 16])]).unwrap();
    let asked = sign::browse(&buyer, "s1/n1", "small", NOW_NS).unwrap();
    World { anchors: vec![root], key: key(2), node, buyer, asked }
}

impl World {
    fn entry(&self) -> Vec<u8> {
        let request = &self.asked.request;
        let chain: Vec<Vec<u8>> = request.certificates.iter().map(|c| c.0.clone()).collect();
        let body = SignedStatement::new(&request.statement.0, &request.signature.0, &chain).unwrap();
        let body = encode(&body, "SignedStatement").unwrap();
        Entry { salt: [0; 16], kind: EntryKind::Browse.number(), body }.to_bytes().unwrap()
    }

    fn offer(&self) -> Offer {
        let tariff = "[[price]]\nresource = \"cpu\"\nprice = \"1\"\n[[price]]\nresource = \"memory\"\nprice = \"1\"\n";
        Offer {
            version: 1,
            contract_no: Octets::from_hex(&self.asked.contract_no).unwrap(),
            computing_pool_id: "s1/n1".to_owned(),
            buyer: self.buyer.id,
            browse: Octets(entry_hash(&self.entry())),
            product_id: "small".to_owned(),
            catalogue_revision: 3,
            stock: 2,
            term_ns_max: HOUR_NS.unsigned_abs(),
            valid_from: NOW_NS,
            valid_until: NOW_NS + HOUR_NS,
            tariff: Tariff::from_toml(tariff).unwrap(),
            metered: Vec::new(),
            window_ns: 5_000_000_000,
            reserves: Vec::new(),
            rules: Octets(sm3(&[hufu_trade::rules::DEFAULT.as_bytes()])),
            fingerprint: None,
        }
    }

    fn seal(&self, bytes: Vec<u8>) -> Signed {
        Signed::seal(bytes, &self.node.id(), &self.key).unwrap()
    }

    fn offered(&self, offer: &Offer) -> Offered {
        let signed = self.seal(encode(offer, "Offer").unwrap());
        Offered {
            offer: Sealed(signed.to_bytes().unwrap()),
            certificates: vec![Sealed(self.node.der().to_vec())],
            rules: hufu_trade::rules::DEFAULT.to_owned(),
            entry: Sealed(self.entry()),
        }
    }

    fn check(&self, offered: &Offered) -> Result<Checked, Failure<Text>> {
        check::offer(&self.asked, offered, &self.anchors, NOW_NS)
    }

    fn deal(&self, checked: &Checked, order: &SendOrder) -> Deal {
        let ordered: Statement = hufu_trade::decode(&order.statement.0, "Statement").unwrap();
        let counter = Countersignature {
            statement: sign::digest(&order.statement.0),
            buyer_signature: sign::digest(&order.signature.0),
            computing_pool_id: "s1/n1".to_owned(),
            time: NOW_NS,
        };
        Deal {
            version: 1,
            con_type: 3,
            contract_no: checked.offer.contract_no,
            contract_time: NOW_NS,
            computing_pool_id: "s1/n1".to_owned(),
            buyer: self.buyer.id,
            order: EntryName { log: 0, height: 5, index: 0, hash: Octets([0; 32]) },
            offer: checked.offer_hash,
            requirement: ordered.requirement.unwrap(),
            contract_value: ordered.contract_value.unwrap(),
            buyer_signature: octet_string(&order.signature.0, "Deal").unwrap(),
            countersignature: self.seal(encode(&counter, "Countersignature").unwrap()),
            service_end: NOW_NS + HOUR_NS,
        }
    }
}

fn accepted(deal: &Deal) -> Accepted {
    let entry = Entry { salt: [0; 16], kind: EntryKind::Deal.number(), body: encode(deal, "Deal").unwrap() };
    Accepted {
        contract_no: deal.contract_no.to_string(),
        entry: Sealed(entry.to_bytes().unwrap()),
        height: 6,
        index: 0,
        address: None,
    }
}

fn refused<T>(name: &str, outcome: Result<T, Failure<Text>>, want: &str) {
    match outcome {
        Ok(_) => panic!("{name} was believed"),
        Err(failure) => {
            assert_eq!(failure.exit, Exit::No, "{name}: {:?}", failure.text);
            let said = format!("{:?}", failure.text);
            assert!(said.contains(want), "{name}: {said}");
        }
    }
}

#[test]
fn an_honest_offer_and_deal_pass() {
    let world = world();
    let checked = world.check(&world.offered(&world.offer())).ok().unwrap();
    check::offer_is_mine(&checked, &world.buyer).unwrap();
    let wanted = (1, HOUR_NS.unsigned_abs(), Some(Money(100)));
    let order = sign::order(&world.buyer, &checked, wanted, None, NOW_NS).unwrap();
    let deal = accepted(&world.deal(&checked, &order));
    check::deal(&checked, &order, &deal).unwrap();
    let scores = [ScoreItem { code: 1, score: 90 }, ScoreItem { code: 0, score: 100 }];
    let card = check::score_card(&checked, &scores).unwrap();
    assert_eq!(card.overall, 9600);
    let signed = sign::score(&world.buyer, &checked, &deal, card, NOW_NS).unwrap();
    assert_eq!(sign::overall(&signed).unwrap(), "96.00");
    assert!(check::score_card(&checked, &scores[..1]).is_err(), "a kind is missing");
}

#[test]
fn every_change_of_an_offer_is_refused() {
    let world = world();
    type Change = fn(&mut Offer);
    let changes: [(&str, Change, &str); 9] = [
        ("another contract", |o| o.contract_no = Octets([9; 16]), "contractNo"),
        ("another pool", |o| o.computing_pool_id = "s1/n2".to_owned(), "computingPoolId"),
        ("another buyer", |o| o.buyer = Octets([9; 32]), "buyer"),
        ("another product", |o| o.product_id = "large".to_owned(), "productId"),
        ("another browse entry", |o| o.browse = Octets([9; 32]), "browse"),
        ("expired", |o| o.valid_until = NOW_NS, "OfferExpired"),
        ("from the future", |o| o.valid_from = NOW_NS + HOUR_NS, "OfferEarly"),
        ("unknown rounding", |o| o.tariff.rounding = "up".to_owned(), "OfferTariff"),
        ("another rule table", |o| o.rules = Octets([9; 32]), "OfferRules"),
    ];
    for (name, change, want) in changes {
        let mut offer = world.offer();
        change(&mut offer);
        refused(name, world.check(&world.offered(&offer)), want);
    }
    let later = world.check(&world.offered(&Offer { version: 2, ..world.offer() })).err().unwrap();
    assert_eq!(later.exit, Exit::Malformed, "an offer of another version is not read");
    let mut unsigned = world.offered(&world.offer());
    let signed = Signed::from_bytes(&unsigned.offer.0).unwrap();
    let forged = Signed::seal(signed.tbs().to_vec(), &world.node.id(), &key(7)).unwrap();
    unsigned.offer = Sealed(forged.to_bytes().unwrap());
    refused("signed by another key", world.check(&unsigned), "OfferSignature");
    let mut stranger = world.offered(&world.offer());
    stranger.certificates = world.asked.request.certificates.clone();
    refused("the certificate of another", world.check(&stranger), "OfferNode");
    for subject in ["CN=n1", "CN=s1/n2", "CN=s2/n1"] {
        let node = issue(&world.anchors[0], subject, 2, &[4; 16]);
        let mut other = world.offered(&world.offer());
        other.certificates = vec![Sealed(node.der().to_vec())];
        refused(subject, world.check(&other), "OfferNode");
    }
    let offered = world.offered(&world.offer());
    refused("no anchor", check::offer(&world.asked, &offered, &[], NOW_NS), "OfferChain");
}

#[test]
fn an_order_beyond_the_offer_is_not_signed() {
    let offer = world().offer();
    for (quantity, term_ns, want) in [(3, 1, "OfferStock"), (1, HOUR_NS.unsigned_abs() + 1, "OfferTerm")] {
        refused(want, check::order_fits(&offer, quantity, term_ns), want);
    }
    check::order_fits(&offer, 2, HOUR_NS.unsigned_abs()).unwrap();
}

#[test]
fn every_change_of_a_deal_is_refused() {
    let world = world();
    let checked = world.check(&world.offered(&world.offer())).ok().unwrap();
    let wanted = (1, HOUR_NS.unsigned_abs(), Some(Money(100)));
    let order = sign::order(&world.buyer, &checked, wanted, None, NOW_NS).unwrap();
    type Change = fn(&mut Deal);
    let changes: [(&str, Change, &str); 8] = [
        ("another contract", |d| d.contract_no = Octets([9; 16]), "contractNo"),
        ("another pool", |d| d.computing_pool_id = "s1/n2".to_owned(), "computingPoolId"),
        ("another buyer", |d| d.buyer = Octets([9; 32]), "buyer"),
        ("another offer", |d| d.offer = Octets([9; 32]), "offer"),
        ("a higher quantity", |d| d.requirement.items[0].quantity = 2, "requirement"),
        ("a higher ceiling", |d| d.contract_value.amount = Money(101), "contractValue"),
        ("another signature", |d| d.buyer_signature = octet_string(&[1], "Deal").unwrap(), "buyerSignature"),
        ("a shorter service", |d| d.service_end -= 1, "serviceEnd"),
    ];
    for (name, change, want) in changes {
        let mut deal = world.deal(&checked, &order);
        change(&mut deal);
        refused(name, check::deal(&checked, &order, &accepted(&deal)), want);
    }
    let mut forged = world.deal(&checked, &order);
    let said = forged.countersignature.tbs().to_vec();
    forged.countersignature = Signed::seal(said, &world.node.id(), &key(7)).unwrap();
    refused("a forged countersignature", check::deal(&checked, &order, &accepted(&forged)), "countersignature");
}
