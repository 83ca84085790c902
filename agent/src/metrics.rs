//! What a monitoring system reads of the daemon. Counters are atomics, moved where the thing happens; everything else is read
//! off the core when somebody asks. Serving it is `scrape.rs`. No key, no personal data, and of single orders only what the
//! site asked for: a workload on this machine may reach the loopback address, too.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use hufu_ledger::Log;
use hufu_metering::{
    gpu_table::{Snapshot, Table},
    own::OwnSample,
    sample::Raw,
};
use hufu_trade::{
    entry::EntryKind,
    money::{FEN, Money},
    resource::Kind,
    usage::{Reading, Reason, TimeQuality, TimeState, UsageRecord},
};
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use crate::{clock, node::Core, status::Alarms};

/// One label.
type Labels = [(&'static str, String); 1];
type Gauges = Family<Labels, Gauge>;
type Counters = Family<Labels, Counter>;
type Real = Gauge<f64, AtomicU64>;
type Seconds = Counter<f64, AtomicU64>;
type Usages = Family<Vec<(&'static str, String)>, Seconds>;

/// This process's open files, by number.
const OWN_FILES: &str = "/proc/self/fd";
/// Upper bounds of the histogram of appends, seconds: from a battery-backed cache to a disk that is dying.
const APPEND_BOUNDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// What the other threads count; cloning shares the counters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    /// Ticks of the sampler.
    pub(crate) ticks: Counter,
    /// Time they took.
    pub(crate) tick_seconds: Seconds,
    /// Ticks that began more than half an interval after they were due.
    pub(crate) late_ticks: Counter,
    /// Times the broker took our subscriptions.
    pub(crate) connections: Counter,
    /// What the agent itself costs.
    pub(crate) own: Own,
    /// What NVML's thread sees of the GPUs, once there is one.
    pub(crate) gpus: Arc<OnceLock<Arc<Table>>>,
}

/// What the agent itself costs, as the sampler read it at the last edge of a window; negative where it could not be read.
#[derive(Clone, Debug)]
pub(crate) struct Own(Arc<[AtomicI64; 5]>);

impl Default for Own {
    fn default() -> Self {
        Self(Arc::new(std::array::from_fn(|_| AtomicI64::new(-1))))
    }
}

/// Members of `agent` in `hufu status --json`, in the order of [`Own`].
pub(crate) const OWN: [&str; 5] = ["cpu_ns", "resident_bytes", "kernel_bytes", "written_bytes", "threads"];

impl Own {
    /// Atomics only: this is the sampling thread.
    pub(crate) fn set(&self, found: OwnSample) {
        let OwnSample { cpu_ns, resident_bytes, kernel_bytes, written_bytes, threads } = found;
        for (cell, raw) in self.0.iter().zip([cpu_ns, resident_bytes, kernel_bytes, written_bytes, threads]) {
            let value = if let Raw::Value(value) = raw { i64::try_from(value).unwrap_or(i64::MAX) } else { -1 };
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Each name with its value; not read is absent, never zero.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, Option<u64>)> {
        OWN.into_iter().zip(self.0.iter().map(|cell| u64::try_from(cell.load(Ordering::Relaxed)).ok()))
    }

    fn get(&self, name: &str) -> Option<u64> {
        self.each().find(|(known, _)| *known == name).and_then(|(_, value)| value)
    }
}

impl Shared {
    /// One sample of all orders. Atomics only: this is the sampling path.
    pub(crate) fn tick(&self, took_ns: u64, is_late: bool) {
        self.ticks.inc();
        self.tick_seconds.inc_by(seconds(took_ns));
        self.late_ticks.inc_by(is_late.into());
    }
}

/// Every series of the daemon, and how it is written.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    append_seconds: Histogram,
    entries: Counters,
    gaps: Counters,
    logs: Logs,
    sales: Sales,
    alarms: Counters,
    alarm_times: Family<Labels, Real>,
    violations: Counter,
    hardware: Gauge,
    waiting: Gauge,
    connected: Gauge,
    synchronised: Gauge,
    max_error: Real,
    process: Process,
    orders: Option<Orders>,
    gpus: Arc<OnceLock<Arc<Table>>>,
}

/// Whether the usage of single orders is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// The site as a whole.
    Site,
    /// Each order that runs, too.
    Orders,
}

/// Of each log.
#[derive(Debug, Default)]
struct Logs {
    height: Gauges,
    blocks: Gauges,
    receipted: Gauges,
    outbox: Gauges,
    appended: Counters,
}

/// What is sold and billed.
#[derive(Debug, Default)]
struct Sales {
    orders: Gauges,
    running: Gauge,
    stock: Gauges,
    bills: Gauges,
    billed: Counter,
    due: Gauge,
    paid: Counter,
}

/// Of this process itself.
#[derive(Debug, Default)]
struct Process {
    memory: Gauge,
    threads: Gauge,
    fds: Gauge,
    max_fds: Gauge,
    cpu: Seconds,
    kernel: Real,
    written: Real,
    own: Own,
}

/// Usage of each order that runs, by kind of resource.
#[derive(Debug)]
struct Orders(Vec<(Kind, u64, Usages)>);

fn label(name: &'static str, value: &str) -> Labels {
    [(name, value.to_owned())]
}

fn signed(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

fn seconds(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64()
}

impl Metrics {
    /// The series of one daemon, of which nothing was counted yet.
    pub(crate) fn new(node: &str, shared: &Shared, show: Show) -> Self {
        let mut registry = Registry::with_prefix("hufu");
        let r = &mut registry;
        let version = Info::new(label("version", env!("CARGO_PKG_VERSION")));
        r.register("build", "The program", version);
        r.register("node", "The node, as the platform knows it", Info::new(label("node", node)));
        let append_seconds = Histogram::new(APPEND_BOUNDS);
        let help = "Time to sign a frame, write it and have it durable";
        r.register_with_unit("ledger_append", help, Unit::Seconds, append_seconds.clone());
        let entries = Counters::default();
        r.register("ledger_entries", "Entries written since the start, by kind", entries.clone());
        let gaps = Counters::default();
        r.register("gaps", "Usage records since the start that say: not measured", gaps.clone());
        let (logs, sales, process) = (Logs::new(r), Sales::new(r), Process::new(r, &shared.own));
        let alarms = Counters::default();
        r.register("alarms", "Alarms since the start; docs/operations.md tells cause and remedy", alarms.clone());
        let alarm_times = Family::<Labels, Real>::default();
        let help = "When an alarm was raised last";
        r.register_with_unit("alarm_last_timestamp", help, Unit::Seconds, alarm_times.clone());
        let violations = Counter::default();
        r.register("conservation_violations", "Windows whose orders used more than the host", violations.clone());
        let hardware = Gauge::default();
        r.register("hardware_changed", "1 while the hardware is not what the site accepted", hardware.clone());
        let (waiting, connected, synchronised, max_error) =
            (Gauge::default(), Gauge::default(), Gauge::default(), Real::default());
        r.register("ledger_waiting", "1 while nothing is signed, before the platform's word", waiting.clone());
        r.register("mqtt_connected", "1 while the broker takes our messages", connected.clone());
        r.register("mqtt_connections", "Times the broker took us", shared.connections.clone());
        r.register("clock_synchronised", "1 while the kernel says that its clock is set", synchronised.clone());
        let help = "Greatest error of the clock by the kernel; NaN while it states none";
        r.register_with_unit("clock_max_error", help, Unit::Seconds, max_error.clone());
        r.register("sampler_ticks", "Samples of all running orders", shared.ticks.clone());
        r.register("sampler_late_ticks", "Samples more than half an interval late", shared.late_ticks.clone());
        let help = "Time spent sampling";
        r.register_with_unit("sampler_tick", help, Unit::Seconds, shared.tick_seconds.clone());
        let orders = (show == Show::Orders).then(|| Orders::new(r));
        Self {
            registry,
            append_seconds,
            entries,
            gaps,
            logs,
            sales,
            alarms,
            alarm_times,
            violations,
            hardware,
            waiting,
            connected,
            synchronised,
            max_error,
            process,
            orders,
            gpus: Arc::clone(&shared.gpus),
        }
    }

    /// What the agent itself costs.
    pub(crate) fn own(&self) -> &Own {
        &self.process.own
    }

    /// The GPUs as they were seen last; none where nobody looks.
    pub(crate) fn seen_gpus(&self) -> Vec<Snapshot> {
        self.gpus.get().map(|table| table.all()).unwrap_or_default()
    }

    /// A block of a log is durable.
    pub(crate) fn appended(&self, log: Log) {
        self.logs.appended.get_or_create(&label("log", &log.to_string())).inc();
    }

    /// A frame was signed, written and made durable in so long.
    pub(crate) fn took(&self, ns: u64) {
        self.append_seconds.observe(seconds(ns));
    }

    /// An entry is durable.
    pub(crate) fn entry(&self, kind: u16, body: &[u8]) {
        let Some(kind) = EntryKind::from_number(kind) else { return };
        self.entries.get_or_create(&label("kind", kind.name())).inc();
        if kind == EntryKind::Gap
            && let Ok(record) = hufu_trade::decode::<UsageRecord>(body, "UsageRecord")
        {
            let reason = if record.reason == Reason::PowerLoss { "power_loss" } else { "gap" };
            self.gaps.get_or_create(&label("reason", reason)).inc();
        }
    }

    /// Everything, as the OpenMetrics text format 1.0.0 has it. `is_waiting`: nothing is signed yet.
    pub(crate) fn render(&self, core: &Core, alarms: &Alarms, (quality, is_waiting): (TimeQuality, bool)) -> String {
        self.logs.read(core);
        self.sales.read(core);
        self.process.read();
        for (what, count, last_ns) in alarms.kinds() {
            self.alarms.get_or_create(&label("alarm", what)).inner().store(count, Ordering::Relaxed);
            let at = seconds(u64::try_from(last_ns).unwrap_or(0));
            self.alarm_times.get_or_create(&label("alarm", what)).set(at);
        }
        self.violations.inner().store(core.violations, Ordering::Relaxed);
        self.hardware.set((!core.shop.hardware.changed.is_empty()).into());
        self.waiting.set(is_waiting.into());
        self.connected.set(core.linked.into());
        self.synchronised.set((quality.state == TimeState::Synchronised).into());
        self.max_error.set(quality.max_error_ns.map_or(f64::NAN, seconds));
        if let Some(orders) = &self.orders {
            orders.read(core);
        }
        let mut text = String::new();
        match text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}

impl Logs {
    fn new(r: &mut Registry) -> Self {
        let logs = Self::default();
        r.register("ledger_height", "Height of the newest block", logs.height.clone());
        r.register("ledger_blocks", "Blocks of the log", logs.blocks.clone());
        r.register("ledger_receipted_blocks", "Blocks that the platform's last receipt covers", logs.receipted.clone());
        r.register("outbox_blocks", "Blocks that must reach the platform and have no receipt", logs.outbox.clone());
        r.register("ledger_appended_blocks", "Blocks written since the start", logs.appended.clone());
        logs
    }

    fn read(&self, core: &Core) {
        for log in Log::ALL {
            let (index, label) = (usize::from(log.number()), label("log", &log.to_string()));
            let size = core.sizes.get(index).copied().unwrap_or(0);
            let receipt = core.book.receipted.get(index).and_then(Option::as_ref).map_or(0, |receipt| receipt.size);
            let obliged = core.book.obligation.get(index).copied().unwrap_or(0);
            if let Some(height) = size.checked_sub(1) {
                self.height.get_or_create(&label).set(signed(height));
            }
            self.blocks.get_or_create(&label).set(signed(size));
            self.receipted.get_or_create(&label).set(signed(receipt));
            self.outbox.get_or_create(&label).set(signed(obliged.saturating_sub(receipt)));
        }
    }
}

/// Whole fen of an amount.
fn fen(sum: i128) -> i128 {
    sum.div_euclid(FEN)
}

impl Sales {
    fn new(r: &mut Registry) -> Self {
        let sales = Self::default();
        r.register("orders", "Contracts by state of the rule table", sales.orders.clone());
        r.register("orders_running", "Orders whose usage is metered now", sales.running.clone());
        r.register("product_stock", "Units that can be sold now", sales.stock.clone());
        r.register("bills", "Bills: open, settled, refused by the platform", sales.bills.clone());
        r.register("billed_fen", "Sum of all bills, in fen", sales.billed.clone());
        r.register("due_fen", "Sum of all open bills after their corrections, in fen", sales.due.clone());
        r.register("paid_fen", "Sum of all payments that the platform confirmed, in fen", sales.paid.clone());
        sales
    }

    fn read(&self, core: &Core) {
        self.orders.clear();
        self.stock.clear();
        let (mut billed, mut due, mut paid) = (0_i128, 0_i128, 0_i128);
        let (mut open, mut settled, mut refused) = (0_i64, 0_i64, 0_i64);
        for contract in core.book.contracts.values() {
            self.orders.get_or_create(&label("state", &contract.state)).inc();
            for bill in &contract.bills {
                let Money(total) = bill.bill.total;
                billed = billed.saturating_add(total);
                paid = paid.saturating_add(bill.paid.map_or(0, |Money(amount)| amount));
                if bill.refused {
                    refused += 1;
                } else if bill.is_open() {
                    open += 1;
                    due = due.saturating_add(bill.due.total.0);
                } else {
                    settled += 1;
                }
            }
        }
        for (state, count) in [("open", open), ("settled", settled), ("refused", refused)] {
            self.bills.get_or_create(&label("state", state)).set(count);
        }
        self.billed.inner().store(u64::try_from(fen(billed)).unwrap_or(0), Ordering::Relaxed);
        self.paid.inner().store(u64::try_from(fen(paid)).unwrap_or(0), Ordering::Relaxed);
        self.due.set(signed(fen(due)));
        let running = core.services.values().filter(|service| **service == crate::node::Service::Running);
        self.running.set(signed(running.count()));
        for product in &core.shop.products {
            let units = core.shop.free_units(&core.book, product).unwrap_or(0);
            self.stock.get_or_create(&label("product", &product.id)).set(units.into());
        }
    }
}

impl Process {
    fn new(r: &mut Registry, own: &Own) -> Self {
        let process = Self { own: own.clone(), ..Self::default() };
        let started = Real::default();
        started.set(seconds(u64::try_from(clock::now().real_ns).unwrap_or(0)));
        r.register_with_unit("process_start_time", "When the agent began", Unit::Seconds, started);
        r.register_with_unit("process_resident_memory", "Memory it holds", Unit::Bytes, process.memory.clone());
        r.register("process_threads", "Its threads", process.threads.clone());
        // A process that leaves no core files and is not root's may not look; not read is not zero.
        if std::fs::read_dir(OWN_FILES).is_ok() {
            r.register("process_open_fds", "Its open files", process.fds.clone());
        }
        r.register("process_max_fds", "How many it may open", process.max_fds.clone());
        let help = "Memory that the kernel holds for its cgroup, by the last window; NaN while it is not known";
        r.register_with_unit("process_kernel_memory", help, Unit::Bytes, process.kernel.clone());
        let help = "Bytes it had written to disks, by the last window; NaN while it is not known";
        r.register_with_unit("process_disk_written", help, Unit::Bytes, process.written.clone());
        r.register_with_unit("process_cpu", "Processor time it took", Unit::Seconds, process.cpu.clone());
        process
    }

    fn read(&self) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<i64>().ok())
        };
        self.memory.set(field("VmRSS:").unwrap_or(0).saturating_mul(1024));
        self.threads.set(field("Threads:").unwrap_or(0));
        self.fds.set(std::fs::read_dir(OWN_FILES).map_or(0, |names| signed(names.count())));
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        self.max_fds.set(limit.map_or(i64::MAX, signed));
        let bytes = |name: &str| self.own.get(name).map_or(f64::NAN, |bytes| ratio(bytes.into(), 1));
        self.kernel.set(bytes("kernel_bytes"));
        self.written.set(bytes("written_bytes"));
        self.cpu.inner().store(seconds(clock::process_cpu_ns()).to_bits(), Ordering::Relaxed);
    }
}

impl Orders {
    fn new(r: &mut Registry) -> Self {
        let kinds = [
            (Kind::Cpu, 1_000_000_000, "order_cpu_seconds", "CPU time"),
            (Kind::Memory, 1, "order_memory_byte_seconds", "Memory held over time"),
            (Kind::DiskRead, 1, "order_disk_read_bytes", "Bytes read from disks"),
            (Kind::DiskWrite, 1, "order_disk_written_bytes", "Bytes written to disks"),
            (Kind::DiskReadOps, 1, "order_disk_reads", "Read operations"),
            (Kind::DiskWriteOps, 1, "order_disk_writes", "Write operations"),
            (Kind::NetRx, 1, "order_network_receive_bytes", "Bytes received"),
            (Kind::NetTx, 1, "order_network_transmit_bytes", "Bytes sent"),
            (Kind::Storage, 1, "order_storage_byte_seconds", "Storage held over time"),
            (Kind::Gpu, 1_000_000_000, "order_gpu_seconds", "GPU devices held over time"),
            (Kind::GpuMemory, 1, "order_gpu_memory_byte_seconds", "GPU memory held over time"),
            (Kind::GpuEnergy, 1000, "order_gpu_joules", "Energy drawn by GPUs"),
        ];
        let registered = kinds.into_iter().map(|(kind, per, name, help)| {
            let usages = Usages::default();
            r.register(name, format!("{help}, by the last usage record of each running order"), usages.clone());
            (kind, per, usages)
        });
        Self(registered.collect())
    }

    /// Orders that run now: what is over takes no room.
    fn read(&self, core: &Core) {
        for (.., usages) in &self.0 {
            usages.clear();
        }
        for no in core.services.keys() {
            let last = core.book.contracts.get(no).and_then(|contract| contract.last.as_ref());
            for reading in last.into_iter().flat_map(|(_, record)| &record.readings) {
                self.show(&no.to_string(), reading);
            }
        }
    }

    fn show(&self, order: &str, reading: &Reading) {
        let (Ok(resource), Some(total)) = (reading.resource(), reading.total) else { return };
        let Some((_, per, usages)) = self.0.iter().find(|(kind, ..)| *kind == resource.kind) else { return };
        if resource.reserved {
            return;
        }
        let mut labels = vec![("order", order.to_owned())];
        labels.extend(resource.qualifier.map(|qualifier| ("qualifier", qualifier)));
        usages.get_or_create(&labels).inner().store(ratio(total, *per).to_bits(), Ordering::Relaxed);
    }
}

/// A quantity in a unit of `per` base units, for a chart and not for a bill.
#[allow(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a chart; bills are reckoned in integers")]
fn ratio(total: u128, per: u64) -> f64 {
    total as f64 / per as f64
}
