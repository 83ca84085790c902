//! The contract's interpreter on the default rule table: what is allowed, every refusal, and that no sequence of acts reaches
//! a deal without both signatures. The score of formula (10) against values worked by hand. Whole lives are `life.rs`.

use hufu_trade::{
    Error,
    contract::{Facts, Refusal, next, overall_score, replay},
    entry::EntryKind,
    rules::{DEFAULT, Guard, Party, RuleTable, Write},
    statement::ScoreItem,
};
use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};

pub(crate) const ALL: Facts = Facts {
    buyer_signed: true,
    node_signed: true,
    platform_signed: true,
    capacity_free: true,
    within_offer: true,
    window_open: true,
    amount_matches: true,
};

pub(crate) fn table() -> RuleTable {
    RuleTable::from_toml(DEFAULT).unwrap()
}

#[test]
fn every_refusal_names_its_reason_and_code() {
    let table = table();
    let no_buyer = Facts { buyer_signed: false, ..ALL };
    let no_node = Facts { node_signed: false, ..ALL };
    let no_platform = Facts { platform_signed: false, ..ALL };
    let closed = Facts { window_open: false, ..ALL };
    let unsigned = |act: &str, party| Refusal::Unsigned { act: act.to_owned(), party };
    let guarded = |act: &str, guard| Refusal::Guarded { act: act.to_owned(), guard };
    let not_allowed = |state: &str, act: &str| Refusal::NotAllowed { state: state.to_owned(), act: act.to_owned() };
    for (state, act, facts, want, code) in [
        ("new", "browse", no_buyer, unsigned("browse", Party::Buyer), "signature"),
        ("new", "order", ALL, not_allowed("new", "order"), "state"),
        ("new", "deal", ALL, not_allowed("new", "deal"), "state"),
        ("offered", "order", no_buyer, unsigned("order", Party::Buyer), "signature"),
        ("offered", "order", Facts { within_offer: false, ..ALL }, guarded("order", Guard::WithinOffer), "offer"),
        ("offered", "browse", ALL, not_allowed("offered", "browse"), "state"),
        ("ordered", "deal", no_buyer, unsigned("deal", Party::Buyer), "signature"),
        ("ordered", "deal", no_node, unsigned("deal", Party::Node), "signature"),
        ("ordered", "deal", Facts { capacity_free: false, ..ALL }, guarded("deal", Guard::CapacityFree), "stock"),
        ("ordered", "order", ALL, not_allowed("ordered", "order"), "state"),
        ("ordered", "refuse", no_node, unsigned("refuse", Party::Node), "signature"),
        ("serving", "score", ALL, not_allowed("serving", "score"), "state"),
        ("serving", "bill", ALL, not_allowed("serving", "bill"), "state"),
        ("ended", "bill", no_node, unsigned("bill", Party::Node), "signature"),
        ("billed", "pay", no_platform, unsigned("pay", Party::Platform), "signature"),
        ("billed", "pay", Facts { amount_matches: false, ..ALL }, guarded("pay", Guard::AmountMatches), "amount"),
        ("billed", "bill", ALL, not_allowed("billed", "bill"), "state"),
        ("billed", "score", no_buyer, unsigned("score", Party::Buyer), "signature"),
        ("billed_scored", "score", ALL, not_allowed("billed_scored", "score"), "state"),
        ("paid", "pay", ALL, not_allowed("paid", "pay"), "state"),
        ("scored", "score", ALL, not_allowed("scored", "score"), "state"),
        ("lapsed", "order", ALL, not_allowed("lapsed", "order"), "state"),
        ("refused", "deal", ALL, not_allowed("refused", "deal"), "state"),
        ("serving", "suspend", no_buyer, unsigned("suspend", Party::Buyer), "signature"),
        ("serving", "suspend", closed, guarded("suspend", Guard::WindowOpen), "offer"),
        ("serving", "terminate", no_buyer, unsigned("terminate", Party::Buyer), "signature"),
        ("serving", "revoke", no_platform, unsigned("revoke", Party::Platform), "signature"),
        ("serving", "renew", Facts { within_offer: false, ..ALL }, guarded("renew", Guard::WithinOffer), "offer"),
        ("serving", "resume", ALL, not_allowed("serving", "resume"), "state"),
        ("serving", "dispute", ALL, not_allowed("serving", "dispute"), "state"),
        ("suspending", "resume", ALL, not_allowed("suspending", "resume"), "state"),
        ("suspended", "suspend", ALL, not_allowed("suspended", "suspend"), "state"),
        ("suspended", "resume", closed, guarded("resume", Guard::WindowOpen), "offer"),
        ("suspended", "exhaust", ALL, not_allowed("suspended", "exhaust"), "state"),
        ("suspended", "bill", ALL, not_allowed("suspended", "bill"), "state"),
        ("ended", "resume", ALL, not_allowed("ended", "resume"), "state"),
        ("ended", "renew", ALL, not_allowed("ended", "renew"), "state"),
        ("billed", "correct", ALL, not_allowed("billed", "correct"), "state"),
        ("billed", "contest", no_node, unsigned("contest", Party::Node), "signature"),
        ("disputed", "correct", no_node, unsigned("correct", Party::Node), "signature"),
        ("disputed", "uphold", no_platform, unsigned("uphold", Party::Platform), "signature"),
        ("disputed", "withdraw", no_buyer, unsigned("withdraw", Party::Buyer), "signature"),
        ("disputed", "pay", ALL, not_allowed("disputed", "pay"), "state"),
        ("disputed", "overdue", ALL, not_allowed("disputed", "overdue"), "state"),
        ("paid", "correct", ALL, not_allowed("paid", "correct"), "state"),
        ("paid", "refund", ALL, not_allowed("paid", "refund"), "state"),
        ("refunding", "refund", no_platform, unsigned("refund", Party::Platform), "signature"),
        (
            "refunding",
            "refund",
            Facts { amount_matches: false, ..ALL },
            guarded("refund", Guard::AmountMatches),
            "amount",
        ),
        ("refunding", "dispute", ALL, not_allowed("refunding", "dispute"), "state"),
        ("refunded", "dispute", ALL, not_allowed("refunded", "dispute"), "state"),
        ("refunded", "refund", ALL, not_allowed("refunded", "refund"), "state"),
        ("closed", "dispute", ALL, not_allowed("closed", "dispute"), "state"),
        ("closed", "score", ALL, not_allowed("closed", "score"), "state"),
        ("nowhere", "browse", ALL, not_allowed("nowhere", "browse"), "state"),
        ("new", "", ALL, not_allowed("new", ""), "state"),
    ] {
        let refusal = next(&table, state, act, facts).unwrap_err();
        assert_eq!((refusal.code(), &refusal), (code, &want), "{state} {act}");
        assert!(!refusal.to_string().is_empty());
    }
}

#[test]
fn an_entry_moves_a_contract_only_by_a_rule_that_writes_its_kind() {
    let table = table();
    for row in &table.rows {
        for kind in (0..=u16::MAX).filter_map(EntryKind::from_number) {
            let writes = row.writes.iter().any(|write| write.kind() == kind);
            let step = replay(&table, &row.state, &row.act, kind, ALL);
            assert_eq!(step.is_ok(), writes, "{} in {} shown by {}", row.act, row.state, kind.name());
            assert!(step.is_ok_and(|step| step.next == row.next) == writes);
        }
    }
    for (name, state, act, kind) in [
        ("a buyer's notice is no score", "paid", "score", EntryKind::Notice),
        ("nor an order", "offered", "order", EntryKind::Notice),
        ("nor the end of the term", "serving", "expire", EntryKind::Notice),
        ("nor of the money", "serving", "exhaust", EntryKind::Notice),
        ("the platform's is no payment", "billed", "pay", EntryKind::Notice),
        ("nor a refund", "refunding", "refund", EntryKind::Notice),
        ("a status of the node is no bill", "ended", "bill", EntryKind::OrderStatus),
        ("nor a correction", "disputed", "correct", EntryKind::OrderStatus),
    ] {
        assert!(next(&table, state, act, ALL).is_ok(), "{name}");
        assert_eq!(replay(&table, state, act, kind, ALL).unwrap_err().code(), "state", "{name}");
    }
    let nobody = replay(&table, "serving", "suspend", EntryKind::Notice, Facts { buyer_signed: false, ..ALL });
    assert_eq!(nobody.unwrap_err().code(), "signature");
}

#[test]
fn the_window_guard_is_an_offer_refusal_where_a_table_uses_it() {
    let mut table = table();
    table.rows[0].guard = Guard::WindowOpen;
    let closed = Facts { window_open: false, ..ALL };
    assert_eq!(next(&table, "new", "browse", closed).unwrap_err().code(), "offer");
    assert!(next(&table, "new", "browse", ALL).is_ok());
}

const ABOUT_A_BILL: [Write; 4] = [Write::Payment, Write::Correction, Write::RefundPaid, Write::Score];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_acts_reaches_a_deal_without_both_signatures(acts in proptest::collection::vec(any::<(u8, u8)>(), 0..80)) {
        let table = table();
        let names: Vec<&str> = table.rows.iter().map(|row| row.act.as_str()).collect();
        let (mut state, mut dealt, mut billed, mut scores) = (table.start.clone(), false, false, 0);
        for (act, bits) in acts {
            let bit = |n: u8| bits & (1 << n) != 0;
            let facts = Facts {
                buyer_signed: bit(0),
                node_signed: bit(1),
                platform_signed: bit(2),
                capacity_free: bit(3),
                within_offer: bit(4),
                window_open: bit(5),
                amount_matches: bit(6),
            };
            let Ok(step) = next(&table, &state, names[usize::from(act) % names.len()], facts) else { continue };
            if step.writes.contains(&Write::Deal) {
                prop_assert!(facts.buyer_signed && facts.node_signed && facts.capacity_free);
                dealt = true;
            }
            if [Write::Payment, Write::RefundPaid].iter().any(|write| step.writes.contains(write)) {
                prop_assert!(facts.platform_signed && facts.amount_matches);
            }
            if step.writes.contains(&Write::Notice) {
                prop_assert!(facts.buyer_signed || facts.platform_signed);
            }
            billed |= step.writes.contains(&Write::Bill);
            prop_assert!(billed || !step.writes.iter().any(|w| ABOUT_A_BILL.contains(w)));
            scores += usize::from(step.writes.contains(&Write::Score));
            prop_assert!(dealt || !step.writes.iter().any(|w| [Write::Bill, Write::Payment, Write::Score].contains(w)));
            prop_assert!(dealt || !table.metered.iter().chain(&table.holding).any(|metered| metered == step.next));
            prop_assert!(scores <= 1, "scored twice");
            state = step.next.to_owned();
        }
    }
}

fn weighted(weights: &[(&str, u32)]) -> RuleTable {
    let mut table = table();
    table.parameters.score_weights = weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
    table
}

fn items(scores: &[(u8, u8)]) -> Vec<ScoreItem> {
    scores.iter().map(|(code, score)| ScoreItem { code: *code, score: *score }).collect()
}

#[test]
fn the_overall_score_is_the_weighted_mean_half_even() {
    let equal = [("cpu", 5_000), ("memory", 5_000)];
    for (name, weights, scores, want) in [
        ("one kind is its own score", &[("cpu", 3_000)][..], &[(0, 87)][..], 8_700),
        ("all weights scale alike", &[("cpu", 1), ("memory", 1)], &[(0, 80), (1, 91)], 8_550),
        (
            "as the documents work it out",
            &[("cpu", 3_000), ("memory", 2_000), ("net_tx", 500)],
            &[(0, 95), (1, 90), (7, 81)],
            9_191,
        ),
        ("the best", &equal, &[(0, 100), (1, 100)], 10_000),
        ("the worst", &equal, &[(0, 0), (1, 0)], 0),
        ("12.5 hundredths to 12", &[("cpu", 1), ("memory", 7)], &[(0, 1), (1, 0)], 12),
        ("37.5 hundredths to 38", &[("cpu", 3), ("memory", 5)], &[(0, 1), (1, 0)], 38),
        ("62.5 hundredths to 62", &[("cpu", 5), ("memory", 3)], &[(0, 1), (1, 0)], 62),
        ("33.33 down", &[("cpu", 1), ("memory", 2)], &[(0, 1), (1, 0)], 33),
        ("66.67 up", &[("cpu", 2), ("memory", 1)], &[(0, 1), (1, 0)], 67),
        ("a kind of weight zero does not count", &[("cpu", 1), ("memory", 0)], &[(0, 70), (1, 3)], 7_000),
        ("the largest weights there are", &[("cpu", u32::MAX), ("memory", u32::MAX)], &[(0, 100), (1, 99)], 9_950),
    ] {
        assert_eq!(overall_score(&weighted(weights), &items(scores)).unwrap(), want, "{name}");
    }
}

#[test]
fn scores_that_cannot_be_weighed_are_refused() {
    let one = [("cpu", 1)];
    for (name, weights, scores) in [
        ("nothing scored", &one[..], &[][..]),
        ("a kind without weight", &one, &[(0, 1), (1, 1)]),
        ("a code nobody knows", &one, &[(12, 1)]),
        ("a reserved code", &one, &[(32, 1)]),
        ("above 100", &one, &[(0, 101)]),
        ("all weights zero", &[("cpu", 0)], &[(0, 50)]),
    ] {
        let outcome = overall_score(&weighted(weights), &items(scores));
        assert!(matches!(outcome, Err(Error::Field { .. })), "{name}: {outcome:?}");
    }
}
