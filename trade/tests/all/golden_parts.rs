//! The parts of the golden files that stand alone: usage, blocks, receipts and the ledger's own entries.

use hufu_trade::{
    allocation::{Allocation, Device},
    encode,
    entry::{
        Certificates, EntryKind, EntryName, Epoch, OrderStatus, Receipt, ReceivedBill, Refused, SetAside,
        UserOperation, octet_string,
    },
    if2::{Blocks, PLATFORM},
    octets::{ContractNo, Digest, Octets},
    quality::Delivered,
    usage::{HostTotal, MeterIdentity, Reading, SourceIdentity, Status, UsageRecord, Window},
};

use crate::{
    golden::{Files, Outcome},
    parties::{MINUTE, POOL, Parties, SECOND, T0},
    usage::quality,
    wire::{Block, BlockHeader, Checkpoint, Log, digest, entry, leaf, node},
};

pub(crate) fn usage_parts(
    files: &mut Files,
    parties: &Parties,
    records: &[hufu_trade::rating::Recorded],
) -> Outcome<()> {
    let (_, first) = records.first().ok_or("no record")?;
    files.der("MeterIdentity", first.identity.as_ref().ok_or("no identity")?)?;
    let interface = SourceIdentity { source: "interface".to_owned(), path: "veth3f2a".to_owned(), instance: 12 };
    files.der("SourceIdentity", &interface)?;
    let attached = MeterIdentity {
        resolved: Some("docker:3f2a -> /system.slice/docker-3f2a.scope".to_owned()),
        attached: Some(vec![interface]),
        ..first.identity.clone().ok_or("no identity")?
    };
    files.der("MeterIdentity-attached", &attached)?;
    let stalled = Delivered { code: 2, delta: Some(1_500_000), total: Some(2_500_000), why: None };
    files.der("Delivered", &stalled)?;
    let why = Some("the hypervisor tells no stolen time (虚拟机监控器未提供)".to_owned());
    let stolen = Delivered { code: 1, delta: None, total: None, why };
    files.der("Delivered-missing", &stolen)?;
    let delivered = UsageRecord {
        meter: attached.id()?,
        identity: Some(attached),
        delivered: Some(vec![stolen, stalled]),
        ..first.clone()
    };
    files.der("UsageRecord-delivered", &delivered)?;
    files.der("TimeQuality", &first.quality)?;
    files.der("Reading", first.readings.first().ok_or("no reading")?)?;
    let reading = Reading {
        code: 9,
        qualifier: Some("A100-80G".to_owned()),
        status: Status::Estimated,
        delta: Some(60_000_000_000),
        total: Some(u128::MAX),
        why: Some("the window's last sample was lost".to_owned()),
    };
    files.der("Reading-estimated", &reading)?;
    let read =
        HostTotal { code: 0, host: Some(5_400_999_999_999), orders: 5_400_123_456_789, check: "checked".to_owned() };
    let unread = HostTotal { code: 7, host: None, orders: 1_610_612_736, check: "host counter missing".to_owned() };
    files.der("HostTotal", &read)?;
    files.der("HostTotal-unread", &unread)?;
    let window = Window {
        version: 1,
        start: T0,
        end: T0 + 60 * MINUTE,
        elapsed_ns: 3_600_000_000_123,
        samples_due: 360,
        samples_taken: 359,
        boot_id: Octets([0xb0; 16]),
        quality: quality(None),
        orders: 1,
        totals: vec![read, unread],
    };
    let body = files.der("Window", &window)?;
    let (window, _) = entry(EntryKind::Window, 9, &body)?;
    files.raw("Entry-window.der", &window);
    let mut block = vec![window];
    for (name, kind, (place, record)) in ["usage-begin", "gap", "usage-end"]
        .into_iter()
        .zip([EntryKind::Usage, EntryKind::Gap, EntryKind::Usage])
        .zip(records)
        .map(|((name, kind), record)| (name, kind, record))
    {
        let (der, _) = entry(kind, place.height, &encode(record, "UsageRecord")?)?;
        files.raw(&format!("Entry-{name}.der"), &der);
        block.push(der);
    }
    block.truncate(3);
    window_block(files, parties, block.try_into().map_err(|_| "three entries expected")?)
}

fn header((log, height): (Log, u64), previous: [u8; 32], root: Digest) -> BlockHeader {
    BlockHeader {
        version: 1,
        log,
        node: POOL.to_owned(),
        epoch: 0,
        height,
        previous: Octets(previous),
        time: T0 + i64::try_from(height).unwrap_or(0) * SECOND,
        quality: quality(Some(1_500_000)),
        root,
        count: 1,
    }
}

/// One entry as a file, at a place of the trade log, or of the finance log for what is about money.
pub(crate) fn lone(files: &mut Files, name: &str, kind: EntryKind, height: u64, body: &[u8]) -> Outcome<EntryName> {
    let (der, entry_name) = entry(kind, height, body)?;
    files.raw(&format!("Entry-{name}.der"), &der);
    Ok(entry_name)
}

/// The block of a usage window, three entries: the tree that is not of one leaf, and not of a power of two.
pub(crate) fn window_block(files: &mut Files, parties: &Parties, entries: [Vec<u8>; 3]) -> Outcome<()> {
    let [window, record, gap] = entries.each_ref().map(|der| leaf(der));
    let before = digest(b"block 9 is not among these files").0;
    let header = BlockHeader { count: 3, ..header((Log::Trade, 10), before, node(node(window, record), gap)) };
    let header = parties.node.seal(encode(&header, "BlockHeader")?)?;
    files.signed("BlockHeader-window", &header)?;
    let entries = entries.iter().map(|der| octet_string(der, "Block")).collect::<Result<_, _>>()?;
    files.der("Block-window", &Block { header, entries })?;
    Ok(())
}

/// A block of one entry; gives its hash and the entry's name.
pub(crate) fn block(
    files: &mut Files,
    parties: &Parties,
    name: &str,
    height: u64,
    previous: [u8; 32],
    kind: EntryKind,
    body: &[u8],
) -> Outcome<([u8; 32], EntryName)> {
    let (der, _) = entry(kind, height, body)?;
    let entry_name = lone(files, name, kind, height, body)?;
    let log = if entry_name.log == 1 { Log::Finance } else { Log::Trade };
    let header = parties.node.seal(encode(&header((log, height), previous, entry_name.hash), "BlockHeader")?)?;
    files.signed(&format!("BlockHeader-{name}"), &header)?;
    let hash = digest(header.tbs()).0;
    let block = Block { header, entries: vec![octet_string(&der, "Block")?] };
    let der = files.der(&format!("Block-{name}"), &block)?;
    if name == "browse" {
        files.der("Blocks", &Blocks::pack(0, height, [der])?)?;
    }
    Ok((hash, entry_name))
}

/// The node's checkpoint over two blocks of the trade log, the platform's receipt for it with a refusal, and the receipt over
/// the first block of the finance log with the bill it took.
pub(crate) fn receipt(
    files: &mut Files,
    parties: &Parties,
    blocks: [[u8; 32]; 2],
    (bill_block, received): ([u8; 32], ReceivedBill),
) -> Outcome<()> {
    let root = node(leaf(&blocks[0]), leaf(&blocks[1]));
    let checkpoint = Checkpoint {
        version: 1,
        log: Log::Trade,
        node: POOL.to_owned(),
        epoch: 0,
        size: 2,
        root,
        time: T0 + 2 * SECOND,
    };
    files.signed("Checkpoint", &parties.node.seal(encode(&checkpoint, "Checkpoint")?)?)?;
    let first = header((Log::Trade, 0), [0; 32], digest(b"the first entry"));
    crate::golden_peers::peers(files, parties, (&checkpoint, &first))?;
    let refused = Refused { entry: leaf(b"an entry nobody made"), code: "amount".to_owned() };
    files.der("Refused", &refused)?;
    let trade = Receipt {
        version: 1,
        computing_pool_id: POOL.to_owned(),
        log: 0,
        size: 2,
        root,
        stored_at: T0 + 3 * SECOND,
        refused: vec![refused],
        bills: Vec::new(),
    };
    let finance = Receipt {
        log: 1,
        size: 1,
        root: leaf(&bill_block),
        stored_at: T0 + 190 * MINUTE,
        refused: Vec::new(),
        bills: vec![received],
        ..trade.clone()
    };
    let signed = files.signed("Receipt", &parties.platform.seal(encode(&trade, "Receipt")?)?)?;
    lone(files, "receipt", EntryKind::Receipt, 15, &signed)?;
    files.signed("Receipt-finance", &parties.platform.seal(encode(&finance, "Receipt")?)?)?;
    Ok(())
}

pub(crate) fn others(files: &mut Files, parties: &Parties, contract_no: ContractNo) -> Outcome<()> {
    let certificates = vec![octet_string(parties.platform.certificate.der(), "Certificates")?];
    let body = files.der("Certificates", &Certificates { role: PLATFORM.to_owned(), certificates })?;
    lone(files, "certificates", EntryKind::Certificates, 17, &body)?;
    let status = OrderStatus {
        version: 1,
        contract_no,
        act: "expire".to_owned(),
        from: "serving".to_owned(),
        to: "ended".to_owned(),
        time: T0 + 130 * MINUTE,
        why: "the term is over (服务期满)".to_owned(),
    };
    let body = files.der("OrderStatus", &status)?;
    lone(files, "order-status", EntryKind::OrderStatus, 13, &body)?;
    let read = UserOperation {
        version: 1,
        contract_no,
        operator: "zhang".to_owned(),
        act: "export".to_owned(),
        state: "closed".to_owned(),
        time: T0 + 200 * MINUTE,
        why: "evidence pack for the auditor (审计用证据包)".to_owned(),
    };
    let body = files.der("UserOperation", &read)?;
    lone(files, "user-operation", EntryKind::UserOperation, 27, &body)?;
    let device = |id: &str| Device { resource: "gpu:A100-80G".to_owned(), id: id.to_owned() };
    let devices = ["GPU-1b5e0e8a-3f0c-4a43-9d0e-0a6c1f2d3e4f", "GPU-7c2f9a10-55d1-4a0b-8e77-c0ffee001122"].map(device);
    let given = Allocation { version: 1, contract_no, time: T0 + 10 * MINUTE, devices: devices.to_vec() };
    let body = files.der("Allocation", &given)?;
    files.der("Device", &given.devices[0])?;
    lone(files, "allocation", EntryKind::Allocation, 28, &body)?;
    let aside = SetAside { segment: 3, offset: 4_096, length: 17, sm3: digest(b"seventeen bytes..") };
    let body = files.der("SetAside", &aside)?;
    lone(files, "set-aside", EntryKind::SetAside, 18, &body)?;
    let why = "restored from a copy".to_owned();
    let body = files.der("Epoch", &Epoch { epoch: 1, log: 0, held: 40, receipted: 44, why, answer: None })?;
    lone(files, "epoch", EntryKind::Epoch, 19, &body)?;
    Ok(())
}
