//! Damage of every piece of a pack, and containers of others: every flipped byte is found, by the right verdict; how a pack
//! was zipped does not matter; nothing panics.

use std::io::Cursor;

use hufu_audit::{Error, Exit, Lang, Options, pack::ENTRY_FILES_MAX, verify};
use zip::CompressionMethod;

use crate::{
    Files, LIST, RECORDS, join, judge, only, pack_of, pack_with,
    parties::Parties,
    records, results, said, stored,
    synthetic::{By, Plan, Step, correct, notice, pay, refund},
    unzip, zip,
};

#[test]
fn how_a_pack_was_zipped_does_not_matter() {
    let (parties, pack) = pack_of(&Plan::default());
    let want = judge(&pack, &parties);
    let mut files = unzip(&pack);
    for (method, backwards) in
        [(CompressionMethod::Stored, true), (CompressionMethod::Deflated, false), (CompressionMethod::Deflated, true)]
    {
        assert_eq!(judge(&zip(&files, method, backwards), &parties), want, "{method} {backwards}");
    }
    files.insert("../../etc/evil".into(), vec![0; 100]);
    files.insert("entries/deeper/0-1-1-usage.der".into(), vec![0; 100]);
    files.insert("notes.txt".into(), b"mine".to_vec());
    assert_eq!(judge(&stored(&files), &parties), want, "members that do not belong are not looked at");
}

#[test]
fn a_flipped_byte_anywhere_fails_the_right_verdict() {
    for entry_files_max in [0, ENTRY_FILES_MAX] {
        every_flip_is_found(&pack_with(&Plan::default(), entry_files_max));
    }
    every_flip_is_found(&pack_of(&refunded()));
}

/// A contract with every kind of entry that comes after a bill.
fn refunded() -> Plan {
    let after = vec![pay(), notice("dispute", By::Buyer), correct(1), refund(), Step::Score];
    Plan { records: 2, after, ..Plan::default() }
}

fn every_flip_is_found((parties, pack): &(Parties, Vec<u8>)) {
    let files = unzip(pack);
    for (name, content) in &files {
        if name == "README.txt" {
            continue;
        }
        // Every kind of byte: first, last, and some between.
        let length = content.len();
        for at in [0, 1, length / 7, length / 3, length / 2, length * 2 / 3, length * 6 / 7, length.saturating_sub(1)] {
            let mut damaged = files.clone();
            let Some(byte) = damaged.get_mut(name).and_then(|content| content.get_mut(at)) else { continue };
            *byte ^= 0x04;
            let verdicts = judge(&stored(&damaged), parties);
            let got = results(&verdicts);
            assert_eq!(verdicts.exit(), Exit::No, "{name}[{at}]: {got} {}", said(&verdicts));
            let verdict = match name.as_str() {
                name if name.starts_with("entries/") && name.ends_with("-usage.der")
                    || name == RECORDS
                    || name == LIST =>
                {
                    1
                }
                // Entries that carry no signature and that nothing signed names by hash hang on their block alone.
                name if name.starts_with("entries/") || name.starts_with("proofs/") => 9,
                _ => 0,
            };
            let fails = |index: usize| got.chars().nth(index) == Some('f');
            assert!(
                if verdict == 9 { fails(0) || fails(1) } else { fails(verdict) },
                "{name}[{at}]: {}",
                said(&verdicts)
            );
        }
    }
}

#[test]
fn a_flipped_byte_in_the_container_never_panics_and_is_never_believed() {
    let (parties, pack) = pack_of(&Plan { records: 2, ..Plan::default() });
    let whole = judge(&pack, &parties);
    for at in (0..pack.len()).step_by(97) {
        let mut damaged = pack.clone();
        damaged[at] ^= 0x10;
        let answer = verify(Cursor::new(&damaged), std::slice::from_ref(&parties.root), Options::default());
        if let Ok(verdicts) = answer {
            let unharmed = verdicts.exit() == Exit::Done;
            assert!(!unharmed || verdicts.billed_total == whole.billed_total, "{at}");
        }
    }
    for length in (0..pack.len()).step_by(1009) {
        let cut = verify(Cursor::new(&pack[..length]), &[], Options::default());
        assert!(matches!(cut, Err(Error::Unreadable { .. })), "{length}");
    }
}

#[test]
fn a_missing_member_is_missed() {
    for entry_files_max in [0, ENTRY_FILES_MAX] {
        every_member_is_missed(&pack_with(&Plan::default(), entry_files_max));
    }
    every_member_is_missed(&pack_of(&refunded()));
}

fn every_member_is_missed((parties, pack): &(Parties, Vec<u8>)) {
    let files = unzip(pack);
    for name in files.keys() {
        let mut less = files.clone();
        less.remove(name);
        if name == "bill.der" {
            let answer = verify(Cursor::new(stored(&less)), &[], Options::default());
            assert!(matches!(answer, Err(Error::NoBill)));
            continue;
        }
        let verdicts = judge(&stored(&less), parties);
        let got = results(&verdicts);
        let want = match name.as_str() {
            "README.txt" | "bill.json" => "w",
            // A list that lists nobody here takes nothing away.
            name if name.starts_with("crls/") => "p",
            name if name.starts_with("certs/") || name.starts_with("signed/") => "f",
            _ => "f",
        };
        assert!(got.contains(want), "{name}: {got} {}", said(&verdicts));
        if want == "w" {
            assert_eq!(verdicts.exit(), Exit::Done, "{name}");
        }
    }
}

/// A change that cheats, and the results it must get.
pub(crate) type Cheat = (&'static str, fn(&mut Files), &'static str);

/// Packs that somebody changed with a purpose.
pub(crate) fn cheats() -> Vec<Cheat> {
    vec![
        (
            "two usage records swapped",
            |files| {
                let mut list = records(files);
                let (first, second) = (list[1].1.clone(), list[2].1.clone());
                (list[1].1, list[2].1) = (second, first);
                join(files, &list);
            },
            "pfpp",
        ),
        (
            "a usage record left out",
            |files| {
                let mut list = records(files);
                list.remove(1);
                join(files, &list);
            },
            "pfpf",
        ),
        (
            "a usage record twice",
            |files| {
                let mut list = records(files);
                list.insert(1, list[1].clone());
                join(files, &list);
            },
            "pfpf",
        ),
        (
            "another place told for a usage record",
            |files| {
                let list = String::from_utf8(files[LIST].clone()).unwrap();
                let (stem, _) = records(files)[1].clone();
                files.insert(LIST.into(), list.replace(&stem, &stem.replacen("0-", "0-1", 1)).into_bytes());
            },
            "pfpp",
        ),
        (
            "bytes behind the last record",
            |files| {
                let bytes = [files[RECORDS].as_slice(), b"more"].concat();
                files.insert(RECORDS.into(), bytes);
            },
            "pfpp",
        ),
        (
            "the list of the records is missing",
            |files| {
                files.remove(LIST);
            },
            "pfpf",
        ),
        (
            "a second file of records, empty",
            |files| {
                files.insert("entries/records-2.der".into(), Vec::new());
            },
            "pfpp",
        ),
        (
            "a line of the index left out",
            |files| {
                let index = String::from_utf8(files["signed/index.tsv"].clone()).unwrap();
                let kept: String =
                    index.lines().filter(|line| !line.ends_with("\torder")).map(|line| format!("{line}\n")).collect();
                files.insert("signed/index.tsv".into(), kept.into_bytes());
            },
            "fppp",
        ),
        (
            "the proof of the bill left out",
            |files| {
                let index = String::from_utf8(files["proofs/index.tsv"].clone()).unwrap();
                let kept: String =
                    index.lines().filter(|line| !line.contains("-bill.der")).map(|line| format!("{line}\n")).collect();
                files.insert("proofs/index.tsv".into(), kept.into_bytes());
            },
            "pfpp",
        ),
        (
            "the view shows another total",
            |files| {
                let view = String::from_utf8(files["bill.json"].clone()).unwrap();
                files.insert("bill.json".into(), view.replace("\"total\": \"0", "\"total\": \"9").into_bytes());
            },
            "fppp",
        ),
        (
            "another tariff",
            |files| {
                let other =
                    hufu_trade::tariff::Tariff::from_toml("[[price]]\nresource = \"cpu\"\nprice = \"0.01\"\n").unwrap();
                files.insert("tariff.der".into(), hufu_trade::encode(&other, "Tariff").unwrap());
            },
            "fppf",
        ),
        (
            "a signature of another piece",
            |files| {
                let other = files["signed/order.sig"].clone();
                files.insert("signed/browse.sig".into(), other);
            },
            "fppp",
        ),
        (
            "a proof of another entry",
            |files| {
                let deal = files[&only(files, "proofs/", "-deal.path")].clone();
                let bill = only(files, "proofs/1-", "-bill.path");
                files.insert(
                    bill,
                    [deal, b"R 0000000000000000000000000000000000000000000000000000000000000000\n".to_vec()].concat(),
                );
            },
            "fwpp",
        ),
    ]
}

#[test]
fn swapped_and_cheated_packs_fail_where_they_cheat() {
    let (parties, pack) = pack_of(&Plan::default());
    for (name, change, want) in cheats() {
        let mut files = unzip(&pack);
        change(&mut files);
        let verdicts = judge(&stored(&files), &parties);
        assert_eq!(results(&verdicts), want, "{name}: {}", said(&verdicts));
    }
}

#[test]
fn without_trust_only_the_first_verdict_fails() {
    let (_, pack) = pack_of(&Plan::default());
    let verdicts = verify(Cursor::new(&pack), &[], Options::default()).unwrap();
    assert_eq!(results(&verdicts), "fppp", "{}", said(&verdicts));
    for (lang, says) in [(Lang::En, "--trust"), (Lang::Zh, "信任锚")] {
        assert!(verdicts.to_text(lang).contains(says));
        assert!(verdicts.to_json(lang).to_string().contains(says));
    }
}

#[test]
fn json_holds_exactly_what_the_contract_names() {
    let (parties, pack) = pack_of(&Plan::default());
    let json = judge(&pack, &parties).to_json(Lang::En);
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["billed_total_cny", "confirmed", "due_total_cny", "parent", "recomputed_total_cny", "stamps", "verdicts"]
    );
    let verdict = &json["verdicts"]["data_quality"];
    assert_eq!(verdict["result"], "pass");
    assert!(verdict["checked"].as_u64().unwrap() > 0 && verdict["problems"].as_array().unwrap().is_empty());
    assert_eq!(json["billed_total_cny"], json["recomputed_total_cny"]);
}
