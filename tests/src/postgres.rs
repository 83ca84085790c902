//! A real PostgreSQL in a temporary directory, on a socket there, that can be killed and started again. PostgreSQL refuses to run as
//! root: there it runs as `postgres` or `nobody`.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    broker::free_port,
    program::{self, Daemon, Ran},
    wait,
};

/// A server of this test's own, with one database.
#[derive(Debug)]
pub struct Postgres {
    folder: tempfile::TempDir,
    running: Option<Daemon>,
    /// By which its socket is named, too.
    port: u16,
}

/// Where the server's programs are: Debian keeps them out of the path.
fn bin(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no {name} here; run scripts/setup"))
}

/// User and group that the server runs as, where the test is root.
fn owner() -> Option<(u32, u32)> {
    let id = |flag: &str, name: &str| -> Option<u32> {
        let ran = program::run(program::command("id").args([flag, name]));
        ran.stdout.trim().parse().ok().filter(|_| ran.code == 0)
    };
    if program::run(program::command("id").arg("-u")).stdout.trim() != "0" {
        return None;
    }
    let name = if id("-u", "postgres").is_some() { "postgres" } else { "nobody" };
    Some((id("-u", name).expect("a user"), id("-g", name).expect("a group")))
}

impl Postgres {
    /// A new cluster; not started yet.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        if let Some((user, group)) = owner() {
            chown(folder.path(), Some(user), Some(group)).expect("the server's own folder");
        }
        let server = Self { folder, running: None, port: 5432 };
        let data = server.path("data");
        let mut initdb = server.command("initdb");
        program::run(initdb.args(["-D", &data, "-U", "hufu", "-E", "UTF8", "--auth=trust", "--no-sync"])).expect(0);
        server
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn command(&self, name: &str) -> Command {
        let mut command = match owner() {
            None => program::command(bin(name)),
            Some((user, group)) => {
                let mut command = program::command("setpriv");
                command.args(["--reuid", &user.to_string(), "--regid", &group.to_string(), "--clear-groups"]);
                command.arg(bin(name));
                command
            }
        };
        command.current_dir(self.folder.path());
        command
    }

    /// The URL of its database.
    pub fn url(&self) -> String {
        format!("postgresql://hufu@localhost:{}/postgres?host={}", self.port, self.folder.path().display())
    }

    /// Starts it and waits until it answers.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts it on a port of 127.0.0.1, where it talks to nobody without TLS: the URL of its database there, without options, and the file
    /// with the root of its certificate. Both are made by openssl.
    pub fn start_with_tls(&mut self) -> (String, String) {
        let openssl = |words: &str| {
            let mut command = program::command("openssl");
            program::run(command.current_dir(self.folder.path()).args(words.split(' '))).expect(0);
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(&format!("req -x509 {key} -keyout root.key -out root.pem -subj /CN=Database-Root -days 2"));
        openssl(&format!("req -new {key} -keyout server.key -out server.csr -subj /CN=database"));
        fs::write(self.path("server.ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").expect("a file");
        openssl("x509 -req -in server.csr -CA root.pem -CAkey root.key -days 2 -extfile server.ext -out server.pem");
        if let Some((user, group)) = owner() {
            for name in ["server.key", "server.pem"] {
                chown(self.path(name), Some(user), Some(group)).expect("the server's own file");
            }
        }
        let rules = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n";
        fs::write(self.path("data/pg_hba.conf"), rules).expect("a file");
        let port = free_port();
        let (cert, key) = (self.path("server.pem"), self.path("server.key"));
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={cert}"),
            format!("ssl_key_file={key}"),
        ];
        self.port = port;
        self.start_with(&settings.each_ref().map(String::as_str));
        (format!("postgresql://hufu@127.0.0.1:{port}/postgres"), self.path("root.pem"))
    }

    fn start_with(&mut self, settings: &[&str]) {
        let mut postgres = self.command("postgres");
        // A server that was killed left its lock; the kernel knows that nobody holds it.
        postgres.args(["-D", &self.path("data"), "-k", &self.path(""), "-c", "listen_addresses="]);
        postgres.args(settings.iter().flat_map(|setting| ["-c", *setting]));
        let mut daemon = Daemon::start(&mut postgres, &self.folder.path().join("postgres.log"));
        wait::until_true("PostgreSQL answers", 30, || {
            daemon.must_run();
            self.psql("SELECT 1").code == 0
        });
        self.running = Some(daemon);
    }

    /// kill -9 of the server and of every process of it.
    pub fn kill(&mut self) {
        let Some(mut daemon) = self.running.take() else { return };
        let children = children(daemon.pid());
        daemon.kill();
        for child in &children {
            program::run(program::command("kill").args(["-s", "KILL", &child.to_string()]));
        }
        wait::until_true("PostgreSQL is gone", 20, || {
            children.iter().all(|child| !Path::new(&format!("/proc/{child}")).exists())
        });
    }

    fn psql(&self, query: &str) -> Ran {
        program::run(program::command("psql").args(["-X", "-q", "-At", "-d", &self.url(), "-c", query]))
    }

    /// What a query gives, a line a row: asked by PostgreSQL's own client, not through a program of ours.
    pub fn query(&self, query: &str) -> String {
        self.psql(query).expect(0).stdout.trim().to_owned()
    }

    /// A number.
    pub fn number(&self, query: &str) -> u64 {
        let found = self.query(query);
        found.parse().unwrap_or_else(|_| panic!("{query}: {found:?}"))
    }
}

impl Default for Postgres {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        after.split_whitespace().nth(1).and_then(|parent| parent.parse().ok()) == Some(parent)
    };
    numbers.filter(is_child).collect()
}
