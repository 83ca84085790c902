//! Time-stamps of RFC 3161: our authority and BouncyCastle's, read by us, by BouncyCastle and, as far as it goes, by `openssl ts`;
//! an authority of openssl's that signs with another algorithm; and everything that must be refused.

use hufu_gm::{
    Certificate, ChainError, Judgement, Refusal, Trust,
    ca::{self, Role},
    keyfile,
    sm3::sm3,
    time_stamp::{self, Answer, Authority, Request, Stamp},
};

use crate::{
    java::Java,
    matrix,
    message::trust,
    openssl::{Bench, DISTID},
    pki::{JANUARY_S, Pki, YEAR_S, key, pki, terms},
};

const POLICY: &str = "1.3.6.1.4.1.99999.1";
const DATA: &[u8] = b"a signed checkpoint";
const NOON_S: i64 = JANUARY_S + YEAR_S / 2;

/// The authority's key is 8.
fn authority(pki: &Pki, role: Role) -> Certificate {
    ca::issue(&pki.middle, &key(2), role, "CN=time,O=Hufu,C=CN", &key(8).public_key(), &terms(&[8; 16])).unwrap()
}

fn request() -> Request {
    let nonce = Some(vec![0x80, 1, 2, 3, 4, 5, 6, 7]);
    Request { imprint: sm3(&[DATA]), nonce, policy: None, with_certificate: true }
}

fn respond(request: &[u8], certificate: &Certificate) -> Vec<u8> {
    let key = key(8);
    time_stamp::respond(request, &Authority { key: &key, certificate, policy: POLICY }, 42, NOON_S).unwrap()
}

fn granted(answer: &[u8]) -> Vec<u8> {
    match Answer::from_der(answer).unwrap() {
        Answer::Granted(token) => token,
        Answer::Refused { status, why } => panic!("{status}: {why}"),
    }
}

fn judged(token: &[u8], pki: &Pki) -> Judgement<Stamp> {
    let (anchors, known) = ([pki.root.clone()], [pki.middle.clone()]);
    time_stamp::verify(token, &sm3(&[DATA]), &Trust { known: &known, ..trust(&anchors) })
}

#[test]
fn what_was_asked_is_stamped_and_can_be_checked() {
    let pki = pki();
    let certificate = authority(&pki, Role::TimeStamper);
    let request = request();
    assert_eq!(Request::from_der(&request.to_der().unwrap()).unwrap(), request);
    let token = granted(&respond(&request.to_der().unwrap(), &certificate));
    let stamp = judged(&token, &pki).valid().unwrap();
    assert_eq!((stamp.said.time_ns, stamp.said.accuracy_ns), (NOON_S * 1_000_000_000, Some(1_000_000_000)));
    assert_eq!((stamp.said.serial.as_str(), stamp.said.policy.as_str()), ("2a", POLICY));
    assert_eq!((stamp.said.nonce, stamp.authority), (request.nonce.clone(), certificate.clone()));
    assert_eq!(time_stamp::read(&token).unwrap().imprint, request.imprint);

    let bare = Request { with_certificate: false, nonce: None, policy: Some(POLICY.to_owned()), ..request };
    let token = granted(&respond(&bare.to_der().unwrap(), &certificate));
    assert!(matches!(judged(&token, &pki), Judgement::Invalid(Refusal::SignerUnknown(_))));
    let (anchors, known) = ([pki.root.clone()], [pki.middle.clone(), certificate]);
    let known = Trust { known: &known, ..trust(&anchors) };
    assert!(matches!(time_stamp::verify(&token, &sm3(&[DATA]), &known), Judgement::Valid(_)));
}

#[test]
fn a_token_is_refused_for_each_reason() {
    let pki = pki();
    let certificate = authority(&pki, Role::TimeStamper);
    let token = granted(&respond(&request().to_der().unwrap(), &certificate));
    let (anchors, known) = ([pki.root.clone()], [pki.middle.clone()]);
    let trust = Trust { known: &known, ..trust(&anchors) };
    let other = time_stamp::verify(&token, &sm3(&[b"other"]), &trust);
    assert_eq!(other, Judgement::Invalid(Refusal::Imprint));
    let nobody = Trust { anchors: &[], ..trust };
    let refused = time_stamp::verify(&token, &sm3(&[DATA]), &nobody);
    assert!(matches!(refused, Judgement::Invalid(Refusal::Chain(ChainError::NoAnchor { .. }))), "{refused:?}");
    // Each octet altered: never valid. The name of the authority in its own certificate is covered by the CA's signature.
    let mut refused = 0;
    for at in 0..token.len() {
        let mut damaged = token.clone();
        damaged[at] ^= 1;
        assert!(!matches!(judged(&damaged, &pki), Judgement::Valid(_)), "octet {at}");
        refused += usize::from(matches!(judged(&damaged, &pki), Judgement::Invalid(_)));
    }
    assert!(refused > 100, "{refused} of {} reached a judgement", token.len());
    for end in 0..token.len() {
        assert!(matches!(judged(&token[..end], &pki), Judgement::Malformed(_)), "{end} octets");
    }
    assert!(matches!(judged(&[&token[..], &[0]].concat(), &pki), Judgement::Malformed(_)));
    let long = [&token[..], &vec![0; time_stamp::BYTES_MAX]].concat();
    let parts = [
        time_stamp::read(&long).unwrap_err(),
        Answer::from_der(&long).unwrap_err(),
        Request::from_der(&long).unwrap_err(),
    ];
    assert!(parts.iter().all(|found| found.why.contains("longer than 32768")), "{parts:?}");
    // A certificate that signs other things says no time, and one for the time signs nothing else.
    let signer = authority(&pki, Role::Signer);
    let keyed = key(8);
    let asked = request().to_der().unwrap();
    let wrong =
        time_stamp::respond(&asked, &Authority { key: &keyed, certificate: &signer, policy: POLICY }, 1, NOON_S);
    assert!(wrong.unwrap_err().to_string().contains("TimeStamping"));
    let signing =
        hufu_gm::verify_chain(&certificate, &known, &anchors, &[], NOON_S * 1_000_000_000, hufu_gm::Usage::Signing);
    assert!(matches!(signing, Err(ChainError::KeyUsage { .. })), "{signing:?}");
}

/// Such an extension of an issuer would bind what is below it; nobody here honours that, so the issuer is refused.
#[test]
fn an_authority_bound_to_time_stamping_issues_nothing_else() {
    let (bench, pki) = (Bench::new(), pki());
    keyfile::write_new(&bench.path("root.key"), &key(1)).unwrap();
    keyfile::write_new(&bench.path("ca.key"), &key(9)).unwrap();
    bench.write("root.pem", pki.root.to_pem());
    let of = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=none\n";
    bench.write("ca.ext", format!("{of}extendedKeyUsage=critical,timeStamping\n"));
    bench.openssl(&format!("req -new -key ca.key -sm3 -sigopt {DISTID} -subj /CN=bound -out ca.csr"));
    bench.openssl(&format!(
        "x509 -req -in ca.csr -CA root.pem -CAkey root.key -set_serial 77 -sm3 -days 3000 -sigopt {DISTID} -vfyopt {DISTID} -extfile ca.ext -out ca.pem"
    ));
    let bound = Certificate::from_pem_many(&bench.read_text("ca.pem")).unwrap().remove(0);
    let valid_s = bound.not_before_ns() / 1_000_000_000;
    let terms = ca::Terms { serial: &[10; 16], not_before_s: valid_s, not_after_s: valid_s + 86_400, dns_names: &[] };
    let leaf = ca::issue(&bound, &key(9), Role::Signer, "CN=n,C=CN", &key(10).public_key(), &terms).unwrap();
    let (known, anchors, at_ns) = ([bound], [pki.root], valid_s * 1_000_000_000);
    let judged = hufu_gm::verify_chain(&leaf, &known, &anchors, &[], at_ns, hufu_gm::Usage::Signing);
    assert!(matches!(judged, Err(ChainError::CriticalExtension { .. })), "{judged:?}");
}

#[test]
fn what_cannot_be_stamped_is_refused_in_words() {
    let pki = pki();
    let certificate = authority(&pki, Role::TimeStamper);
    let good = request().to_der().unwrap();
    let other = Request { policy: Some("1.2.3.9".to_owned()), ..request() }.to_der().unwrap();
    let bench = Bench::new();
    bench.write("data", DATA);
    bench.openssl("ts -query -data data -sha256 -out sha256.tsq");
    for (asked, word) in [
        (other, "unacceptedPolicy"),
        (bench.read("sha256.tsq"), "badAlg"),
        (good[..good.len() - 1].to_vec(), "badDataFormat"),
        (Vec::new(), "badDataFormat"),
    ] {
        match Answer::from_der(&respond(&asked, &certificate)).unwrap() {
            Answer::Refused { status: 2, why } => assert!(why.contains(word), "{why}"),
            answer => panic!("{answer:?}"),
        }
    }
    for (bytes, part) in [
        (&[][..], "TimeStampResp"),
        (&[0x30, 5, 0x30, 3, 2, 1, 0], "timeStampToken"),
        (&[0x30, 7, 0x30, 3, 2, 1, 2, 0x30, 0], "timeStampToken"),
        (&[0x30, 8, 0x30, 6, 2, 1, 2, 3, 1, 9], "failInfo"),
    ] {
        assert_eq!(Answer::from_der(bytes).unwrap_err().part, part, "{bytes:x?}");
    }
}

#[test]
fn openssl_reads_ours_and_an_authority_of_its_own_is_named_for_what_it_is() {
    let (bench, pki) = (Bench::new(), pki());
    let certificate = authority(&pki, Role::TimeStamper);
    bench.write("ours.tsq", request().to_der().unwrap());
    let text = bench.openssl("ts -query -in ours.tsq -text");
    assert!(text.contains("Hash Algorithm: sm3") && text.contains("Certificate required: yes"), "{text}");
    bench.write("ours.tsr", respond(&bench.read("ours.tsq"), &certificate));
    let text = bench.openssl("ts -reply -in ours.tsr -text");
    for line in [
        "Status: Granted.",
        "Hash Algorithm: sm3",
        "Serial number: 0x2A",
        "Policy OID: 1.3.6.1.4.1.99999.1",
        "Accuracy: 0x01",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    matrix::says("RFC 3161 answer, SM3 and SM2", "openssl 3, ts -reply -text", "ours read there", "ok");

    // openssl asks with SM3 and our authority answers.
    bench.write("data", DATA);
    bench.openssl("ts -query -data data -sm3 -cert -out theirs.tsq");
    let token = granted(&respond(&bench.read("theirs.tsq"), &certificate));
    assert!(matches!(judged(&token, &pki), Judgement::Valid(_)));

    // An authority of openssl's own, ECDSA on P-256: it stamps what we ask, openssl verifies it, and we say who can.
    bench.openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 30",
    );
    bench.openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tsa.key -out tsa.csr -subj /CN=tsa");
    bench.write("tsa.ext", "extendedKeyUsage=critical,timeStamping\nkeyUsage=critical,digitalSignature\n");
    bench.openssl(
        "x509 -req -in tsa.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile tsa.ext -days 20 -out tsa.pem",
    );
    bench.write("serial", "01\n");
    bench.write(
        "tsa.cnf",
        format!(
            "[tsa]\ndefault_tsa=here\n[here]\nserial={}\nsigner_cert=tsa.pem\nsigner_key=tsa.key\nsigner_digest=sha256\n\
             default_policy=1.3.6.1.4.1.99999.1\ndigests=sm3\naccuracy=millisecs:500\ness_cert_id_alg=sha256\n",
            bench.path("serial").display()
        ),
    );
    bench.openssl("ts -reply -config tsa.cnf -section here -queryfile ours.tsq -out foreign.tsr");
    bench.openssl("ts -verify -queryfile ours.tsq -in foreign.tsr -CAfile ca.pem");
    let token = granted(&bench.read("foreign.tsr"));
    let said = time_stamp::read(&token).unwrap();
    assert_eq!((said.imprint, said.accuracy_ns), (sm3(&[DATA]), Some(500_000_000)));
    assert_eq!(said.nonce, request().nonce);
    let refused = judged(&token, &pki);
    let algorithm = "1.2.840.10045.4.3.2".to_owned();
    assert_eq!(refused, Judgement::Invalid(Refusal::ForeignAlgorithm(algorithm)));
    matrix::says(
        "RFC 3161 token of an openssl authority, SM3, ECDSA",
        "openssl 3, ts",
        "theirs read here",
        "ok, not verified: the algorithm is named",
    );
}

#[test]
fn bouncycastle_stamps_for_us_and_believes_our_stamps() {
    let (bench, pki) = (Bench::new(), pki());
    let certificate = authority(&pki, Role::TimeStamper);
    let mut java = Java::start(&bench, "Messages");
    keyfile::write_new(&bench.path("tsa.key"), &key(8)).unwrap();
    bench.write("tsa.pem", certificate.to_pem());
    bench.write("ours.tsq", request().to_der().unwrap());
    bench.write("ours.tsr", respond(&bench.read("ours.tsq"), &certificate));
    let told = java.ask(&bench, &["stamp-verify", "ours.tsq", "ours.tsr", "tsa.pem"]).unwrap();
    assert_eq!(told, format!("{}", NOON_S * 1000));
    let mut damaged = bench.read("ours.tsr");
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    bench.write("damaged.tsr", damaged);
    assert!(java.ask(&bench, &["stamp-verify", "ours.tsq", "damaged.tsr", "tsa.pem"]).is_err());
    matrix::says("RFC 3161 answer, SM3 and SM2", "BouncyCastle 1.72, TSP interface", "ours read there", "ok");

    java.ask(&bench, &["stamp", "tsa.key", "tsa.pem", "ours.tsq", "theirs.tsr", POLICY]).unwrap();
    let stamp = judged(&granted(&bench.read("theirs.tsr")), &pki).valid().unwrap();
    assert_eq!((stamp.said.time_ns, stamp.said.serial.as_str()), (1_790_000_000_000_000_000, "07"));
    assert_eq!((stamp.said.accuracy_ns, stamp.said.nonce), (Some(500_000_000), request().nonce));
    matrix::says("RFC 3161 answer, SM3 and SM2", "BouncyCastle 1.72, TSP interface", "theirs read here", "ok");
}
