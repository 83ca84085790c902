//! Text that people write and money that people read: rule tables, price terms, resource names, decimals. Good ones are
//! read as meant, every wrong one is refused with what is wrong.

use hufu_trade::{
    Error,
    money::{Money, UnitPrice},
    resource::{KINDS, Resource},
    rules::{DEFAULT, RuleTable},
    tariff::{Scheme, Tariff},
};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

/// The default table with one piece of its text replaced.
fn changed(from: &str, to: &str) -> String {
    assert!(DEFAULT.contains(from), "{from}");
    DEFAULT.replacen(from, to, 1)
}

#[test]
fn the_default_rule_table_is_in_order() {
    let table = RuleTable::from_toml(DEFAULT).unwrap();
    assert_eq!((table.start.as_str(), table.version), ("new", 1));
    assert_eq!(table.parameters.score_weights.len(), KINDS.len(), "every kind has a weight");
    assert_eq!(table.parameters.score_weights.values().sum::<u32>(), 10_000);
}

#[test]
fn wrong_rule_tables_are_refused_with_what_is_wrong() {
    let two_states = "[[rule]]\nstate=\"x\"\nact=\"a\"\nsigners=[]\nguard=\"none\"\nwrites=[]\nnext=\"y\"\n\
                      [[rule]]\nstate=\"y\"\nact=\"a\"\nsigners=[]\nguard=\"none\"\nwrites=[]\nnext=\"x\"\n";
    let unsigned = |from: &str, act: &str, to: &str| {
        let (head, tail) = DEFAULT.split_once(&format!("act = \"{act}\"\nsigners = {from}")).unwrap();
        format!("{head}act = \"{act}\"\nsigners = {to}{tail}")
    };
    for (name, text, want) in [
        ("empty", String::new(), "missing field"),
        ("not TOML", "version = ".to_owned(), "TOML"),
        ("another version", changed("version = 1", "version = 2"), "version 2 is unknown"),
        ("an unknown key at the top", format!("colour = 1\n{DEFAULT}"), "unknown field `colour`"),
        ("an unknown key in a rule", changed("guard = \"none\"", "guard = \"none\"\nonly_if = 1"), "unknown field"),
        ("an unknown parameter", changed("offer_valid_s", "grace_s = 1\noffer_valid_s"), "unknown field"),
        ("an unknown guard", changed("within_offer", "on_sundays"), "unknown variant"),
        ("an unknown writer", changed("\"order_status\"", "\"gossip\""), "unknown variant"),
        ("an unknown party", changed("\"buyer\", \"node\"", "\"buyer\", \"bank\""), "unknown variant"),
        ("no start", changed("start = \"new\"\n", ""), "missing field"),
        ("a start without rule", changed("start = \"new\"", "start = \"now\""), "never reached"),
        ("no rules", "version=1\nstart=\"new\"\nmetered=[]\nholding=[]\nrule=[]\n[parameters]\ngap_rating=\"free\"\nrounding=\"line-half-even-8,total-down-2\"\noffer_valid_s=1\nscore_weights={}\n".to_owned(), "start new has no rule"),
        ("two rules for one act", changed("act = \"lapse\"", "act = \"order\""), "two rules for act order"),
        ("a state that nothing reaches", changed("next = \"offered\"", "next = \"ordered\""), "state offered is never reached"),
        ("two states that only reach each other", format!("{}{two_states}", DEFAULT.split("[[timer]]").next().unwrap()), "state x is never reached"),
        ("a timer without rule", changed("after_s = 3600\nact = \"lapse\"", "after_s = 3600\nact = \"pay\""), "has no rule"),
        ("a timer beyond ten years", changed("after_s = 3600", "after_s = 315360001"), "after_s"),
        ("a negative timer", changed("after_s = 3600", "after_s = -1"), "invalid value"),
        ("a metered state of no rule", changed("metered = [\"serving\"", "metered = [\"resting\""), "resting"),
        ("a holding state of no rule", changed("holding = [\"serving\"", "holding = [\"resting\""), "resting"),
        ("an unknown gap rule", changed("gap_rating = \"free\"", "gap_rating = \"guess\""), "gap_rating guess"),
        ("an unknown rounding", changed("line-half-even-8", "line-up-8"), "rounding"),
        ("offers that hold no time", changed("offer_valid_s = 3600", "offer_valid_s = 0"), "offer_valid_s"),
        ("offers that hold for ever", changed("offer_valid_s = 3600", "offer_valid_s = 9223372036854775807"), "offer_valid_s"),
        ("a weight of no resource", changed("cpu = 3000", "cpus = 3000"), "no such resource kind"),
        ("a negative weight", changed("cpu = 3000", "cpu = -1"), "invalid value"),
        ("a weight with a fraction", changed("cpu = 3000", "cpu = 0.5"), "invalid type"),
        ("a deal without the buyer", unsigned("[\"buyer\", \"node\"]", "deal", "[\"node\"]"), "signed by the Buyer"),
        ("a deal without the node", unsigned("[\"buyer\", \"node\"]", "deal", "[\"buyer\"]"), "signed by the Node"),
        ("an order nobody signed", unsigned("[\"buyer\"]", "order", "[]"), "signed by the Buyer"),
        ("a metered state that holds nothing", changed("holding = [\"serving\", ", "holding = ["), "must be among the holding"),
        ("capacity taken without asking", changed("capacity_free", "none"), "takes capacity"),
        ("a term without end", changed("act = \"expire\"", "act = \"stop\""), "no rule for act expire"),
        ("a term that the buyer must end", unsigned("[]", "expire", "[\"buyer\"]"), "happens by itself"),
        ("a timer that needs the platform", unsigned("[]", "lapse", "[\"platform\"]"), "happens by itself"),
        ("an order after the order", changed("next = \"refused\"", "next = \"offered\""), "a second"),
        ("a notice nobody signed", unsigned("[\"buyer\"]", "suspend", "[]"), "writes a notice"),
        ("a notice of the node", unsigned("[\"buyer\"]", "suspend", "[\"node\"]"), "writes a notice"),
        ("a notice of two", unsigned("[\"buyer\"]", "suspend", "[\"buyer\", \"platform\"]"), "writes a notice"),
        ("a notice of one twice", unsigned("[\"buyer\"]", "suspend", "[\"buyer\", \"buyer\"]"), "writes a notice"),
        ("a notice with the node", unsigned("[\"buyer\"]", "suspend", "[\"buyer\", \"node\"]"), "writes a notice"),
        ("a notice and a status", changed("[\"notice\"]", "[\"notice\", \"order_status\"]"), "writes a notice"),
        ("a notice after a correction", changed("[\"correction\"]", "[\"correction\", \"notice\"]"), "writes a notice"),
        ("two notices", changed("[\"notice\"]", "[\"notice\", \"notice\"]"), "writes a notice"),
        ("a timer that signs for the buyer", changed("after_s = 0\nact = \"pause\"", "after_s = 0\nact = \"suspend\""), "has no rule"),
        ("a timer that resumes", changed("state = \"suspending\"\nafter_s = 0\nact = \"pause\"", "state = \"suspended\"\nafter_s = 0\nact = \"resume\""), "happens by itself"),
        ("a suspension without end", changed("state = \"suspending\"\nact = \"expire\"", "state = \"suspending\"\nact = \"stay\""), "no rule for act expire"),
        ("an end of the term that is metered", changed("next = \"ended\"", "next = \"leaving\""), "must end the metering"),
        ("capacity given back and taken again", changed("\"suspending\", \"suspended\"", "\"suspending\""), "takes capacity"),
        ("a score after the score", changed("next = \"overdue_scored\"", "next = \"overdue\""), "a second Score"),
        ("a refund the node confirms itself", unsigned("[\"platform\"]", "refund", "[\"node\"]"), "signed by the Platform"),
        ("a payment the node confirms itself", unsigned("[\"platform\"]", "pay", "[\"node\"]"), "signed by the Platform"),
    ] {
        match RuleTable::from_toml(&text) {
            Err(Error::Text { what: "rule table", why }) => assert!(why.contains(want), "{name}: {why}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_reader_waits_for_the_other_log_only_where_it_can_help() {
    let table = RuleTable::from_toml(DEFAULT).unwrap();
    for (state, act, want) in [
        ("serving", "bill", true),
        ("ended", "bill", false),
        ("billed", "bill", false),
        ("ended", "score", true),
        ("serving", "score", false),
        ("billed", "score", false),
        ("serving", "pay", false),
        ("scored", "expire", false),
        ("billed", "correct", true),
        ("serving", "correct", false),
        ("refunding", "close", true),
        ("reopened", "close", true),
        ("billed", "close", true),
        ("refunded", "dispute", false),
        ("billed", "refund", false),
        ("paid", "refund", false),
        ("reopened", "refund", false),
        ("closed", "dispute", false),
    ] {
        assert_eq!(table.other_log_may_allow(state, act), want, "{act} in {state}");
    }
    let other = RuleTable::from_toml(include_str!("../../testdata/rules/other.toml")).unwrap();
    assert!(table.rows.iter().all(|row| other.rows.iter().all(|found| found.state != row.state)), "no state in common");
    assert!(other.other_log_may_allow("cooling", "bill") && other.other_log_may_allow("running", "bill"));
}

#[test]
fn a_contract_is_settled_when_nothing_but_a_score_can_follow() {
    let other = RuleTable::from_toml(include_str!("../../testdata/rules/other.toml")).unwrap();
    for (table, settled) in [
        (RuleTable::from_toml(DEFAULT).unwrap(), &["lapsed", "refused", "closed"][..]),
        (other, &["gone", "declined", "settled", "done"][..]),
    ] {
        for state in table.rows.iter().flat_map(|row| [&row.state, &row.next]) {
            assert_eq!(table.is_settled(state), settled.contains(&state.as_str()), "{state}");
        }
    }
}

#[test]
fn price_terms_are_sorted_and_completed() {
    let text = "[[price]]\nresource=\"reserved_cpu\"\nprice=\"1\"\n[[price]]\nresource=\"gpu:B\"\nprice=\"3\"\n\
                [[price]]\nresource=\"gpu\"\nprice=\"2\"\n[[price]]\nresource=\"cpu\"\nprice=\"0.1\"\n\
                [[price]]\nresource=\"gpu:A\"\nprice=\"3\"\n";
    let tariff = Tariff::from_toml(text).unwrap();
    let names: Vec<&str> = tariff.prices.iter().map(|price| price.resource.as_str()).collect();
    assert_eq!(names, ["cpu", "reserved_cpu", "gpu", "gpu:A", "gpu:B"]);
    assert_eq!((tariff.currency.as_str(), tariff.calendar.as_str()), ("CNY", "Asia/Shanghai"));
    assert_eq!((tariff.prices[2].per.as_str(), tariff.prices[2].scheme), ("GPU-hour", Scheme::Flat));
    assert_eq!(Tariff::from_toml("").unwrap().prices, [], "a product may cost nothing");
}

#[test]
fn wrong_price_terms_are_refused_with_what_is_wrong() {
    let cpu = |rest: &str| format!("[[price]]\nresource = \"cpu\"\n{rest}");
    let tiers = |scheme: &str, tiers: &str| cpu(&format!("scheme = \"{scheme}\"\ntier = [{tiers}]"));
    for (name, text, want) in [
        ("not TOML", "[[price]".to_owned(), "TOML"),
        ("an unknown key", cpu("price = \"1\"\ndiscount = 1"), "unknown field"),
        ("an unknown key at the top", "version = 1".to_owned(), "unknown field"),
        ("a price as a number", cpu("price = 0.1"), "invalid type"),
        ("an unknown resource", "[[price]]\nresource = \"cpus\"\nprice = \"1\"".to_owned(), "unknown resource cpus"),
        ("an empty qualifier", "[[price]]\nresource = \"gpu:\"\nprice = \"1\"".to_owned(), "unknown resource gpu:"),
        ("another currency", "currency = \"USD\"".to_owned(), "USD is not supported"),
        ("a time zone of no place", "calendar = \"Asia/Atlantis\"".to_owned(), "Asia/Atlantis"),
        ("no price", cpu(""), "give `price`"),
        ("price and tiers", cpu("price = \"1\"\ntier = [{ price = \"1\" }]"), "give `price`"),
        ("tiers without scheme", cpu("tier = [{ up_to = \"1\", price = \"1\" }, { price = \"1\" }]"), "give `price`"),
        ("a scheme without tiers", cpu("scheme = \"volume\"\nprice = \"1\""), "give `price`"),
        ("an unknown scheme", tiers("steps", "{ price = \"1\" }"), "unknown variant"),
        ("one tier", tiers("volume", "{ price = \"1\" }"), "have several"),
        (
            "a closed last tier",
            tiers("graduated", "{ up_to = \"1\", price = \"1\" }, { up_to = \"2\", price = \"1\" }"),
            "the last must be open",
        ),
        ("an open first tier", tiers("graduated", "{ price = \"1\" }, { price = \"1\" }"), "must rise"),
        ("a tier up to zero", tiers("graduated", "{ up_to = \"0\", price = \"1\" }, { price = \"1\" }"), "must rise"),
        (
            "tiers that fall",
            tiers("graduated", "{ up_to = \"2\", price = \"1\" }, { up_to = \"1\", price = \"1\" }, { price = \"1\" }"),
            "must rise",
        ),
        (
            "tiers that stand",
            tiers("graduated", "{ up_to = \"2\", price = \"1\" }, { up_to = \"2\", price = \"1\" }, { price = \"1\" }"),
            "must rise",
        ),
        (
            "a bound with a fraction",
            tiers("volume", "{ up_to = \"1.5\", price = \"1\" }, { price = \"1\" }"),
            "integer in base units",
        ),
        (
            "a negative bound",
            tiers("volume", "{ up_to = \"-1\", price = \"1\" }, { price = \"1\" }"),
            "integer in base units",
        ),
        ("a negative price", cpu("price = \"-0.1\""), "negative"),
        ("a price of eleven digits", cpu("price = \"0.00000000001\""), "not an amount of money"),
        ("a resource twice", format!("{0}\n{0}", cpu("price = \"1\"")), "distinct"),
    ] {
        match Tariff::from_toml(&text) {
            Err(error) => assert!(error.to_string().contains(want), "{name}: {error}"),
            Ok(tariff) => panic!("{name}: {tariff:?}"),
        }
    }
}

#[test]
fn received_price_terms_are_checked_like_written_ones() {
    let good =
        Tariff::from_toml("[[price]]\nresource=\"cpu\"\nprice=\"1\"\n[[price]]\nresource=\"gpu:A\"\nprice=\"1\"")
            .unwrap();
    type Damage = fn(&mut Tariff);
    let cases: &[(&str, Damage)] = &[
        ("version", |t| t.version = 0),
        ("currency", |t| t.currency = "cny".to_owned()),
        ("rounding", |t| t.rounding = "up".to_owned()),
        ("calendar", |t| t.calendar = String::new()),
        ("order", |t| t.prices.reverse()),
        ("unit", |t| t.prices[0].per = "GiB".to_owned()),
        ("no tier", |t| t.prices[0].tiers.clear()),
        ("flat with two tiers", |t| {
            t.prices[0].tiers.insert(0, hufu_trade::tariff::Tier { up_to: Some(1), price: UnitPrice(1) })
        }),
        ("one tier of volume", |t| t.prices[0].scheme = Scheme::Volume),
        ("a spelling of its own", |t| t.prices[1].resource = "GPU:A".to_owned()),
    ];
    good.check().unwrap();
    for (name, damage) in cases {
        let mut tariff = good.clone();
        damage(&mut tariff);
        assert!(tariff.check().is_err(), "{name}");
        assert!(hufu_trade::rating::rate_quantities(&tariff, &[]).is_err(), "{name}: rated");
    }
    assert_ne!(good.hash().unwrap(), Tariff::from_toml("").unwrap().hash().unwrap());
}

#[test]
fn every_resource_reads_back_from_its_name_and_from_its_code() {
    for kind in KINDS {
        for resource in [
            Resource::used(kind),
            Resource::reserved(kind),
            Resource { qualifier: Some("A100-80G".to_owned()), ..Resource::used(kind) },
            Resource { qualifier: Some("1g.10gb: a b".to_owned()), ..Resource::reserved(kind) },
        ] {
            assert_eq!(resource.to_string().parse::<Resource>().unwrap(), resource);
            assert_eq!(Resource::from_code(resource.code(), resource.qualifier.clone()).unwrap(), resource);
        }
    }
    let long = format!("gpu:{}", "x".repeat(65));
    for wrong in
        ["", "CPU", "cpu ", " cpu", "reserved_", "reserved_reserved_cpu", "gpu:", "gpu:a\nb", "gpu:\u{7f}", &long]
    {
        assert!(wrong.parse::<Resource>().is_err(), "{wrong:?}");
    }
    for code in (12..32).chain(44..=255) {
        assert!(Resource::from_code(code, None).is_err(), "{code}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn money_and_prices_read_back_as_printed(value in -99_999_999_999_999_999_999_999_999_i128..99_999_999_999_999_999_999_999_999) {
        prop_assert_eq!(Money(value).to_string().parse::<Money>().unwrap(), Money(value));
        prop_assert_eq!(UnitPrice(value).to_string().parse::<UnitPrice>().unwrap(), UnitPrice(value));
        let json = serde_json::to_string(&Money(value)).unwrap();
        prop_assert!(json.starts_with('"'));
        prop_assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), Money(value));
    }

    #[test]
    fn what_reads_as_money_is_digits_and_one_point(text in "[-+ 0-9.eE_,]{0,12}") {
        let good = text.strip_prefix('-').unwrap_or(&text);
        let (whole, fraction) = good.split_once('.').unwrap_or((good, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let want = digits(whole) && digits(fraction) && fraction.len() <= 8;
        prop_assert_eq!(text.parse::<Money>().is_ok(), want, "{:?}", text);
    }

    #[test]
    fn cutting_to_the_fen_never_adds(value in any::<i64>()) {
        let cut = Money(i128::from(value)).cut_to_fen().0;
        prop_assert!(cut % 1_000_000 == 0 && cut.abs() <= i128::from(value).abs() && (i128::from(value) - cut).abs() < 1_000_000);
    }
}

#[test]
fn sums_of_money_are_checked() {
    let (most, one) = (Money(i128::MAX), Money(1));
    assert!(most.plus(one).is_err() && Money(i128::MIN).minus(one).is_err());
    assert_eq!((one.plus(one).unwrap(), one.minus(one).unwrap()), (Money(2), Money(0)));
    assert_eq!(Money(i128::MIN).to_string(), "-1701411834604692317316873037158.84105728");
}
