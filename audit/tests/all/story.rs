//! Whole stories with one thing in them, and what the four verdicts say.

use hufu_audit::Exit;
use hufu_trade::{
    bill::Bill,
    money::Money,
    octets::Octets,
    quality::{Delivered, QualityLine},
    rules,
    usage::{Reason, Status, TimeState, UsageRecord},
};

use crate::{
    judge, pack_of,
    parties::{NAMES, Name, Names, parties},
    results, said,
    synthetic::{Plan, SECOND, identity, play},
};

pub(crate) const OTHER: &str = include_str!("../../../trade/testdata/rules/other.toml");
const BILL_ROW: &str = "act = \"bill\"\nsigners = [\"node\"]\nguard = \"none\"";

/// What differs from what a story should give.
fn differs(name: &str, plan: &Plan, want: &str, says: &str) -> Option<String> {
    // What our own function refuses to rate cannot be billed with it.
    if UNBILLABLE.contains(&says) {
        let dir = tempfile::tempdir().unwrap();
        let error = play(dir.path(), &parties(plan.names).unwrap(), plan).err().map(|error| error.to_string());
        return (!error.as_ref().is_some_and(|error| error.contains(says))).then(|| format!("{name}: {error:?}"));
    }
    let (parties, pack) = pack_of(plan);
    let verdicts = judge(&pack, &parties);
    let exit = if want.contains('f') { Exit::No } else { Exit::Done };
    let right = results(&verdicts) == want && said(&verdicts).contains(says) && verdicts.exit() == exit;
    (!right).then(|| format!("{name}: {} for {want}, {says:?} expected in {}", results(&verdicts), said(&verdicts)))
}

/// Usage that no bill can be made of.
pub(crate) const UNBILLABLE: [&str; 2] = ["where its deltas give", "has usage while suspended"];

/// Every story gives the results and the reason that stand with it.
pub(crate) fn check_each(causes: Vec<Cause>) {
    let wrong: Vec<String> =
        causes.iter().filter_map(|(name, plan, want, says)| differs(name, plan, want, says)).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), causes.len(), wrong.join("\n"));
}

fn check(name: &'static str, plan: Plan, want: &'static str, says: &'static str) {
    check_each(vec![(name, plan, want, says)]);
}

#[test]
fn a_right_bill_passes_all_four() {
    check("right", Plan::default(), "pppp", "recomputed");
}

/// A story's name and plan, the results, and what one of the verdicts says.
pub(crate) type Cause = (&'static str, Plan, &'static str, &'static str);

fn missing(code: u8) -> Delivered {
    Delivered { code, delta: None, total: None, why: Some("no such file".to_owned()) }
}

/// A minute in which the order waited for a CPU for a second and for its disk for a minute; nobody tells of stolen time.
pub(crate) fn qualities(record: &mut UsageRecord) {
    let read = |code: u8, step: u64| Delivered {
        code,
        delta: Some(step),
        total: Some(step * (record.order_seq + 1)),
        why: None,
    };
    record.delivered = Some(vec![missing(1), read(2, 1_000_000_000), read(4, 60_000_000_000)]);
}

pub(crate) fn served() -> Plan {
    Plan { record: qualities, ..Plan::default() }
}

/// The last minute is a gap.
fn gapped(record: &mut UsageRecord) {
    qualities(record);
    if record.order_seq == 4 {
        (record.reason, record.why) = (Reason::Gap, Some("agent was down".to_owned()));
        record.readings.clear();
        for one in record.delivered.iter_mut().flatten() {
            (one.total, one.delta) =
                (one.total.zip(one.delta).map(|(total, delta)| total - delta), one.delta.map(|_| 0));
        }
    }
}

pub(crate) fn line(bill: &mut Bill) -> &mut QualityLine {
    bill.quality.as_mut().unwrap().first_mut().unwrap()
}

/// One record tells another meter.
fn meter(number: u64) -> Plan {
    let signed = move |record: &mut UsageRecord| {
        if record.order_seq == number {
            record.meter = Octets([7; 16]);
        }
    };
    Plan { signed: Box::new(signed), ..Plan::default() }
}

/// The node bills what it measured and signs something else in the fourth record.
fn cheat(change: fn(&mut Vec<Delivered>)) -> Plan {
    let signed = move |record: &mut UsageRecord| {
        if let Some(delivered) = record.delivered.as_mut().filter(|_| record.order_seq == 3) {
            change(delivered);
        }
    };
    Plan { signed: Box::new(signed), ..served() }
}

/// Stories with one thing in them.
pub(crate) fn causes() -> Vec<Cause> {
    let plan = Plan::default;
    // No state name of this table is the default's: nothing but the table's text decides.
    let other = || Plan { rules: OTHER.to_owned(), ..plan() };
    // Every certificate of these is good and of one CA; only the name is another's.
    let node =
        |subject, dns: &'static [&'static str]| Plan { names: Names { node: (subject, dns), ..NAMES }, ..plan() };
    let platform = |name: Name| Plan { names: Names { platform: name, ..NAMES }, ..plan() };
    let (not_node, not_platform) = ("does not name site-1/node-1", "does not name site-1/platform");
    let [expired, closed] = [["expire", "running", "cooling"], ["close", "cooling", "closed"]];
    vec![
        ("another node of the site signs", node("CN=site-1/node-2,C=CN", &[]), "fppp", not_node),
        (
            "a node of that name at another site signs",
            node("CN=site-2/node-1,C=CN", &["node-1.site-2"]),
            "fppp",
            not_node,
        ),
        ("a node's bare name", node("CN=node-1,C=CN", &["node-1"]), "fppp", not_node),
        ("two common names, one of them right", node("CN=site-1/node-1,CN=site-1/node-2", &[]), "fppp", not_node),
        ("the platform signs as the node", node("CN=site-1/platform", &["platform.site-1"]), "fppp", not_node),
        ("a node named by DNS name", node("O=Site", &["a.example", "node-1.site-1"]), "pppp", "recomputed"),
        ("a node writes the receipts", platform(("CN=site-1/node-2,C=CN", &[])), "fppp", not_platform),
        ("a buyer writes the receipts", platform(("CN=buyer-2,C=CN", &[])), "fppp", not_platform),
        ("another site's platform", platform(("CN=site-2/platform,C=CN", &[])), "fppp", not_platform),
        (
            "a platform of two sites",
            platform(("CN=Operator", &["platform.site-2", "platform.site-1"])),
            "pppp",
            "recomputed",
        ),
        ("another table", Plan { ends: vec![expired, closed], ..other() }, "pppp", "recomputed"),
        (
            "billed before it was closed",
            Plan { ends: vec![expired], ..other() },
            "pfpp",
            "not allowed in state cooling",
        ),
        ("another table's states", other(), "pfpp", "not allowed in state cooling"),
        ("states of no table", Plan { ends: vec![expired], ..plan() }, "pfpp", "serving -> ended"),
        (
            "billed while the window is open",
            Plan { rules: rules::DEFAULT.replace(BILL_ROW, &BILL_ROW.replace("none", "window_open")), ..plan() },
            "pfpp",
            "bill",
        ),
        ("no receipt", Plan { receipts: false, ..plan() }, "pwpp", "no receipt of the platform"),
        ("node clock ahead", Plan { stored_after_ns: -60 * SECOND, ..plan() }, "ppfp", "lies after"),
        (
            "other table language",
            Plan { rules: rules::DEFAULT.replace("version = 1", "version = 2"), ..plan() },
            "pwpp",
            "cannot judge",
        ),
        (
            "a gap",
            Plan {
                record: |record| {
                    if record.order_seq == 4 {
                        record.reason = Reason::Gap;
                        record.why = Some("agent was down".to_owned());
                        record.readings.clear();
                    }
                },
                ..plan()
            },
            "ppwp",
            "agent was down",
        ),
        ("quality told", served(), "pppp", "recomputed"),
        ("quality told, with a gap", Plan { record: gapped, ..served() }, "ppwp", "agent was down"),
        ("the first record of other counters than it says", meter(0), "pfpp", "not the SM3 of the identity"),
        ("counters changed without a word", meter(3), "pfpp", "changed without an identity"),
        (
            "an identity brought again",
            Plan { record: |record| record.identity = Some(identity()), ..plan() },
            "pppp",
            "recomputed",
        ),
        (
            "nobody knows whose counters",
            Plan { record: |record| record.identity = None, ..plan() },
            "pfpp",
            "brings none",
        ),
        ("a quality line of another time", Plan { bill: |bill| line(bill).ns -= 1, ..served() }, "pppf", "#quality"),
        ("a quality line read for longer", Plan { bill: |b| line(b).elapsed_ns *= 2, ..served() }, "pppf", "#quality"),
        ("no quality lines", Plan { bill: |bill| bill.quality = None, ..served() }, "pppf", "#quality"),
        (
            "quality lines out of nothing",
            Plan { bill: |bill| bill.quality = Some(vec![QualityLine { code: 0, ns: 1, elapsed_ns: 1 }]), ..plan() },
            "pppf",
            "cpu_throttled 1 of 1 ns",
        ),
        (
            "a total that falls",
            cheat(|all| all[1].total = Some(1)),
            "pppf",
            "cpu_stalled does not follow from its deltas",
        ),
        ("a delta left out", cheat(|all| all[1].delta = None), "pppf", "cpu_stalled does not follow from its deltas"),
        ("missing without a reason", cheat(|all| all[0].why = None), "pppf", "cpu_stolen is missing without a reason"),
        ("a kind that is none", cheat(|all| all[2].code = 6), "pppf", "io_stalled lost its total"),
        ("a kind twice", cheat(|all| all[2].code = 2), "pppf", "out of order"),
        ("a kind left out", cheat(|all| drop(all.pop())), "pppf", "io_stalled lost its total"),
        (
            "missing reading",
            Plan {
                record: |record| {
                    for reading in record.readings.iter_mut().filter(|reading| reading.code == 3) {
                        reading.status = Status::Missing;
                        (reading.delta, reading.total) = (None, None);
                        reading.why = Some("controller absent".to_owned());
                    }
                },
                ..plan()
            },
            "ppwp",
            "controller absent",
        ),
        (
            "relative clock, platform agrees",
            Plan { record: |record| record.quality.state = TimeState::Relative, ..plan() },
            "pppp",
            "pass",
        ),
        (
            "relative clock, nobody near",
            Plan {
                record: |record| record.quality.state = TimeState::Relative,
                stored_after_ns: 3600 * SECOND,
                ..plan()
            },
            "ppwp",
            "nothing corroborates",
        ),
        (
            "clock stepped inside a window",
            Plan { record: |record| record.elapsed_ns -= 30_000_000_000, ..plan() },
            "ppwp",
            "monotonic",
        ),
        (
            "higher total",
            Plan { bill: |bill| bill.total = Money(bill.total.0 + 1_000_000), ..plan() },
            "pppf",
            "#total",
        ),
        (
            "rounded up",
            Plan {
                bill: |bill| {
                    bill.total = Money(bill.total.0 + 1_000_000);
                    bill.rounding = Money(bill.rounding.0 + 1_000_000);
                },
                ..plan()
            },
            "pppf",
            "#rounding",
        ),
        ("a record unbilled", Plan { bill: |bill| bill.last_seq -= 1, ..plan() }, "pfpf", "#lastRecord"),
        (
            "usage invented",
            Plan {
                record: |record| {
                    for reading in &mut record.readings {
                        reading.total = reading.total.map(|total| total + 1);
                    }
                },
                ..plan()
            },
            "pppf",
            "where its deltas give",
        ),
        (
            "more than the offer",
            Plan {
                order: |order| {
                    if let Some(item) = order.requirement.as_mut().and_then(|r| r.items.first_mut()) {
                        item.quantity = 11;
                    }
                },
                ..plan()
            },
            "pfpp",
            "WithinOffer",
        ),
        (
            "more than the offer in two items",
            Plan {
                order: |order| {
                    if let Some(requirement) = order.requirement.as_mut() {
                        requirement.items.extend(requirement.items.clone());
                        requirement.items.iter_mut().for_each(|item| item.quantity = 6);
                    }
                },
                ..plan()
            },
            "pfpp",
            "WithinOffer",
        ),
        (
            "another price",
            Plan {
                order: |order| {
                    if let Some(requirement) = order.requirement.as_mut() {
                        requirement.tariff.0 = [1; 32];
                    }
                },
                ..plan()
            },
            "pppf",
            "price terms",
        ),
    ]
}

#[test]
fn each_cause_is_found_by_its_own_verdict() {
    check_each(causes());
}

#[test]
fn the_same_story_gives_the_same_bytes() {
    assert_eq!(pack_of(&Plan::default()).1, pack_of(&Plan::default()).1);
}

#[test]
fn the_second_implementation_agrees_or_was_left_out() {
    let (parties, pack) = pack_of(&Plan { records: 1, ..Plan::default() });
    let options = hufu_audit::Options { cross_check: true, ..Default::default() };
    let anchors = std::slice::from_ref(&parties.root);
    let verdicts = hufu_audit::verify(std::io::Cursor::new(&pack), anchors, options).unwrap();
    let want = if cfg!(feature = "cross-check") { "pppp" } else { "wppp" };
    assert_eq!(results(&verdicts), want, "{}", said(&verdicts));
}
