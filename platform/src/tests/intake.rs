//! What intake costs beside what it must do: a recorded file of a node's messages, in batches of at most 64 a commit, against the SM2
//! verifications in it alone on the same cores in the same run: one by one as the standard has them, and with the tables of keys that
//! come again, which are ten times as fast and which intake uses too. A bench, run by `make intake`; it asserts nothing of speed.
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![allow(clippy::float_arithmetic, reason = "ratios for a person")]

use std::{num::NonZeroUsize, time::Instant};

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
    if2::{Blocks, Interface, Topic},
};

use super::world::{POOL, World};
use crate::inbox::{BATCH_MAX, Received};

/// Contracts of the recording.
const CONTRACTS: u8 = 100;

/// What a node sent, one message after the other: each with its length before it.
async fn record(world: &mut World) -> Vec<u8> {
    let mut file = Vec::new();
    let mut sent = [0, 0];
    for nonce in 0..CONTRACTS {
        world.nonce = nonce;
        let sold = world.sell();
        let before_link = world.ledger.size(Log::Trade);
        world.bill(&sold, |_| {});
        // As a node sends: the usage, then the bill that rests on it, then what names the bill.
        for (log, until) in [(Log::Trade, before_link), (Log::Finance, u64::MAX), (Log::Trade, u64::MAX)] {
            let first = sent[usize::from(log.number())];
            let until = until.min(world.ledger.size(log));
            let blocks: Vec<Vec<u8>> = world
                .ledger
                .blocks(log, first)
                .map(|found| found.expect("a block"))
                .take_while(|(height, _)| *height < until)
                .map(|(_, bytes)| bytes)
                .collect();
            let message = Blocks::pack(log.number(), first, blocks).expect("a message");
            sent[usize::from(log.number())] += u64::try_from(message.blocks.len()).expect("small");
            let payload = hufu_trade::encode(&message, "Blocks").expect("DER");
            file.extend(u32::try_from(payload.len()).expect("small").to_be_bytes());
            file.extend(payload);
        }
    }
    file
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

#[tokio::test]
async fn intake_beside_its_verifications() {
    // Minutes under the profile of the tests, and figures of no use there: `make intake` asks for it.
    if std::env::var_os("HUFU_INTAKE").is_none() {
        return;
    }
    let mut world = World::open().await;
    let file = record(&mut world).await;
    let path = world.folder.path().join("recorded");
    std::fs::write(&path, &file).expect("a file");
    let file = std::fs::read(&path).expect("a file");
    let messages = messages(&file);
    let topic = Topic::Call { pool: POOL.to_owned(), interface: Interface::Blocks, answer: false };
    let received: Vec<Received<'_>> = messages.iter().map(|message| (&topic, *message)).collect();

    let owned: Vec<Signature> = messages.iter().flat_map(|message| signatures(&world, message)).collect();
    let claims: Vec<Claim<'_>> =
        owned.iter().map(|(key, message, signature)| Claim { key, message, signature }).collect();
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let alone = || {
        let (known, begun) = (KnownKeys::new(8), Instant::now());
        assert!(verify_many(&claims, cores, &known).iter().all(|verdict| verdict.is_valid()));
        begun.elapsed()
    };
    let each = |claims: &[Claim<'_>]| claims.iter().all(|one| one.key.verify(one.message, one.signature).is_valid());
    let plain = {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let parts = claims.chunks(claims.len().div_ceil(cores.get()));
            let threads: Vec<_> = parts.map(|part| scope.spawn(move || each(part))).collect();
            assert!(threads.into_iter().all(|thread| thread.join().expect("a verdict")));
        });
        begun.elapsed()
    };
    let first = alone();
    let begun = Instant::now();
    for batch in received.chunks(BATCH_MAX) {
        let taken = world.inbox.take_many(world.now, batch).await.expect("the database");
        assert!(taken.iter().all(|taken| taken.outgoing.len() == 1), "a receipt each, no problem");
    }
    let intake = begun.elapsed();
    let verifying = first.min(alone());
    let mut tx = world.store.read().await.expect("a transaction");
    let counts = "SELECT (SELECT COUNT(*) FROM blocks), (SELECT COUNT(*) FROM entries WHERE refused IS NOT NULL)";
    let (blocks, refused): (i64, i64) = sqlx::query_as(counts).fetch_one(&mut *tx).await.expect("counts");
    let all = world.ledger.size(Log::Trade) + world.ledger.size(Log::Finance);
    assert_eq!((u64::try_from(blocks).expect("small"), refused), (all, 0), "everything is stored");
    println!(
        "{} messages, {blocks} blocks, {} signatures, {cores} cores\nintake {:.1} ms; verifying one by one {:.1} ms, ratio \
         {:.3}; with tables of known keys {:.1} ms, ratio {:.3}",
        messages.len(),
        claims.len(),
        intake.as_secs_f64() * 1e3,
        plain.as_secs_f64() * 1e3,
        plain.as_secs_f64() / intake.as_secs_f64(),
        verifying.as_secs_f64() * 1e3,
        verifying.as_secs_f64() / intake.as_secs_f64(),
    );
}
