//! Processors and the NUMA nodes they sit in.

use std::{collections::BTreeSet, path::Path};

use hufu_trade::octets::text_option;
use serde::Serialize;

use super::{system::MEMORY_BYTES_MAX, text};
use crate::file;

/// More CPUs than that no kernel of ours has.
const CPUS_MAX: u32 = 65_536;

/// The CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CpuCapacity {
    /// CPUs online: threads that the kernel runs work on now.
    pub count: u32,
    /// Model name; empty when the kernel gives none.
    pub model: String,
    /// Architecture.
    pub architecture: String,
    /// Threads that are there, online or not.
    pub threads: Option<u32>,
    /// Cores with a thread online.
    pub cores: Option<u32>,
    /// Sockets with a thread online.
    pub sockets: Option<u32>,
}

/// A NUMA node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its number.
    pub id: u32,
    /// Its CPUs as a list, `0-3,8-11`; absent for memory without CPUs.
    pub cpus: Option<String>,
    /// Its memory, bytes.
    #[serde(with = "text_option")]
    pub memory_bytes: Option<u64>,
}

pub(super) fn cpu(root: &Path) -> CpuCapacity {
    let directory = root.join("sys/devices/system/cpu");
    let list = |name: &str| {
        let count = crate::host::cpu_list(&text::bytes(&directory.join(name))?)?;
        (1..=CPUS_MAX).contains(&count).then_some(count)
    };
    let cpuinfo = text::bytes(&root.join("proc/cpuinfo")).unwrap_or_default();
    let cpus: Vec<_> = text::names(&directory).into_iter().filter(|name| numbered(name, "cpu").is_some()).collect();
    // Two threads of one core say the same list.
    let distinct = |path: &str| {
        let told = cpus.iter().filter_map(|cpu| text::line(&directory.join(cpu).join("topology").join(path)));
        let told: BTreeSet<String> = told.collect();
        u32::try_from(told.len()).ok().filter(|count| *count > 0)
    };
    CpuCapacity {
        count: list("online").unwrap_or_else(|| processors(&cpuinfo)),
        model: model(&cpuinfo).unwrap_or_default(),
        architecture: std::env::consts::ARCH.to_owned(),
        threads: list("present"),
        cores: distinct("core_cpus_list").or_else(|| distinct("thread_siblings_list")),
        sockets: distinct("physical_package_id"),
    }
}

pub(super) fn nodes(root: &Path) -> Vec<Node> {
    let directory = root.join("sys/devices/system/node");
    let numbers = text::names(&directory).into_iter().filter_map(|name| numbered(&name, "node"));
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.sort_unstable();
    let node = |id: u32| {
        let own = directory.join(format!("node{id}"));
        let meminfo = text::bytes(&own.join("meminfo")).unwrap_or_default();
        // `Node 0 MemTotal:       12345 kB`
        let total = file::lines(&meminfo).find_map(|line| {
            let mut words = file::words(line).skip_while(|word| *word != b"MemTotal:");
            words.next()?;
            file::number(words.next()?)?.checked_mul(1024).filter(|bytes| *bytes <= MEMORY_BYTES_MAX)
        });
        Node { id, cpus: text::line(&own.join("cpulist")), memory_bytes: total }
    };
    numbers.into_iter().map(node).collect()
}

/// The number behind `prefix`, where a name is nothing but that.
fn numbered(name: &str, prefix: &str) -> Option<u32> {
    let number = file::number(name.strip_prefix(prefix)?.as_bytes())?;
    u32::try_from(number).ok()
}

fn processors(cpuinfo: &[u8]) -> u32 {
    let count = file::lines(cpuinfo).filter(|line| line.starts_with(b"processor")).count();
    u32::try_from(count.max(1)).unwrap_or(CPUS_MAX).min(CPUS_MAX)
}

fn model(cpuinfo: &[u8]) -> Option<String> {
    file::lines(cpuinfo).find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (key, value) = line.split_at_checked(colon)?;
        let is_model = matches!(key.trim_ascii(), b"model name" | b"Model" | b"cpu model" | b"Hardware");
        if is_model { text::tidy(value.get(1..)?) } else { None }
    })
}
