//! The daemon's configuration: TOML, checked once into `Config`. Relative paths are below the file's own directory.
//! Trust: whoever may write this file decides what the node sells and whom it believes; it holds paths of secrets, no secrets.

use std::path::{Path, PathBuf};

use hufu_audit::{Exit, Failure};
use hufu_metering::gpu;
use hufu_trade::if2::{ShopProfile, segment_ok};
use serde::Deserialize;

use crate::{
    address::Template,
    boundary::Boundary,
    bounded,
    catalogue::{self, ProductConfig, RawProduct},
    directory,
    key_place::{self, KeyPlace, Named, secret},
    link::Access,
    peers, profile,
    provision::Means,
    scrape,
    text::Text,
    tls::Tls,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    node: RawNode,
    #[serde(default)]
    ledger: RawLedger,
    #[serde(default)]
    metering: RawMetering,
    mqtt: RawMqtt,
    platform: RawPlatform,
    #[serde(default)]
    local: RawLocal,
    #[serde(default)]
    provision: RawProvision,
    #[serde(default)]
    capacity: RawCapacity,
    #[serde(default)]
    directory: directory::Raw,
    #[serde(default)]
    demand: RawDemand,
    #[serde(default)]
    metrics: scrape::Raw,
    shop: Option<profile::Raw>,
    peers: Option<peers::Raw>,
    #[serde(default)]
    template: Vec<RawProduct>,
    #[serde(default)]
    product: Vec<RawProduct>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    site: Option<String>,
    name: Option<String>,
    key: Option<PathBuf>,
    signer: Option<PathBuf>,
    key_password: Option<PathBuf>,
    signer_user: Option<String>,
    #[serde(default = "signer_timeout_ms")]
    signer_timeout_ms: u64,
    #[serde(default = "node_pem")]
    certificates: PathBuf,
    #[serde(default = "salt")]
    salt: PathBuf,
    #[serde(default = "trust")]
    trust: Vec<PathBuf>,
    firmware: Option<PathBuf>,
    firmware_signer: Option<PathBuf>,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLedger {
    dir: PathBuf,
    rules: Option<PathBuf>,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawMetering {
    root: PathBuf,
    sample_ms: u64,
    window_s: u64,
    nvml: PathBuf,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMqtt {
    host: Option<String>,
    port: Option<u16>,
    username: Option<String>,
    password: Option<PathBuf>,
    tls_ca: Option<PathBuf>,
    tls_certificate: Option<PathBuf>,
    tls_key: Option<PathBuf>,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlatform {
    certificates: PathBuf,
    #[serde(default = "compare_s")]
    compare_s: u64,
    #[serde(default)]
    accounts_required: bool,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLocal {
    socket: PathBuf,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawProvision {
    place: String,
    command: Vec<String>,
    socket: Option<PathBuf>,
    timeout_s: u64,
    network: Boundary,
    address: Option<String>,
    storage: Option<PathBuf>,
}
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawCapacity {
    cpu_millicores: Option<u64>,
    memory_bytes: Option<u64>,
    storage_bytes: Option<u64>,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawDemand {
    every_s: u64,
    hold_s: u64,
}
impl Default for RawDemand {
    fn default() -> Self {
        Self { every_s: 60, hold_s: 900 }
    }
}
impl Default for RawLedger {
    fn default() -> Self {
        Self { dir: "ledger".into(), rules: None }
    }
}
impl Default for RawMetering {
    fn default() -> Self {
        Self { root: "/".into(), sample_ms: 1000, window_s: 60, nvml: gpu::LIBRARY.into() }
    }
}
impl Default for RawLocal {
    fn default() -> Self {
        Self { socket: "hufu.sock".into() }
    }
}
impl Default for RawProvision {
    fn default() -> Self {
        Self {
            place: "hufu-orders".to_owned(),
            command: Vec::new(),
            socket: None,
            timeout_s: 30,
            network: Boundary::Cgroup,
            address: None,
            storage: None,
        }
    }
}
fn signer_timeout_ms() -> u64 {
    5000
}
fn node_pem() -> PathBuf {
    "node.pem".into()
}
fn salt() -> PathBuf {
    "salt".into()
}
fn trust() -> Vec<PathBuf> {
    vec!["trust.pem".into()]
}
fn compare_s() -> u64 {
    30
}
/// The checked configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Site segment.
    pub(crate) site: String,
    /// Node segment.
    pub(crate) node: String,
    /// Where the node's key is.
    pub(crate) key: KeyPlace,
    /// The node's certificate chain, leaf first.
    pub(crate) certificates: PathBuf,
    /// 32 secret bytes the entries' salts come from.
    pub(crate) salt: PathBuf,
    /// Trust anchors for buyers and the platform.
    pub(crate) trust: Vec<PathBuf>,
    /// The ledger's directory.
    pub(crate) ledger_dir: PathBuf,
    /// Where the burnt-in record lies that site, name and broker are from, and its revision.
    pub(crate) firmware: Option<(PathBuf, u64)>,
    /// The rule table's text a new ledger starts with.
    pub(crate) rules: String,
    /// Root under which `/proc` and `/sys` are read.
    pub(crate) root: PathBuf,
    /// Sampling interval, ns.
    pub(crate) sample_ns: u64,
    /// Usage window, ns.
    pub(crate) window_ns: u64,
    /// NVIDIA's management library, a path or a name for the loader.
    pub(crate) nvml: PathBuf,
    /// The broker, and who this node is there.
    pub(crate) broker: Access,
    /// The platform's certificate chain, leaf first.
    pub(crate) platform_certificates: PathBuf,
    /// How long the first signature after a start waits for the platform's word on what it holds, ns.
    pub(crate) compare_ns: u64,
    /// Whether only users of whose accounts the platform told may buy.
    pub(crate) accounts_required: bool,
    /// Unix socket of the local API.
    pub(crate) socket: PathBuf,
    /// Parent cgroup of the orders' places.
    pub(crate) place: String,
    /// Who makes places and runs workloads.
    pub(crate) provision: Means,
    /// Its time limit, seconds.
    pub(crate) provision_timeout_s: u64,
    /// Where traffic of orders is counted.
    pub(crate) boundary: Boundary,
    /// Where a buyer reaches an order whose answer names no address.
    pub(crate) address: Option<Template>,
    /// Directory in which orders have theirs; without it storage is not metered.
    pub(crate) storage: Option<PathBuf>,
    /// Sellable thousandths of a core; absent: what the server has.
    pub(crate) cpu_millicores: Option<u64>,
    /// Sellable bytes of memory; absent: what the server has.
    pub(crate) memory_bytes: Option<u64>,
    /// Sellable bytes of storage; absent: none.
    pub(crate) storage_bytes: Option<u64>,
    /// Who is asked for certificates and revocation lists, if somebody is.
    pub(crate) directory: Option<directory::Setting>,
    /// How demands of the platform are answered.
    pub(crate) demand: crate::demand::Terms,
    /// What monitoring systems may read.
    pub(crate) metrics: scrape::Offer,
    /// Whom this node follows, if anybody.
    pub(crate) peers: Option<peers::Terms>,
    /// How the site presents itself.
    pub(crate) shop: Option<ShopProfile>,
    /// Products on sale.
    pub(crate) products: Vec<ProductConfig>,
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// Status 74 when the file cannot be read, 78 when it is wrong: the line names the key and what would be right.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure<Text>> {
        let shown = path.display().to_string();
        let bytes = bounded::read(path, bounded::TEXT_BYTES_MAX)
            .map_err(|e| Failure::new(Exit::Io, Text::FileUnreadable { path: shown.clone(), why: e.to_string() }))?;
        let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let text = String::from_utf8(bytes).map_err(|e| format!("not UTF-8 text: {}", e.utf8_error()));
        let config = text.and_then(|text| Self::from_toml(&text, dir));
        config.map_err(|why| Failure::new(Exit::Config, Text::ConfigWrong { path: shown, why }))
    }

    fn from_toml(text: &str, dir: &Path) -> Result<Self, String> {
        let raw: Raw = toml::from_str(text).map_err(|e| e.to_string().trim_end().replace('\n', " "))?;
        let at = |path: &Path| dir.join(path);
        let key = key_place::find(
            &Named {
                key: raw.node.key.as_deref(),
                key_password: raw.node.key_password.as_deref(),
                signer: raw.node.signer.as_deref(),
                signer_user: raw.node.signer_user.as_deref(),
                signer_timeout_ms: raw.node.signer_timeout_ms,
            },
            dir,
        )?;
        let burnt_in = match (&raw.node.firmware, &raw.node.firmware_signer) {
            (None, None) => None,
            (Some(image), Some(signer)) => Some(crate::firmware::load(&at(image), &at(signer))?),
            _ => return Err("node.firmware and node.firmware_signer belong together".to_owned()),
        };
        let ports = if raw.mqtt.tls_ca.is_some() { 8883 } else { 1883 };
        let (site, node, host, port) = match (&burnt_in, raw.node.site, raw.node.name, raw.mqtt.host, raw.mqtt.port) {
            (Some(record), None, None, None, None) => {
                (record.site.clone(), record.node.clone(), record.host.clone(), record.port)
            }
            (Some(_), ..) => {
                return Err("node.firmware gives site, name and broker: remove node.site, node.name, mqtt.host and \
                            mqtt.port"
                    .to_owned());
            }
            (None, Some(site), Some(node), host, port) => {
                (site, node, host.unwrap_or_else(|| "127.0.0.1".to_owned()), port.unwrap_or(ports))
            }
            (None, ..) => return Err("node.site and node.name are required (or node.firmware)".to_owned()),
        };
        for (key, segment) in [("node.site", &site), ("node.name", &node)] {
            if !segment_ok(segment) {
                return Err(format!("{key} = {segment:?}: 1 to 64 of a-z 0-9 _ - expected"));
            }
        }
        if node == hufu_trade::if2::PLATFORM {
            return Err("node.name = \"platform\" is the platform's own name".to_owned());
        }
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!("mqtt.host = {host:?}: the name or address of a broker expected"));
        }
        if port == 0 {
            return Err("mqtt.port = 0: 1 to 65535 expected".to_owned());
        }
        let user = match (raw.mqtt.username, raw.mqtt.password) {
            (None, None) => None,
            (Some(name), Some(file)) if !name.is_empty() => Some((name, secret(&file, dir))),
            _ => return Err("mqtt.username and mqtt.password (a file, or credential:NAME) belong together".to_owned()),
        };
        let tls = match (raw.mqtt.tls_ca, raw.mqtt.tls_certificate, raw.mqtt.tls_key) {
            (None, None, None) => None,
            (Some(ca), None, None) => Some(Tls { ca: at(&ca), identity: None }),
            (Some(ca), Some(chain), Some(key)) => {
                Some(Tls { ca: at(&ca), identity: Some((at(&chain), secret(&key, dir))) })
            }
            _ => {
                return Err("mqtt.tls_ca says whom to believe; mqtt.tls_certificate and mqtt.tls_key need it and \
                            belong together"
                    .to_owned());
            }
        };
        let broker = Access { host, port, user, tls };
        if !(100..=60_000).contains(&raw.metering.sample_ms) {
            return Err("metering.sample_ms: 100 to 60000 expected".to_owned());
        }
        let window_s = raw.metering.window_s;
        if !(1..=3600).contains(&window_s) || 86_400 % window_s != 0 || window_s * 1000 < raw.metering.sample_ms {
            return Err("metering.window_s: 1 to 3600, a divisor of 86400, not below sample_ms".to_owned());
        }
        if raw.provision.place.is_empty() || raw.provision.place.split('/').any(|s| s.is_empty() || s.starts_with('.'))
        {
            return Err("provision.place: a cgroup path without leading slash expected".to_owned());
        }
        if !(1..=600).contains(&raw.provision.timeout_s) {
            return Err("provision.timeout_s: 1 to 600 expected".to_owned());
        }
        let provision = match (raw.provision.command, raw.provision.socket) {
            (command, None) => Means::Command(command),
            (command, Some(socket)) if command.is_empty() => Means::Helper(at(&socket)),
            _ => {
                return Err(
                    "provision.command and provision.socket exclude each other: the helper behind the socket has \
                            a command of its own"
                        .to_owned(),
                );
            }
        };
        let address = raw.provision.address.as_deref().map(Template::from_text).transpose();
        let address = address.map_err(|why| format!("provision.address: {why}"))?;
        if raw.provision.storage.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err("provision.storage: the full path of a directory expected".to_owned());
        }
        if !(1..=86_400).contains(&raw.platform.compare_s) {
            return Err("platform.compare_s: 1 to 86400 expected".to_owned());
        }
        let RawDemand { every_s, hold_s } = raw.demand;
        if every_s > 86_400 || !(60..=86_400).contains(&hold_s) {
            return Err("demand.every_s: 0 to 86400, demand.hold_s: 60 to 86400 expected".to_owned());
        }
        let demand = crate::demand::Terms {
            every_ns: (every_s > 0).then_some(every_s * 1_000_000_000),
            hold_ns: i64::try_from(hold_s * 1_000_000_000).unwrap_or(i64::MAX),
        };
        let rules = match &raw.ledger.rules {
            None => hufu_trade::rules::DEFAULT.to_owned(),
            Some(path) => bounded::read_text(&at(path)).map_err(|e| format!("ledger.rules: {e}"))?,
        };
        hufu_trade::rules::RuleTable::from_toml(&rules).map_err(|e| format!("ledger.rules: {e}"))?;
        let products = catalogue::products(raw.product, &raw.template)?;
        // Nobody can guess how much of a disk is meant for orders.
        let unsold = products.iter().find(|product| product.disk.storage_bytes > 0).map(|product| &product.id);
        if let (Some(id), None) = (unsold, raw.capacity.storage_bytes) {
            return Err(format!(
                "product {id:?}: disk.storage_bytes: capacity.storage_bytes must say what there is to sell"
            ));
        }
        Ok(Self {
            site,
            node,
            key,
            certificates: at(&raw.node.certificates),
            salt: secret(&raw.node.salt, dir),
            trust: raw.node.trust.iter().map(|path| at(path)).collect(),
            ledger_dir: at(&raw.ledger.dir),
            firmware: burnt_in.map(|record| (record.image, record.revision)),
            rules,
            root: raw.metering.root,
            sample_ns: raw.metering.sample_ms * 1_000_000,
            window_ns: window_s * 1_000_000_000,
            nvml: raw.metering.nvml,
            broker,
            platform_certificates: at(&raw.platform.certificates),
            compare_ns: raw.platform.compare_s * 1_000_000_000,
            accounts_required: raw.platform.accounts_required,
            socket: at(&raw.local.socket),
            place: raw.provision.place,
            provision,
            provision_timeout_s: raw.provision.timeout_s,
            boundary: raw.provision.network,
            address,
            storage: raw.provision.storage,
            cpu_millicores: raw.capacity.cpu_millicores,
            memory_bytes: raw.capacity.memory_bytes,
            storage_bytes: raw.capacity.storage_bytes,
            directory: raw.directory.checked(dir, &at(&raw.ledger.dir))?,
            demand,
            metrics: raw.metrics.checked()?,
            peers: raw.peers.map(peers::Raw::checked).transpose()?,
            shop: raw.shop.map(profile::Raw::checked).transpose()?,
            products,
        })
    }

    /// `{site}/{node}`: the paper's ComputingPoolID.
    pub(crate) fn pool(&self) -> String {
        format!("{}/{}", self.site, self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../packaging/hufu.toml.sample");

    /// The sample with the lines that show defaults in force, or with none of them.
    fn sample(defaults: bool) -> String {
        let shows =
            |line: &str| line.strip_prefix('#').is_some_and(|key| key.starts_with(|c: char| c.is_ascii_lowercase()));
        let lines = SAMPLE.lines().map(|line| if shows(line) && defaults { &line[1..] } else { line });
        lines.map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn the_sample_names_every_default_as_it_is() {
        let dir = Path::new("/etc/hufu");
        let (said, silent) = (Config::from_toml(&sample(true), dir), Config::from_toml(&sample(false), dir));
        assert_eq!(format!("{said:?}"), format!("{silent:?}"));
        let shown = |text: &str| toml::from_str::<toml::Table>(text).unwrap().to_string().lines().count();
        assert!(shown(&sample(true)) > shown(&sample(false)) + 10, "defaults are shown");
    }

    #[test]
    fn the_sample_knows_every_key() {
        // serde names the keys it knows when it meets one that it does not.
        let known = |table: &str| {
            let text = sample(false).replacen(&format!("\n{table}\n"), &format!("\n{table}\nno_such_key = 1\n"), 1);
            let error = Config::from_toml(&text, Path::new("/")).unwrap_err();
            let (_, expected) = error.split_once("expected").unwrap();
            let names = expected.split('`').skip(1).step_by(2).map(str::to_owned);
            names.filter(|name| !name.contains('\n')).collect::<Vec<_>>()
        };
        let tables = [
            "[node]",
            "[mqtt]",
            "[platform]",
            "[ledger]",
            "[metering]",
            "[local]",
            "[provision]",
            "[capacity]",
            "[directory]",
            "[metrics]",
            "[peers]",
            "[shop]",
            "[[template]]",
            "[[product]]",
        ];
        for table in tables {
            let keys = known(table);
            assert!(!keys.is_empty(), "{table}");
            for key in keys.iter().filter(|key| *key != "tariff") {
                assert!(SAMPLE.contains(&format!("{key} = ")), "{table} {key}");
            }
        }
    }
}
