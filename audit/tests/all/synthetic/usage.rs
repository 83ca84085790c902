//! What the synthetic order uses each minute, and the record that says so.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use hufu_gm::Hash;
use hufu_trade::{
    octets::{ContractNo, Octets},
    usage::{self, MeterIdentity, Reading, Reason, Status, UsageRecord},
};

/// What one minute uses: half of two cores, 4 GiB, and the traffic of a small service; five resources.
pub(super) fn readings(seq: u64) -> Vec<Reading> {
    let minute = |code: u8, base: u128| {
        let step = |n: u64| base + u128::from(n % 97) * 101;
        let total = (0..=seq % 97).map(step).sum::<u128>() + u128::from(seq / 97) * (0..97).map(step).sum::<u128>();
        Reading {
            code,
            qualifier: None,
            status: Status::Measured,
            delta: Some(step(seq)),
            total: Some(total),
            why: None,
        }
    };
    vec![
        minute(0, 57_600_000_000),
        minute(1, 257_698_037_760),
        minute(2, 8_192),
        minute(3, 300_000),
        minute(7, 5_100_000),
    ]
}

/// Whose counters the records hold.
pub(crate) fn identity() -> MeterIdentity {
    MeterIdentity {
        boot_id: Octets([9; 16]),
        source: "cgroup-v2".to_owned(),
        path: "hufu-orders/1".to_owned(),
        instance: 9,
        resolved: None,
        attached: None,
    }
}

/// One record, so long, of `last` + 1.
pub(super) fn usage(
    seq: u64,
    previous: Hash,
    contract_no: ContractNo,
    (start, length): (i64, i64),
    last: u64,
    readings: Vec<Reading>,
) -> UsageRecord {
    UsageRecord {
        version: 1,
        contract_no,
        order_seq: seq,
        previous: Octets(previous),
        start,
        end: start + length,
        reason: match seq {
            _ if seq == last => Reason::End,
            0 => Reason::Begin,
            _ => Reason::Continue,
        },
        elapsed_ns: length.unsigned_abs(),
        quality: usage::TimeQuality { state: usage::TimeState::Synchronised, max_error_ns: Some(500_000) },
        meter: identity().id().expect("an identity"),
        identity: (seq == 0).then(identity),
        why: None,
        readings,
        delivered: None,
    }
}
