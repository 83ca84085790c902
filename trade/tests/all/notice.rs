//! Notices and what renewals make of a deal: every field that does not belong to the act is refused, a renewal stays within
//! the offer, and what bills leave of a ceiling is never below zero.

use hufu_gm::Signed;
use hufu_trade::{
    Error, decode,
    entry::{Deal, SignedStatement},
    money::Money,
    notice::{InForce, Notice, Renewal, WHY_CHARS_MAX},
    octets::Octets,
    statement::{ContractValue, Offer, Payment as Paying, TERM_NS_MAX},
};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

use crate::golden_test::read;

fn golden(name: &str) -> Notice {
    decode(&read(&format!("Notice-{name}.der")), "Notice").unwrap()
}

#[test]
fn the_golden_notices_are_in_order_and_their_parts_stand_in_them() {
    for name in ["renew", "dispute", "uphold"] {
        golden(name).check().unwrap();
        let signed = Signed::from_bytes(&read(&format!("Signed-notice-{name}.der"))).unwrap();
        assert_eq!(signed.tbs(), read(&format!("Notice-{name}.der")));
    }
    let deal: Deal = decode(&read("Deal.der"), "Deal").unwrap();
    let offer: Offer = decode(&read("Offer.der"), "Offer").unwrap();
    let renew = golden("renew");
    let renewal = renew.renewal.unwrap();
    assert_eq!(renewal, decode(&read("Renewal.der"), "Renewal").unwrap());
    let in_force = InForce::of(&deal);
    assert!(in_force.takes(&renewal, (&offer, &deal), renew.time));
    let longer = InForce { service_end: deal.service_end + 3_600_000_000_000, value: renewal.contract_value };
    assert_eq!(in_force.renewed(&renewal).unwrap(), longer);
    assert_eq!(longer.left([Money(0)]).unwrap(), Some("80".parse().unwrap()));
}

#[test]
fn a_notice_is_no_statement_and_a_statement_no_notice() {
    for name in ["renew", "dispute", "uphold"] {
        let bytes = read(&format!("Notice-{name}.der"));
        assert!(decode::<hufu_trade::statement::Statement>(&bytes, "Statement").is_err(), "{name}");
        assert!(decode::<SignedStatement>(&read(&format!("Signed-notice-{name}.der")), "SignedStatement").is_err());
    }
    for name in ["browse", "order", "score"] {
        assert!(decode::<Notice>(&read(&format!("Statement-{name}.der")), "Notice").is_err(), "{name}");
    }
    for name in ["Offer", "Receipt", "Countersignature", "BlockHeader-rules", "Checkpoint"] {
        assert!(decode::<Notice>(&read(&format!("{name}.der")), "Notice").is_err(), "{name}");
    }
}

/// One change to a good notice, and the field that is refused; `""` when it is still in order.
type Case = (&'static str, &'static str, fn(&mut Notice), &'static str);

#[test]
fn every_field_that_does_not_belong_is_refused() {
    let cases: &[Case] = &[
        ("nothing changed", "renew", |_| (), ""),
        ("version 0", "renew", |n| n.version = 0, "version"),
        ("version 2", "dispute", |n| n.version = 2, "version"),
        ("no act", "uphold", |n| n.act.clear(), "act"),
        ("an act of one letter", "uphold", |n| n.act = "a".to_owned(), ""),
        ("an act of 32", "uphold", |n| n.act = "a_b".repeat(11)[..32].to_owned(), ""),
        ("an act of 33", "uphold", |n| n.act = "a".repeat(33), "act"),
        ("a capital letter", "uphold", |n| n.act = "Uphold".to_owned(), "act"),
        ("a digit", "uphold", |n| n.act = "uphold2".to_owned(), "act"),
        ("a hyphen", "uphold", |n| n.act = "up-hold".to_owned(), "act"),
        ("a space behind it", "uphold", |n| n.act = "uphold ".to_owned(), "act"),
        ("another script", "uphold", |n| n.act = "虎".to_owned(), "act"),
        ("a renewal without terms", "renew", |n| n.renewal = None, "renewal"),
        ("terms without a renewal", "uphold", |n| n.renewal = golden("renew").renewal, "renewal"),
        ("terms in a dispute", "dispute", |n| n.renewal = golden("renew").renewal, "renewal"),
        ("a term of nothing", "renew", |n| n.renewal.as_mut().unwrap().term_ns = 0, "renewal"),
        ("a term of 1 ns", "renew", |n| n.renewal.as_mut().unwrap().term_ns = 1, ""),
        ("ten years", "renew", |n| n.renewal.as_mut().unwrap().term_ns = TERM_NS_MAX, ""),
        ("above ten years", "renew", |n| n.renewal.as_mut().unwrap().term_ns = TERM_NS_MAX + 1, "renewal"),
        ("a dispute of nothing", "dispute", |n| n.bill = None, "bill"),
        ("an answer that names no bill", "uphold", |n| n.bill = None, ""),
        ("a renewal that names a bill", "renew", |n| n.bill = Some(Octets([1; 32])), ""),
        ("no reason", "dispute", |n| n.why.clear(), ""),
        ("the longest reason, counted in characters", "dispute", |n| n.why = "符".repeat(WHY_CHARS_MAX), ""),
        ("a longer one", "dispute", |n| n.why = "a".repeat(WHY_CHARS_MAX + 1), "why"),
        ("a line feed", "dispute", |n| n.why = "a\nb".to_owned(), "why"),
        ("an escape", "dispute", |n| n.why = "\u{1b}[2J".to_owned(), "why"),
        ("a control character of the second set", "dispute", |n| n.why = "\u{9b}2J".to_owned(), "why"),
    ];
    for (name, of, change, want) in cases {
        let mut notice = golden(of);
        change(&mut notice);
        let found = match notice.check() {
            Ok(()) => "",
            Err(Error::Field { what: "Notice", field, .. }) => field,
            Err(other) => panic!("{name}: {other}"),
        };
        assert_eq!(found, *want, "{name}");
    }
}

const END: i64 = 1_000;

fn in_force(payment: Paying, amount: i128) -> InForce {
    InForce { service_end: END, value: ContractValue { payment, amount: Money(amount) } }
}

fn renewal(term_ns: u64, payment: Paying, amount: i128) -> Renewal {
    Renewal { term_ns, contract_value: ContractValue { payment, amount: Money(amount) } }
}

#[test]
fn a_renewal_stays_within_the_offer() {
    use Paying::{Postpaid, Prepaid};
    let offer = Offer { term_ns_max: 500, ..decode(&read("Offer.der"), "Offer").unwrap() };
    let deal: Deal = decode(&read("Deal.der"), "Deal").unwrap();
    let last = InForce { service_end: i64::MAX - 499, ..in_force(Postpaid, 50) };
    for (name, now, asked, time, want) in [
        ("the same ceiling", in_force(Postpaid, 50), renewal(500, Postpaid, 50), 0, true),
        ("a higher one", in_force(Postpaid, 50), renewal(1, Postpaid, 51), 0, true),
        ("a lower one", in_force(Postpaid, 50), renewal(1, Postpaid, 49), 0, false),
        ("the longest term that is offered", in_force(Postpaid, 0), renewal(500, Postpaid, 0), 0, true),
        ("a longer one", in_force(Postpaid, 0), renewal(501, Postpaid, 0), 0, false),
        ("the longest there is", in_force(Postpaid, 0), renewal(u64::MAX, Postpaid, 0), 0, false),
        ("another kind of payment", in_force(Postpaid, 50), renewal(1, Prepaid, 50), 0, false),
        ("and back", in_force(Prepaid, 50), renewal(1, Postpaid, 50), 0, false),
        ("the last moment", in_force(Postpaid, 50), renewal(1, Postpaid, 50), END - 1, true),
        ("service is over", in_force(Postpaid, 50), renewal(1, Postpaid, 50), END, false),
        ("to the end of time", last, renewal(499, Postpaid, 50), 0, true),
        ("beyond it", last, renewal(500, Postpaid, 50), 0, false),
    ] {
        assert_eq!(now.takes(&asked, (&offer, &deal), time), want, "{name}");
        if want {
            let after = now.renewed(&asked).unwrap();
            let moved = after.service_end.abs_diff(now.service_end);
            assert_eq!((moved, after.value), (asked.term_ns, asked.contract_value), "{name}");
        }
    }
    assert!(matches!(last.renewed(&renewal(500, Postpaid, 50)), Err(Error::Overflow { .. })));
    assert!(matches!(last.renewed(&renewal(u64::MAX, Postpaid, 50)), Err(Error::Overflow { .. })));
}

#[test]
fn what_bills_leave_of_the_ceiling_is_whole_fen_and_never_below_zero() {
    use Paying::{Postpaid, Prepaid};
    let fen = 1_000_000;
    for (name, now, billed, want) in [
        ("no bill yet", in_force(Postpaid, 50 * fen), vec![], Some(50 * fen)),
        ("one", in_force(Postpaid, 50 * fen), vec![20 * fen], Some(30 * fen)),
        ("two", in_force(Postpaid, 50 * fen), vec![20 * fen, 29 * fen], Some(fen)),
        ("all of it", in_force(Postpaid, 50 * fen), vec![20 * fen, 30 * fen], Some(0)),
        ("more than all", in_force(Postpaid, 50 * fen), vec![51 * fen], Some(0)),
        ("a ceiling that is not whole fen", in_force(Postpaid, 50 * fen + 999_999), vec![fen], Some(49 * fen)),
        ("less than a fen", in_force(Postpaid, fen - 1), vec![], Some(0)),
        ("a ceiling of nothing", in_force(Postpaid, 0), vec![], Some(0)),
        ("a price is no ceiling", in_force(Prepaid, 50 * fen), vec![fen], None),
    ] {
        let found = now.left(billed.into_iter().map(Money)).unwrap();
        assert_eq!(found, want.map(Money), "{name}");
    }
    let outcome = in_force(Postpaid, 0).left([Money(i128::MAX), Money(i128::MAX)]);
    assert!(matches!(outcome, Err(Error::Overflow { .. })), "{outcome:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bills_cut_at_what_is_left_never_exceed_the_ceiling(ceiling in any::<u64>(), wanted in proptest::collection::vec(any::<u64>(), 0..6)) {
        let now = in_force(Paying::Postpaid, i128::from(ceiling));
        let mut billed: Vec<Money> = Vec::new();
        for amount in wanted {
            let left = now.left(billed.iter().copied()).unwrap().unwrap();
            prop_assert_eq!(left, left.cut_to_fen());
            billed.push(Money(i128::from(amount)).cut_to_fen().min(left));
        }
        let sum: i128 = billed.iter().map(|money| money.0).sum();
        prop_assert!(sum <= i128::from(ceiling));
    }
}
