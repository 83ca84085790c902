//! What is personal of a contract: sealed from the first entry, erased when the contract is over and not before, and a node that
//! erased it starts again as the same node.

use std::{
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

use hufu_ledger::{CheckOptions, Closed, Entry, HeldEntry, Ledger, Log, Options, check, keys_beside};
use hufu_trade::{
    decode,
    entry::{EntryKind, UserOperation, key_of},
    if2::{Answer, Interface, OrderChange, PaymentState, Problem},
    notice::Notice,
    octets::{ContractNo, rfc3339},
    usage::Reason,
};

use super::{
    change,
    market::{Market, POOL, QUALITY, SECOND, START_NS, core, party},
};
use crate::{
    boundary::Boundary,
    clock::Clock,
    heard::Heard,
    metrics::{Metrics, Shared, Show},
    node::Event,
    personal::{self, Operation},
    places::Places,
    provision::{Means, Provisioner, Turns},
    sampler::Command,
    status::Alarms,
    writer::{Input, Writer},
};

pub(super) const MONTH_S: u64 = 30 * 24 * 3600;

fn by(act: &str) -> Operation {
    Operation { operator: "zhang".to_owned(), act: act.to_owned(), why: "he asked for it".to_owned() }
}

/// A contract with a notice, a bill and its payment.
pub(super) fn paid(market: &mut Market, nonce: u8) -> ContractNo {
    let (no, _) = market.deal(nonce, 60);
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    market.elapsed_ns += SECOND;
    let said = ask(market, no, "terminate");
    assert_eq!((said.as_str(), market.state(no)), ("accepted", "leaving"));
    let last = market.draft(no, Reason::End, 100_000_000_000);
    market.event(Event::Final { contract: no, drafts: vec![last], quality: QUALITY });
    assert_eq!(market.state(no), "billed");
    market.receipt(Log::Trade);
    market.receipt(Log::Finance);
    let bill = market.core.book.contracts[&no].bills[0].bill.clone();
    let (amount_cny, paid_at) = (Some(bill.total.to_string()), Some(rfc3339(START_NS)));
    let state = "paid".to_owned();
    let said = PaymentState { bill_no: bill.number, state, amount_cny, paid_at, ..PaymentState::default() };
    market.say(Interface::PaymentConfirm, &Answer::Ok(said));
    assert_eq!(market.state(no), "paid");
    no
}

/// The buyer's notice.
fn notice(market: &Market, no: ContractNo, act: &str) -> OrderChange {
    let why = "the buyer's own words".to_owned();
    change::by_buyer(market, &Notice { why, ..change::notice(market, no, act) })
}

fn ask(market: &mut Market, no: ContractNo, act: &str) -> String {
    let request = notice(market, no, act);
    Market::code(market.say(Interface::OrderChange, &request))
}

fn judge(market: &Market, no: ContractNo) -> Result<usize, Problem> {
    let found = market.ledger.find(&key_of(Some(no))).unwrap();
    personal::erasure(&market.core, market.now().real_ns, &by("erase"), (no, &found)).map(|blocks| blocks.len())
}

/// The market's ledger, for a writer; the market keeps an empty one, in the directory beside it.
pub(super) fn taken(market: &mut Market) -> (Ledger, tempfile::TempDir) {
    let (empty, options) = (tempfile::tempdir().unwrap(), Options::new(POOL));
    Ledger::create(&empty.path().join("ledger"), &options, [1; 16]).unwrap();
    let (other, _) = Ledger::open(&empty.path().join("ledger"), &options).unwrap();
    (std::mem::replace(&mut market.ledger, other), empty)
}

/// A writer over the market's ledger with a core that knows nothing yet, and what goes in and out.
pub(super) fn writer(market: &Market, ledger: Ledger) -> (Writer, SyncSender<Input>, Receiver<Command>) {
    let root = party(None, "root", 1);
    let core = core(&market.platform, &party(Some(&root), "node", 3), &root);
    let (link, _) = tokio::sync::mpsc::channel(1);
    let ((sampler, obeyed), (inputs, inbox)) = (sync_channel(9), sync_channel(9));
    let dir = market.dir.path().to_owned();
    let provisioner = Provisioner {
        root: dir.clone(),
        parent: String::new(),
        means: Means::Command(Vec::new()),
        boundary: Boundary::Cgroup,
        timeout_s: 1,
        pool: String::new(),
        address: None,
        writer: inputs.clone(),
        turns: Turns::default(),
    };
    let meter_state = hufu_ledger::StateFile::open(&dir.join("meter.state"), 10).unwrap();
    let core_state = hufu_ledger::StateFile::open(&dir.join("core.state"), 1 << 16).unwrap();
    let alarms = Alarms::default();
    let writer = Writer {
        metrics: Metrics::new("s1/n1", &Shared::default(), Show::Site),
        core,
        ledger,
        storage: std::sync::Arc::new(hufu_ledger::storage::Directory::new(&dir)),
        meter_state,
        core_state,
        state_at: 0,
        state_blocks: 1,
        link,
        sampler,
        inputs: inbox,
        places: Places::Site(provisioner),
        alarms,
        clock: Clock::SYSTEM,
        dir,
        compare_ns: 0,
        first: crate::setup::First { rules: String::new(), node: Vec::new(), platform: Vec::new() },
        hardware: None,
        set_aside: Vec::new(),
        comparing: None,
        unsigned: crate::unsigned::Unsigned::default(),
        signer_pause_ns: 0,
        keys: crate::rotation::Keys::default(),
        directory: None,
        peers: None,
        heard: Heard::default(),
        peers_shown: None,
    };
    (writer, inputs, obeyed)
}

fn says(dir: &Path, words: &str) -> bool {
    let files = std::fs::read_dir(dir).unwrap().map(|item| std::fs::read(item.unwrap().path()).unwrap());
    files.into_iter().any(|bytes| bytes.windows(words.len()).any(|part| part == words.as_bytes()))
}

/// Kinds of a contract's entries that can be read, and how many cannot.
fn readable(ledger: &Ledger, no: ContractNo) -> (Vec<EntryKind>, usize) {
    let (mut kinds, mut erased) = (Vec::new(), 0);
    for at in ledger.find(&key_of(Some(no))).unwrap() {
        match &ledger.held(at.log, at.height).unwrap().entries()[usize::try_from(at.index).unwrap()] {
            HeldEntry::Plain(bytes) => {
                kinds.push(EntryKind::from_number(Entry::from_bytes(bytes).unwrap().kind).unwrap());
            }
            HeldEntry::Sealed { closed, .. } => {
                assert_eq!(*closed, Closed::Erased);
                erased += 1;
            }
        }
    }
    (kinds, erased)
}

#[test]
fn who_the_buyer_is_and_what_was_paid_stands_nowhere_in_plain() {
    let mut market = Market::open();
    market.event(Event::Linked);
    paid(&mut market, 1);
    let dir = market.dir.path();
    assert!(!says(dir, "the buyer's own words") && !says(dir, "payment_confirm") && !says(dir, "payment-confirm"));
    let subject = market.buyer.certificate.der();
    let files = std::fs::read_dir(dir).unwrap().map(|item| std::fs::read(item.unwrap().path()).unwrap());
    assert!(!files.into_iter().any(|bytes| bytes.windows(subject.len()).any(|part| part == subject)));
    let report = check(dir, &CheckOptions::default()).unwrap();
    assert_eq!((report.problems, report.sealed, report.erased), (vec![], 3, 0));
    assert!(keys_beside(dir).unwrap().is_dir());
}

#[test]
fn only_what_is_over_and_acknowledged_is_erased() {
    let mut market = Market::open();
    market.event(Event::Linked);
    let no = paid(&mut market, 1);
    let code = |market: &Market| judge(market, no).unwrap_err().code;
    assert_eq!(code(&market), "state", "it may be disputed for 30 days");
    market.pass(MONTH_S * SECOND + SECOND);
    assert_eq!(market.state(no), "closed");
    assert_eq!(code(&market), "state", "the platform must still get the payment");
    market.receipt(Log::Trade);
    assert_eq!(code(&market), "state");
    market.receipt(Log::Finance);
    assert_eq!(judge(&market, no), Ok(1));
    let unknown = hufu_trade::octets::Octets([7; 16]);
    assert_eq!(judge(&market, unknown).unwrap_err().code, "unknown");
    let reading = |act: &str| personal::reading(&market.core, 0, &by(act), &[no; 65]).map(|blocks| blocks.len());
    assert_eq!((reading("read"), reading("export")), (Ok(2), Ok(2)));
    assert_eq!(reading("erase").unwrap_err().code, "malformed");
}

#[test]
fn an_erased_contract_is_closed_for_good_and_the_node_starts_again_as_it_was() {
    let mut market = Market::open();
    market.event(Event::Linked);
    let (gone, kept) = (paid(&mut market, 1), paid(&mut market, 2));
    market.pass(MONTH_S * SECOND + SECOND);
    market.receipt(Log::Trade);
    market.receipt(Log::Finance);
    let request = notice(&market, gone, "suspend");
    let before = market.core.book.contracts[&gone].clone();
    let stamp = market.ledger.stamp();
    let options = Options::new(POOL);
    let place = market.dir.path().to_owned();

    // The running agent: what it is asked goes through its own inbox.
    let (ledger, _empty) = taken(&mut market);
    let (mut running, inputs, _obeyed) = writer(&market, ledger);
    running.replay().unwrap();
    assert_eq!(running.core.book.contracts[&gone].state, "closed");
    let mut answers = Vec::new();
    for contract in [gone, gone, hufu_trade::octets::Octets([7; 16])] {
        let (answer, said) = tokio::sync::oneshot::channel();
        inputs.send(Input::Erase { operation: by("erase"), contract, answer }).unwrap();
        answers.push(said);
    }
    let (answer, read) = tokio::sync::oneshot::channel();
    inputs.send(Input::Reading { operation: by("read"), contracts: vec![kept, kept], answer }).unwrap();
    inputs.send(Input::Stop).unwrap();
    running.run().unwrap();
    let said: Vec<serde_json::Value> =
        answers.into_iter().map(|said| serde_json::from_str(&said.blocking_recv().unwrap()).unwrap()).collect();
    assert_eq!((&said[0]["ok"]["erased"], &said[1]), (&true.into(), &said[0]));
    assert_eq!(said[2]["error"]["code"], "unknown");
    assert_eq!(read.blocking_recv().unwrap(), r#"{"ok":2}"#);

    // Erased once, said once; everything else is there, and nothing before it has changed.
    let (ledger, _) = Ledger::open(&place, &options).unwrap();
    assert!(ledger.holds(&stamp).unwrap() && ledger.is_erased(&key_of(Some(gone))).unwrap());
    let (kinds, erased) = readable(&ledger, gone);
    assert_eq!((kinds.iter().filter(|kind| **kind == EntryKind::UserOperation).count(), erased), (1, 3));
    let (kinds, erased) = readable(&ledger, kept);
    assert_eq!((kinds.iter().filter(|kind| **kind == EntryKind::UserOperation).count(), erased), (2, 0));
    let last = ledger.find(&key_of(Some(gone))).unwrap().into_iter().rfind(|at| at.log == Log::Trade).unwrap();
    let entry = Entry::from_bytes(&ledger.entry(last.log, last.height, last.index).unwrap()).unwrap();
    let done: UserOperation = decode(&entry.body, "UserOperation").unwrap();
    assert_eq!((done.act.as_str(), done.operator.as_str(), done.state.as_str()), ("erase", "zhang", "closed"));
    let report = check(&place, &CheckOptions::default()).unwrap();
    assert_eq!((report.problems, report.sealed, report.erased), (vec![], 6, 3));

    // The next start: the same node, but for what was personal.
    let (mut again, ..) = writer(&market, ledger);
    again.replay().unwrap();
    let after = &again.core.book.contracts[&gone];
    assert!(after.erased && after.buyer_key.is_none() && after.notices.is_empty());
    assert_eq!((&after.state, after.buyer, &after.browse), (&before.state, before.buyer, &before.browse));
    assert_eq!(after.deal.as_ref().map(|(at, _)| at), before.deal.as_ref().map(|(at, _)| at));
    let bills = |contract: &crate::contract::Contract| {
        let bills = contract.bills.iter().map(|b| (b.bill.number.clone(), b.paid, b.linked, b.refunded));
        bills.collect::<Vec<_>>()
    };
    assert_eq!(bills(after), bills(&before));
    let kept_now = &again.core.book.contracts[&kept];
    assert!(!kept_now.erased && kept_now.buyer_key.is_some());
    assert_eq!(again.core.book.revision, market.core.book.revision);

    // It answers nobody any more, and nobody is asked about it.
    (market.core, market.ledger) = (again.core, again.ledger);
    market.event(Event::Linked);
    assert_eq!(Market::code(market.say(Interface::OrderChange, &request)), "erased");
    market.published.clear();
    market.pass(100 * SECOND);
    let asked = |(topic, _): &(hufu_trade::if2::Topic, Vec<u8>)| {
        matches!(topic, hufu_trade::if2::Topic::Call { interface: Interface::PaymentConfirm, .. })
    };
    assert!(!market.published.iter().any(asked));
    market.deal(9, 20);
}

#[test]
fn an_erasure_that_a_crash_interrupted_is_done_at_the_next_start() {
    let mut market = Market::open();
    market.event(Event::Linked);
    let no = paid(&mut market, 1);
    market.pass(MONTH_S * SECOND + SECOND);
    market.receipt(Log::Trade);
    market.receipt(Log::Finance);
    let found = market.ledger.find(&key_of(Some(no))).unwrap();
    let now_ns = market.now().real_ns;
    let blocks = personal::erasure(&market.core, now_ns, &by("erase"), (no, &found)).unwrap();
    market.execute(vec![crate::node::Effect::Append(blocks)]);
    assert!(market.core.book.contracts[&no].erased && !market.ledger.is_erased(&key_of(Some(no))).unwrap());
    let (ledger, _empty) = taken(&mut market);
    let (mut again, ..) = writer(&market, ledger);
    again.replay().unwrap();
    assert!(again.ledger.is_erased(&key_of(Some(no))).unwrap());
    assert_eq!(again.core.book.contracts[&no].state, "closed");
}
