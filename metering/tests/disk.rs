//! Bytes written to a real disk, direct, synced and late, against what `dd` wrote: in a cgroup of version 2 whose io controller counts.
//! Where there is none the reason is printed and the test passes; `tests/vm/quota.sh` runs it in a machine that has one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{path::Path, process::Command};

use hufu_metering::{At, Place, Sampler, hierarchy::Hierarchies};
use hufu_trade::{
    resource::{Kind, Resource},
    usage::Status,
};

const MIB: u128 = 1 << 20;
const PARENT: &str = "hufu-metering-disk-test";

fn at(seconds: u64) -> At {
    let boot_ns = seconds * 1_000_000_000;
    At { real_ns: i64::try_from(boot_ns).unwrap(), boot_ns, mono_ns: boot_ns }
}

#[test]
fn bytes_written_direct_synced_and_late_are_exact() {
    // A directory on a disk; without it there may be only memory below.
    let Some(directory) = std::env::var_os("HUFU_TEST_DISK") else { return println!("skipped: no HUFU_TEST_DISK") };
    let hierarchies = Hierarchies::detect(Path::new("/")).unwrap();
    let place = Place::make(&hierarchies, PARENT, &std::process::id().to_string()).unwrap();
    let mut sampler = Sampler::new(Path::new("/"), 1_000_000_000, at(1)).unwrap();
    sampler.start([1; 16], place.target.clone(), &[Resource::used(Kind::DiskWrite)], &[], None, at(1)).unwrap();
    let file = Path::new(&directory).join("hufu-written");
    let mut before = 0;
    // How, MiB, arguments of dd, whether the disk is synced by somebody else when dd has ended.
    for (second, (how, mebibytes, argument, is_late)) in (1_u64..).zip([
        ("direct", 16, "oflag=direct", false),
        ("fsync", 12, "conv=fsync", false),
        ("late", 20, "conv=notrunc", true),
    ]) {
        let script = r#"for place in $PLACES; do echo 0 > "$place" || exit 1; done; exec dd if=/dev/zero bs=1M status=none "$@""#;
        let places: Vec<_> = place.procs_files.iter().map(|path| path.to_str().unwrap()).collect();
        let dd = Command::new("sh")
            .args(["-c", script, "sh", argument, &format!("count={mebibytes}")])
            .arg(format!("of={}", file.display()))
            .env("PLACES", places.join(" "))
            .status();
        assert!(dd.unwrap().success(), "{how}");
        if is_late {
            assert!(Command::new("sync").status().unwrap().success());
        }
        sampler.tick(at(1 + second * 10));
        let draft = sampler.close(at(2 + second * 10), at(2 + second * 10).real_ns);
        let total = draft.orders.last().unwrap().totals[0].clone();
        assert_eq!(total.status, Status::Measured, "{total:?}");
        let now = total.total.unwrap();
        println!("{how}: wrote {}, metered {}", mebibytes * MIB, now - before);
        assert_eq!(now - before, mebibytes * MIB, "{how}");
        std::fs::remove_file(&file).unwrap();
        assert!(Command::new("sync").status().unwrap().success());
        sampler.tick(at(3 + second * 10));
        let draft = sampler.close(at(4 + second * 10), at(4 + second * 10).real_ns);
        before = draft.orders.last().unwrap().totals[0].total.unwrap();
    }
    sampler.stop([1; 16], at(100)).unwrap();
    place.remove().unwrap();
}
