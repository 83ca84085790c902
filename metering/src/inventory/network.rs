//! Network interfaces with a device behind them: bridges, bonds, tunnels and the ends of containers' cables have none.

use std::path::Path;

use hufu_trade::octets::text_option;
use serde::Serialize;

use super::text;

/// Faster than that no link is, Mbit/s; an unknown speed reads 4294967295 on some kernels.
const SPEED_MBIT_MAX: u64 = 10_000_000;
/// Buses of hypervisors.
const BUSES: [&str; 3] = ["virtio", "xen", "vmbus"];
/// Octets of a hardware address: Ethernet to InfiniBand.
const OCTETS: std::ops::RangeInclusive<usize> = 6..=20;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Speed, Mbit/s; absent for virtual devices and links that are down.
    #[serde(with = "text_option")]
    pub speed_mbit: Option<u64>,
    /// Driver.
    pub driver: Option<String>,
    /// Whether a hypervisor made it up.
    #[serde(rename = "virtual")]
    pub is_virtual: bool,
    /// Whether it is a part of another that is lent to machines and comes back (SR-IOV).
    pub is_function: bool,
    /// Its own address, lower case, where the kernel says that it came with the device. Not shown: it says where the server is.
    #[serde(skip)]
    pub address: Option<String>,
}

pub(super) fn interfaces(root: &Path) -> Vec<Interface> {
    let directory = root.join("sys/class/net");
    text::names(&directory).into_iter().filter_map(|name| interface(&directory, name)).collect()
}

fn interface(directory: &Path, name: String) -> Option<Interface> {
    let own = directory.join(&name);
    let device = own.join("device");
    if !device.exists() {
        return None;
    }
    let speed = text::number(&own.join("speed"), SPEED_MBIT_MAX).filter(|speed| *speed > 0);
    let driver = text::target(&device.join("driver"));
    let bus = text::target(&device.join("subsystem"));
    let is_virtual = bus.is_some_and(|bus| BUSES.contains(&bus.as_str())) || driver.as_deref() == Some("vmxnet3");
    // A bond gives its own address to its parts; each remembers what it had.
    let kept = text::line(&own.join("bonding_slave/perm_hwaddr"));
    let came_with_it = text::line(&own.join("addr_assign_type")).is_none_or(|kind| kind == "0");
    let said = kept.or_else(|| text::line(&own.join("address")).filter(|_| came_with_it));
    Some(Interface {
        address: said.and_then(|said| address(&said)),
        is_function: device.join("physfn").exists(),
        speed_mbit: speed,
        driver,
        is_virtual,
        name,
    })
}

/// A hardware address as hexadecimal octets with colons; all zeros are none.
fn address(text: &str) -> Option<String> {
    let octets: Vec<&str> = text.split(':').collect();
    let is_octet = |octet: &&str| octet.len() == 2 && octet.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_address =
        OCTETS.contains(&octets.len()) && octets.iter().all(is_octet) && octets.iter().any(|octet| *octet != "00");
    is_address.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_addresses_are_addresses() {
        for (text, want) in [
            ("52:54:00:AB:cd:01", Some("52:54:00:ab:cd:01")),
            ("00:00:00:00:00:00", None),
            ("52:54:00:ab:cd", None),
            ("52:54:00:ab:cd:0g", None),
            ("", None),
        ] {
            assert_eq!(address(text).as_deref(), want, "{text}");
        }
    }
}
