//! What one unit of a product holds of the server's disks: bytes of storage, which are stock, and rates of block IO, which are limits.
//! Who enforces them is the provisioner.

use hufu_trade::statement::Reservation;
use serde::Deserialize;

/// `[product.disk]`; zero is not reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Disk {
    /// Bytes of files.
    pub(crate) storage_bytes: u64,
    /// Bytes read a second, at most.
    pub(crate) read_bytes_s: u64,
    /// Bytes written a second, at most.
    pub(crate) write_bytes_s: u64,
    /// Reads a second, at most.
    pub(crate) read_ops_s: u64,
    /// Writes a second, at most.
    pub(crate) write_ops_s: u64,
}

impl Disk {
    /// As an offer lists them, by resource.
    pub(crate) fn reserves(self) -> impl Iterator<Item = Reservation> {
        let all = [
            ("storage", self.storage_bytes),
            ("disk_read", self.read_bytes_s),
            ("disk_write", self.write_bytes_s),
            ("disk_read_ops", self.read_ops_s),
            ("disk_write_ops", self.write_ops_s),
        ];
        let held = all.into_iter().filter(|(_, quantity)| *quantity > 0);
        held.map(|(resource, quantity)| Reservation { resource: resource.to_owned(), quantity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_held_is_listed() {
        let disk: Disk = toml::from_str("storage_bytes = 7\nwrite_ops_s = 9").unwrap();
        let listed: Vec<_> = disk.reserves().map(|reserve| (reserve.resource, reserve.quantity)).collect();
        assert_eq!(listed, [("storage".to_owned(), 7), ("disk_write_ops".to_owned(), 9)]);
        assert_eq!(Disk::default().reserves().count(), 0);
        assert!(toml::from_str::<Disk>("storage = 7").is_err());
        assert!(toml::from_str::<Disk>("storage_bytes = -1").is_err());
    }
}
