//! `hufu stamp` against services over HTTP: an authority of ours, one of openssl's, and what answers wrongly or not at all.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::{fs, path::Path};

use hufu_tests::{
    broker::{Memory, Mosquitto, free_port},
    house::House,
    program::{Daemon, command, hufu, ours, run, shell},
    trade::{bill, buy, text},
    tree, wait,
};

const POLICY: &str = "1.3.6.1.4.1.99999.1";

/// A folder with a site's root, an authority under it, and a file.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let certified = |name: &str, role: &str| {
        let (key, csr, pem) = (at(&format!("{name}.key")), at(&format!("{name}.csr")), at(&format!("{name}.pem")));
        hufu(&["key", "new", "--out", &key]).expect(0);
        hufu(&["key", "csr", "--key", &key, "--subject", &format!("CN={name},C=CN"), "--out", &csr]).expect(0);
        let issuer = ["--ca", &at("root.pem"), "--ca-key", &at("root.key")];
        hufu(&[&["pki", "issue", "--csr", &csr, "--role", role, "--out", &pem][..], &issuer].concat()).expect(0);
    };
    hufu(&["key", "new", "--out", &at("root.key")]).expect(0);
    hufu(&["pki", "root", "--key", &at("root.key"), "--subject", "CN=root,C=CN", "--out", &at("root.pem")]).expect(0);
    certified("time", "time-stamper");
    certified("node", "signer");
    fs::write(at("bill.der"), b"a bill").expect("a file");
    folder
}

/// A service that hands its requests to a program, and its address.
fn service(folder: &Path, name: &str, program: &[&str]) -> (Daemon, String) {
    let log = folder.join(name);
    let script = tree::root().join("tests/interop/tsa.py");
    let daemon = Daemon::start(command("python3").arg(script).args(program).current_dir(folder), &log);
    let url = wait::until("the service's address", 20, || {
        daemon.said().lines().find(|line| line.starts_with("http://")).map(str::to_owned)
    });
    (daemon, url)
}

fn own(folder: &Path, certificate: &str) -> (Daemon, String) {
    let program = ours("hufu").display().to_string();
    let key = certificate.replace(".pem", ".key");
    let words = ["stamp", "answer", "--in", "{in}", "--out", "{out}", "--number", "{number}", "--policy", POLICY];
    let holder = ["--key", key.as_str(), "--cert", certificate];
    service(folder, &format!("{certificate}.log"), &[&[program.as_str()][..], &words, &holder].concat())
}

#[test]
fn a_file_is_stamped_by_a_service_and_anybody_can_check_when() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (_service, url) = own(folder.path(), "time.pem");
    let (input, stamp) = (at("bill.der"), at("bill.tst"));
    let get = ["stamp", "get", "--in", &input, "--tsa", &url, "--out", &stamp, "--json"];
    let got = hufu(&get).expect(0).json();
    assert_eq!(got["stamp"]["policy"], POLICY, "{got}");
    let verify = ["stamp", "verify", "--in", &input, "--stamp", &stamp, "--trust", &at("root.pem"), "--json"];
    let found = hufu(&verify).expect(0).json();
    assert_eq!((&found["result"], &found["stamp"]), (&"valid".into(), &got["stamp"]), "{found}");
    assert_eq!(found["authority"]["subject"], "CN=time,C=CN");
    // The second has another number.
    let again = hufu(&get).expect(0).json();
    assert_ne!(again["stamp"]["serial"], got["stamp"]["serial"]);
    let text = shell("openssl ts -reply -token_in -in bill.tst -text", folder.path()).expect(0).stdout;
    assert!(text.contains("Hash Algorithm: sm3") && text.contains(POLICY), "{text}");

    fs::write(at("other"), b"another bill").expect("a file");
    let other = ["stamp", "verify", "--in", &at("other"), "--stamp", &stamp, "--trust", &at("root.pem"), "--json"];
    assert_eq!(hufu(&other).expect(1).json()["reason"], "the time-stamp is over other data");
    let stranger = ["stamp", "verify", "--in", &input, "--stamp", &stamp, "--trust", &at("node.pem")];
    hufu(&stranger).expect(1);
    let no_stamp = ["stamp", "verify", "--in", &input, "--stamp", &input, "--trust", &at("root.pem")];
    hufu(&no_stamp).expect(65);
}

#[test]
fn what_gives_no_time_stamp_leaves_no_file() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (input, stamp) = (at("bill.der"), at("bill.tst"));
    let get = |url: &str, more: &[&str]| {
        let ran = hufu(&[&["stamp", "get", "--in", &input, "--tsa", url, "--out", &stamp][..], more].concat());
        assert!(ran.code == 0 || !Path::new(&stamp).exists(), "{}", ran.line);
        ran
    };
    let (_good, good) = own(folder.path(), "time.pem");
    let other = get(&good, &["--policy", "1.2.3.9"]).expect(1);
    assert!(other.stderr.contains("unacceptedPolicy"), "{}", other.stderr);
    get(&good, &["--policy", "one.two"]).expect(2);
    get("https://time.example/", &[]).expect(2);
    get(&format!("http://127.0.0.1:{}/", free_port()), &[]).expect(69);
    // An authority whose certificate is for something else gives nothing, and a service that answers anything gives no token.
    let (_signer, signer) = own(folder.path(), "node.pem");
    assert!(get(&signer, &[]).expect(69).stderr.contains("HTTP 500"));
    let (_echo, echo) = service(folder.path(), "echo.log", &["cp", "{in}", "{out}"]);
    get(&echo, &[]).expect(65);
    // One that gives everybody the same answer.
    get(&good, &[]).expect(0);
    fs::remove_file(&stamp).expect("a file");
    let query = "openssl ts -query -data bill.der -sm3 -cert -out old.tsq";
    shell(query, folder.path()).expect(0);
    let (key, cert, query, old) = (at("time.key"), at("time.pem"), at("old.tsq"), at("old.tsr"));
    let answer = ["stamp", "answer", "--in", &query, "--key", &key, "--cert", &cert, "--policy", POLICY];
    hufu(&[&answer[..], &["--number", "9", "--out", &old]].concat()).expect(0);
    let (_replay, replay) = service(folder.path(), "replay.log", &["cp", &old, "{out}"]);
    assert!(get(&replay, &[]).expect(65).stderr.contains("another request"));
}

#[test]
fn an_authority_of_openssls_stamps_for_us_and_openssl_checks_it() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 30 && \
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tsa.key -out tsa.csr -subj /CN=tsa && \
        printf 'extendedKeyUsage=critical,timeStamping\\n' > tsa.ext && \
        openssl x509 -req -in tsa.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile tsa.ext -days 20 -out tsa.pem && \
        printf '01\\n' > serial && printf '[tsa]\\ndefault_tsa=here\\n[here]\\nserial=serial\\nsigner_cert=tsa.pem\\nsigner_key=tsa.key\\n\
        signer_digest=sha256\\ndefault_policy=1.3.6.1.4.1.99999.1\\ndigests=sm3\\ness_cert_id_alg=sha256\\n' > tsa.cnf";
    shell(make, folder.path()).expect(0);
    let words =
        ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-section", "here", "-queryfile", "{in}", "-out", "{out}"];
    let (_service, url) = service(folder.path(), "openssl.log", &words);
    let (input, stamp) = (at("bill.der"), at("bill.tst"));
    hufu(&["stamp", "get", "--in", &input, "--tsa", &url, "--out", &stamp]).expect(0);
    shell("openssl ts -verify -data bill.der -in bill.tst -token_in -CAfile ca.pem", folder.path()).expect(0);
    let verify = ["stamp", "verify", "--in", &input, "--stamp", &stamp, "--trust", &at("root.pem"), "--json"];
    let reason = hufu(&verify).expect(1).json()["reason"].to_string();
    assert!(reason.contains("1.2.840.10045.4.3.2") && reason.contains("openssl ts -verify"), "{reason}");
}

/// A pack of the platform's whose bill is covered by a time-stamp.
fn stamped_pack(house: &House, url: &str) -> String {
    let contract = buy(house, url, "c1", "5s");
    let found = wait::until("the bill is at the platform", 90, || bill(house, &contract));
    let pack = house.path("bill.zip");
    wait::until_true("a time-stamp over the bill", 90, || {
        let ran = house.buyer("pack", url, contract.state, &[text(&found, "bill_no"), "--output", &pack]);
        // One over each log.
        ran.code == 0 && shell("python3 -m zipfile -l bill.zip | grep -c stamps/", &house.at("")).stdout.trim() == "2"
    });
    pack
}

#[test]
fn a_pack_says_by_when_its_bill_existed() {
    let mut broker = Mosquitto::new(Memory::None);
    broker.start();
    let house = House::new(broker.port());
    let at = |name: &str| house.path(name);
    hufu(&["key", "new", "--out", &at("time.key")]).expect(0);
    hufu(&["key", "csr", "--key", &at("time.key"), "--subject", "CN=time,C=CN", "--out", &at("time.csr")]).expect(0);
    hufu(&["key", "new", "--out", &at("tsa-root.key")]).expect(0);
    let subject = ["--subject", "CN=tsa-root,C=CN", "--out", &at("tsa-root.pem")];
    hufu(&[&["pki", "root", "--key", &at("tsa-root.key")][..], &subject].concat()).expect(0);
    let issuer = ["--ca", &at("tsa-root.pem"), "--ca-key", &at("tsa-root.key")];
    let wanted = ["pki", "issue", "--csr", &at("time.csr"), "--role", "time-stamper", "--out", &at("time.pem")];
    hufu(&[&wanted[..], &issuer].concat()).expect(0);
    let (_service, tsa) = own(&house.at(""), "time.pem");
    let (_platform, url, _) = house.platform(&["--broker", &broker.address(), "--tsa", &tsa, "--tsa-every-s", "1"]);
    let _agent = house.agent();
    let pack = stamped_pack(&house, &url);

    let both = ["verify", &pack, "--trust", &at("root.pem"), "--trust", &at("tsa-root.pem"), "--json"];
    let verdict = hufu(&both).expect(0).json();
    let stamps = verdict["stamps"].as_array().expect("time-stamps");
    assert!(stamps.len() == 2 && stamps.iter().all(|stamp| stamp["authority"] == "CN=time,C=CN"), "{stamps:?}");
    assert!(stamps.iter().any(|stamp| stamp["covers_bill"] == true), "{stamps:?}");
    assert_eq!(verdict["verdicts"]["signatures"]["result"], "pass", "{verdict}");
    let told = hufu(&["verify", &pack, "--trust", &at("root.pem"), "--trust", &at("tsa-root.pem"), "--lang", "en"]);
    assert!(told.expect(0).stdout.contains("the bill existed by"));
    // Whoever does not know the authority has the rest, and is told.
    let verdict = hufu(&["verify", &pack, "--trust", &at("root.pem"), "--json"]).expect(0).json();
    assert_eq!(verdict["stamps"].as_array().map(Vec::len), Some(0), "{verdict}");
    assert_eq!(verdict["verdicts"]["signatures"]["result"], "warn", "{verdict}");

    // The pack's own commands, by a shell and openssl.
    let script = "mkdir p && cd p && python3 -m zipfile -e ../bill.zip . && cp ../root.pem trust.pem && sed '1,/paste from here/d' README.txt > run && sh run";
    let checked = shell(script, &house.at("")).expect(0).stdout;
    assert!(checked.contains("ALL CHECKS PASSED"), "{checked}");
    let other = ["stamp", "get", "--in", &at("root.pem"), "--tsa", &tsa, "--out", &at("other.tst")];
    hufu(&other).expect(0);
    for (how, wanted) in [
        ("one octet", "b[-1:] = bytes([b[-1] ^ 1])"),
        ("another's", "b[:] = open('other.tst', 'rb').read()"),
        ("nothing", "del b[:]"),
    ] {
        let script = format!(
            "import zipfile\nold = zipfile.ZipFile('bill.zip')\nnew = zipfile.ZipFile('wrong.zip', 'w')\n\
             for name in old.namelist():\n    b = bytearray(old.read(name))\n    \
             if name.startswith('stamps/receipt-1'):\n        {wanted}\n    new.writestr(name, bytes(b))\nnew.close()\n"
        );
        run(command("python3").args(["-c", &script]).current_dir(house.at(""))).expect(0);
        let verify = ["verify", &at("wrong.zip"), "--trust", &at("root.pem"), "--trust", &at("tsa-root.pem"), "--json"];
        let verdict = hufu(&verify).expect(1).json();
        let problems = verdict["verdicts"]["signatures"]["problems"].to_string();
        assert!(problems.contains("stamps/receipt-1"), "{how}: {problems}");
    }
}

#[test]
fn a_service_that_is_away_costs_no_bill() {
    let mut broker = Mosquitto::new(Memory::None);
    broker.start();
    let house = House::new(broker.port());
    let tsa = format!("http://127.0.0.1:{}/", free_port());
    let (mut platform, url, _) = house.platform(&["--broker", &broker.address(), "--tsa", &tsa, "--tsa-every-s", "1"]);
    let _agent = house.agent();
    let contract = buy(&house, &url, "c1", "5s");
    let found = wait::until("the bill is at the platform", 90, || bill(&house, &contract));
    wait::until_true("a pack without time-stamps", 60, || {
        let wanted = [text(&found, "bill_no"), "--output", &house.path("bill.zip")];
        house.buyer("pack", &url, contract.state, &wanted).code == 0
    });
    let verify = ["verify", &house.path("bill.zip"), "--trust", &house.path("root.pem"), "--json"];
    assert_eq!(hufu(&verify).expect(0).json()["stamps"].as_array().map(Vec::len), Some(0));
    assert!(platform.said().contains("no time-stamp"), "{}", platform.said());
    assert_eq!(platform.signal("TERM"), 0, "{}", platform.said());
}
