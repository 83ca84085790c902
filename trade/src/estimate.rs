//! What an order is likely to cost before it is made: the price of everything that it may use and holds, by the function that
//! rates its bills. Pure.

use crate::{
    Error,
    money::Money,
    rating::rate_quantities,
    resource::{Kind, Resource},
    statement::Reservation,
    tariff::Tariff,
};

/// The price, whole fen, of `units` that use all that each of them `reserves` for `time_ns`.
///
/// # Errors
/// [`Error`] for a resource that is not known, and [`Error::Overflow`].
pub fn all_held(tariff: &Tariff, reserves: &[Reservation], units: u128, time_ns: u64) -> Result<Money, Error> {
    let mut quantities = Vec::new();
    for held in reserves {
        let used: Resource = held.resource.parse()?;
        // Thousandths of a core times ns are thousandths of ns of CPU time; bytes times ns 10^-9 byte-seconds; devices
        // times ns device-ns.
        let per = match used.kind {
            Kind::Cpu => 1_000,
            Kind::Gpu => 1,
            _ => 1_000_000_000,
        };
        let product = u128::from(held.quantity).checked_mul(u128::from(time_ns)).and_then(|q| q.checked_mul(units));
        let quantity = product.ok_or(Error::Overflow { what: "quantity of an estimate" })? / per;
        quantities.push((Resource { reserved: true, ..used.clone() }, quantity));
        quantities.push((used, quantity));
    }
    rate_quantities(tariff, &quantities).map(|rated| rated.total)
}
