//! Books that are compared, changes that are told to the operator's own system, what is taken off sale, and headers that convict.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hufu_audit::reconciliation::compare;
use hufu_gm::{PublicKey, Signed};
use hufu_ledger::{Block, BlockHeader, ForkProof, Log};
use hufu_trade::{
    encode,
    if2::{Told, Topic, peers::Headers},
    reconciliation::{Cause, Reconciliation, Side},
};
use serde_json::Value;
use tokio::sync::{mpsc::Receiver, watch};

use super::{
    parties::{Party, party},
    world::{POOL, SECOND, START, World},
};
use crate::{
    callback::{self, Teller},
    judge::Code,
    reconciliation,
    store::{
        bill::{self, Moved},
        delisting, fork,
    },
};

const PERIOD: (i64, i64) = (START - SECOND, START + 36_000 * SECOND);

impl World {
    /// The node's signed statement: its log, as the platform holds it.
    async fn node_books(&mut self, by: &Party, edit: impl FnOnce(&mut Reconciliation)) -> Vec<u8> {
        let mut tx = self.store.read().await.expect("a transaction");
        let made = reconciliation::books(&mut tx, POOL, PERIOD, (Side::Node, None), self.now).await;
        let mut books = made.expect("the database");
        edit(&mut books);
        let der = encode(&books, "Reconciliation").expect("DER");
        Signed::seal(der, &by.id(), &by.key).expect("a signature").to_bytes().expect("DER")
    }

    /// The platform's answer: the causes of all differences.
    async fn reconcile(&mut self, signed: &[u8]) -> Result<Vec<Cause>, Code> {
        let mut tx = self.store.write().await.expect("a transaction");
        let done = reconciliation::answer(&mut tx, &self.identity, self.now, (POOL, signed)).await;
        let done = done.expect("the database");
        tx.commit().await.expect("a commit");
        let (theirs, own) = done.map_err(|refusal| refusal.code)?;
        assert!(own.is_by([&self.platform.certificate]));
        let found = compare(&theirs, &own).expect("one answers the other");
        Ok(found.differences.iter().map(|found| found.cause).collect())
    }

    async fn record(&mut self, number: &str, amount: &str) {
        let paid = Moved { amount: amount.to_owned(), reference: "r".to_owned(), at_ns: self.now };
        let mut tx = self.store.write().await.expect("a transaction");
        bill::pay(&mut tx, number, &paid).await.expect("the database");
        tx.commit().await.expect("a commit");
    }
}

#[tokio::test]
async fn both_sides_books_are_compared_and_signed() {
    let mut world = World::open().await;
    let sold = world.sell();
    let billed = world.bill(&sold, |_| ());
    world.send_all().await;
    let node = party(Some(&world.root), POOL, 3);
    let first = world.node_books(&node, |_| ()).await;
    assert_eq!(world.reconcile(&first).await, Ok(vec![]));
    assert_eq!(world.reconcile(&first).await, Ok(vec![]), "the same again is the same answer");

    world.now += SECOND;
    world.record(&billed.number, &billed.total.to_string()).await;
    let paid = world.node_books(&node, |_| ()).await;
    assert_eq!(world.reconcile(&paid).await, Ok(vec![Cause::NotConfirmed]));
    assert_eq!(
        world.reconcile(&first).await,
        Ok(vec![Cause::NotConfirmed]),
        "an earlier statement is judged by what is known now"
    );

    // What the platform has not received, and what the node never had.
    let more = world.node_books(&node, |books| {
        let mut line = books.lines[0].clone();
        line.number = "ff".repeat(16);
        let entry = line.entry.as_mut().expect("an entry");
        entry.height = books.trade_size;
        books.lines.push(line);
        books.lines.remove(1);
    });
    let more = more.await;
    assert_eq!(world.reconcile(&more).await, Ok(vec![Cause::NotSent, Cause::Missing, Cause::NotConfirmed]));

    let stranger = party(Some(&world.root), "buyer-1", 4);
    let foreign = world.node_books(&stranger, |_| ()).await;
    assert_eq!(world.reconcile(&foreign).await, Err(Code::Signature));
    let elsewhere = world.node_books(&node, |books| books.computing_pool_id = "s1/n2".to_owned()).await;
    assert_eq!(world.reconcile(&elsewhere).await, Err(Code::Malformed));
    let own_side = world.node_books(&node, |books| books.side = 1).await;
    assert_eq!(world.reconcile(&own_side).await, Err(Code::Malformed));
    assert_eq!(world.reconcile(&[0x30, 0]).await, Err(Code::Malformed));
}

/// A receiver that answers with these statuses in turn, and the last for ever; what it was told.
fn receiver(statuses: Vec<&'static str>) -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/told", listener.local_addr().expect("an address"));
    let (sender, told) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        for (turn, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let mut bytes = Vec::new();
            let mut piece = [0; 4096];
            let body = loop {
                let count = stream.read(&mut piece).unwrap_or(0);
                bytes.extend_from_slice(&piece[..count]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length =
                    head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                if count == 0 || body.len() >= length.unwrap_or(0) {
                    break body.to_owned();
                }
            };
            let status = statuses.get(turn).or(statuses.last()).copied().unwrap_or("200 OK");
            let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            if sender.blocking_send(serde_json::from_str(&body).expect("JSON")).is_err() {
                return;
            }
        }
    });
    (url, told)
}

/// The next thing told, its signature verified.
async fn next(told: &mut Receiver<Value>, key: &PublicKey) -> Value {
    let message =
        tokio::time::timeout(Duration::from_secs(20), told.recv()).await.expect("in time").expect("a message");
    let text = |name: &str| message[name].as_str().expect("text").to_owned();
    let sig = URL_SAFE_NO_PAD.decode(text("sig")).expect("base64url");
    assert!(key.verify(text("payload").as_bytes(), &sig).is_valid());
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text("payload")).expect("base64url")).expect("JSON")
}

#[tokio::test]
async fn changes_of_orders_and_bills_are_told_until_they_are_taken() {
    let mut world = World::open().await;
    let (url, mut told) = receiver(vec!["500 Oops", "200 OK"]);
    callback::tell(&world.store, Some(&url)).await.expect("the database");
    let sold = world.sell();
    let billed = world.bill(&sold, |_| ());
    world.send_all().await;
    let (stop, stopped) = watch::channel(false);
    let teller =
        Teller { store: world.store.clone(), identity: Arc::clone(&world.identity), url, worker: None, now: || START };
    let running = tokio::spawn(teller.run(stopped));
    let key = world.identity.key.public_key();
    let (refused, bill) = (next(&mut told, &key).await, next(&mut told, &key).await);
    assert_eq!(refused, bill, "what was not taken is told again");
    assert_eq!((bill["event"].as_str(), &bill["bill"]["bill_no"]), (Some("bill"), &billed.number.as_str().into()));
    let order = next(&mut told, &key).await;
    assert_eq!(order["order"]["contract_no"], sold.no.to_string(), "{order}");
    world.record(&billed.number, &billed.total.to_string()).await;
    let paid = next(&mut told, &key).await;
    assert_eq!(paid["bill"]["state"], "paid", "{paid}");
    stop.send_replace(true);
    running.await.expect("the teller ends");
    // With nobody to be told nothing is marked.
    callback::tell(&world.store, None).await.expect("the database");
    world.record(&billed.number, "0.01").await;
    let mut tx = world.store.read().await.expect("a transaction");
    assert_eq!(crate::store::change::waiting(&mut tx, ("", ""), 9).await.expect("the database"), []);
}

#[tokio::test]
async fn what_is_taken_off_sale_is_so_until_it_is_put_back() {
    let world = World::open().await;
    let mut tx = world.store.write().await.expect("a transaction");
    assert!(!delisting::remove(&mut tx, (POOL, "small")).await.expect("the database"));
    delisting::add(&mut tx, (POOL, "small"), "no licence", world.now).await.expect("the database");
    delisting::add(&mut tx, (POOL, "small"), "no licence yet", world.now).await.expect("the database");
    assert_eq!(delisting::of(&mut tx, POOL, "small").await.expect("the database").as_deref(), Some("no licence yet"));
    assert_eq!(delisting::of(&mut tx, POOL, "large").await.expect("the database"), None);
    delisting::add(&mut tx, (POOL, delisting::SHOP), "closed", world.now).await.expect("the database");
    assert_eq!(delisting::of(&mut tx, POOL, "large").await.expect("the database").as_deref(), Some("closed"));
    assert_eq!(delisting::all(&mut tx).await.expect("the database").len(), 2);
    assert!(delisting::remove(&mut tx, (POOL, delisting::SHOP)).await.expect("the database"));
    assert_eq!(delisting::of(&mut tx, POOL, "large").await.expect("the database"), None);
}

/// The signed header of a block.
fn header(world: &World, height: u64) -> Signed {
    let bytes = world.ledger.block(Log::Trade, height).expect("a block");
    Block::from_bytes(&bytes).expect("a block").signed().clone()
}

impl World {
    async fn headers(&mut self, first: u64, headers: Vec<Signed>) -> Vec<Topic> {
        let payload = Headers::new(POOL, 0, first, headers).to_bytes().expect("DER");
        let topic = Topic::Ledger { pool: POOL.to_owned(), told: Told::Headers };
        let taken = self.inbox.take(self.now, &topic, &payload).await.expect("the database");
        taken.outgoing.into_iter().map(|outgoing| outgoing.topic).collect()
    }

    async fn proofs(&mut self) -> Vec<ForkProof> {
        let mut tx = self.store.read().await.expect("a transaction");
        let rows = fork::all(&mut tx).await.expect("the database");
        rows.iter().map(|row| ForkProof::from_bytes(&hex::decode(&row.proof).expect("hex")).expect("a proof")).collect()
    }
}

#[tokio::test]
async fn headers_of_two_pasts_become_one_proof_whichever_comes_first() {
    for blocks_first in [true, false] {
        let mut world = World::open().await;
        // By the certificates in its first blocks a node is known.
        world.send_all().await;
        world.sell();
        let own = header(&world, 2);
        let mut other = BlockHeader::from_bytes(own.tbs()).expect("a header");
        other.root = [9; 32];
        let (id, key) = (world.node.id(), &world.node.key);
        let second = Signed::seal(other.to_bytes().expect("DER"), &id, key).expect("a signature");
        let told = if blocks_first {
            world.send_all().await;
            world.headers(2, vec![second.clone()]).await
        } else {
            // Seen before its block has come: kept until then.
            assert_eq!(world.headers(2, vec![second.clone()]).await, []);
            world.send_all().await;
            world.headers(2, vec![own.clone()]).await
        };
        assert_eq!(world.headers(2, vec![own.clone()]).await, [], "what is known says nothing");
        let proofs = world.proofs().await;
        assert_eq!((told.len(), proofs.len()), (1, 1), "{blocks_first}");
        let ders = [world.node.certificate.der().to_vec()];
        assert_eq!(
            proofs[0],
            ForkProof::of_headers(&second, &own, &ders).expect("a proof"),
            "the same file as anybody's"
        );
        assert_eq!(world.headers(2, vec![second]).await, [], "once");
        let stranger = party(Some(&world.root), "buyer-1", 4);
        let forged = Signed::seal(own.tbs().to_vec(), &stranger.id(), &stranger.key).expect("a signature");
        world.headers(2, vec![forged]).await;
        assert_eq!(world.proofs().await.len(), 1, "nobody else convicts it");
    }
}
