//! `hufu init`: sets a node up, in one step with a certificate or in two with a request in between. It refuses to overwrite,
//! and leaves nothing behind when it fails. What the keys of the file mean is `crate::config`'s business.

use std::path::{Path, PathBuf};

use hufu_audit::{Exit, Failure};
use hufu_gm::{Csr, keyfile};
use hufu_trade::{if2::segment_ok, party::platform_of};
use serde_json::json;

use crate::{
    cmd::{Context, Outcome, bug, file},
    config::Config,
    setup::{self, Begin},
    text::Text,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Directory of the node: configuration, keys, ledger
    #[arg(long, value_name = "D")]
    dir: PathBuf,
    /// Site, 1 to 64 of a-z 0-9 _ -
    #[arg(long, value_name = "S", required_unless_present_any = ["cert", "firmware", "recover"])]
    site: Option<String>,
    /// Node, 1 to 64 of a-z 0-9 _ -
    #[arg(long, value_name = "N", required_unless_present_any = ["cert", "firmware", "recover"])]
    node: Option<String>,
    /// The MQTT broker
    #[arg(long, value_name = "HOST:PORT", required_unless_present_any = ["cert", "firmware", "recover"])]
    broker: Option<String>,
    /// Trust anchors (PEM)
    #[arg(long, value_name = "CA.pem", required_unless_present_any = ["cert", "recover"])]
    trust: Option<PathBuf>,
    /// The platform's certificate chain (PEM), leaf first
    #[arg(long, value_name = "P.pem", required_unless_present_any = ["cert", "recover"])]
    platform_cert: Option<PathBuf>,
    /// An existing secret key file; without it a new key is made
    #[arg(long, value_name = "F")]
    key: Option<PathBuf>,
    /// The node's certificate chain (PEM), leaf first: then the ledger is made too
    #[arg(long, value_name = "F")]
    cert: Option<PathBuf>,
    /// The disk was lost, the key was not: an empty ledger, for the agent to fetch back what the platform holds
    #[arg(long)]
    recover: bool,
    /// Image of the burnt-in record, in place of --site, --node and --broker
    #[arg(long, value_name = "F", conflicts_with_all = ["site", "node", "broker"], requires = "firmware_signer")]
    firmware: Option<PathBuf>,
    /// Certificate (PEM) of whoever signed the image
    #[arg(long, value_name = "F", requires = "firmware")]
    firmware_signer: Option<PathBuf>,
}

/// What a new node is made from.
pub(super) struct Plan<'a> {
    pub(super) identity: Identity<'a>,
    pub(super) trust: &'a Path,
    pub(super) platform_cert: &'a Path,
    pub(super) key: Option<&'a Path>,
    pub(super) cert: Option<&'a Path>,
    /// More of the configuration file: products, metering, provisioning.
    pub(super) more: &'a str,
    /// What its ledger begins with.
    pub(super) begin: Begin,
}

/// Who the node is and where its broker is.
pub(super) enum Identity<'a> {
    Named { site: &'a str, node: &'a str, host: &'a str, port: u16 },
    Firmware { image: &'a Path, signer: &'a Path },
}

/// A product to start from; a new node sells nothing until its site says what.
const EXAMPLE: &str = r#"# One table a product. Prices are CNY per named unit: core-hour, GiB-hour, GiB, million-operations.
# [[product]]
# id = "small"
# name = "1 core, 1 GiB"
# cpu_millicores = 1000
# memory_bytes = 1073741824
# term_max_s = 2678400
# [[product.tariff.price]]
# resource = "cpu"
# price = "0.12"
"#;

pub(super) fn run(args: &Args, context: &Context) -> Outcome {
    let there = args.dir.join("hufu.toml").exists();
    let begin = if args.recover { Begin::Recovered } else { Begin::New };
    let config_path = match (&args.cert, &args.trust, &args.platform_cert) {
        (Some(cert), None, None) => complete(&args.dir, cert, begin)?,
        (None, None, None) if args.recover => {
            let config_path = args.dir.join("hufu.toml");
            setup::create(&Config::load(&config_path)?, begin)?;
            config_path
        }
        (_, Some(trust), Some(platform_cert)) if !there => {
            let plan = Plan {
                identity: identity(args)?,
                trust,
                platform_cert,
                key: args.key.as_deref(),
                cert: args.cert.as_deref(),
                more: EXAMPLE,
                begin,
            };
            lay_out(&args.dir, &plan)?
        }
        (_, Some(_), Some(_)) => {
            return Err(Failure::new(Exit::Io, Text::NodeThere { path: args.dir.display().to_string() }));
        }
        _ => {
            let argument = "--trust <CA.pem> --platform-cert <P.pem>".to_owned();
            return Err(Failure::new(Exit::Usage, Text::ArgumentMissing { argument }));
        }
    };
    let config = config_path.display().to_string();
    let is_made = args.cert.is_some() || (args.recover && args.trust.is_none());
    let request = (!is_made).then(|| args.dir.join("node.csr").display().to_string());
    context.show(&json!({ "config": config, "request": request, "ledger": request.is_none() }), || match &request {
        Some(request) => {
            let dir = args.dir.display().to_string();
            Text::NodeRequested { request: request.clone(), dir }.render(context.lang)
        }
        None => Text::NodeReady { config: config.clone() }.render(context.lang),
    })?;
    Ok(Exit::Done)
}

fn identity(args: &Args) -> Result<Identity<'_>, Failure<Text>> {
    if let (Some(image), Some(signer)) = (&args.firmware, &args.firmware_signer) {
        return Ok(Identity::Firmware { image, signer });
    }
    let missing = |argument: &str| Failure::new(Exit::Usage, Text::ArgumentMissing { argument: argument.to_owned() });
    let site = args.site.as_deref().ok_or_else(|| missing("--site <S>"))?;
    let node = args.node.as_deref().ok_or_else(|| missing("--node <N>"))?;
    let broker = args.broker.as_deref().ok_or_else(|| missing("--broker <HOST:PORT>"))?;
    let wrong = |argument: &str, value: &str, expected: &str| {
        let (argument, value, expected) = (argument.to_owned(), value.to_owned(), expected.to_owned());
        Failure::new(Exit::Usage, Text::ArgumentValue { argument, value, expected })
    };
    for (argument, segment) in [("--site", site), ("--node", node)] {
        if !segment_ok(segment) {
            return Err(wrong(argument, segment, "1 to 64 of a-z 0-9 _ -"));
        }
    }
    let parsed = broker.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    match parsed {
        Some((host, port)) if !host.is_empty() && port > 0 && !host.contains(['"', '\\', '\n']) => {
            Ok(Identity::Named { site, node, host, port })
        }
        _ => Err(wrong("--broker", broker, "HOST:PORT")),
    }
}

/// Makes a node's directory: key, salt, certificates, configuration, and the ledger if there is a certificate, the request
/// for one otherwise. Returns the configuration's path.
pub(super) fn lay_out(dir: &Path, plan: &Plan<'_>) -> Result<PathBuf, Failure<Text>> {
    let trust = file::read_text(plan.trust)?;
    file::read_certificates(plan.trust)?;
    let platform = file::read_text(plan.platform_cert)?;
    file::read_certificates(plan.platform_cert)?;
    let cert = plan.cert.map(|path| file::read_certificates(path).and_then(|_| file::read_text(path))).transpose()?;
    let given_key = plan.key.map(|path| {
        file::read_key(path)?;
        std::fs::canonicalize(path).map_err(|e| file::unreadable(path, &e))
    });
    let given_key = given_key.transpose()?;
    file::make_dir(dir)?;
    let mut made = Made { paths: Vec::new() };
    let key = match &given_key {
        Some(path) => path.clone(),
        None => {
            let path = made.plan(dir.join("node.key"))?;
            file::new_key(&path)?;
            PathBuf::from("node.key")
        }
    };
    let mut salt = [0; 32];
    hufu_gm::random::fill(&mut salt).map_err(|e| bug(&e))?;
    let salt_path = made.plan(dir.join("salt"))?;
    keyfile::write_secret32_new(&salt_path, &salt).map_err(|e| file::gm_failure(&salt_path, &e))?;
    file::write_new(&made.plan(dir.join("trust.pem"))?, trust.as_bytes())?;
    file::write_new(&made.plan(dir.join("platform.pem"))?, platform.as_bytes())?;
    let text = config_text(plan, &key)?;
    let config = made.plan(dir.join("hufu.toml"))?;
    file::write_new(&config, text.as_bytes())?;
    let checked = match &cert {
        Some(cert) => {
            file::write_new(&made.plan(dir.join("node.pem"))?, cert.as_bytes())?;
            Config::load(&config)?
        }
        None => config_without_certificate(&config, dir, &mut made, &key)?,
    };
    if cert.is_some() {
        setup::create(&checked, plan.begin)?;
    }
    made.paths.clear();
    Ok(config)
}

fn config_without_certificate(config: &Path, dir: &Path, made: &mut Made, key: &Path) -> Result<Config, Failure<Text>> {
    let checked = Config::load(config)?;
    // Said now and not only when the node's own certificate has come.
    for leaf in file::read_certificates(&checked.platform_certificates)?.iter().take(1) {
        setup::named(&checked.platform_certificates, leaf, &platform_of(&checked.pool()))?;
    }
    let secret = file::read_key(&dir.join(key))?;
    let csr = Csr::make(&secret, &format!("CN={}", checked.pool()), &[]).map_err(|e| bug(&e))?;
    file::write_new(&made.plan(dir.join("node.csr"))?, csr.to_pem().as_bytes())?;
    Ok(checked)
}

/// The second step: the certificate came.
fn complete(dir: &Path, cert: &Path, begin: Begin) -> Result<PathBuf, Failure<Text>> {
    let config_path = dir.join("hufu.toml");
    let config = Config::load(&config_path)?;
    let text = file::read_text(cert)?;
    file::read_certificates(cert)?;
    let mut made = Made { paths: Vec::new() };
    file::write_new(&made.plan(config.certificates.clone())?, text.as_bytes())?;
    setup::create(&config, begin)?;
    made.paths.clear();
    Ok(config_path)
}

/// Writes the configuration of a node again, from another plan.
pub(super) fn write_config(dir: &Path, plan: &Plan<'_>) -> Result<(), Failure<Text>> {
    let key = plan.key.map(|path| std::fs::canonicalize(path).map_err(|e| file::unreadable(path, &e))).transpose()?;
    let text = config_text(plan, key.as_deref().unwrap_or(Path::new("node.key")))?;
    file::replace(&dir.join("hufu.toml"), text.as_bytes())
}

fn config_text(plan: &Plan<'_>, key: &Path) -> Result<String, Failure<Text>> {
    let absolute = |path: &Path| std::fs::canonicalize(path).map_err(|e| file::unreadable(path, &e));
    let quoted = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
    let (identity, mqtt) = match plan.identity {
        Identity::Named { site, node, host, port } => {
            (format!("site = \"{site}\"\nname = \"{node}\"\n"), format!("host = \"{host}\"\nport = {port}\n"))
        }
        Identity::Firmware { image, signer } => {
            let (image, signer) = (quoted(&absolute(image)?), quoted(&absolute(signer)?));
            (format!("firmware = {image}\nfirmware_signer = {signer}\n"), String::new())
        }
    };
    Ok(format!(
        "# A Hufu node. Relative paths are below this file's directory; secrets stand in their own files, mode 0600.\n\
         [node]\n{identity}key = {key}\ncertificates = \"node.pem\"\nsalt = \"salt\"\ntrust = [\"trust.pem\"]\n\n\
         [mqtt]\n{mqtt}\n[platform]\ncertificates = \"platform.pem\"\n\n{more}",
        key = quoted(key),
        more = plan.more,
    ))
}

/// Files made so far; what is still listed when it is dropped is removed again.
struct Made {
    paths: Vec<PathBuf>,
}

impl Made {
    /// A file about to be made; one that is there already is refused, and stays.
    fn plan(&mut self, path: PathBuf) -> Result<PathBuf, Failure<Text>> {
        if path.exists() {
            return Err(Failure::new(Exit::Io, Text::NodeThere { path: path.display().to_string() }));
        }
        self.paths.push(path.clone());
        Ok(path)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in &self.paths {
            std::fs::remove_file(path).ok();
        }
    }
}
