//! What was acknowledged and is lost: blocks given back, epochs over what is held, over what is lost, and over nothing.

use hufu_ledger::{KeptBlock, Log, NO_KEY, NewBlock, NewEntry, Signer, TimeQuality, TimeState};
use hufu_trade::{
    decode, encode,
    entry::{EntryKind, Epoch},
    if2::{Answer, Blocks, Envelope, Fetch, Held, Interface, PLATFORM, Sealed, Topic},
    octets::Octets,
};

use super::{
    judgement::{alarm_codes, states},
    world::{POOL, World, new_ledger},
};
use crate::store::list;

const QUALITY: TimeQuality = TimeQuality { state: TimeState::Synchronised, max_error_ns: Some(1000) };

impl World {
    /// The ledger as it was with so many blocks in the trade log and in the finance log.
    fn put_back(&mut self, name: &str, [trade, finance]: [u64; 2]) {
        let mut older = new_ledger(&self.folder, name);
        for (log, size) in [(Log::Trade, trade), (Log::Finance, finance)] {
            for height in 0..size {
                let bytes = self.ledger.block(log, height).expect("a block");
                let held = self.ledger.held(log, height).expect("a block");
                let keys = vec![NO_KEY; held.entries().len()];
                older.restore(&[KeptBlock { bytes, keys, sealed: Vec::new() }]).expect("a block of its own");
            }
        }
        self.ledger = older;
    }

    /// Opens an epoch in a log with these entries.
    fn open_epoch(&mut self, log: Log, epoch: u64, entries: &[Epoch]) {
        let entry = |found: &Epoch| NewEntry {
            kind: EntryKind::Epoch.number(),
            body: encode(found, "Epoch").expect("DER"),
            key: NO_KEY,
            sealed: false,
        };
        let block = NewBlock { log, entries: entries.iter().map(entry).collect() };
        let signer = Signer { key: &self.node.key, cert_id: self.node.id(), salt_key: &[7; 32] };
        self.ledger.append(&[block], &signer, epoch, self.now, QUALITY).expect("an append");
    }

    fn epoch(&self, log: Log, receipted: u64) -> Epoch {
        let (held, why) = (self.ledger.size(log), "the disk was lost".to_owned());
        Epoch { epoch: 1, log: log.number(), held, receipted, why, answer: None }
    }

    /// The platform's database loses blocks, and nothing that followed from them.
    async fn lose(&self, log: Log, from: u64) {
        let mut tx = self.store.write().await.expect("a transaction");
        let delete = "DELETE FROM blocks WHERE log = $1 AND height >= $2";
        let from = i64::try_from(from).expect("small");
        let query = sqlx::query(delete).bind(i64::from(log.number())).bind(from);
        assert_ne!(query.execute(&mut *tx).await.expect("a query").rows_affected(), 0);
        tx.commit().await.expect("a commit");
    }

    async fn count(&self, table: &str) -> i64 {
        let mut tx = self.store.read().await.expect("a transaction");
        let select = format!("SELECT COUNT(*) FROM {table}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(select)).fetch_one(&mut *tx).await.expect("a query")
    }

    /// Asks for what the platform holds of a log from a height on.
    async fn fetch(&mut self, log: u8, from: u64) -> (Result<Held, String>, Option<Blocks>) {
        let certificates = vec![Sealed(self.node.certificate.der().to_vec())];
        let asked = Fetch { log, from, certificates };
        let (key, id) = (&self.node.key, Octets(self.node.id()));
        let now = Some(self.now);
        let (id, payload) = Envelope::seal(Interface::Fetch, POOL, PLATFORM, self.now, None, now, &asked, key, id)
            .expect("an envelope");
        let topic = Topic::Call { pool: POOL.to_owned(), interface: Interface::Fetch, answer: false };
        let taken = self.inbox.take(self.now, &topic, &payload).await.expect("the database");
        let [first, rest @ ..] = &taken.outgoing[..] else { panic!("no answer") };
        let envelope = Envelope::parse(&first.payload).expect("an envelope");
        let key = self.identity.key.public_key();
        let opened =
            envelope.open::<Answer<Held>>(&key, Interface::Fetch, POOL, &first.payload).expect("the platform's");
        assert_eq!(opened.payload.re, Some(id));
        let blocks = rest.first().map(|second| decode(&second.payload, "Blocks").expect("blocks"));
        let held = match opened.payload.body {
            Answer::Ok(held) => Ok(held),
            Answer::Error(problem) => Err(problem.code),
        };
        (held, blocks)
    }
}

#[tokio::test]
async fn a_node_gets_back_what_is_held_and_the_roots_to_judge_it_by() {
    let mut world = World::open().await;
    let (nothing, blocks) = world.fetch(0, 0).await;
    let nothing = nothing.expect("an answer, which has introduced the node");
    assert_eq!((nothing.size, nothing.receipted, nothing.next, blocks), (0, 0, None, None));
    world.sell();
    world.send_all().await;
    let size = world.ledger.size(Log::Trade);
    let (held, blocks) = world.fetch(0, 2).await;
    let (held, blocks) = (held.expect("an answer"), blocks.expect("blocks"));
    assert_eq!((held.size, held.receipted, held.next), (size, size, Some(size)));
    assert_eq!((held.root.0, held.next_root), (world.ledger.root(Log::Trade), Some(held.root)));
    assert_eq!((blocks.log, blocks.first, blocks.blocks.len() as u64), (0, 2, size - 2));
    for (height, bytes) in (2..).zip(&blocks.blocks) {
        assert_eq!(bytes.as_bytes(), world.ledger.block(Log::Trade, height).expect("a block"));
    }
    for from in [size, size + 5, u64::MAX] {
        let (held, blocks) = world.fetch(0, from).await;
        assert_eq!((held.expect("an answer").next, blocks), (None, None), "nothing more");
    }
    assert_eq!(world.fetch(2, 0).await.0, Err("malformed".to_owned()));
    let mut tx = world.store.write().await.expect("a transaction");
    sqlx::query("DELETE FROM blocks WHERE height = 3").execute(&mut *tx).await.expect("a query");
    tx.commit().await.expect("a commit");
    assert_eq!(world.fetch(0, 3).await.0, Err("unknown".to_owned()), "later ones are held: nobody may sign it again");
    assert_eq!(world.fetch(0, 2).await.1.expect("blocks").blocks.len(), 1);
}

#[tokio::test]
async fn an_epoch_over_what_is_held_is_a_fork_and_one_at_the_end_is_taken() {
    let mut world = World::open().await;
    world.sell();
    world.send_all().await;
    let size = world.ledger.size(Log::Trade);
    world.put_back("older", [size - 1, 0]);
    let entry = world.epoch(Log::Trade, size);
    world.open_epoch(Log::Trade, 1, &[entry]);
    assert_eq!(world.send(Log::Trade, size - 1).await.problems, ["duplicate"]);
    assert_eq!(alarm_codes(&world).await, ["fork"]);
    assert_eq!((world.count("forks").await, world.count("epochs").await), (1, 0));

    let mut world = World::open().await;
    let mut sold = world.sell();
    world.send_all().await;
    let entry = world.epoch(Log::Trade, 0);
    for (name, change) in [
        ("receipts name more", &(|_: &mut Epoch| {}) as &dyn Fn(&mut Epoch)),
        ("another epoch", &|epoch| (epoch.epoch, epoch.receipted) = (2, 99)),
        ("another height", &|epoch| (epoch.held, epoch.receipted) = (1, 99)),
        ("another log", &|epoch| (epoch.log, epoch.receipted) = (1, 99)),
    ] {
        let mut wrong = entry.clone();
        change(&mut wrong);
        let size = world.ledger.size(Log::Trade);
        world.put_back(&format!("for {name}"), [size, 0]);
        world.open_epoch(Log::Trade, 1, &[wrong]);
        let code = if name == "receipts name more" { "state" } else { "malformed" };
        assert_eq!(world.send(Log::Trade, size).await.problems, [code], "{name}");
        world.put_back(&format!("after {name}"), [size, 0]);
    }
    assert_eq!((world.count("epochs").await, world.count("forks").await), (0, 0));
    let size = world.ledger.size(Log::Trade);
    let others = world.epoch(Log::Finance, 0);
    world.open_epoch(Log::Trade, 1, &[Epoch { receipted: size, ..entry }, others.clone()]);
    world.open_epoch(Log::Finance, 1, &[others]);
    world.bill(&sold, |_| {});
    sold.records.clear();
    world.send_all().await;
    assert_eq!(states(&world).await, ("billed".to_owned(), vec!["payable".to_owned()]), "nothing went back");
    assert_eq!(world.count("epochs").await, 2);
    assert!(alarm_codes(&world).await.starts_with(&["epoch".to_owned(), "epoch".to_owned()]));
    // An entry that opens an epoch where none begins stays, refused.
    let again = world.epoch(Log::Trade, 99);
    world.append(Log::Trade, vec![(EntryKind::Epoch, None, encode(&again, "Epoch").expect("DER"))]);
    let at = world.ledger.size(Log::Trade) - 1;
    let refused = world.send(Log::Trade, at).await.receipt.expect("a receipt").refused;
    assert_eq!(refused.iter().map(|entry| entry.code.as_str()).collect::<Vec<_>>(), ["malformed"]);
}

#[tokio::test]
async fn what_is_lost_is_set_aside_and_the_new_epoch_counts() {
    let mut world = World::open().await;
    let sold = world.sell();
    world.bill(&sold, |_| {});
    world.send_all().await;
    let [trade, finance] = [Log::Trade, Log::Finance].map(|log| world.ledger.size(log));
    assert_eq!(states(&world).await, ("billed".to_owned(), vec!["payable".to_owned()]));
    // The deal stands at height 5; usage, the end and the bill are lost.
    world.lose(Log::Trade, 6).await;
    world.lose(Log::Finance, 0).await;
    let held = world.fetch(0, 6).await.0.expect("an answer");
    assert_eq!((held.size, held.receipted, held.next), (6, trade, None));
    assert_eq!(held.receipted_root, Some(Octets(world.ledger.root(Log::Trade))), "the root of what is lost");
    world.put_back("older", [6, 0]);
    assert_eq!(held.root.0, world.ledger.root(Log::Trade));
    let (of_trade, of_finance) = (world.epoch(Log::Trade, trade), world.epoch(Log::Finance, finance));
    world.open_epoch(Log::Trade, 1, &[of_trade, of_finance.clone()]);
    world.open_epoch(Log::Finance, 1, &[of_finance]);
    for log in [Log::Trade, Log::Finance] {
        let first = if log == Log::Trade { 6 } else { 0 };
        let receipt = world.send(log, first).await.receipt.expect("a receipt");
        assert_eq!((receipt.size, receipt.root.0), (world.ledger.size(log), world.ledger.root(log)));
    }
    assert_eq!(states(&world).await, ("serving".to_owned(), vec!["lost".to_owned()]));
    let codes = alarm_codes(&world).await;
    assert_eq!(codes.iter().filter(|code| *code == "epoch").count(), 2);
    assert!(codes.contains(&"lost".to_owned()), "{codes:?}");
    assert_ne!((world.count("lost_entries").await, world.count("lost_receipts").await), (0, 0), "nothing goes unseen");
    let mut tx = world.store.read().await.expect("a transaction");
    let usage = serde_json::to_value(list::usage(&mut tx).await.expect("usage")).expect("JSON");
    assert_eq!(usage, serde_json::json!([]));
    drop(tx);
    // Once more, and the same again.
    let again = world.fetch(0, world.ledger.size(Log::Trade)).await.0.expect("an answer");
    assert_eq!((again.size, again.receipted), (world.ledger.size(Log::Trade), again.size));
    // The service goes on in the new epoch: the node bills what it knows.
    let mut sold = sold;
    sold.records.clear();
    world.serve(&mut sold);
    world.bill(&sold, |_| {});
    world.send_all().await;
    let (state, mut bills) = states(&world).await;
    bills.sort();
    assert_eq!((state, bills), ("billed".to_owned(), vec!["lost".to_owned(), "payable".to_owned()]));
}

#[tokio::test]
async fn a_node_that_still_has_the_blocks_sends_them_again_and_nothing_else_is_taken() {
    let mut world = World::open().await;
    let sold = world.sell();
    world.bill(&sold, |_| {});
    world.send_all().await;
    let receipt = world.send(Log::Finance, 0).await.receipt;
    world.lose(Log::Trade, 4).await;
    world.lose(Log::Finance, 0).await;
    world.send(Log::Trade, 4).await;
    assert_eq!(world.send(Log::Finance, 0).await.receipt, receipt, "the same blocks, the same receipt");
    world.send_all().await;
    assert_eq!(states(&world).await, ("billed".to_owned(), vec!["payable".to_owned()]));
    assert_eq!((world.count("lost_entries").await, world.count("epochs").await), (0, 0));

    let size = world.ledger.size(Log::Trade);
    world.lose(Log::Trade, size - 1).await;
    world.put_back("older", [size - 1, 1]);
    world.append(Log::Trade, vec![(EntryKind::Rules, None, b"another".to_vec())]);
    assert_eq!(world.send(Log::Trade, size - 1).await.problems, ["duplicate"], "not what the receipt was given for");
    assert_eq!(world.count("forks").await, 1);
    assert!(alarm_codes(&world).await.contains(&"fork".to_owned()));
}
