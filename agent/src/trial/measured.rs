//! What following costs, as ratios and counts in one run: a hundred peers, a late comer's hundred thousand headers, octets on the wire,
//! reads for one checkpoint. A bench, run by `make peers`; without HUFU_PEERS it does nothing.
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![allow(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "ratios for a person")]
#![allow(clippy::print_stdout, reason = "its results")]

use std::sync::Arc;

use hufu_gm::{PublicKey, Signed};
use hufu_ledger::{
    BlockHeader, Checkpoint, Cosignature, Log, TimeQuality, TimeState, WitnessedCheckpoint,
    block::{NO_PARENT, VERSION},
    merkle::{self, Frontier},
    storage::Directory,
};
use hufu_trade::if2::{
    Said, Told, Topic,
    peers::{HEADERS_MAX, Headers, chain_to_bytes},
};

use super::{
    market::{Party, SECOND, START_NS, party},
    site::me,
};
use crate::{
    clock::Now,
    peers::{Effect, Event, Peers, Storages, Terms},
};

const PEERS: usize = 100;
const MINUTES: u64 = 60;
const CATCH_UP: u64 = 100_000;

/// A node that is followed: its log, as it signs it.
struct Followed {
    pool: String,
    party: Party,
    head: [u8; 32],
    frontier: Frontier,
}

impl Followed {
    fn new(number: usize, root: &Party) -> Self {
        let pool = format!("s1/n{number:03}");
        let mut party = party(Some(root), &pool, 2);
        // A key of its own each: one key's table would make all of them cheap.
        let mut scalar = [3; 32];
        scalar[..8].copy_from_slice(&u64::try_from(number + 1).unwrap().to_be_bytes());
        party.key = hufu_gm::SecretKey::from_scalar(&scalar).unwrap();
        party.certificate = certificate(root, &pool, &party.key);
        Self { pool, party, head: NO_PARENT, frontier: Frontier::default() }
    }

    fn header(&mut self) -> Signed {
        let height = self.frontier.size();
        let header = BlockHeader {
            version: VERSION,
            log: Log::Trade,
            node: self.pool.clone(),
            epoch: 0,
            height,
            previous: self.head,
            time: START_NS + i64::try_from(height).unwrap(),
            quality: TimeQuality { state: TimeState::Relative, max_error_ns: None },
            root: [7; 32],
            count: 1,
        };
        let signed = Signed::seal(header.to_bytes().unwrap(), &self.party.certificate.id(), &self.party.key).unwrap();
        self.head = hufu_ledger::block_hash(signed.tbs());
        self.frontier.push(merkle::leaf(&self.head));
        signed
    }

    fn checkpoint(&self, time: i64, witnesses: &[Party]) -> Vec<u8> {
        let (size, root) = (self.frontier.size(), self.frontier.root());
        let one = Checkpoint { version: VERSION, log: Log::Trade, node: self.pool.clone(), epoch: 0, size, root, time };
        let signed = Signed::seal(one.to_bytes().unwrap(), &self.party.certificate.id(), &self.party.key).unwrap();
        let cosignatures = witnesses
            .iter()
            .map(|witness| Cosignature::make(signed.tbs(), (&witness.certificate.id(), &witness.key), time).unwrap());
        WitnessedCheckpoint { cosignatures: cosignatures.collect(), checkpoint: signed.clone() }.to_bytes().unwrap()
    }

    fn topic(&self, told: Told) -> Topic {
        Topic::Ledger { pool: self.pool.clone(), told }
    }
}

fn certificate(root: &Party, pool: &str, key: &hufu_gm::SecretKey) -> hufu_gm::Certificate {
    use hufu_gm::ca::{Role, Terms, issue};
    let (from, to) = (START_NS / 1_000_000_000 - 1000, START_NS / 1_000_000_000 + 86_400 * 300);
    let terms = Terms { serial: &[9; 8], not_before_s: from, not_after_s: to, dns_names: &[] };
    issue(&root.certificate, &root.key, Role::Signer, &format!("CN={pool}"), &key.public_key(), &terms).unwrap()
}

fn now(ns: u64) -> Now {
    Now { real_ns: START_NS + i64::try_from(ns).unwrap(), boot_ns: ns, mono_ns: ns }
}

/// CPU time of this thread, ns.
fn cpu_ns() -> u128 {
    let found = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u128::try_from(found.tv_sec).unwrap() * 1_000_000_000 + u128::try_from(found.tv_nsec).unwrap()
}

/// Resident octets of this process.
fn resident() -> i64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<i64>().unwrap() * 4096
}

fn open(follow: Vec<String>, root: &Party, dir: &std::path::Path) -> Peers {
    let own = party(Some(root), "s1/own", 5);
    let dir = dir.to_owned();
    std::fs::create_dir_all(&dir).unwrap();
    let storages: Storages = Arc::new(move |name: &str| Arc::new(Directory::new(&dir.join(name))));
    let terms = Terms { follow, checkpoint_ns: 60 * SECOND, headers: 4096, confirm: 2, hear_ns: 5 * SECOND };
    Peers::open(me("s1/own", &own, root), terms, &storages).unwrap()
}

#[test]
fn following_beside_its_bars() {
    if std::env::var_os("HUFU_PEERS").is_none() {
        return;
    }
    let root = party(None, "root", 1);
    let home = tempfile::tempdir().unwrap();
    hundred(&root, &home.path().join("a"));
    catch_up(&root, &home.path().join("b"));
}

/// A hundred peers, a block and a checkpoint a minute each.
fn hundred(root: &Party, dir: &std::path::Path) {
    let mut nodes: Vec<Followed> = (0..PEERS).map(|number| Followed::new(number, root)).collect();
    let witnesses: Vec<Party> = (20..36).map(|scalar| party(Some(root), &format!("s1/w{scalar}"), scalar)).collect();
    let mut script = Vec::new();
    let (mut header_bytes, mut message_bytes, mut proof_bytes) = (0_usize, 0_usize, 0_usize);
    for minute in 0..MINUTES {
        for node in &mut nodes {
            let header = node.header();
            header_bytes += header.to_bytes().unwrap().len();
            let message = Headers::new(&node.pool, 0, minute, vec![header]).to_bytes().unwrap();
            message_bytes += message.len();
            script.push((minute, node.topic(Told::Headers), message));
            // As it is told first, before anybody cosigned: what is amortised over the blocks below it.
            let bare = node.checkpoint(now(minute * 60 * SECOND).real_ns, &[]);
            proof_bytes += bare.len();
            script.push((minute, node.topic(Told::Checkpoint(0)), bare));
        }
    }
    let widest = nodes[0].checkpoint(START_NS, &witnesses).len();
    let certificates: Vec<(Topic, Vec<u8>)> = nodes
        .iter()
        .map(|node| (node.topic(Told::Certificates), chain_to_bytes(&[node.party.certificate.der().to_vec()]).unwrap()))
        .collect();
    let before = resident();
    let mut peers = open(nodes.iter().map(|node| node.pool.clone()).collect(), root, dir);
    peers.handle(now(SECOND), Event::Linked).unwrap();
    for (place, (topic, payload)) in certificates.into_iter().enumerate() {
        let at = SECOND * u64::try_from(place + 2).unwrap();
        peers.handle(now(at), Event::Message { topic, payload }).unwrap();
    }
    let (begun, mut cosigned) = (cpu_ns(), 0);
    let mut script = script.into_iter().peekable();
    for half in 0..MINUTES * 120 {
        let at = now(200 * SECOND + half * SECOND / 2);
        peers.handle(at, Event::Tick).unwrap();
        // Within its minute each comes at a time of its own.
        while script.next_if(|(minute, ..)| *minute * 120 + 60 <= half).is_some_and(|(_, topic, payload)| {
            let effects = peers.handle(at, Event::Message { topic, payload }).unwrap();
            let word = |effect: &&Effect| {
                matches!(effect, Effect::Publish { topic: Topic::Ledger { told: Told::Cosignature, .. }, .. })
            };
            cosigned += effects.iter().filter(word).count();
            true
        }) {}
    }
    let cpu = cpu_ns() - begun;
    let grown = resident() - before;
    let share = cpu as f64 / (MINUTES as f64 * 60e9);
    println!(
        "100 peers, {MINUTES} minutes: {:.3} % of a core (bar 1), {:.2} MiB resident (bar 8), {cosigned} checkpoints cosigned",
        share * 100.0,
        grown as f64 / 1_048_576.0,
    );
    let ratio = (message_bytes + proof_bytes) as f64 / (header_bytes + proof_bytes) as f64;
    println!(
        "on the wire a block: {ratio:.3} of header and checkpoint (bar 1.2); 16 cosignatures: {widest} octets (bar 2048)"
    );
}

/// A late comer takes a hundred thousand headers, in answers as long as they may be.
fn catch_up(root: &Party, dir: &std::path::Path) {
    let mut node = Followed::new(0, root);
    let headers: Vec<Signed> = (0..CATCH_UP).map(|_| node.header()).collect();
    let key: PublicKey = node.party.key.public_key();
    let begun = cpu_ns();
    let good = headers.iter().filter(|header| header.verify(&key).is_valid()).count();
    let alone = cpu_ns() - begun;
    assert_eq!(good, headers.len());
    let answers: Vec<Vec<u8>> = headers
        .chunks(HEADERS_MAX)
        .zip(0_u64..)
        .map(|(some, place)| Headers::new(&node.pool, 0, place * HEADERS_MAX as u64, some.to_vec()).to_bytes().unwrap())
        .collect();
    assert!(answers.iter().all(|answer| answer.len() <= 65_536));
    // Enough is held for it to ask for what follows, in place of a beginning.
    let mut peers = open(vec![node.pool.clone()], root, dir);
    peers.handle(now(SECOND), Event::Linked).unwrap();
    let chain = chain_to_bytes(&[node.party.certificate.der().to_vec()]).unwrap();
    peers.handle(now(SECOND), Event::Message { topic: node.topic(Told::Certificates), payload: chain }).unwrap();
    let first = Headers::new(&node.pool, 0, 0, headers[..1].to_vec()).to_bytes().unwrap();
    peers.handle(now(SECOND), Event::Message { topic: node.topic(Told::Headers), payload: first }).unwrap();
    let begun = cpu_ns();
    let whole = node.checkpoint(START_NS, &[]);
    let mut effects = peers
        .handle(now(2 * SECOND), Event::Message { topic: node.topic(Told::Checkpoint(0)), payload: whole })
        .unwrap();
    let (mut ns, mut questions, mut is_cosigned) = (2 * SECOND, 0_u64, false);
    while let Some((from, until)) = asked(&effects) {
        questions += 1;
        // Another second for each: who is followed may send so many messages.
        ns += SECOND / 32;
        let some = headers[usize::try_from(from).unwrap()..usize::try_from(until).unwrap()].to_vec();
        let payload = Headers::new(&node.pool, 0, from, some).to_bytes().unwrap();
        let topic = Topic::LedgerTo { pool: node.pool.clone(), to: "s1/own".to_owned(), said: Said::Answer };
        effects = peers.handle(now(ns), Event::Message { topic, payload }).unwrap();
        is_cosigned |= effects.iter().any(|effect| {
            matches!(effect, Effect::Publish { topic: Topic::Ledger { told: Told::Cosignature, .. }, .. })
        });
    }
    let followed = cpu_ns() - begun;
    assert!(is_cosigned, "it came as far as the checkpoint");
    checkpoints((&mut peers, &mut node), (ns, &headers), &key);
    println!(
        "catch-up of {CATCH_UP} headers in {questions} answers: {:.3} of SM2 verification alone (bar 0.8)",
        alone as f64 / followed as f64,
    );
}

/// What one more block with its checkpoint costs who holds so many: the signatures of both are checked, and one is made.
fn checkpoints((peers, node): (&mut Peers, &mut Followed), (mut ns, headers): (u64, &[Signed]), key: &PublicKey) {
    const COUNT: usize = 200;
    let some = &headers[..COUNT];
    let begun = cpu_ns();
    assert!(some.iter().all(|header| header.verify(key).is_valid()));
    let checks = cpu_ns() - begun;
    let own = party(None, "s1/own", 5);
    let begun = cpu_ns();
    for header in some {
        Cosignature::make(header.tbs(), (&own.certificate.id(), &own.key), START_NS).unwrap();
    }
    let made = cpu_ns() - begun;
    let (mut cpu, mut cosigned) = (0, 0);
    for _ in 0..COUNT {
        // A minute each: none is one too many, and nobody is told twice.
        ns += 60 * SECOND;
        let height = node.frontier.size();
        let signed = node.header();
        let header = Headers::new(&node.pool, 0, height, vec![signed]).to_bytes().unwrap();
        let checkpoint = node.checkpoint(now(ns).real_ns, &[]);
        let begun = cpu_ns();
        for (told, payload) in [(Told::Headers, header), (Told::Checkpoint(0), checkpoint)] {
            let effects = peers.handle(now(ns), Event::Message { topic: node.topic(told), payload }).unwrap();
            let word = |effect: &&Effect| {
                matches!(effect, Effect::Publish { topic: Topic::Ledger { told: Told::Cosignature, .. }, .. })
            };
            cosigned += effects.iter().filter(word).count();
        }
        cpu += cpu_ns() - begun;
    }
    assert_eq!(cosigned, COUNT);
    println!(
        "a block and its checkpoint above {CATCH_UP}: {:.3} of two checks and one signature by SM2 alone",
        cpu as f64 / (2 * checks + made) as f64
    );
}

/// What a question asks for.
fn asked(effects: &[Effect]) -> Option<(u64, u64)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Publish { topic: Topic::LedgerTo { said: Said::Ask, .. }, payload, .. } => {
            let ask = hufu_trade::if2::peers::Ask::from_bytes(payload).ok()?;
            (ask.node != "s1/own").then_some((ask.from, ask.until))
        }
        _ => None,
    })
}
