//! `tests/interop/verify.py`, which is written from the documents alone, says of every good and bad pack of this test set
//! what our own verifier says: each verdict, the totals, what is due, the exit status.

use std::{
    io::Cursor,
    path::{Path, PathBuf},
    process::Command,
};

use hufu_audit::{Error, Options, pack::ENTRY_FILES_MAX, verify};
use serde_json::{Value, json};
use zip::CompressionMethod;

use crate::{
    Files, changes, damage, hostile, money, pack_of, pack_with,
    parties::{NAMES, parties},
    periods, prepaid, stored, story,
    synthetic::Plan,
    unzip, versions, zip,
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/interop/verify.py");

/// What our verifier says, in the shape of the other one's answer.
fn ours(pack: &[u8], trust: &[hufu_gm::Certificate]) -> Value {
    match verify(Cursor::new(pack), trust, Options::default()) {
        Ok(verdicts) => {
            let each: Vec<_> = verdicts.each().iter().map(|(_, verdict)| verdict.result.name()).collect();
            json!({
                "exit": verdicts.exit() as u8,
                "results": each,
                "billed": verdicts.billed_total,
                "recomputed": verdicts.recomputed_total,
                "due": verdicts.due_total,
            })
        }
        Err(Error::Unreadable { .. } | Error::TooLarge { .. } | Error::NoBill) => json!({ "exit": 65 }),
        Err(other) => panic!("{other}"),
    }
}

fn theirs(said: &Value) -> Value {
    if said["exit"] == 65 {
        return json!({ "exit": 65 });
    }
    let names = ["signatures", "completeness", "data_quality", "arithmetic"];
    let each: Vec<_> = names.iter().map(|name| said["verdicts"][name]["result"].clone()).collect();
    json!({
        "exit": said["exit"],
        "results": each,
        "billed": said["billed_total_cny"],
        "recomputed": said["recomputed_total_cny"],
        "due": said["due_total_cny"],
    })
}

/// Packs in a folder, with what ours says of each.
struct Set {
    dir: tempfile::TempDir,
    packs: Vec<(String, PathBuf, Value)>,
    trust: Vec<hufu_gm::Certificate>,
}

impl Set {
    fn new() -> Self {
        let trust = vec![parties(NAMES).unwrap().root];
        Self { dir: tempfile::tempdir().unwrap(), packs: Vec::new(), trust }
    }

    fn add(&mut self, name: impl Into<String>, pack: &[u8]) {
        let path = self.dir.path().join(format!("{}.zip", self.packs.len()));
        std::fs::write(&path, pack).unwrap();
        self.packs.push((name.into(), path, ours(pack, &self.trust)));
    }

    /// Both say the same of every pack.
    fn agree(&self) {
        let anchors = self.dir.path().join("trust.pem");
        std::fs::write(&anchors, self.trust[0].to_pem()).unwrap();
        let paths: Vec<&Path> = self.packs.iter().map(|(_, path, _)| path.as_path()).collect();
        let mut said = Vec::new();
        let mut worst = 0;
        // A command line has its limit.
        for part in paths.chunks(500) {
            let mut command = Command::new("python3");
            command.arg(SCRIPT).arg("--json").arg("--trust").arg(&anchors).args(part);
            let output = command.output().unwrap();
            assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
            worst = worst.max(output.status.code().unwrap());
            let lines = String::from_utf8(output.stdout).unwrap();
            said.extend(lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
        assert_eq!(said.len(), self.packs.len());
        assert_eq!(Some(i64::from(worst)), self.packs.iter().filter_map(|(_, _, ours)| ours["exit"].as_i64()).max());
        let mut differ = Vec::new();
        for ((name, _, ours), said) in self.packs.iter().zip(&said) {
            let theirs = theirs(said);
            if *ours != theirs {
                differ.push(format!("{name}:\n  ours   {ours}\n  theirs {theirs}\n  {said}"));
            }
        }
        assert!(differ.is_empty(), "{} of {} differ:\n{}", differ.len(), said.len(), differ.join("\n"));
    }
}

#[test]
fn several_bills_and_prices_paid_before() {
    let mut set = Set::new();
    for (name, plan, _, says) in periods::causes().into_iter().chain(prepaid::causes()) {
        if !story::UNBILLABLE.contains(&says) {
            set.add(name, &pack_of(&plan).1);
        }
    }
    set.agree();
}

#[test]
fn good_packs_and_stories_with_one_thing_in_them() {
    let mut set = Set::new();
    for (name, plan) in [("together", Plan::default()), ("no record but one", Plan { records: 1, ..Plan::default() })] {
        set.add(name, &pack_of(&plan).1);
        set.add(format!("{name}, each entry a file"), &pack_with(&plan, ENTRY_FILES_MAX).1);
    }
    for (name, plan, _, says) in story::causes().into_iter().chain(changes::causes()).chain(money::causes()) {
        if !story::UNBILLABLE.contains(&says) {
            set.add(name, &pack_of(&plan).1);
        }
    }
    set.agree();
}

#[test]
fn damaged_and_cheated_packs() {
    let mut set = Set::new();
    let mut before = Files::new();
    for entry_files_max in [0, ENTRY_FILES_MAX] {
        let (_, pack) = pack_with(&Plan { records: 3, ..Plan::default() }, entry_files_max);
        let files = unzip(&pack);
        // What both forms of the pack hold is damaged once.
        for (name, content) in files.iter().filter(|(name, content)| before.get(*name) != Some(*content)) {
            let length = content.len();
            for at in [0, length / 3, length * 6 / 7, length.saturating_sub(1)] {
                let mut damaged = files.clone();
                let Some(byte) = damaged.get_mut(name).and_then(|content| content.get_mut(at)) else { continue };
                *byte ^= 0x04;
                set.add(format!("{name}[{at}]"), &stored(&damaged));
            }
            let mut less = files.clone();
            less.remove(name);
            set.add(format!("without {name}"), &stored(&less));
        }
        before = files;
    }
    let (_, pack) = pack_of(&Plan::default());
    for (name, change, _) in damage::cheats() {
        let mut files = unzip(&pack);
        change(&mut files);
        set.add(name, &stored(&files));
    }
    for (name, pack, _) in versions::packs() {
        set.add(format!("a later version: {name}"), &pack);
    }
    set.agree();
}

#[test]
fn containers_packed_otherwise_damaged_or_made_to_hurt() {
    let mut set = Set::new();
    let (_, pack) = pack_of(&Plan { records: 2, ..Plan::default() });
    let mut files: Files = unzip(&pack);
    set.add("backwards", &zip(&files, CompressionMethod::Stored, true));
    set.add("deflated", &zip(&files, CompressionMethod::Deflated, false));
    for name in ["../bill.der", "notes.txt", "entries/deeper/0-1-1-usage.der", "signed/", "Bill.der"] {
        files.insert(name.into(), vec![0; 100]);
    }
    set.add("with members of others", &stored(&files));
    files.insert("entries/0-9999-0-usage.der".into(), vec![0; 100]);
    set.add("with an entry that is none", &stored(&files));
    set.add("empty", b"");
    set.add("zeros", &[0; 4_096]);
    set.add("another kind of file", b"%PDF-1.7\n");
    for length in (0..pack.len()).step_by(5_003) {
        set.add(format!("cut to {length}"), &pack[..length]);
    }
    for (name, _, pack) in hostile::beyond() {
        set.add(name, &pack);
    }
    set.agree();
}
