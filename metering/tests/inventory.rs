//! The inventory of captured trees, one for each kind of host, held against files; then the same trees with parts that are gone,
//! absurd or of another kind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Path, PathBuf},
};

use hufu_metering::{
    capacity::capacity,
    fingerprint::{differences, facts},
    gpu::{Gpu, Gpus},
    inventory::{Inventory, take},
};

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// What one captured tree gives, on whatever processor the test runs.
fn inventory(root: &Path) -> Inventory {
    let mut found = take(root);
    "x86_64".clone_into(&mut found.cpu.architecture);
    found
}

#[test]
fn each_kind_of_host_has_the_parts_that_its_files_say() {
    for kind in ["v1", "v2", "hybrid"] {
        let found = inventory(&testdata().join(kind));
        let json = serde_json::to_string_pretty(&found).unwrap() + "\n";
        let want = fs::read_to_string(testdata().join(format!("inventory/{kind}.json"))).unwrap_or_default();
        assert_eq!(json, want, "{kind}");
        let want = fs::read_to_string(testdata().join(format!("inventory/{kind}.facts"))).unwrap_or_default();
        assert_eq!(facts(&found, None), want, "{kind}");
    }
}

#[test]
fn hufu_capacity_keeps_its_members_and_shows_no_hardware_address() {
    let json = serde_json::to_value(capacity(&testdata().join("v2")).unwrap()).unwrap();
    for member in
        ["cpu", "memory", "filesystems", "interfaces", "gpus", "cgroups", "resources", "disks", "nodes", "system"]
    {
        assert!(json.get(member).is_some(), "{member}");
    }
    assert_eq!((&json["cpu"]["count"], &json["interfaces"][0]["speed_mbit"]), (&2.into(), &"1000".into()));
    assert!(!json.to_string().to_lowercase().contains("3c:ec:ef"), "{json}");
}

/// A tree that a test makes, file by file.
struct Made(tempfile::TempDir);

impl Made {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(path, text)| made.put(path, text));
        made
    }

    fn put(&self, path: &str, text: &[u8]) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

#[test]
fn a_server_that_tells_nothing_has_no_parts_and_no_zeros() {
    let found = inventory(Made::new(&[]).0.path());
    assert_eq!((found.cpu.count, found.cpu.threads, found.cpu.cores, found.cpu.sockets), (1, None, None, None));
    assert_eq!((found.memory.total_bytes, found.nodes.len(), found.disks.len()), (None, 0, 0));
    assert_eq!((found.interfaces.len(), &found.system.kernel), (0, &None));
    assert_eq!(facts(&found, None), "hufu hardware 1\ncpu 1 -\nmemory -\n");
}

#[test]
fn absurd_files_are_no_readings() {
    let made = Made::new(&[
        ("proc/meminfo", b"MemTotal: 18446744073709551615 kB\n"),
        ("proc/cpuinfo", b"model name\t: \xff\xfe\xfd\nprocessor\t: 0\n"),
        ("sys/devices/system/cpu/present", b"0-4294967294\n"),
        ("sys/devices/system/cpu/online", b"0-\n"),
        ("sys/block/sda/device/model", b"a\x1b[2Jb\n"),
        ("sys/block/sda/size", b"9223372036854775808\n"),
        ("sys/block/sda/queue/rotational", b"maybe\n"),
        ("sys/block/sdb/device/model", b"\n"),
        ("sys/block/sdb/size", b"-8\n"),
        ("sys/class/net/eth0/device/x", b""),
        ("sys/class/net/eth0/speed", b"-1\n"),
        ("sys/class/net/eth0/address", b"not an address\n"),
    ]);
    fs::create_dir_all(made.0.path().join("sys/block").join(std::ffi::OsStr::from_bytes(b"sd\xff")).join("device"))
        .unwrap();
    let found = inventory(made.0.path());
    assert_eq!(
        (found.memory.total_bytes, found.cpu.model.as_str(), found.cpu.threads, found.cpu.count),
        (None, "", None, 1)
    );
    assert_eq!(found.disks.len(), 2, "a name that is no text is no disk: {:?}", found.disks);
    for disk in &found.disks {
        assert_eq!((disk.bytes, disk.kind, disk.model.as_deref()), (None, None, None), "{disk:?}");
    }
    assert_eq!((found.interfaces[0].speed_mbit, &found.interfaces[0].address), (None, &None));
    assert_eq!(facts(&found, None), "hufu hardware 1\ncpu 1 -\ndisk - - -\ndisk - - -\nmemory -\n");
}

#[test]
fn drivers_and_buses_are_read_from_links_and_lent_disks_are_no_part_of_the_server() {
    let made = Made::new(&[
        ("sys/devices/pci0/net/eth0/speed", b"10000\n"),
        ("sys/devices/pci0/net/eth0/address", b"52:54:00:00:00:01\n"),
        ("sys/bus/virtio/drivers/virtio_net/x", b""),
        ("sys/devices/virtio1/x", b""),
        ("sys/devices/platform/host3/session1/target/block/sdc/size", b"2048\n"),
        ("sys/devices/platform/host3/session1/target/block/sdc/device/model", b"LUN\n"),
        ("sys/devices/pci0/usb1/block/sdd/size", b"2048\n"),
        ("sys/devices/pci0/usb1/block/sdd/device/model", b"Stick\n"),
        ("sys/devices/pci0/block/sde/size", b"2048\n"),
        ("sys/devices/pci0/block/sde/device/model", b"Own\n"),
    ]);
    let at = |path: &str| made.0.path().join(path);
    symlink(at("sys/bus/virtio/drivers/virtio_net"), at("sys/devices/virtio1/driver")).unwrap();
    symlink(at("sys/bus/virtio"), at("sys/devices/virtio1/subsystem")).unwrap();
    symlink(at("sys/devices/virtio1"), at("sys/devices/pci0/net/eth0/device")).unwrap();
    fs::create_dir_all(at("sys/class/net")).unwrap();
    symlink(at("sys/devices/pci0/net/eth0"), at("sys/class/net/eth0")).unwrap();
    fs::create_dir_all(at("sys/block")).unwrap();
    for (name, place) in
        [("sdc", "platform/host3/session1/target/block"), ("sdd", "pci0/usb1/block"), ("sde", "pci0/block")]
    {
        symlink(at("sys/devices").join(place).join(name), at("sys/block").join(name)).unwrap();
    }
    let found = inventory(made.0.path());
    let interface = &found.interfaces[0];
    assert_eq!((interface.driver.as_deref(), interface.is_virtual), (Some("virtio_net"), true));
    let fixed: Vec<_> = found.disks.iter().map(|disk| (disk.name.as_str(), disk.is_fixed)).collect();
    assert_eq!(fixed, [("sdc", false), ("sdd", false), ("sde", true)]);
    let said = facts(&found, None);
    assert!(said.contains("nic 52:54:00:00:00:01\n") && said.contains("disk - 1048576 Own\n"), "{said}");
    assert!(!said.contains("LUN") && !said.contains("Stick"), "{said}");
}

#[test]
fn a_lost_gpu_changes_the_facts_and_a_driver_that_is_away_loses_all() {
    let found = inventory(&testdata().join("v2"));
    let gpu = |uuid: &str| Gpu { uuid: Some(uuid.to_owned()), ..Gpu::default() };
    let gpus = |devices| Gpus { devices, ..Gpus::default() };
    let two = facts(&found, Some(&gpus(Some(vec![gpu("GPU-b"), gpu("GPU-a")]))));
    assert_eq!(two, facts(&found, Some(&gpus(Some(vec![gpu("GPU-a"), gpu("GPU-b")])))), "their order says nothing");
    let one = facts(&found, Some(&gpus(Some(vec![gpu("GPU-a")]))));
    assert_eq!(differences(&two, &one), ["- gpu GPU-b"]);
    assert_eq!(differences(&two, &facts(&found, Some(&gpus(None)))), ["- gpu GPU-a", "- gpu GPU-b"]);
}

#[test]
fn the_real_server_is_read_and_says_the_same_twice() {
    let (once, again) = (take(Path::new("/")), take(Path::new("/")));
    assert!(once.memory.total_bytes.is_some_and(|bytes| bytes > 1 << 20), "{:?}", once.memory);
    assert!(once.cpu.count >= 1 && once.system.kernel.is_some());
    assert_eq!(facts(&once, None), facts(&again, None));
}
