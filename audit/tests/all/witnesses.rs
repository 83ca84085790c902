//! Packs with the words of other nodes.

use std::io::Cursor;

use hufu_audit::{
    Confirmed, Exit, Lang, Options, Policy, Verdicts,
    pack::{Witnesses, build, witness},
    verify,
};
use hufu_gm::{
    Certificate, SecretKey,
    ca::{self, Role, Terms},
};
use hufu_ledger::{Checkpoint, Ledger, Log, Signer, WitnessedCheckpoint, block::VERSION, witness::Cosignature};

use crate::{
    parties,
    parties::Parties,
    results, stored,
    synthetic::{POOL, Plan, START_S, play},
    unzip,
};

/// A certificate for a node of this name, by the root with this key.
fn named(root: &Certificate, root_key: u8, subject: &str, scalar: u8) -> (SecretKey, Certificate) {
    let key = |scalar: u8| SecretKey::from_scalar(&[scalar; 32]).unwrap();
    let terms = Terms {
        serial: &[scalar; 16],
        not_before_s: START_S - 86_400,
        not_after_s: START_S + 400 * 86_400,
        dns_names: &[],
    };
    let certificate =
        ca::issue(root, &key(root_key), Role::Signer, subject, &key(scalar).public_key(), &terms).unwrap();
    (key(scalar), certificate)
}

/// The pack of a plan whose newest checkpoints these nodes saw, two at least: name, scalar, and whether the root issued its certificate or another did.
fn pack(seen_by: &[(&str, u8, bool)]) -> (Parties, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::default();
    let parties = parties::parties(plan.names).unwrap();
    let mut input = play(dir.path(), &parties, &plan).unwrap();
    let ledger = Ledger::open_read_only(dir.path()).unwrap();
    let other_key = SecretKey::from_scalar(&[90; 32]).unwrap();
    let (not_before_s, not_after_s) = (START_S - 86_400, START_S + 400 * 86_400);
    let terms = Terms { serial: &[9; 16], not_before_s, not_after_s, dns_names: &[] };
    let other_root = ca::root(&other_key, "CN=Another Root", None, &terms).unwrap();
    for log in [Log::Trade, Log::Finance] {
        let time = (START_S + 80_000) * 1_000_000_000;
        let seen = |size: u64, seen_by: &[(&str, u8, bool)]| {
            let (node, root) = (POOL.to_owned(), ledger.root_at(log, size).unwrap());
            let one = Checkpoint { version: VERSION, log, node, epoch: 0, size, root, time };
            let node = &parties.node;
            let signed = one.seal(&Signer { key: &node.key, cert_id: node.id(), salt_key: &[0; 32] }).unwrap();
            let mut checkpoint = WitnessedCheckpoint { checkpoint: signed, cosignatures: Vec::new() };
            let mut certificates = Vec::new();
            for (subject, scalar, is_ours) in seen_by {
                let (root, root_key) = if *is_ours { (&parties.root, 1) } else { (&other_root, 90) };
                let (key, certificate) = named(root, root_key, subject, *scalar);
                let made = Cosignature::make(checkpoint.checkpoint.tbs(), (&certificate.id(), &key), time + 1).unwrap();
                assert!(checkpoint.add(made));
                certificates.push(certificate.der().to_vec());
            }
            Witnesses { checkpoint, certificates }
        };
        // More nodes saw what was before the usage, and fewer the newest: neither hides who saw it. The bill is the finance log's first block.
        let more = [("CN=site-4/node-1", 31, true), ("CN=site-4/node-2", 32, true), ("CN=site-4/node-3", 33, true)];
        let old = (log == Log::Trade).then(|| seen(1, &more));
        let few = seen(ledger.size(log), &[("CN=site-4/node-1", 31, true)]);
        let kept = old.into_iter().chain([few, seen(ledger.size(log), seen_by)]).collect();
        witness(&mut input, &ledger, kept).unwrap();
    }
    let mut out = Cursor::new(Vec::new());
    build(&input, &mut out).unwrap();
    (parties, out.into_inner())
}

fn judged(parties: &Parties, pack: &[u8], policy: &str) -> Verdicts {
    let policy: Policy = policy.parse().unwrap();
    let options = Options { witnesses: Some(&policy), ..Options::default() };
    verify(Cursor::new(pack), std::slice::from_ref(&parties.root), options).unwrap()
}

const TWO: [(&str, u8, bool); 2] = [("CN=site-1/node-2", 21, true), ("CN=site-2/node-1", 22, true)];

#[test]
fn what_other_nodes_saw_is_shown_and_can_be_asked_for() {
    let (parties, pack) = pack(&TWO);
    for (policy, met) in [
        ("1", true),
        ("3", true), // two nodes and the platform's receipt
        ("4", false),
        ("2:site-1/node-2,site-2/node-1", true),
        ("3:site-1/node-2,site-2/node-1,site-1/platform", true),
        ("2:site-1/node-2,site-1/node-9", false),
        ("1:site-1/node-1", false), // the bill's own node
    ] {
        let verdicts = judged(&parties, &pack, policy);
        assert_eq!(results(&verdicts), if met { "pppp" } else { "pfpp" }, "{policy}: {}", verdicts.to_text(Lang::En));
        assert_eq!(verdicts.exit(), if met { Exit::Done } else { Exit::No }, "{policy}");
        let by = ["site-1/node-2".to_owned(), "site-2/node-1".to_owned()].to_vec();
        let one = |what| Confirmed { what, witnesses: by.clone(), receipted: true };
        assert_eq!(verdicts.confirmed, [one("deal"), one("usage"), one("bill")]);
    }
    let shown = judged(&parties, &pack, "1").to_text(Lang::En);
    assert!(shown.contains("the bill stands in a checkpoint that other nodes saw: site-1/node-2, site-2/node-1"));
}

#[test]
fn a_witness_that_is_none_counts_for_nothing() {
    // Of another root: a remark. Nothing that the parties signed is worth less for it.
    let (parties, strange) = pack(&[TWO[0], ("CN=site-3/node-1", 23, false)]);
    let verdicts = judged(&parties, &strange, "2");
    assert_eq!(results(&verdicts), "wppp", "{}", verdicts.to_text(Lang::En));
    assert_eq!(verdicts.confirmed[0].witnesses, ["site-1/node-2"]);
    assert_eq!(results(&judged(&parties, &strange, "3")), "wfpp");
    // A buyer, the platform, and the node itself under a second certificate are nobody's witnesses.
    for subject in ["CN=buyer-9", "CN=site-1/platform", "CN=site-1/node-1"] {
        let (parties, pack) = pack(&[TWO[0], (subject, 24, true)]);
        let verdicts = judged(&parties, &pack, "1");
        assert_eq!(results(&verdicts), "fppp", "{subject}: {}", verdicts.to_text(Lang::En));
        assert_eq!(verdicts.confirmed[0].witnesses, ["site-1/node-2"], "{subject}");
    }
    // Two certificates of one node are one witness.
    let (parties, twice) = pack(&[TWO[0], ("CN=site-1/node-2,O=next", 25, true)]);
    assert_eq!(results(&judged(&parties, &twice, "3")), "pfpp");
    // A changed word is no signature any more.
    let mut files = unzip(&twice);
    let is_word = |name: &&String| name.starts_with("signed/witnessed-1-") && name.ends_with(".sig");
    let name = files.keys().find(is_word).unwrap().clone();
    *files.get_mut(&name).unwrap().last_mut().unwrap() ^= 1;
    assert_eq!(results(&judged(&parties, &stored(&files), "1")).chars().next(), Some('f'));
}

#[test]
fn policies_read_or_say_what_is_wrong() {
    for text in ["1", "16", "2:s1/a,s1/b", "1:s1/platform"] {
        text.parse::<Policy>().unwrap();
    }
    for text in ["", "0", "-1", "two", "1:", "1:a", "3:s1/a,s1/b", "1:s1/a b,c"] {
        text.parse::<Policy>().unwrap_err();
    }
}
