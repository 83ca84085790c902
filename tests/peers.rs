//! Nodes and a platform as processes of their own over a real broker (mosquitto, or a cluster of NATS JetStream of which one broker is killed):
//! they cosign each other's checkpoints while one is away, one is flooded with in its name, and one is put back from a backup while the platform
//! is away and signs a second past. The two honest ones and the platform end with the same proof, and honest bills verify with their witnesses.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::{fs, path::Path};

use hufu_tests::{
    broker::Given,
    flood::{Flood, Listener},
    house::{House, PRODUCT},
    peer::{Peer, resident_kib},
    program::{self, Daemon, Ran, hufu},
    trade::{Contract, bill, buy_of, records_in, text},
    wait,
};
use serde_json::json;

/// n1 forks, n2 and n3 are honest and n3 is away for a while, n4 floods.
const NAMES: [&str; 4] = ["s1/n1", "s1/n2", "s1/n3", "s1/n4"];
/// What stands for days: a program cannot be told another time, and what a node has missed is counted in blocks. So many are more than it may
/// ask for at once (192), and more checkpoints than a witness remembers.
const BLOCKS_MISSED: u64 = 200;
/// By so much the memory of a program may grow under a flood, KiB: what may wait for the peers' thread is 512 messages of 64 KiB.
const GROWTH_MAX_KIB: u64 = 32 * 1024;

/// Everybody, and where they meet.
struct Site {
    house: House,
    broker: Given,
    url: String,
}

impl Site {
    fn platform(&self) -> (Daemon, String) {
        let (daemon, url, _) = self.house.platform(&["--broker", &self.broker.address()]);
        (daemon, url)
    }

    fn buy(&self, node: &Peer, state: &'static str, term: &str) -> Contract {
        buy_of(&self.house, &node.name, (&self.url, state, term), &[]).0
    }

    /// Sells a short term; the number of its bill, which the platform holds.
    fn billed(&self, node: &Peer, state: &'static str) -> String {
        let contract = self.buy(node, state, "3s");
        wait::until("a bill", 120, || Some(text(&bill(&self.house, &contract)?, "bill_no").to_owned()))
    }

    /// Packs a bill anew and verifies it with these witnesses.
    fn verify(&self, node: &Peer, number: &str, policy: &str) -> Ran {
        let (pack, root) = (self.house.path("bill.zip"), self.house.path("root.pem"));
        fs::remove_file(&pack).ok();
        hufu(&["pack", number, "-o", &pack, "--config", &node.config()]).expect(0);
        hufu(&["verify", &pack, "--trust", &root, "--witnesses", policy, "--json"])
    }

    /// Waits until it does.
    fn verifies(&self, node: &Peer, number: &str, policy: &str) {
        let what = format!("bill {number} of {} has witnesses {policy}", node.name);
        wait::until_true(&what, 120, || self.verify(node, number, policy).code == 0);
    }
}

fn metered(node: &Peer, contract: &Contract, more_than: u64) -> u64 {
    let records = || records_in(&node.status()?, contract).filter(|count| *count > more_than);
    wait::until("another usage record", 60, records)
}

fn copy(from: &Path, to: &Path) {
    let done = program::command("cp").arg("-a").args([from, to]).status().expect("cp runs");
    assert!(done.success());
}

#[test]
fn one_forks_one_is_away_one_floods_and_the_honest_hold_one_proof() {
    let broker = Given::new();
    let house = House::behind(&broker.address(), None);
    let [mut first, mut second, mut third, mut flooder] = NAMES.map(|name| {
        let node = name.trim_start_matches("s1/");
        Peer::new(&house, &broker.address(), node, &NAMES)
    });
    let mut site = Site { house, broker, url: String::new() };
    let (mut platform, url) = site.platform();
    site.url = url;

    // All know each other. What the flooder tells is written down, and it goes: from now on others speak in its name.
    let listener = Listener::new(&site.house, &site.broker, &flooder.name);
    for node in [&mut first, &mut second, &mut third, &mut flooder] {
        node.start();
    }
    for (node, others) in [(&first, [1, 2, 3]), (&second, [0, 2, 3]), (&third, [0, 1, 3])] {
        wait::until_true("they know each other", 120, || {
            others
                .iter()
                .all(|other| node.of(NAMES[*other]).is_some_and(|one| one["is_known"] == true && one["trade"] != "0"))
        });
    }
    let mut heard = listener.heard();
    wait::until_true("the flooder has told of everything", 60, || {
        heard = listener.heard();
        let has = |what: &str| heard.keys().any(|topic| topic.contains(what));
        ["/certificates", "/checkpoint-trade", "/cosignature", "/ask", "/answer"].iter().all(|what| has(what))
    });
    flooder.kill();
    drop(listener);

    // A bill verifies with its witnesses, and not with more than there are.
    let early = site.billed(&second, "c0");
    site.verifies(&second, &early, "3:s1/n1,s1/n3,s1/platform");
    let confirmed = site.verify(&second, &early, "3").expect(0).json()["confirmed"].clone();
    assert_eq!(confirmed[2], json!({"what": "bill", "witnesses": ["s1/n1", "s1/n3"], "receipted": true}));
    site.verify(&second, &early, "4").expect(1);
    site.verify(&second, &early, "1:s1/n9").expect(1);
    for node in [&first, &second, &third] {
        assert_eq!(node.forks(), Vec::<Vec<u8>>::new());
    }

    // The third is away, the flood comes, and a broker of several dies in the middle. The second goes on, with one witness less.
    third.stop();
    let missed = second.size();
    let resident = |second: &Peer, first: &Peer, platform: &Daemon| {
        [second.resident_kib(), first.resident_kib(), resident_kib(platform)]
    };
    let before = resident(&second, &first, &platform);
    let flood = Flood::start(&site.house, &site.broker, &flooder.name, &heard);
    let during = site.billed(&second, "c1");
    site.broker.lose_one();
    wait::until_true("many blocks are written", 300, || {
        let more = ["--node", &second.name, "--product", PRODUCT];
        site.house.buyer("browse", &site.url, "nothing", &more);
        fs::remove_dir_all(site.house.at("nothing")).ok();
        second.size() >= missed + BLOCKS_MISSED
    });
    site.verifies(&second, &during, "2:s1/n1,s1/platform");
    site.verify(&second, &during, "3").expect(1);
    let count = flood.end();
    assert!(count > 3000, "{count} messages of the flood");
    let after = resident(&second, &first, &platform);
    println!("{count} messages; resident KiB: {before:?}, then {after:?}");
    for (before, after) in before.iter().zip(&after) {
        assert!(*after < before + GROWTH_MAX_KIB, "resident KiB: {before:?}, then {after:?}");
    }

    // It comes back to what the broker kept for it, has all blocks, and is a witness again: of old bills and of its own side.
    third.start();
    wait::until_true("the third has caught up", 180, || third.held(&second.name) >= missed + BLOCKS_MISSED);
    site.verifies(&second, &during, "3:s1/n1,s1/n3,s1/platform");
    let own = site.billed(&third, "c2");
    site.verifies(&third, &own, "3:s1/n1,s1/n2,s1/platform");

    // The backup of the first is from now; then it goes on, and is put back while nobody can tell it what it lacks.
    let contract = site.buy(&first, "c3", "600s");
    let count = metered(&first, &contract, 1);
    first.stop();
    copy(&first.dir, &site.house.at("backup"));
    platform.kill();
    first.start();
    metered(&first, &contract, count + 3);
    let size = first.size();
    wait::until_true("the others have followed", 120, || {
        [&second, &third].iter().all(|node| node.held(&first.name) >= size)
    });
    first.kill();
    fs::remove_dir_all(&first.dir).expect("a folder");
    copy(&site.house.at("backup"), &first.dir);
    // An honest one would hear from those that it follows how far it signed, and sign nothing before its platform is back.
    first.follow_nobody(&site.broker);
    first.start();
    metered(&first, &contract, count);
    let proofs = wait::until("both others hold the proof", 120, || {
        let both = [second.forks(), third.forks()];
        (!both[0].is_empty() && both[0] == both[1]).then(|| both[0].clone())
    });
    convicts(&site.house, &proofs[0]);

    // The platform comes back and takes what the witnesses left on the broker.
    let (_platform, url) = site.platform();
    site.url = url;
    wait::until_true("the platform holds the same proof", 120, || {
        let is_it = |fork: &serde_json::Value| fork["proof"] == hex(&proofs[0]).as_str() && fork["node"] == NAMES[0];
        site.house.held("forks").iter().any(is_it)
    });
    assert!(site.house.held("alarms").iter().any(|alarm| alarm["code"] == "fork"));
    assert!(site.house.held("forks").iter().all(|fork| fork["node"] == NAMES[0]));

    // Without the liar the honest are each other's witnesses, of what was and of what comes.
    let late = site.billed(&second, "c4");
    for (node, number) in [(&second, &early), (&second, &during), (&second, &late)] {
        site.verifies(node, number, "2:s1/n3,s1/platform");
    }
    site.verifies(&third, &own, "2:s1/n2,s1/platform");
    for node in [&mut first, &mut second, &mut third] {
        node.must_run();
    }
}

/// The proof convicts the first node, under its anchor and no other; by openssl alone both statements are signed under the certificate in it.
fn convicts(house: &House, proof: &[u8]) {
    let (file, trust) = (house.path("proof.fork"), house.path("root.pem"));
    fs::write(&file, proof).expect("a file");
    let judged = hufu(&["fork", "verify", &file, "--trust", &trust, "--json"]).expect(0).json();
    assert_eq!((judged["node"].as_str(), judged["result"].as_str()), (Some(NAMES[0]), Some("valid")), "{judged}");
    let stranger = house.path("buyer.pem");
    assert_eq!(hufu(&["fork", "verify", &file, "--trust", &stranger]).code, 1, "under another anchor");
    let parts = house.path("parts");
    hufu(&["fork", "show", &file, "--out", &parts]).expect(0);
    let openssl = |args: &[&str]| {
        let done = program::command("openssl").args(args).current_dir(&parts).output().expect("openssl runs");
        (done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned())
    };
    let (_, key) = openssl(&["x509", "-in", "signer-1.pem", "-noout", "-pubkey"]);
    fs::write(house.at("parts/signer.pub"), key).expect("a file");
    for name in ["first", "second"] {
        let (signature, tbs) = (format!("{name}.sig"), format!("{name}.der"));
        let id = "distid:1234567812345678";
        let args = ["dgst", "-sm3", "-verify", "signer.pub", "-sigopt", id, "-signature", &signature, &tbs];
        assert!(openssl(&args).0, "{name}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
