//! Certificates and lists from a directory: Debian's `slapd` on a port of the kernel's choosing with a database of its own, and
//! servers that answer what no directory should.

#![allow(clippy::disallowed_methods, reason = "deadlines of a test; nothing that is tested reads this")]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hufu_gm::{
    Certificate, Crl,
    ca::{self, Revocation, Role},
    directory::{Address, Directory, DirectoryError, Patience},
};

use crate::{
    matrix,
    pki::{JANUARY_S, Pki, key, pki, terms},
};

const NOW_S: i64 = JANUARY_S + 1000;

/// The clock that a directory is waited for by.
fn mono_ns() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap() + 1
}

fn directory(port: u16, cache: Option<&Path>) -> Directory {
    let address = Address::parse(&format!("ldap://127.0.0.1:{port}/dc=ca,dc=example")).unwrap();
    Directory::new(address, cache.map(Path::to_owned), Patience { limit: Duration::from_millis(3000), mono_ns })
}

fn crl(pki: &Pki, number: u64, update_s: i64, revoked: &[&Certificate]) -> Crl {
    let lines: Vec<Revocation<'_>> =
        revoked.iter().map(|certificate| Revocation { certificate, at_s: update_s }).collect();
    ca::crl(&pki.middle, &key(2), number, update_s, update_s + 86_400, &lines).unwrap()
}

/// `slapd` in the foreground, and its files.
struct Slapd {
    child: Child,
    port: u16,
    place: tempfile::TempDir,
}

impl Slapd {
    fn start(entries: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::create_dir(at("db")).unwrap();
        let config = format!(
            "include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile {}\ndatabase mdb\nsuffix \"dc=ca,dc=example\"\ndirectory {}\nmaxsize 1048576\n",
            at("pid").display(),
            at("db").display()
        );
        std::fs::write(at("slapd.conf"), config).unwrap();
        std::fs::write(at("entries.ldif"), entries).unwrap();
        let added = Command::new("/usr/sbin/slapadd")
            .arg("-f")
            .arg(at("slapd.conf"))
            .arg("-l")
            .arg(at("entries.ldif"))
            .output()
            .unwrap();
        assert!(added.status.success(), "slapadd: {}", String::from_utf8_lossy(&added.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("/usr/sbin/slapd")
            .args(["-d", "0", "-h", &format!("ldap://127.0.0.1:{port}/"), "-f"])
            .arg(at("slapd.conf"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "slapd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port, place }
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        assert!(self.place.path().exists());
    }
}

fn base64(bytes: &[u8]) -> String {
    let pem =
        Certificate::from_der(bytes).map_or_else(|_| Crl::from_der(bytes).unwrap().to_pem(), |found| found.to_pem());
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

fn entries(pki: &Pki, list: &Crl) -> String {
    let id = hex::encode(pki.node.id());
    format!(
        "dn: dc=ca,dc=example\nobjectClass: dcObject\nobjectClass: organization\ndc: ca\no: ca\n\n\
         dn: cn=node-1,dc=ca,dc=example\nobjectClass: device\nobjectClass: pkiUser\nobjectClass: uidObject\ncn: node-1\nuid: {id}\nuserCertificate;binary:: {}\n\n\
         dn: cn=site-a CA,dc=ca,dc=example\nobjectClass: device\nobjectClass: pkiCA\ncn: site-a CA\ncACertificate;binary:: {}\ncertificateRevocationList;binary:: {}\n",
        base64(pki.node.der()),
        base64(pki.middle.der()),
        base64(list.der())
    )
}

#[test]
fn slapd_gives_certificates_and_lists_and_the_cache_answers_when_it_is_gone() {
    let pki = pki();
    let list = crl(&pki, 1, JANUARY_S + 5, &[&pki.node]);
    let slapd = Slapd::start(&entries(&pki, &list));
    let kept = tempfile::tempdir().unwrap();
    let cache = kept.path().join("cache");
    let there = directory(slapd.port, Some(&cache));
    let by_id = there.certificate(&pki.node.id(), NOW_S).unwrap();
    assert_eq!((by_id.value, by_id.fetched_at_s, by_id.cached_because), (pki.node.clone(), NOW_S, None));
    let by_subject = there.certificates_of(&pki.node.subject(), NOW_S).unwrap();
    assert_eq!(by_subject.value, std::slice::from_ref(&pki.node));
    let middle = there.certificates_of(&pki.middle.subject(), NOW_S).unwrap();
    assert_eq!(middle.value, std::slice::from_ref(&pki.middle));
    assert_eq!(there.crl(&pki.middle, NOW_S).unwrap().value, list);
    // Somebody else of the same common name is not taken for the one asked for.
    let other = there.certificates_of("CN=node-1,O=other,C=CN", NOW_S).unwrap_err();
    assert!(matches!(&other, DirectoryError::Unfit(why) if why.contains("CN=node-1,O=华东算力园,C=CN")), "{other}");
    assert_eq!(there.certificates_of("CN=nobody", NOW_S).unwrap_err(), DirectoryError::NotFound);
    assert_eq!(there.certificate(&[0; 32], NOW_S).unwrap_err(), DirectoryError::NotFound);
    let elsewhere = Address::parse(&format!("ldap://127.0.0.1:{}/dc=elsewhere", slapd.port)).unwrap();
    let elsewhere = Directory::new(elsewhere, None, Patience { limit: Duration::from_secs(3), mono_ns });
    assert_eq!(elsewhere.certificates_of("CN=node-1", NOW_S).unwrap_err(), DirectoryError::NotFound);
    matrix::says("Certificates and revocation lists in a directory", "slapd (OpenLDAP 2.5)", "theirs read here", "ok");

    let port = slapd.port;
    drop(slapd);
    let gone = directory(port, Some(&cache));
    let found = gone.crl(&pki.middle, NOW_S + 500).unwrap();
    assert_eq!((found.value, found.fetched_at_s), (list, NOW_S));
    assert!(matches!(found.cached_because, Some(DirectoryError::Unreachable(_))));
    assert!(gone.certificates_of(&pki.node.subject(), NOW_S).unwrap().cached_because.is_some());
    assert_eq!(gone.certificate(&pki.node.id(), NOW_S).unwrap().value, pki.node);
    assert!(matches!(directory(port, None).crl(&pki.middle, NOW_S), Err(DirectoryError::Unreachable(_))));
    // What is in the cache is checked like what a directory says.
    for file in std::fs::read_dir(&cache).unwrap() {
        std::fs::write(file.unwrap().path(), format!("fetched-at 5\n{}", pki.root.to_pem())).unwrap();
    }
    assert!(gone.crl(&pki.middle, NOW_S).is_err() && gone.certificate(&pki.node.id(), NOW_S).is_err());
}

/// A server that gives every client these bytes after its question, and then `stays` or goes.
fn server(answer: Vec<u8>, stays: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut question = [0; 4096];
            let _ = stream.read(&mut question);
            let _ = stream.write_all(&answer);
            if stays {
                std::thread::sleep(Duration::from_secs(8));
            }
        }
    });
    port
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    // Five octets of length, as some servers write them.
    let mut out = vec![tag, 0x84];
    out.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
    out.extend(content);
    out
}

fn message(operation: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&[2, 1, 1], operation])
}

fn entry(attribute: &str, value: &[u8]) -> Vec<u8> {
    let attribute = tlv(0x30, &[&tlv(4, &[attribute.as_bytes()]), &tlv(0x31, &[&tlv(4, &[value])])]);
    message(&tlv(0x64, &[&tlv(4, &[b"cn=x"]), &tlv(0x30, &[&attribute])]))
}

fn done(code: u8, text: &str) -> Vec<u8> {
    message(&tlv(0x65, &[&[0x0a, 1, code], &tlv(4, &[]), &tlv(4, &[text.as_bytes()])]))
}

#[test]
fn answers_that_no_directory_should_give_are_refused_with_the_reason() {
    let pki = pki();
    let by_other = ca::crl(&pki.root, &key(1), 1, JANUARY_S, JANUARY_S + 99, &[]).unwrap();
    let good = crl(&pki, 1, JANUARY_S, &[]);
    let mut forged = good.der().to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let list = "certificateRevocationList;binary";
    let join = |parts: &[Vec<u8>]| parts.concat();
    let huge = [0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 2, 1, 1].to_vec();
    let beyond = [0x30, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff].to_vec();
    let deep = (0..2000).fold(vec![], |inside: Vec<u8>, _| tlv(0x30, &[&inside]));
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", vec![], "the connection ended"),
        ("not LDAP", b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), "did not answer in LDAP"),
        ("an empty message", vec![0x30, 0], "did not answer in LDAP"),
        ("a huge message", huge, "more than 8 MiB"),
        ("a length beyond all bounds", beyond, "more than 8 MiB"),
        ("deep nesting", deep, "did not answer in LDAP"),
        ("an indefinite length", vec![0x30, 0x80, 0, 0], "did not answer in LDAP"),
        ("a cut message", entry(list, good.der())[..60].to_vec(), "the connection ended"),
        ("another question's answer", tlv(0x30, &[&[2, 1, 9], &[0x65, 0]]), "another question"),
        ("an operation nobody asked for", message(&[0x61, 0]), "not asked for"),
        ("a referral", join(&[message(&tlv(0x73, &[&tlv(4, &[b"ldap://evil/"])]))]), "refers to another directory"),
        ("a result that refers", done(10, ""), "refers to another directory"),
        ("a failure", done(51, "busy\u{7}\n"), "result 51 (busy)"),
        ("too many entries", entry("cn", b"x").repeat(70), "more than 64 entries"),
        ("nothing of use", join(&[entry("cn", b"x"), done(0, "")]), "does not have it"),
        ("garbage", join(&[entry(list, b"garbage"), done(0, "")]), "gave something else"),
        ("a certificate in place of a list", join(&[entry(list, pki.node.der()), done(0, "")]), "gave something else"),
        ("a list of another", join(&[entry(list, by_other.der()), done(0, "")]), "that this issuer did not sign"),
        ("a forged list", join(&[entry(list, &forged), done(0, "")]), "gave something else"),
    ];
    for (name, answer, why) in table {
        let text = directory(server(answer, false), None).crl(&pki.middle, NOW_S).unwrap_err().to_string();
        assert!(text.contains(why), "{name}: {text}");
    }
    // Others' and broken values beside the right one do no harm, nor does what else an entry has.
    let mixed = [
        entry("CERTIFICATEREVOCATIONLIST", b"garbage"),
        entry("x", b"y"),
        entry(list, by_other.der()),
        entry(list, good.der()),
        done(0, ""),
    ];
    assert_eq!(directory(server(mixed.concat(), false), None).crl(&pki.middle, NOW_S).unwrap().value, good);
    let other = ca::issue(&pki.middle, &key(2), Role::Signer, "CN=x", &key(8).public_key(), &terms(&[8; 16])).unwrap();
    let answer = [entry("userCertificate;binary", other.der()), done(0, "")].concat();
    let error = directory(server(answer, false), None).certificate(&pki.node.id(), NOW_S).unwrap_err();
    assert_eq!(error, DirectoryError::Unfit("a certificate of CN=x".into()));
}

#[test]
fn a_server_that_says_nothing_costs_no_more_than_the_patience() {
    let pki = pki();
    let address = Address::parse(&format!("ldap://127.0.0.1:{}/dc=x", server(vec![0x30], true))).unwrap();
    let there = Directory::new(address, None, Patience { limit: Duration::from_millis(300), mono_ns });
    let start = Instant::now();
    assert_eq!(there.crl(&pki.middle, NOW_S).unwrap_err(), DirectoryError::TimedOut(300));
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

#[test]
fn a_directory_cannot_take_a_revocation_back() {
    let pki = pki();
    let (older, newer) = (crl(&pki, 1, JANUARY_S, &[]), crl(&pki, 2, JANUARY_S + 50, &[&pki.node]));
    let kept = tempfile::tempdir().unwrap();
    let give = |list: &Crl| {
        let answer = [entry("certificateRevocationList;binary", list.der()), done(0, "")].concat();
        directory(server(answer, false), Some(kept.path())).crl(&pki.middle, NOW_S).unwrap()
    };
    assert_eq!(give(&newer).value, newer);
    let again = give(&older);
    assert_eq!(again.value, newer);
    assert!(again.cached_because.is_some_and(|why| why.to_string().contains("older than one seen before")));
    // A cache that cannot be written is said, not passed over.
    let file = kept.path().join("file");
    std::fs::write(&file, "").unwrap();
    let answer = [entry("certificateRevocationList;binary", newer.der()), done(0, "")].concat();
    let error = directory(server(answer, false), Some(&file)).crl(&pki.middle, NOW_S).unwrap_err();
    assert!(matches!(error, DirectoryError::Cache { .. }), "{error}");
}
