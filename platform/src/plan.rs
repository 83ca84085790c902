//! 平台自动组合 (7.5, 2): plans that serve a demand, composed from the catalogues of all nodes and ranked. Pure. A plan binds nobody:
//! each of its parts is ordered by itself, with an offer of its own. Prices are those of the catalogues, first tiers.

use hufu_trade::{
    demand::{Demand, DemandItem},
    estimate::all_held,
    if2::{Catalogue, Product},
    money::Money,
    statement::Reservation,
    tariff::Tariff,
};
use serde::Serialize;

/// Plans shown at most.
const PLANS_MAX: usize = 5;

/// One order of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Part {
    /// Index of the demand's item that it serves.
    pub(crate) item: usize,
    /// The node.
    pub(crate) node: String,
    /// Product of its catalogue.
    pub(crate) product: String,
    /// Units.
    pub(crate) quantity: u32,
    /// What it is likely to cost, decimal CNY.
    pub(crate) estimate_cny: String,
}

/// A way to serve the whole demand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Plan {
    /// From 1; by estimate, then by the number of nodes.
    pub(crate) rank: usize,
    /// What all of it is likely to cost, decimal CNY.
    pub(crate) estimate_cny: String,
    /// How many nodes take part.
    pub(crate) nodes: usize,
    /// Whether it stays within the demand's ceiling.
    pub(crate) within_ceiling: bool,
    /// Its orders.
    pub(crate) parts: Vec<Part>,
}

/// A product that could serve an item, with what one unit costs over the term.
struct Candidate<'a> {
    node: &'a str,
    product: &'a Product,
    reserves: Vec<Reservation>,
    tariff: Tariff,
    unit: Money,
}

/// The plans for a demand, best first: the cheapest over all nodes, and the cheapest of each single node that can serve it all.
/// Catalogues of nodes that may not see the demand do not count.
pub(crate) fn compose(demand: &Demand, catalogues: &[(String, Catalogue)]) -> Vec<Plan> {
    let seen: Vec<&(String, Catalogue)> = catalogues.iter().filter(|(node, _)| demand.is_for(node)).collect();
    let mut sets: Vec<Vec<&(String, Catalogue)>> = vec![seen.clone()];
    sets.extend(seen.iter().map(|one| vec![*one]));
    let mut found: Vec<(Money, usize, Vec<Part>)> = Vec::new();
    for set in sets {
        let Some((total, parts)) = serve(demand, &set) else { continue };
        let mut nodes: Vec<&str> = parts.iter().map(|part| part.node.as_str()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let nodes = nodes.len();
        if found.iter().all(|(.., other)| *other != parts) {
            found.push((total, nodes, parts));
        }
    }
    found.sort_by_key(|(total, nodes, parts)| (*total, *nodes, place(parts)));
    let ranked = (1_usize..).zip(found).take(PLANS_MAX);
    ranked
        .map(|(rank, (total, nodes, parts))| Plan {
            rank,
            estimate_cny: total.to_string(),
            nodes,
            within_ceiling: demand.ceiling.is_none_or(|ceiling| total <= ceiling),
            parts,
        })
        .collect()
}

fn place(parts: &[Part]) -> Vec<(String, String)> {
    parts.iter().map(|part| (part.node.clone(), part.product.clone())).collect()
}

/// The cheapest way to serve every item from some catalogues; `None` where their stock does not suffice. Stock that one item
/// takes is gone for the next, of the same product; that two products of a node draw on the same capacity only the node knows.
fn serve(demand: &Demand, set: &[&(String, Catalogue)]) -> Option<(Money, Vec<Part>)> {
    let mut taken: std::collections::BTreeMap<(&str, &str), u32> = std::collections::BTreeMap::new();
    let (mut total, mut parts) = (Money(0), Vec::new());
    for (index, item) in demand.items.iter().enumerate() {
        let mut missing = item.quantity;
        let mut candidates: Vec<Candidate<'_>> =
            set.iter().flat_map(|(node, catalogue)| fitting(node, catalogue, item, demand.term_ns)).collect();
        candidates.sort_by(|a, b| (a.unit, a.node, &a.product.id).cmp(&(b.unit, b.node, &b.product.id)));
        for candidate in candidates {
            let used = taken.entry((candidate.node, &candidate.product.id)).or_insert(0);
            let units = missing.min(candidate.product.stock.saturating_sub(*used));
            if units == 0 {
                continue;
            }
            *used += units;
            missing -= units;
            let estimate = all_held(&candidate.tariff, &candidate.reserves, u128::from(units), demand.term_ns).ok()?;
            total = total.plus(estimate).ok()?;
            parts.push(Part {
                item: index,
                node: candidate.node.to_owned(),
                product: candidate.product.id.clone(),
                quantity: units,
                estimate_cny: estimate.to_string(),
            });
        }
        if missing > 0 {
            return None;
        }
    }
    Some((total, parts))
}

/// The products of a catalogue that meet an item. One whose prices or specification cannot be read is none.
fn fitting<'a>(node: &'a str, catalogue: &'a Catalogue, item: &DemandItem, term_ns: u64) -> Vec<Candidate<'a>> {
    let of = |product: &'a Product| {
        if product.class != item.class || product.stock == 0 {
            return None;
        }
        let reserves: Vec<Reservation> = product
            .spec
            .iter()
            .map(|(resource, quantity)| {
                Some(Reservation { resource: resource.clone(), quantity: quantity.parse().ok()? })
            })
            .collect::<Option<_>>()?;
        if item.lacking(&reserves).is_some() {
            return None;
        }
        let tariff = tariff(product)?;
        let unit = all_held(&tariff, &reserves, 1, term_ns).ok()?;
        Some(Candidate { node, product, reserves, tariff, unit })
    };
    catalogue.products.iter().filter_map(of).collect()
}

/// The price terms that a catalogue shows.
fn tariff(product: &Product) -> Option<Tariff> {
    let mut text = String::new();
    for price in &product.prices {
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:.-".contains(&b));
        if !plain(&price.resource) || !plain(&price.price) {
            return None;
        }
        text.push_str(&format!("[[price]]\nresource = \"{}\"\nprice = \"{}\"\n", price.resource, price.price));
    }
    Tariff::from_toml(&text).ok()
}
