//! The devices that a product holds, as its configuration names them. Which ones an order is given is `devices.rs`.

use hufu_trade::{
    allocation::DEVICE_COUNT_MAX,
    resource::{Kind, Resource},
};

/// The devices that one unit of a product holds: of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GpuConfig {
    /// The kind, as `hufu capacity` names it behind `gpu:`.
    pub(crate) kind: String,
    /// How many.
    pub(crate) count: u32,
}

impl GpuConfig {
    /// The devices of a product: `gpu`, one kind, and `gpus`, how many of it; 1 where that is not said.
    ///
    /// # Errors
    /// What would be right.
    pub(crate) fn of(gpu: Option<&str>, gpus: Option<u32>) -> Result<Option<Self>, String> {
        let Some(kind) = gpu else {
            return match gpus {
                None => Ok(None),
                Some(_) => Err("gpus without gpu: the kind that `hufu capacity` shows behind gpu: expected".to_owned()),
            };
        };
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-');
        if kind.is_empty() || kind.len() > 64 || !kind.bytes().all(good) {
            let kind: String = kind.chars().take(80).collect();
            return Err(format!("gpu = {kind:?}: the kind that `hufu capacity` shows behind gpu: expected"));
        }
        let count = gpus.unwrap_or(1);
        if count == 0 || usize::try_from(count).is_ok_and(|count| count > DEVICE_COUNT_MAX) {
            return Err(format!("gpus = {count}: 1 to {DEVICE_COUNT_MAX} expected"));
        }
        Ok(Some(Self { kind: kind.to_owned(), count }))
    }

    /// The resource that an offer reserves: `gpu:A100-80G`.
    pub(crate) fn resource(&self) -> String {
        Resource { qualifier: Some(self.kind.clone()), ..Resource::used(Kind::Gpu) }.to_string()
    }
}

/// Whether a product with these devices may have a price of `resource`: of devices that of its own kind, of memory and energy
/// that of all its devices, used only.
///
/// # Errors
/// What would be right.
pub(crate) fn check_price(resource: &Resource, gpu: Option<&GpuConfig>) -> Result<(), String> {
    let is_device = match resource.kind {
        Kind::Gpu => true,
        Kind::GpuMemory | Kind::GpuEnergy => false,
        _ => return Ok(()),
    };
    let Some(gpu) = gpu else {
        return Err(format!("a price of {resource}, and no device: gpu = \"KIND\" expected"));
    };
    let right = Resource {
        reserved: resource.reserved && is_device,
        qualifier: is_device.then(|| gpu.kind.clone()),
        kind: resource.kind,
    };
    if *resource == right { Ok(()) } else { Err(format!("a price of {resource}: {right} expected")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_names_one_kind_of_device() {
        for (gpu, gpus, want) in [
            (None, None, Ok(None)),
            (Some("A100-80G"), None, Ok(Some(("gpu:A100-80G", 1)))),
            (Some("1g.10gb+me"), Some(64), Ok(Some(("gpu:1g.10gb+me", 64)))),
            (None, Some(1), Err("gpus without gpu")),
            (Some("A100-80G"), Some(0), Err("1 to 64")),
            (Some("A100-80G"), Some(65), Err("1 to 64")),
            (Some(""), None, Err("the kind")),
            (Some("gpu:A100-80G"), None, Err("the kind")),
            (Some("a b"), None, Err("the kind")),
        ] {
            let found = GpuConfig::of(gpu, gpus);
            match want {
                Ok(want) => {
                    let found = found.unwrap().map(|gpu| (gpu.resource(), gpu.count));
                    assert_eq!(found, want.map(|(resource, count)| (resource.to_owned(), count)));
                }
                Err(word) => assert!(found.as_ref().is_err_and(|why| why.contains(word)), "{gpu:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn prices_are_of_the_products_own_devices() {
        let gpu = GpuConfig::of(Some("A100-80G"), None).unwrap();
        for (price, with, without) in [
            ("cpu", true, true),
            ("gpu:A100-80G", true, false),
            ("reserved_gpu:A100-80G", true, false),
            ("gpu_memory", true, false),
            ("gpu_energy", true, false),
            ("gpu", false, false),
            ("reserved_gpu", false, false),
            ("gpu:H100-80G", false, false),
            ("reserved_gpu_memory", false, false),
            ("gpu_energy:A100-80G", false, false),
        ] {
            let resource: Resource = price.parse().unwrap();
            assert_eq!(check_price(&resource, gpu.as_ref()).is_ok(), with, "{price}");
            assert_eq!(check_price(&resource, None).is_ok(), without, "{price}");
        }
    }
}
