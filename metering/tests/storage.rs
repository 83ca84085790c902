//! What an order's files occupy, on real filesystems: an ext4 of its own on a loop device and a tmpfs, in a private mount
//! namespace of a second run of this program; and a directory. Project quotas need a kernel that has them: `tests/vm`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::Command,
};

use hufu_metering::{At, Network, Plan, Sampler, Storage, Target, storage::held_by};
use hufu_trade::{
    resource::{Kind, Resource},
    usage::{SourceIdentity, Status},
};

const SECOND: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;

fn at(seconds: u64) -> At {
    let boot_ns = seconds * SECOND;
    At { real_ns: i64::try_from(boot_ns).unwrap(), boot_ns, mono_ns: boot_ns }
}

/// This process with a storage beside it, metered.
struct Metered(Sampler);

impl Metered {
    fn start(storage: Storage) -> Self {
        let mut sampler = Sampler::new(Path::new("/"), SECOND, at(1)).unwrap();
        let target = Target::Process { pid: std::process::id() };
        let plan = Plan { storage: Some(storage), ..Plan::from(target) };
        sampler.start([1; 16], plan, &[Resource::used(Kind::Storage)], &[], None, at(1)).unwrap();
        Self(sampler)
    }

    /// Byte-seconds so far, or why there are none; and the sources beside the first.
    fn close(&mut self, seconds: u64) -> (Status, Option<u128>, Option<String>, Vec<SourceIdentity>) {
        let draft = self.0.close(at(seconds), at(seconds).real_ns);
        let order = draft.orders.last().unwrap();
        let total = order.totals.first().unwrap();
        (total.status, total.total, total.why.clone(), order.identity.attached.clone().unwrap_or_default())
    }
}

fn write(path: &Path, bytes: u64) {
    let mut file = File::create(path).unwrap();
    file.write_all(&vec![7; usize::try_from(bytes).unwrap()]).unwrap();
    file.sync_all().unwrap();
}

/// Runs one test of this program again, as root in a mount namespace of its own; false where that may not be.
fn alone(test: &str) -> bool {
    if std::env::var_os("HUFU_TEST_ALONE").is_some() {
        return true;
    }
    let this = std::env::current_exe().unwrap();
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private"]);
    if !unshare.arg("true").status().is_ok_and(|status| status.success()) {
        eprintln!("no mount namespace to be had here: not tried");
        return false;
    }
    let mut again = Command::new("unshare");
    again.args(["--mount", "--propagation", "private"]).arg(this).args(["--exact", test, "--nocapture"]);
    assert!(again.env("HUFU_TEST_ALONE", "1").status().unwrap().success());
    false
}

fn run(command: &str, arguments: &[&str]) -> bool {
    Command::new(command).args(arguments).status().is_ok_and(|status| status.success())
}

/// What a filesystem of a known size says about a file of a known size: the integral is what was there before and the file, over
/// the time.
fn check_filesystem(mount: &Path) {
    assert_eq!(held_by(Path::new("/"), mount).unwrap(), Storage::Filesystem { mount: mount.to_owned() });
    let mut metered = Metered::start(Storage::Filesystem { mount: mount.to_owned() });
    (2..=11).for_each(|second| metered.0.tick(at(second)));
    let (status, empty, why, sources) = metered.close(11);
    assert_eq!(status, Status::Measured, "{why:?}");
    assert_eq!((sources[0].source.as_str(), sources[0].path.as_str()), ("filesystem", mount.to_str().unwrap()));
    assert_ne!(sources[0].instance, 0);
    let before = empty.unwrap() / 10;
    write(&mount.join("file"), 8 * MIB);
    metered.0.tick(at(11));
    (12..=21).for_each(|second| metered.0.tick(at(second)));
    let (_, after, ..) = metered.close(21);
    let mean = (after.unwrap() - empty.unwrap()) / 10 - before;
    // The step itself is a trapezoid of one second; metadata of the file are some blocks.
    let want = u128::from(8 * MIB);
    assert!((want * 94 / 100..want * 102 / 100).contains(&mean), "{mean} for {want}");
}

#[test]
fn a_filesystem_of_its_own_is_read_by_its_numbers() {
    if !alone("a_filesystem_of_its_own_is_read_by_its_numbers") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (image, mount, tmpfs) = (dir.path().join("image"), dir.path().join("mount"), dir.path().join("tmpfs"));
    [&mount, &tmpfs].into_iter().for_each(|path| fs::create_dir(path).unwrap());
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    assert!(run("mount", &["-t", "tmpfs", "-o", "size=64m", "none", &text(&tmpfs)]));
    check_filesystem(&tmpfs);
    // A part of a filesystem, or one that is mounted twice, is not the order's own.
    fs::create_dir(tmpfs.join("part")).unwrap();
    let bound = dir.path().join("bound");
    fs::create_dir(&bound).unwrap();
    assert!(run("mount", &["--bind", &text(&tmpfs.join("part")), &text(&bound)]));
    assert_eq!(held_by(Path::new("/"), &bound).unwrap(), Storage::Directory { path: bound.clone() });

    File::create(&image).unwrap().set_len(64 * MIB).unwrap();
    let made = run("mkfs.ext4", &["-q", "-F", &text(&image)]);
    if !made || !run("mount", &["-o", "loop", &text(&image), &text(&mount)]) {
        eprintln!("no loop device to be had here: ext4 is not tried");
        return;
    }
    check_filesystem(&mount);
    // A filesystem on top of the directory is not entered by a walk of it.
    let below = dir.path().join("below");
    fs::create_dir_all(below.join("other")).unwrap();
    write(&below.join("own"), MIB);
    assert!(run("mount", &["-t", "tmpfs", "-o", "size=64m", "none", &text(&below.join("other"))]));
    write(&below.join("other/file"), 8 * MIB);
    let walked = walk_of(&below);
    assert!((u128::from(MIB)..u128::from(2 * MIB)).contains(&walked), "{walked}");
    // Gone: the reading is missing with its reason, and nothing panics.
    let mut metered = Metered::start(Storage::Filesystem { mount: mount.clone() });
    metered.0.tick(at(2));
    assert!(run("umount", &[&text(&mount)]), "nothing of the meter's keeps it mounted");
    (3..=12).for_each(|second| metered.0.tick(at(second)));
    let (status, _, why, _) = metered.close(12);
    assert_ne!(status, Status::Measured, "{why:?}");
    assert!(why.is_some());
}

/// The mean of a directory's bytes by its walks.
fn walk_of(path: &Path) -> u128 {
    let mut metered = Metered::start(Storage::Directory { path: path.to_owned() });
    let mut second = 2;
    // The first walk runs beside; readings before its end are missing.
    let (from, first) = loop {
        std::thread::sleep(std::time::Duration::from_millis(20));
        metered.0.tick(at(second));
        metered.0.tick(at(second + 1));
        second += 2;
        if let (_, Some(sum), ..) = metered.close(second - 1)
            && sum > 0
        {
            break (second - 1, sum);
        }
        assert!(second < 500, "no walk ends");
    };
    (second..=from + 10).for_each(|second| metered.0.tick(at(second)));
    let (_, sum, why, sources) = metered.close(from + 10);
    assert_eq!(sources[0].source, "directory", "{why:?}");
    (sum.unwrap() - first) / 10
}

#[test]
fn a_directory_is_walked_beside_the_sampling() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("file"), 3 * MIB);
    let mean = walk_of(dir.path());
    assert!((u128::from(3 * MIB)..u128::from(3 * MIB + 65_536)).contains(&mean), "{mean}");
}

/// On a filesystem with project quotas, which `tests/vm/quota.sh` has: exact to the block, a removed but open file too, by
/// whoever may not even open the directory.
#[test]
fn a_project_quota_is_read_by_one_look() {
    let Some(base) = std::env::var_os("HUFU_TEST_PRJQUOTA") else {
        eprintln!("no project quotas to be had here: not tried");
        return;
    };
    let path = Path::new(&base).join("metered");
    fs::create_dir(&path).unwrap();
    let text = path.to_str().unwrap();
    assert!(run("chattr", &["-p", "4711", "+P", text]));
    assert!(run("setquota", &["-P", "4711", "0", "32768", "0", "0", base.to_str().unwrap()]));
    let mut metered = Metered::start(Storage::Directory { path: path.clone() });
    let (mut now, mut sum) = (1, 0);
    let mut mean = |metered: &mut Metered| {
        // What changed since the last reading is there from now on.
        (now..=now + 10).for_each(|second| metered.0.tick(at(second)));
        now += 10;
        let (status, after, why, sources) = metered.close(now);
        assert_eq!((status, sources[0].source.as_str()), (Status::Measured, "project-quota"), "{why:?}");
        let before = std::mem::replace(&mut sum, after.unwrap());
        (sum - before) / 10
    };
    let empty = mean(&mut metered);
    write(&path.join("file"), 8 * MIB);
    assert_eq!(mean(&mut metered) - empty, u128::from(8 * MIB));
    let open = File::open(path.join("file")).unwrap();
    fs::remove_file(path.join("file")).unwrap();
    assert_eq!(mean(&mut metered) - empty, u128::from(8 * MIB), "removed, and still held");
    drop(open);
    assert_eq!(mean(&mut metered), empty);
    // Without its limit the numbers are the filesystem's: missing, never those.
    assert!(run("setquota", &["-P", "4711", "0", "0", "0", "0", base.to_str().unwrap()]));
    (now + 1..=now + 5).for_each(|second| metered.0.tick(at(second)));
    let (status, _, why, _) = metered.close(now + 5);
    assert_ne!(status, Status::Measured, "{why:?}");
}

#[test]
fn a_storage_that_is_not_there_leaves_the_other_meters_alone() {
    let mut sampler = Sampler::new(Path::new("/"), SECOND, at(1)).unwrap();
    let target = Target::Process { pid: std::process::id() };
    let storage = Some(Storage::Directory { path: "/nowhere/at/all".into() });
    let plan = Plan { storage, network: None::<Network>, ..Plan::from(target) };
    let metered = [Resource::used(Kind::Cpu), Resource::used(Kind::Storage)];
    sampler.start([1; 16], plan, &metered, &[], None, at(1)).unwrap();
    (2..=5).for_each(|second| sampler.tick(at(second)));
    let draft = sampler.close(at(5), at(5).real_ns);
    let totals = &draft.orders.last().unwrap().totals;
    assert!(totals[0].total.is_some(), "{:?}", totals[0]);
    assert_eq!((totals[1].total, totals[1].status), (None, Status::Missing), "{:?}", totals[1]);
    assert!(totals[1].why.is_some());
}
