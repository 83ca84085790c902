//! What a comparison with the platform makes of answers and blocks: right ones, late ones, others', too many, too few.

use hufu_ledger::{KeptBlock, Ledger, Log, NO_KEY, Options};
use hufu_trade::{
    entry::octet_string,
    if2::{Answer, Blocks, Held, Problem, Remedy},
    octets::Octets,
};

use super::market::{Market, POOL};
use crate::fetch::{Comparison, Standing, Trust};

/// The node's ledger after a trade, and the same as it was with three blocks.
fn ledgers() -> (Market, Ledger, tempfile::TempDir) {
    let mut market = Market::open();
    market.deal(1, 60);
    assert!(market.ledger.size(Log::Trade) > 4);
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("older");
    let options = Options::new(POOL);
    Ledger::create(&place, &options, [6; 16]).unwrap();
    let (mut older, _) = Ledger::open(&place, &options).unwrap();
    for height in 0..3 {
        let bytes = market.ledger.block(Log::Trade, height).unwrap();
        let count = market.ledger.held(Log::Trade, height).unwrap().entries().len();
        older.restore(&[KeptBlock { bytes, keys: vec![NO_KEY; count], sealed: Vec::new() }]).unwrap();
    }
    (market, older, dir)
}

/// What a platform that holds the first `size` blocks answers who asks from `from` on.
fn held(ledger: &Ledger, from: u64, size: u64) -> Held {
    let root = |size| Octets(ledger.root_at(Log::Trade, size).unwrap());
    let next = (from < size).then_some(size);
    Held {
        log: 0,
        from,
        size,
        root: root(size),
        receipted: size,
        receipted_root: Some(root(size)),
        next,
        seen: None,
        next_root: next.map(root),
    }
}

fn blocks(ledger: &Ledger, heights: std::ops::Range<u64>) -> Blocks {
    let bytes = |height| octet_string(&ledger.block(Log::Trade, height).unwrap(), "Blocks").unwrap();
    Blocks { version: 1, log: 0, first: heights.start, blocks: heights.map(bytes).collect() }
}

fn asked() -> Comparison {
    let mut comparison = Comparison::default();
    assert_eq!(comparison.due(0), Some(Log::Trade));
    comparison.asked(Log::Trade, "1".to_owned());
    comparison
}

#[test]
fn an_answer_counts_only_for_the_question_that_it_names() {
    let (market, older, _dir) = ledgers();
    let size = market.ledger.size(Log::Trade);
    let mut comparison = asked();
    for re in [None, Some("0")] {
        comparison.answered(&older, (re, Answer::Ok(held(&market.ledger, 3, size))), b"").unwrap();
        assert_eq!(comparison.standing(Log::Trade), &Standing::Unknown, "{re:?}");
    }
    assert_eq!(
        (comparison.due(1), comparison.due(2_000_000_000)),
        (None, Some(Log::Trade)),
        "asked again after a pause"
    );
    comparison.asked(Log::Trade, "2".to_owned());
    let late = Answer::Ok(held(&market.ledger, 3, size));
    comparison.answered(&older, (Some("1"), late), b"").unwrap();
    assert_eq!(comparison.standing(Log::Trade), &Standing::Unknown, "late");
    let remedy = Remedy { en: "later".to_owned(), zh: String::new() };
    let busy = Problem { code: "busy".to_owned(), field: None, remedy };
    assert!(comparison.answered(&older, (Some("2"), Answer::Error(busy)), b"").is_err());
    assert!(!comparison.is_behind() && comparison.open() == Some(Log::Trade));
}

#[test]
fn an_answer_says_whole_missing_lost_or_parted() {
    let (market, older, _dir) = ledgers();
    let size = market.ledger.size(Log::Trade);
    let judge = |answer: Held| {
        let mut comparison = asked();
        let said = comparison.answered(&older, (Some("1"), Answer::Ok(answer)), b"signed");
        (said.is_ok(), comparison.standing(Log::Trade).clone())
    };
    let whole = |size| held(&market.ledger, 3, size);
    assert_eq!(judge(whole(3)), (true, Standing::Whole(3)));
    assert_eq!(judge(whole(1)), (true, Standing::Whole(1)), "it gets the rest");
    assert_eq!(judge(whole(size)), (true, Standing::Missing(size)));
    assert_eq!(judge(Held { receipted: 9, ..whole(2) }), (true, Standing::Lost(9, b"signed".to_vec())));
    assert_eq!(judge(Held { receipted: 3, ..whole(2) }), (true, Standing::Whole(3)), "it is all here");
    assert_eq!(judge(Held { root: Octets([1; 32]), ..whole(2) }), (false, Standing::Whole(2)), "parted");
    let parted = Held { root: Octets([1; 32]), receipted: 9, ..whole(2) };
    assert_eq!(judge(parted), (false, Standing::Unknown), "parted, and behind: it waits");
    for wrong in [
        Held { from: 2, ..whole(size) },
        Held { log: 1, ..whole(size) },
        Held { next: None, ..whole(size) },
        Held { next: Some(3), ..whole(size) },
        Held { next: Some(size + 1), ..whole(size) },
        Held { next_root: None, ..whole(size) },
    ] {
        let said = judge(wrong.clone());
        assert!(!said.0 && !matches!(said.1, Standing::Whole(_) | Standing::Lost(..)), "{wrong:?}");
    }
}

#[test]
fn only_the_nodes_own_next_blocks_come_back() {
    let (market, mut older, _dir) = ledgers();
    let size = market.ledger.size(Log::Trade);
    let mut other = Market::open();
    other.deal(2, 60);
    let mut trust = Trust::new(&market.core.identity);
    let mut arrive = |older: &Ledger, root: Option<[u8; 32]>, message: &Blocks| {
        let mut comparison = asked();
        let mut answer = held(&market.ledger, 3, size);
        answer.next_root = root.map(Octets).or(answer.next_root);
        comparison.answered(older, (Some("1"), Answer::Ok(answer)), b"").unwrap();
        let kept = comparison.arrived(older, &mut trust, message).map_err(|why| why.to_string());
        assert_eq!(comparison.arrived(older, &mut trust, message).map(|kept| kept.len()).unwrap(), 0, "twice");
        kept
    };
    let good = blocks(&market.ledger, 3..size);
    let mut doubled = good.clone();
    doubled.blocks.insert(0, good.blocks[0].clone());
    let mut turned = good.clone();
    turned.blocks.swap(0, 1);
    let mut foreign = good.clone();
    foreign.blocks = blocks(&other.ledger, 3..size).blocks;
    for (what, wrong) in [
        ("too few", blocks(&market.ledger, 3..size - 1)),
        ("from elsewhere", blocks(&market.ledger, 2..size - 1)),
        ("too many", doubled),
        ("another order", turned),
        ("another past", foreign),
        ("another version", Blocks { version: 2, ..good.clone() }),
    ] {
        assert!(arrive(&older, None, &wrong).is_err(), "{what}");
    }
    assert!(arrive(&older, Some([1; 32]), &good).unwrap_err().contains("another root"));
    let kept = arrive(&older, None, &good).unwrap();
    older.restore(&kept).unwrap();
    assert_eq!(older.root(Log::Trade), market.ledger.root(Log::Trade));
    for height in 3..size {
        let at = market.ledger.held(Log::Trade, height).unwrap();
        for (place, entry) in at.entry_refs().iter().zip(at.entries()) {
            let bytes = entry.plain().unwrap();
            let entry = hufu_ledger::Entry::from_bytes(bytes).unwrap();
            let kind = hufu_trade::entry::EntryKind::from_number(entry.kind).unwrap();
            let key = hufu_trade::entry::key_of(hufu_trade::contract_of(kind, &entry.body));
            let found = |ledger: &Ledger| ledger.find(&key).unwrap().contains(place);
            assert_eq!(found(&older), found(&market.ledger), "indexed as before: {kind:?}");
        }
    }
}
