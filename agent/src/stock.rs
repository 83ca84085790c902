//! What can be sold now: capacity, reservations, products, offers' tariffs. Stock is computed from the deals that hold
//! capacity, with checked arithmetic, and can therefore not lie.

use hufu_metering::capacity::TrustedSource;
use hufu_trade::{
    if2::{Catalogue, Product, ProductPrice, Sealed},
    resource::{Kind, Resource},
    statement::{Metered, Reservation},
    tariff::{Scheme, Tariff},
};

use crate::{
    book::Book,
    boundary,
    config::{Config, ProductConfig},
    contract::Contract,
    node::Core,
};

/// What the server can sell at all.
#[derive(Clone, Debug)]
pub(crate) struct Capacity {
    /// Thousandths of a core.
    pub(crate) cpu_millicores: u64,
    /// Bytes.
    pub(crate) memory_bytes: u64,
    /// Bytes of storage.
    pub(crate) storage_bytes: u64,
    /// For each used resource the trusted source, or why there is none.
    pub(crate) sources: Vec<(Resource, Result<String, String>)>,
}

/// Products and what they draw on.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    pub(crate) products: Vec<ProductConfig>,
    pub(crate) capacity: Capacity,
    /// The node's certificate chain, DER, leaf first.
    pub(crate) certificates: Vec<Vec<u8>>,
}

/// The trusted sources of what orders use: the machine's, storage where orders have directories, traffic at this node's boundary.
///
/// # Errors
/// Those of [`hufu_metering::capacity::trusted_sources`].
pub(crate) fn sources(config: &Config) -> Result<Vec<TrustedSource>, hufu_metering::Error> {
    let mut sources = hufu_metering::capacity::trusted_sources(&config.root)?;
    if let Some(base) = &config.storage
        && let Some((_, source)) = sources.iter_mut().find(|(resource, _)| resource.kind == Kind::Storage)
    {
        *source = hufu_metering::storage::source(&config.root, base).map_err(|e| e.to_string());
    }
    boundary::name_sources(config, &mut sources);
    Ok(sources)
}

impl Shop {
    /// The product of an id.
    pub(crate) fn product(&self, id: &str) -> Option<&ProductConfig> {
        self.products.iter().find(|product| product.id == id)
    }

    /// Units of `product` that are free beside what the deals of `book` hold; `None` when the reservations exceed the
    /// capacity (the configuration shrank): then nothing is sold.
    pub(crate) fn free_units(&self, book: &Book, product: &ProductConfig) -> Option<u32> {
        let (mut cpu, mut memory, mut storage) = (0_u64, 0_u64, 0_u64);
        for contract in book.contracts.values() {
            let Some((.., table)) = book.table_of(Some(contract)) else { continue };
            if !table.is_holding(&contract.state) {
                continue;
            }
            let Some((_, offer, _)) = &contract.offer else { continue };
            let held = |name: &str| offer.reserves.iter().find(|r| r.resource == name).map_or(0, |r| r.quantity);
            let quantity = u64::from(contract.quantity());
            cpu = cpu.checked_add(held("cpu").checked_mul(quantity)?)?;
            memory = memory.checked_add(held("memory").checked_mul(quantity)?)?;
            storage = storage.checked_add(held("storage").checked_mul(quantity)?)?;
        }
        let free_cpu = self.capacity.cpu_millicores.checked_sub(cpu)?;
        let free_memory = self.capacity.memory_bytes.checked_sub(memory)?;
        let free_storage = self.capacity.storage_bytes.checked_sub(storage)?;
        let by_cpu = free_cpu.checked_div(product.cpu_millicores).unwrap_or(u64::MAX);
        let by_memory = free_memory.checked_div(product.memory_bytes).unwrap_or(u64::MAX);
        let by_storage = free_storage.checked_div(product.disk.storage_bytes).unwrap_or(u64::MAX);
        Some(u32::try_from(by_cpu.min(by_memory).min(by_storage)).unwrap_or(u32::MAX))
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
        });
        Catalogue {
            revision: book.revision,
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
                Kind::Cpu | Kind::Memory | Kind::Storage => Ok("reservation".to_owned()),
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

/// What one unit of a product holds.
pub(crate) fn reserves(product: &ProductConfig) -> Vec<Reservation> {
    [("cpu", product.cpu_millicores), ("memory", product.memory_bytes)]
        .into_iter()
        .filter(|(_, quantity)| *quantity > 0)
        .map(|(resource, quantity)| Reservation { resource: resource.to_owned(), quantity })
        .chain(product.disk.reserves())
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
