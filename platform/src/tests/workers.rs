//! Several workers on one PostgreSQL: shares, fences, what is left of a worker that vanished. Without `HUFU_TEST_POSTGRES` there is
//! no server, and nothing is tested here; `make test` starts one.

use std::{collections::BTreeSet, sync::Arc};

use hufu_ledger::Log;
use hufu_trade::if2::{Blocks, Interface, Topic};
use sqlx::AnyConnection;

use super::{
    base,
    parties::Folder,
    world::{POOL, World},
};
use crate::{
    inbox::Inbox,
    store::{
        Create, Store,
        lease::{self, PARTS},
    },
};

const LEASE_MS: i64 = 60_000;

fn count(held: &BTreeSet<i64>) -> i64 {
    i64::try_from(held.len()).expect("small")
}

async fn renewed(store: &Store, worker: &str, lease_ms: i64) -> BTreeSet<i64> {
    lease::renew(store, worker, lease_ms).await.expect("a lease")
}

async fn sizes(store: &Store) -> (i64, i64) {
    let mut tx = store.read().await.expect("a transaction");
    let select = "SELECT (SELECT COUNT(*) FROM blocks), (SELECT COUNT(*) FROM entries)";
    sqlx::query_as(select).fetch_one(&mut *tx).await.expect("two counts")
}

#[tokio::test]
async fn parts_are_shared_and_what_a_worker_leaves_is_taken_over() {
    if base::server().is_none() {
        return;
    }
    let folder = Folder::new();
    let store = base::store(&folder).await;
    assert_eq!(count(&renewed(&store, "a", LEASE_MS).await), PARTS, "alone it holds all");
    assert_eq!(count(&renewed(&store, "b", LEASE_MS).await), 0, "nothing is free yet");
    let a = renewed(&store, "a", LEASE_MS).await;
    let b = renewed(&store, "b", LEASE_MS).await;
    assert_eq!((count(&a), count(&b), a.is_disjoint(&b)), (PARTS / 2, PARTS / 2, true));
    renewed(&store, "c", LEASE_MS).await;
    let mut shares = Vec::new();
    for worker in ["a", "b", "c", "a", "b", "c"] {
        shares.push(count(&renewed(&store, worker, LEASE_MS).await));
    }
    assert_eq!(shares[3..].iter().sum::<i64>(), PARTS, "{shares:?}");
    assert!(shares[3..].iter().all(|share| *share >= PARTS / 4), "{shares:?}");
    lease::leave(&store, "c").await.expect("an end");
    // One that is late loses everything, whenever it comes back.
    renewed(&store, "b", -1).await;
    assert_eq!(count(&renewed(&store, "a", LEASE_MS).await), PARTS);
    let mut tx = store.write_beside().await.expect("a transaction");
    assert_eq!(lease::held(&mut tx, "b").await.expect("what it holds"), BTreeSet::new());
}

#[tokio::test]
async fn nobody_takes_over_from_a_worker_while_it_writes() {
    if base::server().is_none() {
        return;
    }
    let folder = Folder::new();
    let store = base::store(&folder).await;
    renewed(&store, "a", -1).await;
    let mut tx = store.write_beside().await.expect("a transaction");
    assert_eq!(count(&lease::held(&mut tx, "a").await.expect("what it holds")), PARTS);
    assert_eq!(count(&renewed(&store, "b", LEASE_MS).await), 0, "late, but at work");
    tx.commit().await.expect("a commit");
    assert_eq!(count(&renewed(&store, "b", LEASE_MS).await), PARTS);
}

#[tokio::test]
async fn a_message_is_handled_by_the_holder_of_its_node_alone() {
    if base::server().is_none() {
        return;
    }
    let mut world = World::open().await;
    let sold = world.sell();
    world.bill(&sold, |_| {});
    let topic = Topic::Call { pool: POOL.to_owned(), interface: Interface::Blocks, answer: false };
    let blocks: Vec<Vec<u8>> = world.ledger.blocks(Log::Trade, 0).map(|found| found.expect("a block").1).collect();
    let message = Blocks::pack(0, 0, blocks).expect("a message");
    let payload = hufu_trade::encode(&message, "Blocks").expect("DER");
    let inbox =
        |name: &str| Inbox::new(world.store.clone(), Arc::clone(&world.identity)).of_worker(Some(name.to_owned()));
    let (mut a, mut b) = (inbox("a"), inbox("b"));
    renewed(&world.store, "a", LEASE_MS).await;
    renewed(&world.store, "b", LEASE_MS).await;
    assert!(b.take(world.now, &topic, &payload).await.expect("the database").outgoing.is_empty());
    assert_eq!(sizes(&world.store).await, (0, 0));
    // Both at once, the same message: one answers.
    let (first, second) = tokio::join!(a.take(world.now, &topic, &payload), b.take(world.now, &topic, &payload));
    let (first, second) = (first.expect("the database"), second.expect("the database"));
    assert_eq!((first.outgoing.len(), second.outgoing.len()), (1, 0));
    let stored = sizes(&world.store).await;
    // The worker that lost its lease notices it inside the transaction, whatever it believes.
    renewed(&world.store, "a", -1).await;
    renewed(&world.store, "b", LEASE_MS).await;
    assert!(a.take(world.now, &topic, &payload).await.expect("the database").outgoing.is_empty());
    let again = b.take(world.now, &topic, &payload).await.expect("the database").outgoing;
    assert_eq!(again, first.outgoing, "the same receipt, from the other worker");
    assert_eq!(sizes(&world.store).await, stored, "and nothing twice");
}

#[tokio::test]
async fn text_that_the_database_cannot_hold_is_refused_and_stands_in_nobodys_way() {
    let mut world = World::open().await;
    world.send_all().await;
    let topic = Topic::Call { pool: POOL.to_owned(), interface: Interface::PaymentConfirm, answer: false };
    let asked = hufu_trade::if2::PaymentConfirm { bill_no: "ab\0-1".to_owned() };
    let (key, id) = (&world.node.key, hufu_trade::octets::Octets(world.node.id()));
    let sealed = hufu_trade::if2::Envelope::seal(
        Interface::PaymentConfirm,
        POOL,
        "platform",
        world.now,
        None,
        Some(world.now),
        &asked,
        key,
        id,
    );
    let bad = sealed.expect("an envelope").1;
    let presence = Topic::Presence { pool: POOL.to_owned() };
    let online = br#"{"state":"online","boot":1,"session":1}"#.to_vec();
    let messages = [(&presence, &online[..]), (&topic, &bad[..]), (&presence, &online[..])];
    let taken = world.inbox.take_many(world.now, &messages).await.expect("the database");
    let answers: Vec<usize> = taken.iter().map(|taken| taken.outgoing.len()).collect();
    assert_eq!(answers, [0, 1, 0]);
}

async fn columns(db: &mut AnyConnection, select: &'static str) -> BTreeSet<(String, String)> {
    let rows: Vec<(String, String)> = sqlx::query_as(select).fetch_all(db).await.expect("columns");
    rows.into_iter().filter(|(table, _)| !table.starts_with("_sqlx")).collect()
}

#[tokio::test]
async fn both_schemas_have_the_same_tables() {
    if base::server().is_none() {
        return;
    }
    let folder = Folder::new();
    let server = base::store(&folder).await;
    let mut tx = server.read().await.expect("a transaction");
    let there = "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT) FROM information_schema.columns
        WHERE table_schema = current_schema()";
    let there = columns(&mut tx, there).await;
    let file = Store::open(folder.path(), Create::IfMissing).await.expect("a database");
    let mut tx = file.read().await.expect("a transaction");
    let here = "SELECT m.name, p.name FROM sqlite_schema m JOIN pragma_table_info(m.name) p WHERE m.type = 'table'";
    let here = columns(&mut tx, here).await;
    assert_eq!(here, there);
    assert!(here.len() > 100);
}
