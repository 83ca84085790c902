//! Notices in a running contract: what buyer and platform may move, and what of theirs is refused.

use hufu_ledger::Log;
use hufu_trade::{
    bill::Bill,
    entry::EntryKind,
    money::FEN,
    notice::Notice,
    octets::{Octets, rfc3339},
    statement::Payment,
    usage::Reason,
};

use super::{
    acts::signed,
    judgement::{OTHER, alarm_codes, states},
    parties::Party,
    world::{SECOND, Sold, World},
};
use crate::store::{contract, list};

fn buyer(world: &World) -> &Party {
    &world.buyer
}

fn platform(world: &World) -> &Party {
    &world.platform
}

fn node(world: &World) -> &Party {
    &world.node
}

const MINUTE_NS: u64 = 60_000_000_000;

#[tokio::test]
async fn a_contract_is_suspended_resumed_renewed_and_terminated() {
    let mut world = World::open().await;
    let mut sold = world.deal();
    world.meter(&mut sold, Reason::Begin);
    let notice = world.notice(&sold, "suspend");
    world.noticed(&notice, buyer);
    world.send_all().await;
    assert_eq!(states(&world).await.0, "suspending");
    world.status(&sold, ["pause", "suspending", "suspended"]);
    world.meter(&mut sold, Reason::Suspended);
    let notice = world.notice(&sold, "resume");
    world.noticed(&notice, buyer);
    world.send_all().await;
    assert_eq!(states(&world).await.0, "serving");
    let notice = world.renewal(&sold, 10 * MINUTE_NS, "150");
    world.noticed(&notice, buyer);
    for _ in 0..3 {
        world.meter(&mut sold, Reason::Continue);
    }
    assert!(world.now > sold.service_end, "the term of the deal is over");
    let notice = world.notice(&sold, "terminate");
    world.noticed(&notice, buyer);
    world.send_all().await;
    assert_eq!(states(&world).await.0, "leaving");
    world.meter(&mut sold, Reason::End);
    world.status(&sold, ["leave", "leaving", "ended"]);
    world.bill(&sold, |_| {});
    world.send_all().await;
    assert_eq!(states(&world).await, ("billed".to_owned(), vec!["payable".to_owned()]));
    assert_eq!(alarm_codes(&world).await, Vec::<String>::new());
    let mut tx = world.store.read().await.expect("a transaction");
    let orders = serde_json::to_value(list::orders(&mut tx).await.expect("orders")).expect("JSON");
    let end = sold.service_end + 10 * 60_000_000_000;
    assert_eq!(orders[0]["service_end"], rfc3339(end), "what is in force is shown");
    let loaded =
        contract::load(&mut tx, super::world::POOL, sold.no, false).await.expect("a load").expect("a contract");
    assert_eq!(loaded.in_force.map(|in_force| in_force.value.amount.to_string()).as_deref(), Some("150.00"));
    assert_eq!(loaded.notices.len(), 4);
}

#[tokio::test]
async fn entries_of_one_block_are_judged_on_each_other() {
    let mut world = World::open().await;
    let mut sold = world.deal();
    for _ in 0..2 {
        world.meter(&mut sold, Reason::Continue);
    }
    let renewal = signed(&world.renewal(&sold, 10 * MINUTE_NS, "100"), &world.buyer);
    world.now = sold.service_end + 1;
    let end = signed(&world.notice(&sold, "terminate"), &world.buyer);
    let entry = |notice: hufu_gm::Signed| (EntryKind::Notice, Some(sold.no), notice.to_bytes().expect("DER"));
    world.append(Log::Trade, vec![entry(renewal), entry(end)]);
    world.send_all().await;
    assert_eq!((states(&world).await.0.as_str(), alarm_codes(&world).await), ("leaving", Vec::new()));
}

/// Who signs.
type Signer = fn(&World) -> &Party;
/// What is wrong, how the notice is changed, who signs it, the code.
type Row = (&'static str, fn(&World, &Sold) -> Notice, Signer, &'static str);

#[tokio::test]
async fn whatever_is_wrong_with_a_notice_is_refused_and_the_contract_stays() {
    let mut world = World::open().await;
    let sold = world.deal();
    let table: [Row; 16] = [
        ("the node's signature", |w, s| w.notice(s, "suspend"), node, "signature"),
        ("the platform in the buyer's place", |w, s| w.notice(s, "suspend"), platform, "signature"),
        ("the buyer in the platform's place", |w, s| w.notice(s, "revoke"), buyer, "signature"),
        ("an act of the node alone", |w, s| w.notice(s, "expire"), platform, "state"),
        ("an act of a later state", |w, s| w.notice(s, "resume"), buyer, "state"),
        ("no act at all", |w, s| w.notice(s, "sing"), buyer, "state"),
        ("another version", |w, s| Notice { version: 2, ..w.notice(s, "suspend") }, buyer, "malformed"),
        (
            "another node",
            |w, s| Notice { computing_pool_id: "s1/n2".into(), ..w.notice(s, "suspend") },
            buyer,
            "malformed",
        ),
        ("another deal", |w, s| Notice { deal: Octets([1; 32]), ..w.notice(s, "suspend") }, buyer, "malformed"),
        (
            "another contract",
            |w, s| Notice { contract_no: Octets([1; 16]), ..w.notice(s, "suspend") },
            buyer,
            "unknown",
        ),
        (
            "a bill that is not there",
            |w, s| Notice { bill: Some(Octets([1; 32])), ..w.notice(s, "suspend") },
            buyer,
            "unknown",
        ),
        ("after the end of service", |w, s| Notice { time: s.service_end, ..w.notice(s, "suspend") }, buyer, "offer"),
        ("a lower ceiling", |w, s| w.renewal(s, MINUTE_NS, "99.99"), buyer, "offer"),
        ("a longer term than offered", |w, s| w.renewal(s, 3_600_000_000_001, "100"), buyer, "offer"),
        ("another kind of payment", prepaid, buyer, "offer"),
        ("no renewal in a renewal", |w, s| w.notice(s, "renew"), buyer, "malformed"),
    ];
    for (count, (name, notice, signer, code)) in table.into_iter().enumerate() {
        let notice = notice(&world, &sold);
        world.noticed(&notice, signer);
        world.send_all().await;
        let codes = alarm_codes(&world).await;
        assert_eq!((codes.len(), codes.first().map(String::as_str)), (count + 1, Some(code)), "{name}");
        assert_eq!(states(&world).await.0, "serving", "{name}");
    }
    let notice = world.notice(&sold, "suspend");
    for state in ["suspending", "suspended"] {
        world.noticed(&notice, buyer);
        world.status(&sold, ["pause", "suspending", "suspended"]);
        world.send_all().await;
        assert_eq!(states(&world).await.0, "suspended", "{state}");
    }
    let codes = alarm_codes(&world).await;
    assert_eq!(codes[..codes.len() - 16], ["state", "duplicate"], "the same notice counts once");
}

fn prepaid(world: &World, sold: &Sold) -> Notice {
    let mut notice = world.renewal(sold, MINUTE_NS, "100");
    if let Some(renewal) = &mut notice.renewal {
        renewal.contract_value.payment = Payment::Prepaid;
    }
    notice
}

#[tokio::test]
async fn no_notice_pays_a_bill() {
    let mut world = World::open().await;
    let sold = world.sell();
    world.bill(&sold, |_| {});
    let wants: [(&str, Signer); 4] = [("pay", platform), ("pay", buyer), ("score", buyer), ("contest", node)];
    for (act, signer) in wants {
        let notice = world.notice(&sold, act);
        world.noticed(&notice, signer);
        world.send_all().await;
        assert_eq!(states(&world).await, ("billed".to_owned(), vec!["payable".to_owned()]), "{act}");
    }
    assert_eq!(alarm_codes(&world).await, ["signature", "state", "state", "state"]);
}

#[tokio::test]
async fn no_status_of_the_node_stands_for_another_entry() {
    let mut world = World::open().await;
    let sold = world.sell();
    world.status(&sold, ["bill", "ended", "billed"]);
    world.send_all().await;
    assert_eq!(states(&world).await.0, "ended");
    world.bill(&sold, |_| {});
    let dispute = world.notice(&sold, "dispute");
    world.noticed(&dispute, buyer);
    world.status(&sold, ["correct", "disputed", "billed"]);
    world.send_all().await;
    assert_eq!(states(&world).await, ("disputed".to_owned(), vec!["disputed".to_owned()]));
    assert_eq!(alarm_codes(&world).await, ["state", "state"]);
}

#[tokio::test]
async fn the_platform_revokes_a_service() {
    let mut world = World::open().await;
    let mut sold = world.deal();
    world.meter(&mut sold, Reason::Begin);
    let notice = world.notice(&sold, "revoke");
    world.noticed(&notice, platform);
    world.send_all().await;
    assert_eq!((states(&world).await.0.as_str(), alarm_codes(&world).await), ("leaving", Vec::new()));
}

#[tokio::test]
async fn nothing_is_used_while_a_contract_is_suspended() {
    let mut world = World::open().await;
    let mut sold = world.deal();
    world.meter(&mut sold, Reason::Begin);
    let (name, mut record) = sold.records.pop().expect("a record");
    // Right in every respect, but for a suspension that uses something.
    (record.order_seq, record.previous, record.reason) = (1, name.hash, Reason::Suspended);
    (record.start, record.end) = (record.end, record.end + 60 * SECOND);
    record.identity = None;
    for reading in &mut record.readings {
        reading.total = reading.total.map(|total| total + reading.delta.unwrap_or(0));
    }
    for (reason, refused) in [(Reason::Suspended, 1), (Reason::Continue, 1)] {
        record.reason = reason;
        let body = hufu_trade::encode(&record, "UsageRecord").expect("DER");
        world.append(Log::Trade, vec![(EntryKind::Usage, Some(sold.no), body)]);
        world.send_all().await;
        assert_eq!(alarm_codes(&world).await, vec!["amount"; refused], "{reason:?}");
    }
}

#[tokio::test]
async fn a_bill_ends_at_the_ceiling_and_a_renewal_lifts_it() {
    type Row = (&'static str, Option<&'static str>, fn(&mut Bill), &'static str, &'static str);
    let table: [Row; 4] = [
        ("cut at the ceiling", None, |_| {}, "1.00", "payable"),
        ("above it", None, uncut, "2.12", "refused"),
        ("under a lifted one", Some("2"), |_| {}, "2.00", "payable"),
        ("cut below the lifted one", Some("2"), |bill| bill.total.0 -= FEN, "1.99", "refused"),
    ];
    for (name, lifted, change, total, state) in table {
        let mut world = World::open().await;
        world.ceiling = "1";
        let mut sold = world.deal();
        if let Some(ceiling) = lifted {
            let renewal = world.renewal(&sold, MINUTE_NS, ceiling);
            world.noticed(&renewal, buyer);
            world.ceiling = ceiling;
        }
        world.serve(&mut sold);
        let bill = world.bill(&sold, change);
        world.send_all().await;
        assert_eq!(bill.total.to_string(), total, "{name}");
        assert_eq!(states(&world).await, ("billed".to_owned(), vec![state.to_owned()]), "{name}");
    }
}

fn uncut(bill: &mut Bill) {
    let over = bill.over_ceiling.take().expect("a cut");
    bill.total = bill.total.minus(over).expect("money");
}

#[tokio::test]
async fn a_notice_of_another_table_is_followed_with_no_code_changed() {
    let ends = vec![["shut", "winding_up", "cooling"], ["close", "cooling", "closed"]];
    let mut world = World::under(OTHER, ends).await;
    let mut sold = world.deal();
    for act in ["suspend", "give_up"] {
        let notice = world.notice(&sold, act);
        world.noticed(&notice, buyer);
    }
    world.send_all().await;
    assert_eq!(states(&world).await.0, "winding_up");
    world.serve(&mut sold);
    world.bill(&sold, |_| {});
    world.send_all().await;
    assert_eq!(states(&world).await, ("due".to_owned(), vec!["payable".to_owned()]));
    assert_eq!(alarm_codes(&world).await, ["state"], "this table knows no suspension");
}
