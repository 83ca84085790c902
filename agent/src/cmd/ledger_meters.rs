//! Whose counters the usage records of a ledger hold, for its full check: each `meter` is that of the identity that its record, or
//! one of the same order before it, brought. The rule itself is `trade/src/usage.rs`.

use std::collections::BTreeMap;

use hufu_ledger::Entry;
use hufu_trade::{
    decode,
    entry::EntryKind,
    octets::{ContractNo, Octets},
    usage::UsageRecord,
};

/// The newest meter of each order, as far as the trade log was read.
#[derive(Default)]
pub(super) struct Meters {
    last: BTreeMap<ContractNo, (u64, Octets<16>)>,
    /// Place and reason of each record that does not hold.
    pub(super) refused: Vec<(String, String)>,
}

impl Meters {
    /// Takes an entry of the trade log in its order; those of other kinds are none of its business.
    pub(super) fn take(&mut self, (height, index): (u64, usize), entry: &Entry) {
        if ![EntryKind::Usage.number(), EntryKind::Gap.number()].contains(&entry.kind) {
            return;
        }
        let mut refuse = |why: String| self.refused.push((format!("trade height {height} entry {index}"), why));
        let record: UsageRecord = match decode(&entry.body, "UsageRecord") {
            Ok(record) => record,
            Err(error) => return refuse(error.to_string()),
        };
        // A hole, where a range was lost, leaves nothing to compare with.
        let before = self.last.get(&record.contract_no).filter(|(seq, _)| seq.checked_add(1) == Some(record.order_seq));
        if let Err(error) = record.check_meter(before.map(|(_, meter)| *meter)) {
            refuse(error.to_string());
        }
        self.last.insert(record.contract_no, (record.order_seq, record.meter));
    }
}

#[cfg(test)]
mod tests {
    use hufu_trade::{
        encode,
        usage::{MeterIdentity, Reason, TimeQuality, TimeState},
    };

    use super::*;

    fn identity(instance: u64) -> MeterIdentity {
        let (source, path) = ("cgroup-v2".to_owned(), "a".to_owned());
        MeterIdentity { boot_id: Octets([1; 16]), source, path, instance, resolved: None, attached: None }
    }

    fn entry(contract: u8, order_seq: u64, meter: u64, brings: Option<u64>) -> Entry {
        let record = UsageRecord {
            version: 1,
            contract_no: Octets([contract; 16]),
            order_seq,
            previous: Octets([0; 32]),
            start: 0,
            end: 1,
            reason: Reason::Continue,
            elapsed_ns: 1,
            quality: TimeQuality { state: TimeState::Relative, max_error_ns: None },
            meter: identity(meter).id().unwrap(),
            identity: brings.map(identity),
            why: None,
            readings: Vec::new(),
            delivered: None,
        };
        Entry { salt: [0; 16], kind: EntryKind::Usage.number(), body: encode(&record, "UsageRecord").unwrap() }
    }

    #[test]
    fn each_record_that_tells_a_meter_nobody_knows_is_found() {
        let mut meters = Meters::default();
        let told = [
            entry(1, 0, 7, Some(7)),
            entry(2, 0, 8, Some(8)),
            entry(1, 1, 7, None),
            entry(1, 2, 9, Some(9)),
            entry(2, 1, 9, None),
            entry(1, 3, 7, None),
            entry(1, 4, 7, Some(6)),
            entry(3, 0, 7, None),
            // After a range that was lost there is nothing to compare with.
            entry(2, 9, 5, None),
            Entry { body: vec![1], ..entry(1, 5, 7, None) },
            Entry { kind: EntryKind::Window.number(), ..entry(3, 0, 7, None) },
        ];
        for (height, entry) in (0..).zip(&told) {
            meters.take((height, 0), entry);
        }
        let found: Vec<_> = meters.refused.iter().map(|(place, _)| place.as_str()).collect();
        let want = [4, 5, 6, 7, 9].map(|height| format!("trade height {height} entry 0"));
        assert_eq!(found, want, "{:?}", meters.refused);
    }
}
