//! Prepaid contracts: the price of a term, what of it is charged for the time that was served, and what goes back. Pure. Only
//! what is held can be prepaid: a tariff that prices use has no price before it is used.

use serde::Deserialize;

use crate::{
    Error,
    bill::Bill,
    correction::Due,
    entry::Deal,
    money::Money,
    notice::InForce,
    rating::rate_quantities,
    resource::{Kind, Resource},
    statement::{ContractValue, Offer, Payment, Requirement},
};

const SECOND_NS: u128 = 1_000_000_000;

/// In which steps the time that was held is charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proration {
    /// As it was held.
    #[default]
    Exact,
    /// Begun hours in full.
    Hour,
    /// Begun days of 24 hours in full.
    Day,
    /// The whole term, as soon as anything was held.
    Term,
}

/// What a contract holds, and the terms by which that is charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepaid {
    /// Priced resources with the base units that they hold each second.
    held: Vec<(Resource, u128)>,
    /// The term in force, ns.
    term_ns: u128,
    proration: Proration,
    /// The price in force.
    price: Money,
}

/// Base units a second that an order of this requirement holds of each resource that the offer prices.
///
/// # Errors
/// [`Error::Field`] when the tariff prices nothing, or anything that is not reserved; [`Error::Overflow`].
fn held(offer: &Offer, requirement: &Requirement) -> Result<Vec<(Resource, u128)>, Error> {
    let wrong = |why: String| Error::Field { what: "Offer", field: "tariff", why };
    let overflow = || Error::Overflow { what: "quantity of a term" };
    let units = requirement.items.iter().fold(0_u128, |sum, item| sum.saturating_add(u128::from(item.quantity)));
    if offer.tariff.prices.is_empty() {
        return Err(wrong("it prices nothing, so that nothing can be prepaid".to_owned()));
    }
    let mut held = Vec::with_capacity(offer.tariff.prices.len());
    for price in &offer.tariff.prices {
        let resource: Resource = price.resource.parse()?;
        if !resource.reserved {
            return Err(wrong(format!("{resource} is priced by use and cannot be prepaid")));
        }
        let used = Resource { reserved: false, ..resource.clone() }.to_string();
        let one = offer.reserves.iter().find(|reserved| reserved.resource == used).map_or(0, |found| found.quantity);
        // Thousandths of a core and devices hold ns each second, bytes hold byte-seconds.
        let scale = match resource.kind {
            Kind::Cpu => SECOND_NS / 1_000,
            Kind::Gpu => SECOND_NS,
            _ => 1,
        };
        let rate = u128::from(one).checked_mul(units).and_then(|rate| rate.checked_mul(scale)).ok_or_else(overflow)?;
        held.push((resource, rate));
    }
    Ok(held)
}

fn over(rate: u128, time_ns: u128) -> Result<u128, Error> {
    let product = rate.checked_mul(time_ns).ok_or(Error::Overflow { what: "quantity of a term" })?;
    Ok(product / SECOND_NS)
}

/// What a term of an order costs: all that it holds, over the whole term, by the offer's prices.
///
/// # Errors
/// [`Error::Field`] for an offer that cannot be prepaid; [`Error::Overflow`].
pub fn price_of_term(offer: &Offer, requirement: &Requirement, term_ns: u64) -> Result<Money, Error> {
    let held = held(offer, requirement)?;
    let quantities = held.into_iter().map(|(resource, rate)| Ok((resource, over(rate, u128::from(term_ns))?)));
    Ok(rate_quantities(&offer.tariff, &quantities.collect::<Result<Vec<_>, Error>>()?)?.total)
}

/// Whether a contract value is one that an order over this term may have: any ceiling, or exactly the price.
pub fn fits(offer: &Offer, requirement: &Requirement, term_ns: u64, value: &ContractValue) -> bool {
    match value.payment {
        Payment::Postpaid => true,
        Payment::Prepaid => price_of_term(offer, requirement, term_ns).is_ok_and(|price| price == value.amount),
    }
}

impl Prepaid {
    /// How a contract is charged; `None` for a postpaid one.
    ///
    /// # Errors
    /// As [`price_of_term`].
    pub fn of(offer: &Offer, deal: &Deal, in_force: &InForce, proration: Proration) -> Result<Option<Self>, Error> {
        if in_force.value.payment != Payment::Prepaid {
            return Ok(None);
        }
        let term = in_force.service_end.checked_sub(deal.contract_time).and_then(|ns| u128::try_from(ns).ok());
        let term_ns = term.ok_or(Error::Overflow { what: "term of service" })?;
        Ok(Some(Self { held: held(offer, &deal.requirement)?, term_ns, proration, price: in_force.value.amount }))
    }

    /// The price in force, whole fen.
    pub fn price(&self) -> Money {
        self.price.cut_to_fen()
    }

    /// What is charged of the quantities that the usage records say were held: rounded up to whole steps, and never more than
    /// the term has. What is not held costs nothing.
    ///
    /// # Errors
    /// [`Error::Overflow`].
    pub fn charged(&self, quantities: &[(Resource, u128)]) -> Result<Vec<(Resource, u128)>, Error> {
        let mut charged = Vec::with_capacity(quantities.len());
        for (resource, quantity) in quantities {
            let Some((_, rate)) = self.held.iter().find(|(held, _)| held == resource) else { continue };
            let most = over(*rate, self.term_ns)?;
            let step = match self.proration {
                Proration::Exact => 1,
                Proration::Hour => over(*rate, 3_600 * SECOND_NS)?,
                Proration::Day => over(*rate, 86_400 * SECOND_NS)?,
                Proration::Term => most,
            };
            let steps = quantity.div_ceil(step.max(1));
            let whole = steps.checked_mul(step.max(1)).ok_or(Error::Overflow { what: "quantity of a bill" })?;
            charged.push((resource.clone(), whole.min(most)));
        }
        Ok(charged)
    }
}

/// What would go back if service ended at `time` and everything had been held until then: an estimate, since gaps are not
/// charged. `None` for a postpaid contract.
///
/// # Errors
/// As [`price_of_term`].
pub fn refund_at(
    offer: &Offer,
    deal: &Deal,
    in_force: &InForce,
    proration: Proration,
    time: i64,
) -> Result<Option<Money>, Error> {
    let Some(prepaid) = Prepaid::of(offer, deal, in_force, proration)? else { return Ok(None) };
    let served = time.clamp(deal.contract_time, in_force.service_end.max(deal.contract_time));
    let served = u128::from(served.abs_diff(deal.contract_time));
    let quantities = prepaid.held.iter().map(|(resource, rate)| Ok((resource.clone(), over(*rate, served)?)));
    let charged = prepaid.charged(&quantities.collect::<Result<Vec<_>, Error>>()?)?;
    let total = rate_quantities(&offer.tariff, &charged)?.total.min(prepaid.price());
    prepaid.price().minus(total).map(Some)
}

/// What the platform gives back when a bill is paid: what the bill says, and what corrections took off since. `None` for the bill
/// of a postpaid contract.
///
/// # Errors
/// [`Error::Overflow`].
pub fn refund_of(bill: &Bill, due: &Due) -> Result<Option<Money>, Error> {
    let Some(refund) = bill.refund else { return Ok(None) };
    refund.plus(bill.total)?.minus(due.total).map(Some)
}
