//! Which GPUs a server has, as NVIDIA's management library (NVML) tells it. Read seldom; what an order uses of them is
//! `gpu_watch.rs` and `gpu_meter.rs`.
//!
//! The library is opened at run time: a server without it is a server without GPUs. What it cannot tell is absent with a
//! reason that names the NVML function, never zero. Nothing is ever set. A driver can hang inside a call, so the calls run
//! on a thread of their own that is left behind when it does not answer in time.

use std::{path::Path, sync::mpsc, thread, time::Duration};

use hufu_trade::{
    octets::text_option,
    resource::{Kind, Resource},
};
use nvml_wrapper::{Device, Nvml, error::NvmlError};
use serde::Serialize;

/// NVML where the driver's package puts it: found on the loader's path.
pub const LIBRARY: &str = "libnvidia-ml.so.1";

/// What is asked for at most; NVML has been seen to answer nonsense.
pub(crate) const DEVICE_COUNT_MAX: u32 = 256;
pub(crate) const INSTANCE_COUNT_MAX: u32 = 64;
pub(crate) const MEMORY_BYTES_MAX: u64 = 1 << 50;
const NAME_CHARS_MAX: usize = 120;

/// The GPUs of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gpus {
    /// Version of the driver (`nvmlSystemGetDriverVersion`).
    pub driver_version: Option<String>,
    /// The devices in NVML's order; absent when they are not known, empty when there is none.
    pub devices: Option<Vec<Gpu>>,
    /// What an order could be given, and how many there are of it.
    pub kinds: Vec<GpuKind>,
    /// Why there is none, or why nothing is known.
    pub reason: Option<String>,
}

/// Devices or MIG instances that are sold under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GpuKind {
    /// The resource, for example `gpu:A100-80G` or `gpu:1g.10gb`.
    pub resource: Resource,
    /// How many there are.
    pub count: u32,
}

/// A GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// NVML's index (`nvmlDeviceGetHandleByIndex_v2`); it may change at a restart, the UUID does not.
    pub index: u32,
    /// Globally unique (`nvmlDeviceGetUUID`).
    pub uuid: Option<String>,
    /// Product name (`nvmlDeviceGetName`).
    pub name: Option<String>,
    /// `domain:bus:device.function` (`nvmlDeviceGetPciInfo_v3`).
    pub pci_bus_id: Option<String>,
    /// Physical memory with what the driver keeps for itself, bytes (`nvmlDeviceGetMemoryInfo_v2`).
    #[serde(with = "text_option")]
    pub memory_bytes: Option<u64>,
    /// Whether it is partitioned (`nvmlDeviceGetMigMode`, the current mode).
    pub mig: Option<Mig>,
    /// The parts, where it is partitioned (`nvmlDeviceGetMigDeviceHandleByIndex`).
    pub instances: Vec<Instance>,
    /// Whether it counts the energy it draws (`nvmlDeviceGetTotalEnergyConsumption`).
    pub counts_energy: Option<bool>,
    /// Whether it tells how busy it is as a whole (`nvmlDeviceGetUtilizationRates`).
    pub tells_utilization: Option<bool>,
    /// The whole device as a resource; absent when it is partitioned or its name or memory is not known.
    pub resource: Option<Resource>,
    /// What could not be read, and why.
    pub reason: Option<String>,
}

/// Multi-instance mode of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mig {
    /// It cannot be partitioned.
    Unsupported,
    /// It is sold whole.
    Disabled,
    /// It is sold in parts.
    Enabled,
}

/// A MIG instance: a part of a GPU with memory of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// NVML's index below the GPU.
    pub index: u32,
    /// Globally unique (`nvmlDeviceGetUUID`).
    pub uuid: Option<String>,
    /// Profile (`1g.10gb`): the end of `nvmlDeviceGetName`, else from `nvmlDeviceGetAttributes_v2`.
    pub profile: Option<String>,
    /// Its memory, bytes (`nvmlDeviceGetMemoryInfo_v2`, else `nvmlDeviceGetAttributes_v2`).
    #[serde(with = "text_option")]
    pub memory_bytes: Option<u64>,
    /// The instance as a resource.
    pub resource: Option<Resource>,
    /// What could not be read, and why.
    pub reason: Option<String>,
}

/// Asks the NVML at `library` (a path, or a name for the loader) and waits for its answer for at most `within`.
pub fn inventory(library: &Path, within: Duration) -> Gpus {
    let (answer, answered) = mpsc::sync_channel(1);
    let path = library.to_owned();
    let asking = thread::Builder::new().name("nvml".to_owned()).spawn(move || answer.send(read(&path)));
    if let Err(error) = asking {
        return unknown(format!("no thread to ask NVML on: {error}"));
    }
    answered.recv_timeout(within).unwrap_or_else(|error| match error {
        mpsc::RecvTimeoutError::Timeout => unknown(format!("NVML did not answer within {} s", within.as_secs())),
        mpsc::RecvTimeoutError::Disconnected => unknown("NVML was left without an answer".to_owned()),
    })
}

pub(crate) fn unknown(reason: String) -> Gpus {
    Gpus { reason: Some(reason), ..Gpus::default() }
}

fn read(library: &Path) -> Gpus {
    let nvml = match open(library) {
        Ok(nvml) => nvml,
        Err(why_not) => return why_not,
    };
    let found = ask(&nvml);
    close(nvml);
    found
}

/// Loads NVML and initialises it; what is known of the GPUs where that fails.
pub(crate) fn open(library: &Path) -> Result<Nvml, Gpus> {
    // Opening a library from a static program needs the very C library it was built with, else it may crash.
    if cfg!(target_feature = "crt-static") {
        return Err(unknown(
            "this program is linked statically and opens no libraries; use a dynamic build".to_owned(),
        ));
    }
    Nvml::builder().lib_path(library.as_os_str()).init().map_err(|error| unopened(library, &error))
}

/// Shuts NVML down. The wrapper's drop panics where the library has no nvmlShutdown.
pub(crate) fn close(nvml: Nvml) {
    if nvml.lib().nvmlShutdown.is_err() {
        std::mem::forget(nvml);
    }
}

fn unopened(library: &Path, error: &NvmlError) -> Gpus {
    let library = library.display();
    let said = error.to_string();
    match error {
        NvmlError::LibloadingError(_) => {
            // The loader names the file that is missing: the library itself, or one that it needs.
            let missing = said.contains(&format!("{library}: cannot open shared object file: No such file"));
            let devices = missing.then(Vec::new);
            let reason = if missing { format!("{library} is not installed") } else { clean(&said) };
            Gpus { devices, ..unknown(reason) }
        }
        NvmlError::FailedToLoadSymbol(_) => unknown(clean(&said)),
        NvmlError::LibRmVersionMismatch => {
            unknown(format!("{said} (nvmlInit_v2); restart the server or reload the driver"))
        }
        _ => unknown(format!("{said} (nvmlInit_v2)")),
    }
}

pub(crate) fn ask(nvml: &Nvml) -> Gpus {
    let mut trouble = Trouble::default();
    let driver_version = trouble.note("nvmlSystemGetDriverVersion", nvml.sys_driver_version()).map(|v| clean(&v));
    let count = trouble.note("nvmlDeviceGetCount_v2", nvml.device_count());
    let count = count.filter(|count| {
        let credible = *count <= DEVICE_COUNT_MAX;
        if !credible {
            trouble.add("nvmlDeviceGetCount_v2", format!("{count} devices are not credible"));
        }
        credible
    });
    let devices: Option<Vec<Gpu>> = count.map(|count| (0..count).map(|index| gpu(nvml, index)).collect());
    if devices.as_ref().is_some_and(Vec::is_empty) {
        trouble.add("nvmlDeviceGetCount_v2", "the driver has no GPU".to_owned());
    }
    let kinds = kinds(devices.as_deref().unwrap_or_default());
    Gpus { driver_version, devices, kinds, reason: trouble.reason() }
}

fn kinds(devices: &[Gpu]) -> Vec<GpuKind> {
    let parts = |gpu: &Gpu| gpu.instances.iter().filter_map(|part| part.resource.clone()).collect::<Vec<_>>();
    let mut kinds: Vec<GpuKind> = Vec::new();
    for resource in devices.iter().flat_map(|gpu| gpu.resource.clone().into_iter().chain(parts(gpu))) {
        match kinds.iter_mut().find(|kind| kind.resource == resource) {
            Some(kind) => kind.count = kind.count.saturating_add(1),
            None => kinds.push(GpuKind { resource, count: 1 }),
        }
    }
    kinds.sort_by(|a, b| a.resource.cmp(&b.resource));
    kinds
}

fn gpu(nvml: &Nvml, index: u32) -> Gpu {
    let mut trouble = Trouble::default();
    let Some(device) = trouble.note("nvmlDeviceGetHandleByIndex_v2", nvml.device_by_index(index)) else {
        return Gpu { index, reason: trouble.reason(), ..Gpu::default() };
    };
    let name = trouble.note("nvmlDeviceGetName", device.name()).map(|name| clean(&name));
    let memory_bytes = memory(&device, &mut trouble);
    let mig = mig(&device, &mut trouble);
    let instances = match mig {
        Some(Mig::Enabled) => instances(&device, memory_bytes, &mut trouble),
        _ => Vec::new(),
    };
    let whole = matches!(mig, Some(Mig::Unsupported | Mig::Disabled));
    let resource = match (&name, memory_bytes) {
        (Some(name), Some(bytes)) if whole => model(name, bytes).and_then(resource),
        _ => None,
    };
    Gpu {
        index,
        uuid: trouble.note("nvmlDeviceGetUUID", device.uuid()).map(|uuid| clean(&uuid)),
        name,
        pci_bus_id: trouble.note("nvmlDeviceGetPciInfo_v3", device.pci_info()).map(|pci| clean(&pci.bus_id)),
        memory_bytes,
        mig,
        instances,
        counts_energy: able("nvmlDeviceGetTotalEnergyConsumption", device.total_energy_consumption(), &mut trouble),
        tells_utilization: able("nvmlDeviceGetUtilizationRates", device.utilization_rates(), &mut trouble),
        resource,
        reason: trouble.reason(),
    }
}

fn memory(device: &Device, trouble: &mut Trouble) -> Option<u64> {
    const CALL: &str = "nvmlDeviceGetMemoryInfo_v2";
    let bytes = trouble.note(CALL, device.memory_info())?.total;
    if (1..=MEMORY_BYTES_MAX).contains(&bytes) {
        return Some(bytes);
    }
    trouble.add(CALL, format!("{bytes} bytes are not credible"));
    None
}

fn mig(device: &Device, trouble: &mut Trouble) -> Option<Mig> {
    const CALL: &str = "nvmlDeviceGetMigMode";
    match device.mig_mode().map(|mode| mode.current) {
        Ok(0) => Some(Mig::Disabled),
        Ok(1) => Some(Mig::Enabled),
        // Drivers older than MIG do not have the function.
        Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => Some(Mig::Unsupported),
        Ok(other) => {
            trouble.add(CALL, format!("unknown mode {other}"));
            None
        }
        Err(error) => trouble.note(CALL, Err(error)),
    }
}

/// Whether the device answers a question at all.
fn able<T>(call: &'static str, answer: Result<T, NvmlError>, trouble: &mut Trouble) -> Option<bool> {
    match answer {
        Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => Some(false),
        answer => trouble.note(call, answer).map(|_| true),
    }
}

fn instances(device: &Device, device_bytes: Option<u64>, trouble: &mut Trouble) -> Vec<Instance> {
    const CALL: &str = "nvmlDeviceGetMigDeviceHandleByIndex";
    // The most there can be, not how many there are: indices without an instance are not found.
    let count = trouble.note("nvmlDeviceGetMaxMigDeviceCount", device.mig_device_count()).unwrap_or(0);
    let mut found = Vec::new();
    for index in 0..count.min(INSTANCE_COUNT_MAX) {
        match device.mig_device_by_index(index) {
            Err(NvmlError::NotFound) => {}
            handle => found.extend(trouble.note(CALL, handle).map(|part| instance(&part, index, device_bytes))),
        }
    }
    found
}

fn instance(part: &Device, index: u32, device_bytes: Option<u64>) -> Instance {
    let mut trouble = Trouble::default();
    let uuid = trouble.note("nvmlDeviceGetUUID", part.uuid()).map(|uuid| clean(&uuid));
    let named = trouble.note("nvmlDeviceGetName", part.name());
    let mut profile = named.as_deref().and_then(profile_of_name);
    let mut memory_bytes = part.memory_info().ok().map(|info| info.total).filter(|bytes| *bytes > 0);
    if (profile.is_none() || memory_bytes.is_none())
        && let Some(has) = trouble.note("nvmlDeviceGetAttributes_v2", part.attributes())
    {
        let bytes = has.memory_size_mb.checked_mul(1 << 20).filter(|bytes| *bytes > 0);
        let slices = (has.compute_instance_slice_count, has.gpu_instance_slice_count);
        profile = profile.or_else(|| profile_of_slices(slices, bytes?, device_bytes?));
        memory_bytes = memory_bytes.or(bytes);
    }
    let memory_bytes = memory_bytes.filter(|bytes| *bytes <= MEMORY_BYTES_MAX);
    let resource = profile.clone().and_then(resource);
    Instance { index, uuid, profile, memory_bytes, resource, reason: trouble.reason() }
}

/// `1g.10gb` of `NVIDIA A100-SXM4-80GB MIG 1g.10gb`.
fn profile_of_name(name: &str) -> Option<String> {
    let (_, profile) = name.rsplit_once("MIG ")?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-');
    let good = profile.len() <= 32 && profile.contains("g.") && profile.chars().all(allowed);
    good.then(|| profile.to_owned())
}

/// The profile's name as NVIDIA's tools make it: memory in eighths of the device's, rounded up, times its GiB.
fn profile_of_slices((compute, gpu): (u32, u32), bytes: u64, device_bytes: u64) -> Option<String> {
    let bytes = u128::from(bytes);
    let eighths = (bytes * 8).div_ceil(u128::from(device_bytes).max(1));
    let gib = (eighths * u128::from(gib_up(device_bytes)) + 4) / 8;
    if gpu == 0 || gib == 0 {
        return None;
    }
    Some(if compute == gpu || compute == 0 { format!("{gpu}g.{gib}gb") } else { format!("{compute}c.{gpu}g.{gib}gb") })
}

/// `A100-80G` of `NVIDIA A100-SXM4-80GB`: the model without maker, form factor and kind of memory, and the memory in GiB
/// rounded up. Of memory, what NVML measures counts: the name of a GH200 tells that of the processor beside it.
fn model(name: &str, memory_bytes: u64) -> Option<String> {
    const SILENT: [&str; 8] = ["nvidia", "tesla", "geforce", "quadro", "generation", "pcie", "nvl", "graphics"];
    const QUALIFIER_BYTES_MAX: usize = 64;
    let size =
        |word: &str| word.strip_suffix("gb").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let silent = |word: &&str| {
        let word = word.to_ascii_lowercase();
        word.is_empty()
            || SILENT.contains(&word.as_str())
            || size(&word)
            || word.starts_with("sxm")
            || word.starts_with("hbm")
    };
    let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !silent(word)).collect();
    let model = format!("{}-{}G", words.join("-"), gib_up(memory_bytes));
    (!words.is_empty() && model.len() <= QUALIFIER_BYTES_MAX).then_some(model)
}

fn resource(qualifier: String) -> Option<Resource> {
    Resource::from_code(Resource::used(Kind::Gpu).code(), Some(qualifier)).ok()
}

fn gib_up(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 30)
}

/// Text of the library for people's eyes.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect()
}

/// What failed: each reason once, with the functions that gave it.
#[derive(Default)]
struct Trouble(Vec<(String, Vec<&'static str>)>);

impl Trouble {
    fn note<T>(&mut self, call: &'static str, answer: Result<T, NvmlError>) -> Option<T> {
        answer.map_err(|error| self.add(call, clean(&error.to_string()))).ok()
    }

    fn add(&mut self, call: &'static str, why: String) {
        match self.0.iter_mut().find(|(known, _)| *known == why) {
            Some((_, calls)) if calls.contains(&call) => {}
            Some((_, calls)) => calls.push(call),
            None => self.0.push((why, vec![call])),
        }
    }

    fn reason(&self) -> Option<String> {
        let parts: Vec<String> = self.0.iter().map(|(why, calls)| format!("{why} ({})", calls.join(", "))).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn models_are_named_as_they_are_sold() {
        for (name, mib, want) in [
            ("NVIDIA A100-SXM4-80GB", 81_920, Some("A100-80G")),
            ("NVIDIA A100 80GB PCIe", 81_920, Some("A100-80G")),
            ("NVIDIA A100-PCIE-40GB", 40_960, Some("A100-40G")),
            ("NVIDIA H100 80GB HBM3", 81_559, Some("H100-80G")),
            ("NVIDIA H100 NVL", 95_830, Some("H100-94G")),
            ("NVIDIA H200", 143_771, Some("H200-141G")),
            ("NVIDIA GH200 480GB", 97_871, Some("GH200-96G")),
            ("NVIDIA GeForce RTX 4090", 24_564, Some("RTX-4090-24G")),
            ("NVIDIA RTX 6000 Ada Generation", 49_140, Some("RTX-6000-Ada-48G")),
            ("Tesla T4", 15_360, Some("T4-15G")),
            ("NVIDIA L40S", 46_068, Some("L40S-45G")),
            ("NVIDIA", 1024, None),
            ("", 1024, None),
            ("\u{4e2d}", 1024, None),
        ] {
            assert_eq!(model(name, mib * MIB).as_deref(), want, "{name}");
        }
        assert_eq!(model(&"x".repeat(62), 81_920 * MIB), None);
    }

    #[test]
    fn profiles_come_from_the_name_or_from_the_slices() {
        for (name, want) in [
            ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", Some("1g.10gb")),
            ("NVIDIA H100 80GB HBM3 MIG 1g.10gb+me", Some("1g.10gb+me")),
            ("NVIDIA A100-SXM4-40GB MIG 1c.2g.10gb", Some("1c.2g.10gb")),
            ("NVIDIA A100-SXM4-80GB", None),
            ("NVIDIA A100 MIG ", None),
            ("NVIDIA A100 MIG 1g 10gb", None),
        ] {
            assert_eq!(profile_of_name(name).as_deref(), want, "{name}");
        }
        for (slices, mib, device_mib, want) in [
            ((1, 1), 9856, 81_559, Some("1g.10gb")),
            ((3, 3), 40_192, 81_559, Some("3g.40gb")),
            ((7, 7), 80_384, 81_559, Some("7g.80gb")),
            ((1, 1), 4864, 40_960, Some("1g.5gb")),
            ((1, 1), 16_384, 143_771, Some("1g.18gb")),
            ((1, 2), 9984, 40_960, Some("1c.2g.10gb")),
            ((1, 0), 9984, 40_960, None),
            ((1, 1), 0, 40_960, None),
        ] {
            assert_eq!(profile_of_slices(slices, mib * MIB, device_mib * MIB).as_deref(), want, "{slices:?} {mib}");
        }
    }

    #[test]
    fn each_reason_is_said_once_with_the_functions_that_gave_it() {
        let mut trouble = Trouble::default();
        assert_eq!(trouble.reason(), None);
        for (call, why) in [("a", "lost"), ("b", "lost"), ("a", "lost"), ("c", "denied")] {
            trouble.add(call, why.to_owned());
        }
        assert_eq!(trouble.reason().as_deref(), Some("lost (a, b); denied (c)"));
    }

    proptest! {
        #[test]
        fn whatever_nvml_says_the_resource_can_be_written_in_a_tariff(
            name in ".{0,100}", bytes in any::<u64>(), slices in any::<(u32, u32)>(), part_bytes in any::<u64>(),
        ) {
            let named = [model(&name, bytes), profile_of_name(&name), profile_of_slices(slices, part_bytes, bytes)];
            for qualifier in named.into_iter().flatten() {
                let resource = resource(qualifier).unwrap();
                prop_assert_eq!(resource.to_string().parse::<Resource>().unwrap(), resource);
            }
        }
    }
}
