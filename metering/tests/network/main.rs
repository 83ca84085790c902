//! Traffic counters against the truth of this machine: own cgroups, own network namespaces with veth, fixed transfers. Where the
//! kernel or the rights forbid it, the reason is printed and the test passes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod nft;
mod orders;
mod setup;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    process::{Command, Stdio},
};

use hufu_metering::{
    Error,
    counters::{self, Counters, Traffic},
    net::{Boundary, Interface, Side},
};

use crate::setup::{
    FRAME_BYTES, HEADERS_BYTES, Net, PAYLOAD_BYTES, Peer, SYN_BYTES, attach, ip, ip_bytes, own, transfer,
};

/// Transfers until one must have come through in order.
const TRANSFERS_MAX: u32 = 8;

fn ids(directory: &Path) -> (u32, Traffic) {
    let counters = Counters::map(counters::attach(directory).unwrap()).unwrap();
    (counters.id(), counters.read())
}

#[test]
fn a_transfer_is_counted_to_the_byte_by_the_formula_of_its_headers() {
    let (Some(own), Some(net)) = (own("formula"), Net::make()) else { return };
    let counters = attach(&own);
    let mut before = counters.read();
    assert_eq!(before, Traffic::default());
    for _ in 0..TRANSFERS_MAX {
        let sent = transfer(&own, &net);
        let now = counters.read();
        let (tx_bytes, tx_packets) = (now.tx_bytes - before.tx_bytes, now.tx_packets - before.tx_packets);
        let (rx_bytes, rx_packets) = (now.rx_bytes - before.rx_bytes, now.rx_packets - before.rx_packets);
        println!("{tx_bytes} in {tx_packets}, {rx_bytes} in {rx_packets}, sent {sent}");
        println!("{} ppm above it", (tx_bytes - sent) * 1_000_000 / sent);
        assert_eq!(tx_bytes, ip_bytes(sent, tx_packets));
        // Acknowledgements tell of holes, too (RFC 2018), where something was lost or overtaken: then once more.
        if sent == PAYLOAD_BYTES && rx_bytes == ip_bytes(0, rx_packets) {
            return;
        }
        before = now;
    }
    panic!("no transfer of {TRANSFERS_MAX} is counted to the byte in both directions");
}

#[test]
fn counters_equal_those_of_nft_on_the_same_hook_and_differ_from_the_wire_by_what_is_documented() {
    let (Some(own), Some(net)) = (own("nft"), Net::make()) else { return };
    let table = format!("hufu_test_{}", std::process::id());
    // nft looks for the path below /sys/fs/cgroup wherever version 2 is mounted; the level counts from the hierarchy's root.
    let path = own.directory.strip_prefix("/sys/fs/cgroup").unwrap().display().to_string();
    let rules = format!(
        "table inet {table} {{
           counter rx {{ }}
           counter tx {{ }}
           chain input {{
             type filter hook input priority 0
             socket cgroupv2 level 2 \"{path}\" counter name rx
           }}
           chain output {{
             type filter hook output priority 0
             socket cgroupv2 level 2 \"{path}\" counter name tx
           }}
         }}"
    );
    let loaded = Command::new("nft").arg(&rules).status();
    if !loaded.is_ok_and(|status| status.success()) {
        println!("skipped: nft cannot match cgroups here");
        return;
    }
    let counters = attach(&own);
    let before = net.sent();
    transfer(&own, &net);
    let (found, after) = (counters.read(), net.sent());
    let listed = Command::new("nft").args(["-j", "list", "counters", "table", "inet", &table]).output().unwrap();
    Command::new("nft").args(["delete", "table", "inet", &table]).status().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let number = |name: &str, key: &str| -> u64 {
        let rest = text.split(&format!("\"name\": \"{name}\"")).nth(1).unwrap();
        let rest = rest.split(&format!("\"{key}\": ")).nth(1).unwrap();
        rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    let wire = (after.0 - before.0, after.1 - before.1);
    println!("attached {found:?}; nft {text}; interface sent {wire:?}");
    assert_eq!((found.tx_bytes, found.tx_packets), (number("tx", "bytes"), number("tx", "packets")));
    assert_eq!((found.rx_bytes, found.rx_packets), (number("rx", "bytes"), number("rx", "packets")));
    // The interface adds a frame's header to each packet, and carries ARP besides: at most a few frames of 42 bytes.
    let other = wire.0 - found.tx_bytes - found.tx_packets * FRAME_BYTES;
    assert!(wire.1 - found.tx_packets <= 6 && other <= 6 * 42 + 6 * 60, "{other} bytes besides");
}

#[test]
fn the_wire_carries_more_by_the_headers_of_the_packets_that_it_is_cut_into() {
    let (Some(own), Some(net)) = (own("wire"), Net::make()) else { return };
    // As a card does it: the stack cuts large packets behind the cgroup's hook, and each frame is counted.
    let cut = Command::new("ethtool").args(["-K", &net.veth, "tso", "off"]).status();
    if !cut.is_ok_and(|status| status.success()) {
        println!("skipped: no ethtool");
        return;
    }
    let counters = attach(&own);
    let before = net.sent();
    let sent = transfer(&own, &net);
    let (found, after) = (counters.read(), net.sent());
    let (bytes, frames) = (after.0 - before.0, after.1 - before.1);
    println!(
        "payload {sent}, attached {} in {} packets, wire {bytes} in {frames} frames: {} ppm more",
        found.tx_bytes,
        found.tx_packets,
        (bytes - found.tx_bytes) * 1_000_000 / found.tx_bytes
    );
    let wire = sent + frames * (HEADERS_BYTES + FRAME_BYTES) + SYN_BYTES;
    // ARP's frames are 42 bytes long.
    assert!(bytes.abs_diff(wire) <= 6 * (HEADERS_BYTES + FRAME_BYTES), "{bytes}, not {wire}");
    assert!(frames >= sent / 1448 && found.tx_packets < frames, "{frames} frames, {} packets", found.tx_packets);
}

#[test]
fn an_interface_at_the_hosts_side_counts_what_the_order_sends_to_a_thousandth() {
    let Some(net) = Net::make() else { return };
    let interface = |name: &str, side, netns_pid| Interface { name: name.to_owned(), side, netns_pid };
    let host = Boundary::interface(Path::new("/"), interface(&net.veth, Side::Host, None)).unwrap();
    // The order in the namespace sends to the host.
    let mut listener = Peer::start(None, "listen", &net.host, 0, &[]);
    let port = listener.line().strip_prefix("ready ").unwrap().parse().unwrap();
    let mut sender = Peer::start(Some(&net.name), "send", &net.host, port, &[]);
    assert_eq!(sender.line(), "ready");
    let inside = interface("eth0", Side::Order, Some(sender.child.id()));
    let inside = Boundary::interface(Path::new("/"), inside).unwrap();
    let before = (look(&host), look(&inside));
    sender.go();
    sender.line();
    listener.line();
    let after = (look(&host), look(&inside));
    listener.end();
    sender.end();
    let sent = |(before, after): ((u64, u64), (u64, u64))| after.1 - before.1;
    let (host_sent, inside_sent) = (sent((before.0, after.0)), sent((before.1, after.1)));
    println!("payload {PAYLOAD_BYTES}, host side {host_sent}, in the namespace {inside_sent}");
    assert!(host_sent > PAYLOAD_BYTES, "{host_sent}");
    assert!(host_sent.abs_diff(inside_sent) * 1000 <= inside_sent, "{host_sent} against {inside_sent}");
    // A process that ended counts nothing, whoever has its number now.
    assert!(inside.look().is_err());
}

fn look(boundary: &Boundary) -> (u64, u64) {
    boundary.look().unwrap()
}

#[test]
fn an_interface_that_vanished_is_missing_and_its_successor_another_one() {
    let Some(net) = Net::make() else { return };
    let interface = Interface { name: net.veth.clone(), side: Side::Host, netns_pid: None };
    let first = Boundary::interface(Path::new("/"), interface.clone()).unwrap();
    look(&first);
    assert!(ip(&format!("link del {}", net.veth)));
    assert_eq!(first.look(), Err("the order's network interface is gone"));
    let absent = Boundary::interface(Path::new("/"), interface.clone());
    assert!(matches!(absent, Err(Error::BadInterface { .. })), "{absent:?}");
    net.plug();
    assert!(first.look().is_err(), "an open file never reads the successor");
    let second = Boundary::interface(Path::new("/"), interface.clone()).unwrap();
    look(&second);
    assert_ne!(first.identity().instance, second.identity().instance);
    assert_eq!(first.identity().path, second.identity().path);
}

/// Not a test by itself: the process that attaches and is killed, started by the test below.
#[test]
fn attaches_and_waits_to_be_killed() {
    let Some(directory) = std::env::var_os("HUFU_TEST_ATTACH") else { return };
    let (id, _) = ids(Path::new(&directory));
    println!("attached {id}");
    std::io::stdout().flush().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(600));
}

#[test]
fn the_counting_goes_on_when_the_process_that_attached_is_killed_and_is_found_again() {
    let (Some(own), Some(net)) = (own("killed"), Net::make()) else { return };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "attaches_and_waits_to_be_killed", "--nocapture"])
        .env("HUFU_TEST_ATTACH", &own.directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.map(Result::unwrap).find_map(|line| line.split("attached ").nth(1).map(str::to_owned));
    let first: u32 = said.unwrap().trim().parse().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let sent = transfer(&own, &net);
    let (second, found) = ids(&own.directory);
    assert_eq!((second, found.tx_bytes), (first, ip_bytes(sent, found.tx_packets)));
    let sent = sent + transfer(&own, &net);
    let (third, found) = ids(&own.directory);
    let twice = sent + found.tx_packets * HEADERS_BYTES + 2 * SYN_BYTES;
    assert_eq!((third, found.tx_bytes), (first, twice));
}

#[test]
fn many_who_attach_at_once_agree_on_one_pair_and_leave_no_descriptor() {
    let (Some(own), Some(net)) = (own("many"), Net::make()) else { return };
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let mut found: Vec<u32> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| (0..25).map(|_| ids(&own.directory).0).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 1, "{found:?}");
    // Other tests of this process open some meanwhile.
    assert!(descriptors() < before + 60, "{before} descriptors before, {} after", descriptors());
    let counters = attach(&own);
    let sent = transfer(&own, &net);
    let found = counters.read();
    assert_eq!(found.tx_bytes, ip_bytes(sent, found.tx_packets), "each packet counts once");
    counters::detach(&own.directory).unwrap();
    let again = attach(&own);
    assert_ne!(again.id(), counters.id(), "taken off, and new ones put on");
    counters::detach(&own.directory).unwrap();
}

#[test]
fn counters_die_with_their_cgroup_and_the_last_reading_stays() {
    let (Some(own), Some(net)) = (own("ends"), Net::make()) else { return };
    let counters = attach(&own);
    transfer(&own, &net);
    let last = counters.read();
    own.place.remove().unwrap();
    assert_eq!(counters.read(), last);
    assert!(matches!(counters::attach(&own.directory), Err(Error::Counters { .. })));
    counters::detach(&own.directory).unwrap();
}

#[test]
fn what_is_no_counter_map_is_refused_before_it_is_read() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1).unwrap();
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    for (name, fd) in [("file", OwnedFd::from(file)), ("socket", socket.into()), ("device", null.into())] {
        assert!(matches!(Counters::map(fd), Err(Error::NotCounters { .. })), "{name}");
    }
    for path in ["/proc/self", "/etc", "/nowhere"] {
        assert!(matches!(counters::attach(Path::new(path)), Err(Error::Counters { .. })), "{path}");
    }
}

#[test]
fn the_map_that_is_handed_out_cannot_be_written() {
    let Some(own) = own("frozen") else { return };
    let fd = counters::attach(&own.directory).unwrap();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
    assert!(info.lines().any(|line| line == "frozen:\t1"), "{info}");
}
