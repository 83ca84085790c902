//! A stock OpenSSL, with nothing of ours: the commands of a pack's own README, run in the unpacked pack.

use std::{path::Path, process::Command};

use hufu_audit::pack::ENTRY_FILES_MAX;

use crate::{
    Files, LIST, RECORDS, pack_of, pack_with,
    parties::Parties,
    synthetic::{By, Plan, correct, notice, pay, refund},
    unzip,
};

fn unpack(files: &Files, parties: &Parties, dir: &Path) {
    for (name, content) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    std::fs::write(dir.join("trust.pem"), parties.root.to_pem()).unwrap();
}

/// What the pasted commands print.
fn paste(dir: &Path) -> String {
    let readme = std::fs::read_to_string(dir.join("README.txt")).unwrap();
    let (_, commands) = readme.split_once("----- paste from here ").unwrap();
    let (_, commands) = commands.split_once('\n').unwrap();
    let output = Command::new("sh").arg("-c").arg(commands).current_dir(dir).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_readme_checks_the_pack_and_finds_damage() {
    finds_damage(0, &[(RECORDS, "does not follow the one before"), (LIST, "BAD list")]);
    finds_damage(ENTRY_FILES_MAX, &[("entries/0-6-0-usage.der", "does not follow the one before")]);
}

fn finds_damage(entry_files_max: usize, records: &[(&str, &str)]) {
    let (parties, pack) = pack_with(&Plan { records: 3, ..Plan::default() }, entry_files_max);
    let files = unzip(&pack);
    let dir = tempfile::tempdir().unwrap();
    unpack(&files, &parties, dir.path());
    let said = paste(dir.path());
    assert!(said.ends_with("ALL CHECKS PASSED 全部通过\n"), "{said}");
    for (what, least) in
        [("ok signature", 12), ("ok certificate", 4), ("ok entry", 6), ("ok block", 6), ("ok bill.der", 2)]
    {
        assert!(said.matches(what).count() >= least, "{what}: {said}");
    }
    let signed = [
        ("signed/order.tbs", "BAD signature"),
        ("signed/offer.sig", "BAD signature"),
        ("entries/1-0-0-bill.der", "BAD entry"),
        ("bill.der", "BAD bill.der"),
    ];
    for (name, says) in signed.iter().chain(records) {
        let dir = tempfile::tempdir().unwrap();
        let mut damaged = files.clone();
        let content = damaged.get_mut(*name).unwrap();
        let at = content.len() - 3;
        content[at] ^= 1;
        unpack(&damaged, &parties, dir.path());
        let said = paste(dir.path());
        assert!(said.contains(*says) && said.contains("CHECKS FAILED"), "{name}: {said}");
    }
}

#[test]
fn the_readme_checks_notices_and_the_platforms_word_on_payment_and_refund() {
    let after = vec![pay(), notice("dispute", By::Buyer), correct(1), refund()];
    let (parties, pack) = pack_of(&Plan { records: 2, after, ..Plan::default() });
    let files = unzip(&pack);
    let check = |files: &Files| {
        let dir = tempfile::tempdir().unwrap();
        unpack(files, &parties, dir.path());
        paste(dir.path())
    };
    let said = check(&files);
    assert!(said.ends_with("ALL CHECKS PASSED 全部通过\n"), "{said}");
    assert_eq!(said.matches("ok signature confirmation platform").count(), 2, "{said}");
    assert_eq!(said.matches("ok signature notice buyer").count(), 1, "{said}");
    for name in ["signed/confirmation.tbs", "signed/confirmation-2.tbs", "signed/notice.tbs"] {
        let mut damaged = files.clone();
        damaged.get_mut(name).unwrap()[30] ^= 1;
        assert!(check(&damaged).contains(&format!("BAD signature {name}")), "{name}");
    }
}
