//! `hufu init`: sets a node up, in one step with a certificate or in two with a request in between. It refuses to overwrite,
//! and leaves nothing behind when it fails. What the keys of the file mean is `crate::config`'s business.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

use hufu_audit::{Exit, Failure};
use hufu_gm::{Csr, keyfile};
use hufu_trade::{if2::segment_ok, party::platform_of};
use serde_json::json;

use crate::{
    cmd::{
        Context, Outcome, bug, file,
        layout::{Layout, Made},
    },
    config::Config,
    setup::{self, Begin},
    text::Text,
};

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("where").required(true).args(["dir", "system"]))]
pub(super) struct Args {
    /// Directory of the node: configuration, keys, ledger
    #[arg(long, value_name = "D")]
    dir: Option<PathBuf>,
    /// The node that this machine's service runs: configuration in /etc/hufu, ledger in /var/lib/hufu; as root
    #[arg(long)]
    system: bool,
    /// Site, 1 to 64 of a-z 0-9 _ -
    #[arg(long, value_name = "S")]
    site: Option<String>,
    /// Node, 1 to 64 of a-z 0-9 _ -
    #[arg(long, value_name = "N")]
    node: Option<String>,
    /// The MQTT broker
    #[arg(long, value_name = "HOST:PORT")]
    broker: Option<String>,
    /// Trust anchors (PEM)
    #[arg(long, value_name = "CA.pem")]
    trust: Option<PathBuf>,
    /// The platform's certificate chain (PEM), leaf first
    #[arg(long, value_name = "P.pem")]
    platform_cert: Option<PathBuf>,
    /// An existing secret key file; without it a new key is made
    #[arg(long, value_name = "F")]
    key: Option<PathBuf>,
    /// Socket of a signer that holds the node's key, in place of a key file
    #[arg(long, value_name = "S", conflicts_with = "key")]
    signer: Option<PathBuf>,
    /// Whose process may listen there besides root's and your own, by name or number
    #[arg(long, value_name = "USER", requires = "signer")]
    signer_user: Option<String>,
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
    pub(super) key: Key<'a>,
    pub(super) cert: Option<&'a Path>,
    /// More of the configuration file: products, metering, provisioning.
    pub(super) more: &'a str,
    /// What its ledger begins with.
    pub(super) begin: Begin,
}

/// Where its key comes from.
#[derive(Clone, Copy)]
pub(super) enum Key<'a> {
    /// A new one, in the node's own file.
    New,
    /// A file that is there.
    File(&'a Path),
    /// A signer's socket, and whose process may listen there.
    Signer(&'a Path, Option<&'a str>),
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
    let layout = match &args.dir {
        Some(dir) => Layout::directory(dir),
        None => Layout::system()?,
    };
    let is_new = !layout.config().exists();
    let begin = if args.recover { Begin::Recovered } else { Begin::New };
    // The second step needs nothing but the certificate that came.
    let config_path = match &args.cert {
        Some(cert) if !is_new && args.trust.is_none() && args.platform_cert.is_none() => {
            complete(&layout, cert, begin)?
        }
        // The files are there, the ledger is lost.
        None if !is_new && args.recover && args.trust.is_none() && args.platform_cert.is_none() => {
            make_ledger(&layout, &Config::load(&layout.config())?, begin)?;
            layout.config()
        }
        _ if !is_new => {
            return Err(Failure::new(Exit::Io, Text::NodeThere { path: layout.config().display().to_string() }));
        }
        _ => {
            let asked = ask(args, context)?;
            let plan = Plan {
                identity: identity(&asked)?,
                trust: given(&asked.trust, "--trust <CA.pem>")?,
                platform_cert: given(&asked.platform_cert, "--platform-cert <P.pem>")?,
                key: match (&args.key, &args.signer) {
                    (_, Some(socket)) => Key::Signer(socket, args.signer_user.as_deref()),
                    (Some(file), None) => Key::File(file),
                    (None, None) => Key::New,
                },
                cert: args.cert.as_deref(),
                more: EXAMPLE,
                begin,
            };
            lay_out(&layout, &plan)?
        }
    };
    let config = config_path.display().to_string();
    let is_made = args.cert.is_some() || (args.recover && args.trust.is_none());
    let request = (!is_made).then(|| layout.request().display().to_string());
    context.show(&json!({ "config": config, "request": request, "ledger": request.is_none() }), || {
        let (system, place) = (args.system, layout.flag());
        let text = match (&request, system) {
            (Some(request), _) => Text::NodeRequested { request: request.clone(), place },
            (None, false) => Text::NodeReady { config: config.clone() },
            (None, true) => Text::NodeReadySystem { config: config.clone() },
        };
        text.render(context.lang)
    })?;
    Ok(Exit::Done)
}

/// What is needed to make a node, from the arguments or from a person.
struct Asked<'a> {
    args: &'a Args,
    site: Option<String>,
    node: Option<String>,
    broker: Option<String>,
    trust: Option<PathBuf>,
    platform_cert: Option<PathBuf>,
}

/// Asks a person for what the arguments lack; a script, which has no terminal, is told what is missing.
fn ask<'a>(args: &'a Args, context: &Context) -> Result<Asked<'a>, Failure<Text>> {
    let mut asked = Asked {
        args,
        site: args.site.clone(),
        node: args.node.clone(),
        broker: args.broker.clone(),
        trust: args.trust.clone(),
        platform_cert: args.platform_cert.clone(),
    };
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() || context.json {
        return Ok(asked);
    }
    let question = |text: Text| -> Result<String, Failure<Text>> {
        let prompt = dialoguer::Input::<String>::new().with_prompt(text.render(context.lang));
        prompt.interact_text().map_err(|e| {
            let path = "terminal".to_owned();
            Failure::new(Exit::Io, Text::FileUnreadable { path, why: e.to_string() })
        })
    };
    if args.firmware.is_none() {
        for (slot, text) in [
            (&mut asked.site, Text::AskSite {}),
            (&mut asked.node, Text::AskNode {}),
            (&mut asked.broker, Text::AskBroker {}),
        ] {
            if slot.is_none() {
                *slot = Some(question(text)?);
            }
        }
    }
    for (slot, text) in [(&mut asked.trust, Text::AskTrust {}), (&mut asked.platform_cert, Text::AskPlatform {})] {
        if slot.is_none() {
            *slot = Some(question(text)?.into());
        }
    }
    Ok(asked)
}

fn missing(argument: &str) -> Failure<Text> {
    Failure::new(Exit::Usage, Text::ArgumentMissing { argument: argument.to_owned() })
}

fn given<'a>(path: &'a Option<PathBuf>, argument: &str) -> Result<&'a Path, Failure<Text>> {
    path.as_deref().ok_or_else(|| missing(argument))
}

fn identity<'a>(args: &'a Asked<'_>) -> Result<Identity<'a>, Failure<Text>> {
    if let (Some(image), Some(signer)) = (&args.args.firmware, &args.args.firmware_signer) {
        return Ok(Identity::Firmware { image, signer });
    }
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

/// Makes a node: key, salt, certificates, configuration, and the ledger if there is a certificate, the request for one
/// otherwise. Returns the configuration's path.
pub(super) fn lay_out(layout: &Layout, plan: &Plan<'_>) -> Result<PathBuf, Failure<Text>> {
    let trust = file::read_text(plan.trust)?;
    file::read_certificates(plan.trust)?;
    let platform = file::read_text(plan.platform_cert)?;
    file::read_certificates(plan.platform_cert)?;
    let cert = plan.cert.map(|path| file::read_certificates(path).and_then(|_| file::read_text(path))).transpose()?;
    if let Key::File(path) = plan.key {
        file::read_key(path)?;
    }
    layout.make_directories()?;
    let mut made = Made::default();
    if let Key::New = plan.key {
        file::new_key(&made.plan(layout.key())?)?;
    }
    let salt = keyfile::Secret32::generate(hufu_gm::random::fill).map_err(|e| bug(&e))?;
    let salt_path = made.plan(layout.salt())?;
    keyfile::write_secret32_new(&salt_path, &salt).map_err(|e| file::gm_failure(&salt_path, &e))?;
    file::write_new(&made.plan(layout.trust())?, trust.as_bytes())?;
    file::write_new(&made.plan(layout.platform())?, platform.as_bytes())?;
    let text = config_text(layout, plan)?;
    let config = made.plan(layout.config())?;
    file::write_new(&config, text.as_bytes())?;
    let checked = match &cert {
        Some(cert) => {
            file::write_new(&made.plan(layout.certificate())?, cert.as_bytes())?;
            Config::load(&config)?
        }
        None => config_without_certificate(layout, &mut made)?,
    };
    if cert.is_some() {
        make_ledger(layout, &checked, plan.begin)?;
    }
    made.keep();
    Ok(config)
}

fn config_without_certificate(layout: &Layout, made: &mut Made) -> Result<Config, Failure<Text>> {
    let checked = Config::load(&layout.config())?;
    // Said now and not only when the node's own certificate has come.
    for leaf in file::read_certificates(&checked.platform_certificates)?.iter().take(1) {
        setup::named(&checked.platform_certificates, leaf, &platform_of(&checked.pool()))?;
    }
    let key = file::node_key(&checked.key)?;
    let csr = Csr::make(&key, &format!("CN={}", checked.pool()), &[]).map_err(|e| bug(&e))?;
    file::write_new(&made.plan(layout.request())?, csr.to_pem().as_bytes())?;
    Ok(checked)
}

/// The second step: the certificate came.
fn complete(layout: &Layout, cert: &Path, begin: Begin) -> Result<PathBuf, Failure<Text>> {
    let config_path = layout.config();
    let config = Config::load(&config_path)?;
    let text = file::read_text(cert)?;
    file::read_certificates(cert)?;
    let mut made = Made::default();
    file::write_new(&made.plan(config.certificates.clone())?, text.as_bytes())?;
    make_ledger(layout, &config, begin)?;
    made.keep();
    Ok(config_path)
}

/// Makes the ledger. One that is there already, of a package that was removed and installed again, goes on: it is nobody's
/// to make anew, and the agent refuses a key that is not its own.
fn make_ledger(layout: &Layout, config: &Config, begin: Begin) -> Result<(), Failure<Text>> {
    if config.ledger_dir.exists() && layout.is_system() {
        setup::material(config)?;
        return Ok(());
    }
    setup::create(config, begin)?;
    layout.hand_over(&config.ledger_dir)
}

/// Writes the configuration of a node again, from another plan.
pub(super) fn write_config(layout: &Layout, plan: &Plan<'_>) -> Result<(), Failure<Text>> {
    let text = config_text(layout, plan)?;
    file::replace(&layout.config(), text.as_bytes())
}

fn config_text(layout: &Layout, plan: &Plan<'_>) -> Result<String, Failure<Text>> {
    let absolute = |path: &Path| std::fs::canonicalize(path).map_err(|e| file::unreadable(path, &e));
    let quoted = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
    let key = match plan.key {
        Key::New => format!("key = {}\n", quoted(&layout.key_name())),
        Key::File(path) => format!("key = {}\n", quoted(&absolute(path)?)),
        Key::Signer(socket, user) => {
            let user = user.map(|user| format!("signer_user = {}\n", toml::Value::String(user.to_owned())));
            format!("signer = {}\n{}", quoted(&absolute(socket)?), user.unwrap_or_default())
        }
    };
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
         [node]\n{identity}{key}certificates = \"node.pem\"\nsalt = {salt}\ntrust = [\"trust.pem\"]\n\n\
         [mqtt]\n{mqtt}\n[platform]\ncertificates = \"platform.pem\"\n\n{places}{more}",
        salt = quoted(&layout.salt_name()),
        places = layout.places(),
        more = plan.more,
    ))
}
