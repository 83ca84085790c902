//! The agent's random courses, judged: whatever the order in which blocks of the two logs arrive, nothing is refused and every
//! contract comes to the state the agent reached, with the same end of service and the same amounts due.

use std::collections::BTreeMap;

use hufu_gm::Certificate;
use hufu_ledger::{Block, Entry, Log};
use hufu_trade::{
    correction::RefundPaid,
    decode,
    entry::{EntryKind, Payment},
    octets::ContractNo,
};
use serde::Deserialize;

use crate::judge::{
    Facts,
    block::{Opened, Outcome, judge},
};

#[derive(Deserialize)]
struct Told {
    pool: String,
    certificates: BTreeMap<String, String>,
    contracts: BTreeMap<String, Contract>,
    /// Log and block.
    blocks: Vec<(u8, String)>,
}

#[derive(Deserialize)]
struct Contract {
    state: String,
    service_end: Option<String>,
    dues: BTreeMap<String, String>,
}

/// Numbers from a seed: the same orders in every run.
struct Dice(u64);

impl Dice {
    fn odd(&mut self) -> bool {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 63 == 1
    }
}

fn facts(told: &Told) -> Facts {
    let certificate = |name: &str| {
        let der = hex::decode(&told.certificates[name]).expect("hexadecimal");
        Certificate::from_der(&der).expect("a certificate")
    };
    let (node, platform) = (certificate("node"), certificate("platform"));
    Facts {
        pool: told.pool.clone(),
        anchors: vec![certificate("root")],
        platform: Some((platform.id(), platform.public_key().clone())),
        certificates: BTreeMap::from([(node.id(), node)]),
        now_ns: i64::MAX,
        ..Facts::default()
    }
}

/// What the operator recorded is in the node's confirmations: payments and refunds of a block come to the facts before it.
fn record(facts: &mut Facts, bytes: &[u8]) {
    let block = Block::from_bytes(bytes).expect("a block");
    for entry in block.entries().iter().map(|bytes| Entry::from_bytes(bytes).expect("an entry")) {
        let (no, number, amount, is_refund) = match EntryKind::from_number(entry.kind) {
            Some(EntryKind::Payment) => {
                let paid: Payment = decode(&entry.body, "Payment").expect("a payment");
                (paid.contract_no, paid.number, paid.amount, false)
            }
            Some(EntryKind::RefundPaid) => {
                let back: RefundPaid = decode(&entry.body, "RefundPaid").expect("a refund");
                (back.contract_no, back.number, back.amount, true)
            }
            _ => continue,
        };
        let contract = facts.contracts.entry(no).or_default();
        let list = if is_refund { &mut contract.refunds } else { &mut contract.payments };
        if !list.iter().any(|(of, _)| *of == number) {
            list.push((number, amount));
        }
    }
}

/// Judges all blocks, choosing each time from which log the next one comes; a block that waits is tried again later.
fn follow(told: &Told, seed: u64) -> Facts {
    let mut facts = facts(told);
    let logs: [Vec<Vec<u8>>; 2] = [0, 1].map(|log| {
        let own = told.blocks.iter().filter(|(of, _)| *of == log);
        own.map(|(_, block)| hex::decode(block).expect("hexadecimal")).collect()
    });
    let (mut next, mut waiting, mut dice) = ([0_usize; 2], [false; 2], Dice(seed));
    while let Some(wanted) = [0, 1].into_iter().find(|log| next[*log] < logs[*log].len()) {
        let open = |log: usize| next[log] < logs[log].len() && !waiting[log];
        let log = match (open(0), open(1)) {
            (true, true) => usize::from(dice.odd()),
            (true, false) => 0,
            (false, true) => 1,
            (false, false) => panic!("both logs wait: block {} of log {wanted}", next[wanted]),
        };
        let bytes = &logs[log][next[log]];
        // What waits must leave nothing behind, as in a transaction.
        let mut after = facts.clone();
        record(&mut after, bytes);
        let opened = Opened::from_bytes(bytes).expect("a block");
        match judge(&mut after, Log::from_number(u8::try_from(log).expect("0 or 1")).expect("a log"), &opened) {
            Outcome::Next(block) => {
                for entry in &block.entries {
                    assert_eq!(entry.refused, None, "{:?}", entry.name);
                }
                (facts, next[log], waiting) = (after, next[log] + 1, [false; 2]);
            }
            Outcome::Waits => waiting[log] = true,
            other => panic!("block {} of log {log}: {other:?}", next[log]),
        }
    }
    facts
}

#[test]
fn in_whatever_order_the_logs_arrive_the_platform_comes_to_what_the_agent_reached() {
    for text in [
        include_str!("../../testdata/courses/default.json"),
        include_str!("../../testdata/courses/default-2.json"),
        include_str!("../../testdata/courses/other.json"),
        include_str!("../../testdata/courses/periods.json"),
        include_str!("../../testdata/courses/arrears.json"),
        include_str!("../../testdata/courses/prepaid.json"),
    ] {
        let told: Told = serde_json::from_str(text).expect("a course");
        for seed in 0..8 {
            let facts = follow(&told, seed);
            for (no, want) in &told.contracts {
                let no = ContractNo::from_hex(no).expect("a number");
                let found = &facts.contracts[&no];
                assert_eq!(found.state, want.state, "{no}, order {seed}");
                assert_eq!(found.in_force.map(|in_force| in_force.service_end.to_string()), want.service_end, "{no}");
                let dues = found.bills.iter().map(|billed| (billed.due.number.clone(), billed.due.total.to_string()));
                assert_eq!(dues.collect::<BTreeMap<_, _>>(), want.dues, "{no}, order {seed}");
            }
        }
        assert!(told.contracts.values().any(|contract| !contract.dues.is_empty()), "a course worth judging");
    }
}
