//! What of an order's money goes back, at any moment, by the rules of its deal (退款金额确认). Pure. What has no bill yet is an
//! estimate; once the last bill stands, bills and corrections alone decide.

use crate::{
    Error,
    bill::Bill,
    correction::Due,
    entry::Deal,
    money::Money,
    notice::InForce,
    prepaid::{Proration, refund_at},
    statement::{Offer, Payment},
};

/// A bill of the order, and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Settled<'a> {
    /// As it was signed.
    pub bill: &'a Bill,
    /// What it asks for now.
    pub due: &'a Due,
    /// What was paid for it.
    pub paid: Option<Money>,
    /// What was paid above what is due went back.
    pub is_refunded: bool,
}

/// The amounts of `RefundState`, exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refund {
    /// What was paid.
    pub paid: Money,
    /// What of it the node is owed.
    pub charged: Money,
    /// What of it goes back in all: `paid` less `charged`.
    pub refund: Money,
    /// What of that has gone back.
    pub refunded: Money,
    /// No further bill comes.
    pub is_final: bool,
}

/// What goes back of an order's money. `is_over`: its last bill stands. `time`: for service that ends then, ns since
/// 1970-01-01Z; it matters only before that.
///
/// # Errors
/// [`Error::Field`] for an offer that cannot be prepaid; [`Error::Overflow`].
pub fn refund(
    (offer, deal, in_force): (&Offer, &Deal, &InForce),
    proration: Proration,
    bills: &[Settled<'_>],
    is_over: bool,
    time: i64,
) -> Result<Refund, Error> {
    match in_force.value.payment {
        Payment::Prepaid => prepaid((offer, deal, in_force), proration, bills, is_over, time),
        Payment::Postpaid => postpaid(bills, is_over),
    }
}

/// The price was paid before service; its one bill says what is charged of it.
fn prepaid(
    (offer, deal, in_force): (&Offer, &Deal, &InForce),
    proration: Proration,
    bills: &[Settled<'_>],
    is_over: bool,
    time: i64,
) -> Result<Refund, Error> {
    let price = in_force.value.amount.cut_to_fen();
    if !is_over {
        let back = refund_at(offer, deal, in_force, proration, time)?.unwrap_or(Money(0));
        let charged = price.minus(back)?;
        return Ok(Refund { paid: price, charged, refund: back, refunded: Money(0), is_final: false });
    }
    let (mut charged, mut refunded) = (Money(0), Money(0));
    for settled in bills {
        charged = charged.plus(settled.due.total)?;
        // The payment of the bill and the return of the rest of the price are one act; later corrections are their own.
        if let Some(paid) = settled.paid {
            refunded = refunded.plus(price.minus(paid)?)?;
            if settled.is_refunded {
                refunded = refunded.plus(paid.minus(settled.due.total)?)?;
            }
        }
    }
    Ok(Refund { paid: price, charged, refund: price.minus(charged)?, refunded, is_final: true })
}

/// What was paid above what is due after corrections.
fn postpaid(bills: &[Settled<'_>], is_over: bool) -> Result<Refund, Error> {
    let mut sum = Refund { paid: Money(0), charged: Money(0), refund: Money(0), refunded: Money(0), is_final: is_over };
    for settled in bills {
        let Some(paid) = settled.paid else { continue };
        let back = paid.minus(settled.due.total)?;
        sum.paid = sum.paid.plus(paid)?;
        sum.charged = sum.charged.plus(settled.due.total)?;
        sum.refund = sum.refund.plus(back)?;
        if settled.is_refunded {
            sum.refunded = sum.refunded.plus(back)?;
        }
    }
    Ok(sum)
}
