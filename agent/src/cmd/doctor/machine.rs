//! The server itself: randomness, arithmetic of the signatures, cgroups, limits, GPUs.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::sync_channel,
    time::Duration,
};

use hufu_audit::Lang;
use hufu_gm::{
    PublicKey,
    second_opinion::{sm3_with_libsm, sm4_ctr_with_libsm, verify_with_libsm},
    sm3::sm3,
    sm4::Key,
};
use hufu_metering::{
    gpu::{self, GpuKind},
    hierarchy::{Hierarchies, Mode},
};
use hufu_trade::resource::Resource;

use super::{Check, Patient, State, check, or_fail};
use crate::{
    catalogue::ProductConfig,
    config::Config,
    gpu_config::GpuConfig,
    hardware::Hardware,
    provision::Means,
    stock::{Capacity, Shop},
    text::Text,
};

/// A source of randomness that is not ready by then is none.
const RANDOM_WAIT: Duration = Duration::from_secs(3);
/// Longest wait for the GPU library: a hung driver never answers.
const GPU_WAIT: Duration = Duration::from_secs(20);
/// Files the daemon holds open besides those of orders, and for each order.
const FILES_BASE: u64 = 128;
const FILES_ORDER: u64 = 16;
/// Orders that the limits must allow.
const ORDERS: u64 = 64;
/// Memory the daemon must be allowed.
const MEMORY_BYTES: u64 = 64 << 20;

/// What may be looked at without knowing the configuration.
pub(super) fn without_configuration(lang: Lang) -> Vec<Check> {
    vec![random(lang), signatures(lang), gpus(lang, None)]
}

pub(super) fn checks(patient: &Patient<'_>, daemon: Option<u32>) -> Vec<Check> {
    let mut checks = vec![random(patient.lang), signatures(patient.lang), cgroups(patient)];
    checks.push(metered(patient, capacity(patient.config)));
    checks.push(places(patient));
    checks.push(files(patient, daemon));
    checks.extend(daemon.map(|pid| memory(patient, pid)));
    checks.push(gpus(patient.lang, Some(patient.config)));
    checks
}

/// What the node may sell.
pub(super) fn capacity(config: &Config) -> Option<Capacity> {
    let has = hufu_metering::capacity::capacity(&config.root).ok()?;
    Some(Capacity {
        cpu_millicores: config.cpu_millicores.unwrap_or(u64::from(has.inventory.cpu.count) * 1000),
        memory_bytes: config.memory_bytes.or(has.inventory.memory.total_bytes).unwrap_or(0),
        storage_bytes: config.storage_bytes.unwrap_or(0),
        sources: crate::stock::sources(config).ok()?,
        gpus: crate::gpus::now(config),
    })
}

/// The kernel blocks while it has no entropy, so it is asked on a thread that may be left behind.
fn random(lang: Lang) -> Check {
    let (answer, answered) = sync_channel(1);
    let asking = std::thread::Builder::new().spawn(move || {
        let mut bytes = [0; 32];
        answer.send(hufu_gm::random::fill(&mut bytes).map(|()| bytes)).ok();
    });
    let found = match asking.map(|_| answered.recv_timeout(RANDOM_WAIT)) {
        Ok(Ok(Ok(bytes))) if bytes != [0; 32] => Ok("getrandom".to_owned()),
        Ok(Ok(Ok(_))) => Err("32 zero bytes".to_owned()),
        Ok(Ok(Err(error))) => Err(error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    check(lang, "random", or_fail(found), &Text::DoctorRandom {})
}

/// SM3 of `abc`: GB/T 32905, A.1.
const ABC: &str = "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0";
/// SM4 of a block under the key that equals it: GB/T 32907, A.1. In counter mode over zeros, the block being the counter.
const BLOCK: [u8; 16] =
    [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10];
const ENCRYPTED: &str = "681edf34d206965e86b3e94f536e4246";
/// Public key and signature over `message digest` under the default user id: GB/T 32918.5, A.2.
const KEY: &str = "0409f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020\
                   ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13";
const SIGNATURE: &str = "3046022100f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3\
                         022100b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa";

/// The national standards' own examples, judged by both implementations, and refused by both when one bit is another.
fn signatures(lang: Lang) -> Check {
    let bytes = |text: &str| hex::decode(text).unwrap_or_default();
    let (key, signature) = (bytes(KEY), bytes(SIGNATURE));
    let ours = |message: &[u8]| PublicKey::from_sec1(&key).is_ok_and(|key| key.verify(message, &signature).is_valid());
    let theirs = |message: &[u8]| verify_with_libsm(&key, message, &signature);
    let (right, wrong) = (b"message digest", b"message digesu");
    let mut block = [0; 16];
    Key::from_bytes(BLOCK).apply_ctr(&BLOCK, &mut block);
    let their_block = sm4_ctr_with_libsm(&BLOCK, &BLOCK, &[0; 16]);
    let found = match () {
        () if hex::encode(sm3(&[b"abc"])) != ABC => Err("SM3"),
        () if hex::encode(sm3_with_libsm(b"abc")) != ABC => Err("SM3 (libsm)"),
        () if hex::encode(block) != ENCRYPTED => Err("SM4"),
        () if their_block.as_deref() != Some(block.as_slice()) => Err("SM4 (libsm)"),
        () if !ours(right) || ours(wrong) => Err("SM2"),
        () if !theirs(right).is_valid() || theirs(wrong).is_valid() => Err("SM2 (libsm)"),
        () => Ok("SM2, SM3, SM4; libsm agrees".to_owned()),
    };
    check(lang, "signatures", or_fail(found), &Text::DoctorSignatures {})
}

fn cgroups(patient: &Patient<'_>) -> Check {
    let judged = match Hierarchies::detect(&patient.config.root).map(|found| found.mode()) {
        Ok(mode @ (Mode::V2 | Mode::Hybrid | Mode::V1)) => {
            let path = patient.config.root.join("sys/fs/cgroup/cgroup.controllers");
            let controllers = std::fs::read_to_string(path).unwrap_or_default();
            (State::Ok, format!("{} {}", mode.source(), controllers.trim()).trim().to_owned())
        }
        Ok(Mode::None) => (State::Warn, "none".to_owned()),
        Err(error) => (State::Fail, error.to_string()),
    };
    patient.check("cgroups", judged, &Text::DoctorCgroups {})
}

/// Whether everything that has a price has a meter.
fn metered(patient: &Patient<'_>, capacity: Option<Capacity>) -> Check {
    let products = patient.config.products.clone();
    let judged = match capacity {
        None => (State::Fail, patient.config.root.join("proc").display().to_string()),
        Some(capacity) => {
            let shop =
                Shop { products, capacity, certificates: Vec::new(), hardware: Hardware::default(), profile: None };
            let mut lacking = Vec::new();
            for product in &shop.products {
                let priced = product.tariff.prices.iter().filter_map(|price| price.resource.parse().ok());
                let lacks = |resource: &Resource| shop.metered(product, resource).is_err();
                lacking.extend(priced.filter(lacks).map(|resource| resource.to_string()));
            }
            lacking.sort();
            lacking.dedup();
            let state = if lacking.is_empty() { State::Ok } else { State::Warn };
            (state, if lacking.is_empty() { "-".to_owned() } else { lacking.join(", ") })
        }
    };
    patient.check("metered", judged, &Text::DoctorMetered {})
}

/// Who makes the places of orders: the helper is asked in `peers.rs`.
fn places(patient: &Patient<'_>) -> Check {
    let (id, text) = ("places", Text::DoctorPlaces { place: patient.config.place.clone() });
    let judged = match &patient.config.provision {
        Means::Helper(socket) => (State::Ok, socket.display().to_string()),
        Means::Command(command) => match command.first() {
            Some(program) => match executable(program) {
                Some(path) => (State::Ok, path.display().to_string()),
                None => (State::Fail, program.clone()),
            },
            None => match tree(patient) {
                Some(path) if rustix::fs::access(&path, rustix::fs::Access::WRITE_OK).is_ok() => {
                    (State::Ok, path.display().to_string())
                }
                Some(path) => (State::Fail, path.display().to_string()),
                None => (State::Warn, "-".to_owned()),
            },
        },
    };
    patient.check(id, judged, &text)
}

/// Where the agent itself would make places: the parent of the orders, or where that would be made.
fn tree(patient: &Patient<'_>) -> Option<PathBuf> {
    let mode = Hierarchies::detect(&patient.config.root).ok()?.mode();
    let root = match mode {
        Mode::None => return None,
        Mode::V2 => patient.config.root.join("sys/fs/cgroup"),
        Mode::V1 | Mode::Hybrid => patient.config.root.join("sys/fs/cgroup/cpuacct"),
    };
    let parent = root.join(&patient.config.place);
    Some(if parent.is_dir() { parent } else { root })
}

/// The file a command would be started from.
fn executable(program: &str) -> Option<PathBuf> {
    let can_run = |path: &PathBuf| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(can_run);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(can_run)
}

/// Open files: of the running daemon, or as whoever asks would start it.
fn files(patient: &Patient<'_>, daemon: Option<u32>) -> Check {
    let of = |pid: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Max open files").map(str::to_owned))?;
        line.split_ascii_whitespace().next().map(|limit| limit.parse().unwrap_or(u64::MAX))
    };
    let needed = FILES_BASE + ORDERS * FILES_ORDER;
    let text = Text::DoctorFiles { count: needed.to_string(), orders: ORDERS.to_string() };
    let judged = match of(&daemon.map_or_else(|| "self".to_owned(), |pid| pid.to_string())) {
        Some(limit) if limit < needed => (State::Warn, limit.to_string()),
        Some(limit) => (State::Ok, limit.to_string()),
        None => (State::Warn, "?".to_owned()),
    };
    patient.check("open_files", judged, &text)
}

/// Memory that the daemon's unit allows it.
fn memory(patient: &Patient<'_>, pid: u32) -> Check {
    let limit = memory_limit(Path::new("/"), pid);
    let text = Text::DoctorMemory { bytes: MEMORY_BYTES.to_string() };
    let state = if limit.is_some_and(|limit| limit < MEMORY_BYTES) { State::Warn } else { State::Ok };
    let actual = limit.map_or_else(|| "max".to_owned(), |limit| limit.to_string());
    Check { unit: Some("bytes"), ..patient.check("memory_limit", (state, actual), &text) }
}

/// The smallest limit of a process's cgroup and those above it (version 2).
fn memory_limit(root: &Path, pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(root.join(format!("proc/{pid}/cgroup"))).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let dir = Path::new(path);
    let limits = dir.ancestors().filter_map(|dir| {
        let text = std::fs::read_to_string(root.join("sys/fs/cgroup").join(dir).join("memory.max")).ok()?;
        text.trim().parse::<u64>().ok()
    });
    limits.min()
}

fn gpus(lang: Lang, config: Option<&Config>) -> Check {
    let library = config.map_or(Path::new(gpu::LIBRARY), |config| &config.nvml);
    let found = gpu::inventory(library, GPU_WAIT);
    let reason = found.reason.clone().unwrap_or_default();
    let devices = Path::new("/dev/nvidiactl").exists();
    let lacking = config.map_or_else(Vec::new, |config| lacking(config, &found.kinds));
    let judged = match &found.devices {
        _ if !lacking.is_empty() => (State::Fail, format!("{} {reason}", lacking.join(", ")).trim().to_owned()),
        Some(devices) if devices.iter().any(|gpu| gpu.reason.is_some()) => {
            let why = devices.iter().filter_map(|gpu| gpu.reason.clone()).collect::<Vec<_>>();
            (State::Warn, why.join("; "))
        }
        Some(devices) if !devices.is_empty() => (State::Ok, devices.len().to_string()),
        // Devices that nobody can be asked about are a fault; a server without any is not.
        _ if devices => (State::Warn, reason),
        Some(_) => (State::Ok, "0".to_owned()),
        None => (State::Ok, format!("0 ({reason})")),
    };
    check(lang, "gpus", judged, &Text::DoctorGpus {})
}

/// The products whose devices are not there: not one unit of them can be sold.
fn lacking(config: &Config, kinds: &[GpuKind]) -> Vec<String> {
    let products = config.products.iter().filter_map(|product| Some((product, product.gpu.as_ref()?)));
    let short = |(product, gpu): (&ProductConfig, &GpuConfig)| {
        let found = kinds.iter().find(|kind| kind.resource.to_string() == gpu.resource()).map_or(0, |kind| kind.count);
        (found < gpu.count).then(|| format!("{}: {} {found}/{}", product.id, gpu.resource(), gpu.count))
    };
    products.filter_map(short).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_above_a_process_counts() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("sys/fs/cgroup/system.slice/hufu.service");
        std::fs::create_dir_all(&group).unwrap();
        std::fs::create_dir_all(dir.path().join("proc/7")).unwrap();
        std::fs::write(dir.path().join("proc/7/cgroup"), "1:x:/y\n0::/system.slice/hufu.service\n").unwrap();
        assert_eq!(memory_limit(dir.path(), 7), None);
        std::fs::write(group.join("memory.max"), "268435456\n").unwrap();
        assert_eq!(memory_limit(dir.path(), 7), Some(268_435_456));
        std::fs::write(group.join("../memory.max"), "1000\n").unwrap();
        assert_eq!(memory_limit(dir.path(), 7), Some(1000));
        std::fs::write(group.join("../memory.max"), "max\n").unwrap();
        assert_eq!(memory_limit(dir.path(), 7), Some(268_435_456));
    }

    #[test]
    fn both_implementations_judge_the_standards_example() {
        assert_eq!(signatures(Lang::En).state, State::Ok, "{:?}", signatures(Lang::En));
    }

    #[test]
    fn a_program_is_found_where_the_shell_finds_it() {
        assert!(executable("sh").is_some() && executable("/bin/sh").is_some());
        assert_eq!((executable("/etc/passwd"), executable("no-such-program")), (None, None));
    }
}
