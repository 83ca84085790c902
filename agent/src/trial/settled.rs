//! What of a ledger may be archived, contract by contract, and that a node whose past is archived is the same node.

use hufu_ledger::{Log, PerLog};
use hufu_trade::{
    if2::{Answer, Interface, PaymentState},
    octets::{ContractNo, rfc3339},
    usage::Reason,
};

use super::market::{Market, QUALITY, SECOND, core, party, replay};
use crate::{
    boundary::Boundary,
    clock::{self, Clock},
    heard::Heard,
    metrics::{Metrics, Shared, Show},
    node::Event,
    places::Places,
    provision::{Means, Provisioner, Turns},
    status::Alarms,
    writer::Writer,
};

/// A contract from browse to its bill.
fn billed(market: &mut Market, nonce: u8) -> ContractNo {
    let (no, _) = market.deal(nonce, 20);
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    market.pass(20 * SECOND);
    let last = market.draft(no, Reason::End, 100_000_000_000);
    market.event(Event::Final { contract: no, drafts: vec![last], quality: QUALITY });
    assert_eq!(market.state(no), "billed");
    no
}

fn pay(market: &mut Market, no: ContractNo) {
    let bill = market.core.book.contracts[&no].bills[0].bill.clone();
    let (amount_cny, paid_at) = (Some(bill.total.to_string()), Some(rfc3339(market.now().real_ns)));
    let paid =
        PaymentState { bill_no: bill.number, state: "paid".to_owned(), amount_cny, paid_at, ..PaymentState::default() };
    market.say(Interface::PaymentConfirm, &Answer::Ok(paid));
    assert_eq!(market.state(no), "paid");
}

/// The time to dispute what was paid runs out.
fn close(market: &mut Market, paid: &[ContractNo]) {
    market.pass(30 * 86_400 * SECOND);
    assert!(paid.iter().all(|no| market.state(*no) == "closed"));
}

fn receipts(market: &mut Market) -> PerLog<u64> {
    market.receipt(Log::Trade);
    market.receipt(Log::Finance);
    let size = |index: usize| market.core.book.receipted[index].as_ref().unwrap().size;
    PerLog { trade: size(0), finance: size(1) }
}

#[test]
fn only_what_is_receipted_and_lies_before_every_open_contract_is_settled() {
    let mut market = Market::open();
    market.event(Event::Linked);
    assert_eq!(market.core.book.settled_below(), PerLog::default(), "no receipt");
    let first = billed(&mut market, 1);
    let browse = market.core.book.contracts[&first].browse.height;
    receipts(&mut market);
    assert_eq!(market.core.book.settled_below(), PerLog { trade: browse, finance: 0 }, "a bill that is not paid");
    pay(&mut market, first);
    receipts(&mut market);
    assert_eq!(market.core.book.settled_below().trade, browse, "what was paid may be disputed");
    close(&mut market, &[first]);
    let (offer, _) = market.browse(2);
    let whole = receipts(&mut market);
    let open = market.core.book.contracts[&offer.contract_no].browse.height;
    assert_eq!(market.core.book.settled_below(), PerLog { trade: open, ..whole }, "an offer that may be taken");
    market.pass(3601 * SECOND);
    let whole = receipts(&mut market);
    assert_eq!(
        market.core.book.settled_below(),
        whole,
        "a lapsed offer is settled, and so is what nobody may dispute any more"
    );
    billed(&mut market, 3);
    let refused = market.core.book.settled_below();
    assert_eq!(refused.finance, whole.finance, "no more than was receipted");
}

#[test]
fn a_node_whose_past_is_archived_replays_to_the_same_and_still_answers() {
    let mut market = Market::open();
    market.event(Event::Linked);
    let paid: Vec<ContractNo> = (1..4)
        .map(|nonce| {
            let no = billed(&mut market, nonce);
            receipts(&mut market);
            pay(&mut market, no);
            no
        })
        .collect();
    close(&mut market, &paid);
    let open = billed(&mut market, 9);
    receipts(&mut market);
    let keys = || paid.iter().map(|no| hufu_trade::entry::key_of(Some(*no)));
    let found: Vec<_> = keys().map(|key| market.ledger.find(&key).unwrap()).collect();
    let below = market.core.book.settled_below();
    let mut archived = 0;
    while let Some(done) = market.ledger.archive(below).unwrap() {
        archived += usize::from(done.packed.is_some());
    }
    assert!(archived >= 2, "{archived} archives");
    let root = party(None, "root", 1);
    let mut again = core(&market.platform, &party(Some(&root), "node", 3), &root);
    replay(&mut again, &market.ledger);
    assert_eq!((again.sizes, again.book.settled_below()), (market.core.sizes, market.core.book.settled_below()));
    assert_eq!(keys().map(|key| market.ledger.find(&key).unwrap()).collect::<Vec<_>>(), found);
    assert!(paid.iter().all(|no| again.book.contracts[no].state == "closed"));
    assert_eq!(again.book.contracts[&open].state, "billed");
    pay(&mut market, open);
    assert_eq!(hufu_ledger::check(market.dir.path(), &hufu_ledger::CheckOptions::default()).unwrap().problems, []);
}

#[test]
fn a_state_brings_back_what_it_was_written_of_and_a_damaged_one_is_refused() {
    let mut market = Market::open();
    market.event(Event::Linked);
    for nonce in 1..4 {
        let no = billed(&mut market, nonce);
        receipts(&mut market);
        if nonce < 3 {
            pay(&mut market, no);
        }
    }
    let bytes = crate::core_state::write(&market.core.book).unwrap();
    let book = crate::core_state::read(&bytes, &market.ledger).unwrap();
    assert_eq!(crate::core_state::write(&book).unwrap(), bytes);
    let (live, again) = (&market.core.book.contracts, &book.contracts);
    assert_eq!(live.len(), 3);
    for (live, again) in live.values().zip(again.values()) {
        assert_eq!(
            format!("{:?}", (&live.offer, &live.deal, &live.last)),
            format!("{:?}", (&again.offer, &again.deal, &again.last))
        );
        assert_eq!((&live.buyer_key, live.bills.len()), (&again.buyer_key, again.bills.len()));
        assert!(live.buyer_key.is_some() && !live.bills.is_empty());
    }
    for cut in 0..bytes.len() {
        assert!(crate::core_state::read(&bytes[..cut], &market.ledger).is_err(), "cut at {cut}");
    }
    for at in (0..bytes.len()).step_by(7) {
        let mut other = bytes.clone();
        other[at] ^= 0x55;
        // The file's checksum refuses these; here they must only do no harm.
        crate::core_state::read(&other, &market.ledger).ok();
    }
}

#[test]
fn the_writer_archives_one_segment_at_a_time_and_goes_on_past_a_damaged_one() {
    let mut market = Market::open();
    market.event(Event::Linked);
    for nonce in 1..5 {
        let no = billed(&mut market, nonce);
        receipts(&mut market);
        pay(&mut market, no);
    }
    market.pass(30 * 86_400 * SECOND);
    receipts(&mut market);
    market.event(Event::Unlinked);
    let Market { core, ledger, dir, .. } = market;
    let (link, _sent) = tokio::sync::mpsc::channel(1);
    let (sampler, _obeyed) = std::sync::mpsc::sync_channel(1);
    let (writer, inputs) = std::sync::mpsc::sync_channel(1);
    let (root, parent, means, timeout_s) = (dir.path().to_owned(), String::new(), Means::Command(Vec::new()), 1);
    let (pool, address, turns) = (String::new(), None, Turns::default());
    let boundary = Boundary::Cgroup;
    let provisioner = Provisioner { root, parent, means, boundary, timeout_s, pool, address, writer, turns };
    let meter_state = hufu_ledger::StateFile::open(&dir.path().join("meter.state"), 10).unwrap();
    let core_state = hufu_ledger::StateFile::open(&dir.path().join("core.state"), 1 << 16).unwrap();
    let (alarms, place) = (Alarms::default(), dir.path().to_owned());
    let mut writer = Writer {
        metrics: Metrics::new("s1/n1", &Shared::default(), Show::Site),
        core,
        ledger,
        storage: std::sync::Arc::new(hufu_ledger::storage::Directory::new(dir.path())),
        meter_state,
        core_state,
        state_at: 0,
        state_blocks: 1,
        link,
        sampler,
        inputs,
        places: Places::Site(provisioner),
        alarms,
        clock: Clock::SYSTEM,
        dir: place,
        compare_ns: 0,
        first: crate::setup::First { rules: String::new(), node: Vec::new(), platform: Vec::new() },
        set_aside: Vec::new(),
        comparing: None,
        unsigned: crate::unsigned::Unsigned::default(),
        signer_pause_ns: 0,
        keys: crate::rotation::Keys::default(),
        directory: None,
        peers: None,
        heard: Heard::default(),
        peers_shown: None,
        hardware: None,
    };
    let is_there = |name: &str| dir.path().join(name).exists();

    let mut again_ns = 0;
    let before = clock::now();
    let now = writer.archive(before, &mut again_ns);
    assert!(again_ns > now.mono_ns && now.mono_ns >= before.mono_ns);
    assert!(is_there("arc-00000000") && !is_there("seg-00000000") && is_there("seg-00000001"));
    writer.archive(clock::now(), &mut again_ns);
    assert!(is_there("seg-00000001"), "not before its time");

    let second = dir.path().join("seg-00000001");
    let mut bytes = std::fs::read(&second).unwrap();
    bytes[500] ^= 1;
    std::fs::write(&second, bytes).unwrap();
    for _ in 0..2 {
        again_ns = 0;
        writer.archive(clock::now(), &mut again_ns);
    }
    assert!(is_there("seg-00000001") && !is_there("arc-00000001") && is_there("arc-00000002"));
    let status = writer.status();
    assert!(status.contains("segment not archived"), "{status}");
}
