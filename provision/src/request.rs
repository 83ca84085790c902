//! The request and its limits. What comes back is `answer.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::Error;

/// Characters of an order's name: a contract number in lower-case hex.
pub const ORDER_CHARS: usize = 32;
/// Most units of a product in one order.
pub const QUANTITY_MAX: u32 = 1_000_000;
/// Longest name of a reserved resource, characters.
const RESOURCE_CHARS_MAX: usize = 80;
/// Most reserved resources.
const RESERVES_MAX: usize = 64;
/// Most devices of one order.
const GPUS_MAX: usize = 64;

/// What is asked for. The same request may come again and must give the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Make the order's place, with its limits, and start its workload; also what was suspended goes on.
    Start,
    /// Let the workload rest where it is.
    Suspend,
    /// End the workload and remove the place.
    Stop,
    /// Say whether traffic of orders can be counted at their cgroups. Asked of the helper alone, and of no order: its number is
    /// all zeros.
    Probe,
    /// Say what nftables counted of all orders. Asked of the helper alone, and of no order, where [`Verb::Probe`] said `nft`: an
    /// agent may not read those counters.
    Traffic,
}

/// What a command or the helper reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What is asked for.
    pub verb: Verb,
    /// The order: its contract number, 32 characters of lower-case hex.
    pub contract_no: String,
    /// systemd's slice of the order, where the helper made one: start the workload in it (`systemd-run --slice=..`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
    /// Write `0` to each of these from the workload's first process, before it execs. Empty where there is a slice, and
    /// where nobody could make a place.
    #[serde(default)]
    pub procs_files: Vec<PathBuf>,
    /// Directory of the order's files, where the helper made one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<PathBuf>,
    /// Units of the product; 0 unless the verb is `start`.
    #[serde(default)]
    pub quantity: u32,
    /// What one unit holds, by resource name, decimal strings: `cpu` in thousandths of a core, `memory` and `storage` in
    /// bytes, `disk_read` and `disk_write` in bytes a second, `disk_read_ops` and `disk_write_ops` in operations a second,
    /// `gpu:KIND` in devices.
    #[serde(default)]
    pub reserves: BTreeMap<String, String>,
    /// End of service, RFC 3339 UTC; of a verb other than `start` the time it is asked.
    #[serde(default)]
    pub service_end: String,
    /// `start` only: the devices that the node gave to the order, as NVML names them (`GPU-..`, `MIG-..`). The workload may
    /// see these and no others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
}

impl Request {
    /// Whether the request stays within what may be asked of root: its name is one that no path and no unit name can be made
    /// of but the order's own, and its numbers are in range.
    ///
    /// # Errors
    /// [`Error::Request`] naming the first member that is not.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |field: &'static str, why: &str| Err(Error::Request { field, why: why.to_owned() });
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if self.contract_no.len() != ORDER_CHARS || !self.contract_no.bytes().all(hex) {
            return wrong("contract_no", "32 characters of 0-9 a-f expected");
        }
        if self.slice.is_some() || self.storage.is_some() || !self.procs_files.is_empty() {
            return wrong("slice, procs_files, storage", "the helper names the place, not who asks");
        }
        if self.verb == Verb::Start && !(1..=QUANTITY_MAX).contains(&self.quantity) {
            return wrong("quantity", "1 to 1000000 expected");
        }
        let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'+');
        for (resource, quantity) in &self.reserves {
            if !(1..=RESOURCE_CHARS_MAX).contains(&resource.len()) || !resource.bytes().all(name) {
                return wrong("reserves", "the name of a resource expected");
            }
            if quantity.parse::<u64>().is_err() {
                return wrong("reserves", "a decimal number below 2^64 expected");
            }
        }
        if self.reserves.len() > RESERVES_MAX {
            return wrong("reserves", "at most 64 resources expected");
        }
        let time = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b':' | b'.' | b'T' | b'Z');
        if self.service_end.len() > 40 || !self.service_end.bytes().all(time) {
            return wrong("service_end", "RFC 3339 UTC expected");
        }
        if self.gpus.len() > GPUS_MAX || (self.verb != Verb::Start && !self.gpus.is_empty()) {
            return wrong("gpus", "at most 64, and with the verb start only, expected");
        }
        if !self.gpus.iter().all(|gpu| is_device(gpu)) {
            return wrong("gpus", "GPU- or MIG-, hex digits and dashes expected");
        }
        if self.gpus.iter().collect::<BTreeSet<_>>().len() != self.gpus.len() {
            return wrong("gpus", "each device once expected");
        }
        Ok(())
    }

    /// What all units hold together of a resource; `None` where nothing of it is reserved.
    ///
    /// # Errors
    /// [`Error::Request`] for a product beyond 64 bits.
    pub fn reserved(&self, resource: &str) -> Result<Option<u64>, Error> {
        let Some(text) = self.reserves.get(resource) else { return Ok(None) };
        let total = text.parse::<u64>().ok().and_then(|one| one.checked_mul(u64::from(self.quantity)));
        let wrong = || Error::Request { field: "reserves", why: format!("{resource} of all units is beyond 2^64") };
        total.map(Some).ok_or_else(wrong)
    }
}

/// Whether this may name a device or a MIG instance, as NVML does: nothing that an option, a path or a variable can be made of.
fn is_device(text: &str) -> bool {
    const BYTES_MAX: usize = 48;
    let digits = text.strip_prefix("GPU-").or_else(|| text.strip_prefix("MIG-"));
    let good = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    text.len() <= BYTES_MAX && digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(good))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            verb: Verb::Start,
            contract_no: "0123456789abcdef0123456789abcdef".to_owned(),
            slice: None,
            storage: None,
            procs_files: Vec::new(),
            quantity: 2,
            reserves: [("cpu".to_owned(), "500".to_owned())].into(),
            service_end: "2026-11-21T00:00:00Z".to_owned(),
            gpus: vec!["GPU-1b5e0e8a-3f0c-4a43-9d0e-0a6c1f2d3e4f".to_owned(), "MIG-00aa".to_owned()],
        }
    }

    #[test]
    fn what_may_be_asked_of_root_is_closed() {
        type Change = fn(&mut Request);
        let changes: [(&str, Change); 21] = [
            ("climbs", |r| r.contract_no = "../../../../etc/0123456789abcdef".to_owned()),
            ("short", |r| r.contract_no = "01".to_owned()),
            ("upper", |r| r.contract_no = "0123456789ABCDEF0123456789ABCDEF".to_owned()),
            ("nests", |r| r.contract_no = "0123456789abcdef-123456789abcdef".to_owned()),
            ("a slice", |r| r.slice = Some("system.slice".to_owned())),
            ("a file", |r| r.procs_files = vec!["/sys/fs/cgroup/cgroup.procs".into()]),
            ("a directory", |r| r.storage = Some("/etc".into())),
            ("nothing", |r| r.quantity = 0),
            ("too many", |r| r.quantity = QUANTITY_MAX + 1),
            ("a name", |r| drop(r.reserves.insert("cpu/../x".to_owned(), "1".to_owned()))),
            ("no name", |r| drop(r.reserves.insert(String::new(), "1".to_owned()))),
            ("no number", |r| drop(r.reserves.insert("memory".to_owned(), "-1".to_owned()))),
            ("many", |r| r.reserves = (0..65).map(|i| (format!("gpu:{i}"), "1".to_owned())).collect()),
            ("an index", |r| r.gpus = vec!["0".to_owned()]),
            ("an option", |r| r.gpus = vec!["GPU-0 --privileged".to_owned()]),
            ("a path behind a name", |r| r.gpus = vec!["MIG-GPU-5f0c/1/0".to_owned()]),
            ("letters", |r| r.gpus = vec!["GPU-xyz".to_owned()]),
            ("a device", |r| r.gpus = vec!["/dev/nvidia0".to_owned()]),
            ("twice", |r| r.gpus = vec!["GPU-0".to_owned(); 2]),
            ("many devices", |r| r.gpus = (0..65).map(|i| format!("GPU-{i}")).collect()),
            ("a time", |r| r.service_end = "tomorrow\n".to_owned()),
        ];
        assert!(request().check().is_ok());
        for (name, change) in changes {
            let mut changed = request();
            change(&mut changed);
            assert!(changed.check().is_err(), "{name}");
        }
    }

    #[test]
    fn units_are_multiplied_with_care() {
        let mut asked = request();
        assert_eq!(asked.reserved("cpu").unwrap(), Some(1000));
        assert_eq!(asked.reserved("memory").unwrap(), None);
        asked.reserves.insert("memory".to_owned(), u64::MAX.to_string());
        assert!(asked.check().is_ok());
        assert!(asked.reserved("memory").is_err());
    }

    #[test]
    fn unknown_members_and_verbs_are_refused() {
        for text in [
            r#"{"verb":"exec","contract_no":"0123456789abcdef0123456789abcdef"}"#,
            r#"{"verb":"stop","contract_no":"0123456789abcdef0123456789abcdef","command":"sh"}"#,
            r#"{"verb":"stop"}"#,
            "[]",
        ] {
            assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
        }
    }
}
