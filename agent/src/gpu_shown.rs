//! What `hufu status` shows of a GPU: who holds it, how busy it is and who computes on it. Evidence for the site; nothing here is
//! billed. Looking is `metering/src/gpu_watch.rs`.

use hufu_metering::gpu_table::{Reading, Snapshot};
use serde_json::{Value, json};

use crate::node::Core;

/// A device or instance. What NVML does not say is null; `reason` says why where the device does not answer.
pub(crate) fn shown(core: &Core, seen: &Snapshot) -> Value {
    let text = |reading: Reading| reading.ok().map(|value| value.to_string());
    let holder = core.services.keys().find(|no| {
        let contract = core.book.contracts.get(no);
        contract.is_some_and(|contract| contract.devices.iter().any(|device| device.id == seen.uuid.as_str()))
    });
    json!({
        "uuid": seen.uuid.as_str(),
        "contract_no": holder.map(ToString::to_string),
        "utilisation_percent": seen.busy_percent.ok(),
        "memory_bytes": text(seen.memory_bytes),
        "energy_mj": text(seen.energy_mj),
        "throttled_ns": text(seen.throttled_ns),
        "reason": seen.answered.err().map(|why| why.text()),
        "process_count": seen.process_count,
        "processes": processes(seen),
    })
}

/// The first of its processes, by their ids on the host.
fn processes(seen: &Snapshot) -> Vec<Value> {
    let figures = seen.pid_memory_bytes.iter().zip(&seen.pid_busy_percent);
    let each = seen.pids.iter().zip(figures).filter(|(pid, _)| **pid != 0);
    each.map(|(pid, (memory, busy))| {
        json!({ "pid": pid, "memory_bytes": memory.map(|bytes| bytes.to_string()), "utilisation_percent": busy })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use hufu_metering::gpu_table::{Uuid, Why};

    use super::*;

    #[test]
    fn each_process_is_shown_with_what_is_known_of_it() {
        let uuid = Uuid::new("GPU-00000001-1111-2222-3333-444444444444").unwrap();
        let mut seen = Snapshot::unread(uuid, Why::NotRead);
        assert_eq!(processes(&seen), Vec::<Value>::new());
        seen.pids[..2].copy_from_slice(&[70, 71]);
        (seen.pid_memory_bytes[0], seen.pid_busy_percent[0]) = (Some(1 << 40), Some(97));
        let want = [
            json!({ "pid": 70, "memory_bytes": "1099511627776", "utilisation_percent": 97 }),
            json!({ "pid": 71, "memory_bytes": null, "utilisation_percent": null }),
        ];
        assert_eq!(processes(&seen), want);
    }
}
