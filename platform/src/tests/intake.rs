//! What intake costs beside what it must do: recorded files of nodes' messages, in batches of at most 64 a commit, against the SM2
//! verifications in them alone on the same cores in the same run: one by one as the standard has them, and with the tables of keys that
//! come again, which are many times as fast and which intake uses too. On PostgreSQL there are as many workers as cores, each with the nodes
//! that it holds, as several `serve` share them; one node's messages alone are taken in beside that. A bench, run by `make intake`; it
//! asserts nothing of speed.
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![allow(clippy::float_arithmetic, reason = "ratios for a person")]

use std::{
    num::NonZeroUsize,
    sync::{Arc, Barrier},
    time::{Duration, Instant},
};

use hufu_gm::{
    Signed,
    claims::{Claim, verify_many},
    known::KnownKeys,
    sm2::PublicKey,
};
use hufu_ledger::{Block, Entry, Log};
use hufu_trade::{
    decode,
    entry::{Deal, EntryKind, SignedStatement},
    if2::{Blocks, Interface, MESSAGE_BYTES_MAX, Topic},
    rating::Before,
    rules,
    usage::Reason,
};

use super::{
    base,
    parties::Folder,
    world::{SECOND, World},
};
use crate::{
    identity::Identity,
    inbox::{BATCH_MAX, Inbox, Received},
    store::{Store, lease},
};

/// Contracts of each recording.
const CONTRACTS: u8 = 100;
/// Nodes among which some are of every worker's part.
const POOLS: [&str; 8] = ["s1/n1", "s1/n2", "s1/n3", "s1/n4", "s1/n5", "s1/n6", "s1/n7", "s1/n8"];
const LEASE_MS: i64 = 60_000;
const HOUR_NS: i64 = 3600 * SECOND;

/// A node's messages as it sent them.
struct Recording {
    pool: &'static str,
    file: Vec<u8>,
    signatures: Vec<Signature>,
    blocks: u64,
}

impl Recording {
    async fn of(pool: &'static str) -> Self {
        let mut world = World::of(pool).await;
        let file = record(&mut world);
        Self::from(pool, file, &world)
    }

    fn from(pool: &'static str, file: Vec<u8>, world: &World) -> Self {
        let signatures = messages(&file).iter().flat_map(|message| signatures(world, message)).collect();
        let blocks = world.ledger.size(Log::Trade) + world.ledger.size(Log::Finance);
        Self { pool, file, signatures, blocks }
    }

    /// Takes all of it in; how long that lasted.
    async fn taken_by(&self, inbox: &mut Inbox, now_ns: i64, at_a_time: usize) -> Duration {
        let topic = Topic::Call { pool: self.pool.to_owned(), interface: Interface::Blocks, answer: false };
        let messages = messages(&self.file);
        let received: Vec<Received<'_>> = messages.iter().map(|message| (&topic, *message)).collect();
        let begun = Instant::now();
        for batch in received.chunks(at_a_time) {
            let taken = inbox.take_many(now_ns, batch).await.expect("the database");
            assert!(taken.iter().all(|taken| taken.outgoing.len() == 1), "a receipt each, no problem");
        }
        begun.elapsed()
    }
}

/// What a node sent, one message after the other: each with its length before it.
fn record(world: &mut World) -> Vec<u8> {
    let mut sent = Sent::default();
    for nonce in 0..CONTRACTS {
        world.nonce = nonce;
        let sold = world.sell();
        let before_link = world.ledger.size(Log::Trade);
        world.bill(&sold, |_| {});
        sent.follow(world, before_link);
    }
    sent.file
}

/// Hours of a day, each with its bill.
const HOURS: u64 = 24;

/// A contract that is served a day and billed by the hour, a window a minute: what a node sends after a day without its platform. What it
/// sent before that day is apart.
async fn day() -> (World, Vec<u8>, Vec<u8>) {
    let every_hour = rules::DEFAULT.replace("billing_period = \"month\"", "billing_period = \"hour\"");
    let mut world = World::under(&every_hour, Vec::new()).await;
    // Service begins with an hour of the calendar.
    let begun = |now: i64| (now + SECOND) % HOUR_NS == 0;
    while !begun(world.now) {
        world.now += SECOND;
    }
    (world.minutes, world.ceiling) = (HOURS * 60, "100000");
    let mut sold = world.deal();
    let (mut before, mut day) = (Sent::default(), Sent::default());
    before.send(&world, (Log::Trade, u64::MAX));
    day.sizes = before.sizes;
    let mut last: Option<Before> = None;
    for hour in 0..HOURS {
        for minute in 0..60 {
            world.window(&mut sold, if (hour, minute) == (0, 0) { Reason::Begin } else { Reason::Continue });
        }
        let before_link = world.ledger.size(Log::Trade);
        let (name, _) = world.billed(&sold, (Some(sold.deal.clone()), last.as_ref()), |_| {});
        let count = last.map_or(0, |last| last.count) + 1;
        last = sold.records.last().map(|(_, record)| Before { hash: name.hash, count, last: record.clone() });
        day.follow(&world, before_link);
    }
    (world, before.file, day.file)
}

/// What a node sent so far: its messages, each with its length before it, and the blocks of each log in them.
#[derive(Default)]
struct Sent {
    file: Vec<u8>,
    sizes: [u64; 2],
}

impl Sent {
    /// As a node sends: the usage, then the bill that rests on it, then what names the bill.
    fn follow(&mut self, world: &World, before_link: u64) {
        for what in [(Log::Trade, before_link), (Log::Finance, u64::MAX), (Log::Trade, u64::MAX)] {
            self.send(world, what);
        }
    }

    /// A log below a height, in messages as large as they may be.
    fn send(&mut self, world: &World, (log, until): (Log, u64)) {
        let Some(sent) = self.sizes.get_mut(usize::from(log.number())) else { return };
        let until = until.min(world.ledger.size(log));
        while *sent < until {
            let mut bytes = 0;
            let blocks: Vec<Vec<u8>> = world
                .ledger
                .blocks(log, *sent)
                .map(|found| found.expect("a block"))
                .take_while(|(height, block)| {
                    bytes += block.len();
                    *height < until && (*height == *sent || bytes < MESSAGE_BYTES_MAX)
                })
                .map(|(_, bytes)| bytes)
                .collect();
            let message = Blocks::pack(log.number(), *sent, blocks).expect("a message");
            *sent += u64::try_from(message.blocks.len()).expect("small");
            let payload = hufu_trade::encode(&message, "Blocks").expect("DER");
            self.file.extend(u32::try_from(payload.len()).expect("small").to_be_bytes());
            self.file.extend(payload);
        }
    }
}

fn messages(file: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut all) = (file, Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).expect("small");
        let (message, next) = after.split_at(length);
        all.push(message);
        rest = next;
    }
    all
}

/// A signature that intake has to verify: key, message, signature.
type Signature = (PublicKey, Vec<u8>, Vec<u8>);

fn sealed(signed: &Signed, key: &PublicKey) -> Signature {
    (key.clone(), signed.tbs().to_vec(), signed.signature().to_vec())
}

/// The signatures of a message: of each block, of each statement and its certificate, of offers and countersignatures.
fn signatures(world: &World, message: &[u8]) -> Vec<Signature> {
    let (node, buyer) = (world.node.key.public_key(), world.buyer.key.public_key());
    let blocks: Blocks = decode(message, "Blocks").expect("a message");
    let mut all = Vec::new();
    for bytes in &blocks.blocks {
        let block = Block::from_bytes(bytes.as_bytes()).expect("a block");
        all.push(sealed(block.signed(), &node));
        for entry in block.entries().iter().map(|bytes| Entry::from_bytes(bytes).expect("an entry")) {
            match EntryKind::from_number(entry.kind) {
                Some(EntryKind::Browse | EntryKind::Order) => {
                    let signed: SignedStatement = decode(&entry.body, "SignedStatement").expect("a statement");
                    let octets = (signed.statement.as_bytes().to_vec(), signed.signature.as_bytes().to_vec());
                    all.push((buyer.clone(), octets.0, octets.1));
                }
                Some(EntryKind::Offer) => all.push(sealed(&Signed::from_bytes(&entry.body).expect("an offer"), &node)),
                Some(EntryKind::Deal) => {
                    let deal: Deal = decode(&entry.body, "Deal").expect("a deal");
                    all.push(sealed(&deal.countersignature, &node));
                }
                _ => {}
            }
        }
    }
    all
}

/// Every signature once, on all cores, without tables; how long that lasts.
fn one_by_one(claims: &[Claim<'_>], cores: NonZeroUsize) -> Duration {
    let each = |claims: &[Claim<'_>]| claims.iter().all(|one| one.key.verify(one.message, one.signature).is_valid());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let parts = claims.chunks(claims.len().div_ceil(cores.get()));
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || each(part))).collect();
        assert!(threads.into_iter().all(|thread| thread.join().expect("a verdict")));
    });
    begun.elapsed()
}

/// The same with tables of the keys that come again.
fn with_tables(claims: &[Claim<'_>], cores: NonZeroUsize) -> Duration {
    let (known, begun) = (KnownKeys::new(8), Instant::now());
    assert!(verify_many(claims, cores, &known).iter().all(|verdict| verdict.is_valid()));
    begun.elapsed()
}

/// Blocks and refused entries in the database.
async fn counts(store: &Store) -> (u64, u64) {
    let mut tx = store.read().await.expect("a transaction");
    let refused: Vec<(String, i64, i64)> =
        sqlx::query_as("SELECT refused, kind, COUNT(*) FROM entries WHERE refused IS NOT NULL GROUP BY refused, kind")
            .fetch_all(&mut *tx)
            .await
            .expect("counts");
    assert!(refused.is_empty(), "code, kind, how many: {refused:?}");
    let counts = "SELECT (SELECT COUNT(*) FROM blocks), (SELECT COUNT(*) FROM entries WHERE refused IS NOT NULL)";
    let (blocks, refused): (i64, i64) = sqlx::query_as(counts).fetch_one(&mut *tx).await.expect("counts");
    (u64::try_from(blocks).expect("small"), u64::try_from(refused).expect("small"))
}

/// As many workers as there are cores, and for each a recording of a node that it holds.
async fn workers(store: &Store, count: usize) -> Vec<(String, Recording)> {
    let names: Vec<String> = (0..count).map(|number| format!("w{number}")).collect();
    let mut held = Vec::new();
    // In the second round each gives up what is not its share, in the third each takes it.
    for _ in 0..3 {
        held.clear();
        for name in &names {
            held.push(lease::renew(store, name, LEASE_MS).await.expect("a lease"));
        }
    }
    let mut all = Vec::new();
    for (name, held) in names.into_iter().zip(held) {
        let pool = POOLS.into_iter().find(|pool| held.contains(&lease::part_of(pool))).expect("one of the nodes");
        all.push((name, Recording::of(pool).await));
    }
    all
}

/// A worker as `serve` is one: a thread with a runtime and connections of its own. It begins with the others.
fn work(
    (name, recording): &(String, Recording),
    (identity, now_ns): (&Arc<Identity>, i64),
    folder: &Folder,
    begin: &Barrier,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = base::again(folder).await;
        let mut inbox = Inbox::new(store, Arc::clone(identity)).of_worker(Some(name.clone()));
        begin.wait();
        recording.taken_by(&mut inbox, now_ns, BATCH_MAX).await;
    });
}

fn say(what: &str, (intake, plain, tables): (Duration, Duration, Duration)) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let ratio = |time: Duration| time.as_secs_f64() / intake.as_secs_f64();
    println!(
        "{what}: intake {:.1} ms; verifying one by one {:.1} ms, ratio {:.3}; with tables of known keys {:.1} ms, ratio {:.3}",
        ms(intake),
        ms(plain),
        ratio(plain),
        ms(tables),
        ratio(tables),
    );
}

/// A node's day, in batches as they come when it sends a few messages at a time.
async fn a_day(cores: NonZeroUsize) {
    let (mut world, before, file) = day().await;
    let inbox = &mut world.inbox;
    Recording { pool: world.pool, file: before, signatures: Vec::new(), blocks: 0 }
        .taken_by(inbox, world.now, BATCH_MAX)
        .await;
    let day = Recording::from(world.pool, file, &world);
    let intake = day.taken_by(&mut world.inbox, world.now, 4).await;
    let claims: Vec<Claim<'_>> =
        day.signatures.iter().map(|(key, message, signature)| Claim { key, message, signature }).collect();
    let (plain, tables) = (one_by_one(&claims, cores), with_tables(&claims, cores));
    assert_eq!(counts(&world.store).await, (day.blocks, 0), "everything is stored");
    say(
        &format!("a day of one node, {} blocks, {} messages", day.blocks, messages(&day.file).len()),
        (intake, plain, tables),
    );
}

#[tokio::test]
async fn intake_beside_its_verifications() {
    // Minutes under the profile of the tests, and figures of no use there: `make intake` asks for it.
    if std::env::var_os("HUFU_INTAKE").is_none() {
        return;
    }
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    // One node, one worker.
    let mut world = World::open().await;
    let one = Recording::of(world.pool).await;
    let claims: Vec<Claim<'_>> =
        one.signatures.iter().map(|(key, message, signature)| Claim { key, message, signature }).collect();
    let plain = one_by_one(&claims, cores);
    let intake = one.taken_by(&mut world.inbox, world.now, BATCH_MAX).await;
    let (plain, tables) = (plain.min(one_by_one(&claims, cores)), with_tables(&claims, cores));
    assert_eq!(counts(&world.store).await, (one.blocks, 0), "everything is stored");
    say(
        &format!("one node, {} blocks, {} signatures, {cores} cores", one.blocks, claims.len()),
        (intake, plain, tables),
    );
    a_day(cores).await;
    if base::server().is_none() {
        return;
    }
    // A worker for each core.
    let folder = Folder::new();
    let store = base::store(&folder).await;
    let all = workers(&store, cores.get()).await;
    let owned: Vec<Signature> = all.iter().flat_map(|(_, recording)| recording.signatures.clone()).collect();
    let blocks: u64 = all.iter().map(|(_, recording)| recording.blocks).sum();
    let claims: Vec<Claim<'_>> =
        owned.iter().map(|(key, message, signature)| Claim { key, message, signature }).collect();
    let plain = one_by_one(&claims, cores);
    let (begin, whose) = (Barrier::new(cores.get() + 1), (&world.identity, world.now));
    let intake = std::thread::scope(|scope| {
        let threads: Vec<_> = all.iter().map(|one| scope.spawn(|| work(one, whose, &folder, &begin))).collect();
        begin.wait();
        let begun = Instant::now();
        threads.into_iter().for_each(|thread| thread.join().expect("it was taken in"));
        begun.elapsed()
    });
    let (plain, tables) = (plain.min(one_by_one(&claims, cores)), with_tables(&claims, cores));
    assert_eq!(counts(&store).await, (blocks, 0), "everything is stored");
    say(
        &format!("{cores} nodes, a worker each, {blocks} blocks, {} signatures", claims.len()),
        (intake, plain, tables),
    );
}
