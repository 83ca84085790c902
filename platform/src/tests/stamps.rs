//! Which receipts are to be stamped, and which token belongs to an entry.

use super::world::{POOL, World};
use crate::store::stamp::{self, Unstamped};

const HOUR_NS: i64 = 3_600_000_000_000;

async fn due(world: &World, before_ns: i64) -> Vec<Unstamped> {
    let mut tx = world.store.read().await.unwrap();
    stamp::due(&mut tx, before_ns).await.unwrap()
}

async fn covering(world: &World, log: u8, height: u64) -> Option<(u64, Vec<u8>)> {
    let mut tx = world.store.read().await.unwrap();
    stamp::covering(&mut tx, (POOL, log), height).await.unwrap().map(|(size, _, token)| (size, token))
}

async fn add(world: &World, of: &Unstamped, token: &[u8], at: i64) {
    let mut tx = world.store.write().await.unwrap();
    stamp::add(&mut tx, of, token, at).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn the_newest_receipt_of_a_log_is_stamped_and_not_again_too_soon() {
    let mut world = World::open().await;
    let now = world.now;
    assert_eq!(due(&world, now).await, []);
    let sold = world.sell();
    world.send_all().await;
    let first = due(&world, now - HOUR_NS).await;
    let [trade] = first.as_slice() else { panic!("{first:?}") };
    assert_eq!((trade.pool.as_str(), trade.log), (POOL, 0));
    assert_eq!(trade.size, world.ledger.size(hufu_ledger::Log::Trade));
    add(&world, trade, b"first", now).await;
    add(&world, trade, b"again", now).await;
    assert_eq!(covering(&world, 0, trade.size - 1).await, Some((trade.size, b"first".to_vec())), "one stays");
    assert_eq!(covering(&world, 0, trade.size).await, None, "it does not cover what came later");
    assert_eq!(due(&world, now + HOUR_NS).await, [], "a receipt is stamped once");

    world.bill(&sold, |_| {});
    world.send_all().await;
    let soon = due(&world, now - HOUR_NS).await;
    assert_eq!(soon.iter().map(|one| one.log).collect::<Vec<_>>(), [1], "the trade log has one of this hour");
    let later = due(&world, now).await;
    assert_eq!(later.iter().map(|one| one.log).collect::<Vec<_>>(), [0, 1]);
    let newer = &later[0];
    assert!(newer.size > trade.size);
    add(&world, newer, b"second", now + 1).await;
    assert_eq!(covering(&world, 0, 0).await, Some((trade.size, b"first".to_vec())), "the oldest that covers it");
    assert_eq!(covering(&world, 0, trade.size).await, Some((newer.size, b"second".to_vec())));
}
