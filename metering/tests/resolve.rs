//! Names of workloads against the directories that engines and managers make, and real processes and cgroups of this machine.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{fmt::Write as _, fs, path::Path, process::Command};

use hufu_metering::{At, Error, Place, Sampler, Target, hierarchy::Hierarchies, resolve};
use hufu_trade::resource::{Kind, Resource};

/// Makes the directories of one listed machine below `root`; gives the lines about names.
fn make(list: &Path, root: &Path) -> Vec<String> {
    let (mut mountinfo, mut mount, mut names) = (String::new(), String::new(), Vec::new());
    for line in fs::read_to_string(list).unwrap().lines() {
        if let Some(rest) = line.strip_prefix("mount ") {
            let (kind, path) = rest.split_once(' ').unwrap();
            path.clone_into(&mut mount);
            let (kind, options) = if kind == "cgroup2" { ("cgroup2", "rw") } else { ("cgroup", rest) };
            let options = options.split(' ').next().unwrap();
            writeln!(mountinfo, "30 23 0:26 / {path} rw,relatime - {kind} {kind} rw,{options}").unwrap();
        } else if let Some(rest) = line.strip_prefix("name ") {
            names.push(rest.to_owned());
        } else {
            fs::create_dir_all(root.join(mount.trim_start_matches('/')).join(line)).unwrap();
        }
    }
    fs::create_dir_all(root.join("proc/self")).unwrap();
    fs::write(root.join("proc/self/mountinfo"), mountinfo).unwrap();
    names
}

#[test]
fn every_listed_name_leads_to_its_directory_or_to_a_reason() {
    let mut asked = 0;
    for list in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/resolve")).unwrap().flatten() {
        if list.path().extension().is_none_or(|ending| ending != "txt") {
            continue;
        }
        let root = tempfile::tempdir().unwrap();
        let names = make(&list.path(), root.path());
        let hierarchies = Hierarchies::detect(root.path()).unwrap();
        for line in names {
            asked += 1;
            let at = format!("{}: {line}", list.path().display());
            if let Some((name, path)) = line.split_once(" -> ") {
                let found = resolve(&hierarchies, name).unwrap_or_else(|e| panic!("{at}: {e}"));
                assert_eq!(found.target, Target::Cgroup { path: path.to_owned() }, "{at}");
                assert!(found.text.ends_with(&format!(" -> {path}")), "{at}: {}", found.text);
            } else {
                let (name, word) = line.split_once(" !! ").unwrap();
                match resolve(&hierarchies, name) {
                    Err(Error::Unresolved { why, .. }) => assert!(why.contains(word), "{at}: {why}"),
                    other => panic!("{at}: {other:?}"),
                }
            }
        }
    }
    assert!(asked > 60, "{asked} names were asked");
}

#[test]
fn a_name_is_bounded_and_so_is_the_search() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("proc/self")).unwrap();
    let line = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    fs::write(root.path().join("proc/self/mountinfo"), line).unwrap();
    let deep = format!("sys/fs/cgroup/{}", "a.slice/".repeat(40));
    fs::create_dir_all(root.path().join(&deep).join("deep.service")).unwrap();
    // A link is no cgroup, and leads nowhere.
    std::os::unix::fs::symlink("/", root.path().join("sys/fs/cgroup/link.slice")).unwrap();
    let hierarchies = Hierarchies::detect(root.path()).unwrap();
    for name in ["x".repeat(600), "unit:a\nb".to_owned(), "unit:deep".to_owned(), "unit:link.slice".to_owned()] {
        assert!(matches!(resolve(&hierarchies, &name), Err(Error::Unresolved { .. })), "{name:.40}");
    }
}

#[test]
fn the_recorded_text_names_the_whole_id() {
    let root = tempfile::tempdir().unwrap();
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/resolve/docker-systemd.txt");
    make(&list, root.path());
    let hierarchies = Hierarchies::detect(root.path()).unwrap();
    let id = "3f1c0a9be8d745621f0e9d8c7b6a59483726150f4e3d2c1b0a99887766554433";
    let text = resolve(&hierarchies, "docker:3f1c0a9be8d745").unwrap().text;
    assert_eq!(text, format!("docker:{id} -> system.slice/docker-{id}.scope"));
}

#[test]
fn a_process_is_found_in_the_hierarchy_that_counts_it() {
    let root = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put(
        "proc/self/mountinfo",
        "30 23 0:26 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
         31 23 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
    );
    for (pid, text, want) in [
        (10, "3:cpu,cpuacct:/docker/a\n0::/system.slice/x.service\n", Ok("docker/a")),
        (11, "3:cpu,cpuacct:/\n1:name=systemd:/y\n0::/system.slice/x.service\n", Ok("system.slice/x.service")),
        (12, "3:cpu,cpuacct:/\n0::/\n", Err("the whole machine")),
        (13, "0::/../../other\n", Err("leaves the hierarchy")),
        (14, "0::/gone.scope (deleted)\n", Err("was removed")),
        (15, "\u{0}garbage", Err("the whole machine")),
    ] {
        put(&format!("proc/{pid}/cgroup"), text);
        let found = resolve(&Hierarchies::detect(root.path()).unwrap(), &format!("cgroup-of-pid:{pid}"));
        match (found, want) {
            (Ok(found), Ok(path)) => assert_eq!(found.target, Target::Cgroup { path: path.to_owned() }, "{pid}"),
            (Err(Error::Unresolved { why, .. }), Err(word)) => assert!(why.contains(word), "{pid}: {why}"),
            (found, _) => panic!("{pid}: {found:?}"),
        }
    }
    let found = resolve(&Hierarchies::detect(root.path()).unwrap(), "pid:10").unwrap();
    assert_eq!((found.target, found.text), (Target::Process { pid: 10 }, "pid:10 -> process tree of 10".to_owned()));
}

/// A real cgroup named as docker's driver names it, a real process in it: found by its id and by the process, metered; made
/// again under the same id it is another identity.
#[test]
fn a_real_container_directory_is_metered_by_its_id_and_recreated_is_another() {
    let hierarchies = Hierarchies::detect(Path::new("/")).unwrap();
    let id = format!("{:0>64x}", (u128::from(std::process::id()) << 64) | 0xfeed_beef);
    let Ok(place) = Place::make(&hierarchies, "hufu-test-resolve", &id) else {
        eprintln!("no cgroups of our own to be had here: not tried");
        return;
    };
    let name = format!("docker:{}", &id[..48]);
    let at = |seconds: u64| At { real_ns: 0, boot_ns: seconds * 1_000_000_000, mono_ns: seconds * 1_000_000_000 };
    let metered = [Resource::used(Kind::Cpu)];
    let mut sampler = Sampler::new(Path::new("/"), 1_000_000_000, at(1)).unwrap();
    let mut identity = |key: u8| {
        let found = resolve(&hierarchies, &name).unwrap();
        assert_eq!(found.target, Target::Cgroup { path: format!("hufu-test-resolve/{id}") });
        sampler.start([key; 16], found.target, &metered, &[], None, at(2)).unwrap().clone()
    };
    let first = identity(1);
    let mut child = Command::new("sh");
    child.args(["-c", "for p in \"$@\"; do echo 0 > \"$p\"; done; exec sleep 60", "sh"]);
    let mut child = child.args(&place.procs_files).spawn().unwrap();
    let entered = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        place.processes() == [child.id()]
    });
    assert!(entered);
    let own = resolve(&hierarchies, &format!("cgroup-of-pid:{}", child.id())).unwrap();
    assert_eq!(own.target, Target::Cgroup { path: format!("hufu-test-resolve/{id}") });
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = format!("cgroup-of-pid:{}", child.id());
    assert!(matches!(resolve(&hierarchies, &gone), Err(Error::Unresolved { .. })));
    place.remove().unwrap();
    assert!(matches!(resolve(&hierarchies, &name), Err(Error::Unresolved { .. })));
    let again = Place::make(&hierarchies, "hufu-test-resolve", &id).unwrap();
    let second = identity(2);
    assert_eq!(first.path, second.path);
    assert_ne!(first.instance, second.instance, "another container, whatever its name");
    again.remove().unwrap();
    Place::remove_parent(&hierarchies, "hufu-test-resolve").unwrap();
}
