//! What a site's command or the helper answers, and what of it is believed. Nothing of it is run, and no path of it is written to.

use std::{
    collections::BTreeMap,
    path::{Component, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::Error;

/// Longest address, resolution or path in an answer, bytes.
const TEXT_BYTES_MAX: usize = 512;
/// Longest name of a network interface (IFNAMSIZ less its end), bytes.
const INTERFACE_BYTES_MAX: usize = 15;

/// What was answered. Members that a later version may add are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// Root process of the workload, where it is not in a cgroup of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The order's cgroup, a path below its hierarchy, where it is another than the one offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// What to meter, by the name that its engine or manager gave it: `docker:ID`, `unit:NAME`, `pod:UID`, `machine:NAME`, ..
    /// (`hufu_metering::resolve`). Comes before `cgroup` and `pid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolve: Option<String>,
    /// Boundary at which the order's traffic is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Directory of the order's files, an absolute path: by its project quota, or by a walk, their bytes are metered. A
    /// mount point of a filesystem of the order's own is read as that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<PathBuf>,
    /// Where the buyer reaches the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What nftables counted, of all orders at once, to the verb `traffic`: by what names their counters (a cgroup's id and the
    /// number drawn for it, `ID_HEX`), bytes received and sent, `"RX TX"`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub traffic: BTreeMap<String, String>,
    /// Why the helper says no; a command says so by its exit status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The boundary of an order's traffic: `"cgroup"`, or `{"interface": NAME, "side": "host" | "order"}`, with
/// `"pid": N` where it is in the network namespace of that process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Counters at the order's cgroup.
    Cgroup,
    /// The same in nftables, where the kernel attaches none to cgroups: the helper's answer to `probe`, and nobody else's.
    Nft,
    /// An interface of the order.
    #[serde(untagged)]
    Interface(Interface),
}

/// A network interface that carries one order's traffic and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Its name.
    pub interface: String,
    /// Which end of the pair it is: on the host's, what the order sends is received.
    pub side: Side,
    /// A process in the network namespace that the interface is in, a container's or a pod's; without it the host's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

/// An end of a pair of interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The host's.
    Host,
    /// The order's.
    Order,
}

fn is_text(text: &str) -> bool {
    (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

impl Answer {
    /// Reads an answer and checks it; blanks are the empty answer.
    ///
    /// # Errors
    /// [`Error::Answer`] for what is not one JSON object; [`Error::Request`] as [`Answer::check`].
    pub fn from_json(text: &[u8]) -> Result<Self, Error> {
        let text = text.trim_ascii();
        match text.first() {
            None => return Ok(Self::default()),
            Some(b'{') => {}
            // An array would be read as a struct's members in their order.
            Some(_) => return Err(Error::Answer(serde::de::Error::custom("an object expected"))),
        }
        let answer: Self = serde_json::from_slice(text)?;
        answer.check()?;
        Ok(answer)
    }

    /// Whether the answer stays within what a node takes from whoever makes its places.
    ///
    /// # Errors
    /// [`Error::Request`] naming the first member that does not, and what is expected there.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |field: &'static str, why: &str| Err(Error::Request { field, why: why.to_owned() });
        let part = |part: &str| matches!(part, "" | "." | "..");
        if self.pid == Some(0) {
            return wrong("pid", "a process id above zero expected");
        }
        let is_path = |path: &str| is_text(path) && !path.trim_matches('/').split('/').any(part);
        if self.cgroup.as_deref().is_some_and(|path| !is_path(path)) {
            return wrong("cgroup", "a path below the hierarchies expected");
        }
        if self.resolve.as_deref().is_some_and(|text| !is_text(text)) {
            return wrong("resolve", "at most 512 characters such as docker:ID expected");
        }
        if self.address.as_deref().is_some_and(|text| !is_text(text)) {
            return wrong("address", "1 to 512 bytes without control characters expected");
        }
        if let Some(Network::Interface(Interface { interface, pid, .. })) = &self.network {
            if *pid == Some(0) {
                return wrong("network", "a process id above zero expected");
            }
            let is_name = interface.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':'));
            if !(1..=INTERFACE_BYTES_MAX).contains(&interface.len()) || !is_name || part(interface) {
                return wrong("network", "the name of a network interface expected");
            }
        }
        if let Some(path) = &self.storage {
            let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
            if !path.is_absolute() || !plain || !path.to_str().is_some_and(is_text) || path.parent().is_none() {
                return wrong("storage", "the absolute path of a directory expected, not the root");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Answer, String> {
        Answer::from_json(text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn what_a_site_may_say_is_closed() {
        for (text, word) in [
            ("{}", ""),
            (r#"{"pid":7,"later":"member"}"#, ""),
            (r#"{"pid":0}"#, "pid"),
            (r#"{"pid":-1}"#, "invalid"),
            (r#"{"cgroup":"/a/b"}"#, ""),
            (r#"{"cgroup":"a/../b"}"#, "cgroup"),
            (r#"{"cgroup":"/"}"#, "cgroup"),
            (r#"{"cgroup":""}"#, "cgroup"),
            (r#"{"resolve":"docker:0123456789ab"}"#, ""),
            (r#"{"resolve":"a\nb"}"#, "resolve"),
            (r#"{"address":"ssh://here:22"}"#, ""),
            (r#"{"address":""}"#, "address"),
            (r#"{"address":"a\u001b[2J"}"#, "address"),
            (r#"{"network":"cgroup"}"#, ""),
            (r#"{"network":{"interface":"veth0","side":"host"}}"#, ""),
            (r#"{"network":{"interface":"veth0","side":"order"}}"#, ""),
            (r#"{"network":{"interface":"eth0","side":"order","pid":7}}"#, ""),
            (r#"{"network":{"interface":"eth0","side":"order","pid":0}}"#, "network"),
            (r#"{"network":{"interface":"eth0","side":"order","pid":-7}}"#, "did not match"),
            (r#"{"network":{"interface":"../veth0","side":"host"}}"#, "network"),
            (r#"{"network":{"interface":"..","side":"host"}}"#, "network"),
            (r#"{"network":{"interface":"a-very-long-name","side":"host"}}"#, "network"),
            (r#"{"network":{"interface":"veth0","side":"both"}}"#, "did not match"),
            (r#"{"network":{"interface":"veth0"}}"#, "did not match"),
            (r#"{"network":"wire"}"#, "did not match"),
            (r#"{"storage":"/srv/a"}"#, ""),
            (r#"{"storage":"srv/a"}"#, "storage"),
            (r#"{"storage":"/srv/../etc"}"#, "storage"),
            (r#"{"storage":"/"}"#, "storage"),
            (" \n", ""),
            ("[]", "object"),
            ("7", "object"),
            ("null", "object"),
            ("\u{0}{}", "object"),
            (r#"{"pid":7"#, "EOF"),
            (r#"{"pid":7} and more"#, "trailing"),
        ] {
            match read(text) {
                Ok(_) => assert!(word.is_empty(), "{text} was taken"),
                Err(why) => assert!(!word.is_empty() && why.contains(word), "{text}: {why}"),
            }
        }
        let long = format!("{{\"address\":\"{}\"}}", "x".repeat(513));
        assert!(read(&long).is_err());
    }

    #[test]
    fn an_answer_reads_back_as_it_was_written() {
        for text in [
            r#"{"network":"cgroup"}"#,
            r#"{"pid":7,"cgroup":"a/b","resolve":"unit:x","network":{"interface":"veth0","side":"host"},"storage":"/srv/a","address":"here","error":"no"}"#,
        ] {
            assert_eq!(serde_json::to_string(&serde_json::from_str::<Answer>(text).unwrap()).unwrap(), text);
        }
    }
}
