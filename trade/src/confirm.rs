//! The platform's word inside payments and refunds: the envelope it answered with, kept byte for byte, and whether it says what
//! the entry says. Whose key it is the caller knows.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hufu_gm::sm2::PublicKey;

use crate::{
    Error,
    correction::RefundPaid,
    entry::Payment,
    if2::Payload,
    if2::{Answer, Envelope, Interface, PaymentState},
    money::Money,
    octets::{Digest, from_rfc3339},
    parent::{ParentOrder, Payable},
};

fn wrong(why: &str) -> Error {
    Error::Field { what: "Payment", field: "confirmation", why: why.to_owned() }
}

/// A confirmation's detached signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// What is signed: the characters of the payload.
    pub tbs: Vec<u8>,
    /// DER of the signature.
    pub signature: Vec<u8>,
    /// The signer's certificate id.
    pub cert_id: Digest,
}

/// The signature inside a confirmation, for whoever checks it apart from the envelope.
///
/// # Errors
/// [`Error::Field`] when the bytes are no envelope.
pub fn sealed(confirmation: &[u8]) -> Result<Sealed, Error> {
    let envelope = Envelope::parse(confirmation)?;
    let cert_id = envelope.signer()?;
    let signature = URL_SAFE_NO_PAD.decode(&envelope.sig).map_err(|_| wrong("the signature is not base64url"))?;
    Ok(Sealed { tbs: envelope.payload.into_bytes(), signature, cert_id })
}

/// When the characters of a confirmation's payload say they were made, ns since 1970-01-01Z, and for which node.
pub fn made(tbs: &[u8]) -> Option<(i64, String)> {
    let payload: Payload<Answer<PaymentState>> = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(tbs).ok()?).ok()?;
    Some((from_rfc3339(&payload.at)?, payload.to))
}

fn state(confirmation: &[u8], key: &PublicKey, pool: &str) -> Result<PaymentState, Error> {
    let opened = Envelope::parse(confirmation)?.open::<Answer<PaymentState>>(
        key,
        Interface::PaymentConfirm,
        pool,
        confirmation,
    )?;
    match opened.payload.body {
        Answer::Ok(state) => Ok(state),
        Answer::Error(_) => Err(wrong("the platform's answer is a refusal")),
    }
}

/// Whether a confirmation names a parent bill exactly when the contract is paid through its parent: only the level that the
/// buyer signed is ever paid. Gives SM3 of the DER of the `ParentBill`. Signature and amount are [`payment`]'s question.
///
/// # Errors
/// [`Error::Field`] for bytes that are no envelope of a payment's answer, or for a confirmation of the other level.
pub fn parent_bill(confirmation: &[u8], parent: Option<&ParentOrder>) -> Result<Option<Digest>, Error> {
    let envelope = Envelope::parse(confirmation)?;
    let bytes = URL_SAFE_NO_PAD.decode(&envelope.payload).map_err(|_| wrong("the payload is not base64url"))?;
    let payload: Payload<Answer<PaymentState>> =
        serde_json::from_slice(&bytes).map_err(|_| wrong("not the answer about a payment"))?;
    let Answer::Ok(said) = payload.body else { return Err(wrong("the platform's answer is a refusal")) };
    let through = parent.is_some_and(|parent| parent.payable == Payable::Parent);
    match said.parent_bill {
        None if through => Err(wrong("it is paid through its parent order, and no parent bill is named")),
        None => Ok(None),
        Some(_) if !through => Err(wrong("it is not paid through a parent order, and a parent bill is named")),
        Some(text) => Digest::from_hex(&text)
            .filter(|digest| digest.to_string() == text)
            .map(Some)
            .ok_or_else(|| wrong("the parent bill is not named by 64 lower-case hexadecimal digits")),
    }
}

/// Number, amount and time that the platform said.
type Told<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

fn says(state: &str, (number, amount, at): Told<'_>, entry: (&str, Money, i64)) -> Result<(), Error> {
    let amount = amount.and_then(|text| text.parse::<Money>().ok());
    if number != entry.0 || amount != Some(entry.1) {
        return Err(wrong(&format!("the platform did not say that this amount of this bill was {state}")));
    }
    if at.and_then(from_rfc3339) != Some(entry.2) {
        return Err(wrong(&format!("the platform named another time when it was {state}")));
    }
    Ok(())
}

/// Whether the platform with this key said that the bill was paid with this amount.
///
/// # Errors
/// [`Error::Field`] for an envelope that is not this platform's answer to the node `pool`, or says something else.
pub fn payment(payment: &Payment, key: &PublicKey, pool: &str) -> Result<(), Error> {
    let said = state(payment.confirmation.as_bytes(), key, pool)?;
    if said.state != "paid" {
        return Err(wrong("the platform did not say paid"));
    }
    let told = (said.bill_no.as_str(), said.amount_cny.as_deref(), said.paid_at.as_deref());
    says("paid", told, (&payment.number, payment.amount, payment.paid_at))
}

/// Whether a confirmation names this refund of a prepaid contract, and none where there is none. Whose word it is, [`payment`]
/// says; one that is no answer names none.
pub fn names_refund(confirmation: &[u8], refund: Option<Money>) -> bool {
    let tbs = sealed(confirmation).ok().and_then(|sealed| URL_SAFE_NO_PAD.decode(sealed.tbs).ok());
    let payload = tbs.and_then(|bytes| serde_json::from_slice::<Payload<Answer<PaymentState>>>(&bytes).ok());
    match payload.map(|payload| payload.body) {
        Some(Answer::Ok(said)) => {
            let named = said.refund_cny.as_deref().map(str::parse::<Money>);
            named.map_or(Ok(None), |money| money.map(Some)).is_ok_and(|named| named == refund)
        }
        _ => refund.is_none(),
    }
}

/// Whether the platform with this key said that this amount of the bill went back.
///
/// # Errors
/// As [`payment`].
pub fn refund(refund: &RefundPaid, key: &PublicKey, pool: &str) -> Result<(), Error> {
    let said = state(refund.confirmation.as_bytes(), key, pool)?;
    if said.state != "refunded" {
        return Err(wrong("the platform did not say refunded"));
    }
    let told = (said.bill_no.as_str(), said.refunded_cny.as_deref(), said.refunded_at.as_deref());
    says("refunded", told, (&refund.number, refund.amount, refund.paid_at))
}
