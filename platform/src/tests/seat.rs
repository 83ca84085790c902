//! What is known of a node from one message to the next: it counts while nobody else writes, and no longer. What changes nothing is
//! judged behind the blocks that came with it.

use hufu_gm::Signed;
use hufu_ledger::Log;
use hufu_trade::{
    decode, encode,
    entry::Receipt,
    if2::{Answer, BillPush, Blocks, Envelope, Interface, PLATFORM, Sealed, Topic},
    octets::Octets,
};
use serde_json::Value;

use super::world::{Sold, World};
use crate::{inbox::Taken, store::Kind};

/// A world whose platform has taken all but the bill of an order.
async fn before_the_bill() -> (World, Sold) {
    let mut world = World::open().await;
    world.send_all().await;
    let founded = world.ledger.size(Log::Trade);
    let sold = world.sell();
    world.send(Log::Trade, founded).await;
    (world, sold)
}

const LAPSE: &str = "UPDATE contracts SET state = 'lapsed'";

/// What the receipt says of a bill that is sent now: whether it was taken.
async fn is_taken(mut world: World, sold: &Sold) -> bool {
    world.bill(sold, |_| {});
    let receipt = world.send(Log::Finance, 0).await.receipt.expect("a receipt");
    assert_eq!(receipt.bills.len() + receipt.refused.len(), 1, "{receipt:?}");
    receipt.refused.is_empty()
}

#[tokio::test]
async fn what_somebody_else_writes_between_two_messages_counts() {
    let (world, sold) = before_the_bill().await;
    assert!(is_taken(world, &sold).await);
    let (world, sold) = before_the_bill().await;
    let mut tx = world.store.write().await.expect("a transaction");
    sqlx::query(LAPSE).execute(&mut *tx).await.expect("an update");
    tx.commit().await.expect("a commit");
    assert!(!is_taken(world, &sold).await, "the contract is not in a state to be billed");
}

#[tokio::test]
async fn while_nobody_else_writes_nothing_is_read_again() {
    let (mut world, sold) = before_the_bill().await;
    if world.store.kind() == Kind::Postgres {
        return;
    }
    // Behind the back of the inbox, over its own connection.
    let db = world.inbox.connection().expect("a connection");
    sqlx::query(LAPSE).execute(db).await.expect("an update");
    assert!(is_taken(world, &sold).await);
}

#[tokio::test]
async fn a_push_in_front_of_the_block_of_its_bill_finds_it() {
    let (mut world, sold) = before_the_bill().await;
    let bill = world.bill(&sold, |_| {});
    let (pool, now) = (world.pool, world.now);
    let topic = |interface| Topic::Call { pool: pool.to_owned(), interface, answer: false };
    let block = world.ledger.block(Log::Finance, 0).expect("a block");
    let entry = hufu_ledger::Block::from_bytes(&block).expect("a block").entries()[0].clone();
    let push = BillPush {
        bill_no: bill.number.clone(),
        contract_no: sold.no.to_string(),
        entry: Sealed(entry),
        height: 0,
        total_cny: bill.total.to_string(),
    };
    let (interface, cert_id) = (Interface::BillPush, Octets(world.node.id()));
    let sealed = Envelope::seal(interface, pool, PLATFORM, now, None, None, &push, &world.node.key, cert_id);
    let (push, push_at) = (sealed.expect("an envelope").1, topic(Interface::BillPush));
    let message = Blocks::pack(Log::Finance.number(), 0, vec![block]).expect("a message");
    let (blocks, blocks_at) = (encode(&message, "Blocks").expect("DER"), topic(Interface::Blocks));
    let other_at = topic(Interface::ProductReport);
    let mut answers = Vec::new();
    for batch in [
        // What is not a block, nor leaves everything as it is, is judged where it stands.
        vec![(&push_at, &push[..]), (&other_at, &b"no envelope"[..]), (&blocks_at, &[][..])],
        vec![(&push_at, &push[..]), (&blocks_at, &blocks[..])],
    ] {
        let taken = world.inbox.take_many(now, &batch).await.expect("the database");
        let answer = &taken[0].outgoing[0];
        let envelope = Envelope::parse(&answer.payload).expect("an envelope");
        let key = world.platform.key.public_key();
        let opened = envelope.open::<Answer<Value>>(&key, interface, pool, &answer.payload);
        answers.push(match opened.expect("the platform's").payload.body {
            Answer::Ok(body) => body["state"].as_str().expect("a state").to_owned(),
            Answer::Error(problem) => problem.code,
        });
    }
    assert_eq!(answers, ["unknown", "stored"]);
}

/// Sizes that the receipts in these answers say, one an answer.
fn sizes(taken: &[Taken]) -> Vec<Option<u64>> {
    let size = |taken: &Taken| {
        let signed = Signed::from_bytes(&taken.outgoing.first()?.payload).ok()?;
        Some(decode::<Receipt>(signed.tbs(), "Receipt").ok()?.size)
    };
    taken.iter().map(size).collect()
}

#[tokio::test]
async fn what_a_broker_kept_several_times_is_stored_once_and_answered_each_time() {
    let (mut world, sold) = before_the_bill().await;
    let trade = world.ledger.size(Log::Trade);
    world.bill(&sold, |_| {});
    let topic = |interface| Topic::Call { pool: world.pool.to_owned(), interface, answer: false };
    let message = |log: Log, first: u64, blocks| {
        encode(&Blocks::pack(log.number(), first, blocks).expect("a message"), "Blocks").expect("DER")
    };
    let of = |log: Log, from: u64| world.ledger.blocks(log, from).map(|found| found.expect("a block").1).collect();
    let (blocks_at, presence_at) = (topic(Interface::Blocks), Topic::Presence { pool: world.pool.to_owned() });
    let said = |state: &str| format!("{{\"state\":\"{state}\",\"boot\":1,\"session\":1}}").into_bytes();
    let (online, offline) = (said("online"), said("offline"));
    let (ask, bill) = (message(Log::Finance, 0, Vec::new()), message(Log::Finance, 0, of(Log::Finance, 0)));
    // It begins with what is held, and goes on with what names the bill.
    let link = message(Log::Trade, trade - 1, of(Log::Trade, trade - 1));
    let batch = [
        (&blocks_at, &ask[..]),
        (&blocks_at, &bill[..]),
        (&presence_at, &online[..]),
        (&blocks_at, &link[..]),
        (&blocks_at, &bill[..]),
        (&presence_at, &offline[..]),
        (&blocks_at, &ask[..]),
        (&blocks_at, &link[..]),
        (&presence_at, &online[..]),
    ];
    let taken = world.inbox.take_many(world.now, &batch).await.expect("the database");
    let linked = Some(world.ledger.size(Log::Trade));
    assert_eq!(sizes(&taken), [Some(0), Some(1), None, linked, Some(1), None, Some(1), linked, None]);
    assert_eq!((&taken[1].outgoing, &taken[3].outgoing), (&taken[4].outgoing, &taken[7].outgoing));
    let mut tx = world.store.read().await.expect("a transaction");
    let presence: (String,) = sqlx::query_as("SELECT presence FROM nodes").fetch_one(&mut *tx).await.expect("a row");
    assert_eq!(presence.0, "online");
    let alarms: (i64,) = sqlx::query_as("SELECT COUNT(*) FROM alarms").fetch_one(&mut *tx).await.expect("a row");
    assert_eq!(alarms.0, 0);
}
