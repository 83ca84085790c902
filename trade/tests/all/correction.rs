//! Corrections of a bill: each lowers what the one before left, in whole fen, and everything that does not follow is refused.

use hufu_trade::{
    Error,
    bill::Bill,
    correction::{Adjustment, Correction, Due, RefundPaid},
    decode,
    entry::Payment,
    money::{FEN, Money},
    octets::{Digest, Octets},
};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

use crate::{
    golden_test::read,
    wire::{self, leaf},
};

fn golden(name: &str) -> Correction {
    decode(&read(&format!("{name}.der")), "Correction").unwrap()
}

/// The golden bill, and its two corrections with the hashes of their entries.
fn story() -> (Due, [(Digest, Correction); 2]) {
    let bill: Bill = decode(&read("Bill.der"), "Bill").unwrap();
    let due = Due::of(&bill.number, leaf(&read("Entry-bill.der")), bill.total);
    let [one, two] = ["Entry-correction.der", "Entry-correction-again.der"].map(|name| leaf(&read(name)));
    (due, [(one, golden("Correction")), (two, golden("Correction-again"))])
}

#[test]
fn the_golden_corrections_follow_the_bill_and_the_refund_is_the_difference() {
    let (due, [first, second]) = story();
    assert_eq!((due.count, due.last, due.total), (0, None, "1.07".parse().unwrap()));
    let once = due.corrected(first.0, &first.1).unwrap();
    assert_eq!((once.count, once.last, once.total), (1, Some(first.0), "1".parse().unwrap()));
    let twice = once.corrected(second.0, &second.1).unwrap();
    assert_eq!((twice.count, twice.last, twice.total), (2, Some(second.0), "0.96".parse().unwrap()));
    assert_eq!((&twice.number, twice.bill), (&due.number, due.bill));
    for (name, of) in [("first", &due), ("second", &once), ("third", &twice)] {
        let follows: Vec<bool> =
            [&first, &second].map(|(hash, correction)| of.corrected(*hash, correction).is_ok()).to_vec();
        let want = [name == "first", name == "second"];
        assert_eq!(follows, want, "each correction stands in one place only: {name}");
    }
    let payment: Payment = decode(&read("Payment.der"), "Payment").unwrap();
    let refund: RefundPaid = decode(&read("RefundPaid.der"), "RefundPaid").unwrap();
    assert_eq!(refund.amount, payment.amount.minus(twice.total).unwrap());
    assert_eq!((refund.bill, Some(refund.correction), refund.number), (twice.bill, twice.last, twice.number));
    assert_eq!(read("envelope-refund.json"), refund.confirmation.as_bytes(), "the platform's word, byte for byte");
}

#[test]
fn an_entry_of_money_stands_in_the_finance_log() {
    for (file, log) in [("Bill", 1), ("Payment", 1), ("Correction", 1), ("RefundPaid", 1), ("OrderStatus", 0)] {
        let kind = match file {
            "Bill" => hufu_trade::entry::EntryKind::Bill,
            "Payment" => hufu_trade::entry::EntryKind::Payment,
            "Correction" => hufu_trade::entry::EntryKind::Correction,
            "RefundPaid" => hufu_trade::entry::EntryKind::RefundPaid,
            _ => hufu_trade::entry::EntryKind::OrderStatus,
        };
        assert_eq!(wire::entry(kind, 0, &read(&format!("{file}.der"))).unwrap().1.log, log, "{file}");
    }
}

/// One change to the golden first correction, and the field that is refused.
type Case = (&'static str, fn(&mut Correction), &'static str);

fn amounts(correction: &mut Correction, amounts: &[i128]) {
    let line = |amount: &i128| Adjustment { amount: Money(*amount), ..correction.adjustments[0].clone() };
    let adjustments: Vec<Adjustment> = amounts.iter().map(line).collect();
    correction.total = Money(correction.before.0 + amounts.iter().sum::<i128>());
    correction.adjustments = adjustments;
}

#[test]
fn what_does_not_follow_is_refused_with_the_field_that_is_wrong() {
    let cases: &[Case] = &[
        ("nothing changed", |_| (), ""),
        ("version 0", |c| c.version = 0, "version"),
        ("version 2", |c| c.version = 2, "version"),
        ("number 0", |c| c.number = c.number.replace("-c1", "-c0"), "number"),
        ("the next number", |c| c.number = c.number.replace("-c1", "-c2"), "number"),
        ("a zero before the number", |c| c.number = c.number.replace("-c1", "-c01"), "number"),
        ("another bill's number", |c| c.number = c.number.replace("-1-c1", "-2-c1"), "number"),
        ("the bill's own number", |c| c.number = c.number.replace("-c1", ""), "number"),
        ("another bill", |c| c.bill.0[31] ^= 1, "previous"),
        ("a correction before the first", |c| c.previous = Some(Octets([1; 32])), "previous"),
        ("from a higher amount", |c| c.before.0 += FEN, "before"),
        ("from a lower amount", |c| c.before.0 -= FEN, "before"),
        ("nothing adjusted", |c| amounts(c, &[]), "adjustments"),
        ("an adjustment of nothing", |c| amounts(c, &[0]), "adjustments"),
        ("more to pay", |c| amounts(c, &[FEN]), "adjustments"),
        ("less in sum, with one part more", |c| amounts(c, &[-3 * FEN, FEN]), "adjustments"),
        ("one part of nothing", |c| amounts(c, &[-FEN, 0]), "adjustments"),
        ("a total that does not add up", |c| c.total.0 += FEN, "total"),
        ("a total that is too low", |c| c.total.0 -= FEN, "total"),
        ("half a fen", |c| amounts(c, &[-FEN / 2]), "total"),
        ("a hair less than a fen", |c| amounts(c, &[1 - FEN]), "total"),
        ("parts that make whole fen", |c| amounts(c, &[-FEN / 2, 1 - FEN / 2, -1]), ""),
        ("down to nothing", |c| amounts(c, &[-107 * FEN]), ""),
        ("one fen below nothing", |c| amounts(c, &[-108 * FEN]), "total"),
    ];
    let (due, [first, _]) = story();
    for (name, change, want) in cases {
        let mut correction = first.1.clone();
        change(&mut correction);
        let found = match due.corrected(first.0, &correction) {
            Ok(after) => {
                assert!(after.total == correction.total && after.total < due.total, "{name}");
                ""
            }
            Err(Error::Field { what: "Correction", field, .. }) => field,
            Err(other) => panic!("{name}: {other}"),
        };
        assert_eq!(found, *want, "{name}");
    }
}

#[test]
fn a_second_correction_names_the_first() {
    let (due, [first, second]) = story();
    let once = due.corrected(first.0, &first.1).unwrap();
    for (name, previous) in [("nothing", None), ("the bill", Some(due.bill)), ("itself", Some(second.0))] {
        let wrong = Correction { previous, ..second.1.clone() };
        let outcome = once.corrected(second.0, &wrong);
        assert!(matches!(outcome, Err(Error::Field { field: "previous", .. })), "{name}: {outcome:?}");
    }
    let outcome = due.corrected(second.0, &Correction { number: first.1.number, ..second.1 });
    assert!(matches!(outcome, Err(Error::Field { field: "previous", .. })), "{outcome:?}");
}

#[test]
fn amounts_and_counts_at_their_end_are_errors() {
    let (due, [first, _]) = story();
    let mut correction = first.1.clone();
    correction.adjustments = vec![Adjustment { amount: Money(i128::MIN), ..correction.adjustments[0].clone() }; 2];
    assert!(matches!(due.corrected(first.0, &correction), Err(Error::Overflow { .. })));
    let last = Due { count: u32::MAX, ..due };
    assert!(matches!(last.corrected(first.0, &first.1), Err(Error::Overflow { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_course_of_corrections_only_lowers(bill in 0..1_000_u32, parts in proptest::collection::vec(any::<(u8, bool)>(), 1..8)) {
        let (_, [(_, golden), _]) = story();
        let mut due = Due::of("b-1", golden.bill, Money(i128::from(bill) * FEN));
        for (index, (fen, split)) in parts.into_iter().enumerate() {
            let down = -i128::from(fen) * FEN;
            let mut next = golden.clone();
            next.number = format!("b-1-c{}", due.count + 1);
            (next.previous, next.before) = (due.last, due.total);
            amounts(&mut next, &if split { vec![down / 2, down - down / 2] } else { vec![down] });
            let hash = leaf(&[u8::try_from(index).unwrap()]);
            match due.corrected(hash, &next) {
                Ok(after) => {
                    prop_assert!(after.total < due.total && after.total >= Money(0) && after.last == Some(hash));
                    prop_assert_eq!(after.count, due.count + 1);
                    due = after;
                }
                Err(_) => prop_assert!(fen == 0 || i128::from(fen) * FEN > due.total.0),
            }
        }
    }
}
