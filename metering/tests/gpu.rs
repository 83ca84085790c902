//! The GPU inventory against a library of our own making (`fake_nvml.c`), whole, failing and hanging, and against this machine.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod fake;

use std::{path::Path, time::Duration};

use fake::{Fake, is_static};

use hufu_metering::{
    capacity::{capacity, trusted_sources},
    gpu::{self, Gpu, Gpus, Mig},
};
use hufu_trade::resource::{KINDS, Kind, Resource};

const PATIENCE: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;

fn found(defines: &[&str]) -> Gpus {
    gpu::inventory(&Fake::build(defines).path(), PATIENCE)
}

fn names(gpus: &Gpus) -> Vec<(String, u32)> {
    gpus.kinds.iter().map(|kind| (kind.resource.to_string(), kind.count)).collect()
}

#[test]
fn a_static_program_says_so_and_opens_nothing() {
    if is_static() {
        let gpus = found(&[]);
        assert_eq!(gpus.devices, None);
        assert!(gpus.reason.unwrap().contains("linked statically"));
    }
}

#[test]
fn one_gpu_is_told_whole() {
    if is_static() {
        return;
    }
    let want = Gpu {
        index: 0,
        uuid: Some("GPU-00000000-0000-0000-0000-000000000000".to_owned()),
        name: Some("NVIDIA H100 80GB HBM3".to_owned()),
        pci_bus_id: Some("00000000:18:00.0".to_owned()),
        memory_bytes: Some(81_559 * MIB),
        mig: Some(Mig::Unsupported),
        instances: Vec::new(),
        counts_energy: Some(true),
        tells_utilization: Some(true),
        resource: Some("gpu:H100-80G".parse().unwrap()),
        reason: None,
    };
    let gpus = found(&[]);
    assert_eq!((gpus.devices.as_deref(), &gpus.reason), (Some(&[want][..]), &None));
    assert_eq!(gpus.driver_version.as_deref(), Some("580.82.07"));
    assert_eq!(names(&gpus), [("gpu:H100-80G".to_owned(), 1)]);
}

#[test]
fn two_gpus_of_one_kind_are_counted_and_get_a_row_with_its_source() {
    if is_static() {
        return;
    }
    let gpus = found(&["COUNT=2", "MIG=0"]);
    assert_eq!(names(&gpus), [("gpu:H100-80G".to_owned(), 2)]);
    let devices = gpus.devices.clone().unwrap();
    assert_eq!(devices.iter().map(|gpu| gpu.mig).collect::<Vec<_>>(), [Some(Mig::Disabled); 2]);
    assert_ne!(devices[0].uuid, devices[1].uuid);
    let capacity = capacity(Path::new("/")).unwrap();
    assert_eq!(capacity.gpus, None);
    let capacity = capacity.with_gpus(gpus);
    assert_eq!(capacity.resources.len(), KINDS.len() + 1);
    let row = |name: &str| capacity.resources.iter().find(|row| row.resource.to_string() == name).unwrap();
    let told = |name: &str| (row(name).unit, row(name).source.as_deref(), row(name).reason.as_deref());
    assert_eq!(told("gpu:H100-80G"), ("device-ns", Some("nvml, device held"), None));
    assert_eq!(told("gpu"), ("device-ns", None, Some("devices are sold by their kind, below")));
    assert_eq!(told("gpu_memory"), ("byte-seconds", Some("nvml nvmlDeviceGetMemoryInfo_v2"), None));
    assert_eq!(told("gpu_energy"), ("millijoules", Some("nvml nvmlDeviceGetTotalEnergyConsumption"), None));
    // Where nobody asked NVML no GPU is metered, with its reason.
    let sources = trusted_sources(Path::new("/")).unwrap();
    let gpu = sources.iter().find(|(resource, _)| *resource == Resource::used(Kind::Gpu)).unwrap();
    assert_eq!(gpu.1.clone().unwrap_err(), "no GPU meter for this order");
}

#[test]
fn a_partitioned_gpu_is_sold_in_its_instances_only() {
    if is_static() {
        return;
    }
    for defines in [
        &["MIG=1"][..],
        &["MIG=1", "PART_NAME=NAME"],
        &["MIG=1", "PART_MEMORY=3"],
        &["MIG=1", "ATTRIBUTES=3"],
        &["MIG=1", "MIB=81920", "NAME=\"NVIDIA A100-SXM4-80GB\"", "PART_NAME=NAME"],
    ] {
        let gpus = found(defines);
        assert_eq!(names(&gpus), [("gpu:1g.10gb".to_owned(), 2)], "{defines:?}");
        let device = &gpus.devices.unwrap()[0];
        assert_eq!((device.mig, &device.resource, device.tells_utilization), (Some(Mig::Enabled), &None, Some(false)));
        assert!(device.reason.as_ref().unwrap().contains("permission"), "{defines:?}");
        for (part, index) in device.instances.iter().zip([0, 2]) {
            assert_eq!(part.index, index);
            assert_eq!(part.uuid.as_deref().unwrap(), format!("MIG-00000000-0000-0000-0000-00000000000{}", index + 1));
            assert_eq!((part.profile.as_deref(), part.memory_bytes), (Some("1g.10gb"), Some(9856 * MIB)));
            assert_eq!(part.reason, None);
        }
    }
    let gpus = found(&["MIG=1", "PART_NAME=NAME", "ATTRIBUTES=3"]);
    assert_eq!(names(&gpus), []);
    let part = &gpus.devices.unwrap()[0].instances[0];
    assert!(part.reason.as_ref().unwrap().contains("nvmlDeviceGetAttributes_v2"));
}

#[test]
fn a_library_that_is_not_there_is_a_server_without_gpus() {
    if is_static() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("libnvidia-ml.so.1");
    for library in [none.as_path(), Path::new("libnvidia-ml-nobody-has.so.1")] {
        let gpus = gpu::inventory(library, PATIENCE);
        assert_eq!(gpus.devices, Some(Vec::new()));
        assert_eq!(gpus.reason.unwrap(), format!("{} is not installed", library.display()));
    }
}

#[test]
fn what_is_wrong_with_the_library_is_said() {
    if is_static() {
        return;
    }
    for (defines, devices, said) in [
        (&["COUNT=0"][..], Some(0), "the driver has no GPU (nvmlDeviceGetCount_v2)"),
        (&["INIT=9"], None, "driver is not loaded (nvmlInit_v2)"),
        (&["INIT=18"], None, "version mismatch (nvmlInit_v2); restart the server or reload the driver"),
        (&["INIT=4"], None, "permission"),
        (&["INIT=12345"], None, "12345"),
        (&["COUNT_CODE=999"], None, "an internal driver error occurred (nvmlDeviceGetCount_v2)"),
        (&["COUNT=4294967295u"], None, "4294967295 devices are not credible"),
        (&["WITHOUT_INIT"], None, "nvmlInit_v2"),
    ] {
        let gpus = found(defines);
        assert_eq!(gpus.devices.as_ref().map(Vec::len), devices, "{defines:?}");
        assert!(gpus.kinds.is_empty());
        assert!(gpus.reason.as_ref().unwrap().contains(said), "{defines:?}: {:?}", gpus.reason);
    }
    let text = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(text.path(), "not a library\n".repeat(100)).unwrap();
    let gpus = gpu::inventory(text.path(), PATIENCE);
    assert_eq!(gpus.devices, None);
    assert!(gpus.reason.unwrap().contains("ELF"));
}

#[test]
fn a_gpu_that_fails_leaves_the_others_whole() {
    if is_static() {
        return;
    }
    for (define, said) in [
        ("HANDLE=15", "inacessible (nvmlDeviceGetHandleByIndex_v2)"),
        ("HANDLE=4", "permission to perform this operation (nvmlDeviceGetHandleByIndex_v2)"),
        ("FAIL=15", "fell off the bus"),
        ("FAIL=3", "(nvmlDeviceGetName, nvmlDeviceGetMemoryInfo_v2, nvmlDeviceGetUUID, nvmlDeviceGetPciInfo_v3)"),
        ("FAIL=777", "777"),
    ] {
        let gpus = found(&["COUNT=2", define]);
        assert_eq!(names(&gpus), [("gpu:H100-80G".to_owned(), 1)], "{define}");
        let [whole, failed] = &gpus.devices.unwrap()[..] else { panic!("not two") };
        assert_eq!(whole.reason, None);
        assert_eq!((failed.index, &failed.uuid, failed.memory_bytes, &failed.resource), (1, &None, None, &None));
        let reason = failed.reason.as_ref().unwrap();
        assert!(reason.contains(said), "{define}: {reason}");
        let able = (define == "FAIL=3").then_some(false);
        assert_eq!((failed.counts_energy, failed.tells_utilization), (able, able), "{define}");
    }
}

#[test]
fn nonsense_and_missing_functions_are_missing_readings() {
    if is_static() {
        return;
    }
    for (defines, said) in [
        (&["WITHOUT_MEMORY"][..], "nvmlDeviceGetMemoryInfo_v2"),
        (&["MIB=0"], "0 bytes are not credible"),
        (&["MIB=17592186044415"], "bytes are not credible"),
        (&["NAME=\"\\xff\\xfe\""], "nvmlDeviceGetName"),
        (&["MIG=7"], "unknown mode 7"),
    ] {
        let gpus = found(defines);
        let device = &gpus.devices.unwrap()[0];
        assert_eq!((&device.resource, gpus.kinds.len()), (&None, 0), "{defines:?}");
        assert!(device.reason.as_ref().unwrap().contains(said), "{defines:?}: {:?}", device.reason);
    }
    // A library that cannot be shut down is left open.
    assert_eq!(names(&found(&["WITHOUT_SHUTDOWN"])), [("gpu:H100-80G".to_owned(), 1)]);
}

#[test]
fn a_library_that_hangs_is_left_behind() {
    if is_static() {
        return;
    }
    let gpus = gpu::inventory(&Fake::build(&["HANG=20"]).path(), Duration::from_secs(1));
    assert_eq!((gpus.devices, gpus.reason.as_deref()), (None, Some("NVML did not answer within 1 s")));
}

#[test]
fn this_machine_answers_with_devices_or_a_reason() {
    let gpus = gpu::inventory(Path::new(gpu::LIBRARY), PATIENCE);
    println!("{gpus:#?}");
    assert!(gpus.reason.is_some() || gpus.devices.is_some_and(|devices| !devices.is_empty()));
}
