//! The real `openssl` program on the golden files: structure, hashes, certificates, every signature. The SM2 user id is
//! always given: without it OpenSSL before 4.0 takes an empty one and agrees with nobody.

use std::process::Command;

use crate::golden_test::{folder, read};

const DISTID: &str = "distid:1234567812345678";

fn run(words: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(words).current_dir(folder()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn names(ending: &str) -> Vec<String> {
    let files = std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = files.filter(|name| name.ends_with(ending)).collect();
    names.sort();
    names
}

/// A public key in a directory of its own, out of a golden certificate.
fn public_key(directory: &tempfile::TempDir, party: &str) -> String {
    let (success, pem) = run(&["x509", "-in", &format!("{party}.crt"), "-noout", "-pubkey"]);
    assert!(success, "{pem}");
    let path = directory.path().join(format!("{party}.pub"));
    std::fs::write(&path, pem).unwrap();
    path.to_str().unwrap().to_owned()
}

fn verify(key: &str, signature: &str, file: &str) -> bool {
    run(&["dgst", "-sm3", "-verify", key, "-sigopt", DISTID, "-signature", signature, file]).0
}

#[test]
fn openssl_reads_every_structure() {
    for name in names(".der") {
        let (success, text) = run(&["asn1parse", "-inform", "DER", "-in", &name]);
        assert!(success && text.contains("SEQUENCE"), "{name}: {text}");
    }
}

#[test]
fn openssl_hashes_every_structure_as_we_do() {
    let ours = String::from_utf8(read("hashes.txt")).unwrap();
    let files = names(".der");
    let mut words = vec!["dgst", "-sm3", "-r"];
    words.extend(files.iter().map(String::as_str));
    let (success, theirs) = run(&words);
    assert!(success, "{theirs}");
    let mut theirs: Vec<String> = theirs
        .lines()
        .map(|line| line.split_once(" *").map(|(hash, name)| format!("{name} {hash}\n")).unwrap())
        .collect();
    theirs.sort();
    assert_eq!(theirs.concat(), ours);
}

#[test]
fn openssl_verifies_every_signature_and_refuses_it_under_another_key() {
    let directory = tempfile::tempdir().unwrap();
    let signer = |name: &str| match name {
        name if name.starts_with("Receipt") => "platform",
        "envelope-answer.sig" | "envelope-refund.sig" | "Notice-uphold.sig" => "platform",
        "Witnessed.sig"
        | "Demand.sig"
        | "Account.sig"
        | "Matching.sig"
        | "Operation.sig"
        | "Reconciliation-platform.sig"
        | "ParentBill.sig"
        | "Token.sig"
        | "Token-user.sig" => "platform",
        "KeyRotation-new.sig" => "node-next",
        "Selection.sig" => "buyer",
        name if name.starts_with("Statement-") || name.starts_with("Notice-") => "buyer",
        _ => "node",
    };
    let signatures = names(".sig");
    assert_eq!(signatures.len(), 35, "{signatures:?}");
    for signature in signatures {
        let stem = signature.trim_end_matches(".sig");
        let file = match stem {
            "KeyRotation-old" | "KeyRotation-new" => "KeyRotation.der".to_owned(),
            _ if stem.starts_with("envelope") => format!("{stem}.payload"),
            _ => format!("{stem}.der"),
        };
        let key = public_key(&directory, signer(&signature));
        assert!(verify(&key, &signature, &file), "{signature}");
        let other = public_key(&directory, "root");
        assert!(!verify(&other, &signature, &file), "{signature} under another key");
    }
}

#[test]
fn openssl_follows_every_certificate_to_the_root() {
    for party in ["root", "buyer", "node", "node-next", "platform"] {
        let file = format!("{party}.crt");
        let at = "1767225600";
        let words = ["verify", "-vfyopt", DISTID, "-attime", at, "-CAfile", "root.crt", &file];
        let (success, text) = run(&words);
        assert!(success, "{text}");
    }
}

#[test]
fn openssl_makes_the_contract_number_from_the_same_four_values() {
    // OpenSSL builds the DER of ContractNoInput from a description; nothing of ours takes part.
    let directory = tempfile::tempdir().unwrap();
    let (success, id) =
        run(&["x509", "-in", "buyer.crt", "-outform", "DER", "-out", directory.path().join("b").to_str().unwrap()]);
    assert!(success, "{id}");
    let (_, id) = run(&["dgst", "-sm3", "-r", directory.path().join("b").to_str().unwrap()]);
    let id = id.split(' ').next().unwrap().to_owned();
    let description = format!(
        "asn1=SEQUENCE:input\n[input]\nbuyer=FORMAT:HEX,OCTETSTRING:{id}\npool=UTF8:site-1/node-a\n\
         nonce=FORMAT:ASCII,OCTETSTRING:nonce of buyer 1\ntime=INTEGER:1767225600000000000\n"
    );
    let (config, out) = (directory.path().join("c"), directory.path().join("o"));
    std::fs::write(&config, description).unwrap();
    let words = ["asn1parse", "-genconf", config.to_str().unwrap(), "-noout", "-out", out.to_str().unwrap()];
    let (success, text) = run(&words);
    assert!(success, "{text}");
    assert_eq!(std::fs::read(&out).unwrap(), read("ContractNoInput.der"));
    let (_, hash) = run(&["dgst", "-sm3", "-r", out.to_str().unwrap()]);
    let statement: hufu_trade::statement::Statement =
        hufu_trade::decode(&read("Statement-browse.der"), "Statement").unwrap();
    assert_eq!(hash[..32], statement.contract_no.to_string());
}

/// SM3 by openssl of some octets one after the other.
fn openssl_sm3(parts: &[&[u8]]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("octets");
    std::fs::write(&path, parts.concat()).unwrap();
    hex::decode(&run(&["dgst", "-sm3", "-r", path.to_str().unwrap()]).1[..64]).unwrap()
}

#[test]
fn openssl_hashes_of_trees_are_the_roots_that_were_signed() {
    let leaf = |octets: &[u8]| openssl_sm3(&[&[0], octets]);
    let node = |left: &[u8], right: &[u8]| openssl_sm3(&[&[1], left, right]);
    let [window, record, gap] = ["window", "usage-begin", "gap"].map(|name| leaf(&read(&format!("Entry-{name}.der"))));
    let of_entries = node(&node(&window, &record), &gap);
    let [rules, browse] = ["rules", "browse"].map(|name| openssl_sm3(&[&read(&format!("BlockHeader-{name}.der"))]));
    let of_blocks = node(&leaf(&rules), &leaf(&browse));
    let of_finance = leaf(&openssl_sm3(&[&read("BlockHeader-bill.der")]));
    for (root, signed_in) in [
        (of_entries, "BlockHeader-window.der"),
        (of_blocks.clone(), "Checkpoint.der"),
        (of_blocks, "Receipt.der"),
        (of_finance, "Receipt-finance.der"),
    ] {
        assert!(read(signed_in).windows(32).any(|octets| octets == root), "{signed_in}");
    }
    assert!(read("BlockHeader-browse.der").windows(32).any(|octets| octets == rules), "the parent's hash");
}

#[test]
fn openssl_hashes_of_entries_are_what_others_name() {
    let hash = |file: &str| hex::encode(openssl_sm3(&[&[0], &read(file)]));
    let hex = |file: &str| read(file).iter().map(|b| format!("{b:02x}")).collect::<String>();
    for (entry, named_in) in [
        ("Entry-browse.der", "Offer.der"),
        ("Entry-browse.der", "BlockHeader-browse.der"),
        ("Entry-browse.der", "Statement-order.der"),
        ("Entry-order.der", "Deal.der"),
        ("Entry-deal.der", "UsageRecord-begin.der"),
        ("Entry-usage-begin.der", "UsageRecord-gap.der"),
        ("Entry-gap.der", "UsageRecord-end.der"),
        ("Entry-usage-end.der", "Bill.der"),
        ("Entry-deal.der", "Statement-score.der"),
        ("Entry-bill.der", "FinanceLink.der"),
        ("Entry-bill.der", "Receipt-finance.der"),
        ("Entry-bill.der", "Payment.der"),
        ("Entry-deal.der", "Payment.der"),
        ("Entry-deal.der", "Notice-renew.der"),
        ("Entry-bill.der", "Notice-dispute.der"),
        ("Entry-bill.der", "Correction.der"),
        ("Entry-notice-dispute.der", "Correction.der"),
        ("Entry-correction.der", "Correction-again.der"),
        ("Entry-bill.der", "RefundPaid.der"),
        ("Entry-correction-again.der", "RefundPaid.der"),
    ] {
        assert!(hex(named_in).contains(&hash(entry)), "{named_in} does not name {entry}");
    }
}
