//! What can be sold now: capacity, reservations, products, offers' tariffs. Stock is computed from the deals that hold
//! capacity, with checked arithmetic, and can therefore not lie.

use hufu_trade::{
    if2::{Catalogue, Product, ProductDelivery, ProductPrice, ProductSla, Sealed},
    resource::{Kind, Resource},
    statement::{Metered, Reservation},
    tariff::{Scheme, Tariff},
};

use crate::{book::Book, catalogue::ProductConfig, contract::Contract, hardware::Hardware, node::Core};

/// What the server can sell at all.
#[derive(Clone, Debug)]
pub(crate) struct Capacity {
    /// Thousandths of a core.
    pub(crate) cpu_millicores: u64,
    /// Bytes.
    pub(crate) memory_bytes: u64,
    /// For each used resource the trusted source, or why there is none.
    pub(crate) sources: Vec<(Resource, Result<String, String>)>,
}

/// What is free of a resource that units hold, in what reservations count it in.
#[derive(Clone, Copy, Debug)]
struct Free {
    resource: &'static str,
    /// What there is to sell.
    of: u64,
    free: u64,
}

/// Units that can be sold now, and what keeps there from being one more.
#[derive(Clone, Debug)]
pub(crate) struct Stock {
    pub(crate) units: u32,
    pub(crate) why: String,
}

/// Products and what they draw on.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    pub(crate) products: Vec<ProductConfig>,
    pub(crate) capacity: Capacity,
    /// The node's certificate chain, DER, leaf first.
    pub(crate) certificates: Vec<Vec<u8>>,
    /// The hardware that is sold from.
    pub(crate) hardware: Hardware,
}

impl Shop {
    /// The product of an id.
    pub(crate) fn product(&self, id: &str) -> Option<&ProductConfig> {
        self.products.iter().find(|product| product.id == id)
    }

    /// Units of `product` that are free beside what the deals of `book` hold; `None` when nothing may be sold at all.
    pub(crate) fn free_units(&self, book: &Book, product: &ProductConfig) -> Option<u32> {
        self.free(book).ok().map(|free| fitting(&free, product).0)
    }

    /// The same, with what keeps there from being one unit more.
    pub(crate) fn stock(&self, book: &Book, product: &ProductConfig) -> Stock {
        match self.free(book) {
            Err(why) => Stock { units: 0, why },
            Ok(free) => {
                let (units, Free { resource, of, free }) = fitting(&free, product);
                Stock { units, why: format!("{resource}: {free} of {of} free") }
            }
        }
    }

    /// What is free of each resource that units hold.
    ///
    /// # Errors
    /// Why nothing is sold: the hardware is not what the site accepted, or deals hold more than there is to sell (the
    /// configuration shrank).
    fn free(&self, book: &Book) -> Result<[Free; 2], String> {
        if let Some(changed) = self.hardware.changed.first() {
            return Err(format!("the hardware changed ({changed}); look at it, then: hufu capacity --accept"));
        }
        let mut free = [
            Free { resource: "cpu", of: self.capacity.cpu_millicores, free: self.capacity.cpu_millicores },
            Free { resource: "memory", of: self.capacity.memory_bytes, free: self.capacity.memory_bytes },
        ];
        for contract in book.contracts.values() {
            let Some((.., table)) = book.table_of(Some(contract)) else { continue };
            if !table.is_holding(&contract.state) {
                continue;
            }
            let Some((_, offer, _)) = &contract.offer else { continue };
            for part in &mut free {
                let reserved = offer.reserves.iter().find(|reserved| reserved.resource == part.resource);
                let held =
                    reserved.map_or(Some(0), |reserved| reserved.quantity.checked_mul(contract.quantity().into()));
                part.free = held.and_then(|held| part.free.checked_sub(held)).ok_or_else(|| {
                    format!("{}: deals hold more than the {} there are to sell; see [capacity]", part.resource, part.of)
                })?;
            }
        }
        Ok(free)
    }

    /// The catalogue as it stands.
    pub(crate) fn catalogue(&self, book: &Book) -> Catalogue {
        let products = self.products.iter().map(|product| Product {
            id: product.id.clone(),
            class: product.class.clone(),
            name: product.name.clone(),
            spec: reserves(product).into_iter().map(|r| (r.resource, r.quantity.to_string())).collect(),
            stock: self.free_units(book, product).unwrap_or(0),
            prices: self.tariff(product).prices.iter().map(price).collect(),
            sla: product.sla.map(|sla| ProductSla { availability_bp: sla.availability_bp, response_s: sla.response_s }),
            delivery: product
                .delivery
                .as_ref()
                .map(|delivery| ProductDelivery { by: delivery.by.word().to_owned(), note: delivery.note.clone() }),
        });
        Catalogue {
            revision: book.revision,
            fingerprint: self.hardware.fingerprint,
            certificates: self.certificates.iter().cloned().map(Sealed).collect(),
            products: products.collect(),
        }
    }

    /// The product's price terms, without prices per use of what this server cannot meter by a trusted source.
    pub(crate) fn tariff(&self, product: &ProductConfig) -> Tariff {
        let mut tariff = product.tariff.clone();
        tariff.prices.retain(|price| price.resource.parse().is_ok_and(|resource| self.metered(&resource).is_ok()));
        tariff
    }

    /// Source of a resource's readings, or why there is none.
    pub(crate) fn metered(&self, resource: &Resource) -> Result<String, String> {
        if resource.reserved {
            return match resource.kind {
                Kind::Cpu | Kind::Memory => Ok("reservation".to_owned()),
                _ => Err("not reserved by this node's products".to_owned()),
            };
        }
        match self.capacity.sources.iter().find(|(other, _)| other == resource) {
            Some((_, source)) => source.clone(),
            None => Err("this node has no meter for it".to_owned()),
        }
    }

    /// What an offer says about each used resource, and about the reserved ones it prices.
    pub(crate) fn metered_list(&self, tariff: &Tariff) -> Vec<Metered> {
        let used = hufu_trade::resource::KINDS.into_iter().map(Resource::used);
        let reserved = tariff.prices.iter().filter_map(|p| p.resource.parse().ok()).filter(|r: &Resource| r.reserved);
        used.chain(reserved)
            .map(|resource| {
                let (source, why_not) = match self.metered(&resource) {
                    Ok(source) => (source, None),
                    Err(why) => (String::new(), Some(why)),
                };
                Metered { resource: resource.to_string(), source, why_not }
            })
            .collect()
    }
}

impl Core {
    /// The resources whose readings a contract's records list: what its offer meters.
    pub(crate) fn metered(&self, contract: &Contract) -> Vec<Resource> {
        let listed = contract.offer.iter().flat_map(|(_, offer, _)| &offer.metered);
        listed.filter(|metered| metered.why_not.is_none()).filter_map(|metered| metered.resource.parse().ok()).collect()
    }

    /// What a contract holds, in base units a second, for its `reserved_*` readings.
    pub(crate) fn reserved(&self, contract: &Contract) -> Vec<(Resource, u64)> {
        let wanted: Vec<Resource> = self.metered(contract).into_iter().filter(|r| r.reserved).collect();
        let quantity = u64::from(contract.quantity());
        let per_second = |resource: &Resource| {
            let (_, offer, _) = contract.offer.as_ref()?;
            let held = offer.reserves.iter().find(|r| r.resource == resource.kind.name())?.quantity;
            let unit = if resource.kind == Kind::Cpu { 1_000_000 } else { 1 };
            held.checked_mul(quantity)?.checked_mul(unit)
        };
        wanted.into_iter().filter_map(|resource| per_second(&resource).map(|rate| (resource, rate))).collect()
    }
}

/// Units of `product` that fit into what is free, and the resource that is scarcest for it.
fn fitting(free: &[Free; 2], product: &ProductConfig) -> (u32, Free) {
    let [cpu, memory] = *free;
    let by_cpu = cpu.free.checked_div(product.cpu_millicores).unwrap_or(u64::MAX);
    let by_memory = memory.free.checked_div(product.memory_bytes).unwrap_or(u64::MAX);
    let scarcest = if by_memory < by_cpu { memory } else { cpu };
    (u32::try_from(by_cpu.min(by_memory)).unwrap_or(u32::MAX), scarcest)
}

/// What one unit of a product holds.
pub(crate) fn reserves(product: &ProductConfig) -> Vec<Reservation> {
    [("cpu", product.cpu_millicores), ("memory", product.memory_bytes)]
        .into_iter()
        .filter(|(_, quantity)| *quantity > 0)
        .map(|(resource, quantity)| Reservation { resource: resource.to_owned(), quantity })
        .collect()
}

fn price(price: &hufu_trade::tariff::Price) -> ProductPrice {
    let scheme = match price.scheme {
        Scheme::Flat => "flat",
        Scheme::Graduated => "graduated",
        Scheme::Volume => "volume",
    };
    ProductPrice {
        resource: price.resource.clone(),
        per: price.per.clone(),
        scheme: scheme.to_owned(),
        price: price.tiers.first().map(|tier| tier.price.to_string()).unwrap_or_default(),
    }
}
