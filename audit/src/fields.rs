//! A structure of the evidence as named fields and shown values, so that two of them can be held against each other. Names
//! are those of `docs/evidence.asn1`, joined with dots. Nothing here judges.

use std::collections::BTreeMap;

use hufu_gm::{Signed, sm3::sm3};
use hufu_ledger::{BlockHeader, Checkpoint, Entry};
use hufu_trade::{
    account::Account,
    allocation::Allocation,
    bill::Bill,
    correction::{Correction, RefundPaid},
    decode,
    demand::{Demand, Response},
    entry::{
        Countersignature, Deal, EntryKind, Epoch, FinanceLink, OrderStatus, Payment, Receipt, Rules, SetAside,
        SignedStatement, UserOperation,
    },
    matching::Matching,
    notice::Notice,
    octets::{Octets, rfc3339},
    quality::{Delivered, Quality},
    rotation::SignedRotation,
    statement::Offer,
    tariff::Tariff,
    usage::{Reading, UsageRecord, Window},
};
use serde_json::{Value, json};

use crate::layout;

/// The field that hides an entry from whoever sees only its hash.
pub(crate) const SALT: &str = "salt";

/// Names and values.
pub(crate) type Fields = BTreeMap<String, String>;

fn flatten(name: &str, value: &Value, out: &mut Fields) {
    let inner = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| flatten(&inner(&camel(key)), value, out)),
        Value::Array(list) => {
            (0_u32..).zip(list).for_each(|(index, value)| flatten(&inner(&index.to_string()), value, out));
        }
        Value::Null => {}
        Value::String(text) => {
            out.insert(name.to_owned(), text.clone());
        }
        other => {
            out.insert(name.to_owned(), other.to_string());
        }
    }
}

/// `contract_no` as `contractNo`.
fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |done, part| {
        let mut letters = part.chars();
        let head: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
        done + &head + letters.as_str()
    })
}

fn fields(value: &Value) -> Fields {
    let mut out = Fields::new();
    flatten("", value, &mut out);
    out
}

/// An entry: `salt`, `kind` and the fields of its body; bytes that do not decode are named by their SM3.
pub(crate) fn of_entry(bytes: &[u8]) -> Fields {
    let Ok(entry) = Entry::from_bytes(bytes) else { return raw(bytes) };
    let kind = EntryKind::from_number(entry.kind);
    let mut found = kind.and_then(|kind| body(kind, &entry.body)).map_or_else(|| raw(&entry.body), |v| fields(&v));
    found.insert("kind".to_owned(), kind.map_or_else(|| entry.kind.to_string(), |kind| kind.name().to_owned()));
    found.insert(SALT.to_owned(), hex::encode(entry.salt));
    found
}

fn raw(bytes: &[u8]) -> Fields {
    Fields::from([("bytes".to_owned(), format!("{} bytes, SM3 {}", bytes.len(), Octets(sm3(&[bytes]))))])
}

fn of<T: serde::Serialize>(value: Result<T, hufu_trade::Error>) -> Option<Value> {
    serde_json::to_value(value.ok()?).ok()
}

fn body(kind: EntryKind, bytes: &[u8]) -> Option<Value> {
    match kind {
        EntryKind::Browse | EntryKind::Order | EntryKind::Score => {
            let signed: SignedStatement = decode(bytes, "SignedStatement").ok()?;
            let statement = of(signed.open())?;
            let certificates: Vec<_> = signed.certificates.iter().map(|c| hex::encode(sm3(&[c.as_bytes()]))).collect();
            let signature = hex::encode(signed.signature.as_bytes());
            Some(json!({ "statement": statement, "signature": signature, "certificates": certificates }))
        }
        EntryKind::Deal => deal(&decode(bytes, "Deal").ok()?),
        EntryKind::Offer => signed(bytes, |tbs| of(decode::<Offer>(tbs, "Offer"))),
        EntryKind::Demand => signed(bytes, |tbs| of(decode::<Demand>(tbs, "Demand"))),
        EntryKind::Response => signed(bytes, |tbs| of(decode::<Response>(tbs, "Response"))),
        EntryKind::Matching => signed(bytes, |tbs| {
            let found: Matching = decode(tbs, "Matching").ok()?;
            Some(json!({
                "demand": found.demand, "relay": found.relay, "time": rfc3339(found.time), "candidates": found.candidates,
                "selection": of(found.selected())?, "buyer_signature": hex::encode(found.selection.signature()),
            }))
        }),
        EntryKind::Account => signed(bytes, |tbs| of(decode::<Account>(tbs, "Account"))),
        EntryKind::KeyRotation => {
            let signed: SignedRotation = decode(bytes, "SignedRotation").ok()?;
            let certificates: Vec<_> = signed.certificates.iter().map(|c| hex::encode(sm3(&[c.as_bytes()]))).collect();
            let [old, new] =
                [&signed.old_signature, &signed.new_signature].map(|signature| hex::encode(signature.as_bytes()));
            Some(json!({
                "rotation": of(signed.open())?, "old_signature": old, "new_signature": new, "certificates": certificates,
            }))
        }
        EntryKind::Notice => signed(bytes, |tbs| of(decode::<Notice>(tbs, "Notice"))),
        EntryKind::Receipt => {
            let signed = Signed::from_bytes(bytes).ok()?;
            Some(
                json!({ "tbs": of(decode::<Receipt>(signed.tbs(), "Receipt"))?, "signature": hex::encode(signed.signature()) }),
            )
        }
        EntryKind::Rules => Some(json!({ "text": decode::<Rules>(bytes, "Rules").ok()?.text })),
        EntryKind::Usage | EntryKind::Gap => Some(record(&decode(bytes, "UsageRecord").ok()?)),
        EntryKind::Window => of(decode::<Window>(bytes, "Window")),
        EntryKind::OrderStatus => of(decode::<OrderStatus>(bytes, "OrderStatus")),
        EntryKind::Bill => of(decode::<Bill>(bytes, "Bill")),
        EntryKind::Correction => of(decode::<Correction>(bytes, "Correction")),
        EntryKind::RefundPaid => {
            let paid: RefundPaid = decode(bytes, "RefundPaid").ok()?;
            Some(json!({
                "contract_no": paid.contract_no, "number": paid.number, "bill": paid.bill, "correction": paid.correction,
                "amount": paid.amount, "paid_at": rfc3339(paid.paid_at), "rests_on": paid.rests_on,
                "confirmation": hex::encode(sm3(&[paid.confirmation.as_bytes()])),
            }))
        }
        EntryKind::Payment => {
            let paid: Payment = decode(bytes, "Payment").ok()?;
            Some(json!({
                "contract_no": paid.contract_no, "number": paid.number, "bill": paid.bill, "amount": paid.amount,
                "paid_at": rfc3339(paid.paid_at), "rests_on": paid.rests_on,
                "confirmation": hex::encode(sm3(&[paid.confirmation.as_bytes()])),
            }))
        }
        EntryKind::FinanceLink => of(decode::<FinanceLink>(bytes, "FinanceLink")),
        EntryKind::SetAside => of(decode::<SetAside>(bytes, "SetAside")),
        EntryKind::Epoch => {
            let epoch: Epoch = decode(bytes, "Epoch").ok()?;
            Some(json!({
                "epoch": epoch.epoch, "log": epoch.log, "held": epoch.held, "receipted": epoch.receipted, "why": epoch.why,
                "answer": epoch.answer.map(|answer| hex::encode(sm3(&[answer.as_bytes()]))),
            }))
        }
        EntryKind::Allocation => of(decode::<Allocation>(bytes, "Allocation")),
        EntryKind::UserOperation => of(decode::<UserOperation>(bytes, "UserOperation")),
        EntryKind::Certificates => None,
    }
}

fn signed(bytes: &[u8], read: impl Fn(&[u8]) -> Option<Value>) -> Option<Value> {
    let signed = Signed::from_bytes(bytes).ok()?;
    let (id, signature) = (hex::encode(signed.cert_id()), hex::encode(signed.signature()));
    Some(json!({ "tbs": read(signed.tbs())?, "certId": id, "signature": signature }))
}

fn deal(deal: &Deal) -> Option<Value> {
    let counter = &deal.countersignature;
    let tbs = of(decode::<Countersignature>(counter.tbs(), "Countersignature"))?;
    Some(json!({
        "version": deal.version, "con_type": deal.con_type, "contract_no": deal.contract_no,
        "contract_time": rfc3339(deal.contract_time), "computing_pool_id": deal.computing_pool_id, "buyer": deal.buyer,
        "order": deal.order, "offer": deal.offer, "requirement": deal.requirement, "contract_value": deal.contract_value,
        "buyer_signature": hex::encode(deal.buyer_signature.as_bytes()),
        "countersignature": { "tbs": tbs, "signature": hex::encode(counter.signature()) },
        "service_end": rfc3339(deal.service_end),
    }))
}

fn record(record: &UsageRecord) -> Value {
    let reading = |reading: &Reading| {
        let resource = reading.resource().map_or_else(|_| reading.code.to_string(), |resource| resource.to_string());
        json!({
            "resource": resource, "status": reading.status, "delta": reading.delta.map(|n| n.to_string()),
            "total": reading.total.map(|n| n.to_string()), "why": reading.why,
        })
    };
    let readings: Vec<Value> = record.readings.iter().map(reading).collect();
    let quality = |one: &Delivered| {
        let name = Quality::from_code(one.code).map_or_else(|_| one.code.to_string(), |known| known.name().to_owned());
        let text = |ns: Option<u64>| ns.map(|ns| ns.to_string());
        json!({ "quality": name, "delta": text(one.delta), "total": text(one.total), "why": one.why })
    };
    let delivered: Option<Vec<Value>> = record.delivered.as_ref().map(|list| list.iter().map(quality).collect());
    json!({
        "contract_no": record.contract_no, "order_seq": record.order_seq, "previous": record.previous,
        "start": rfc3339(record.start), "end": rfc3339(record.end), "reason": format!("{:?}", record.reason),
        "elapsed_ns": record.elapsed_ns, "quality": record.quality, "meter": record.meter, "identity": record.identity,
        "why": record.why, "readings": readings, "delivered": delivered,
    })
}

/// A block's header.
pub(crate) fn of_header(bytes: &[u8]) -> Fields {
    let Ok(header) = BlockHeader::from_bytes(bytes) else { return raw(bytes) };
    fields(&json!({
        "node": header.node, "epoch": header.epoch, "previous": hex::encode(header.previous),
        "time": rfc3339(header.time), "quality": format!("{:?}", header.quality), "root": hex::encode(header.root),
        "count": header.count,
    }))
}

/// A receipt or checkpoint.
pub(crate) fn of_root(bytes: &[u8]) -> Fields {
    if let Some(receipt) = of(decode::<Receipt>(bytes, "Receipt")) {
        return fields(&receipt);
    }
    let Ok(found) = Checkpoint::from_bytes(bytes) else { return raw(bytes) };
    fields(&json!({
        "node": found.node, "epoch": found.epoch, "root": hex::encode(found.root), "time": rfc3339(found.time),
    }))
}

/// A member that is no entry.
pub(crate) fn of_member(name: &str, bytes: &[u8]) -> Fields {
    let value = match name {
        layout::BILL => of(decode::<Bill>(bytes, "Bill")),
        layout::TARIFF => of(decode::<Tariff>(bytes, "Tariff")),
        _ => std::str::from_utf8(bytes).ok().map(|text| json!({ "line": text.lines().collect::<Vec<_>>() })),
    };
    value.map_or_else(|| raw(bytes), |value| fields(&value))
}
