//! The API over a real loopback socket, on a database that a whole small trade has filled. The node answers in signed
//! envelopes through the inbox, as over MQTT.
#![allow(clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::sync::Arc;

use hufu_audit::{Options, Outcome, verify};
use hufu_ledger::Log;
use hufu_trade::{
    bill::Bill,
    if2::{Answer, Browse, OrderChange, Problem, Sealed, SendOrder},
    notice::Notice,
    octets::rfc3339,
    statement::Statement,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Api, BODY_BYTES_MAX, router};
use crate::{
    judge::Code,
    tests::{
        acts::signed,
        far::{busy, relay},
        parties::{Party, party},
        world::{POOL, SECOND, START, Sold, World},
    },
};

/// Long after the service has ended.
fn late() -> i64 {
    START + 3600 * SECOND
}

/// While it goes on.
fn early() -> i64 {
    START + SECOND
}

/// What came back.
struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Status and code of a problem; both languages must say something.
    fn problem(&self) -> (u16, String) {
        assert!(self.head.to_ascii_lowercase().contains("content-type: application/json"), "{}", self.head);
        let problem: Problem = serde_json::from_value(self.json()).expect("a problem");
        assert!(!problem.remedy.en.is_empty() && !problem.remedy.zh.is_empty());
        (self.status, problem.code)
    }
}

/// The API on a port of its own.
struct Server {
    address: std::net::SocketAddr,
    running: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Server {
    /// The API and, behind it, a node that answers everything with `answer`.
    async fn start(world: &World, now: fn() -> i64, answer: Answer<Value>) -> Self {
        let relay = relay(world, now, answer);
        let api = Api { store: world.store.clone(), identity: Arc::clone(&world.identity), relay, now };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let serve = axum::serve(listener, router(Arc::new(api)));
        let running = tokio::spawn(async move { serve.await.expect("a server") });
        Self { address, running }
    }

    async fn ask(&self, head: &str, body: &[u8]) -> Got {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        let length = body.len();
        let head = format!("{head}\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("a request");
        // A server that has seen enough may close before it has read everything.
        stream.write_all(body).await.ok();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.ok();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..end].to_vec()).expect("text");
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        Got { status, head, body: bytes[end + 4..].to_vec() }
    }

    async fn get(&self, path: &str) -> Got {
        self.ask(&format!("GET {path} HTTP/1.1"), b"").await
    }

    async fn post(&self, path: &str, body: &Value) -> Got {
        let head = format!("POST {path} HTTP/1.1\r\ncontent-type: application/json");
        self.ask(&head, body.to_string().as_bytes()).await
    }
}

/// A trade up to its bill, everything at the platform.
async fn billed() -> (World, Sold, Bill) {
    let mut world = World::open().await;
    let sold = world.sell();
    let bill = world.bill(&sold, |_| {});
    world.send_all().await;
    (world, sold, bill)
}

fn body(request: &impl serde::Serialize) -> Value {
    serde_json::to_value(request).expect("JSON")
}

#[tokio::test]
async fn whatever_is_wrong_with_a_request_is_a_problem() {
    let (world, ..) = billed().await;
    let server = Server::start(&world, late, busy()).await;
    let score = format!("/v1/nodes/{POOL}/score");
    let json = "content-type: application/json";
    let large = vec![b' '; BODY_BYTES_MAX + 1];
    let post = |path: &str, kind: &str| format!("POST {path} HTTP/1.1\r\n{kind}");
    type Row<'a> = (&'a str, String, &'a [u8], (u16, &'a str));
    let table: Vec<Row<'_>> = vec![
        ("unknown path", "GET /v2/nodes HTTP/1.1".to_owned(), b"", (404, "unknown")),
        ("no path", "GET / HTTP/1.1".to_owned(), b"", (404, "unknown")),
        ("wrong method", "DELETE /v1/nodes HTTP/1.1".to_owned(), b"", (405, "malformed")),
        ("get for post", format!("GET {score} HTTP/1.1"), b"", (405, "malformed")),
        ("no content type", format!("POST {score} HTTP/1.1"), b"{}", (415, "malformed")),
        ("a form", post(&score, "content-type: text/plain"), b"{}", (415, "malformed")),
        ("no JSON", post(&score, json), b"{", (400, "malformed")),
        ("another JSON", post(&score, json), b"[]", (400, "malformed")),
        ("a member too many", post(&score, json), br#"{"statement":"","signature":"","x":1}"#, (400, "malformed")),
        ("no statement", post(&score, json), br#"{"statement":"AA","signature":"AA"}"#, (400, "malformed")),
        ("too large", post(&score, json), &large, (413, "malformed")),
        ("a stranger's node", post("/v1/nodes/s1/n2/score", json), b"{}", (404, "unknown")),
        ("no node's name", post("/v1/nodes/s1/N2/score", json), b"{}", (404, "unknown")),
        ("the platform", post("/v1/nodes/s1/platform/score", json), b"{}", (404, "unknown")),
        ("bad escape", post("/v1/nodes/s1/%ff/score", json), b"{}", (404, "unknown")),
        ("no contract", "GET /v1/contracts/ab HTTP/1.1".to_owned(), b"", (404, "unknown")),
        ("no bill", "GET /v1/bills/ab-1 HTTP/1.1".to_owned(), b"", (404, "unknown")),
        ("bad query", "GET /v1/scores?x=1 HTTP/1.1".to_owned(), b"", (400, "malformed")),
        ("no node in the query", "GET /v1/scores?node=s1 HTTP/1.1".to_owned(), b"", (400, "malformed")),
    ];
    for (name, head, body, want) in table {
        let got = server.ask(&head, body).await.problem();
        assert_eq!((got.0, got.1.as_str()), want, "{name}");
    }
}

#[tokio::test]
async fn lists_and_single_things_are_shown() {
    let (world, sold, bill) = billed().await;
    let server = Server::start(&world, late, busy()).await;
    let nodes = server.get("/v1/nodes").await.json();
    assert_eq!(nodes["nodes"][0]["node"], POOL);
    for list in ["products", "scores", "alarms"] {
        assert_eq!(server.get(&format!("/v1/{list}")).await.json()[list], json!([]), "{list}");
    }
    let contract = server.get(&format!("/v1/contracts/{}", sold.no)).await.json();
    assert_eq!((&contract["state"], &contract["product"]), (&"billed".into(), &"small x1".into()));
    let shown = server.get(&format!("/v1/bills/{}", bill.number)).await.json();
    let want = json!({
        "bill_no": bill.number, "contract_no": sold.no, "node": POOL, "total_cny": bill.total.to_string(),
        "due_cny": bill.total.to_string(), "state": "payable", "paid_at": null, "refunded_cny": null,
        "refunded_at": null,
    });
    assert_eq!(shown, want);
}

#[tokio::test]
async fn only_signed_requests_of_known_buyers_reach_a_node() {
    let (world, sold, _) = billed().await;
    let server = Server::start(&world, late, busy()).await;
    let browse = |statement: &Statement, chain: &Party| {
        let SendOrder { statement, signature } = world.signed(statement);
        let certificates = vec![Sealed(chain.certificate.der().to_vec())];
        body(&Browse { statement, signature, certificates, product_id: "small".to_owned() })
    };
    let (buyer, stranger, self_made) =
        (&world.buyer, party(Some(&world.root), "other", 8), party(None, "self-made", 9));
    let mut spoilt = world.signed(&world.browse());
    spoilt.signature = world.signed(&world.score(&sold, 1)).signature;
    let mut unsigned = browse(&world.browse(), buyer);
    unsigned["signature"] = body(&spoilt.signature);
    let elsewhere = Statement { computing_pool_id: "s1/n9".to_owned(), ..world.score(&sold, 1) };
    for (name, verb, request, want) in [
        ("the right one", "browse", browse(&world.browse(), buyer), (504, "busy")),
        ("another's certificate", "browse", browse(&world.browse(), &stranger), (403, "certificate")),
        ("no anchor", "browse", browse(&world.browse(), &self_made), (403, "certificate")),
        ("another signature", "browse", unsigned, (403, "signature")),
        ("a score for a browse", "browse", browse(&world.score(&sold, 1), buyer), (400, "malformed")),
        ("a browse for an order", "order", body(&world.signed(&world.browse())), (400, "malformed")),
        ("another node's", "score", body(&world.signed(&elsewhere)), (400, "malformed")),
    ] {
        let got = server.post(&format!("/v1/nodes/{POOL}/{verb}"), &request).await.problem();
        assert_eq!((got.0, got.1.as_str()), want, "{name}");
    }
}

#[tokio::test]
async fn only_the_buyers_notices_reach_a_node() {
    let (world, sold, bill) = billed().await;
    let path = format!("/v1/nodes/{POOL}/order-change");
    let request = |notice: &Notice, by: &Party| {
        let notice = Sealed(signed(notice, by).to_bytes().expect("DER"));
        body(&OrderChange { notice })
    };
    let right = world.notice(&sold, "dispute");
    let elsewhere = Notice { computing_pool_id: "s1/n9".to_owned(), ..right.clone() };
    let (nameless, stranger) = (Notice { bill: None, ..right.clone() }, party(Some(&world.root), "other", 8));
    let server = Server::start(&world, late, busy()).await;
    for (name, request, want) in [
        ("the right one", request(&right, &world.buyer), (504, "busy")),
        ("a stranger's", request(&right, &stranger), (403, "signature")),
        ("the platform's own", request(&right, &world.platform), (403, "signature")),
        ("another node's", request(&elsewhere, &world.buyer), (400, "malformed")),
        ("a dispute of nothing", request(&nameless, &world.buyer), (400, "malformed")),
        ("no notice", json!({ "notice": "AA" }), (400, "malformed")),
        ("a member too many", json!({ "notice": "AA", "x": 1 }), (400, "malformed")),
    ] {
        let got = server.post(&path, &request).await.problem();
        assert_eq!((got.0, got.1.as_str()), want, "{name}");
    }
    let accepted = json!({ "contract_no": sold.no, "height": 9, "index": 0 });
    let server = Server::start(&world, late, Answer::Ok(accepted.clone())).await;
    assert_eq!(server.post(&path, &request(&right, &world.buyer)).await.json(), accepted, "{}", bill.number);
}

#[tokio::test]
async fn what_a_node_answers_goes_back_as_it_is() {
    let (world, ..) = billed().await;
    let SendOrder { statement, signature } = world.signed(&world.browse());
    let certificates = vec![Sealed(world.buyer.certificate.der().to_vec())];
    let request = body(&Browse { statement, signature, certificates, product_id: "small".to_owned() });
    let path = format!("/v1/nodes/{POOL}/browse");
    let stock = Answer::Error(Code::Stock.problem(Some("quantity"), "two are left"));
    let server = Server::start(&world, late, stock).await;
    let got = server.post(&path, &request).await;
    assert_eq!((got.problem(), &got.json()["field"]), ((409, "stock".to_owned()), &"quantity".into()));
    let server = Server::start(&world, late, Answer::Ok(json!({ "contract_no": "ab" }))).await;
    let got = server.post(&path, &request).await;
    assert_eq!((got.status, got.json()), (200, json!({ "contract_no": "ab" })));
    // That was for good: asked again, it is answered from what is stored.
    let server = Server::start(&world, late, busy()).await;
    assert_eq!(server.post(&path, &request).await.json(), json!({ "contract_no": "ab" }));
}

#[tokio::test]
async fn an_order_asked_again_is_answered_with_its_address() {
    let (world, sold, _) = billed().await;
    let request = body(&world.signed(&sold.order));
    let path = format!("/v1/nodes/{POOL}/order");
    let first = json!({ "contract_no": sold.no, "height": 2, "index": 0 });
    let server = Server::start(&world, early, Answer::Ok(first.clone())).await;
    assert_eq!(server.post(&path, &request).await.json(), first, "the place is not made yet");
    let server = Server::start(&world, early, busy()).await;
    assert_eq!(server.post(&path, &request).await.json(), first, "what was accepted stands");
    let mut later = first;
    later["address"] = json!("ssh://n1.s1.example");
    let server = Server::start(&world, early, Answer::Ok(later.clone())).await;
    assert_eq!(server.post(&path, &request).await.json(), later);
    let server = Server::start(&world, early, busy()).await;
    assert_eq!(server.post(&path, &request).await.json(), later, "from what is stored");
}

#[tokio::test]
async fn a_score_is_kept_although_its_node_is_away_and_only_if_it_is_right() {
    let (mut world, sold, _) = billed().await;
    let path = format!("/v1/nodes/{POOL}/score");
    let server = Server::start(&world, early, busy()).await;
    let right = body(&world.signed(&world.score(&sold, 20)));
    assert_eq!(server.post(&path, &right).await.problem(), (504, "busy".to_owned()));
    let none = server.get("/v1/scores").await.json();
    assert_eq!(none["scores"], json!([]), "nothing is scored while the service goes on");

    let server = Server::start(&world, late, busy()).await;
    let change = |change: fn(&mut Statement)| {
        let mut statement = world.score(&sold, 20);
        change(&mut statement);
        body(&world.signed(&statement))
    };
    // The score of one kind alone is its overall score.
    let only_cpu = change(|s| {
        let card = s.score.as_mut().expect("a card");
        card.items.truncate(1);
        card.overall = 2000;
    });
    let mut forged = world.signed(&world.score(&sold, 20));
    let thief = party(Some(&world.root), "thief", 9);
    forged.signature = Sealed(thief.key.sign(&forged.statement.0).expect("a signature"));
    for (name, request, want) in [
        ("forged", body(&forged), (403, "signature")),
        ("another overall score", change(|s| s.score.as_mut().expect("a card").overall += 1), (409, "amount")),
        ("another deal", change(|s| s.follows = s.offer), (409, "offer")),
        ("one kind of two", only_cpu, (400, "malformed")),
        ("the right one", right.clone(), (504, "busy")),
        ("again", right.clone(), (504, "busy")),
        ("a second one", body(&world.signed(&world.score(&sold, 99))), (409, "duplicate")),
    ] {
        let got = server.post(&path, &request).await.problem();
        assert_eq!((got.0, got.1.as_str()), want, "{name}");
    }
    let kept = server.get(&format!("/v1/scores?node={POOL}")).await.json();
    assert_eq!(kept["scores"].as_array().map(Vec::len), Some(1));
    assert_eq!((&kept["scores"][0]["in_log"], &kept["scores"][0]["statement"]), (&false.into(), &right["statement"]));
    assert_eq!(server.get("/v1/scores?node=s1/n2").await.json()["scores"], json!([]));

    world.now = late();
    world.log_score(&sold, 20);
    assert_eq!(world.send(Log::Trade, 0).await.problems, Vec::<String>::new());
    let kept = server.get("/v1/scores").await.json();
    assert_eq!(kept["scores"][0]["in_log"], true, "the node's log has it now");
}

/// A request for a pack, signed by `by` at `at`.
fn pack_request(by: &Party, number: &str, at: i64) -> Value {
    let at = rfc3339(at);
    let signature = by.key.sign(format!("hufu-pack-v1\n{number}\n{at}").as_bytes()).expect("a signature");
    json!({ "certificates": [Sealed(by.certificate.der().to_vec())], "at": at, "signature": Sealed(signature) })
}

#[tokio::test]
async fn a_pack_goes_to_the_contracts_buyer_and_nobody_else() {
    let (world, _, bill) = billed().await;
    let server = Server::start(&world, late, busy()).await;
    let (number, buyer) = (bill.number.as_str(), &world.buyer);
    let path = format!("/v1/bills/{number}/pack");
    let stranger = party(Some(&world.root), "other", 8);
    let mut borrowed = pack_request(&stranger, number, late());
    borrowed["certificates"] = pack_request(buyer, number, late())["certificates"].clone();
    let mut moved = pack_request(buyer, number, late());
    moved["at"] = rfc3339(late() + 1).into();
    let mut nobody = pack_request(buyer, number, late());
    nobody["certificates"] = json!([]);
    let mut no_time = pack_request(buyer, number, late());
    no_time["at"] = "now".into();
    for (name, path, request, want) in [
        ("a stranger", path.as_str(), pack_request(&stranger, number, late()), (403, "certificate")),
        ("the node", &path, pack_request(&world.node, number, late()), (403, "certificate")),
        ("a borrowed certificate", &path, borrowed, (403, "signature")),
        ("no certificate", &path, nobody, (403, "certificate")),
        ("an old request", &path, pack_request(buyer, number, late() - 301 * SECOND), (403, "signature")),
        ("one from the future", &path, pack_request(buyer, number, late() + 301 * SECOND), (403, "signature")),
        ("another time than signed", &path, moved, (403, "signature")),
        ("no time", &path, no_time, (400, "malformed")),
        ("another bill's", &path, pack_request(buyer, "ab-1", late()), (403, "signature")),
        ("no such bill", "/v1/bills/ab-1/pack", pack_request(buyer, "ab-1", late()), (404, "unknown")),
    ] {
        let got = server.post(path, &request).await.problem();
        assert_eq!((got.0, got.1.as_str()), want, "{name}");
    }
    let got = server.post(&path, &pack_request(buyer, number, late() - 299 * SECOND)).await;
    assert_eq!(got.status, 200, "{}", got.head);
    assert!(got.head.contains("application/zip"), "{}", got.head);
    let anchors = std::slice::from_ref(&world.root.certificate);
    let found = verify(std::io::Cursor::new(got.body), anchors, Options::default()).expect("a pack");
    let results = [found.signatures, found.completeness, found.data_quality, found.arithmetic].map(|v| v.result);
    assert_eq!((results, found.recomputed_total), ([Outcome::Pass; 4], Some(bill.total)));
}

#[tokio::test]
async fn a_damaged_database_is_our_fault_and_says_nothing_more() {
    let (world, ..) = billed().await;
    let server = Server::start(&world, late, busy()).await;
    let mut tx = world.store.write().await.expect("a transaction");
    sqlx::query("DROP TABLE scores").execute(&mut *tx).await.expect("a statement");
    tx.commit().await.expect("a commit");
    let got = server.get("/v1/scores").await;
    assert_eq!(got.problem(), (500, "busy".to_owned()));
    assert!(!String::from_utf8_lossy(&got.body).contains("table"), "no inner detail");
    assert_eq!(server.get("/v1/nodes").await.status, 200);
}
