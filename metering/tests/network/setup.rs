//! What the tests of traffic need: processes that send and receive, a network namespace with a veth, a place with counters.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use hufu_metering::{
    Place,
    counters::{self, Counters},
    hierarchy::Hierarchies,
};

pub(crate) const PAYLOAD_BYTES: u64 = 10_000_000;
/// IPv4 header and TCP header with time stamps.
pub(crate) const HEADERS_BYTES: u64 = 20 + 32;
/// Of SYN and SYN-ACK: options of 20 bytes and not of 12.
pub(crate) const SYN_BYTES: u64 = 8;
/// Ethernet.
pub(crate) const FRAME_BYTES: u64 = 14;

/// Enters the cgroups behind the port, then sends or receives so many bytes, and says when it is done.
pub(crate) const WORK: &str = r#"
import socket, sys
job, address, port, size, procs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]
for name in procs:
    with open(name, "w") as f: f.write("0")
if job == "listen":
    server = socket.create_server((address, port))
    print("ready", server.getsockname()[1], flush=True)
    peer, _ = server.accept()
    seen = 0
    while True:
        part = peer.recv(1 << 16)
        if not part: break
        seen += len(part)
    peer.close()
    print("seen", seen, flush=True)
else:
    print("ready", flush=True)
    sys.stdin.readline()
    out = socket.create_connection((address, port))
    block, left = bytes(1 << 16), size
    while left:
        left -= out.send(block[:min(left, len(block))])
    out.shutdown(socket.SHUT_WR)
    out.recv(1)
    # bytes_retrans of struct tcp_info: a busy machine sends some twice, and they count twice.
    again = int.from_bytes(out.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)[208:216], sys.byteorder)
    out.close()
    print("sent", size, "again", again, flush=True)
sys.stdin.readline()
"#;

pub(crate) struct Peer {
    pub(crate) child: Child,
    pub(crate) out: BufReader<std::process::ChildStdout>,
}

impl Peer {
    pub(crate) fn start(netns: Option<&str>, job: &str, address: &str, port: u16, procs_files: &[PathBuf]) -> Self {
        let mut command = Command::new(if netns.is_some() { "ip" } else { "python3" });
        if let Some(netns) = netns {
            command.args(["netns", "exec", netns, "python3"]);
        }
        command.args(["-c", WORK, job, address, &port.to_string(), &PAYLOAD_BYTES.to_string()]);
        let mut child = command.args(procs_files).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    pub(crate) fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    pub(crate) fn end(mut self) {
        self.go();
        assert!(self.child.wait().unwrap().success());
    }
}

/// A network namespace of this test alone, joined to the host's by a veth, and taken away at the end.
pub(crate) struct Net {
    pub(crate) name: String,
    pub(crate) veth: String,
    pub(crate) host: String,
    pub(crate) order: String,
}

impl Drop for Net {
    fn drop(&mut self) {
        Command::new("ip").args(["link", "del", &self.veth]).stderr(Stdio::null()).status().ok();
        Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status().ok();
    }
}

pub(crate) fn ip(words: &str) -> bool {
    Command::new("ip").args(words.split(' ')).status().is_ok_and(|status| status.success())
}

impl Net {
    pub(crate) fn make() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id() % 100_000;
        let name = format!("hufu-{id}-{number}");
        let (a, b) = (id / 250 % 250, id % 250);
        let (host, order) =
            (format!("10.{}.{b}.1", 100 + a % 100 + number), format!("10.{}.{b}.2", 100 + a % 100 + number));
        let net = Self { veth: format!("hf{id}x{number}"), name, host, order };
        if !ip(&format!("netns add {}", net.name)) {
            println!("skipped: no network namespace can be made");
            return None;
        }
        net.plug();
        Some(net)
    }

    /// Bytes and frames that the host's end sent.
    pub(crate) fn sent(&self) -> (u64, u64) {
        let count = |file: &str| {
            let path = format!("/sys/class/net/{}/statistics/{file}", self.veth);
            fs::read_to_string(path).unwrap().trim().parse().unwrap()
        };
        (count("tx_bytes"), count("tx_packets"))
    }

    pub(crate) fn plug(&self) {
        let Self { name, veth, host, order } = self;
        for words in [
            format!("link add {veth} type veth peer name eth0 netns {name}"),
            format!("addr add {host}/24 dev {veth}"),
            format!("link set {veth} up"),
            format!("-n {name} addr add {order}/24 dev eth0"),
            format!("-n {name} link set eth0 up"),
        ] {
            assert!(ip(&words), "ip {words}");
        }
        // Silence: router solicitations and duplicate address detection are traffic, too.
        fs::write(format!("/proc/sys/net/ipv6/conf/{veth}/disable_ipv6"), "1").ok();
        Command::new("ip")
            .args(["netns", "exec", name, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6"])
            .stderr(Stdio::null())
            .status()
            .ok();
    }
}

/// A place of this test alone and its directory in version 2, where counters can be attached.
pub(crate) struct Own {
    pub(crate) place: Place,
    pub(crate) directory: PathBuf,
}

impl Drop for Own {
    fn drop(&mut self) {
        self.place.remove().ok();
        self.place.remove_parents();
    }
}

pub(crate) const PARENT: &str = "hufu-metering-net-test";

pub(crate) fn own(name: &str) -> Option<Own> {
    let hierarchies = Hierarchies::detect(Path::new("/")).unwrap();
    let name = format!("{name}-{}", std::process::id());
    let place = match Place::make(&hierarchies, PARENT, &name) {
        Ok(place) => place,
        Err(error) => {
            println!("skipped: {error}");
            return None;
        }
    };
    let directory = hierarchies.unified(&format!("{PARENT}/{name}"));
    let Some(directory) = directory else {
        println!("skipped: no version 2 hierarchy");
        place.remove().unwrap();
        return None;
    };
    let own = Own { place, directory };
    match counters::probe(&own.directory) {
        Ok(()) => Some(own),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

pub(crate) fn attach(own: &Own) -> Counters {
    Counters::map(counters::attach(&own.directory).unwrap()).unwrap()
}

/// Sends the payload from the place, over the veth, into the namespace. What was sent, with what was sent twice.
pub(crate) fn transfer(own: &Own, net: &Net) -> u64 {
    let mut listener = Peer::start(Some(&net.name), "listen", &net.order, 0, &[]);
    let ready = listener.line();
    let port = ready.strip_prefix("ready ").unwrap().parse().unwrap();
    let mut sender = Peer::start(None, "send", &net.order, port, &own.place.procs_files);
    assert_eq!(sender.line(), "ready");
    sender.go();
    let said = sender.line();
    let again = said.strip_prefix(&format!("sent {PAYLOAD_BYTES} again ")).and_then(|again| again.parse::<u64>().ok());
    assert_eq!(listener.line(), format!("seen {PAYLOAD_BYTES}"));
    sender.end();
    listener.end();
    PAYLOAD_BYTES + again.unwrap()
}

/// What a connection of this many packets carries on IP.
pub(crate) fn ip_bytes(payload: u64, packets: u64) -> u64 {
    payload + packets * HEADERS_BYTES + SYN_BYTES
}
