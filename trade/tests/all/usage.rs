//! The usage of the golden trade: two records with a gap between them, and the same in general for properties.

use hufu_trade::{
    Error, encode,
    entry::EntryKind,
    octets::{ContractNo, Digest, Octets},
    rating::Recorded,
    usage::{MeterIdentity, Reading, Reason, Status, TimeQuality, TimeState, UsageRecord},
};

use crate::{parties::MINUTE, wire::entry};

pub(crate) fn quality(max_error_ns: Option<u64>) -> TimeQuality {
    TimeQuality { state: TimeState::Synchronised, max_error_ns }
}

pub(crate) fn reading(code: u8, delta: Option<u128>, total: Option<u128>) -> Reading {
    let status = if delta.is_some() { Status::Measured } else { Status::Missing };
    let why = delta.is_none().then(|| "the meter could not be read".to_owned());
    Reading { code, qualifier: None, status, delta, total, why }
}

pub(crate) fn identity() -> MeterIdentity {
    MeterIdentity {
        boot_id: Octets([0xb0; 16]),
        source: "cgroup2".to_owned(),
        path: "/hufu-orders.slice/order-1".to_owned(),
        instance: 4_711,
        resolved: None,
        attached: None,
    }
}

#[test]
fn a_meter_is_that_of_an_identity_that_was_brought() {
    let own = identity().id().unwrap();
    let other = Octets([7; 16]);
    let record = |seq, meter, brings: bool| {
        let name = (seq, Octets([0; 32]));
        let mut made = self::record(Octets([1; 16]), name, (0, 1), Reason::Continue, Vec::new()).unwrap().1;
        (made.meter, made.identity) = (meter, brings.then(identity));
        made
    };
    for (seq, meter, brings, before, wrong) in [
        (0, own, true, None, ""),
        (0, own, false, None, "brings none"),
        (0, other, true, None, "not the SM3"),
        (1, own, false, Some(own), ""),
        (1, own, false, None, ""),
        (1, own, true, Some(other), ""),
        (1, own, false, Some(other), "changed without"),
        (1, other, true, Some(other), "not the SM3"),
    ] {
        match record(seq, meter, brings).check_meter(before) {
            Ok(()) => assert_eq!(wrong, "", "{seq} {brings} {before:?}"),
            Err(error) => {
                assert!(!wrong.is_empty() && error.to_string().contains(wrong), "{seq} {brings} {before:?}: {error}")
            }
        }
    }
}

/// One record; the place of its entry is its number plus ten.
pub(crate) fn record(
    contract_no: ContractNo,
    (order_seq, previous): (u64, Digest),
    (start, end): (i64, i64),
    reason: Reason,
    readings: Vec<Reading>,
) -> Result<Recorded, Error> {
    let gap = reason.is_gap();
    let record = UsageRecord {
        version: 1,
        contract_no,
        order_seq,
        previous,
        start,
        end,
        reason,
        elapsed_ns: u64::try_from(end - start).unwrap_or(0),
        quality: quality(Some(1_500_000)),
        meter: identity().id()?,
        identity: (order_seq == 0).then(identity),
        why: gap.then(|| "the agent was not running (代理未运行)".to_owned()),
        readings,
        delivered: None,
    };
    let kind = if gap { EntryKind::Gap } else { EntryKind::Usage };
    let (_, name) = entry(kind, order_seq.saturating_add(10), &encode(&record, "UsageRecord")?)?;
    Ok((name, record))
}

/// The records of the golden trade.
pub(crate) fn records(contract_no: ContractNo, deal: Digest, start: i64) -> Result<Vec<Recorded>, Error> {
    let (cpu, memory, net_tx) = (5_400_123_456_789_u128, 6_442_450_944_000_u128, 1_610_612_736_u128);
    let one = vec![
        reading(0, Some(cpu), Some(cpu)),
        reading(1, Some(memory), Some(memory)),
        reading(7, Some(net_tx), Some(net_tx)),
    ];
    let two = vec![reading(0, Some(0), Some(cpu)), reading(1, None, Some(memory)), reading(7, Some(0), Some(net_tx))];
    let three = vec![
        reading(0, Some(3_600_000_000_001), Some(cpu + 3_600_000_000_001)),
        reading(1, Some(1), Some(memory + 1)),
        reading(7, Some(0), Some(net_tx)),
    ];
    let (edge, again, end) = (start + 50 * MINUTE, start + 55 * MINUTE, start + 120 * MINUTE);
    let first = record(contract_no, (0, deal), (start, edge), Reason::Begin, one)?;
    let second = record(contract_no, (1, first.0.hash), (edge, again), Reason::Gap, two)?;
    let third = record(contract_no, (2, second.0.hash), (again, end), Reason::End, three)?;
    Ok(vec![first, second, third])
}
