//! The price of a term, what of it is charged, and what goes back.

use hufu_trade::{
    decode,
    entry::Deal,
    money::Money,
    notice::InForce,
    prepaid::{Prepaid, Proration, fits, price_of_term, refund_at},
    resource::{Kind, Resource},
    rules::{DEFAULT, RuleTable},
    statement::{ContractValue, Offer, Payment, Requirement, Reservation},
    tariff::Tariff,
};

use crate::golden_test::read;

const HOUR: u64 = 3_600_000_000_000;
const DAY: u64 = 24 * HOUR;

fn money(text: &str) -> Money {
    text.parse().unwrap()
}

/// Two units of one and a half cores and 2 GiB, by a tariff.
fn offered(prices: &str) -> (Offer, Requirement) {
    let offer: Offer = decode(&read("Offer.der"), "Offer").unwrap();
    let held = |resource: &str, quantity: u64| Reservation { resource: resource.to_owned(), quantity };
    let tariff = Tariff::from_toml(prices).unwrap();
    let offer = Offer { tariff, reserves: vec![held("cpu", 1_500), held("memory", 2 << 30), held("gpu", 1)], ..offer };
    let deal: Deal = decode(&read("Deal.der"), "Deal").unwrap();
    let mut requirement = deal.requirement;
    requirement.items.truncate(1);
    requirement.items[0].quantity = 2;
    (offer, requirement)
}

const FLAT: &str =
    "[[price]]\nresource=\"reserved_cpu\"\nprice=\"0.10\"\n[[price]]\nresource=\"reserved_memory\"\nprice=\"0.05\"";
/// A core held for a day or longer costs less by the hour, so that a whole day costs less than 23 hours.
const VOLUME: &str = "[[price]]\nresource=\"reserved_cpu\"\nscheme=\"volume\"\ntier=[{up_to=\"259199999999999\",price=\"0.10\"},{price=\"0.05\"}]";

#[test]
fn the_price_of_a_term_is_what_it_holds() {
    for (name, prices, term, want) in [
        // 3 cores at 0.10 and 4 GiB at 0.05: 0.50 an hour.
        ("an hour", FLAT, HOUR, "0.50"),
        ("a day", FLAT, DAY, "12.00"),
        ("an instant", FLAT, 1, "0.00"),
        ("cut down to the fen", FLAT, HOUR / 7, "0.07"),
        ("a dear day less one hour", VOLUME, DAY - HOUR, "6.90"),
        ("a cheap day", VOLUME, DAY + 1, "3.60"),
        ("two devices", "[[price]]\nresource=\"reserved_gpu\"\nprice=\"8\"", HOUR, "16.00"),
        ("what the product does not hold", "[[price]]\nresource=\"reserved_storage\"\nprice=\"8\"", HOUR, "0.00"),
    ] {
        let (offer, requirement) = offered(prices);
        let price = price_of_term(&offer, &requirement, term).unwrap();
        assert_eq!(price, money(want), "{name}");
        for (amount, payment, is_right) in [
            (price, Payment::Prepaid, true),
            (Money(price.0 + 1_000_000), Payment::Prepaid, false),
            (Money(price.0 - 1_000_000), Payment::Prepaid, false),
            (Money(price.0 + 1_000_000), Payment::Postpaid, true),
        ] {
            let value = ContractValue { payment, amount };
            assert_eq!(fits(&offer, &requirement, term, &value), is_right, "{name}: {amount}");
        }
    }
    for (name, prices) in [
        ("use", "[[price]]\nresource=\"cpu\"\nprice=\"0\""),
        (
            "use beside what is held",
            "[[price]]\nresource=\"reserved_cpu\"\nprice=\"1\"\n[[price]]\nresource=\"net_tx\"\nprice=\"0\"",
        ),
        ("nothing", ""),
    ] {
        let (offer, requirement) = offered(prices);
        assert!(price_of_term(&offer, &requirement, HOUR).is_err(), "{name}");
        let value = ContractValue { payment: Payment::Prepaid, amount: Money(0) };
        assert!(!fits(&offer, &requirement, HOUR, &value), "{name}");
    }
    let (offer, requirement) = offered(FLAT);
    let endless = Requirement { items: vec![requirement.items[0].clone(); 64], ..requirement };
    assert!(price_of_term(&offer, &endless, u64::MAX).is_ok(), "far below 128 bits");
}

fn dealt(offer: &Offer, requirement: &Requirement, term: u64) -> (Deal, InForce) {
    let deal: Deal = decode(&read("Deal.der"), "Deal").unwrap();
    let end = deal.contract_time + i64::try_from(term).unwrap();
    let amount = price_of_term(offer, requirement, term).unwrap();
    let value = ContractValue { payment: Payment::Prepaid, amount };
    let deal = Deal { requirement: requirement.clone(), contract_value: value, service_end: end, ..deal };
    let in_force = InForce::of(&deal);
    (deal, in_force)
}

#[test]
fn what_was_held_is_charged_in_the_steps_of_the_table() {
    use Proration::{Day, Exact, Hour, Term};
    let (offer, requirement) = offered(FLAT);
    let (deal, in_force) = dealt(&offer, &requirement, 3 * DAY);
    let cpu = Resource::reserved(Kind::Cpu);
    // Three cores: three seconds of them a second.
    let second = 3_000_000_000_u128;
    for (proration, held_s, want_s) in [
        (Exact, 0, 0),
        (Exact, 1, 1),
        (Exact, 300_000, 259_200),
        (Hour, 0, 0),
        (Hour, 1, 3_600),
        (Hour, 3_600, 3_600),
        (Hour, 3_601, 7_200),
        (Hour, 300_000, 259_200),
        (Day, 1, 86_400),
        (Day, 86_401, 172_800),
        (Day, 259_200, 259_200),
        (Term, 0, 0),
        (Term, 1, 259_200),
        (Term, 259_200, 259_200),
    ] {
        let prepaid = Prepaid::of(&offer, &deal, &in_force, proration).unwrap().unwrap();
        let charged = prepaid.charged(&[(cpu.clone(), held_s * second)]).unwrap();
        assert_eq!(charged, [(cpu.clone(), want_s * second)], "{proration:?} {held_s}");
    }
    let prepaid = Prepaid::of(&offer, &deal, &in_force, Exact).unwrap().unwrap();
    assert_eq!(prepaid.charged(&[(Resource::used(Kind::Cpu), 9)]).unwrap(), [], "use is not priced");
    // A term that is no whole number of steps: the last one is cut.
    let (deal, in_force) = dealt(&offer, &requirement, DAY + HOUR);
    let prepaid = Prepaid::of(&offer, &deal, &in_force, Day).unwrap().unwrap();
    assert_eq!(prepaid.charged(&[(cpu.clone(), 86_401 * second)]).unwrap()[0].1, 90_000 * second);
    let postpaid = InForce { value: ContractValue { payment: Payment::Postpaid, ..in_force.value }, ..in_force };
    assert_eq!(Prepaid::of(&offer, &deal, &postpaid, Day).unwrap(), None);
}

#[test]
fn what_goes_back_falls_from_the_price_to_nothing() {
    let (offer, requirement) = offered(FLAT);
    let (deal, in_force) = dealt(&offer, &requirement, DAY);
    let at = |proration, ns: u64| {
        let time = deal.contract_time + i64::try_from(ns).unwrap();
        refund_at(&offer, &deal, &in_force, proration, time).unwrap().unwrap().to_string()
    };
    for (proration, ns, want) in [
        (Proration::Exact, 0, "12.00"),
        (Proration::Exact, HOUR, "11.50"),
        (Proration::Exact, DAY, "0.00"),
        (Proration::Exact, 2 * DAY, "0.00"),
        (Proration::Hour, 1, "11.50"),
        (Proration::Day, 0, "12.00"),
        (Proration::Day, 1, "0.00"),
        (Proration::Term, HOUR, "0.00"),
    ] {
        assert_eq!(at(proration, ns), want, "{proration:?} {ns}");
    }
    let early = refund_at(&offer, &deal, &in_force, Proration::Exact, i64::MIN).unwrap();
    assert_eq!(early, Some(money("12")), "before it began");
    // By volume 23 hours cost more than the day that was paid: nothing goes back, and nothing more is asked for.
    let (offer, requirement) = offered(VOLUME);
    let (deal, in_force) = dealt(&offer, &requirement, DAY + 1);
    let time = deal.contract_time + i64::try_from(23 * HOUR).unwrap();
    assert_eq!(refund_at(&offer, &deal, &in_force, Proration::Exact, time).unwrap(), Some(Money(0)));
}

#[test]
fn the_text_of_the_table_says_in_which_steps() {
    let old = DEFAULT.lines().filter(|line| !line.starts_with("proration")).collect::<Vec<_>>().join("\n");
    assert_eq!(RuleTable::from_toml(&old).unwrap().parameters.proration, Proration::Exact);
    for (text, want) in [("hour", Proration::Hour), ("day", Proration::Day), ("term", Proration::Term)] {
        let table = DEFAULT.replace("proration = \"exact\"", &format!("proration = {text:?}"));
        assert_eq!(RuleTable::from_toml(&table).unwrap().parameters.proration, want);
    }
    assert!(RuleTable::from_toml(&DEFAULT.replace("proration = \"exact\"", "proration = \"week\"")).is_err());
}
