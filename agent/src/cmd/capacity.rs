//! `hufu capacity`: what this server has, and by which source an order's usage would be metered. With `--accept` the running
//! node sells from its hardware as it is now; `--benchmark` is `benchmark.rs`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use hufu_audit::{Exit, Failure};
use hufu_metering::{
    Error,
    capacity::Capacity,
    gpu::{self, Gpu, Gpus, Mig},
    inventory::{Disk, Interface, Inventory},
};
use hufu_trade::if2::Problem;

use crate::{
    cmd::{Context, Outcome, benchmark, buyer, file, node},
    config::Config,
    local::Question,
    text::Text,
};

/// Eight GPUs without persistence mode take most of this to wake up; a hung driver takes for ever.
const GPU_ANSWER: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub(super) struct Args {
    /// NVIDIA's management library, by path or by the name the loader finds it under
    #[arg(long, value_name = "FILE", default_value = gpu::LIBRARY)]
    nvml: PathBuf,
    /// Have the running node sell from its hardware as it is now
    #[arg(long, conflicts_with_all = ["benchmark", "nvml"])]
    accept: bool,
    #[command(flatten)]
    benchmark: benchmark::BenchmarkArgs,
    /// The configuration file: whose node accepts its hardware, or whose products say what they need
    #[arg(long, value_name = "F")]
    config: Option<PathBuf>,
}

/// Where the configuration of this machine's service lies.
const CONFIG: &str = "/etc/hufu/hufu.toml";

/// Runs the command.
pub(super) fn run(args: &Args, context: &Context) -> Outcome {
    if args.accept {
        return accept(args.config.as_deref().unwrap_or(Path::new(CONFIG)), context);
    }
    if args.benchmark.is_asked() {
        let config = args.config.as_deref().map(Config::load).transpose()?;
        return benchmark::run(&args.benchmark, config.as_ref(), context);
    }
    let found = hufu_metering::capacity::capacity(Path::new("/")).map_err(|error| match error {
        Error::Unreadable { path, source } => file::unreadable(&path, &source),
        other => Failure::new(Exit::Io, Text::NoMeter { why: other.to_string() }),
    })?;
    let found = found.with_gpus(gpu::inventory(&args.nvml, GPU_ANSWER));
    context.show(&found, || text(&found, context))?;
    Ok(Exit::Done)
}

/// Has the running node accept its hardware.
fn accept(config: &Path, context: &Context) -> Outcome {
    let config = Config::load(config)?;
    let mut said = node::ask(&config.socket, &Question::Accept)?;
    if let Ok(problem) = serde_json::from_value::<Problem>(said["error"].take()) {
        return Err(buyer::refusal(&problem, context.lang));
    }
    let found = said["ok"].take();
    if found["fingerprint"].is_null() {
        let (socket, why) = (config.socket.display().to_string(), "no answer".to_owned());
        return Err(Failure::new(Exit::Unavailable, Text::AgentAway { socket, why }));
    }
    let fingerprint = found["fingerprint"].as_str().unwrap_or_default().to_owned();
    let lines = found["accepted"].as_array().into_iter().flatten().filter_map(|line| line.as_str());
    let lines: Vec<String> = lines.map(str::to_owned).collect();
    context.show(&found, || {
        let said = Text::HardwareAccepted { fingerprint: fingerprint.clone() }.render(context.lang);
        lines.iter().chain([&said]).map(|line| format!("{line}\n")).collect()
    })?;
    Ok(Exit::Done)
}

/// The parts of the server, one a line.
fn parts(found: &Inventory) -> Vec<Text> {
    let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "?".to_owned());
    let count = |count: Option<u32>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), gib);
    let (cpu, system) = (&found.cpu, &found.system);
    let mut texts = vec![
        Text::CapacitySystem { machine: word(&system.machine), os: word(&system.os), kernel: word(&system.kernel) },
        Text::CapacityCpu { count: cpu.count.to_string(), model: cpu.model.clone() },
        Text::CapacityCpuParts { sockets: count(cpu.sockets), cores: count(cpu.cores), threads: count(cpu.threads) },
        Text::CapacityMemory { total: bytes(found.memory.total_bytes), available: bytes(found.memory.available_bytes) },
    ];
    texts.extend(found.nodes.iter().map(|node| Text::CapacityNode {
        id: node.id.to_string(),
        cpus: node.cpus.clone().unwrap_or_else(|| "-".to_owned()),
        memory: bytes(node.memory_bytes),
    }));
    texts.extend(found.disks.iter().map(|disk| physical(disk, &bytes(disk.bytes))));
    texts.extend(found.interfaces.iter().map(interface));
    texts
}

fn physical(disk: &Disk, size: &str) -> Text {
    let kind = disk.kind.map_or("?", |kind| kind.word());
    let said = [disk.model.as_deref(), disk.id.as_deref()];
    let said: Vec<&str> = said.into_iter().flatten().collect();
    let model = if said.is_empty() { "?".to_owned() } else { said.join(", ") };
    Text::CapacityPhysical { name: disk.name.clone(), kind: kind.to_owned(), size: size.to_owned(), model }
}

fn interface(interface: &Interface) -> Text {
    let speed = interface.speed_mbit.map_or_else(|| "?".to_owned(), |speed| format!("{speed} Mbit/s"));
    let driver = interface.driver.as_ref().map_or_else(String::new, |driver| format!(", {driver}"));
    Text::CapacityInterface { name: interface.name.clone(), speed: speed + &driver }
}

fn text(found: &Capacity, context: &Context) -> String {
    let say = |text: Text| text.render(context.lang);
    let mut lines: Vec<String> = parts(&found.inventory).into_iter().map(say).collect();
    for disk in &found.filesystems {
        let (total, available) = (gib(disk.total_bytes), gib(disk.available_bytes));
        lines.push(say(Text::CapacityDisk { mount: disk.mount.clone(), kind: disk.kind.clone(), total, available }));
    }
    lines.extend(found.gpus.iter().flat_map(gpu_texts).map(say));
    lines.push(say(Text::CapacityCgroups { mode: found.cgroups.source().to_owned() }));
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(say(Text::CapacityColumns {}).split('|'));
    for row in &found.resources {
        let (source, reason) = (row.source.clone().unwrap_or_default(), row.reason.clone().unwrap_or_default());
        table.add_row([row.resource.to_string(), row.unit.to_owned(), source, reason]);
    }
    lines.push(table.trim_fmt());
    lines.join("\n")
}

fn gpu_texts(found: &Gpus) -> Vec<Text> {
    let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "?".to_owned());
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), gib);
    let Some(devices) = &found.devices else { return vec![Text::CapacityGpusUnknown { why: word(&found.reason) }] };
    if devices.is_empty() {
        return vec![Text::CapacityNoGpu { why: word(&found.reason) }];
    }
    let (count, driver) = (devices.len().to_string(), word(&found.driver_version));
    let mut texts = vec![Text::CapacityGpus { count, driver }];
    for gpu in devices {
        let index = gpu.index.to_string();
        texts.push(Text::CapacityGpu {
            index: index.clone(),
            name: word(&gpu.name),
            memory: bytes(gpu.memory_bytes),
            id: format!("{}, PCI {}{}", word(&gpu.uuid), word(&gpu.pci_bus_id), sold(gpu)),
        });
        texts.extend(gpu.reason.clone().map(|why| Text::CapacityGpuTrouble { index, why }));
        for part in &gpu.instances {
            let index = format!("{} MIG {}", gpu.index, part.index);
            texts.push(Text::CapacityGpu {
                index: index.clone(),
                name: word(&part.profile),
                memory: bytes(part.memory_bytes),
                id: word(&part.uuid),
            });
            texts.extend(part.reason.clone().map(|why| Text::CapacityGpuTrouble { index, why }));
        }
    }
    texts
}

/// As what the device is sold, where it is not an instance's line that says so.
fn sold(gpu: &Gpu) -> String {
    match (&gpu.resource, gpu.mig) {
        (Some(resource), _) => format!(", {resource}"),
        (None, Some(Mig::Enabled)) => format!(", MIG: {}", gpu.instances.len()),
        (None, _) => String::new(),
    }
}

fn gib(bytes: u64) -> String {
    const GIB: u128 = 1 << 30;
    let bytes = u128::from(bytes);
    format!("{}.{:01} GiB", bytes / GIB, bytes % GIB * 10 / GIB)
}

#[cfg(test)]
mod tests {
    use hufu_audit::Lang;
    use hufu_metering::gpu::Instance;

    use super::*;

    #[test]
    fn gpus_are_told_whole_in_parts_or_with_the_reason() {
        let shown = |found: &Gpus| gpu_texts(found).into_iter().map(|text| text.render(Lang::En)).collect::<Vec<_>>();
        let reason = Some("R".to_owned());
        let unknown = Gpus { reason: reason.clone(), ..Gpus::default() };
        assert_eq!(shown(&unknown), ["GPUs not known: R"]);
        assert_eq!(shown(&Gpus { devices: Some(Vec::new()), ..unknown }), ["no GPU: R"]);
        let part = Instance { index: 2, profile: Some("1g.10gb".to_owned()), ..Instance::default() };
        let devices = vec![
            Gpu { memory_bytes: Some(80 << 30), resource: "gpu:A100-80G".parse().ok(), ..Gpu::default() },
            Gpu { index: 1, mig: Some(Mig::Enabled), instances: vec![part], reason, ..Gpu::default() },
        ];
        let want = [
            "GPUs: 2, NVIDIA driver ?",
            "GPU 0 ?: 80.0 GiB, ?, PCI ?, gpu:A100-80G",
            "GPU 1 ?: ?, ?, PCI ?, MIG: 1",
            "GPU 1: R",
            "GPU 1 MIG 2 1g.10gb: ?, ?",
        ];
        assert_eq!(shown(&Gpus { devices: Some(devices), ..Gpus::default() }), want);
    }
}
