//! `hufu key` and `hufu pki issue --pair` as an operator runs them: keys under passwords, where passwords may come from, and each
//! refusal with its exit status.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::{fs, io::Write, os::unix::fs::PermissionsExt, process::Stdio};

use hufu_tests::{
    house::House,
    program::{Daemon, Ran, command, hufu, ours, run},
    wait,
};

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn private(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).expect("a mode");
    }

    /// Runs `hufu` with these words; those with a dot are files of the bench.
    fn hufu(&self, line: &str) -> Ran {
        let words: Vec<String> = line
            .split_whitespace()
            .map(|word| if word.contains('.') { self.path(word) } else { word.to_owned() })
            .collect();
        hufu(&words)
    }
}

#[test]
fn a_key_goes_under_a_password_and_comes_out_again() {
    let bench = Bench::new();
    bench.private("right.pw", "correct horse\n");
    bench.private("wrong.pw", "battery staple\n");
    bench.private("empty.pw", "\n");
    let plain = bench.hufu("key new --out plain.key --json").expect(0).json()["public_key"].clone();
    let made =
        bench.hufu("key encrypt --key plain.key --out under.key --password-file right.pw --json").expect(0).json();
    assert_eq!(made["public_key"], plain);
    let mode = fs::metadata(bench.path("under.key")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert!(fs::read_to_string(bench.path("under.key")).expect("text").contains("BEGIN ENCRYPTED PRIVATE KEY"));
    let shown = bench.hufu("key show under.key --password-file right.pw --json").expect(0).json();
    assert_eq!((&shown["public_key"], shown["encrypted"].as_bool()), (&plain, Some(true)));
    let back =
        bench.hufu("key decrypt --key under.key --out back.key --password-file right.pw --json").expect(0).json();
    assert_eq!(back["public_key"], plain);
    assert_eq!(fs::read(bench.path("back.key")).expect("a file"), fs::read(bench.path("plain.key")).expect("a file"));
    bench.hufu("key csr --key under.key --subject CN=n --out n.csr --password-file right.pw").expect(0);
    bench.hufu("key new --out born.key --password-file right.pw").expect(0);
    bench.hufu("key show born.key --password-file right.pw").expect(0);

    for (line, code, says) in [
        ("key show under.key", 78, "--password-file"),
        ("key show under.key --password-file wrong.pw", 78, "does not open"),
        ("key show plain.key --password-file right.pw", 78, "not encrypted"),
        ("key show under.key --password-file empty.pw", 65, "password"),
        ("key show under.key --password-file none.pw", 74, "none.pw"),
        ("key decrypt --key under.key --out x.key", 2, "--password-file"),
        ("key encrypt --key plain.key --out x.key --password-file right.pw --iterations 1000", 2, "65536"),
        ("key encrypt --key plain.key --out under.key --password-file right.pw", 74, "under.key"),
        ("key show under.key --password-credential ../x", 2, "credential"),
    ] {
        let ran = bench.hufu(line).expect(code);
        assert!(ran.stderr.contains(says) && ran.stdout.is_empty(), "{line}: {}", ran.stderr);
        let json = bench.hufu(&format!("{line} --json")).expect(code);
        assert!(json.stdout.is_empty(), "{line}");
    }
    fs::set_permissions(bench.path("right.pw"), fs::Permissions::from_mode(0o644)).expect("a mode");
    let ran = bench.hufu("key show under.key --password-file right.pw").expect(78);
    assert!(ran.stderr.contains("chmod 600"), "{}", ran.stderr);
}

#[test]
fn a_password_comes_from_standard_input_or_a_credential_of_systemd() {
    let bench = Bench::new();
    bench.private("pw", "correct horse");
    bench.hufu("key new --out k.key").expect(0);
    bench.private("pw.file", "correct horse");
    bench.hufu("key encrypt --key k.key --out under.key --password-file pw.file").expect(0);
    let mut child = command(ours("hufu"))
        .args(["key", "show", &bench.path("under.key"), "--password-fd", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("hufu");
    child.stdin.take().expect("a pipe").write_all(b"correct horse\n").expect("written");
    assert_eq!(child.wait().expect("an end").code(), Some(0));
    let show = ["key", "show", &bench.path("under.key"), "--password-credential", "pw"];
    let ran = run(command(ours("hufu")).args(show).env("CREDENTIALS_DIRECTORY", bench.0.path()));
    ran.expect(0);
}

#[test]
fn one_call_issues_a_double_certificate() {
    let bench = Bench::new();
    for name in ["ca", "n"] {
        bench.hufu(&format!("key new --out {name}.key")).expect(0);
    }
    bench.hufu("pki root --key ca.key --subject CN=root --out ca.pem").expect(0);
    bench.hufu("key csr --key n.key --subject CN=n --out n.csr").expect(0);
    let issue = "pki issue --ca ca.pem --ca-key ca.key --csr n.csr --out sign.pem --pair enc.pem";
    let made = bench.hufu(&format!("{issue} --key-out enc.der --json")).expect(0).json();
    assert_ne!(made["signing"]["serial"], made["encryption"]["serial"]);
    assert_eq!(made["encryption"]["subject"], "CN=n");
    for (name, usage) in [("sign.pem", "Digital Signature"), ("enc.pem", "Key Encipherment")] {
        let text = run(command("openssl").args(["x509", "-in", &bench.path(name), "-noout", "-text"])).expect(0);
        assert!(text.stdout.contains(usage), "{}", text.stdout);
    }
    bench.hufu(issue).expect(2);
    // Nothing of a second try is left, and nothing of the first is touched.
    let taken = issue.replace("sign.pem", "other.pem");
    bench.hufu(&format!("{taken} --key-out enc.der")).expect(74);
    assert!(!std::path::Path::new(&bench.path("other.pem")).exists());
}

#[test]
fn the_platform_opens_a_key_under_its_password_and_no_other() {
    let house = House::new(1);
    let private = |name: &str, text: &str| {
        fs::write(house.at(name), text).expect("a file");
        fs::set_permissions(house.at(name), fs::Permissions::from_mode(0o600)).expect("a mode");
    };
    private("right.pw", "correct horse\n");
    private("wrong.pw", "battery staple\n");
    let (plain, under) = (house.path("platform.key"), house.path("platform.p8"));
    let right = house.path("right.pw");
    hufu(&["key", "encrypt", "--key", &plain, "--out", &under, "--password-file", &right]).expect(0);
    let serve = |key: &str, password: Option<&str>| {
        let mut command = command(ours("hufu-platform"));
        command.args(["serve", "--json", "--site", "s1", "--dir", &house.path("platform"), "--key", key]);
        command.args(password.into_iter().flat_map(|password| ["--key-password", password]));
        command.args(["--cert", &house.path("platform.pem"), "--trust", &house.path("root.pem")]);
        command.args(["--listen", "127.0.0.1:0", "--embedded-broker", "--broker-listen", "127.0.0.1:0"]);
        command.env_remove("CREDENTIALS_DIRECTORY");
        command
    };
    let (wrong, none) = (house.path("wrong.pw"), house.path("none.pw"));
    for (key, password, code, says) in [
        (&under, None, 78, "--key-password"),
        (&under, Some(wrong.as_str()), 78, "does not open"),
        (&under, Some(none.as_str()), 74, "none.pw"),
        (&plain, Some(right.as_str()), 78, "not encrypted"),
        (&under, Some("credential:right.pw"), 78, "LoadCredential="),
        (&under, Some("credential:../right.pw"), 78, "not a path"),
    ] {
        let ran = run(&mut serve(key, password)).expect(code);
        assert!(ran.stderr.contains(says) && ran.stdout.is_empty(), "{says}: {}", ran.stderr);
    }
    // As a file, and as systemd hands it over.
    for handed in [false, true] {
        let mut command = serve(
            if handed { "credential:platform.p8" } else { &under },
            Some(if handed { "credential:right.pw" } else { &right }),
        );
        if handed {
            command.env("CREDENTIALS_DIRECTORY", house.at("."));
        }
        let said = house.at("platform/platform.json");
        fs::remove_file(&said).ok();
        let mut daemon = Daemon::start(&mut command, &house.at("platform.log"));
        wait::until_true("the platform is ready", 60, || {
            daemon.must_run();
            said.exists()
        });
        assert_eq!(daemon.signal("TERM"), 0);
    }
}
