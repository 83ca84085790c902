//! Messages and seals against others: BouncyCastle with its own CMS interface and by hand (`tests/interop/Messages.java`), and
//! `openssl`, which knows no message but takes one apart. Both directions.

use hufu_gm::{
    Trust, keyfile,
    message::{self, Algorithm, Attributes, Signing},
    random, seal,
    sm3::sm3,
};

use crate::{
    java::Java,
    matrix,
    message::{ALL_FORMS, recipient, trust},
    openssl::{Bench, DISTID},
    pki::{JANUARY_S, key, pki},
    seal::{design, maker, picture},
};

#[test]
fn bouncycastle_and_we_read_each_others_messages_and_seals() {
    let (bench, pki) = (Bench::new(), pki());
    let mut java = Java::start(&bench, "Messages");
    let anchors = [pki.root.clone()];
    let known = [pki.middle.clone()];
    let ours = Trust { known: &known, ..trust(&anchors) };
    keyfile::write_new(&bench.path("node.key"), &key(3)).unwrap();
    bench.write("node.pem", pki.node.to_pem());
    bench.write("content.txt", "content 内容");
    let content = "content 内容".as_bytes();

    // Ours, by a strict reader of theirs, and by their own interface where it knows the name of the algorithm.
    for (algorithm, attributes, detached) in ALL_FORMS {
        let node = key(3);
        let signing = Signing { key: &node, certificate: &pki.node, along: &known, algorithm, attributes };
        bench.write("ours.p7s", message::sign(content, &signing, detached).unwrap());
        let given = if detached { "content.txt" } else { "-" };
        assert_eq!(
            java.ask(&bench, &["verify", "ours.p7s", given]).unwrap(),
            "content 内容",
            "{algorithm:?} {attributes:?}"
        );
        let stock = java.ask(&bench, &["stock-verify", "ours.p7s", given]);
        assert_eq!(stock.is_ok(), algorithm == Algorithm::Sm2WithSm3, "{algorithm:?}: {stock:?}");
        bench.write("other.txt", "content");
        assert!(java.ask(&bench, &["verify", "ours.p7s", "other.txt"]).is_err());
    }
    matrix::says("SignedData, 501", "BouncyCastle 1.72, CMS interface", "ours read there", "ok");
    matrix::says(
        "SignedData, 301.1",
        "BouncyCastle 1.72, CMS interface",
        "ours read there",
        "refused: it does not know the algorithm's name",
    );
    matrix::says("SignedData, 301.1 and 501, all forms", "BouncyCastle 1.72, ASN.1", "ours read there", "ok");

    // Theirs.
    for attributes in ["attributes", "none"] {
        for place in ["attached", "detached"] {
            java.ask(&bench, &["sign", "node.key", "node.pem", "content.txt", "theirs.p7s", attributes, place])
                .unwrap();
            let given = (place == "detached").then_some(content);
            let found = message::verify(&bench.read("theirs.p7s"), given, &ours).valid().unwrap();
            assert_eq!(
                (found.content.as_slice(), found.signers[0].with_attributes),
                (content, attributes == "attributes")
            );
        }
    }
    matrix::says(
        "SignedData, all forms",
        "BouncyCastle 1.72, CMS interface",
        "theirs read here",
        "ok, with the national identifiers and version 1",
    );

    let holder = recipient(&pki);
    keyfile::write_new(&bench.path("holder.key"), &key(4)).unwrap();
    bench.write("holder.pem", holder.to_pem());
    bench.write("ours.p7m", message::envelop(content, std::slice::from_ref(&holder), random::fill).unwrap());
    java.ask(&bench, &["open", "ours.p7m", "holder.key", "holder.pem", "opened.txt"]).unwrap();
    assert_eq!(bench.read("opened.txt"), content);
    let node = key(3);
    let signing = Signing {
        key: &node,
        certificate: &pki.node,
        along: &known,
        algorithm: Algorithm::Sm2,
        attributes: Attributes::None,
    };
    let both = message::sign_and_envelop(content, &signing, std::slice::from_ref(&holder), random::fill).unwrap();
    bench.write("both.p7m", both);
    java.ask(&bench, &["open", "both.p7m", "holder.key", "holder.pem", "both.txt"]).unwrap();
    assert_eq!(bench.read("both.txt"), content);
    matrix::says("EnvelopedData, SignedAndEnvelopedData", "BouncyCastle 1.72, ASN.1", "ours read there", "ok");
    for oid in ["1.2.156.10197.1.301.3", "1.2.156.10197.1.301.2", "1.2.156.10197.1.301.3.2.1"] {
        java.ask(&bench, &["envelop", "holder.pem", "content.txt", "theirs.p7m", oid]).unwrap();
        assert_eq!(**message::open(&bench.read("theirs.p7m"), &holder, &key(4)).valid().unwrap(), *content, "{oid}");
    }
    matrix::says("EnvelopedData, 301.3, 301.2 and 301.3.2.1", "BouncyCastle 1.72, ASN.1", "theirs read here", "ok");

    let (maker, users, picture) = (maker(&pki), [pki.node.clone()], picture());
    let made = seal::make(&design(&users, &picture), &key(6), &maker).unwrap();
    let used = seal::sign(&made, &sm3(&[content]), "content.txt", JANUARY_S + 40 * 86_400, &key(3), &pki.node).unwrap();
    bench.write("ours.seal", used);
    assert_eq!(
        java.ask(&bench, &["seal-verify", "ours.seal", "content.txt"]).unwrap(),
        "华东算力园 账单专用章 PNG content.txt"
    );
    assert!(java.ask(&bench, &["seal-verify", "ours.seal", "other.txt"]).is_err());
    java.ask(&bench, &["seal-make", "node.key", "node.pem", "content.txt", "theirs.seal"]).unwrap();
    let imprint = seal::verify(&bench.read("theirs.seal"), &sm3(&[content]), &ours).valid().unwrap();
    assert_eq!((imprint.seal.name.as_str(), imprint.seal.vendor.as_str()), ("测试印章", "other"));
    matrix::says("Seal and seal signature, version 4", "BouncyCastle 1.72, ASN.1", "ours read there", "ok");
    matrix::says(
        "Seal and seal signature, version 4",
        "BouncyCastle 1.72, ASN.1",
        "theirs read here",
        "ok, in ofdrw's encoding of extensions",
    );
}

/// The offset of the first value of this kind behind `behind` in `openssl asn1parse`, and its header's length.
fn place(listing: &str, behind: &str, kind: &str) -> (usize, usize) {
    let line =
        listing.lines().skip_while(|line| !line.contains(behind)).skip(1).find(|line| line.contains(kind)).unwrap();
    let offset = line.split(':').next().unwrap().trim().parse().unwrap();
    let header = line.split("hl=").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    (offset, header)
}

fn length(listing: &str, offset: usize) -> usize {
    let line = listing.lines().find(|line| line.trim_start().starts_with(&format!("{offset}:"))).unwrap();
    line.split("l=")
        .nth(2)
        .or_else(|| line.split(" l=").nth(1))
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn openssl_checks_the_signature_and_opens_the_envelope_that_it_takes_apart() {
    let (bench, pki) = (Bench::new(), pki());
    let node = key(3);
    bench.write("node.pem", pki.node.to_pem());
    bench.write("pub.pem", bench.openssl("x509 -in node.pem -noout -pubkey"));
    bench.write("content", "content");
    for attributes in [Attributes::None, Attributes::Signed { signing_time_s: Some(JANUARY_S) }] {
        let signing = Signing { key: &node, certificate: &pki.node, along: &[], algorithm: Algorithm::Sm2, attributes };
        let made = message::sign(b"content", &signing, false).unwrap();
        bench.write("m.p7s", &made);
        let listing = bench.openssl("asn1parse -inform DER -in m.p7s");
        let cut = |(offset, header): (usize, usize)| {
            made[offset + header..offset + header + length(&listing, offset)].to_vec()
        };
        bench.write("signature", cut(place(&listing, "1.2.156.10197.1.301.1", "OCTET STRING")));
        let signed = if attributes == Attributes::None {
            "content"
        } else {
            // The attributes are signed as a SET; in the message they stand behind [0].
            let (offset, header) = place(&listing, ":sm3", "cont [ 0 ]");
            let last = listing.lines().rfind(|line| line.contains("cont [ 0 ]")).unwrap();
            let offset = last.split(':').next().unwrap().trim().parse().unwrap_or(offset);
            let mut set = made[offset..offset + header + length(&listing, offset)].to_vec();
            set[0] = 0x31;
            bench.write("attributes", set);
            "attributes"
        };
        bench.openssl(&format!("dgst -sm3 -verify pub.pem -sigopt {DISTID} -signature signature {signed}"));
    }
    matrix::says("SignedData, with and without attributes", "openssl 3.0 asn1parse and dgst", "ours read there", "ok");

    let holder = recipient(&pki);
    keyfile::write_new(&bench.path("holder.key"), &key(4)).unwrap();
    let made = message::envelop(b"secret", std::slice::from_ref(&holder), random::fill).unwrap();
    bench.write("m.p7m", &made);
    let listing = bench.openssl("asn1parse -inform DER -in m.p7m");
    let cut =
        |(offset, header): (usize, usize)| made[offset + header..offset + header + length(&listing, offset)].to_vec();
    bench.write("cipher", cut(place(&listing, "1.2.156.10197.1.301.3", "OCTET STRING")));
    bench.openssl("pkeyutl -decrypt -inkey holder.key -in cipher -out key");
    let iv = hex::encode(cut(place(&listing, ":sm4-cbc", "OCTET STRING")));
    bench.write("text", cut(place(&listing, ":sm4-cbc", "cont [ 0 ]")));
    bench.openssl(&format!("enc -d -sm4-cbc -K {} -iv {iv} -in text -out opened", hex::encode(bench.read("key"))));
    assert_eq!(bench.read("opened"), b"secret");
    matrix::says("EnvelopedData", "openssl 3.0 asn1parse, pkeyutl and enc", "ours read there", "ok");
}
