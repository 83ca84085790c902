//! `hufu agent`, `check-config`, `status`, `products`: the daemon's command line. The daemon itself is `crate::daemon`.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use hufu_audit::{Exit, Failure};
use hufu_trade::{if2::Product, resource::Resource};
use serde_json::{Value, json};

use crate::{
    book::Book,
    catalogue::ProductConfig,
    cmd::{Context, Outcome, bug},
    config::Config,
    daemon::{self, Lifetime},
    gpus,
    hardware::Hardware,
    local::Question,
    setup,
    stock::{Capacity, Shop},
    text::Text,
};

/// Longest wait for the daemon's status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest answer of the daemon, bytes: a status of ten thousand contracts.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Which configuration.
#[derive(clap::Args)]
pub(super) struct ConfigArgs {
    /// The configuration file
    #[arg(long, value_name = "F", default_value = "/etc/hufu/hufu.toml")]
    pub(super) config: PathBuf,
}

impl ConfigArgs {
    /// The file.
    pub(super) fn path(&self) -> &PathBuf {
        &self.config
    }
}

/// How to run the daemon.
#[derive(clap::Args)]
pub(super) struct AgentArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Also end when standard input does: never outlive the parent
    #[arg(long)]
    exit_with_parent: bool,
}

/// Runs the daemon; its log goes to stderr, or to the journal behind it.
pub(super) fn agent(args: &AgentArgs) -> Outcome {
    super::keep_memory_private();
    let config = Config::load(&args.config.config)?;
    crate::journal::begin();
    daemon::run(config, if args.exit_with_parent { Lifetime::Parent } else { Lifetime::Service })
}

/// Whether the daemon would start: configuration, keys and certificates.
pub(super) fn check_config(args: &ConfigArgs, context: &Context) -> Outcome {
    let config = Config::load(&args.config)?;
    setup::signs(&config, &setup::material(&config)?)?;
    let path = args.config.display().to_string();
    let shown = json!({ "config": path, "node": config.pool(), "products": config.products.len() });
    context.show(&shown, || Text::ConfigGood { path: path.clone(), node: config.pool() }.render(context.lang))?;
    Ok(Exit::Done)
}

/// What the running daemon says.
pub(super) fn status(args: &ConfigArgs, context: &Context) -> Outcome {
    let config = Config::load(&args.config)?;
    let found = ask(&config.socket, &Question::Status)?;
    context.show(&found, || status_text(&found, context))?;
    Ok(Exit::Done)
}

/// The status as a person reads it.
fn status_text(status: &Value, context: &Context) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let log = |name: &str| {
        let log = &status["logs"][name];
        format!("{name} {} ({})", text(&log["size"]), text(&log["receipted"]))
    };
    let head = Text::NodeStatus {
        node: text(&status["node"]),
        link: if status["linked"] == true { Text::Linked {} } else { Text::NotLinked {} }.render(context.lang),
        logs: ["trade", "finance"].map(log).join(", "),
        alarms: text(&status["alarm_count"]),
    };
    let mut out = format!("{}\n", head.render(context.lang));
    let contracts = status["contracts"].as_array().map_or(&[][..], Vec::as_slice);
    if !contracts.is_empty() {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
        table.set_header(Text::StatusColumns {}.render(context.lang).split('|'));
        for contract in contracts {
            let bill = contract["bills"].as_array().and_then(|bills| bills.last()).unwrap_or(&Value::Null);
            let cells = [
                &contract["contract_no"],
                &contract["product"],
                &contract["state"],
                &contract["records"],
                &contract["service_end"],
                &bill["total_cny"],
                &bill["receipted"],
            ];
            table.add_row(cells.map(text));
        }
        out.push_str(&format!("{table}\n"));
    }
    let hardware = &status["hardware"];
    let changed: Vec<String> = hardware["changed"].as_array().into_iter().flatten().map(text).collect();
    if !changed.is_empty() {
        out.push_str(&format!("{}\n", Text::HardwareChanged { what: changed.join("; ") }.render(context.lang)));
    }
    for list in status["directory"]["lists"].as_array().into_iter().flatten() {
        let why = list["cached_because"].as_str().map_or_else(String::new, |why| format!(" ({why})"));
        let line = Text::StatusDirectory { of: text(&list["of"]), age: text(&list["age_s"]), why };
        out.push_str(&format!("{}\n", line.render(context.lang)));
    }
    for product in status["products"].as_array().into_iter().flatten() {
        let (id, stock, why) = (text(&product["id"]), text(&product["stock"]), text(&product["why"]));
        out.push_str(&format!("{}\n", Text::StatusStock { id, stock, why }.render(context.lang)));
    }
    let agent = &status["agent"];
    let own = Text::StatusOwn {
        cpu_ms: agent["cpu_ns"]
            .as_str()
            .and_then(|ns| ns.parse::<u64>().ok())
            .map_or("-".to_owned(), |ns| (ns / 1_000_000).to_string()),
        written: text(&agent["written_bytes"]),
        threads: text(&agent["threads"]),
    };
    let memory =
        Text::StatusOwnMemory { resident: text(&agent["resident_bytes"]), kernel: text(&agent["kernel_bytes"]) };
    for line in [own, memory] {
        out.push_str(&format!("{}\n", line.render(context.lang)));
    }
    for alarm in status["alarms"].as_array().into_iter().flatten() {
        out.push_str(&format!("{} {}: {}\n", text(&alarm["at"]), text(&alarm["what"]), text(&alarm["detail"])));
    }
    out
}

/// What the agent behind a socket answers.
pub(super) fn ask(socket: &Path, question: &Question) -> Result<Value, Failure<Text>> {
    let what = socket.display().to_string();
    let away = |why: &dyn std::fmt::Display| {
        Failure::new(Exit::Unavailable, Text::AgentAway { socket: what.clone(), why: why.to_string() })
    };
    let mut stream = UnixStream::connect(socket).map_err(|e| away(&e))?;
    stream.set_read_timeout(Some(STATUS_TIMEOUT)).map_err(|e| away(&e))?;
    let mut line = serde_json::to_vec(question).map_err(|e| bug(&e))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(|e| away(&e))?;
    let mut text = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text).map_err(|e| away(&e))?;
    serde_json::from_str(&text).map_err(|_| away(&"no answer"))
}

/// What the configuration would offer on this server, with nothing sold.
pub(super) fn products(args: &ConfigArgs, context: &Context) -> Outcome {
    let config = Config::load(&args.config)?;
    let unmetered = |e: hufu_metering::Error| Failure::new(Exit::Io, Text::MeterFailed { why: e.to_string() });
    let has = hufu_metering::capacity::capacity(&config.root).map_err(unmetered)?;
    let capacity = Capacity {
        cpu_millicores: config.cpu_millicores.unwrap_or(u64::from(has.inventory.cpu.count) * 1000),
        memory_bytes: config.memory_bytes.or(has.inventory.memory.total_bytes).unwrap_or(0),
        storage_bytes: config.storage_bytes.unwrap_or(0),
        sources: crate::stock::sources(&config).map_err(unmetered)?,
        gpus: gpus::now(&config),
    };
    let shop = Shop {
        products: config.products,
        capacity,
        certificates: Vec::new(),
        hardware: Hardware::default(),
        profile: None,
    };
    let book = Book::default();
    let shown = shop.catalogue(&book).products.into_iter().zip(&shop.products);
    let shown: Vec<_> = shown.map(|(product, config)| Offering::new(&shop, product, config)).collect();
    context.show(&json!({ "products": shown }), || {
        shown.iter().flat_map(|offering| offering.lines(context)).map(|line| line + "\n").collect()
    })?;
    Ok(Exit::Done)
}

/// A product as it would be offered, and what is withheld of it.
#[derive(serde::Serialize)]
struct Offering {
    #[serde(flatten)]
    product: Product,
    /// What keeps there from being one unit more.
    why: String,
    /// Prices that are not offered, and why.
    not_offered: Vec<NotOffered>,
}

#[derive(serde::Serialize)]
struct NotOffered {
    resource: String,
    why: String,
}

impl Offering {
    fn new(shop: &Shop, product: Product, config: &ProductConfig) -> Self {
        let not_offered = config.tariff.prices.iter().filter_map(|price| {
            let resource = price.resource.parse::<Resource>().map_err(|error| error.to_string());
            let why = resource.and_then(|resource| shop.metered(config, &resource)).err()?;
            Some(NotOffered { resource: price.resource.clone(), why })
        });
        let not_offered = not_offered.collect();
        Self { product, why: shop.stock(&Book::default(), config).why, not_offered }
    }

    fn lines(&self, context: &Context) -> Vec<String> {
        let product = &self.product;
        let mut lines =
            vec![format!("{} ({}, {}): {} ({})", product.id, product.class, product.name, product.stock, self.why)];
        lines.extend(
            product.prices.iter().map(|price| format!("  {} {} CNY/{}", price.resource, price.price, price.per)),
        );
        let say = |text: Text| format!("  {}", text.render(context.lang));
        lines.extend(
            self.not_offered
                .iter()
                .map(|price| say(Text::PriceNotOffered { resource: price.resource.clone(), why: price.why.clone() })),
        );
        lines.extend(product.sla.as_ref().map(|sla| {
            let percent = format!("{}.{:02}", sla.availability_bp / 100, sla.availability_bp % 100);
            let response = sla.response_s.map_or_else(|| "-".to_owned(), |response_s| format!("{response_s} s"));
            say(Text::ProductSla { percent, response })
        }));
        lines.extend(product.delivery.as_ref().map(|delivery| {
            let note = delivery.note.clone().unwrap_or_else(|| "-".to_owned());
            say(Text::ProductDelivery { by: delivery.by.clone(), note })
        }));
        lines
    }
}
