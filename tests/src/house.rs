//! A whole small house in one temporary folder: test PKI, a node, the platform, a buyer. Everything is made with the
//! programs' own commands, as the README tells a person to.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    program::{self, Daemon, Ran, hufu},
    wait,
};

/// The node's name in topics.
pub const NODE: &str = "s1/n1";
/// The product on sale.
pub const PRODUCT: &str = "small";

/// Starts the buyer's workload in its place on `start`, or lets it go on; stops it for a while on `suspend`, ends it on `stop`;
/// asked again it gives the same answer.
const PROVISION: &str = r#"#!/bin/sh
request=$(cat)
folder=$(dirname "$0")
field() { printf %s "$request" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
no=$(field contract_no)
pid=$(cat "$folder/$no.pid" 2> /dev/null)
case $(field verb) in
  start)
    if [ -z "$pid" ] || ! kill -0 "$pid" 2> /dev/null; then
      places=$(printf %s "$request" | sed -n 's/.*"procs_files":\[\([^]]*\)\].*/\1/p' | tr -d '"' | tr ',' ' ')
      setsid sh "$folder/workload.sh" $places < /dev/null > /dev/null 2>&1 &
      pid=$!
      echo "$pid" > "$folder/$no.pid"
    fi
    kill -CONT "-$pid" 2> /dev/null || true
    echo "{\"pid\":$pid,\"address\":\"local:$pid\"}" ;;
  suspend) [ -z "$pid" ] || kill -STOP "-$pid" 2> /dev/null || true ;;
  stop) [ -z "$pid" ] || kill -9 "-$pid" 2> /dev/null || true ;;
esac
"#;

/// Enters its place, then burns some CPU and rests, for ever.
const WORKLOAD: &str = r#"for place in "$@"; do echo 0 > "$place"; done
while :; do
  i=0
  while [ $i -lt 20000 ]; do i=$((i + 1)); done
  sleep 0.05
done
"#;

/// More of the node's configuration: nothing for monitoring systems, because many nodes run at once; short windows, one product, the provisioning command.
fn more(folder: &Path) -> String {
    format!(
        "\n[metrics]\nlisten = \"\"\n\n[metering]\nsample_ms = 250\nwindow_s = 2\n\n[provision]\nplace = \"{}\"\ncommand = [\"{}\"]\n\n\
         [[product]]\nid = \"{PRODUCT}\"\nname = \"a tenth of a core\"\ncpu_millicores = 100\nmemory_bytes = 1048576\n\
         term_max_s = 3600\n[[product.tariff.price]]\nresource = \"cpu\"\nprice = \"100\"\n\
         [[product.tariff.price]]\nresource = \"memory\"\nprice = \"10\"\n",
        places(folder),
        folder.join("provision.sh").display()
    )
}

/// The folder and what is in it.
#[derive(Debug)]
pub struct House {
    folder: tempfile::TempDir,
}

/// The cgroups below which the nodes of a house put their orders.
fn places(folder: &Path) -> String {
    let name = folder.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
    format!("hufu-tests-{}", name.trim_start_matches('.'))
}

impl Drop for House {
    /// Ends the orders, which go on without their agent, and removes the empty cgroups: one that was killed leaves both.
    fn drop(&mut self) {
        for entry in fs::read_dir(self.folder.path()).into_iter().flatten().filter_map(Result::ok) {
            let is_pid = entry.path().extension().is_some_and(|extension| extension == "pid");
            if let Some(pid) = fs::read_to_string(entry.path()).ok().filter(|_| is_pid) {
                // Most have ended by themselves.
                program::command("kill").args(["-9", "--", &format!("-{}", pid.trim())]).output().ok();
            }
        }
        let mounts = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        for parent in
            mounts.chain([PathBuf::from("/sys/fs/cgroup")]).map(|mount| mount.join(places(self.folder.path())))
        {
            for order in fs::read_dir(&parent).into_iter().flatten().filter_map(Result::ok) {
                fs::remove_dir(order.path()).ok();
            }
            fs::remove_dir(&parent).ok();
        }
    }
}

impl House {
    /// Keys and certificates of everybody, and a node that knows its broker; no program runs yet.
    pub fn new(broker_port: u16) -> Self {
        Self::behind(&format!("127.0.0.1:{broker_port}"), None)
    }

    /// As [`Self::new`], with a rule table of the site's own.
    pub fn under(broker_port: u16, rules: Option<&str>) -> Self {
        Self::behind(&format!("127.0.0.1:{broker_port}"), rules)
    }

    /// The same with a broker at any address.
    pub fn behind(broker: &str, rules: Option<&str>) -> Self {
        let house = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let root = house.path("root.key");
        hufu(&["key", "new", "--out", &root]).expect(0);
        let subject = ["--subject", "CN=test-root,C=CN"];
        hufu(&["pki", "root", "--key", &root, subject[0], subject[1], "--out", &house.path("root.pem")]).expect(0);
        house.certify("platform", "CN=s1/platform");
        house.certify("buyer", "CN=buyer-1");
        fs::write(house.at("workload.sh"), WORKLOAD).expect("a workload");
        fs::write(house.at("provision.sh"), PROVISION).expect("a provisioning command");
        fs::set_permissions(house.at("provision.sh"), fs::Permissions::from_mode(0o755)).expect("a run bit");
        house.node("node", "n1", broker, rules);
        house
    }

    /// Makes a node of the site in a folder: certified, with a ledger, and selling. The house has its first, n1 in `node`.
    pub fn node(&self, folder: &str, node: &str, broker: &str, rules: Option<&str>) {
        let (dir, cert) = (self.path(folder), self.path(&format!("{node}.pem")));
        let (trust, platform) = (self.path("root.pem"), self.path("platform.pem"));
        let named = ["--site", "s1", "--node", node, "--broker", broker, "--trust", &trust];
        hufu(&[&["init", "--dir", &dir][..], &named, &["--platform-cert", &platform]].concat()).expect(0);
        self.issue(&format!("{dir}/node.csr"), &cert);
        let config = self.at(folder).join("hufu.toml");
        if let Some(rules) = rules {
            let text = fs::read_to_string(&config).expect("a configuration");
            fs::write(self.at(folder).join("contract.toml"), rules).expect("a rule table");
            fs::write(&config, text + "\n[ledger]\nrules = \"contract.toml\"\n").expect("a configuration");
        }
        hufu(&["init", "--dir", &dir, "--cert", &cert]).expect(0);
        let text = fs::read_to_string(&config).expect("a configuration");
        fs::write(&config, text + &more(self.folder.path())).expect("a configuration");
    }

    /// Tells the node another broker than it was made with.
    pub fn point_at(&self, broker: &str) {
        let path = self.at("node/hufu.toml");
        let port = broker.rsplit(':').next().expect("HOST:PORT");
        let text = fs::read_to_string(&path).expect("a configuration");
        let lines = text.lines().map(|line| match line.strip_prefix("port = ") {
            Some(_) => format!("port = {port}\n"),
            None => format!("{line}\n"),
        });
        fs::write(&path, lines.collect::<String>()).expect("a configuration");
    }

    /// A path inside.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A path inside, as text for a command line.
    pub fn path(&self, name: &str) -> String {
        self.at(name).to_str().expect("a temporary folder's name is text").to_owned()
    }

    fn certify(&self, name: &str, subject: &str) {
        let (key, csr) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.csr")));
        hufu(&["key", "new", "--out", &key]).expect(0);
        hufu(&["key", "csr", "--key", &key, "--subject", subject, "--out", &csr]).expect(0);
        self.issue(&csr, &self.path(&format!("{name}.pem")));
    }

    /// Has the root certify a request.
    pub fn issue(&self, csr: &str, out: &str) {
        let (ca, key) = (self.path("root.pem"), self.path("root.key"));
        hufu(&["pki", "issue", "--ca", &ca, "--ca-key", &key, "--csr", csr, "--out", out]).expect(0);
    }

    /// Starts the daemon and waits until it answers.
    pub fn agent(&self) -> Daemon {
        let mut command = program::command(program::ours("hufu"));
        command.args(["agent", "--config", &self.path("node/hufu.toml")]);
        let mut daemon = Daemon::start(&mut command, &self.at("agent.log"));
        wait::until("the agent answers", 30, || {
            daemon.must_run();
            self.try_status()
        });
        daemon
    }

    /// What the daemon says of itself, if it runs.
    pub fn try_status(&self) -> Option<Value> {
        let ran = hufu(&["status", "--json", "--config", &self.path("node/hufu.toml")]);
        (ran.code == 0).then(|| ran.json())
    }

    /// A command of the buyer; its papers of one contract are in `state`.
    pub fn buyer(&self, verb: &str, platform: &str, state: &str, more: &[&str]) -> Ran {
        let (key, cert, trust) = (self.path("buyer.key"), self.path("buyer.pem"), self.path("root.pem"));
        let state = self.path(state);
        let who = ["--key", &key, "--cert", &cert, "--trust", &trust, "--state", &state, "--json"];
        hufu(&[&["buyer", verb, "--platform", platform][..], &who, more].concat())
    }

    /// Gives the platform a PostgreSQL database.
    pub fn on(self, url: &str) -> Self {
        fs::write(self.at("database.url"), url).expect("a file");
        self
    }

    /// Where the platform's database is, as its commands are told.
    fn database(&self) -> Vec<String> {
        let file = self.at("database.url");
        if file.is_file() { vec!["--database-file".to_owned(), self.path("database.url")] } else { Vec::new() }
    }

    /// The platform's command line; `more` says how it reaches its broker.
    pub fn platform_command(&self, more: &[&str]) -> std::process::Command {
        self.worker_command("platform", more)
    }

    /// The same with a directory of its own: one of several workers.
    fn worker_command(&self, dir: &str, more: &[&str]) -> std::process::Command {
        let mut command = program::command(program::ours("hufu-platform"));
        command.args(["serve", "--json", "--site", "s1", "--dir", &self.path(dir)]).args(self.database());
        command.args(["--key", &self.path("platform.key"), "--cert", &self.path("platform.pem")]);
        command.args(["--trust", &self.path("root.pem")]).args(more);
        command
    }

    /// Starts the platform and waits until it is ready; returns it with its HTTP address and that of its broker.
    pub fn platform(&self, more: &[&str]) -> (Daemon, String, String) {
        self.worker("platform", more)
    }

    /// Starts one of several workers, in a directory of its own.
    pub fn worker(&self, dir: &str, more: &[&str]) -> (Daemon, String, String) {
        let said = self.at(dir).join("platform.json");
        fs::remove_file(&said).ok();
        let mut free = Vec::new();
        for (flag, wanted) in [("--listen", true), ("--broker-listen", more.contains(&"--embedded-broker"))] {
            if wanted && !more.contains(&flag) {
                free.extend([flag, "127.0.0.1:0"]);
            }
        }
        let mut command = self.worker_command(dir, &[&free[..], more].concat());
        let mut daemon = Daemon::start(&mut command, &self.at(&format!("{dir}.log")));
        let ready: Value = wait::until("the platform is ready", 30, || {
            daemon.must_run();
            serde_json::from_slice(&fs::read(&said).ok()?).ok()
        });
        let text = |name: &str| ready[name].as_str().expect("an address").to_owned();
        (daemon, format!("http://{}", text("http")), text("broker"))
    }

    /// A list that the platform holds: `nodes`, `orders`, `bills`, `usage` or `alarms`.
    pub fn held(&self, what: &str) -> Vec<Value> {
        let place = [vec!["--dir".to_owned(), self.path("platform")], self.database()].concat();
        let ran = program::platform(&[vec![what.to_owned(), "--json".to_owned()], place].concat()).expect(0).json();
        ran[what].as_array().expect("a list").clone()
    }

    /// A full check of the node's ledger with the node's trust anchors.
    pub fn check_ledger(&self) -> Value {
        hufu(&["ledger", "check", &self.path("node/ledger"), "--trust", &self.path("root.pem"), "--json"])
            .expect(0)
            .json()
    }
}
