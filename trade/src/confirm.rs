//! The platform's word inside payments and refunds: the envelope it answered with, kept byte for byte, and whether it says what
//! the entry says. Whose key it is the caller knows.

use hufu_gm::{Hash, sm2::PublicKey};

use crate::{
    Error,
    correction::RefundPaid,
    entry::Payment,
    if2::{Answer, Envelope, Interface, PaymentState},
    money::Money,
};

fn wrong(why: &str) -> Error {
    Error::Field { what: "Payment", field: "confirmation", why: why.to_owned() }
}

/// The certificate id of whoever signed a confirmation.
///
/// # Errors
/// [`Error::Field`] when the bytes are no envelope.
pub fn signer(confirmation: &[u8]) -> Result<Hash, Error> {
    Ok(Envelope::parse(confirmation)?.signer()?.0)
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

fn says(state: &str, told: (&str, Option<&str>), entry: (&str, Money)) -> Result<(), Error> {
    let amount = told.1.and_then(|text| text.parse::<Money>().ok());
    if told.0 == entry.0 && amount == Some(entry.1) {
        Ok(())
    } else {
        Err(wrong(&format!("the platform did not say that this amount of this bill was {state}")))
    }
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
    says("paid", (&said.bill_no, said.amount_cny.as_deref()), (&payment.number, payment.amount))
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
    says("refunded", (&said.bill_no, said.refunded_cny.as_deref()), (&refund.number, refund.amount))
}
