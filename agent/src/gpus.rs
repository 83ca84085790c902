//! The GPUs of this machine as the agent sells them: asked once for a command, followed while the daemon runs. Asking NVML is
//! `metering`'s; who is given which is `devices.rs`.

use std::{path::Path, time::Duration};

use hufu_metering::{
    gpu::{self, Gpus},
    gpu_meter::STALE_NS,
    gpu_table::Uuid,
    gpu_watch::{Setting, Watch},
};
use hufu_trade::allocation::Device;

use crate::{
    clock::{Clock, Now},
    config::Config,
    node::Event,
    stock::NO_GPU_SOLD,
};

/// How long a command waits for NVML: a hung driver never answers.
const ANSWER: Duration = Duration::from_secs(20);
/// A driver that has not answered at all by then hangs: eight devices without persistence mode wake up in less.
const FIRST_ANSWER_NS: u64 = 90_000_000_000;
/// How long the end of the daemon waits for a call that is under way.
const END: Duration = Duration::from_secs(2);

/// Whether an agent of this configuration has to do with GPUs at all.
pub(crate) fn are_sold(config: &Config) -> bool {
    config.products.iter().any(|product| product.gpu.is_some())
}

/// The devices that orders can be given now, for a command; asked only where a product holds one.
pub(crate) fn now(config: &Config) -> Result<Vec<Device>, String> {
    if !are_sold(config) {
        return Err(NO_GPU_SOLD.to_owned());
    }
    sellable(&gpu::inventory(&config.nvml, ANSWER))
}

/// The devices and instances that have a kind and a name of their own.
fn sellable(found: &Gpus) -> Result<Vec<Device>, String> {
    let Some(gpus) = &found.devices else {
        return Err(found.reason.clone().unwrap_or_else(|| "NVML did not say which GPUs there are".to_owned()));
    };
    let device = |resource: &Option<_>, uuid: &Option<String>| -> Option<Device> {
        let (resource, uuid): (&hufu_trade::resource::Resource, _) = (resource.as_ref()?, Uuid::new(uuid.as_ref()?)?);
        Some(Device { resource: resource.to_string(), id: uuid.to_string() })
    };
    let mut devices: Vec<Device> = Vec::new();
    for gpu in gpus {
        devices.extend(device(&gpu.resource, &gpu.uuid));
        devices.extend(gpu.instances.iter().filter_map(|part| device(&part.resource, &part.uuid)));
    }
    devices.sort_by(|a, b| (&a.resource, &a.id).cmp(&(&b.resource, &b.id)));
    Ok(devices)
}

/// The thread that follows the devices, and what was told of them last.
#[derive(Debug)]
pub(crate) struct Followed {
    watch: Watch,
    since_boot_ns: u64,
    /// The newest inventory.
    found: Option<Result<Vec<Device>, String>>,
    told: Option<Result<Vec<Device>, String>>,
}

impl Followed {
    /// Begins to follow the devices of the NVML at `library`.
    ///
    /// # Errors
    /// What the system says where it has no thread to give.
    pub(crate) fn start(library: &Path, clock: Clock) -> std::io::Result<Self> {
        let boot_ns = move || (clock.now)().boot_ns;
        let watch = Watch::start(Setting::usual(library, boot_ns))?;
        Ok(Self { watch, since_boot_ns: boot_ns(), found: None, told: None })
    }

    /// The table that orders' readings come from.
    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// What is to be told of the devices, where it is something else than before. It does not wait.
    pub(crate) fn look(&mut self, now: Now) -> Option<Event> {
        if let Some(news) = self.watch.news() {
            self.found = Some(sellable(&news));
        }
        let table = self.watch.table();
        let has_begun = table.round_boot_ns() > 0;
        let hung = if has_begun {
            table.is_stale(now.boot_ns, STALE_NS).then_some(STALE_NS)
        } else {
            let waited_ns = now.boot_ns.saturating_sub(self.since_boot_ns);
            let is_awaited = self.found.as_ref().is_none_or(|found| found.as_ref().is_ok_and(|all| !all.is_empty()));
            (is_awaited && waited_ns > FIRST_ANSWER_NS).then_some(FIRST_ANSWER_NS)
        };
        let now = match (hung, &self.found) {
            (Some(ns), _) => Err(format!("NVML did not answer within {} s", ns / 1_000_000_000)),
            (None, Some(found)) => found.clone(),
            (None, None) => return None,
        };
        if self.told.as_ref() == Some(&now) {
            return None;
        }
        self.told = Some(now.clone());
        Some(Event::Gpus { found: now })
    }

    /// Ends the thread, if it is not inside a call that hangs.
    pub(crate) fn end(self) {
        if !self.watch.stop(END) {
            tracing::warn!("NVML does not answer; its thread is left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use hufu_metering::gpu::{Gpu, Instance};

    use super::*;

    #[test]
    fn only_devices_with_a_kind_and_a_name_can_be_sold() {
        let gpu = |resource: &str, uuid: &str| Gpu {
            resource: resource.parse().ok(),
            uuid: Some(uuid.to_owned()),
            ..Gpu::default()
        };
        let part = |uuid: &str| Instance {
            resource: "gpu:1g.10gb".parse().ok(),
            uuid: Some(uuid.to_owned()),
            ..Instance::default()
        };
        let devices = vec![
            gpu("gpu:T4-15G", "GPU-b"),
            gpu("gpu:T4-15G", "GPU-a"),
            gpu("gpu:T4-15G", "no name"),
            Gpu { resource: "gpu:T4-15G".parse().ok(), ..Gpu::default() },
            Gpu {
                instances: vec![part("MIG-1"), part("MIG-GPU-1/0/0")],
                uuid: Some("GPU-c".to_owned()),
                ..Gpu::default()
            },
        ];
        let found = sellable(&Gpus { devices: Some(devices), ..Gpus::default() }).unwrap();
        let want = [("gpu:1g.10gb", "MIG-1"), ("gpu:T4-15G", "GPU-a"), ("gpu:T4-15G", "GPU-b")];
        assert_eq!(found.iter().map(|d| (d.resource.as_str(), d.id.as_str())).collect::<Vec<_>>(), want);
        let unknown = Gpus { reason: Some("R".to_owned()), ..Gpus::default() };
        assert_eq!(sellable(&unknown), Err("R".to_owned()));
        assert_eq!(sellable(&Gpus { devices: Some(Vec::new()), ..unknown }), Ok(Vec::new()));
    }
}
