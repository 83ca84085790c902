//! Nodes of one house that follow each other: each with its folder, its agent, and what it says of itself and of the others.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::{
    broker::Given,
    house::House,
    program::{self, Daemon, hufu, run},
    wait,
};

/// A node of site s1.
#[derive(Debug)]
pub struct Peer {
    /// `s1/{node}`.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    log: PathBuf,
    agent: Option<Daemon>,
}

impl Peer {
    /// The house's own node or another that sells the same; it follows these. Not started.
    pub fn new(house: &House, broker: &str, node: &str, follow: &[&str]) -> Self {
        let folder = if node == "n1" { "node".to_owned() } else { format!("node-{node}") };
        if node != "n1" {
            house.node(&folder, node, broker, None);
        }
        let dir = house.at(&folder);
        let config = dir.join("hufu.toml");
        let text = fs::read_to_string(&config).expect("a configuration");
        let text = text.replace("[platform]\n", "[platform]\ncompare_s = 1\n");
        let peers = format!("\n[peers]\nfollow = {follow:?}\ncheckpoint_s = 1\n");
        fs::write(config, text + &peers).expect("a configuration");
        Self { name: format!("s1/{node}"), dir, log: house.at(&format!("{node}.log")), agent: None }
    }

    /// From its next start on it tells of its log as before, and asks nobody what it has signed of it; what the broker keeps of that is gone.
    pub fn follow_nobody(&self, broker: &Given) {
        for log in ["trade", "finance"] {
            // Who comes under its name with a clean session takes the place of the one that the broker keeps.
            let own = ["-i", &format!("hufu-{}", self.name.replace('/', "-"))];
            let topic = format!("hufu/v1/{}/ledger/checkpoint-{log}", self.name);
            run(broker.client("mosquitto_pub").args(own).args(["-q", "1", "-r", "-n", "-t", &topic])).expect(0);
        }
        let config = self.dir.join("hufu.toml");
        let text = fs::read_to_string(&config).expect("a configuration");
        let is_list = |line: &str| line.starts_with("follow = ");
        let own = format!("follow = [{:?}]", self.name);
        let lines = text.lines().map(|line| if is_list(line) { own.as_str() } else { line });
        fs::write(config, lines.map(|line| format!("{line}\n")).collect::<String>()).expect("a configuration");
    }

    /// Its configuration.
    pub fn config(&self) -> String {
        self.dir.join("hufu.toml").display().to_string()
    }

    /// Starts its agent and waits until it answers.
    pub fn start(&mut self) {
        let mut command = program::command(program::ours("hufu"));
        command.args(["agent", "--config", &self.config()]);
        let mut agent = Daemon::start(&mut command, &self.log);
        wait::until(&format!("{} answers", self.name), 60, || {
            agent.must_run();
            self.status()
        });
        self.agent = Some(agent);
    }

    /// SIGTERM.
    pub fn stop(&mut self) {
        let mut agent = self.agent.take().expect("it runs");
        assert_eq!(agent.signal("TERM"), 0, "{}", agent.said());
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.agent = None;
    }

    /// Fails the test when its agent has ended by itself.
    pub fn must_run(&mut self) {
        self.agent.as_mut().expect("it was started").must_run();
    }

    /// What its agent says, while it runs.
    pub fn status(&self) -> Option<Value> {
        let ran = hufu(&["status", "--json", "--config", &self.config()]);
        (ran.code == 0).then(|| ran.json())
    }

    /// Blocks of its trade log.
    pub fn size(&self) -> u64 {
        let status = self.status().expect("a status");
        status["logs"]["trade"]["size"].as_str().and_then(|size| size.parse().ok()).expect("a size")
    }

    /// What it says of a node that it follows.
    pub fn of(&self, peer: &str) -> Option<Value> {
        let status = self.status()?;
        status["witnesses"]["peers"].as_array()?.iter().find(|one| one["node"] == peer).cloned()
    }

    /// Blocks that it holds of another's trade log.
    pub fn held(&self, peer: &str) -> u64 {
        let held = self.of(peer).and_then(|one| one["trade"].as_str()?.parse().ok());
        held.unwrap_or(0)
    }

    /// The fork proofs that it holds, octet for octet.
    pub fn forks(&self) -> Vec<Vec<u8>> {
        let status = self.status().unwrap_or_default();
        let files = status["witnesses"]["forks"].as_array().cloned().unwrap_or_default();
        let read = |fork: &Value| fs::read(fork["file"].as_str().expect("a path")).expect("a file");
        let mut proofs: Vec<Vec<u8>> = files.iter().map(read).collect();
        proofs.sort_unstable();
        proofs
    }

    /// Memory of its agent that is resident, KiB.
    pub fn resident_kib(&self) -> u64 {
        resident_kib(self.agent.as_ref().expect("it runs"))
    }
}

/// Memory of a process that is resident, KiB.
pub fn resident_kib(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
