//! A node's whole log, judged, stored and receipted: once, again, with a hole, with a second past, under a wrong key.

use hufu_ledger::Log;

use super::{
    parties::party,
    world::{POOL, SECOND, World},
};
use crate::store::list;

pub(crate) async fn alarm_codes(world: &World) -> Vec<String> {
    let mut tx = world.store.read().await.expect("a transaction");
    let rows = serde_json::to_value(list::alarms(&mut tx).await.expect("alarms")).expect("JSON");
    let rows = rows.as_array().expect("a list").iter();
    rows.map(|row| row["code"].as_str().expect("a code").to_owned()).collect()
}

pub(crate) async fn states(world: &World) -> (String, Vec<String>) {
    let mut tx = world.store.read().await.expect("a transaction");
    let orders = serde_json::to_value(list::orders(&mut tx).await.expect("orders")).expect("JSON");
    let bills = serde_json::to_value(list::bills(&mut tx).await.expect("bills")).expect("JSON");
    let bills = bills.as_array().expect("a list").iter().map(|row| row["state"].as_str().expect("text").to_owned());
    (orders[0]["state"].as_str().unwrap_or_default().to_owned(), bills.collect())
}

#[tokio::test]
async fn a_node_that_was_away_is_waited_for_anew() {
    let mut world = World::open().await;
    let sold = world.sell();
    world.bill(&sold, |_| {});
    let stuck = world.send(Log::Trade, 0).await.receipt.expect("a receipt").size;
    assert!(stuck < world.ledger.size(Log::Trade), "what names the bill waits for it");
    world.now += 3600 * SECOND;
    world.send_blocks(Log::Trade, stuck, Vec::new()).await;
    assert_eq!(world.send(Log::Trade, stuck).await.receipt.expect("a receipt").size, stuck);
    world.send_all().await;
    assert_eq!(alarm_codes(&world).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_whole_trade_is_receipted_and_sent_again_gives_the_same_receipt() {
    let mut world = World::open().await;
    let sold = world.sell();
    let bill = world.bill(&sold, |_| {});
    world.send_all().await;
    let receipt = world.send(Log::Finance, 0).await.receipt.expect("a receipt");
    assert_eq!((receipt.size, receipt.root.0), (1, world.ledger.root(Log::Finance)));
    assert_eq!(receipt.bills.iter().map(|found| found.number.as_str()).collect::<Vec<_>>(), [bill.number.as_str()]);
    assert_eq!(receipt.refused, []);
    world.now += 1;
    assert_eq!(world.send(Log::Finance, 0).await.receipt, Some(receipt), "the same question, the same answer");
    let receipt = world.send(Log::Trade, 0).await.receipt.expect("a receipt");
    assert_eq!((receipt.size, receipt.root.0), (world.ledger.size(Log::Trade), world.ledger.root(Log::Trade)));
    assert_eq!(states(&world).await, ("billed".to_owned(), vec!["payable".to_owned()]));
    assert_eq!(alarm_codes(&world).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_wrong_bill_is_refused_and_the_log_goes_on() {
    let mut world = World::open().await;
    let sold = world.sell();
    world.bill(&sold, |bill| bill.total.0 += hufu_trade::money::FEN);
    world.send_all().await;
    let receipt = world.send(Log::Finance, 0).await.receipt.expect("a receipt");
    assert_eq!(receipt.bills, []);
    assert_eq!(receipt.refused.iter().map(|found| found.code.as_str()).collect::<Vec<_>>(), ["amount"]);
    assert_eq!(states(&world).await, ("billed".to_owned(), vec!["refused".to_owned()]));
    assert_eq!(alarm_codes(&world).await, ["amount"]);
}

#[tokio::test]
async fn a_bill_waits_for_the_usage_it_rests_on() {
    let mut world = World::open().await;
    let sold = world.sell();
    world.bill(&sold, |_| {});
    let head = world.ledger.block(Log::Trade, 0).expect("a block");
    let certificates = world.ledger.block(Log::Trade, 1).expect("a block");
    world.send_blocks(Log::Trade, 0, vec![head, certificates]).await;
    let receipt = world.send(Log::Finance, 0).await.receipt.expect("a receipt");
    assert_eq!(receipt.size, 0, "the bill is not taken before its usage");
    world.send_all().await;
    assert_eq!(states(&world).await, ("billed".to_owned(), vec!["payable".to_owned()]));
}

#[tokio::test]
async fn a_hole_in_the_log_is_answered_with_how_far_it_is() {
    let mut world = World::open().await;
    world.sell();
    let known = world.ledger.block(Log::Trade, 0).expect("a block");
    let certificates = world.ledger.block(Log::Trade, 1).expect("a block");
    world.send_blocks(Log::Trade, 0, vec![known, certificates]).await;
    let answered = world.send(Log::Trade, 4).await;
    assert_eq!(answered.problems, Vec::<String>::new());
    assert_eq!(answered.receipt.map(|receipt| receipt.size), Some(2));
}

#[tokio::test]
async fn a_second_past_is_kept_as_evidence_and_alarmed_once() {
    let mut world = World::open().await;
    world.send_all().await;
    let other = world.other_first_block(&world.node.key);
    for _ in 0..2 {
        let answered = world.send_blocks(Log::Trade, 0, vec![other.clone()]).await;
        assert_eq!(answered.problems, ["duplicate"]);
        assert_eq!(answered.receipt.map(|receipt| receipt.size), Some(2), "what is held stays");
    }
    assert_eq!(alarm_codes(&world).await, ["fork"]);
    let mut tx = world.store.read().await.expect("a transaction");
    let nodes = serde_json::to_value(list::nodes(&mut tx).await.expect("nodes")).expect("JSON");
    assert_eq!((&nodes[0]["node"], &nodes[0]["forks"]), (&POOL.into(), &1.into()));
}

#[tokio::test]
async fn a_block_under_another_key_is_refused() {
    let mut world = World::open().await;
    let forged = world.other_first_block(&party(None, "thief", 9).key);
    for size in [0, 2] {
        let answered = world.send_blocks(Log::Trade, 0, vec![forged.clone()]).await;
        assert_eq!(answered.problems, ["signature"], "with {size} blocks held");
        assert_eq!(answered.receipt.map(|receipt| receipt.size), Some(size));
        world.send_all().await;
    }
}

#[tokio::test]
async fn a_flood_of_what_nobody_signed_leaves_a_bounded_trace() {
    let mut world = World::open().await;
    world.send_all().await;
    let size = world.ledger.size(Log::Trade);
    // The greatest height of all, and the one after it.
    let answered = world.send_blocks(Log::Trade, u64::MAX, vec![b"x".to_vec(), b"y".to_vec()]).await;
    assert_eq!((answered.problems, answered.receipt.expect("a receipt").size), (Vec::new(), size));
    let mut first = None;
    for time in 0..200 {
        world.now += 1;
        let answered = world.send_blocks(Log::Trade, size, vec![b"not a block".to_vec()]).await;
        assert_eq!(answered.problems, ["malformed"], "time {time}");
        let receipt = world.send_blocks(Log::Trade, time % 9, Vec::new()).await.receipt;
        assert_eq!(*first.get_or_insert(receipt.clone()), receipt, "the same list, the same receipt");
    }
    assert_eq!(alarm_codes(&world).await.len(), 60);
}

pub(super) const OTHER: &str = include_str!("../../../trade/testdata/rules/other.toml");

#[tokio::test]
async fn another_rule_table_is_followed_with_no_code_changed() {
    let mut world = World::under(OTHER, vec![["expire", "running", "cooling"], ["close", "cooling", "closed"]]).await;
    let sold = world.sell();
    world.bill(&sold, |_| {});
    // Until the trade log tells that the contract was closed, its bill waits.
    let size = usize::try_from(world.ledger.size(Log::Trade)).expect("small");
    let blocks: Vec<_> = world.ledger.blocks(Log::Trade, 0).map(|found| found.expect("a block").1).collect();
    world.send_blocks(Log::Trade, 0, blocks[..size - 2].to_vec()).await;
    assert_eq!(states(&world).await.0, "cooling");
    assert_eq!(world.send(Log::Finance, 0).await.receipt.map(|receipt| receipt.size), Some(0));
    world.send_all().await;
    assert_eq!(states(&world).await, ("due".to_owned(), vec!["payable".to_owned()]));
    assert_eq!(alarm_codes(&world).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_one_rule_table_allows_another_refuses() {
    let mut world = World::under(OTHER, vec![["expire", "serving", "ended"]]).await;
    let sold = world.sell();
    world.bill(&sold, |_| {});
    for (log, first) in [(Log::Trade, 0), (Log::Finance, 0)] {
        world.send(log, first).await;
    }
    assert_eq!(alarm_codes(&world).await, ["state"], "the default table's states mean nothing here");
    assert_eq!(states(&world).await.0, "running");
}
