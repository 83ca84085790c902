//! `hufu-platform serve`: identity, database, broker, MQTT link and HTTP, until a signal.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hufu_audit::{Exit, Failure};
use serde::Serialize;
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc, watch},
};
use tracing::level_filters::LevelFilter;

use crate::{
    broker,
    callback::{self, Teller},
    cli::{Context, bug},
    clock,
    courier::Courier,
    file,
    http::{self, Api},
    identity::Identity,
    inbox::Inbox,
    link::{self, Link},
    relay::Relay,
    stamper::Stamper,
    store::{Create, Kind, Place, place::VARIABLE},
    text::Text,
    tls::Tls,
    worker::{self, Worker},
};

/// Buyers' requests that may wait for the link.
const OUTGOING_MAX: usize = 64;
/// Answers that a waiting request may fall behind by.
const ANSWERED_MAX: usize = 256;
/// Held locked while a platform works on the directory.
const LOCK: &str = "platform.lock";
/// Where the addresses are written.
const READY: &str = "platform.json";

/// Flags of `serve`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory of this process, and of the database unless it is PostgreSQL; made if it is not there
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The site this platform serves, 1 to 64 of a-z 0-9 _ -
    #[arg(long, value_name = "SITE")]
    site: String,
    /// The platform's secret key file, or credential:NAME for one that systemd hands over
    #[arg(long, value_name = "F")]
    key: PathBuf,
    /// File with the password of an encrypted key in one line, mode 0600, or credential:NAME
    #[arg(long, value_name = "F")]
    key_password: Option<PathBuf>,
    /// The platform's certificate chain (PEM), leaf first
    #[arg(long, value_name = "F")]
    cert: PathBuf,
    /// Trust anchors for nodes and buyers (PEM); may be given several times
    #[arg(long, value_name = "CA.pem", required = true)]
    trust: Vec<PathBuf>,
    /// Address of the HTTP API for buyers; port 0 lets the kernel choose
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8480")]
    listen: SocketAddr,
    /// The MQTT broker
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port, required_unless_present = "embedded_broker")]
    broker: Option<(String, u16)>,
    /// Who the platform is at the broker
    #[arg(long, value_name = "NAME", requires = "broker_password")]
    broker_user: Option<String>,
    /// File of that name's password, for the owner alone
    #[arg(long, value_name = "F", requires = "broker_user")]
    broker_password: Option<PathBuf>,
    /// Whom to believe that it is the broker (PEM); without it the line is open
    #[arg(long, value_name = "CA.pem")]
    broker_ca: Option<PathBuf>,
    /// The platform's certificate chain for the broker (PEM), leaf first
    #[arg(long, value_name = "F", requires_all = ["broker_ca", "broker_key"])]
    broker_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "F", requires = "broker_cert")]
    broker_key: Option<PathBuf>,
    /// Take messages of nodes that show no token, too
    #[arg(long)]
    without_tokens: bool,
    /// Time-stamping service (RFC 3161) that is asked when receipts existed: http://HOST[:PORT][/PATH]
    #[arg(long, value_name = "URL", value_parser = http_url)]
    tsa: Option<String>,
    /// Seconds between two time-stamps of one log
    #[arg(long, value_name = "S", default_value_t = 3600, requires = "tsa", value_parser = clap::value_parser!(u32).range(1..=604_800))]
    tsa_every_s: u32,
    /// Where the operator's own system is told when an order or a bill changed: http://HOST[:PORT][/PATH]
    #[arg(long, value_name = "URL", value_parser = http_url)]
    callback: Option<String>,
    /// Run an MQTT broker inside; it keeps nothing on disk
    #[arg(long, conflicts_with = "broker")]
    embedded_broker: bool,
    /// Address of the broker inside; port 0 lets the kernel choose
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:1883", requires = "embedded_broker")]
    broker_listen: SocketAddr,
    /// PostgreSQL database, which several workers may share: postgresql://USER:PASSWORD@HOST:PORT/DATABASE; others see it, rather use the file
    #[arg(long, value_name = "URL", conflicts_with = "database_file")]
    database: Option<String>,
    /// File that holds the URL of the PostgreSQL database; without either, HUFU_DATABASE_URL counts
    #[arg(long, value_name = "F")]
    database_file: Option<PathBuf>,
    /// On PostgreSQL: seconds after which the others take over the nodes of a worker that vanished
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=600))]
    lease_s: u16,
    /// Also end when standard input does: never outlive the parent
    #[arg(long)]
    exit_with_parent: bool,
}

fn http_url(text: &str) -> Result<String, String> {
    if text.starts_with("http://") { Ok(text.to_owned()) } else { Err("http://HOST[:PORT][/PATH]".to_owned()) }
}

fn host_port(text: &str) -> Result<(String, u16), String> {
    let expected = || "HOST:PORT".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(expected)?;
    if host.is_empty() { Err(expected()) } else { Ok((host.to_owned(), port)) }
}

/// Where the platform can be reached, and its database.
#[derive(Serialize)]
struct Ready {
    http: String,
    broker: String,
    db: String,
}

/// Serves until a signal or, where asked, the end of standard input.
///
/// # Errors
/// 74 for a directory, port or file that cannot be used, 78 for wrong configuration.
pub(crate) async fn run(args: &Args, context: &Context) -> Result<Exit, Failure<Text>> {
    log_to_stderr();
    let mut identity = Identity::load(
        &args.site,
        (&args.key, args.key_password.as_deref(), &args.cert),
        &args.trust,
        clock::now_ns(),
    )?;
    identity.needs_tokens = !args.without_tokens;
    let identity = Arc::new(identity);
    let _lock = lock(&args.dir)?;
    let variable = std::env::var(VARIABLE).ok();
    let place = Place::of(&args.dir, (args.database.as_deref(), args.database_file.as_deref()), variable.as_deref())?;
    let store = place.open(Create::IfMissing).await.map_err(|error| place.failed(&error))?;
    callback::tell(&store, args.callback.as_deref()).await.map_err(|error| place.failed(&error))?;
    let port_in_use = |error: std::io::Error| {
        let text = Text::PortInUse { address: args.listen.to_string(), why: error.to_string() };
        Failure::new(Exit::Io, text)
    };
    let listener = TcpListener::bind(args.listen).await.map_err(port_in_use)?;
    let address = listener.local_addr().map_err(port_in_use)?;
    let (host, port) = match &args.broker {
        Some(broker) => broker.clone(),
        None => {
            let address = broker::start(args.broker_listen).await?;
            (address.ip().to_string(), address.port())
        }
    };
    let (outgoing, sent) = mpsc::channel(OUTGOING_MAX);
    let (answered, _) = broadcast::channel(ANSWERED_MAX);
    let relay = Relay::new(store.clone(), Arc::clone(&identity), outgoing, answered.clone(), clock::now_ns);
    let (stop, stopped) = watch::channel(false);
    let mut leased = None;
    let worker = match store.kind() {
        Kind::Sqlite => None,
        Kind::Postgres => {
            let name = worker::name(&args.dir)?;
            let (held, holds) = watch::channel(BTreeSet::new());
            let lease = Duration::from_secs(u64::from(args.lease_s));
            leased = Some(tokio::spawn(worker::keep(store.clone(), name.clone(), lease, held, stopped.clone())));
            Some(Worker { name, held: holds })
        }
    };
    let (kept, signer) = (store.clone(), Arc::clone(&identity));
    let courier = Courier { store: kept, identity: signer, relay: relay.clone(), worker: worker.clone() };
    let api = Api { store: store.clone(), identity: Arc::clone(&identity), relay, now: clock::now_ns };
    let broker = link::Broker {
        host: host.clone(),
        port,
        site: args.site.clone(),
        user: args.broker_user.clone().zip(args.broker_password.clone()),
        tls: args
            .broker_ca
            .clone()
            .map(|ca| Tls { ca, identity: args.broker_cert.clone().zip(args.broker_key.clone()) }),
        boot: clock::now_ns() / 1_000_000_000,
    };
    let teller_identity = Arc::clone(&identity);
    let inbox = Inbox::new(store.clone(), identity).of_worker(worker.as_ref().map(|worker| worker.name.clone()));
    let stamping = worker.clone();
    let link = Link { broker, inbox, outgoing: sent, answered, worker, now: clock::now_ns };
    let mut linked = tokio::spawn(link.run(stopped.clone()));
    let mut carried = tokio::spawn(courier.run(stopped.clone()));
    let teller = args.callback.clone().map(|url| Teller {
        store: store.clone(),
        identity: teller_identity,
        url,
        worker: stamping.clone(),
        now: clock::now_ns,
    });
    let stamper = args.tsa.clone().map(|url| {
        let every = Duration::from_secs(u64::from(args.tsa_every_s));
        Stamper { store: store.clone(), url, every, worker: stamping, now: clock::now_ns }
    });
    let stamping = stamper.map(|stamper| tokio::spawn(stamper.run(stopped.clone())));
    let telling = teller.map(|teller| tokio::spawn(teller.run(stopped.clone())));
    let mut quiet = stopped;
    let shutdown = async move { link::stopped(&mut quiet).await };
    let served = axum::serve(listener, http::router(Arc::new(api))).with_graceful_shutdown(shutdown);
    let mut served = tokio::spawn(async move { served.await });

    let broker = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let ready = Ready { http: address.to_string(), broker, db: place.shown() };
    let json = serde_json::to_vec(&ready).map_err(|error| bug(&error))?;
    file::replace(&args.dir.join(READY), &json)?;
    context
        .show(&ready, || Text::Ready { http: ready.http.clone(), broker: ready.broker.clone() }.render(context.lang))?;

    // Half a platform is none: without its link, or without its API, it ends, says so, and is started again.
    let exit = tokio::select! {
        exit = ended(args.exit_with_parent) => exit?,
        _ = &mut linked => return Err(bug(&"the broker link ended by itself")),
        _ = &mut carried => return Err(bug(&"the courier of notices ended by itself")),
        _ = &mut served => return Err(bug(&"the HTTP API ended by itself")),
    };
    stop.send_replace(true);
    linked.await.map_err(|error| bug(&error))?;
    carried.await.map_err(|error| bug(&error))?;
    for task in [stamping, telling].into_iter().flatten() {
        task.await.map_err(|error| bug(&error))?;
    }
    if let Some(leased) = leased {
        leased.await.map_err(|error| bug(&error))?;
    }
    // A buyer that waits for a node is not waited for.
    served.abort();
    store.close().await;
    Ok(exit)
}

/// The log is lines on stderr. The broker inside calls every client that leaves an error: it is not heard.
fn log_to_stderr() {
    use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    let heard = Targets::new().with_default(tracing::Level::INFO).with_target("rumqttd", LevelFilter::OFF);
    tracing_subscriber::registry().with(heard).with(lines).try_init().ok();
}

/// Waits for whatever ends the platform.
async fn ended(with_parent: bool) -> Result<Exit, Failure<Text>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| bug(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| bug(&error))?;
    let (parent, gone) = tokio::sync::oneshot::channel::<()>();
    if with_parent {
        // The channel closes when standard input does.
        let wait = move || {
            std::io::stdin().lock().read_to_end(&mut Vec::new()).ok();
            drop(parent);
        };
        std::thread::Builder::new().name("parent".to_owned()).spawn(wait).map_err(|error| bug(&error))?;
    }
    Ok(tokio::select! {
        _ = terminate.recv() => Exit::Done,
        _ = interrupt.recv() => Exit::Interrupted,
        _ = gone, if with_parent => Exit::Done,
    })
}

/// Makes the directory and takes its lock: two platforms would answer for each other.
fn lock(dir: &Path) -> Result<File, Failure<Text>> {
    let unusable = |why: &dyn std::fmt::Display| {
        let text = Text::DirUnwritable { path: dir.display().to_string(), why: why.to_string() };
        Failure::new(Exit::Io, text)
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| unusable(&error))?;
    let path = dir.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(|error| unusable(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(unusable(&"another hufu-platform uses it")),
        Err(std::fs::TryLockError::Error(error)) => Err(unusable(&error)),
    }
}
