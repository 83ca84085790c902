//! Which devices of the node an order holds: the entry `allocation`. Who chooses them is the node; what they cost is the tariff's
//! matter.

use der::Sequence;
use serde::Serialize;

use crate::{
    Error,
    octets::{self, ContractNo},
    resource::{Kind, Resource},
};

/// Devices of one order at most.
pub const DEVICE_COUNT_MAX: usize = 64;

/// A device that an order holds whole, or a part of a device that is sold as one.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Device {
    /// What it is sold as: `gpu:A100-80G`, `gpu:1g.10gb`.
    pub resource: String,
    /// Its own name for ever: `GPU-..` or `MIG-..` as NVML says it.
    pub id: String,
}

/// The devices that a contract holds from now on, until it holds no capacity any more or another allocation follows. Written
/// before its place is made, so that a node that starts anew gives it the same ones.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Allocation {
    /// Format version, 1.
    pub version: u8,
    /// The contract.
    pub contract_no: ContractNo,
    /// When, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub time: i64,
    /// 1 to 64 devices, by resource and id, each once.
    pub devices: Vec<Device>,
}

impl Allocation {
    /// The form that its fields alone show.
    ///
    /// # Errors
    /// [`Error::Field`].
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |field, why: String| Err(Error::Field { what: "Allocation", field, why });
        if !(1..=DEVICE_COUNT_MAX).contains(&self.devices.len()) {
            return wrong("devices", format!("{} devices, 1 to {DEVICE_COUNT_MAX} expected", self.devices.len()));
        }
        for device in &self.devices {
            let resource = device.resource.parse::<Resource>();
            if !resource.is_ok_and(|r| r.kind == Kind::Gpu && !r.reserved && r.qualifier.is_some()) {
                return wrong("resource", format!("{:?} is no kind of device", shortened(&device.resource)));
            }
            if !is_device_id(&device.id) {
                return wrong(
                    "id",
                    format!("{:?}: GPU- or MIG-, hex digits and dashes expected", shortened(&device.id)),
                );
            }
        }
        let key = |device: &Device| (device.resource.clone(), device.id.clone());
        if !self.devices.is_sorted_by(|a, b| key(a) < key(b)) {
            return wrong("devices", "by resource and id, each once, expected".to_owned());
        }
        Ok(())
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Whether a text is the id of a device: `GPU-` or `MIG-`, then hex digits and dashes, at most 48 bytes.
pub fn is_device_id(text: &str) -> bool {
    const BYTES_MAX: usize = 48;
    let digits = text.strip_prefix("GPU-").or_else(|| text.strip_prefix("MIG-"));
    let good = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    text.len() <= BYTES_MAX && digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(good))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octets::Octets;

    fn device(resource: &str, id: &str) -> Device {
        Device { resource: resource.to_owned(), id: id.to_owned() }
    }

    #[test]
    fn only_devices_named_once_and_in_order_are_an_allocation() {
        let many = |count: usize| (0..count).map(|i| device("gpu:T4-15G", &format!("GPU-{i:08x}"))).collect::<Vec<_>>();
        let (a, b) = (device("gpu:T4-15G", "GPU-a"), device("gpu:T4-15G", "GPU-b"));
        let cases: [(&str, Vec<Device>, Option<&str>); 13] = [
            ("one", vec![a.clone()], None),
            ("two", vec![a.clone(), b.clone()], None),
            ("instances before devices", vec![device("gpu:1g.10gb", "MIG-0"), a.clone()], None),
            ("as many as may be", many(64), None),
            ("none", Vec::new(), Some("0 devices")),
            ("too many", many(65), Some("65 devices")),
            ("twice", vec![a.clone(), a.clone()], Some("each once")),
            ("out of order", vec![b, a], Some("each once")),
            ("another kind", vec![device("cpu:x", "GPU-a")], Some("no kind of device")),
            ("no kind", vec![device("gpu", "GPU-a")], Some("no kind of device")),
            ("reserved", vec![device("reserved_gpu:T4", "GPU-a")], Some("no kind of device")),
            ("an index", vec![device("gpu:T4-15G", "0")], Some("hex digits")),
            ("a path", vec![device("gpu:T4-15G", "GPU-0/../1")], Some("hex digits")),
        ];
        for (name, devices, want) in cases {
            let found = Allocation { version: 1, contract_no: Octets([1; 16]), time: 0, devices }.check();
            let why = found.err().map(|error| error.to_string());
            assert_eq!(why.is_some(), want.is_some(), "{name}: {why:?}");
            assert!(want.is_none_or(|want| why.is_some_and(|why| why.contains(want))), "{name}");
        }
    }
}
