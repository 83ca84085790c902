//! What can be sold now: capacity, reservations, products, offers' tariffs. Stock is computed from the deals that hold
//! capacity, with checked arithmetic, and can therefore not lie.

use hufu_metering::{capacity::TrustedSource, gpu_meter};
use hufu_trade::{
    allocation::{DEVICE_COUNT_MAX, Device},
    if2::{Catalogue, Product, ProductDelivery, ProductPrice, ProductSla, Sealed, ShopProfile},
    octets::Digest,
    resource::{Kind, Resource},
    statement::{Metered, Reservation},
    tariff::{Scheme, Tariff},
};

use crate::{
    book::Book, boundary, catalogue::ProductConfig, config::Config, contract::Contract, devices, hardware::Hardware,
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
    /// The devices that an order can be given, or why nothing is known of them.
    pub(crate) gpus: Result<Vec<Device>, String>,
}

/// Why nothing is known of devices on a node that sells none.
pub(crate) const NO_GPU_SOLD: &str = "no product of this node holds a GPU";

/// What is free of a resource that units hold, in what reservations count it in.
#[derive(Clone, Debug)]
struct Free {
    resource: String,
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
    /// How the site presents itself.
    pub(crate) profile: Option<ShopProfile>,
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

    /// Units of `product` that are free beside what the deals and proposals of `book` hold; `None` when nothing may be sold at
    /// all.
    pub(crate) fn free_units(&self, book: &Book, product: &ProductConfig) -> Option<u32> {
        self.fitting(book, product, None).ok().map(|(units, _)| units)
    }

    /// The same for a buyer: what was proposed to it is held for it.
    pub(crate) fn free_for(&self, book: &Book, product: &ProductConfig, buyer: Digest) -> Option<u32> {
        self.fitting(book, product, Some(buyer)).ok().map(|(units, _)| units)
    }

    /// The same, with what keeps there from being one unit more.
    pub(crate) fn stock(&self, book: &Book, product: &ProductConfig) -> Stock {
        match self.fitting(book, product, None) {
            Err(why) => Stock { units: 0, why },
            Ok((units, Free { resource, of, free })) => {
                Stock { units, why: format!("{resource}: {free} of {of} free") }
            }
        }
    }

    /// Units of `product` that fit into what is free, and the resource that is scarcest for it.
    fn fitting(&self, book: &Book, product: &ProductConfig, buyer: Option<Digest>) -> Result<(u32, Free), String> {
        let proposed = self.proposed(book, buyer);
        let [cpu, memory, storage] = self.free(book, &proposed)?;
        let mut parts =
            vec![(cpu, product.cpu_millicores), (memory, product.memory_bytes), (storage, product.disk.storage_bytes)];
        if let Some(gpu) = &product.gpu {
            let resource = gpu.resource();
            let known = self.capacity.gpus.as_ref().map_err(Clone::clone)?;
            let of = known.iter().filter(|device| device.resource == resource).count();
            let of = u64::try_from(of).unwrap_or(u64::MAX);
            let free = devices::free(&self.capacity, book, &resource)
                .ok_or_else(|| format!("{resource}: deals hold more than the {of} there are"))?;
            let promised = proposed.iter().filter(|held| held.resource == resource);
            let free = promised.fold(free, |free, held| free.saturating_sub(held.quantity));
            // One order is given no more than an allocation holds.
            let free = free.min(u64::try_from(DEVICE_COUNT_MAX).unwrap_or(u64::MAX));
            parts.push((Free { resource, of, free }, u64::from(gpu.count)));
        }
        let units = |(part, held): &(Free, u64)| part.free.checked_div(*held).unwrap_or(u64::MAX);
        let scarcest = parts.into_iter().min_by_key(units).ok_or_else(|| "it holds nothing".to_owned())?;
        Ok((u32::try_from(units(&scarcest)).unwrap_or(u32::MAX), scarcest.0))
    }

    /// What is free of each resource that units hold, beside devices.
    ///
    /// # Errors
    /// Why nothing is sold: the hardware is not what the site accepted, or deals hold more than there is to sell (the
    /// configuration shrank).
    fn free(&self, book: &Book, proposed: &[Reservation]) -> Result<[Free; 3], String> {
        if let Some(changed) = self.hardware.changed.first() {
            return Err(format!("the hardware changed ({changed}); look at it, then: hufu capacity --accept"));
        }
        let all = |resource: &str, of| Free { resource: resource.to_owned(), of, free: of };
        let mut free = [
            all("cpu", self.capacity.cpu_millicores),
            all("memory", self.capacity.memory_bytes),
            all("storage", self.capacity.storage_bytes),
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
        // A product that is not sold any more is held for nobody, and a promise never takes what a deal holds.
        for part in &mut free {
            let promised = proposed.iter().filter(|held| held.resource == part.resource);
            part.free = promised.fold(part.free, |free, held| free.saturating_sub(held.quantity));
        }
        Ok(free)
    }

    /// What proposals hold, those to one buyer left out.
    fn proposed(&self, book: &Book, buyer: Option<Digest>) -> Vec<Reservation> {
        let held = book.demands.values().filter(|demanded| Some(demanded.demand.buyer) != buyer);
        let proposals = held.filter_map(|demanded| demanded.held());
        let of_product = proposals
            .filter_map(|proposal| Some((reserves(self.product(&proposal.product_id)?), u64::from(proposal.quantity))));
        let scaled = of_product.flat_map(|(unit, units)| {
            unit.into_iter().map(move |one| Reservation { quantity: one.quantity.saturating_mul(units), ..one })
        });
        scaled.collect()
    }

    /// The catalogue as it stands.
    pub(crate) fn catalogue(&self, book: &Book) -> Catalogue {
        let products = self.products.iter().filter(|product| product.is_listed).map(|product| Product {
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
            shop: self.profile.clone(),
        }
    }

    /// The product's price terms, without prices per use of what this server cannot meter by a trusted source.
    pub(crate) fn tariff(&self, product: &ProductConfig) -> Tariff {
        let mut tariff = product.tariff.clone();
        let is_metered = |resource: Resource| self.metered(product, &resource).is_ok();
        tariff.prices.retain(|price| price.resource.parse().is_ok_and(is_metered));
        tariff
    }

    /// Source of a resource's readings for orders of a product, or why there is none.
    pub(crate) fn metered(&self, product: &ProductConfig, resource: &Resource) -> Result<String, String> {
        if let Kind::Gpu | Kind::GpuMemory | Kind::GpuEnergy = resource.kind {
            return self.metered_gpu(product, resource);
        }
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

    /// As [`Self::metered`] for what devices give. A device is held whole, so that what is held is also what is used of it.
    fn metered_gpu(&self, product: &ProductConfig, resource: &Resource) -> Result<String, String> {
        let gpu = product.gpu.as_ref().ok_or("the product holds no GPU")?;
        let known = self.capacity.gpus.as_ref().map_err(Clone::clone)?;
        let own = known.iter().filter(|device| device.resource == gpu.resource());
        let is_part = own.clone().any(|device| device.id.starts_with("MIG-"));
        if own.count() == 0 {
            return Err(format!("NVML has no {}", gpu.resource()));
        }
        let named = || gpu_meter::source(resource.kind).unwrap_or_default().to_owned();
        match (resource.kind, resource.reserved, &resource.qualifier) {
            (Kind::Gpu, true, Some(kind)) if *kind == gpu.kind => Ok("reservation".to_owned()),
            (Kind::GpuEnergy, false, None) if is_part => Err("NVML counts no energy of a MIG instance".to_owned()),
            (Kind::Gpu, false, Some(kind)) if *kind == gpu.kind => Ok(named()),
            (Kind::GpuMemory | Kind::GpuEnergy, false, None) => Ok(named()),
            _ => Err(format!("the product holds {}", gpu.resource())),
        }
    }

    /// What an offer says about each used resource, and about the reserved ones it prices.
    pub(crate) fn metered_list(&self, product: &ProductConfig, tariff: &Tariff) -> Vec<Metered> {
        let named = |kind| match &product.gpu {
            Some(gpu) if kind == Kind::Gpu => Resource { qualifier: Some(gpu.kind.clone()), ..Resource::used(kind) },
            _ => Resource::used(kind),
        };
        let used = hufu_trade::resource::KINDS.into_iter().map(named);
        let reserved = tariff.prices.iter().filter_map(|p| p.resource.parse().ok()).filter(|r: &Resource| r.reserved);
        used.chain(reserved)
            .map(|resource| {
                let (source, why_not) = match self.metered(product, &resource) {
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
            let name = Resource { reserved: false, ..(*resource).clone() }.to_string();
            let held = offer.reserves.iter().find(|r| r.resource == name)?.quantity;
            let unit = match resource.kind {
                Kind::Cpu => 1_000_000,
                Kind::Gpu => 1_000_000_000,
                _ => 1,
            };
            held.checked_mul(quantity)?.checked_mul(unit)
        };
        wanted.into_iter().filter_map(|resource| per_second(&resource).map(|rate| (resource, rate))).collect()
    }
}

/// What one unit of a product holds.
pub(crate) fn reserves(product: &ProductConfig) -> Vec<Reservation> {
    let gpus = product.gpu.as_ref().map(|gpu| (gpu.resource(), u64::from(gpu.count)));
    [("cpu".to_owned(), product.cpu_millicores), ("memory".to_owned(), product.memory_bytes)]
        .into_iter()
        .chain(gpus)
        .filter(|(_, quantity)| *quantity > 0)
        .map(|(resource, quantity)| Reservation { resource, quantity })
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
