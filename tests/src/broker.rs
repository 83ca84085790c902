//! A real mosquitto on a port of its own, with or without a memory, that can be killed and started again.

use std::net::{TcpListener, TcpStream};

use crate::{
    program::{self, Daemon},
    wait,
};

/// What the broker keeps when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Sessions and queued messages, on disk.
    Kept,
    /// Nothing.
    None,
}

/// A mosquitto of this test's own.
#[derive(Debug)]
pub struct Mosquitto {
    port: u16,
    folder: tempfile::TempDir,
    running: Option<Daemon>,
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

impl Mosquitto {
    /// A broker on a port that the kernel gave; not started yet.
    pub fn new(memory: Memory) -> Self {
        Self::with(memory, "")
    }

    /// As [`Self::new`], with more lines of its configuration.
    pub fn with(memory: Memory, more: &str) -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Without set_tcp_nodelay every window of messages costs 44 ms. `user` counts only where the test runs as root.
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nuser root\npersistence {}\n\
             persistence_location {}/\nautosave_interval 1\nlog_dest stderr\n{more}",
            memory == Memory::Kept,
            folder.path().display()
        );
        std::fs::write(folder.path().join("mosquitto.conf"), text).expect("the broker's configuration");
        Self { port, folder, running: None }
    }

    /// The port it listens on while it runs.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it and waits until it takes connections.
    pub fn start(&mut self) {
        let mut program = program::command("mosquitto");
        let path = std::env::var("PATH").unwrap_or_default();
        program.env("PATH", format!("{path}:/usr/sbin:/sbin")).arg("-c").arg(self.folder.path().join("mosquitto.conf"));
        let mut daemon = Daemon::start(&mut program, &self.folder.path().join("mosquitto.log"));
        wait::until_true("mosquitto listens", 20, || {
            daemon.must_run();
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
        self.running = Some(daemon);
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.running = None;
    }
}

/// The broker that a test was given: a cluster (scripts/with-nats says where), or else a mosquitto of its own.
#[derive(Debug)]
pub enum Given {
    /// Runs as long as this value lives.
    Mosquitto(Mosquitto),
    /// `HOST:PORT` of all, and the process of the one that may be killed.
    Cluster(String, String),
}

impl Given {
    /// A broker that takes connections.
    pub fn new() -> Self {
        let told = |name: &str| std::env::var(name).ok();
        if let Some(address) = told("HUFU_TEST_BROKER") {
            return Self::Cluster(address, told("HUFU_TEST_BROKER_PID").expect("HUFU_TEST_BROKER_PID beside it"));
        }
        let mut broker = Mosquitto::new(Memory::None);
        broker.start();
        Self::Mosquitto(broker)
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> String {
        match self {
            Self::Mosquitto(broker) => broker.address(),
            Self::Cluster(address, _) => address.clone(),
        }
    }

    /// kill -9 of one of several; of a single one nothing.
    pub fn lose_one(&self) {
        if let Self::Cluster(_, pid) = self {
            program::run(program::command("kill").args(["-s", "KILL", pid])).expect(0);
        }
    }

    /// A client of mosquitto's, for messages as they are: QoS 1, on this broker.
    pub fn client(&self, name: &str) -> std::process::Command {
        let address = self.address();
        let (host, port) = address.rsplit_once(':').expect("HOST:PORT");
        let mut client = program::command(name);
        client.args(["-h", host, "-p", port, "-q", "1"]);
        client
    }
}

impl Default for Given {
    fn default() -> Self {
        Self::new()
    }
}
