//! Counters of a cgroup's traffic in nftables, where none can be attached to the cgroup itself: rules that match its sockets, in
//! a table of our own. Made and removed by the program `nft`, read by one dump a tick (`nfnetlink.rs`), by this process or, where
//! it may not, by somebody who may. Counters attached to the cgroup are `counters.rs`.
//!
//! The rules see what belongs to a local socket of this network namespace: traffic of a container with a namespace of its own
//! they do not, and it is sold at an interface instead.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use rustix::io::Errno;

use crate::{Error, cgroup::Depth, file, hierarchy::Hierarchies, nfnetlink::Socket, sample::At};

/// The table that holds all of ours, family `inet`.
pub const TABLE: &str = "hufu";
/// nft looks for cgroups below this directory, wherever version 2 is mounted.
const LOOKED_FOR_BELOW: &str = "/sys/fs/cgroup";
/// A rule on a cgroup deeper than this is refused by the kernel.
const LEVEL_MAX: usize = 255;
/// Somebody asked who did not answer is left alone for so many readings.
const REST_READINGS: u8 = 6;

const UNKNOWN: &str = "the order's nft counters are gone";
const NOT_SAID: &str = "the order's nft counters were not told";

/// The traffic of one cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counted {
    /// The cgroup's id: the inode of its directory.
    pub cgroup: u64,
    /// What tells these counters from earlier ones of the same cgroup.
    pub made: u64,
    /// Bytes received: whole IP packets as the host's stack sees them.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
}

impl Counted {
    /// What its counters are named by, `ID_HEX`.
    pub fn key(&self) -> String {
        format!("{}_{:016x}", self.cgroup, self.made)
    }

    /// From such a key, and bytes received and sent, `"RX TX"`; `None` for other texts.
    pub fn from_texts(key: &str, bytes: &str) -> Option<Self> {
        let (cgroup, made) = parse_key(key)?;
        let (received, sent) = bytes.split_once(' ')?;
        Some(Self { cgroup, made, rx_bytes: received.parse().ok()?, tx_bytes: sent.parse().ok()? })
    }
}

/// Who may read the counters, where this process may not: all of them, or why they are not known.
pub type Ask = Box<dyn FnMut() -> Result<Vec<Counted>, String> + Send>;

fn failed(doing: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Counters { doing, path: Path::new("nftables").join(TABLE), source }
}

fn said(doing: &'static str, why: impl Into<String>) -> Error {
    failed(doing)(std::io::Error::other(why.into()))
}

/// Runs `nft` with a script on standard input, or only has it checked. What it writes.
fn nft(doing: &'static str, arguments: &[&str], script: &str) -> Result<String, Error> {
    let mut command = Command::new("nft");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed(doing))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).map_err(failed(doing))?;
    }
    let out = child.wait_with_output().map_err(failed(doing))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&out.stderr);
    Err(said(doing, format!("nft: {}", text.lines().next().unwrap_or("no reason given"))))
}

/// Whether counters could be made here: the program, the kernel's match, and a network namespace that has more than `lo` (one
/// that has not is shut off by its unit, and its rules would see nothing).
///
/// # Errors
/// [`Error::Counters`] with what is missing; [`Error::NoCgroups`].
pub fn available(hierarchies: &Hierarchies) -> Result<(), Error> {
    let mount = mount(hierarchies)?;
    check_namespace(hierarchies)?;
    // Any cgroup will do: the rule is only checked.
    let children = fs::read_dir(&mount).map_err(failed("look for"))?.flatten();
    let child = children.map(|entry| entry.path()).find(|path| path.is_dir());
    let child = child.ok_or_else(|| said("make", "there is no cgroup yet to match by"))?;
    nft("make", &["--check", "--file", "-"], &script(&below(&child)?, 1, "check")).map(drop)
}

fn check_namespace(hierarchies: &Hierarchies) -> Result<(), Error> {
    let text = file::read_once(&hierarchies.root().join("proc/self/net/dev"))?;
    let names = file::lines(&text).skip(2).filter_map(|line| line.split(|byte| *byte == b':').next());
    if names.map(<[u8]>::trim_ascii).all(|name| name.is_empty() || name == b"lo") {
        return Err(said("make", "this process sees no network but lo: its unit shuts it off (PrivateNetwork)"));
    }
    Ok(())
}

/// The mount of version 2, which must be the hierarchy's root: levels count from there.
fn mount(hierarchies: &Hierarchies) -> Result<std::path::PathBuf, Error> {
    if hierarchies.root() != Path::new("/") {
        return Err(said("make", "the kernel is asked on a running host only"));
    }
    let none = || Error::NoCgroups { why: "cgroup version 2 is not mounted, beside version 1 neither".to_owned() };
    let mount = hierarchies.v2().ok_or_else(none)?;
    if mount.join("cgroup.events").exists() {
        return Err(said("make", "the root of the cgroups is not visible here"));
    }
    Ok(mount)
}

/// A cgroup's directory as nft names it.
fn below(directory: &Path) -> Result<String, Error> {
    let path = directory.strip_prefix(LOOKED_FOR_BELOW).ok().and_then(Path::to_str);
    let path = path.ok_or_else(|| said("make", format!("cgroups are not below {LOOKED_FOR_BELOW}")))?;
    if path.contains(['"', '\\', '\n']) {
        return Err(said("make", format!("nft cannot name the cgroup {path:?}")));
    }
    Ok(path.to_owned())
}

/// The rules of one cgroup, and the table and chains if they are not there. They let every packet pass.
fn script(path: &str, level: usize, key: &str) -> String {
    let chain = |name: &str| format!("chain {name} {{\ntype filter hook {name} priority 0; policy accept;\n}}\n");
    let rule = |hook: &str, counter: &str| {
        format!(
            "add rule inet {TABLE} {hook} socket cgroupv2 level {level} \"{path}\" counter name \"{counter}_{key}\"\n"
        )
    };
    format!(
        "table inet {TABLE} {{\ncounter rx_{key} {{\n}}\ncounter tx_{key} {{\n}}\n{}{}}}\n{}{}",
        chain("input"),
        chain("output"),
        rule("input", "rx"),
        rule("output", "tx")
    )
}

/// `rx_ID_MADE`: which way, whose, which.
fn parse(name: &[u8]) -> Option<(bool, u64, u64)> {
    let name = str::from_utf8(name).ok()?;
    let (received, rest) = match name.split_once('_')? {
        ("rx", rest) => (true, rest),
        ("tx", rest) => (false, rest),
        _ => return None,
    };
    let (cgroup, made) = parse_key(rest)?;
    Some((received, cgroup, made))
}

fn parse_key(key: &str) -> Option<(u64, u64)> {
    let (cgroup, made) = key.split_once('_')?;
    Some((cgroup.parse().ok()?, u64::from_str_radix(made, 16).ok()?))
}

/// Makes the counters of a cgroup, a path below the hierarchies, or finds those that are there. Needs `CAP_NET_ADMIN`, in the
/// host's network namespace.
///
/// # Errors
/// [`Error::UnknownCgroup`]; [`Error::Counters`] with what nft or the kernel said.
pub fn attach(hierarchies: &Hierarchies, path: &str) -> Result<Counted, Error> {
    let mount = mount(hierarchies)?;
    check_namespace(hierarchies)?;
    let unknown = || Error::UnknownCgroup { path: format!("{path} of version 2") };
    let directory = hierarchies.unified(path).ok_or_else(unknown)?;
    let cgroup = file::inode(&directory).ok_or_else(unknown)?;
    let mut known = list()?;
    if let Some(index) = known.iter().position(|known| known.cgroup == cgroup) {
        return Ok(known.swap_remove(index));
    }
    let level = directory.strip_prefix(&mount).map_or(0, |path| path.components().count());
    if !(1..=LEVEL_MAX).contains(&level) {
        return Err(said("make", format!("{path} lies too deep, or is the root")));
    }
    // 128 bits that the kernel drew; half of them tell these counters from others.
    let drawn = file::read_once(&hierarchies.root().join("proc/sys/kernel/random/uuid"))?;
    let hex: String = String::from_utf8_lossy(&drawn).chars().filter(char::is_ascii_hexdigit).take(16).collect();
    let made = u64::from_str_radix(&hex, 16).map_err(|_| said("make", "the kernel draws no number"))?;
    let new = Counted { cgroup, made, rx_bytes: 0, tx_bytes: 0 };
    nft("make", &["--file", "-"], &script(&below(&directory)?, level, &new.key()))?;
    Ok(new)
}

/// All counters of ours.
///
/// # Errors
/// [`Error::Counters`]: no right, no nftables in the kernel.
pub fn list() -> Result<Vec<Counted>, Error> {
    let mut found = Vec::new();
    let mut socket = Socket::open(TABLE).map_err(|e| failed("look for")(e.into()))?;
    dump(&mut socket, &mut found).map_err(|e| failed("read")(e.into()))?;
    Ok(found)
}

/// Those that the kernel tells of, in order; no allocation once `found` was as large.
fn dump(socket: &mut Socket, found: &mut Vec<Counted>) -> Result<(), Errno> {
    found.clear();
    socket.dump(|name, bytes| {
        let Some((received, cgroup, made)) = parse(name) else { return };
        let index = found.iter().position(|known| (known.cgroup, known.made) == (cgroup, made));
        let index = index.unwrap_or_else(|| {
            found.push(Counted { cgroup, made, rx_bytes: 0, tx_bytes: 0 });
            found.len() - 1
        });
        if let Some(counted) = found.get_mut(index) {
            *if received { &mut counted.rx_bytes } else { &mut counted.tx_bytes } = bytes;
        }
    })
}

/// Removes the rules and counters of cgroups that are there no more. Nothing is done, and no program run, where there are none.
/// Others may sweep at the same time: what they removed first is removed.
///
/// # Errors
/// [`Error::Counters`] with what nft said; [`Error::NoCgroups`].
pub fn sweep(hierarchies: &Hierarchies) -> Result<(), Error> {
    let mut over = forsaken(hierarchies)?;
    while !over.is_empty() {
        // nft does all of a script or nothing, and nothing where another process was faster with one of its lines.
        match removal(&over).and_then(|script| nft("remove", &["--file", "-"], &script)) {
            Ok(_) => return Ok(()),
            Err(error) => {
                let left = forsaken(hierarchies)?;
                if left == over {
                    return Err(error);
                }
                over = left;
            }
        }
    }
    Ok(())
}

/// The keys of counters whose cgroups are there no more.
fn forsaken(hierarchies: &Hierarchies) -> Result<Vec<String>, Error> {
    let known = list()?;
    if known.is_empty() {
        return Ok(Vec::new());
    }
    let there = ids_below(&mount(hierarchies)?);
    Ok(known.iter().filter(|known| !there.contains(&known.cgroup)).map(Counted::key).collect())
}

/// The script that removes the counters of these keys and the rules that name them.
fn removal(keys: &[String]) -> Result<String, Error> {
    let listed = nft("look for", &["--handle", "list", "table", "inet", TABLE], "")?;
    let mut script = String::new();
    for key in keys {
        for (chain, counter) in [("input", "rx"), ("output", "tx")] {
            let name = format!("{counter}_{key}");
            let of = listed.lines().filter(|line| line.contains(&format!("counter name \"{name}\"")));
            for handle in of.filter_map(|line| line.rsplit_once("# handle ")).map(|(_, handle)| handle.trim()) {
                script += &format!("delete rule inet {TABLE} {chain} handle {handle}\n");
            }
            script += &format!("delete counter inet {TABLE} {name}\n");
        }
    }
    Ok(script)
}

/// The ids of all cgroups below a directory.
fn ids_below(directory: &Path) -> BTreeSet<u64> {
    let (mut ids, mut open) = (BTreeSet::new(), vec![directory.to_owned()]);
    while let Some(directory) = open.pop() {
        ids.extend(file::inode(&directory));
        // One that was removed meanwhile is not there.
        let children = fs::read_dir(&directory).into_iter().flatten().flatten();
        open.extend(
            children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
        );
    }
    ids
}

/// Who reads.
enum By {
    /// This process may.
    Itself(Socket),
    /// Somebody else does, when all is read: that costs a process.
    Asked(Ask),
}

/// The counters as they were read last, for all orders of a tick at once.
pub(crate) struct Reader {
    by: Option<By>,
    ask: Option<Ask>,
    at: Option<At>,
    rest: u8,
    found: Vec<Counted>,
    why: Option<&'static str>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("at", &self.at).field("found", &self.found).finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens nothing until an order needs it.
    pub(crate) fn new() -> Self {
        Self { by: None, ask: None, at: None, rest: 0, found: Vec::new(), why: None }
    }

    /// Where this process may not read, `ask` does.
    pub(crate) fn ask_by(&mut self, ask: Ask) {
        self.ask = Some(ask);
    }

    /// The counters of a cgroup, those made first if there are several. `made` names them where they are known.
    pub(crate) fn of(
        &mut self,
        (cgroup, made): (u64, Option<u64>),
        at: At,
        depth: Depth,
    ) -> Result<Counted, &'static str> {
        self.refresh(at, depth);
        let of = |known: &&Counted| known.cgroup == cgroup && made.is_none_or(|made| made == known.made);
        match (self.found.iter().find(of), self.why) {
            (_, Some(why)) => Err(why),
            (Some(found), None) => Ok(*found),
            (None, None) => Err(UNKNOWN),
        }
    }

    /// The next reading asks anew, also in the same tick: there are counters that it does not know.
    pub(crate) fn look_again(&mut self) {
        self.at = None;
    }

    /// Whether this reading says that the counters are there no more.
    pub(crate) fn is_gone(why: &str) -> bool {
        why == UNKNOWN
    }

    fn refresh(&mut self, at: At, depth: Depth) {
        if self.at == Some(at) {
            return;
        }
        let by = match self.by.take() {
            Some(by) => by,
            None => {
                match Socket::open(TABLE).and_then(|mut socket| dump(&mut socket, &mut self.found).map(|()| socket)) {
                    Ok(socket) => By::Itself(socket),
                    Err(_) => match self.ask.take() {
                        Some(ask) => By::Asked(ask),
                        None => {
                            (self.at, self.why) = (Some(at), Some(NOT_SAID));
                            return;
                        }
                    },
                }
            }
        };
        let mut by = by;
        let first = self.at.is_none();
        match &mut by {
            By::Itself(socket) => {
                self.why = dump(socket, &mut self.found).err().map(|_| "the kernel does not tell the nft counters");
                self.at = Some(at);
            }
            By::Asked(ask) if depth == Depth::All || first => {
                if self.rest > 0 {
                    self.rest -= 1;
                } else {
                    match ask() {
                        Ok(found) => (self.found, self.why) = (found, None),
                        Err(_) => (self.rest, self.why) = (REST_READINGS, Some(NOT_SAID)),
                    }
                }
                self.at = Some(at);
            }
            // What was said last still holds, and is complete when a window or the order ends.
            By::Asked(_) => {}
        }
        self.by = Some(by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_counters_they_are() {
        for (name, want) in [
            ("rx_17_00000000000000ff", Some((true, 17, 255))),
            ("tx_17_ff", Some((false, 17, 255))),
            ("rx_17", None),
            ("rx_x_ff", None),
            ("up_17_ff", None),
            ("", None),
        ] {
            assert_eq!(parse(name.as_bytes()), want, "{name}");
        }
        assert_eq!(parse(b"rx_\xff_1"), None);
    }

    #[test]
    fn who_is_asked_is_asked_once_a_tick_and_rests_after_a_failure() {
        let at = |boot_ns| At { boot_ns, ..At::default() };
        let one = |bytes| Counted { cgroup: 7, made: 1, rx_bytes: bytes, tx_bytes: 0 };
        let mut reader = Reader::new();
        let mut asked = 0_u64;
        reader.by = Some(By::Asked(Box::new(move || {
            asked += 1;
            if asked == 2 { Err("no".to_owned()) } else { Ok(vec![one(asked)]) }
        })));
        assert_eq!(reader.of((7, None), at(1), Depth::Usage), Ok(one(1)), "the first reading asks at once");
        assert_eq!(reader.of((7, Some(1)), at(2), Depth::Usage), Ok(one(1)), "then what was said holds");
        assert_eq!(reader.of((8, None), at(2), Depth::Usage), Err(UNKNOWN));
        assert_eq!(reader.of((7, Some(2)), at(2), Depth::Usage), Err(UNKNOWN), "other counters of the cgroup");
        assert_eq!(reader.of((7, Some(1)), at(3), Depth::All), Err(NOT_SAID));
        for tick in 0..u64::from(REST_READINGS) {
            assert_eq!(reader.of((7, Some(1)), at(4 + tick), Depth::All), Err(NOT_SAID), "{tick}");
        }
        assert_eq!(reader.of((7, Some(1)), at(40), Depth::All), Ok(one(3)));
        assert_eq!(reader.of((7, Some(1)), at(40), Depth::All), Ok(one(3)), "once a tick");
        assert!(!format!("{reader:?}").is_empty());
    }
}
