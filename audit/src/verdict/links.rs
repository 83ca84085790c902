//! Still the first verdict: the entries hold what was signed, by whom they say, and name each other by hash. So a piece that
//! carries no signature of its own hangs on one that does.

use hufu_gm::{Hash, sm2::PublicKey, sm3::sm3};
use hufu_trade::{
    bill::Bill,
    confirm,
    entry::EntryKind,
    octets::{Digest, Octets},
};

use crate::{
    evidence::{Evidence, Found, Noticed, Stated},
    findings::Verdict,
    layout,
    open::Members,
    signed::Kind,
    text::Text,
    verdict::signatures::{Authentic, shown},
};

pub(crate) fn check(members: &Members, evidence: &Evidence<'_>, authentic: &Authentic, out: &mut Verdict) {
    let stated = [(Kind::Browse, &evidence.browse), (Kind::Order, &evidence.order)];
    let scores = evidence.scores.iter().map(|score| (Kind::Score, score));
    for (kind, found) in stated.into_iter().filter_map(|(kind, found)| Some((kind, found.as_ref()?))).chain(scores) {
        statement(kind, found, authentic, out);
    }
    for found in &evidence.notices {
        notice(found, evidence, authentic, out);
    }
    confirmations(evidence, authentic, out);
    offer(evidence, authentic, out);
    deal(evidence, authentic, out);
    hashes(evidence, out);
    amounts(evidence, out);
    bill(members, evidence, out);
    attachments(members, evidence, out);
}

/// The signed piece that an entry holds must be one the index lists, under the same certificate, with the same signature.
fn listed(
    kind: Kind,
    (name, tbs, signature): (&str, &[u8], &[u8]),
    certificate: &Hash,
    authentic: &Authentic,
    out: &mut Verdict,
) {
    let role = kind.role().name().to_owned();
    out.checked();
    match authentic.of(kind, tbs) {
        None => out.fail(name, Text::Unsigned { role }),
        Some(sealed) if sealed.certificate != *certificate => {
            let (told, found) = (shown(certificate), shown(&sealed.certificate));
            out.fail(name, Text::OtherSigner { role, told, found });
        }
        Some(sealed) if sealed.signature != signature => out.fail(name, Text::OtherSignature {}),
        Some(_) => {}
    }
}

fn statement(kind: Kind, found: &Found<'_, Stated>, authentic: &Authentic, out: &mut Verdict) {
    let (signed, statement) = (&found.value.signed, &found.value.statement);
    let piece = (found.name, signed.statement.as_bytes(), signed.signature.as_bytes());
    listed(kind, piece, &statement.buyer.0, authentic, out);
}

/// A notice is signed by the contract's buyer or by the platform, names the deal, and stands there once.
fn notice(found: &Found<'_, Noticed>, evidence: &Evidence<'_>, authentic: &Authentic, out: &mut Verdict) {
    let Noticed { signed, notice } = &found.value;
    let kind = if evidence.is_buyers(&found.value) { Kind::Notice } else { Kind::PlatformNotice };
    listed(kind, (found.name, signed.tbs(), signed.signature()), &signed.cert_id(), authentic, out);
    if let Some(deal) = &evidence.deal {
        let to = || Text::HashLink { to: "deal".into(), by: "notice".into() };
        out.check(notice.deal.0 == deal.hash, found.field("deal"), to);
        let (told, pool) = (deal.value.computing_pool_id.clone(), notice.computing_pool_id.clone());
        let differs = || Text::FieldDiffers { by: "deal".into(), told: told.clone(), found: pool.clone() };
        out.check(told == pool, found.field("computingPoolId"), differs);
    }
    if let Some(bill) = notice.bill {
        // Of bills that the platform refused, its pack holds what the trade log says of them.
        let linked = evidence.links.iter().filter(|link| link.value.kind == EntryKind::Bill.number());
        let here = evidence.bills.iter().map(|found| found.hash);
        let known = here.chain(linked.map(|link| link.value.finance.hash.0)).any(|hash| hash == bill.0);
        out.check(known, found.field("bill"), || Text::HashLink { to: "bill".into(), by: "notice".into() });
    }
    let first = evidence.notices.iter().find(|other| other.value.signed.tbs() == signed.tbs());
    out.check(first.is_some_and(|first| first.place == found.place), found.name, || Text::NoticeTwice {});
}

/// What payments and refunds rest on is the word of the platform, listed in the index like any other signature.
fn confirmations(evidence: &Evidence<'_>, authentic: &Authentic, out: &mut Verdict) {
    let Some(pool) = evidence.deal.as_ref().map(|deal| deal.value.computing_pool_id.as_str()) else { return };
    let mut judge = |name: &str, confirmation: &[u8], holds: &dyn Fn(&PublicKey) -> Result<(), hufu_trade::Error>| {
        let place = format!("{name}#confirmation");
        let unconfirmed = |error: hufu_trade::Error| Text::Unconfirmed { why: error.to_string() };
        let sealed = match confirm::sealed(confirmation) {
            Ok(sealed) => sealed,
            Err(error) => return out.fail(place, unconfirmed(error)),
        };
        let kind = Kind::Confirmation;
        listed(kind, (&place, &sealed.tbs, &sealed.signature), &sealed.cert_id.0, authentic, out);
        if let Some(Err(error)) = authentic.of(kind, &sealed.tbs).map(|listed| holds(&listed.key)) {
            out.fail(place, unconfirmed(error));
        }
    };
    let parent = evidence.deal.as_ref().and_then(|deal| deal.value.requirement.parent);
    for found in &evidence.payments {
        let holds = |key: &PublicKey| {
            confirm::payment(&found.value, key, pool)?;
            confirm::parent_bill(found.value.confirmation.as_bytes(), parent.as_ref()).map(|_| ())
        };
        judge(found.name, found.value.confirmation.as_bytes(), &holds);
    }
    for found in &evidence.refunds {
        let holds = |key: &PublicKey| confirm::refund(&found.value, key, pool);
        judge(found.name, found.value.confirmation.as_bytes(), &holds);
    }
}

fn offer(evidence: &Evidence<'_>, authentic: &Authentic, out: &mut Verdict) {
    if let Some(found) = &evidence.offer {
        let signed = &found.value.signed;
        listed(Kind::Offer, (found.name, signed.tbs(), signed.signature()), &signed.cert_id(), authentic, out);
    }
}

fn deal(evidence: &Evidence<'_>, authentic: &Authentic, out: &mut Verdict) {
    let Some(found) = &evidence.deal else { return };
    let deal = &found.value;
    let signed = &deal.countersignature;
    listed(Kind::Deal, (found.name, signed.tbs(), signed.signature()), &signed.cert_id(), authentic, out);
    let counter: Option<hufu_trade::entry::Countersignature> =
        hufu_trade::decode(signed.tbs(), "Countersignature").ok();
    let (Some(order), Some(counter)) = (&evidence.order, counter) else { return };
    let ordered = &order.value;
    let signature = ordered.signed.signature.as_bytes();
    let right = counter.statement.0 == sm3(&[ordered.signed.statement.as_bytes()])
        && counter.buyer_signature.0 == sm3(&[signature])
        && deal.buyer_signature.as_bytes() == signature
        && counter.computing_pool_id == deal.computing_pool_id;
    out.check(right, found.field("countersignature"), || Text::HashLink { to: "order".into(), by: "deal".into() });
    let said = &ordered.statement;
    for (field, same) in [
        ("requirement", said.requirement.as_ref() == Some(&deal.requirement)),
        ("contractValue", said.contract_value == Some(deal.contract_value)),
        ("buyer", said.buyer == deal.buyer),
        ("computingPoolId", said.computing_pool_id == deal.computing_pool_id),
    ] {
        let differs = || Text::FieldDiffers { by: "order".into(), told: "another value".into(), found: field.into() };
        out.check(same, found.field(field), differs);
    }
}

/// Every hash by which one piece names another, where both are here.
fn hashes(evidence: &Evidence<'_>, out: &mut Verdict) {
    let browse = evidence.browse.as_ref().map(|found| found.hash);
    let order = evidence.order.as_ref().map(|found| (found.place, found.hash));
    let deal = evidence.deal.as_ref().map(|found| found.hash);
    let offer = evidence.offer.as_ref().map(|found| found.value.hash);
    let mut link = |place: String, by: &str, to: &str, named: Option<Digest>, here: Option<Hash>| {
        if let (Some(named), Some(here)) = (named, here) {
            out.check(named == Octets(here), place, || Text::HashLink { to: to.to_owned(), by: by.to_owned() });
        }
    };
    if let Some(found) = &evidence.offer {
        link(found.field("browse"), "offer", "browse", Some(found.value.offer.browse), browse);
    }
    if let Some(found) = &evidence.order {
        let statement = &found.value.statement;
        link(found.field("offer"), "order", "offer", statement.offer, offer);
        link(found.field("follows"), "order", "browse", statement.follows, browse);
    }
    if let Some(found) = &evidence.deal {
        link(found.field("offer"), "deal", "offer", Some(found.value.offer), offer);
        let named = &found.value.order;
        link(found.field("order"), "deal", "order", Some(named.hash), order.map(|(_, hash)| hash));
    }
    for found in &evidence.scores {
        let statement = &found.value.statement;
        link(found.field("offer"), "score", "offer", statement.offer, offer);
        link(found.field("follows"), "score", "deal", statement.follows, deal);
    }
    if let Some(bill) = &evidence.bill {
        link(field("deal"), "bill", "deal", Some(bill.deal), deal);
        link(field("offer"), "bill", "offer", Some(bill.offer), offer);
        parties(bill, evidence, out);
    }
}

/// Corrections, payments and refunds name a bill by number and hash: both are of one bill.
fn amounts(evidence: &Evidence<'_>, out: &mut Verdict) {
    let corrections = evidence.corrections.iter().map(|found| (found.name, &found.value.number, found.value.bill));
    let payments = evidence.payments.iter().map(|found| (found.name, &found.value.number, found.value.bill));
    let refunds = evidence.refunds.iter().map(|found| (found.name, &found.value.number, found.value.bill));
    let corrections = corrections.map(|found| ("correction", found));
    let rest = payments.map(|found| ("payment", found)).chain(refunds.map(|found| ("refund_paid", found)));
    for (by, (name, number, bill)) in corrections.chain(rest) {
        for known in evidence.bills.iter() {
            let rest = number.strip_prefix(&known.value.number);
            let numbered =
                rest.is_some_and(|rest| if by == "correction" { rest.starts_with("-c") } else { rest.is_empty() });
            let same = numbered == (bill.0 == known.hash);
            out.check(same, format!("{name}#bill"), || Text::HashLink { to: "bill".into(), by: by.into() });
        }
    }
}

fn field(name: &str) -> String {
    format!("{}#{name}", layout::BILL)
}

/// Bill, deal, offer and every statement are of one buyer and one computing pool.
fn parties(bill: &Bill, evidence: &Evidence<'_>, out: &mut Verdict) {
    let deal = evidence.deal.as_ref().map(|found| ("deal", found.value.buyer, &found.value.computing_pool_id));
    let offer = evidence.offer.as_ref().map(|found| {
        let offer = &found.value.offer;
        ("offer", offer.buyer, &offer.computing_pool_id)
    });
    let stated = [("browse", &evidence.browse), ("order", &evidence.order)];
    let stated = stated.into_iter().filter_map(|(by, found)| Some((by, found.as_ref()?)));
    let stated = stated.chain(evidence.scores.iter().map(|found| ("score", found))).map(|(by, found)| {
        let statement = &found.value.statement;
        (by, statement.buyer, &statement.computing_pool_id)
    });
    for (by, buyer, pool) in [deal, offer].into_iter().flatten().chain(stated) {
        let (told, found) = (buyer.to_string(), bill.buyer.to_string());
        out.check(told == found, field("buyer"), || Text::FieldDiffers { by: by.into(), told, found });
        let (told, found) = (pool.clone(), bill.computing_pool_id.clone());
        out.check(told == found, field("computingPoolId"), || Text::FieldDiffers { by: by.into(), told, found });
    }
}

/// `bill.der` is what the bill's entry holds, `bill.json` shows the same.
fn bill(members: &Members, evidence: &Evidence<'_>, out: &mut Verdict) {
    let bytes = members.bytes(layout::BILL).unwrap_or_default();
    if let Some(entry) = &evidence.bill_entry {
        let same = hufu_trade::encode(&entry.value, "Bill").is_ok_and(|inside| inside == bytes);
        out.check(same, layout::BILL, || Text::NotInEntry {});
    }
    let (Some(view), Some(bill)) = (members.bytes(layout::BILL_JSON), &evidence.bill) else { return };
    let shown: Option<serde_json::Value> = serde_json::from_slice(view).ok();
    let right = serde_json::to_value(bill).ok();
    out.check(shown.is_some() && shown == right, layout::BILL_JSON, || Text::ViewDiffers {});
}

/// `tariff.der` and `contract.toml` are those of the offer.
fn attachments(members: &Members, evidence: &Evidence<'_>, out: &mut Verdict) {
    let Some(found) = &evidence.offer else { return };
    let offer = &found.value.offer;
    if let Some(bytes) = members.bytes(layout::TARIFF) {
        let same = hufu_trade::encode(&offer.tariff, "Tariff").is_ok_and(|inside| inside == bytes);
        out.check(same, layout::TARIFF, || Text::NotInEntry {});
    }
    if let Some(bytes) = members.bytes(layout::CONTRACT) {
        let by = || Text::HashLink { to: "rule table".into(), by: "offer".into() };
        out.check(sm3(&[bytes]) == offer.rules.0, layout::CONTRACT, by);
    }
    let named = evidence.rules.iter().any(|rules| sm3(&[rules.value.text.as_bytes()]) == offer.rules.0);
    if let (false, Some(other)) = (named, evidence.rules.first()) {
        out.fail(other.field("text"), Text::HashLink { to: "rule table".into(), by: "offer".into() });
    }
}
