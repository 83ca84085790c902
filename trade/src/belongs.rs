//! Which contract an entry belongs to: what platform and node look it up by, and under whose key a node seals it.

use hufu_gm::Signed;

use crate::{
    allocation::Allocation,
    bill::Bill,
    correction::{Correction, RefundPaid},
    decode,
    entry::{Deal, EntryKind, FinanceLink, OrderStatus, Payment, SignedStatement, UserOperation},
    notice::Notice,
    octets::ContractNo,
    statement::{Offer, Statement},
    usage::UsageRecord,
};

/// The contract an entry belongs to, as far as its bytes say.
#[must_use]
pub fn contract_of(kind: EntryKind, body: &[u8]) -> Option<ContractNo> {
    match kind {
        EntryKind::Browse | EntryKind::Order | EntryKind::Score => {
            let signed: SignedStatement = decode(body, "SignedStatement").ok()?;
            decode::<Statement>(signed.statement.as_bytes(), "Statement").ok().map(|s| s.contract_no)
        }
        EntryKind::Deal => decode::<Deal>(body, "Deal").ok().map(|deal| deal.contract_no),
        EntryKind::Usage | EntryKind::Gap => decode::<UsageRecord>(body, "UsageRecord").ok().map(|r| r.contract_no),
        EntryKind::OrderStatus => decode::<OrderStatus>(body, "OrderStatus").ok().map(|s| s.contract_no),
        EntryKind::Offer => {
            let signed = Signed::from_bytes(body).ok()?;
            decode::<Offer>(signed.tbs(), "Offer").ok().map(|offer| offer.contract_no)
        }
        EntryKind::FinanceLink => decode::<FinanceLink>(body, "FinanceLink").ok().map(|link| link.contract_no),
        EntryKind::Bill => decode::<Bill>(body, "Bill").ok().map(|bill| bill.contract_no),
        EntryKind::Notice => {
            let signed = Signed::from_bytes(body).ok()?;
            decode::<Notice>(signed.tbs(), "Notice").ok().map(|notice| notice.contract_no)
        }
        EntryKind::Allocation => decode::<Allocation>(body, "Allocation").ok().map(|given| given.contract_no),
        EntryKind::UserOperation => decode::<UserOperation>(body, "UserOperation").ok().map(|done| done.contract_no),
        EntryKind::Correction => decode::<Correction>(body, "Correction").ok().map(|correction| correction.contract_no),
        EntryKind::Payment => decode::<Payment>(body, "Payment").ok().map(|payment| payment.contract_no),
        EntryKind::RefundPaid => decode::<RefundPaid>(body, "RefundPaid").ok().map(|refund| refund.contract_no),
        _ => None,
    }
}
