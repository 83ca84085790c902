//! Contracts that are suspended, resumed, renewed, given up, disputed: by whom they may be, and what a pack says of one who may
//! not. Corrections and money are `money.rs`.

use hufu_audit::Outcome;
use hufu_trade::{allocation::Allocation, money::Money, octets::Octets, rules, statement::Payment, usage::Reason};

use crate::{
    judge, pack_of, said,
    story::{Cause, OTHER, check_each},
    synthetic::{By, Plan, SECOND, Step, correct, notice},
};

/// Two minutes of service, then what happens before it ends.
fn service(service: Vec<Step>, ends: Vec<[&'static str; 3]>) -> Plan {
    Plan { records: 2, minutes: Some(9), service, ends, ..Plan::default() }
}

/// Service as it was ordered, then what happens after the bill.
fn after(after: Vec<Step>) -> Plan {
    Plan { records: 2, after, ..Plan::default() }
}

const EXPIRE: [&str; 3] = ["expire", "serving", "ended"];
const PAUSE: [&str; 3] = ["pause", "suspending", "suspended"];

/// Suspended for three minutes and resumed.
fn suspension() -> Vec<Step> {
    vec![
        notice("suspend", By::Buyer),
        Step::Status(PAUSE),
        Step::Suspended(3),
        notice("resume", By::Buyer),
        Step::Records(2),
    ]
}

/// Renewed once by five minutes, and served to the new end.
fn renewal(change: fn(&mut hufu_trade::notice::Notice)) -> Plan {
    let steps = vec![Step::Notice("renew", By::Buyer, change), Step::Records(5)];
    Plan { minutes: Some(3), ..service(steps, vec![EXPIRE]) }
}

/// Contracts that went another way, as they may.
fn right() -> Vec<Cause> {
    let fine = |name, plan| (name, plan, "pppp", "recomputed");
    let give_up = Plan {
        rules: OTHER.to_owned(),
        ..service(
            vec![notice("give_up", By::Buyer)],
            vec![["shut", "winding_up", "cooling"], ["close", "cooling", "closed"]],
        )
    };
    let left = vec![["leave", "leaving", "ended"]];
    vec![
        fine("suspended and resumed", service(suspension(), vec![EXPIRE])),
        fine(
            "suspended twice",
            Plan { minutes: Some(14), ..service(suspension().into_iter().chain(suspension()).collect(), vec![EXPIRE]) },
        ),
        fine(
            "suspended to its end",
            service(vec![notice("suspend", By::Buyer), Step::Status(PAUSE)], vec![["expire", "suspended", "ended"]]),
        ),
        fine("renewed", renewal(|_| {})),
        fine(
            "renewed with a higher ceiling",
            renewal(|notice| {
                if let Some(renewal) = &mut notice.renewal {
                    renewal.contract_value.amount.0 += 1;
                }
            }),
        ),
        fine(
            "renewed while suspended",
            service(
                vec![
                    notice("suspend", By::Buyer),
                    Step::Status(PAUSE),
                    notice("renew", By::Buyer),
                    Step::Suspended(8),
                    notice("resume", By::Buyer),
                    Step::Records(2),
                ],
                vec![EXPIRE],
            ),
        ),
        fine("given up by the buyer", service(vec![notice("terminate", By::Buyer)], left.clone())),
        fine("revoked by the platform", service(vec![notice("revoke", By::Platform)], left)),
        fine("given up under another table", give_up),
        fine("disputed and withdrawn", after(vec![notice("dispute", By::Buyer), notice("withdraw", By::Buyer)])),
        fine("disputed and upheld", after(vec![notice("dispute", By::Buyer), notice("uphold", By::Platform)])),
        fine("disputed, and nobody answered", after(vec![notice("dispute", By::Buyer)])),
        fine(
            "disputed twice, signed anew",
            after(vec![
                notice("dispute", By::Buyer),
                notice("withdraw", By::Buyer),
                Step::Wait(1),
                notice("dispute", By::Buyer),
            ]),
        ),
        fine("scored while disputed", after(vec![notice("dispute", By::Buyer), Step::Score])),
        fine("overdue", after(vec![Step::Status(["overdue", "billed", "overdue"])])),
    ]
}

/// The devices that an order holds.
fn devices() -> Vec<Cause> {
    let given = |change: fn(&mut Allocation)| service(vec![Step::Devices(change)], vec![EXPIRE]);
    vec![
        ("devices of the order", given(|_| {}), "pppp", "recomputed"),
        ("devices of another contract", given(|given| given.contract_no = Octets([7; 16])), "pfpp", "another contract"),
        ("a device twice", given(|given| given.devices[1] = given.devices[0].clone()), "pfpp", "each once"),
        ("devices out of order", given(|given| given.devices.reverse()), "pfpp", "each once"),
        ("no device", given(|given| given.devices.clear()), "pfpp", "0 devices"),
        ("an index for a device", given(|given| given.devices[0].id = "0".to_owned()), "pfpp", "hex digits"),
    ]
}

/// Notices of somebody else, of another time, of another contract; acts that are none of notices.
fn wrong_notices() -> Vec<Cause> {
    let left = || vec![["leave", "leaving", "ended"]];
    let early = |act, by| service(vec![notice(act, by)], left());
    let changed = |change: fn(&mut hufu_trade::notice::Notice)| {
        service(vec![Step::Notice("terminate", By::Buyer, change)], left())
    };
    vec![
        ("the platform does what the buyer may", early("terminate", By::Platform), "pfpp", "signature of the Buyer"),
        ("the buyer does what the platform may", early("revoke", By::Buyer), "pfpp", "signature of the Platform"),
        (
            "somebody does what the platform may",
            early("revoke", By::Stranger),
            "fppp",
            "no valid signature of the platform",
        ),
        (
            "somebody does what the buyer may",
            early("terminate", By::Stranger),
            "ffpp",
            "no valid signature of the platform",
        ),
        (
            "somebody upholds a bill",
            after(vec![notice("dispute", By::Buyer), notice("uphold", By::Stranger)]),
            "fppp",
            "no valid signature of the platform",
        ),
        (
            "the buyer upholds a bill",
            after(vec![notice("dispute", By::Buyer), notice("uphold", By::Buyer)]),
            "pfpp",
            "signature of the Platform",
        ),
        (
            "a notice twice",
            after(vec![notice("dispute", By::Buyer), notice("withdraw", By::Buyer), Step::Again]),
            "ffpp",
            "stands in the log twice",
        ),
        (
            "a notice twice where its act is allowed",
            service(vec![notice("renew", By::Buyer), Step::Again, Step::Records(2)], vec![EXPIRE]),
            "fppp",
            "stands in the log twice",
        ),
        ("a notice of another deal", changed(|notice| notice.deal = Octets([7; 32])), "fppp", "names another deal"),
        ("a notice of another node", changed(|notice| notice.computing_pool_id.push('0')), "fppp", "computingPoolId"),
        (
            "a notice of another contract",
            changed(|notice| notice.contract_no = Octets([7; 16])),
            "pfpp",
            "another contract",
        ),
        ("an act that no table knows", early("vanish", By::Buyer), "pfpp", "not allowed in state serving"),
        (
            "an act in capital letters",
            changed(|notice| notice.act = "Terminate".to_owned()),
            "pfpp",
            "1 to 32 of a-z and _",
        ),
        ("a notice that ends the term", early("expire", By::Buyer), "pfpp", "expire is not allowed"),
        ("a notice that exhausts", early("exhaust", By::Buyer), "pfpp", "exhaust is not allowed"),
        (
            "a renewal inside another act",
            changed(|notice| {
                let amount = Money(1_000_000_000_000_000);
                let contract_value = hufu_trade::statement::ContractValue { payment: Payment::Postpaid, amount };
                notice.renewal = Some(hufu_trade::notice::Renewal { term_ns: 1, contract_value });
            }),
            "pfpp",
            "exactly when the act is renew",
        ),
        (
            "a dispute of no bill",
            after(vec![Step::Notice("dispute", By::Buyer, |notice| notice.bill = None)]),
            "pfpp",
            "names the bill",
        ),
        (
            "a dispute of another's bill",
            after(vec![Step::Notice("dispute", By::Buyer, |notice| notice.bill = Some(Octets([7; 32])))]),
            "fppp",
            "names another bill",
        ),
        ("a notice that pays", after(vec![notice("pay", By::Platform)]), "pfpp", "pay is not allowed"),
        ("a notice that scores", after(vec![notice("score", By::Buyer)]), "pfpp", "score is not allowed"),
        (
            "a notice that corrects",
            after(vec![notice("dispute", By::Buyer), notice("correct", By::Buyer)]),
            "pfpp",
            "correct is not allowed",
        ),
        (
            "a status that suspends",
            service(
                vec![Step::Status(["suspend", "serving", "suspending"]), Step::Status(PAUSE)],
                vec![["expire", "suspended", "ended"]],
            ),
            "pfpp",
            "suspend is not allowed",
        ),
        (
            "a status that bills",
            Plan { ends: vec![EXPIRE, ["bill", "ended", "billed"]], ..after(Vec::new()) },
            "pfpp",
            "bill is not allowed",
        ),
        ("a status that pays", after(vec![Step::Status(["pay", "billed", "paid"])]), "pfpp", "pay is not allowed"),
        ("scored twice", after(vec![Step::Score, Step::Wait(1), Step::Score]), "pfpp", "score is not allowed"),
    ]
}

/// Renewals beyond what may be, and suspensions that were none.
fn wrong_service() -> Vec<Cause> {
    let late =
        || Plan { minutes: Some(2), ..service(vec![notice("renew", By::Buyer), Step::Records(5)], vec![EXPIRE]) };
    let terminated = || Plan {
        minutes: Some(2),
        ..service(vec![notice("terminate", By::Buyer)], vec![["leave", "leaving", "ended"]])
    };
    let suspended = |record| Plan { record, ..service(suspension(), vec![EXPIRE]) };
    vec![
        (
            "renewed beyond the offer",
            renewal(|notice| {
                if let Some(renewal) = &mut notice.renewal {
                    renewal.term_ns = 401 * 86_400_000_000_000;
                }
            }),
            "pfpp",
            "WithinOffer",
        ),
        (
            "renewed with a lower ceiling",
            renewal(|notice| {
                if let Some(renewal) = &mut notice.renewal {
                    renewal.contract_value.amount.0 -= 1;
                }
            }),
            "pfpp",
            "WithinOffer",
        ),
        (
            "renewed as prepaid",
            renewal(|notice| {
                if let Some(renewal) = &mut notice.renewal {
                    renewal.contract_value.payment = Payment::Prepaid;
                }
            }),
            "pfpf",
            "WithinOffer",
        ),
        ("renewed after the end", late(), "pfpp", "WithinOffer"),
        ("given up after the end", terminated(), "pfpp", "WindowOpen"),
        (
            "used while suspended",
            suspended(|record| {
                if record.reason == Reason::Suspended {
                    for reading in &mut record.readings {
                        (reading.delta, reading.total) = (Some(7), reading.total.map(|total| total + 7));
                    }
                }
            }),
            "pppf",
            "has usage while suspended",
        ),
        (
            "a suspension left out of the chain",
            Plan {
                record: |record| {
                    if record.order_seq == 2 {
                        (record.start, record.end) = (record.start + 180 * SECOND, record.end + 180 * SECOND);
                    }
                },
                ..service(
                    vec![
                        notice("suspend", By::Buyer),
                        Step::Status(PAUSE),
                        notice("resume", By::Buyer),
                        Step::Records(2),
                    ],
                    vec![EXPIRE],
                )
            },
            "pfpp",
            "does not begin where",
        ),
        (
            "a gap told as a suspension",
            service(vec![Step::Suspended(3), Step::Records(2)], vec![EXPIRE]),
            "ppwp",
            "the record says suspended, the contract was not",
        ),
        (
            "resumed by nobody",
            service(
                vec![notice("suspend", By::Buyer), Step::Status(PAUSE), Step::Suspended(3), Step::Records(2)],
                vec![EXPIRE],
            ),
            "pfpp",
            "the rules lead to suspended -> ended",
        ),
        (
            "contested before it was billed",
            Plan { ends: vec![EXPIRE, ["contest", "billed", "disputed"]], ..after(vec![correct(1)]) },
            "pfpw",
            "contest is not allowed",
        ),
    ]
}

/// Rule tables that are none, and some that are: the default one with a piece of its text changed.
fn tables() -> Vec<Cause> {
    const TERMINATE: &str =
        "act = \"terminate\"\nsigners = [\"buyer\"]\nguard = \"window_open\"\nwrites = [\"notice\"]";
    const METERED: &str = "metered = [\"serving\", \"suspending\", \"serving_due\"";
    const REFUND: &str = "act = \"refund\"\nsigners = [\"platform\"]";
    let table = |name, from: &str, changed: &str, to: &str| {
        assert!(rules::DEFAULT.contains(from) && from.contains(changed), "{name}");
        let rules = rules::DEFAULT.replace(from, &from.replace(changed, to));
        (name, Plan { rules, ..Plan::default() })
    };
    let none = [
        table("a notice of the node", TERMINATE, "[\"buyer\"]", "[\"node\"]"),
        table("a notice of nobody", TERMINATE, "[\"buyer\"]", "[]"),
        table("a notice of two", TERMINATE, "[\"buyer\"]", "[\"buyer\", \"platform\"]"),
        table("a notice of one twice", TERMINATE, "[\"buyer\"]", "[\"buyer\", \"buyer\"]"),
        table("a notice and a status", TERMINATE, "[\"notice\"]", "[\"notice\", \"order_status\"]"),
        table("a notice twice in a row", TERMINATE, "[\"notice\"]", "[\"notice\", \"notice\"]"),
        table("a refund of nobody", REFUND, "[\"platform\"]", "[]"),
        table("a metered state that never expires", METERED, "\"serving\"", "\"serving\", \"suspended\", \"billed\""),
        table("a timer of minus one", "after_s = 0\nact = \"pause\"", "= 0", "= -1"),
        table("a timer of more than ten years", "after_s = 0\nact = \"pause\"", "= 0", "= 315360001"),
        table("a timer of an act that is signed", "after_s = 0\nact = \"pause\"", "pause", "expired"),
    ];
    let some = [
        table("a notice of the platform", TERMINATE, "[\"buyer\"]", "[\"platform\"]"),
        table("a notice under another guard", TERMINATE, "window_open", "none"),
        table("a timer of ten years", "after_s = 0\nact = \"pause\"", "= 0", "= 315360000"),
    ];
    let none = none.map(|(name, plan)| (name, plan, "pwpp", "cannot judge"));
    none.into_iter().chain(some.map(|(name, plan)| (name, plan, "pppp", "recomputed"))).collect()
}

pub(crate) fn causes() -> Vec<Cause> {
    right().into_iter().chain(devices()).chain(wrong_notices()).chain(wrong_service()).chain(tables()).collect()
}

#[test]
fn each_change_is_judged_by_who_signed_it_and_when() {
    check_each(causes());
}

#[test]
fn a_suspension_is_no_gap() {
    let (parties, pack) = pack_of(&service(suspension(), vec![EXPIRE]));
    let verdicts = judge(&pack, &parties);
    assert_eq!(verdicts.data_quality.result, Outcome::Pass, "{}", said(&verdicts));
    assert_eq!(verdicts.billed_total, verdicts.recomputed_total);
}
