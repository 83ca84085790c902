//! Accounts and operations: made with the first browse, changed by the operator, signed as one chain, told to nodes until they answer.

use std::collections::BTreeMap;

use hufu_gm::Signed;
use hufu_trade::{
    account::{Account, BUYER, OPERATOR, Operation},
    decode,
    if2::Answer,
    octets::Octets,
};
use serde_json::json;

use super::{
    far::{busy, relay},
    world::{POOL, START, World},
};
use crate::{
    account::{self, Keys},
    courier::{Courier, Sent},
    judge::Code,
    store::{
        account as accounts,
        operation::{self, Done},
    },
};

impl World {
    async fn meet(&mut self) -> Result<(), Code> {
        let (user, now) = (Octets(self.buyer.id()), self.now);
        let mut tx = self.store.write().await.expect("a transaction");
        let met = account::meet(&mut tx, &self.identity, (user, POOL), now).await.expect("the database");
        tx.commit().await.expect("a commit");
        met.map_err(|refusal| refusal.code)
    }

    async fn change(&mut self, roles: &[&str], state: Option<&str>) {
        let (user, now) = (Octets(self.buyer.id()), self.now);
        let mut tx = self.store.write().await.expect("a transaction");
        let before = accounts::find(&mut tx, user).await.expect("the database");
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        let stored = account::changed(before.as_ref(), roles, state.map(str::to_owned));
        let about = user.to_string();
        let done = Done { operator: "os:root", act: "account", about: &about, concerns: Some(user), why: "a\ntest" };
        let number = account::note(&mut tx, &done, now).await.expect("the database");
        accounts::put(&mut tx, user, &stored, (number, now)).await.expect("the database");
        tx.commit().await.expect("a commit");
    }

    async fn chain(&self) -> Result<u64, (u64, String)> {
        let keys: Keys<'_> = BTreeMap::from([(self.platform.id(), self.platform.certificate.public_key())]);
        let mut tx = self.store.read().await.expect("a transaction");
        account::check(&mut tx, &keys).await.expect("the database")
    }

    async fn spoil(&self, statement: &str) {
        let mut tx = self.store.write().await.expect("a transaction");
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut *tx).await.expect("a statement");
        tx.commit().await.expect("a commit");
    }
}

#[tokio::test]
async fn who_comes_first_gets_an_account_and_every_change_is_a_link_of_the_chain() {
    let mut world = World::open().await;
    assert_eq!(world.meet().await, Ok(()));
    assert_eq!(world.meet().await, Ok(()), "once");
    world.change(&["provider", "buyer", "buyer"], None).await;
    world.change(&[], Some("suspended")).await;
    assert_eq!(world.chain().await, Ok(1), "what is not signed yet is not in the chain");
    let mut tx = world.store.write().await.expect("a transaction");
    account::seal(&mut tx, &world.identity).await.expect("a signature");
    let user = Octets(world.buyer.id());
    let untold = accounts::untold(&mut tx, 10).await.expect("the database").pop().expect("an account");
    let all = operation::newest(&mut tx, Some(user)).await.expect("the database");
    let none = operation::newest(&mut tx, Some(Octets([1; 32]))).await.expect("the database");
    tx.commit().await.expect("a commit");
    assert_eq!((all.len(), none.len()), (3, 0));
    assert_eq!(all.iter().map(|one| one.act.as_str()).collect::<Vec<_>>(), ["account", "account", "register"]);
    let signed = Signed::from_bytes(&untold.signed).expect("DER");
    assert!(signed.verify(world.platform.certificate.public_key()).is_valid());
    let told: Account = decode(signed.tbs(), "Account").expect("an account");
    told.check().expect("in range");
    assert_eq!(
        (told.revision, told.roles.as_slice(), told.state.as_str()),
        (3, &["buyer", "provider"].map(str::to_owned)[..], "suspended")
    );
    let last = Signed::from_bytes(&all[0].signed.as_ref().expect("signed").0).expect("DER");
    assert_eq!(told.operation, Octets(hufu_gm::sm3::sm3(&[last.tbs()])), "it names the operation that made it");
    let operation: Operation = decode(last.tbs(), "Operation").expect("an operation");
    assert_eq!((operation.number, operation.why.as_str()), (3, "a test"));
    assert_eq!(world.chain().await, Ok(3));
    assert_eq!(world.meet().await, Err(Code::State), "a suspended account buys nothing");
    world.change(&[OPERATOR], Some("active")).await;
    assert_eq!(world.meet().await, Err(Code::State), "nor does one without the role");
    world.change(&[BUYER], None).await;
    assert_eq!(world.meet().await, Ok(()));
    assert_eq!(world.chain().await, Ok(5));
    world
        .spoil("UPDATE operations SET signed = (SELECT o.signed FROM operations o WHERE o.number = 1) WHERE number = 2")
        .await;
    assert_eq!(world.chain().await.map_err(|(number, _)| number), Err(2), "another in its place");
    world.spoil("DELETE FROM operations WHERE number = 1").await;
    assert_eq!(world.chain().await.map_err(|(number, _)| number), Err(2), "the first is gone");
}

#[tokio::test]
async fn a_node_is_told_until_it_answers_for_good() {
    let mut world = World::open().await;
    world.send_all().await;
    assert_eq!(world.meet().await, Ok(()));
    let now: fn() -> i64 = || START;
    let courier = |world: &World, answer| Courier {
        store: world.store.clone(),
        identity: std::sync::Arc::clone(&world.identity),
        relay: relay(world, now, answer),
        worker: None,
    };
    let store = world.store.clone();
    let untold = async || {
        let mut tx = store.read().await.expect("a transaction");
        accounts::untold(&mut tx, 10).await.expect("the database").len()
    };
    let rounds = async |courier: &Courier| {
        let mut sent = Sent::new();
        for _ in 0..3 {
            courier.accounts(&mut sent).await.expect("a round");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    rounds(&courier(&world, busy())).await;
    assert_eq!(untold().await, 1, "busy is no answer");
    let held = json!({ "user": Octets(world.buyer.id()).to_string(), "revision": 1 });
    rounds(&courier(&world, Answer::Ok(held))).await;
    assert_eq!(untold().await, 0);
    let mut tx = world.store.read().await.expect("a transaction");
    let rows = accounts::all(&mut tx).await.expect("the database");
    assert_eq!((rows[0].nodes, rows[0].told, rows[0].revision), (1, 1, 1));
    drop(tx);

    world.change(&[], Some("closed")).await;
    let stale = Answer::Error(Code::State.problem(Some("revision"), "a higher one stands"));
    rounds(&courier(&world, stale)).await;
    assert_eq!(untold().await, 0, "a refusal is an answer for good");
    let mut tx = world.store.read().await.expect("a transaction");
    let rows = accounts::all(&mut tx).await.expect("the database");
    assert_eq!((rows[0].nodes, rows[0].told, rows[0].revision), (1, 0, 2), "and shows");
}
