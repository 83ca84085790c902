//! Rating against arithmetic done by hand and against its own laws: lines add up, totals are whole fen, nothing wraps, and
//! how time was cut into periods does not change what was used.

use hufu_trade::{
    Error,
    bill::Bill,
    entry::EntryName,
    money::{FEN, Money},
    notice::InForce,
    octets::{ContractNo, Octets},
    rating::{Before, Rated, Recorded, Terms, quantities, rate, rate_quantities},
    resource::{Kind, Resource},
    statement::{ContractValue, Payment},
    tariff::Tariff,
    usage::{Reading, Reason, Status},
};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

use crate::{
    golden_test::read,
    usage::{reading, record},
};

const NO: ContractNo = Octets([7; 16]);
const HOUR: u128 = 3_600_000_000_000;

fn cpu_tariff(scheme: &str) -> Tariff {
    Tariff::from_toml(&format!("[[price]]\nresource = \"cpu\"\n{scheme}\n")).unwrap()
}

fn check(tariff: &Tariff, quantity: u128) -> Rated {
    rate_quantities(tariff, &[(Resource::used(Kind::Cpu), quantity)]).unwrap()
}

/// (tier, quantity, amount in 10^-8 CNY) of every line.
fn lines(rated: &Rated) -> Vec<(u16, u128, i128)> {
    rated.lines.iter().map(|line| (line.tier, line.quantity, line.amount.0)).collect()
}

#[test]
fn halves_go_to_the_even_neighbour() {
    // At 0.0000000001 CNY a core-hour, 50 core-hours cost exactly half of 10^-8 CNY.
    let tariff = cpu_tariff("price = \"0.0000000001\"");
    for (name, quantity, want) in [
        ("nothing", 0, 0),
        ("just below a half", 50 * HOUR - 1, 0),
        ("a half, down to 0", 50 * HOUR, 0),
        ("just above a half", 50 * HOUR + 1, 1),
        ("one", 100 * HOUR, 1),
        ("one and a half, up to 2", 150 * HOUR, 2),
        ("two and a half, down to 2", 250 * HOUR, 2),
        ("two and a half and a little", 250 * HOUR + 1, 3),
        ("three and a half, up to 4", 350 * HOUR, 4),
    ] {
        assert_eq!(lines(&check(&tariff, quantity)), [(1, quantity, want)], "{name}");
    }
}

const YUAN: i128 = 100_000_000;

#[test]
fn graduated_tiers_are_filled_in_turn() {
    let tariff = cpu_tariff(
        "scheme = \"graduated\"\ntier = [{ up_to = \"36000000000000\", price = \"3\" }, \
         { up_to = \"72000000000000\", price = \"2\" }, { price = \"1\" }]",
    );
    for (name, quantity, want) in [
        ("zero is one line of the first tier", 0, vec![(1, 0, 0)]),
        ("inside the first", 5 * HOUR, vec![(1, 5 * HOUR, 15 * YUAN)]),
        ("the edge belongs to the lower tier", 10 * HOUR, vec![(1, 10 * HOUR, 30 * YUAN)]),
        ("one unit above", 10 * HOUR + 1, vec![(1, 10 * HOUR, 30 * YUAN), (2, 1, 0)]),
        ("the second edge", 20 * HOUR, vec![(1, 10 * HOUR, 30 * YUAN), (2, 10 * HOUR, 20 * YUAN)]),
        ("all three", 25 * HOUR, vec![(1, 10 * HOUR, 30 * YUAN), (2, 10 * HOUR, 20 * YUAN), (3, 5 * HOUR, 5 * YUAN)]),
    ] {
        assert_eq!(lines(&check(&tariff, quantity)), want, "{name}");
    }
}

#[test]
fn volume_tiers_price_the_whole_quantity() {
    let tariff =
        cpu_tariff("scheme = \"volume\"\ntier = [{ up_to = \"36000000000000\", price = \"3\" }, { price = \"2\" }]");
    for (name, quantity, want) in [
        ("zero", 0, (1, 0, 0)),
        ("the edge belongs to the lower tier", 10 * HOUR, (1, 10 * HOUR, 30 * YUAN)),
        ("above it everything is cheaper", 11 * HOUR, (2, 11 * HOUR, 22 * YUAN)),
        ("one unit above, half-even to the same amount", 10 * HOUR + 1, (2, 10 * HOUR + 1, 20 * YUAN)),
    ] {
        assert_eq!(lines(&check(&tariff, quantity)), [want], "{name}");
    }
}

#[test]
fn what_has_no_price_costs_nothing_and_what_was_not_read_has_no_line() {
    let tariff = cpu_tariff("price = \"1\"");
    let rated = rate_quantities(&tariff, &[(Resource::used(Kind::Memory), u128::MAX)]).unwrap();
    assert_eq!((rated.lines.len(), rated.rounding, rated.total), (0, Money(0), Money(0)));
    let reserved = rate_quantities(&tariff, &[(Resource::reserved(Kind::Cpu), HOUR)]).unwrap();
    assert_eq!(reserved.lines.len(), 0, "a reserved quantity is another resource");
}

#[test]
fn what_does_not_fit_is_an_error_and_never_wraps() {
    for (name, price, quantity) in
        [("quantity times price", "999999999999999999", u128::MAX), ("the largest quantity at 2", "2", u128::MAX)]
    {
        let tariff = cpu_tariff(&format!("price = \"{price}\""));
        let outcome = rate_quantities(&tariff, &[(Resource::used(Kind::Cpu), quantity)]);
        assert!(matches!(outcome, Err(Error::Overflow { .. })), "{name}");
    }
    let mut unchecked = cpu_tariff("price = \"1\"");
    unchecked.prices[0].tiers[0].price.0 = -1;
    assert!(matches!(rate_quantities(&unchecked, &[]), Err(Error::Field { field: "prices", .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lines_and_rounding_add_up_to_whole_fen(
        cpu in any::<u64>(), memory in any::<u64>(), net in any::<u64>(), prices in any::<[u32; 4]>(), edge in 1..u64::MAX,
    ) {
        let price = |index: usize| format!("\"0.{:010}\"", prices[index]);
        let text = format!(
            "[[price]]\nresource=\"cpu\"\nscheme=\"graduated\"\ntier=[{{up_to=\"{edge}\",price={}}},{{price={}}}]\n\
             [[price]]\nresource=\"memory\"\nprice={}\n\
             [[price]]\nresource=\"net_tx\"\nscheme=\"volume\"\ntier=[{{up_to=\"{edge}\",price={}}},{{price=\"1\"}}]\n",
            price(0), price(1), price(2), price(3),
        );
        let tariff = Tariff::from_toml(&text).unwrap();
        let used = [(Kind::Cpu, cpu), (Kind::Memory, memory), (Kind::NetTx, net)];
        let used: Vec<_> = used.iter().map(|(kind, q)| (Resource::used(*kind), u128::from(*q))).collect();
        let rated = rate_quantities(&tariff, &used).unwrap();
        let sum: i128 = rated.lines.iter().map(|line| line.amount.0).sum();
        prop_assert_eq!(sum + rated.rounding.0, rated.total.0);
        prop_assert_eq!(rated.total.0 % FEN, 0);
        prop_assert!(rated.rounding.0 <= 0 && rated.rounding.0 > -FEN);
        for (resource, quantity) in &used {
            let name = resource.to_string();
            let billed: u128 = rated.lines.iter().filter(|line| line.resource == name).map(|line| line.quantity).sum();
            prop_assert_eq!(billed, *quantity);
        }
    }

    #[test]
    fn any_quantity_at_any_price_is_exact_or_refused(quantity in any::<u128>(), price in 0..10_000_000_000_i128) {
        let mut tariff = cpu_tariff("price = \"1\"");
        tariff.prices[0].tiers[0].price.0 = price;
        // The exact amount is quantity x price / (HOUR x 100); compare without division, in halves.
        if let Ok(rated) = rate_quantities(&tariff, &[(Resource::used(Kind::Cpu), quantity)]) {
            let amount = u128::try_from(rated.lines[0].amount.0).unwrap();
            let (exact, unit) = (quantity * u128::try_from(price).unwrap(), HOUR * 100);
            let error = (amount * unit).abs_diff(exact);
            prop_assert!(error * 2 < unit || (error * 2 == unit && amount % 2 == 0));
        } else {
            prop_assert!(quantity.checked_mul(u128::try_from(price).unwrap()).is_none());
        }
    }

    #[test]
    fn two_periods_use_what_the_whole_uses(steps in proptest::collection::vec((0..4_u8, any::<u32>()), 2..12), cut in any::<u8>()) {
        let records = chain(&steps);
        let cut = 1 + usize::from(cut) % (records.len() - 1);
        let (early, late) = records.split_at(cut);
        let whole = quantities(None, &records).unwrap();
        let mut sum = quantities(None, early).unwrap();
        for (resource, quantity) in quantities(Some(&early[cut - 1].1), late).unwrap() {
            match sum.iter_mut().find(|(other, _)| *other == resource) {
                Some((_, total)) => *total += quantity,
                None => sum.push((resource, quantity)),
            }
        }
        sum.sort_by(|a, b| a.0.cmp(&b.0));
        prop_assert_eq!(sum, whole);
    }
}

/// A chain of records: 0 an ordinary one, 1 one with CPU missing, 2 a gap, 3 one that shows memory for the first time.
fn chain(steps: &[(u8, u32)]) -> Vec<Recorded> {
    let (mut records, mut previous) = (Vec::<Recorded>::new(), Octets([9; 32]));
    let (mut cpu, mut memory): (Option<u128>, Option<u128>) = (None, None);
    for (seq, (kind, delta)) in steps.iter().enumerate() {
        let seq = u64::try_from(seq).unwrap();
        let delta = if *kind == 2 { 0 } else { u128::from(*delta) };
        let cpu_delta = (*kind != 1).then_some(delta);
        cpu = cpu_delta.map(|d| cpu.unwrap_or(0) + d).or(cpu);
        let mut readings = vec![reading(0, cpu_delta, cpu)];
        if *kind == 3 || memory.is_some() {
            memory = Some(memory.unwrap_or(0) + delta);
            readings.push(reading(1, Some(delta), memory));
        }
        let reason = if *kind == 2 { Reason::Gap } else { Reason::Continue };
        let start = i64::try_from(seq).unwrap() * 60;
        let made = record(NO, (seq, previous), (start, start + 60), reason, readings).unwrap();
        previous = made.0.hash;
        records.push(made);
    }
    records
}

fn terms<'a>(tariff: &'a Tariff, gap_rule: &'a str) -> Terms<'a> {
    Terms {
        contract_no: NO,
        computing_pool_id: "site-1/node-a",
        buyer: Octets([1; 32]),
        deal: Octets([2; 32]),
        offer: Octets([3; 32]),
        tariff,
        gap_rule,
        left: None,
        rests_on: None,
        prepaid: None,
    }
}

#[test]
fn bills_follow_each_other_by_number_record_and_hash() {
    let tariff = cpu_tariff("price = \"1\"");
    let terms = terms(&tariff, "free");
    let records = chain(&[(0, 10), (2, 0), (0, 5), (1, 0), (0, 7)]);
    let first = rate(&terms, None, &records[..3]).unwrap();
    assert_eq!((first.number.as_str(), first.first_seq, first.last_seq), (&*format!("{NO}-1"), 0, 2));
    assert_eq!((first.previous_bill, first.gaps.len(), first.lines[0].quantity), (None, 1, 15));
    assert_eq!((first.period_start, first.period_end, &first.last_record), (0, 180, &records[2].0));
    let before = Before { hash: Octets([8; 32]), count: 1, last: records[2].1.clone() };
    let second = rate(&terms, Some(&before), &records[3..]).unwrap();
    assert_eq!((second.number.as_str(), second.first_seq, second.last_seq), (&*format!("{NO}-2"), 3, 4));
    assert_eq!((second.previous_bill, second.lines[0].quantity), (Some(Octets([8; 32])), 7));
}

/// One change to a good chain, and the error it must give.
type Damage = (&'static str, fn(&mut Vec<Recorded>), &'static str);

fn readings(records: &mut [Recorded], index: usize) -> &mut Vec<Reading> {
    &mut records[index].1.readings
}

#[test]
fn a_chain_that_does_not_add_up_is_never_billed() {
    let tariff = cpu_tariff("price = \"1\"");
    let cases: &[Damage] = &[
        ("no record at all", |r| r.clear(), "orderSeq"),
        ("the first is missing", |r| drop(r.remove(0)), "orderSeq"),
        ("one in the middle is missing", |r| drop(r.remove(2)), "orderSeq"),
        ("two in the wrong order", |r| r.swap(2, 3), "orderSeq"),
        ("one twice", |r| r.insert(1, r[0].clone()), "orderSeq"),
        ("one of another contract", |r| r[1].1.contract_no = Octets([6; 16]), "orderSeq"),
        ("the last number there is", |r| r[0].1.order_seq = u64::MAX, "orderSeq"),
        ("a total one too high", |r| readings(r, 2)[0].total = Some(16), "readings"),
        ("a total that falls", |r| readings(r, 2)[0].total = Some(1), "readings"),
        ("a delta one too low", |r| readings(r, 4)[0].delta = Some(6), "readings"),
        ("usage in a gap", |r| (readings(r, 1)[0].delta, readings(r, 1)[0].total) = (Some(1), Some(11)), "readings"),
        ("a total that vanishes", |r| readings(r, 3)[0].total = None, "readings"),
        ("a total that moves while missing", |r| readings(r, 3)[0].total = Some(99), "readings"),
        ("a delta without a total", |r| readings(r, 0)[0].total = None, "readings"),
        ("missing with a delta", |r| readings(r, 0)[0].status = Status::Missing, "readings"),
        ("measured without a delta", |r| readings(r, 3)[0].status = Status::Measured, "readings"),
        (
            "the same resource twice",
            |r| {
                let twice = readings(r, 0)[0].clone();
                readings(r, 0).push(twice)
            },
            "readings",
        ),
    ];
    for (name, damage, want) in cases {
        let mut records = chain(&[(0, 10), (2, 0), (0, 5), (1, 0), (0, 7)]);
        damage(&mut records);
        match rate(&terms(&tariff, "free"), None, &records) {
            Err(Error::Field { field, .. }) => assert_eq!(field, *want, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn running_numbers_and_sums_at_their_end_are_errors() {
    let tariff = cpu_tariff("price = \"1\"");
    let overflow = |outcome: Result<_, Error>| matches!(outcome, Err(Error::Overflow { .. }));
    let mut records = chain(&[(0, 1), (0, 2)]);
    let last = records[0].1.clone();
    let at_end = |order_seq, count| {
        let mut last = last.clone();
        last.order_seq = order_seq;
        Before { hash: Octets([8; 32]), count, last }
    };
    assert!(overflow(rate(&terms(&tariff, "free"), Some(&at_end(u64::MAX, 1)), &records[1..]).map(drop)));
    assert!(overflow(rate(&terms(&tariff, "free"), Some(&at_end(0, u32::MAX)), &records[1..]).map(drop)));
    readings(&mut records, 0)[0].delta = Some(u128::MAX);
    readings(&mut records, 0)[0].total = Some(u128::MAX);
    assert!(overflow(quantities(None, &records).map(drop)));
    let unknown = rate(&terms(&tariff, "estimate"), None, &chain(&[(0, 1)]));
    assert!(matches!(unknown, Err(Error::Text { .. })), "a gap rule that is not known");
}

#[test]
fn an_unknown_resource_code_is_refused() {
    let mut records = chain(&[(0, 1)]);
    readings(&mut records, 0)[0].code = 12;
    assert!(matches!(quantities(None, &records), Err(Error::UnknownResource { .. })));
    let name = EntryName { log: 0, height: 0, index: 0, hash: Octets([0; 32]) };
    assert_eq!(quantities(None, &[(name, chain(&[(1, 0)])[0].1.clone())]).unwrap(), [], "never read, never billed");
}

/// At this price a second costs one CNY.
const BY_THE_SECOND: &str = "price = \"3600\"";
const SECOND: u32 = 1_000_000_000;

fn money(text: &str) -> Money {
    text.parse().unwrap()
}

/// What the parts of a bill come to: lines, gaps, rounding and what is over the ceiling.
fn parts(bill: &Bill) -> Money {
    let amounts = bill.lines.iter().map(|line| line.amount).chain(bill.gaps.iter().map(|gap| gap.amount));
    amounts.chain([bill.rounding]).chain(bill.over_ceiling).try_fold(Money(0), Money::plus).unwrap()
}

#[test]
fn a_bill_is_cut_at_what_is_left_of_the_ceiling() {
    let tariff = cpu_tariff(BY_THE_SECOND);
    // 1.253 CNY of usage, a gap between.
    let records = chain(&[(0, SECOND), (2, 0), (0, SECOND / 1_000 * 253)]);
    for (name, left, total, over) in [
        ("no ceiling", None, "1.25", None),
        ("far below it", Some("9"), "1.25", None),
        ("at it", Some("1.25"), "1.25", None),
        ("a fen above it", Some("1.24"), "1.24", Some("-0.01")),
        ("a fen is left", Some("0.01"), "0.01", Some("-1.24")),
        ("nothing is left", Some("0"), "0", Some("-1.25")),
    ] {
        let terms = Terms { left: left.map(money), ..terms(&tariff, "free") };
        let bill = rate(&terms, None, &records).unwrap();
        assert_eq!((bill.total, bill.over_ceiling), (money(total), over.map(money)), "{name}");
        assert_eq!((bill.rounding, bill.gaps.len()), (money("-0.003"), 1), "{name}: the rest stands as it was used");
        assert_eq!(parts(&bill), bill.total, "{name}: the parts add up");
    }
}

#[test]
fn a_bill_of_nothing_is_cut_by_nothing() {
    let tariff = cpu_tariff(BY_THE_SECOND);
    for left in [None, Some(money("0")), Some(money("1"))] {
        let terms = Terms { left, ..terms(&tariff, "free") };
        let bill = rate(&terms, None, &chain(&[(0, 0), (2, 0)])).unwrap();
        assert_eq!((bill.total, bill.over_ceiling, bill.lines.len()), (Money(0), None, 1), "{left:?}");
    }
}

#[test]
fn the_next_bill_has_what_the_bills_before_left() {
    let tariff = cpu_tariff(BY_THE_SECOND);
    let in_force = InForce { service_end: 0, value: ContractValue { payment: Payment::Postpaid, amount: money("2") } };
    let records = chain(&[(0, SECOND / 4 * 5), (0, SECOND), (0, SECOND)]);
    let (mut bills, mut before) = (Vec::<Bill>::new(), None);
    for (record, (total, over)) in records.iter().zip([("1.25", None), ("0.75", Some("-0.25")), ("0", Some("-1"))]) {
        let left = in_force.left(bills.iter().map(|bill| bill.total)).unwrap();
        let terms = Terms { left, ..terms(&tariff, "free") };
        let bill = rate(&terms, before.as_ref(), std::slice::from_ref(record)).unwrap();
        assert_eq!((bill.total, bill.over_ceiling), (money(total), over.map(money)), "bill {}", bill.number);
        assert_eq!(parts(&bill), bill.total);
        let count = u32::try_from(bills.len()).unwrap() + 1;
        before = Some(Before { hash: Octets([8; 32]), count, last: record.1.clone() });
        bills.push(bill);
    }
}

#[test]
fn the_golden_bill_that_is_cut_differs_in_nothing_else() {
    let [full, capped] =
        ["Bill.der", "Bill-capped.der"].map(|name| hufu_trade::decode::<Bill>(&read(name), "Bill").unwrap());
    assert_eq!((capped.total, capped.over_ceiling), (money("0.5"), Some(money("-0.57"))));
    assert_eq!(parts(&capped), capped.total);
    assert_eq!(Bill { total: full.total, over_ceiling: None, ..capped }, full);
    let json = serde_json::to_value(&full).unwrap();
    assert!(json.get("over_ceiling").is_none(), "absent, not null: {json}");
}

#[test]
fn a_suspension_is_in_the_chain_and_costs_nothing() {
    let tariff = cpu_tariff(BY_THE_SECOND);
    let mut records = chain(&[(0, SECOND)]);
    let seconds = u128::from(SECOND);
    let mut add = |reason, delta: u128, total: u128| {
        let (name, last) = records.last().unwrap();
        let times = (last.end, last.end + 600);
        let made =
            record(NO, (last.order_seq + 1, name.hash), times, reason, vec![reading(0, Some(delta), Some(total))]);
        records.push(made.unwrap());
    };
    add(Reason::Suspended, 0, seconds);
    add(Reason::Continue, seconds, 2 * seconds);
    let bill = rate(&terms(&tariff, "free"), None, &records).unwrap();
    assert_eq!((bill.total, bill.gaps.len(), bill.last_seq), (money("2"), 0, 2));
    assert_eq!((bill.period_start, bill.period_end), (0, 1_260));
    readings(&mut records, 1)[0].total = Some(seconds + 1);
    assert!(rate(&terms(&tariff, "free"), None, &records).is_err(), "totals are carried over it");
}
