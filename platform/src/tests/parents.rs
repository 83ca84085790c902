//! Parent orders under random courses of two children: the parent's total is that of its children, only one level is ever paid, a
//! correction or refund of a child moves the parent. Nothing is mocked.

use std::path::Path;

use hufu_ledger::Log;
use hufu_trade::{
    correction::Due,
    entry::EntryName,
    money::Money,
    octets::Octets,
    parent::{ParentOrder, Payable},
};

use super::world::{START, Sold, World};
use crate::cmd::{
    parents::{ParentRow, rows},
    pay, pay_parent, refund,
    tests::{named, paying, place},
};

const PARENT: Octets<16> = Octets([0xaa; 16]);

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % count
    }
}

/// A child, and where the world stands with it.
struct Child {
    nonce: u8,
    sold: Sold,
    due: Option<Due>,
    moved: Option<EntryName>,
}

async fn child(world: &mut World, nonce: u8, payable: Payable) -> Child {
    world.nonce = nonce;
    world.parent = Some(ParentOrder { parent_no: PARENT, payable, children: 2 });
    let sold = world.sell();
    world.send_all().await;
    Child { nonce, sold, due: None, moved: world.moved.clone() }
}

async fn parent_rows(world: &World) -> Vec<ParentRow> {
    let mut tx = world.store.read().await.expect("a transaction");
    rows(&mut tx, START).await.expect("rows")
}

/// The one parent.
async fn parent(world: &World) -> ParentRow {
    let mut found = parent_rows(world).await;
    assert_eq!(found.len(), 1);
    found.remove(0)
}

fn money(text: &str) -> Money {
    text.parse().expect("money")
}

/// Does what the child's state allows, as the node or the buyer would.
async fn act(world: &mut World, child: &mut Child, dice: &mut Dice) {
    let row = parent(world).await;
    let state =
        row.children.iter().find(|row| row.contract_no == child.sold.no.to_string()).map(|row| row.state.clone());
    (world.nonce, world.due, world.moved) = (child.nonce, child.due.clone(), child.moved.clone());
    world.now += 1;
    let sold = &child.sold;
    match (state.as_deref().unwrap_or_default(), dice.below(3)) {
        ("ended", _) => drop(world.bill(sold, |_| {})),
        ("billed", 0) | ("paid", _) => {
            let notice = world.notice(sold, "dispute");
            world.noticed(&notice, |world| &world.buyer);
        }
        ("billed", _) => {
            let confirmed = world.confirm().await;
            // What was recorded before a correction is no longer what is due.
            let due = world.due.as_ref().map(|due| due.total.to_string());
            if confirmed.0.state == "paid" && confirmed.0.amount_cny == due {
                world.pay(sold, &confirmed, |_| {});
            }
        }
        ("disputed" | "reopened", 0) => {
            let notice = world.notice(sold, "uphold");
            world.noticed(&notice, |world| &world.platform);
        }
        ("disputed" | "reopened", _) => world.correct(sold, "0.01", |_| {}),
        ("refunding", _) => {
            let due = world.due.clone().expect("a bill");
            let paid = world.confirm().await.0.amount_cny.expect("an amount");
            let over = money(&paid).minus(due.total).expect("money").to_string();
            let args = refund::Args {
                bill_no: due.number,
                place: place(world.folder.path()),
                amount: over,
                reference: "r".to_owned(),
            };
            refund::settle(&args, world.now).await.expect("a refund");
            let confirmed = world.confirm().await;
            world.refund(sold, &confirmed, |_| {});
        }
        _ => {}
    }
    world.send_all().await;
    (child.due, child.moved) = (world.due.clone(), world.moved.clone());
}

/// The operator tries to pay: the parent or a child, the right amount or another.
async fn operator(world: &World, dice: &mut Dice, payable: Payable) {
    let row = parent(world).await;
    let dir: &Path = world.folder.path();
    let reference = format!("t{}", dice.below(u64::MAX));
    if dice.below(2) == 0 {
        let wrong = dice.below(3) == 0;
        let amount = if wrong { "123.45".to_owned() } else { row.open_cny.clone() };
        let paid = pay_parent::settle(&paying(dir, &row.parent_no, &amount, &reference), PARENT, START).await;
        if payable == Payable::Child {
            assert_eq!(named(paid), (1, "PaidByChild".to_owned()));
        } else if row.total_cny.is_none() {
            assert_eq!(named(paid), (1, "ParentWrong".to_owned()));
        } else if let Ok(paid) = paid {
            assert!(!wrong && paid.amount == row.open_cny);
        }
        return;
    }
    let bills: Vec<_> = row.children.iter().flat_map(|child| &child.bills).collect();
    if bills.is_empty() {
        return;
    }
    let bill = bills[usize::try_from(dice.below(bills.len() as u64)).expect("small")];
    let paid = pay::settle(&paying(dir, &bill.bill_no, &bill.due_cny, &reference), START).await;
    if payable == Payable::Parent {
        assert_eq!(named(paid), (1, "PaidThroughParent".to_owned()));
    }
}

/// What must hold after every act.
async fn holds(world: &mut World, children: &[Child], payable: Payable) {
    let row = parent(world).await;
    let dues: Vec<Money> = children.iter().filter_map(|child| child.due.as_ref()).map(|due| due.total).collect();
    let sum = dues.iter().copied().try_fold(Money(0), Money::plus).expect("money");
    let total = (dues.len() == children.len()).then(|| sum.to_string());
    assert_eq!(row.total_cny, total, "{:?}", row.why);
    for child in children.iter().filter(|child| child.due.is_some()) {
        world.due.clone_from(&child.due);
        let said = world.confirm().await.0;
        let through = said.state != "unpaid" && payable == Payable::Parent;
        assert_eq!(said.parent_bill.is_some(), through, "{said:?}");
    }
}

#[tokio::test]
async fn a_parent_is_its_children_and_only_one_level_is_paid_whatever_happens() {
    let mut ends = std::collections::BTreeSet::new();
    for seed in 1..=12_u64 {
        let payable = if seed % 2 == 0 { Payable::Child } else { Payable::Parent };
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut world = World::open().await;
        let mut children = [child(&mut world, 5, payable).await, child(&mut world, 6, payable).await];
        for _ in 0..14 {
            if dice.below(3) == 0 {
                operator(&world, &mut dice, payable).await;
            } else {
                let which = usize::try_from(dice.below(2)).expect("small");
                act(&mut world, &mut children[which], &mut dice).await;
            }
            holds(&mut world, &children, payable).await;
        }
        assert_eq!(super::judgement::alarm_codes(&world).await, Vec::<String>::new());
        ends.extend(parent(&world).await.children.into_iter().map(|child| child.state));
    }
    for state in ["paid", "refunded"] {
        assert!(ends.contains(state), "no course came to {state}: {ends:?}");
    }
}

#[tokio::test]
async fn a_payment_of_the_other_level_is_refused() {
    for payable in [Payable::Parent, Payable::Child] {
        let mut world = World::open().await;
        let mut children = [child(&mut world, 5, payable).await, child(&mut world, 6, payable).await];
        let mut dice = Dice(1);
        for child in &mut children {
            act(&mut world, child, &mut dice).await;
        }
        // What a platform would say that knows nothing of levels.
        let due = children[1].due.clone().expect("a bill");
        let mut tx = world.store.write().await.expect("a transaction");
        let paid = crate::store::bill::Moved { amount: due.total.to_string(), reference: "t".to_owned(), at_ns: START };
        crate::store::bill::pay(&mut tx, &due.number, &paid).await.expect("a payment");
        tx.commit().await.expect("a commit");
        let confirmed = world.confirm().await;
        let sold = &children[1].sold;
        world.pay(sold, &confirmed, |_| {});
        world.send(Log::Trade, 0).await;
        world.send(Log::Finance, 0).await;
        let want: &[&str] = if payable == Payable::Parent { &["amount"] } else { &[] };
        assert_eq!(super::judgement::alarm_codes(&world).await, want, "{payable:?}");
    }
}

#[tokio::test]
async fn children_that_say_different_things_are_never_paid_together() {
    let mut world = World::open().await;
    let mut children = [child(&mut world, 5, Payable::Parent).await, child(&mut world, 6, Payable::Child).await];
    let mut dice = Dice(1);
    for child in &mut children {
        act(&mut world, child, &mut dice).await;
    }
    let row = parent(&world).await;
    assert!(row.total_cny.is_none() && row.why.is_some());
    let args = paying(world.folder.path(), &row.parent_no, &row.open_cny, "t");
    assert_eq!(named(pay_parent::settle(&args, PARENT, START).await), (1, "PaidByChild".to_owned()));
}
