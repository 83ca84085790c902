//! One value, one encoding: what is encoded is read back as itself, and every other byte string is refused or is another
//! value. Random values of every structure; every truncation, bit flip and second spelling of every golden file.

use std::fmt::Debug;

use der::{Decode, Encode};
use hufu_gm::Signed;
use hufu_trade::{
    account::{Account, Operation},
    allocation::{Allocation, Device},
    bill::{Bill, Line, RatedGap},
    correction::{Adjustment, Correction, RefundPaid},
    decode,
    demand::{Demand, DemandAttribute, DemandItem, DemandRefusal, Proposal, Response},
    encode,
    entry::{
        Certificates, Countersignature, Deal, EntryName, Epoch, FinanceLink, OrderStatus, Payment, Receipt,
        ReceivedBill, Refused, Rules, SetAside, SignedStatement, UserOperation,
    },
    if2::{
        Blocks,
        peers::{Ask, Beginning, Headers, Witnessing},
        public::{Public, PublicDeal, PublicRecord},
    },
    matching::{Candidate, Matching, Selection},
    notice::{Notice, Renewal},
    parent::{ChildBill, ParentBill, ParentNoInput, ParentOrder},
    quality::{Delivered, QualityLine},
    reconciliation::{Reconciliation, ReconciliationLine},
    rotation::{KeyRotation, SignedRotation},
    statement::{
        ContractNoInput, ContractValue, Metered, Offer, Requirement, RequirementItem, Reservation, ScoreCard,
        ScoreItem, Statement,
    },
    tariff::{Price, Tariff, Tier},
    token::Token,
    usage::{HostTotal, MeterIdentity, Reading, SourceIdentity, TimeQuality, UsageRecord, Window},
};
use proptest::prelude::{ProptestConfig, TestCaseError, any, prop_assert, prop_assert_eq, proptest};

use crate::{
    dice::Dice,
    golden_test::{folder, read},
};

fn round_trip<T>(value: &T) -> Result<(), TestCaseError>
where
    T: for<'a> Decode<'a, Error = der::Error> + Encode + PartialEq + Debug,
{
    let bytes = encode(value, "value").unwrap();
    prop_assert_eq!(&decode::<T>(&bytes, "value").unwrap(), value);
    prop_assert!(decode::<T>(&[&bytes[..], &[0]].concat(), "value").is_err(), "a trailing byte");
    for cut in 0..bytes.len() {
        prop_assert!(decode::<T>(&bytes[..cut], "value").is_err(), "cut to {}", cut);
    }
    Ok(())
}

macro_rules! round_trips {
    ($($name:ident: $make:ident),* $(,)?) => {
        proptest! {
            #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
            $(#[test]
            fn $name(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
                round_trip(&Dice(&bytes).$make())?;
            })*
        }
    };
}
round_trips! {
    contract_no_inputs_read_back: contract_no_input,
    statements_read_back: statement,
    requirements_read_back: requirement,
    contract_values_read_back: contract_value,
    score_cards_read_back: score_card,
    signed_statements_read_back: signed_statement,
    tariffs_read_back: tariff,
    offers_read_back: offer,
    signed_wrappers_read_back: signed,
    entry_names_read_back: entry_name,
    countersignatures_read_back: countersignature,
    deals_read_back: deal,
    rules_read_back: rules,
    certificates_read_back: certificates,
    order_statuses_read_back: order_status,
    user_operations_read_back: user_operation,
    devices_read_back: device,
    accounts_read_back: account,
    operations_read_back: operation,
    allocations_read_back: allocation,
    time_qualities_read_back: quality,
    meter_identities_read_back: identity,
    readings_read_back: reading,
    usage_records_read_back: usage_record,
    host_totals_read_back: host_total,
    windows_read_back: window,
    lines_read_back: line,
    rated_gaps_read_back: gap,
    bills_read_back: bill,
    finance_links_read_back: finance_link,
    payments_read_back: payment,
    renewals_read_back: renewal,
    notices_read_back: notice,
    adjustments_read_back: adjustment,
    corrections_read_back: correction,
    refunds_read_back: refund_paid,
    demands_read_back: demand,
    responses_read_back: response,
    selections_read_back: selection,
    matchings_read_back: matching,
    reconciliations_read_back: reconciliation,
    key_rotations_read_back: key_rotation,
    signed_rotations_read_back: signed_rotation,
    parent_no_inputs_read_back: parent_no_input,
    parent_orders_read_back: parent_order,
    parent_bills_read_back: parent_bill,
    set_asides_read_back: set_aside,
    epochs_read_back: epoch,
    receipts_read_back: receipt,
    block_messages_read_back: blocks,
    header_messages_read_back: headers,
    asks_read_back: ask,
    witnessings_read_back: witnessing,
    public_records_read_back: public,
}

/// Decodes and encodes again what a golden file's name says it is; `None` for the ledger's own structures.
fn again(name: &str, bytes: &[u8]) -> Option<Result<Vec<u8>, hufu_trade::Error>> {
    macro_rules! by_name {
        ($($kind:ident),*) => {
            match name.split(['-', '.']).next()? {
                $(stringify!($kind) => Some(decode::<$kind>(bytes, "golden").and_then(|value| encode(&value, "golden"))),)*
                "Entry" | "EntryRef" | "Block" | "BlockHeader" | "Checkpoint" => None,
                "Witnessed" | "Cosignature" | "WitnessedCheckpoint" | "ForkProof" | "Join" => None,
                other => panic!("no decoder for {other}"),
            }
        };
    }
    by_name!(
        Account,
        Adjustment,
        Allocation,
        Ask,
        Beginning,
        Bill,
        Blocks,
        Candidate,
        Certificates,
        ChildBill,
        ContractNoInput,
        ContractValue,
        Correction,
        Countersignature,
        Deal,
        Delivered,
        Demand,
        DemandAttribute,
        DemandItem,
        DemandRefusal,
        Device,
        EntryName,
        Epoch,
        FinanceLink,
        Headers,
        HostTotal,
        KeyRotation,
        Line,
        Matching,
        MeterIdentity,
        Metered,
        Notice,
        Offer,
        Operation,
        OrderStatus,
        ParentBill,
        ParentNoInput,
        ParentOrder,
        Payment,
        Price,
        Proposal,
        Public,
        PublicDeal,
        PublicRecord,
        QualityLine,
        RatedGap,
        Reading,
        Receipt,
        ReceivedBill,
        Reconciliation,
        ReconciliationLine,
        RefundPaid,
        Refused,
        Renewal,
        Requirement,
        RequirementItem,
        Reservation,
        Response,
        Rules,
        ScoreCard,
        ScoreItem,
        Selection,
        SetAside,
        Signed,
        SignedRotation,
        SignedStatement,
        SourceIdentity,
        Statement,
        Tariff,
        Tier,
        TimeQuality,
        Token,
        UsageRecord,
        UserOperation,
        Window,
        Witnessing
    )
}

fn golden() -> Vec<(String, Vec<u8>)> {
    let names = std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let ders: Vec<_> = names.filter(|name| name.ends_with(".der")).map(|name| (name.clone(), read(&name))).collect();
    ders.into_iter().filter(|(name, bytes)| again(name, bytes).is_some()).collect()
}

#[test]
fn golden_files_encode_to_themselves() {
    for (name, bytes) in golden() {
        assert_eq!(again(&name, &bytes).unwrap().unwrap(), bytes, "{name}");
    }
}

#[test]
fn every_bit_flip_is_refused_or_is_another_value() {
    for (name, bytes) in golden() {
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(encoded) = again(&name, &flipped).unwrap() {
                assert!(encoded == flipped && encoded != bytes, "{name} bit {bit}");
            }
        }
    }
}

/// A DER value taken apart: containers by their constructed bit, everything else opaque.
enum Node {
    Leaf(u8, Vec<u8>),
    Branch(u8, Vec<Node>),
}

fn take(bytes: &mut &[u8]) -> Node {
    let (tag, mut length, mut rest) = (bytes[0], usize::from(bytes[1]), &bytes[2..]);
    if length > 0x80 {
        let count = length - 0x80;
        length = rest[..count].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        rest = &rest[count..];
    }
    let (mut content, after) = rest.split_at(length);
    *bytes = after;
    if tag & 0x20 == 0 {
        return Node::Leaf(tag, content.to_vec());
    }
    let mut children = Vec::new();
    while !content.is_empty() {
        children.push(take(&mut content));
    }
    Node::Branch(tag, children)
}

/// Ways to spell one node otherwise.
#[derive(Clone, Copy, PartialEq)]
enum Spelling {
    LongLength,
    PaddedInteger,
    UnknownField,
    LastFieldMissing,
    IndefiniteLength,
}

/// Writes the tree; the node numbered `at` in another spelling. Gives true when that spelling applies to that node.
fn put(node: &Node, out: &mut Vec<u8>, count: &mut usize, at: usize, spelling: Spelling) -> bool {
    let here = *count == at;
    *count += 1;
    let mut applied = false;
    let (tag, content) = match node {
        Node::Leaf(tag, content) => {
            let mut content = content.clone();
            if here && spelling == Spelling::PaddedInteger && [0x02, 0x0a].contains(tag) {
                content.insert(0, if content[0] & 0x80 == 0 { 0 } else { 0xff });
                applied = true;
            }
            (*tag, content)
        }
        Node::Branch(tag, children) => {
            let mut content = Vec::new();
            let keep =
                children.len() - usize::from(here && spelling == Spelling::LastFieldMissing && !children.is_empty());
            applied |= keep < children.len();
            for child in &children[..keep] {
                applied |= put(child, &mut content, count, at, spelling);
            }
            if here && spelling == Spelling::UnknownField {
                content.extend([0x9e, 0x01, 0x00]);
                applied = true;
            }
            (*tag, content)
        }
    };
    let length = content.len();
    let shortest = if length < 0x80 {
        0
    } else if length < 0x100 {
        1
    } else {
        2
    };
    let long = here && spelling == Spelling::LongLength;
    let indefinite = here && spelling == Spelling::IndefiniteLength && tag & 0x20 != 0;
    applied |= long || indefinite;
    out.push(tag);
    if indefinite {
        out.push(0x80);
    } else {
        let bytes = (shortest + usize::from(long)).min(3);
        if bytes == 0 {
            out.push(u8::try_from(length).unwrap());
        } else {
            out.push(0x80 | u8::try_from(bytes).unwrap());
            out.extend(&u32::try_from(length).unwrap().to_be_bytes()[4 - bytes..]);
        }
    }
    out.extend(content);
    if indefinite {
        out.extend([0, 0]);
    }
    applied
}

/// Dropping the last field leaves a value of the same type where that field may be absent, and a shorter list of a list.
fn may_shrink(name: &str, bytes: &[u8], shorter: &[u8]) -> bool {
    again(name, shorter).unwrap().is_ok_and(|encoded| encoded == shorter && shorter != bytes)
}

#[test]
fn every_second_spelling_is_refused() {
    let mut tried = 0;
    for (name, bytes) in golden() {
        let tree = take(&mut &bytes[..]);
        for spelling in [
            Spelling::LongLength,
            Spelling::PaddedInteger,
            Spelling::UnknownField,
            Spelling::LastFieldMissing,
            Spelling::IndefiniteLength,
        ] {
            for at in 0.. {
                let (mut out, mut count) = (Vec::new(), 0);
                let applied = put(&tree, &mut out, &mut count, at, spelling);
                if at >= count {
                    break;
                }
                if !applied {
                    assert_eq!(out, bytes, "{name}: the walker changes nothing by itself");
                    continue;
                }
                tried += 1;
                let refused = again(&name, &out).unwrap().is_err();
                // A list of unknown octets or of items may lose or gain one; it must then be another value.
                let other = spelling == Spelling::LastFieldMissing && may_shrink(&name, &bytes, &out);
                assert!(refused || other, "{name}: node {at} in another spelling is accepted");
            }
        }
    }
    assert!(tried > 1_000, "{tried}");
}
