//! From the name a site gives a workload (unit, container, pod, machine, process) to what is metered. Only `/proc` and the
//! directories of cgroupfs are read, below the hierarchies' root; no engine, no bus and no kubelet is asked. Reading the
//! counters is `cgroup.rs` and `process.rs`.
//!
//! Names are not trusted more than needed. A container, pod or machine has an id that its engine made; a second directory
//! that claims the same id makes the name ambiguous, and an ambiguous name is an error, never a guess. A unit is one of the
//! machine's own manager: only directories of slices lead to it, so that what a workload makes inside its own unit or container
//! cannot take its name.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{Error, file, hierarchy::Hierarchies, sample::Target};

/// Shortest beginning of an id that names it, characters: what engines print.
const PREFIX_CHARS_MIN: usize = 12;
/// Characters of a container's id.
const ID_CHARS: usize = 64;
/// Most directories looked at in one hierarchy.
const DIRECTORIES_MAX: usize = 65_536;
/// Deepest directory looked at.
const DEPTH_MAX: usize = 32;
/// Longest name given, and longest path found, bytes.
const TEXT_BYTES_MAX: usize = 512;
/// Endings of the units that have a cgroup.
const UNIT_KINDS: [&str; 6] = [".service", ".scope", ".slice", ".socket", ".mount", ".swap"];
/// How engines call a container's directory: engine, what stands before the id, what after it. Directories of monitors
/// (`libpod-conmon-ID.scope`, `crio-conmon-ID.scope`) are none of these, since what is left of them is no id.
const CONTAINERS: [(&str, &str, &str); 9] = [
    ("docker", "docker-", ".scope"),
    ("docker", "", ""),
    ("podman", "libpod-", ".scope"),
    ("podman", "libpod-payload-", ""),
    ("podman", "libpod-", ""),
    ("containerd", "cri-containerd-", ".scope"),
    ("containerd", "nerdctl-", ".scope"),
    ("containerd", "", ""),
    ("crio", "crio-", ".scope"),
];
const EXPECTED: &str = "one of cgroup:PATH, unit:NAME, docker:ID, podman:ID, containerd:ID, crio:ID, container:ID, pod:UID, \
                        machine:NAME, pid:N, cgroup-of-pid:N expected";

/// What a name led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// What to meter.
    pub target: Target,
    /// The name in full and what it stands for, as it is recorded: `docker:0123.. -> system.slice/docker-0123...scope`.
    pub text: String,
}

/// Resolves `named`: `cgroup:PATH` (below the mount, or a full directory), `unit:NAME`, `docker:ID`, `podman:ID`,
/// `containerd:ID`, `crio:ID`, `container:ID` (of any of these engines), `pod:UID`, `machine:NAME` (libvirt's domain, or the name
/// that `machinectl` lists), `pid:N` (the process and its descendants), `cgroup-of-pid:N`. Ids may be cut to 12 characters or more.
///
/// A workload that ends and is made again under the same name resolves to another directory or another inode of the same one:
/// the meter's identity tells them apart.
///
/// # Errors
/// [`Error::Unresolved`] with what is wrong: no such form, too short or malformed, nothing there, more than one, too many
/// cgroups to look at; [`Error::UnknownProcess`].
pub fn resolve(hierarchies: &Hierarchies, named: &str) -> Result<Resolved, Error> {
    let wrong = |why: String| Error::Unresolved { named: named.chars().take(120).collect(), why };
    if named.len() > TEXT_BYTES_MAX || named.chars().any(char::is_control) {
        return Err(wrong("at most 512 bytes without control characters expected".to_owned()));
    }
    let (form, name) = named.split_once(':').ok_or_else(|| wrong(EXPECTED.to_owned()))?;
    let found = match form {
        "cgroup" => cgroup(hierarchies, name),
        "unit" => unit(name).and_then(|unit| search(hierarchies, is_slice, |directory| named_as(directory, &unit))),
        "docker" | "podman" | "containerd" | "crio" | "container" => container(hierarchies, form, name),
        "pod" => pod(hierarchies, name),
        "machine" => machine(hierarchies, name),
        "pid" => {
            let pid = process(hierarchies, name).map_err(&wrong)?;
            let target = Target::Process { pid };
            return Ok(Resolved { target, text: format!("pid:{pid} -> process tree of {pid}") });
        }
        "cgroup-of-pid" => own_cgroup(hierarchies, name),
        _ => Err(EXPECTED.to_owned()),
    };
    let (full, path) = found.map_err(&wrong)?;
    check_path(&path).map_err(&wrong)?;
    Ok(Resolved { text: format!("{form}:{full} -> {path}"), target: Target::Cgroup { path } })
}

/// A name in full, and the path below the mounts that it stands for.
type Found = Result<(String, String), String>;

fn check_path(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("the root cgroup is the whole machine, not an order".to_owned());
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("{path} leaves the hierarchy"));
    }
    if path.len() > TEXT_BYTES_MAX {
        return Err("its path is longer than 512 bytes".to_owned());
    }
    Ok(())
}

/// The hierarchies in which an order's counters may be, in the order in which they are read.
fn mounts(hierarchies: &Hierarchies) -> Vec<PathBuf> {
    let counted = ["cpuacct", "memory"].into_iter().filter_map(|controller| hierarchies.v1(controller));
    counted.chain(hierarchies.v2()).collect()
}

fn cgroup(hierarchies: &Hierarchies, name: &str) -> Found {
    let path = hierarchies.relative(name);
    check_path(&path)?;
    if mounts(hierarchies).iter().any(|mount| mount.join(&path).is_dir()) {
        return Ok((path.clone(), path));
    }
    Err("no such cgroup in any hierarchy that meters".to_owned())
}

/// A unit's full name; one without ending is a service, as for systemctl.
fn unit(name: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'_' | b'.' | b'\\' | b'@');
    if name.is_empty() || name.len() > 255 || !name.bytes().all(allowed) || name.starts_with('.') {
        return Err("the name of a unit expected, as systemctl prints it".to_owned());
    }
    if name == "-.slice" {
        return Err("the root slice is the whole machine, not an order".to_owned());
    }
    let is_whole = UNIT_KINDS.iter().any(|kind| name.ends_with(kind));
    Ok(if is_whole { name.to_owned() } else { format!("{name}.service") })
}

/// systemd puts `_` before names that cgroupfs might take for its own files.
fn named_as(directory: &str, unit: &str) -> Option<String> {
    (directory == unit || directory.strip_prefix('_') == Some(unit)).then(|| unit.to_owned())
}

fn is_slice(directory: &str) -> bool {
    directory.ends_with(".slice")
}

fn anywhere(_: &str) -> bool {
    true
}

fn container(hierarchies: &Hierarchies, engine: &str, prefix: &str) -> Found {
    if !(PREFIX_CHARS_MIN..=ID_CHARS).contains(&prefix.len()) || !prefix.bytes().all(is_hex) {
        return Err("12 to 64 characters 0-9 a-f of a container's id expected (names are the engine's own)".to_owned());
    }
    search(hierarchies, anywhere, |directory| {
        let id = container_id(directory, engine)?;
        id.starts_with(prefix).then(|| id.to_owned())
    })
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// The id of the container whose directory this is, if it is one of this engine's; `container` is any.
fn container_id<'a>(directory: &'a str, engine: &str) -> Option<&'a str> {
    let forms = CONTAINERS.iter().filter(|(of, ..)| engine == "container" || *of == engine);
    let mut ids = forms.filter_map(|(_, before, after)| directory.strip_prefix(before)?.strip_suffix(after));
    ids.find(|id| id.len() == ID_CHARS && id.bytes().all(is_hex))
}

fn pod(hierarchies: &Hierarchies, prefix: &str) -> Found {
    let allowed = |byte: u8| is_hex(byte) || byte == b'-';
    if !(PREFIX_CHARS_MIN..=36).contains(&prefix.len()) || !prefix.bytes().all(allowed) {
        return Err("12 to 36 characters of a pod's UID expected (0-9 a-f and -)".to_owned());
    }
    search(hierarchies, anywhere, |directory| pod_uid(directory).filter(|uid| uid.starts_with(prefix)))
}

/// The UID of the pod whose directory this is: `kubepods-burstable-podUID.slice` with `_` for `-` (systemd's driver), or `podUID`.
/// The kubelet's static pods have 32 characters without dashes.
fn pod_uid(directory: &str) -> Option<String> {
    let uid = match directory.strip_suffix(".slice") {
        Some(slice) => {
            let (before, uid) = slice.rsplit_once("-pod")?;
            let class = before.strip_suffix("-burstable").or(before.strip_suffix("-besteffort")).unwrap_or(before);
            // The kubelet may keep its pods below a slice of its own: kubelet-kubepods-...
            if class != "kubepods" && !class.ends_with("-kubepods") {
                return None;
            }
            uid.replace('_', "-")
        }
        None => directory.strip_prefix("pod")?.to_owned(),
    };
    let groups: Vec<usize> = uid.split('-').map(str::len).collect();
    let is_uid = groups == [8, 4, 4, 4, 12] || groups == [32];
    (is_uid && uid.bytes().all(|byte| is_hex(byte) || byte == b'-')).then_some(uid)
}

fn machine(hierarchies: &Hierarchies, name: &str) -> Found {
    if name.is_empty() || name.len() > 255 || name.contains('/') {
        return Err("the name of a machine expected, as virsh or machinectl lists it".to_owned());
    }
    search(hierarchies, anywhere, |directory| {
        let machine = machine_name(directory)?;
        // libvirt tells machined `qemu-ID-NAME`: another id at each start.
        let of_libvirt = ["qemu-", "lxc-"].iter().find_map(|driver| {
            let (id, domain) = machine.strip_prefix(driver)?.split_once('-')?;
            (!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())).then_some(domain)
        });
        (machine == name || of_libvirt == Some(name)).then_some(machine)
    })
}

/// The name that machined knows the machine of this directory by: `machine-qemu\x2d3\x2dweb.scope`, or without systemd
/// `qemu-3-web.libvirt-qemu`.
fn machine_name(directory: &str) -> Option<String> {
    if let Some(escaped) = directory.strip_prefix("machine-").and_then(|rest| rest.strip_suffix(".scope")) {
        return unescape(escaped);
    }
    let plain = ["-qemu", "-lxc"].iter().find_map(|driver| directory.strip_suffix(driver)?.strip_suffix(".libvirt"));
    plain.map(str::to_owned)
}

/// Undoes systemd-escape(1): `\x2d` is a byte; `-` stood for `/`, which no machine's name has.
fn unescape(escaped: &str) -> Option<String> {
    let mut out = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let (code, tail) = rest.split_at_checked(3)?;
        let hex = str::from_utf8(code.strip_prefix(b"x")?).ok()?;
        if !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        out.push(u8::from_str_radix(hex, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(out).ok()
}

fn process(hierarchies: &Hierarchies, name: &str) -> Result<u32, String> {
    let pid = name.parse::<u32>().ok().filter(|pid| *pid > 0);
    let pid = pid.ok_or("a process id above zero expected")?;
    let directory = file::below(hierarchies.root(), Path::new(&format!("/proc/{pid}")));
    if directory.is_dir() { Ok(pid) } else { Err("no such process".to_owned()) }
}

/// The cgroup that a process is in: in the hierarchy that counts CPU, or the first other one where it is not in the root.
fn own_cgroup(hierarchies: &Hierarchies, name: &str) -> Found {
    let pid = process(hierarchies, name)?;
    let path = file::below(hierarchies.root(), Path::new(&format!("/proc/{pid}/cgroup")));
    let text = file::read_once(&path).map_err(|e| e.to_string())?;
    let of = |controller: &str| {
        let lines = file::lines(&text).filter_map(|line| str::from_utf8(line).ok());
        let mut parts = lines.filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            rest.split_once(':')
        });
        let found = parts.find(|(controllers, _)| controllers.split(',').any(|name| name == controller));
        found.map(|(_, path)| path.trim_matches('/').to_owned())
    };
    // Version 2 has no controllers in its line.
    let paths: Vec<String> = ["cpuacct", "memory", ""].into_iter().filter_map(of).collect();
    let own =
        paths.iter().find(|path| !path.is_empty()).ok_or("it is in the root cgroup, which is the whole machine")?;
    if own.ends_with(" (deleted)") {
        return Err("its cgroup was removed".to_owned());
    }
    Ok((pid.to_string(), own.clone()))
}

/// Looks through the hierarchies for the directories that `matches` gives a full name for. What matches is not looked into, nor
/// what `enters` does not hold for. All that is found must bear one full name; its path is the first hierarchy's.
fn search(hierarchies: &Hierarchies, enters: impl Fn(&str) -> bool, matches: impl Fn(&str) -> Option<String>) -> Found {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mount in mounts(hierarchies) {
        let mut here: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut looked_at = 0_usize;
        let mut pending = vec![(mount, String::new(), 0_usize)];
        while let Some((directory, path, depth)) = pending.pop() {
            // A cgroup may be removed at any time; what is gone is no candidate.
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries.flatten() {
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let name = entry.file_name();
                let (true, Some(name)) = (is_directory, name.to_str()) else { continue };
                looked_at += 1;
                if looked_at > DIRECTORIES_MAX {
                    return Err(format!("more than {DIRECTORIES_MAX} cgroups to look at: name it by cgroup:PATH"));
                }
                let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
                if let Some(full) = matches(name) {
                    here.entry(full).or_default().push(below);
                } else if enters(name) && depth < DEPTH_MAX {
                    pending.push((entry.path(), below, depth + 1));
                }
            }
        }
        for (full, paths) in here {
            found.entry(full).or_insert(paths);
        }
    }
    let listed = |names: &mut dyn Iterator<Item = &String>| {
        names.take(3).map(|name| name.chars().take(100).collect::<String>()).collect::<Vec<_>>().join(", ")
    };
    let mut all = found.iter();
    match (all.next(), all.next()) {
        (None, _) => Err("nothing of this name has a cgroup on this machine".to_owned()),
        (Some((full, paths)), None) => match &paths[..] {
            [path] => Ok((full.clone(), path.clone())),
            _ => {
                let (count, some) = (paths.len(), listed(&mut paths.iter()));
                Err(format!("{count} cgroups bear this name: {some}; name one by cgroup:PATH"))
            }
        },
        _ => {
            let (count, some) = (found.len(), listed(&mut found.keys()));
            Err(format!("{count} begin with or are called this: {some}; give more of its name"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_directories_are_read_as_their_makers_write_them() {
        let id = "0123456789abcdef".repeat(4);
        for (directory, engine, want) in [
            (format!("docker-{id}.scope"), "docker", true),
            (format!("docker-{id}.scope"), "podman", false),
            (format!("docker-{id}.scope"), "container", true),
            (id.clone(), "docker", true),
            (id.clone(), "containerd", true),
            (id.clone(), "podman", false),
            (format!("libpod-{id}.scope"), "podman", true),
            (format!("libpod-{id}"), "podman", true),
            (format!("libpod-payload-{id}"), "podman", true),
            (format!("libpod-conmon-{id}.scope"), "container", false),
            (format!("cri-containerd-{id}.scope"), "containerd", true),
            (format!("crio-{id}.scope"), "crio", true),
            (format!("crio-conmon-{id}.scope"), "container", false),
            (id.to_uppercase(), "container", false),
            (id[1..].to_owned(), "container", false),
        ] {
            assert_eq!(container_id(&directory, engine).is_some(), want, "{directory} {engine}");
        }
        let uid = "4a1b2c3d-0001-0002-0003-0123456789ab";
        for (directory, want) in [
            ("kubepods-burstable-pod4a1b2c3d_0001_0002_0003_0123456789ab.slice", Some(uid)),
            ("kubepods-pod4a1b2c3d_0001_0002_0003_0123456789ab.slice", Some(uid)),
            ("kubelet-kubepods-besteffort-pod4a1b2c3d_0001_0002_0003_0123456789ab.slice", Some(uid)),
            ("pod4a1b2c3d-0001-0002-0003-0123456789ab", Some(uid)),
            ("pod0123456789abcdef0123456789abcdef", Some("0123456789abcdef0123456789abcdef")),
            ("evil-pod4a1b2c3d_0001_0002_0003_0123456789ab.slice", None),
            ("pod4a1b2c3d_0001_0002_0003_0123456789ab", None),
            ("podman", None),
            ("kubepods-burstable.slice", None),
        ] {
            assert_eq!(pod_uid(directory).as_deref(), want, "{directory}");
        }
        for (directory, want) in [
            ("machine-qemu\\x2d3\\x2dweb\\x2d1.scope", Some("qemu-3-web-1")),
            ("qemu-3-web.libvirt-qemu", Some("qemu-3-web")),
            ("machine-\\x.scope", None),
            ("machine-\\x2.scope", None),
            ("machine-\\x+f.scope", None),
            ("machine-\\xff.scope", None),
            ("machine.slice", None),
        ] {
            assert_eq!(machine_name(directory).as_deref(), want, "{directory}");
        }
    }

    #[test]
    fn units_are_named_as_systemctl_names_them() {
        for (name, want) in [
            ("nginx", Some("nginx.service")),
            ("nginx.service", Some("nginx.service")),
            ("a-b.slice", Some("a-b.slice")),
            ("x@1:2\\x2d3.scope", Some("x@1:2\\x2d3.scope")),
            ("-.slice", None),
            ("", None),
            ("a/b.service", None),
            ("../b.service", None),
            ("a b", None),
        ] {
            assert_eq!(unit(name).ok().as_deref(), want, "{name:?}");
        }
        assert_eq!(named_as("_cpu.service", "cpu.service").as_deref(), Some("cpu.service"));
        assert_eq!(named_as("xcpu.service", "cpu.service"), None);
    }
}
