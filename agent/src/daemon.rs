//! `hufu agent`: config, material, ledger, replay, then three threads joined by bounded channels: the writer, the sampler,
//! and this one with MQTT and the local API.

use std::{
    io::Read,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
};

use hufu_audit::{Exit, Failure};
use hufu_ledger::{Ledger, Options, StateFile, storage::Directory};
use hufu_trade::octets::Octets;

use crate::{
    clock::{self, Clock},
    config::Config,
    core_state,
    directory::{Asking, Known},
    ends, firmware,
    gpus::{self, Followed},
    hardware::{Hardware, Watch},
    heard::Heard,
    link::{self, Broker},
    local,
    metrics::{Metrics, Shared},
    next_key::KeyFiles,
    node::Core,
    peers,
    places::Places,
    provision::{Provisioner, Turns},
    rotation::Keys,
    sampler::{self, Setting},
    scrape,
    setup::{self, First, Material},
    status::Alarms,
    stock::{Capacity, Shop},
    text::Text,
    unsigned::Unsigned,
    writer::{Input, Writer, WriterError},
};

/// Inputs that may wait for the writer.
const INPUT_COUNT_MAX: usize = 256;
/// Messages that may wait for the link.
const OUTBOUND_COUNT_MAX: usize = 1024;
/// Room for the meters' states: about 300 bytes an order.
const METER_STATE_BYTES_MAX: usize = 1 << 20;

/// How long the daemon lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Until a signal.
    Service,
    /// Until a signal or the end of standard input, so that it never outlives its parent.
    Parent,
}

fn bug(why: &dyn std::fmt::Display) -> Failure<Text> {
    Failure::new(Exit::Software, Text::Bug { why: why.to_string() })
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// The statuses of the command contract; a ledger that failed while running is 74, one that does not replay 70.
pub(crate) fn run(config: Config, lifetime: Lifetime) -> Result<Exit, Failure<Text>> {
    let mut material = setup::material(&config)?;
    let dir = config.ledger_dir.clone();
    let failed = |error: hufu_ledger::Error| setup::ledger_failure(&dir, &error);
    let (ledger, recovery) = Ledger::open(&dir, &Options::new(&config.pool())).map_err(failed)?;
    let unread = |error: WriterError| writer_failure(&dir, &error);
    let keys = Keys::in_force(KeyFiles::of(&config).ok(), &mut material, &ledger, unread)?;
    // After the ledger's lock is ours: two daemons never write the same floor.
    if let Some((image, revision)) = &config.firmware {
        firmware::floor::accept(&dir, image, *revision)?;
    }
    let meter_state = StateFile::open(&dir.join("meter.state"), METER_STATE_BYTES_MAX).map_err(failed)?;
    let core_state = StateFile::open(&dir.join("core.state"), core_state::BYTES_MAX).map_err(failed)?;
    let stored = match meter_state.read(&ledger) {
        Ok(state) => state.map_or_else(Vec::new, |state| sampler::unpack(&state.bytes)),
        Err(error) => {
            tracing::warn!(%error, "meter state not readable; orders go on from their last records");
            Vec::new()
        }
    };
    let listener = local::bind(&config.socket).map_err(|e| {
        Failure::new(Exit::Io, Text::FileUnwritable { path: config.socket.display().to_string(), why: e.to_string() })
    })?;
    let (inputs, inbox) = sync_channel(INPUT_COUNT_MAX);
    let (commands, obeyed) = sync_channel(INPUT_COUNT_MAX);
    let (ends, quit) = (ends::start(commands.clone()), commands.clone());
    let ends = ends.inspect_err(|error| tracing::warn!(%error, "ends of cgroups are not heard")).ok();
    let (outbound, sent) = tokio::sync::mpsc::channel(OUTBOUND_COUNT_MAX);
    let mut core = core(&config, &material)?;
    core.directory = config.directory.clone().map(Known::new);
    let counted = Shared::default();
    let (to_peers, beside) = config.peers.as_ref().map(|_| peers::queue()).unzip();
    let broker = Broker {
        access: config.broker.clone(),
        pool: config.pool(),
        boot: clock::now().real_ns / 1_000_000_000,
        jitter_ms: u64::from(u32::from_be_bytes([
            0,
            0,
            material.identity.cert_id.0[0],
            material.identity.cert_id.0[1],
        ])),
        counted: counted.clone(),
        peers: config.peers.as_ref().zip(to_peers.clone()).map(|(terms, to_peers)| (terms.follow.clone(), to_peers)),
    };
    let weak = outbound.downgrade();
    let provisioner = Provisioner {
        root: config.root.clone(),
        parent: config.place.clone(),
        means: config.provision.clone(),
        boundary: config.boundary,
        timeout_s: config.provision_timeout_s,
        pool: config.pool(),
        address: config.address.clone(),
        writer: inputs.clone(),
        turns: Turns::default(),
    };
    let watched = (config.root.as_path(), dir.as_path());
    let hardware = Watch::begin(watched, &material.identity.salt_key, clock::now(), inputs.clone());
    let hardware = hardware.map_err(|(path, error)| {
        Failure::new(Exit::Io, Text::FileUnwritable { path: path.display().to_string(), why: error.to_string() })
    })?;
    let core_asks = core.directory.is_some();
    let writer = Writer {
        core,
        ledger,
        storage: Arc::new(Directory::new(&dir)),
        meter_state,
        core_state,
        state_at: 0,
        state_blocks: core_state::BLOCKS,
        link: outbound,
        sampler: commands,
        inputs: inbox,
        places: Places::Site(provisioner),
        alarms: Alarms::default(),
        metrics: Metrics::new(&config.pool(), &counted, config.metrics.show),
        clock: Clock::SYSTEM,
        dir: dir.clone(),
        compare_ns: config.compare_ns,
        first: First::of(&config, &material),
        hardware: Some(hardware),
        set_aside: recovery.set_aside,
        comparing: None,
        unsigned: Unsigned::default(),
        signer_pause_ns: 0,
        keys,
        peers: to_peers,
        heard: Heard::waiting(config.peers.as_ref().map(|terms| terms.hear_ns)),
        peers_shown: None,
        directory: core_asks.then(|| Asking::new(inputs.clone())),
    };
    // Where nothing is sold of them, and no order holds one still, the library is not even loaded.
    let are_held = stored.iter().any(|state| !state.gpus.is_empty());
    let followed =
        match (gpus::are_sold(&config) || are_held).then(|| Followed::start(&config.nvml, Clock::SYSTEM)).transpose() {
            Ok(followed) => followed,
            Err(error) => return Err(bug(&error)),
        };
    let setting = Setting {
        root: config.root.clone(),
        interval_ns: config.sample_ns,
        window_ns: config.window_ns,
        stored,
        commands: obeyed,
        writer: inputs.clone(),
        clock: Clock::SYSTEM,
        counted,
        gpus: followed,
        nft: crate::boundary::nft_asker(&config),
        ends,
    };
    if let Some((terms, inbox)) = config.peers.clone().zip(beside) {
        let me = peers::Me {
            pool: config.pool(),
            key: material.identity.key.clone(),
            cert_id: material.identity.cert_id.0,
            certificates: material.certificates.clone(),
            anchors: material.identity.anchors.clone(),
        };
        let (ledger, writer) = (dir.clone(), inputs.clone());
        let start = peers::thread::Start { me, terms, ledger, inbox, link: weak, writer, clock: Clock::SYSTEM };
        thread("peers", move || peers::thread::run(start))?;
    }
    let sampling = thread("sampler", move || sampler::run(setting))?;
    let writing = thread("writer", move || writer.run())?;
    if lifetime == Lifetime::Parent {
        let stop = inputs.clone();
        thread("parent", move || {
            std::io::stdin().lock().read_to_end(&mut Vec::new()).ok();
            stop.send(Input::Stop).ok();
        })?;
    }
    tracing::info!(node = %config.pool(), "agent running");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| bug(&e))?;
    let interrupted = runtime.block_on(network(broker, sent, (listener, config.metrics.listen), inputs));
    drop(runtime);
    std::fs::remove_file(&config.socket).ok();
    let written = writing.join().map_err(|_| bug(&"the writer panicked"))?;
    // A writer that failed told it nothing; one that ended has, and then nobody is there any more.
    quit.send(sampler::Command::Quit).ok();
    let sampled = sampling.join().map_err(|_| bug(&"the sampler panicked"))?;
    written.map_err(|error| writer_failure(&config.ledger_dir, &error))?;
    sampled.map_err(|error| Failure::new(Exit::Io, Text::MeterFailed { why: error.to_string() }))?;
    Ok(if interrupted { Exit::Interrupted } else { Exit::Done })
}

fn thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<std::thread::JoinHandle<T>, Failure<Text>> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(512 * 1024).spawn(work).map_err(|e| bug(&e))
}

/// MQTT and the local API until a signal or the writer's end; true for Ctrl-C.
async fn network(
    broker: Broker,
    sent: tokio::sync::mpsc::Receiver<crate::link::Outbound>,
    (listener, scraped): (std::os::unix::net::UnixListener, Option<std::net::SocketAddr>),
    inputs: SyncSender<Input>,
) -> bool {
    use tokio::signal::unix::{SignalKind, signal};
    let link = link::run(broker, sent, inputs.clone());
    tokio::pin!(link);
    let local = async {
        match tokio::net::UnixListener::from_std(listener) {
            Ok(listener) => local::serve(listener, inputs.clone()).await,
            Err(error) => tracing::error!(%error, "no local socket"),
        }
    };
    let scrape = async {
        if let Some(address) = scraped {
            scrape::serve(address, inputs.clone()).await;
        }
        std::future::pending::<()>().await
    };
    let (Ok(mut term), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("no signal handlers");
        return false;
    };
    let interrupted = tokio::select! {
        () = &mut link => return false,
        () = scrape => false,
        () = async { local.await; std::future::pending::<()>().await } => false,
        _ = term.recv() => false,
        _ = interrupt.recv() => true,
    };
    // The writer ends first and lets go of the link, which then says goodbye.
    let stop = inputs.clone();
    tokio::task::spawn_blocking(move || stop.send(Input::Stop).ok());
    link.await;
    interrupted
}

fn core(config: &Config, material: &Material) -> Result<Core, Failure<Text>> {
    let unmetered = |error: hufu_metering::Error| Failure::new(Exit::Io, Text::MeterFailed { why: error.to_string() });
    let has = hufu_metering::capacity::capacity(&config.root).map_err(unmetered)?;
    let sources = crate::stock::sources(config).map_err(unmetered)?;
    let boot = std::fs::read_to_string(config.root.join("proc/sys/kernel/random/boot_id")).unwrap_or_default();
    let boot_id = Octets::<16>::from_hex(&boot.trim().replace('-', "")).map_or([0; 16], |id| id.0);
    let capacity = Capacity {
        cpu_millicores: config.cpu_millicores.unwrap_or(u64::from(has.inventory.cpu.count) * 1000),
        memory_bytes: config.memory_bytes.or(has.inventory.memory.total_bytes).unwrap_or(0),
        storage_bytes: config.storage_bytes.unwrap_or(0),
        sources,
        gpus: Err("NVML has not answered yet".to_owned()),
    };
    let (products, certificates) = (config.products.clone(), material.certificates.clone());
    let profile = config.shop.clone();
    let shop = Shop { products, capacity, certificates, hardware: Hardware::default(), profile };
    for product in &shop.products {
        for price in &product.tariff.prices {
            let reason = price.resource.parse().map_err(|e: hufu_trade::Error| e.to_string());
            if let Err(reason) = reason.and_then(|resource| shop.metered(product, &resource)) {
                tracing::warn!(product = product.id, resource = price.resource, reason, "price not offered");
            }
        }
    }
    let mut core = Core::new(material.identity.clone(), shop, config.window_ns, boot_id);
    core.market.terms = config.demand;
    core.accounts_required = config.accounts_required;
    Ok(core)
}

fn writer_failure(dir: &std::path::Path, error: &WriterError) -> Failure<Text> {
    match error {
        WriterError::Ledger(error) => setup::ledger_failure(dir, error),
        WriterError::Mark { path, source } => {
            let (path, why) = (path.display().to_string(), source.to_string());
            Failure::new(Exit::Io, Text::FileUnwritable { path, why })
        }
        WriterError::Rotated(certificate) => {
            let (certificate, why) = (certificate.clone(), String::new());
            Failure::new(Exit::Config, Text::KeyRotated { certificate, why })
        }
        other => bug(other),
    }
}
