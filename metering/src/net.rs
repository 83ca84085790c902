//! The traffic of one order at one named boundary: counters attached to its cgroup (`counters.rs`, `nft.rs`), or the network interface
//! that is its only way out. Which of them an order has, its plan says; what the numbers add up to is `usage.rs`.
//!
//! Both count from the order's side: `net_rx` is what it receives. The two differ: a cgroup's counters see IP packets at the
//! host's stack, before they are cut into frames; an interface sees frames.

use std::path::{Path, PathBuf};

use hufu_trade::{resource::Kind, usage::SourceIdentity};

use crate::{
    Error,
    bpf::Counters,
    cgroup::Depth,
    counters,
    file::{self, Kept, Text},
    hierarchy::Hierarchies,
    nft,
    order::Context,
    plan::{Network, Plan},
    process,
    sample::{At, Raw, Sample, Target},
};

/// Longest name of an interface, bytes: the kernel's IFNAMSIZ without its end.
const NAME_BYTES_MAX: usize = 15;
const GONE: &str = "the order's network interface is gone";
const ENDED: &str = "the process in the order's network namespace has ended";

/// The source name of counters attached to a cgroup.
pub const CGROUP_SKB: &str = "cgroup-skb";
/// The source name of counters in nftables that match a cgroup.
pub const NFT: &str = "nft-cgroup";
/// The source name of an interface's counters.
pub const INTERFACE: &str = "interface";

/// What offers call traffic that is counted at the order's cgroup.
pub const CGROUP_SOURCE: &str = "cgroup_skb: IP bytes at the host stack";
/// What offers call traffic that is counted at the order's cgroup by nftables, where the kernel attaches no counters to cgroups.
pub const NFT_SOURCE: &str = "nft socket cgroupv2: IP bytes at the host stack";
/// What offers call traffic that is counted at an interface which the site names for each order.
pub const INTERFACE_SOURCE: &str = "interface: bytes of Ethernet frames at the order's interface";

/// The source of orders' traffic that this process can provide by itself, or why there is none.
pub(crate) fn source(hierarchies: &Hierarchies) -> Result<String, String> {
    if hierarchies.root() != Path::new("/") {
        return Err("the kernel is asked on a running host only".to_owned());
    }
    at_cgroups(hierarchies).map(str::to_owned).map_err(|e| e.to_string())
}

/// What offers call traffic counted at cgroups by this process: by counters attached to them, else by nftables.
///
/// # Errors
/// Why neither can be had: of the attached ones, since those are what a site should mend.
pub fn at_cgroups(hierarchies: &Hierarchies) -> Result<&'static str, Error> {
    match counters::available(hierarchies) {
        Ok(()) => Ok(CGROUP_SOURCE),
        Err(error) => nft::available(hierarchies).map(|()| NFT_SOURCE).map_err(|_| error),
    }
}

/// Which end of the order's way out a named interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The host's end, a veth's: what it receives the order sent.
    Host,
    /// The order's own interface.
    Order,
}

impl Side {
    /// As identities and answers say it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Order => "order",
        }
    }
}

/// A named interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whose end it is.
    pub side: Side,
    /// A process in the network namespace that it is in, where that is not the agent's own.
    pub netns_pid: Option<u32>,
}

impl Interface {
    /// Whether the name is one that an interface can have and no path can be made of.
    ///
    /// # Errors
    /// [`Error::BadInterface`].
    pub fn check(&self) -> Result<(), Error> {
        let good = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':');
        let name = self.name.as_bytes();
        let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.iter().copied().all(good);
        if !fits || self.name == "." || self.name == ".." {
            let name = self.name.chars().take(80).collect();
            return Err(Error::BadInterface { name, why: "1 to 15 printable characters expected".to_owned() });
        }
        Ok(())
    }

    fn bad(&self, why: impl Into<String>) -> Error {
        Error::BadInterface { name: self.name.clone(), why: why.into() }
    }

    /// From the order's side: what it received, what it sent.
    fn turn(&self, (received, sent): (u64, u64)) -> (u64, u64) {
        match self.side {
            Side::Order => (received, sent),
            Side::Host => (sent, received),
        }
    }
}

/// Where the numbers come from.
#[derive(Debug)]
enum From {
    /// Counters in the kernel.
    Cgroup(Counters),
    /// Counters in nftables: which cgroup, and which of them.
    Nft { cgroup: u64, made: u64 },
    /// Files of an interface in this network namespace.
    Sysfs { interface: Interface, received: Kept, sent: Kept },
    /// `net/dev` of a process in another one.
    Dev { interface: Interface, proc: PathBuf, pid: u32, starttime: u64 },
}

/// The source of an order's traffic.
#[derive(Debug)]
pub struct Boundary {
    from: From,
    identity: SourceIdentity,
    is_gone: bool,
    /// Where a card tells how fast its link is.
    speed: Option<Kept>,
    /// The fastest that its link was since it was opened, bytes a second.
    most_bytes_s: Option<u64>,
}

impl Boundary {
    /// Opens the boundary that a plan names: its cgroup's counters as they were handed over, or, where this process may, by
    /// attaching or finding them itself.
    pub(crate) fn open(network: &Network, plan: &Plan, context: &mut Context<'_>) -> Result<Self, Error> {
        let (name, host_side, netns_pid) = match network {
            Network::Cgroup => {
                let Target::Cgroup { path } = &plan.target else {
                    return Err(Error::NotMetered { what: "network of an order without a cgroup" });
                };
                if let Some(index) = context.handed.iter().position(|(of, _)| of == path) {
                    return Ok(Self::cgroup(path, context.handed.swap_remove(index).1));
                }
                let unknown = || Error::UnknownCgroup { path: format!("{path} of version 2") };
                let directory = context.hierarchies.unified(path).ok_or_else(unknown)?;
                return match counters::attach(&directory) {
                    Ok(fd) => Ok(Self::cgroup(path, Counters::map(fd)?)),
                    // Only where no cgroup of this machine can have any: offers name one of the two.
                    Err(error) if counters::available(context.hierarchies).is_ok() => Err(error),
                    Err(error) => Self::nft(path, &directory, context).ok_or(error),
                };
            }
            Network::Interface { name, host_side, netns_pid } => (name.clone(), *host_side, *netns_pid),
        };
        let side = if host_side { Side::Host } else { Side::Order };
        Self::interface(context.root, Interface { name, side, netns_pid })
    }

    /// The counters attached to the cgroup at `path` below its hierarchy.
    pub fn cgroup(path: &str, counters: Counters) -> Self {
        let instance = u64::from(counters.id());
        Self::of(From::Cgroup(counters), CGROUP_SKB, path.to_owned(), instance)
    }

    /// Counters in nftables: made or found by this process, or told by whoever may read them.
    fn nft(path: &str, directory: &Path, context: &mut Context<'_>) -> Option<Self> {
        let found = match nft::attach(context.hierarchies, path) {
            Ok(found) => {
                context.nft.look_again();
                found
            }
            Err(_) => context.nft.of((file::inode(directory)?, None), context.at, context.depth).ok()?,
        };
        let nft::Counted { cgroup, made, .. } = found;
        Some(Self::of(From::Nft { cgroup, made }, NFT, path.to_owned(), made))
    }

    fn of(from: From, source: &str, path: String, instance: u64) -> Self {
        let identity = SourceIdentity { source: source.to_owned(), path, instance };
        Self { from, identity, is_gone: false, speed: None, most_bytes_s: None }
    }

    /// An interface below `root` (`/` on a real host).
    ///
    /// # Errors
    /// [`Error::BadInterface`] when there is none of the name, or it cannot be read; [`Error::UnknownProcess`].
    pub fn interface(root: &Path, interface: Interface) -> Result<Self, Error> {
        interface.check()?;
        match interface.netns_pid {
            None => Self::sysfs(root, interface),
            Some(pid) => Self::dev(root, interface, pid),
        }
    }

    fn sysfs(root: &Path, interface: Interface) -> Result<Self, Error> {
        let directory = root.join("sys/class/net").join(&interface.name);
        let number = |name: &str| file::read_once(&directory.join(name)).ok().and_then(|text| file::single(&text));
        let Some(index) = number("ifindex") else { return Err(interface.bad("there is none of this name")) };
        // The other end of a pair: a recreated pair of the same name and index has another one.
        let link = number("iflink").unwrap_or(index);
        let open = |name: &str| {
            let kept = Kept::open(&directory.join("statistics").join(name))?;
            kept.ok_or_else(|| interface.bad("it has no statistics"))
        };
        let (received, sent) = (open("rx_bytes")?, open("tx_bytes")?);
        let path = format!("{} ({} side)", interface.name, interface.side.word());
        let instance = link << 32 | index & 0xffff_ffff;
        let mut found = Self::of(From::Sysfs { interface, received, sent }, INTERFACE, path, instance);
        // Software devices tell a speed, too, that limits nothing.
        if directory.join("device").exists() {
            found.speed = Kept::open(&directory.join("speed"))?;
            found.look_at_link(&mut vec![0; file::BUFFER_BYTES]);
        }
        Ok(found)
    }

    fn dev(root: &Path, interface: Interface, pid: u32) -> Result<Self, Error> {
        let proc = root.join("proc");
        let starttime = process::starttime(&proc, pid).ok_or(Error::UnknownProcess { pid })?;
        let path = format!("{} ({} side) in the network of process {pid}", interface.name, interface.side.word());
        let bad = interface.clone();
        let found = Self::of(From::Dev { interface, proc, pid, starttime }, INTERFACE, path, starttime);
        found.look().map_err(|why| bad.bad(why))?;
        Ok(found)
    }

    /// Whose counters these are: of attached ones the map's id, of nftables' a number drawn when they were made, of an interface its index and its link's, of one in another
    /// namespace the start of the process in it.
    pub fn identity(&self) -> SourceIdentity {
        self.identity.clone()
    }

    /// Asks the card for the speed of its link, which may be negotiated anew; without a link it does not tell.
    fn look_at_link(&mut self, buffer: &mut [u8]) {
        let text = self.speed.as_ref().map(|speed| speed.read(buffer));
        let Some(Text::Bytes(text)) = text else { return };
        // Megabits a second; -1 where it is not known.
        let speed = file::single(text).and_then(|megabits| megabits.checked_mul(125_000)).filter(|speed| *speed > 0);
        self.most_bytes_s = self.most_bytes_s.max(speed);
    }

    /// The most bytes a second that either direction can have carried, where a link limits it.
    pub(crate) fn most_bytes_s(&self) -> Option<u64> {
        self.most_bytes_s
    }

    /// True once the interface, or the process in its namespace, exists no more.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// What the order received and sent since the counters' birth, bytes.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn look(&self) -> Result<(u64, u64), &'static str> {
        let mut nft = nft::Reader::new();
        self.traffic(&mut vec![0; file::BUFFER_BYTES], (&mut nft, At::default(), Depth::All))
    }

    /// Reads into `net_rx` and `net_tx`; no allocation for a cgroup or an interface in this namespace.
    pub(crate) fn read(&mut self, buffer: &mut [u8], nft: (&mut nft::Reader, At, Depth), sample: &mut Sample) {
        if nft.2 == Depth::All {
            self.look_at_link(buffer);
        }
        let found = self.traffic(buffer, nft);
        self.is_gone = found.is_err_and(|why| matches!(why, GONE | ENDED) || nft::Reader::is_gone(why));
        let of = |value: fn((u64, u64)) -> u64| match found {
            Ok(found) => Raw::Value(value(found)),
            Err(why) => Raw::Missing(why),
        };
        sample.set(Kind::NetRx, of(|(received, _)| received));
        sample.set(Kind::NetTx, of(|(_, sent)| sent));
    }

    fn traffic(
        &self,
        buffer: &mut [u8],
        (nft, at, depth): (&mut nft::Reader, At, Depth),
    ) -> Result<(u64, u64), &'static str> {
        match &self.from {
            From::Nft { cgroup, made } => {
                nft.of((*cgroup, Some(*made)), at, depth).map(|found| (found.rx_bytes, found.tx_bytes))
            }
            From::Cgroup(counters) => {
                let traffic = counters.read();
                Ok((traffic.rx_bytes, traffic.tx_bytes))
            }
            From::Sysfs { interface, received, sent } => {
                Ok(interface.turn((single(received, buffer)?, single(sent, buffer)?)))
            }
            From::Dev { interface, proc, pid, starttime } => {
                if process::starttime(proc, *pid) != Some(*starttime) {
                    return Err(ENDED);
                }
                let path = proc.join(pid.to_string()).join("net/dev");
                // Not kept open: that would keep the namespace alive after the order's end.
                let kept = Kept::open(&path).ok().flatten().ok_or(ENDED)?;
                match kept.read_lines(buffer) {
                    Text::Bytes(text) => {
                        dev_line(text, interface.name.as_bytes()).map(|found| interface.turn(found)).ok_or(GONE)
                    }
                    Text::Gone => Err(ENDED),
                    Text::Missing(why) => Err(why),
                }
            }
        }
    }
}

fn single(kept: &Kept, buffer: &mut [u8]) -> Result<u64, &'static str> {
    match kept.read(buffer) {
        Text::Bytes(text) => file::single(text).ok_or("the interface's counter holds unexpected text"),
        Text::Gone => Err(GONE),
        Text::Missing(why) => Err(why),
    }
}

/// Bytes received and sent of an interface in `/proc/net/dev`: `name: bytes packets errs drop fifo frame compressed multicast
/// bytes ..`.
fn dev_line(text: &[u8], name: &[u8]) -> Option<(u64, u64)> {
    file::lines(text).find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (found, rest) = line.split_at_checked(colon)?;
        if found.trim_ascii() != name {
            return None;
        }
        let mut words = file::words(rest.get(1..)?);
        Some((file::number(words.next()?)?, file::number(words.nth(7)?)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str) -> Interface {
        Interface { name: name.to_owned(), side: Side::Host, netns_pid: None }
    }

    #[test]
    fn names_of_interfaces_are_no_paths() {
        for (name, good) in [
            ("veth0", true),
            ("br-1.100@x", true),
            ("fifteen-bytes-x", true),
            ("sixteen-bytes-xy", false),
            ("", false),
            (".", false),
            ("..", false),
            ("a/b", false),
            ("a b", false),
            ("a:1", false),
            ("\u{4e2d}", false),
            ("a\n", false),
        ] {
            assert_eq!(interface(name).check().is_ok(), good, "{name:?}");
        }
    }

    #[test]
    fn net_dev_is_read_by_name_or_not_at_all() {
        let text = b"Inter-|   Receive  |  Transmit\n face |bytes packets|bytes\n    lo: 5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n eth10:9 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0\neth1: x\n";
        for (name, want) in [("lo", Some((5, 6))), ("eth10", Some((9, 8))), ("eth1", None), ("eth", None), ("", None)] {
            assert_eq!(dev_line(text, name.as_bytes()), want, "{name}");
        }
    }

    #[test]
    fn files_that_hold_garbage_are_missing_readings() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("sys/class/net/veth0");
        std::fs::create_dir_all(directory.join("statistics")).unwrap();
        assert!(matches!(Boundary::interface(root.path(), interface("veth0")), Err(Error::BadInterface { .. })));
        for (name, text) in
            [("ifindex", "7\n"), ("iflink", "8\n"), ("speed", "10000\n"), ("statistics/rx_bytes", "10\n")]
        {
            std::fs::write(directory.join(name), text).unwrap();
        }
        assert!(Boundary::interface(root.path(), interface("veth0")).is_err(), "no tx_bytes");
        std::fs::write(directory.join("statistics/tx_bytes"), "-3\n").unwrap();
        let mut found = Boundary::interface(root.path(), interface("veth0")).unwrap();
        let SourceIdentity { source, path, instance } = found.identity();
        assert_eq!((source.as_str(), path.as_str(), instance), (INTERFACE, "veth0 (host side)", 8 << 32 | 7));
        let mut sample = Sample::default();
        let (mut buffer, mut nft) = (vec![0; file::BUFFER_BYTES], nft::Reader::new());
        found.read(&mut buffer, (&mut nft, At::default(), Depth::Usage), &mut sample);
        assert_eq!(sample.of(Kind::NetTx), Raw::Missing("the interface's counter holds unexpected text"));
        std::fs::write(directory.join("statistics/tx_bytes"), "3\n").unwrap();
        found.read(&mut buffer, (&mut nft, At::default(), Depth::Usage), &mut sample);
        assert_eq!((sample.of(Kind::NetRx), sample.of(Kind::NetTx)), (Raw::Value(3), Raw::Value(10)));
    }
}
