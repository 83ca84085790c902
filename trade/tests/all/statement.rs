//! What a statement of each type must and must not hold, and how a contract number comes about.

use hufu_trade::{
    Error,
    entry::SignedStatement,
    octets::Octets,
    statement::{Statement, contract_no},
};

use crate::golden_test::read;

fn golden(name: &str) -> Statement {
    hufu_trade::decode(&read(&format!("Statement-{name}.der")), "Statement").unwrap()
}

/// The field a damaged statement is refused for; empty when it is accepted.
fn check(statement: &Statement) -> &'static str {
    match statement.check() {
        Ok(()) => "",
        Err(Error::Field { what: "Statement", field, .. }) => field,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn the_golden_statements_are_in_order() {
    for name in ["browse", "order", "score"] {
        assert_eq!(check(&golden(name)), "", "{name}");
    }
    let deal = Statement { con_type: 3, ..golden("order") };
    assert_eq!(check(&deal), "", "a deal statement holds what an order holds");
}

type Damage = fn(&mut Statement);

#[test]
fn every_damaged_statement_is_refused_for_its_field() {
    let cases: &[(&str, &str, Damage, &str)] = &[
        ("another version", "browse", |s| s.version = 2, "version"),
        ("type 0", "browse", |s| s.con_type = 0, "conType"),
        ("type 5", "browse", |s| s.con_type = 5, "conType"),
        ("a browse without nonce", "browse", |s| s.nonce = None, "nonce"),
        ("a browse that names an offer", "browse", |s| s.offer = Some(Octets([0; 32])), "offer"),
        ("a browse that follows", "browse", |s| s.follows = Some(Octets([0; 32])), "follows"),
        ("a number of its own choice", "browse", |s| s.contract_no = Octets([0; 16]), "contractNo"),
        ("the number of another time", "browse", |s| s.contract_time += 1, "contractNo"),
        ("the number of another node", "browse", |s| s.computing_pool_id.push('b'), "contractNo"),
        ("the number of another buyer", "browse", |s| s.buyer = Octets([0; 32]), "contractNo"),
        ("an order with a nonce", "order", |s| s.nonce = Some(Octets([0; 16])), "nonce"),
        ("an order without offer", "order", |s| s.offer = None, "offer"),
        ("an order that follows nothing", "order", |s| s.follows = None, "follows"),
        ("an order without requirement", "order", |s| s.requirement = None, "requirement"),
        ("an order without value", "order", |s| s.contract_value = None, "contractValue"),
        ("an order said to be a browse", "order", |s| s.con_type = 1, "nonce"),
        ("an order said to be a score", "order", |s| s.con_type = 4, "requirement"),
        ("no items", "order", |s| s.requirement.as_mut().unwrap().items.clear(), "requirement"),
        (
            "65 items",
            "order",
            |s| {
                let items = &mut s.requirement.as_mut().unwrap().items;
                *items = vec![items[0].clone(); 65];
            },
            "requirement",
        ),
        ("none of an item", "order", |s| s.requirement.as_mut().unwrap().items[0].quantity = 0, "requirement"),
        ("no term", "order", |s| s.requirement.as_mut().unwrap().term_ns = 0, "requirement"),
        ("a term above ten years", "order", |s| s.requirement.as_mut().unwrap().term_ns = u64::MAX, "requirement"),
        ("a negative value", "order", |s| s.contract_value.as_mut().unwrap().amount.0 = -1, "contractValue"),
        ("a score without card", "score", |s| s.score = None, "score"),
        ("no scores", "score", |s| s.score.as_mut().unwrap().items.clear(), "score"),
        ("scores out of order", "score", |s| s.score.as_mut().unwrap().items.reverse(), "score"),
        ("a kind twice", "score", |s| s.score.as_mut().unwrap().items[1].code = 0, "score"),
        ("a kind nobody knows", "score", |s| s.score.as_mut().unwrap().items[2].code = 12, "score"),
        ("a score of 101", "score", |s| s.score.as_mut().unwrap().items[0].score = 101, "score"),
        ("an overall score above 100.00", "score", |s| s.score.as_mut().unwrap().overall = 10_001, "score"),
    ];
    for (name, of, damage, want) in cases {
        let mut statement = golden(of);
        damage(&mut statement);
        assert_eq!(check(&statement), *want, "{name}");
    }
}

#[test]
fn a_contract_number_depends_on_each_of_its_four_values() {
    let no = |buyer: u8, pool: &str, nonce: u8, time: i64| {
        contract_no(Octets([buyer; 32]), pool, Octets([nonce; 16]), time).unwrap()
    };
    let one = no(1, "a/b", 2, 3);
    assert_eq!(one, no(1, "a/b", 2, 3));
    for other in [no(0, "a/b", 2, 3), no(1, "a/c", 2, 3), no(1, "a/b", 0, 3), no(1, "a/b", 2, 4)] {
        assert_ne!(one, other);
    }
}

#[test]
fn a_signed_statement_opens_only_over_a_statement_in_order() {
    let (statement, signature) = (read("Statement-order.der"), read("Statement-order.sig"));
    let signed = SignedStatement::new(&statement, &signature, &[]).unwrap();
    assert_eq!(signed.open().unwrap(), golden("order"));
    for bytes in [&statement[1..], &statement[..10], &[], &read("Offer.der")] {
        assert!(SignedStatement::new(bytes, &signature, &[]).unwrap().open().is_err());
    }
    let wrong = hufu_trade::encode(&Statement { version: 2, ..golden("order") }, "Statement").unwrap();
    assert!(matches!(SignedStatement::new(&wrong, &signature, &[]).unwrap().open(), Err(Error::Field { .. })));
}
