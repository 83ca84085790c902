//! What stands before a demo runs: the test PKI, the buyer's and the platform's papers, the node's directory. A second run
//! finds everything and reuses it; only the ports in the agent's configuration are written again.

use std::path::{Path, PathBuf};

use hufu_audit::Failure;
use hufu_gm::{Certificate, SecretKey};
use hufu_trade::party::platform_of;

use crate::{
    cmd::{bug, file, init, layout::Layout, pki},
    text::Text,
};

pub(super) const SITE: &str = "demo-site";
pub(super) const NODE: &str = "node-1";
pub(super) const PRODUCT: &str = "small";
/// Parent cgroup of the demo's orders.
pub(super) const PLACE: &str = "hufu-demo";

/// The demo's directories, below its own, which is the working directory.
pub(super) struct Dirs {
    pub(super) pki: PathBuf,
    pub(super) platform: PathBuf,
    pub(super) agent: PathBuf,
    pub(super) buyer: PathBuf,
    pub(super) workload: PathBuf,
    pub(super) logs: PathBuf,
}

impl Dirs {
    /// Makes them where they are not.
    pub(super) fn make() -> Result<Self, Failure<Text>> {
        let dirs = Self {
            pki: "pki".into(),
            platform: "platform".into(),
            agent: "agent".into(),
            buyer: "buyer".into(),
            workload: "workload".into(),
            logs: "logs".into(),
        };
        for dir in [&dirs.pki, &dirs.platform, &dirs.buyer, &dirs.workload, &dirs.logs] {
            file::make_dir(dir)?;
        }
        Ok(dirs)
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    pub(super) fn config(&self) -> PathBuf {
        self.agent.join("hufu.toml")
    }

    pub(super) fn root(&self) -> PathBuf {
        self.pki.join("root.pem")
    }
}

/// `{site}/{node}`.
pub(super) fn pool() -> String {
    format!("{SITE}/{NODE}")
}

/// Makes the test PKI, or finds it: a root, and a certificate each for node, platform and buyer. The buyer's key is only in
/// the buyer's own directory.
pub(super) fn make_pki(dirs: &Dirs) -> Result<(), Failure<Text>> {
    let (root_key, root_pem) = (dirs.pki.join("root.key"), dirs.root());
    let key = find_key(&root_key)?;
    if !root_pem.exists() {
        let root = pki::make_root(&key, "CN=hufu demo root,C=CN", 3650)?;
        file::replace(&root_pem, root.to_pem().as_bytes())?;
    }
    let root = file::read_certificates(&root_pem)?;
    let root = root.first().ok_or_else(|| file::malformed(&root_pem, &"no certificate"))?;
    for (dir, name, subject) in [
        (&dirs.pki, "node", format!("CN={}", pool())),
        (&dirs.pki, "platform", format!("CN={}", platform_of(&pool()))),
        (&dirs.buyer, "buyer", "CN=demo buyer".to_owned()),
    ] {
        certify(dir, name, &subject, root, &key)?;
    }
    file::replace(&dirs.buyer.join("trust.pem"), root.to_pem().as_bytes())
}

fn find_key(path: &Path) -> Result<SecretKey, Failure<Text>> {
    if path.exists() { file::read_key(path) } else { file::new_key(path) }
}

fn certify(
    dir: &Path,
    name: &str,
    subject: &str,
    root: &Certificate,
    root_key: &SecretKey,
) -> Result<(), Failure<Text>> {
    let key = find_key(&dir.join(format!("{name}.key")))?;
    let pem = dir.join(format!("{name}.pem"));
    if pem.exists() {
        return Ok(());
    }
    let made = pki::issue_signer(root, root_key, subject, &key, 825)?;
    file::replace(&pem, made.to_pem().as_bytes())
}

/// Makes the node, or points the one that is there at this run's broker.
pub(super) fn make_node(dirs: &Dirs, program: &Path, host: &str, port: u16) -> Result<(), Failure<Text>> {
    let more = more(program, &dirs.workload)?;
    let (key, root) = (dirs.pki.join("node.key"), dirs.root());
    let (cert, platform_cert) = (dirs.pki.join("node.pem"), dirs.pki.join("platform.pem"));
    let plan = init::Plan {
        identity: init::Identity::Named { site: SITE, node: NODE, host, port },
        trust: &root,
        platform_cert: &platform_cert,
        key: init::Key::File(&key),
        cert: Some(&cert),
        more: &more,
        begin: crate::setup::Begin::New,
    };
    // A directory without this mark was never finished, so no daemon ever ran in it.
    let mark = dirs.agent.join("made");
    if mark.exists() {
        return init::write_config(&Layout::directory(&dirs.agent), &plan);
    }
    if dirs.agent.exists() {
        std::fs::remove_dir_all(&dirs.agent).map_err(|e| file::unwritable(&dirs.agent, &e))?;
    }
    init::lay_out(&Layout::directory(&dirs.agent), &plan)?;
    file::write_new(&mark, b"")
}

/// Metering, provisioning and the product. Prices are high, so that a short demo costs something.
fn more(program: &Path, workload: &Path) -> Result<String, Failure<Text>> {
    let program = program.to_str().ok_or_else(|| bug(&"the program's path is not UTF-8"))?;
    let workload = workload.to_str().ok_or_else(|| bug(&"the workload's path is not UTF-8"))?;
    let command: Vec<toml::Value> =
        [program, "__provision", "--dir", workload].map(|word| toml::Value::String(word.to_owned())).to_vec();
    let command = toml::Value::Array(command);
    let mut text = format!(
        "[metrics]\nlisten = \"\"\n\n[metering]\nsample_ms = 1000\nwindow_s = 5\n\n[provision]\nplace = \"{PLACE}\"\ncommand = {command}\n\n\
         [[product]]\nid = \"{PRODUCT}\"\nname = \"demo, a quarter core, 256 MiB\"\ncpu_millicores = 250\n\
         memory_bytes = 268435456\nterm_max_s = 86400\n"
    );
    for (resource, price) in
        [("cpu", "36"), ("memory", "7.2"), ("disk_write", "2"), ("disk_write_ops", "50"), ("net_tx", "0.8")]
    {
        text.push_str(&format!("[[product.tariff.price]]\nresource = \"{resource}\"\nprice = \"{price}\"\n"));
    }
    Ok(text)
}
