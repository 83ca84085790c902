//! The set of metered orders and the windows their usage is cut into. No thread, no clock: the caller ticks.
//!
//! Windows are UTC, half-open and aligned by the caller. [`Sampler::close`] reads at the edge, so that the reading is the
//! edge's; totals are cumulative, so whatever the reading is late by goes to the next window and never twice. A close that
//! comes more than one interval late splits the last step by time and marks it estimated.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use hufu_trade::{
    quality::Quality,
    resource::{KINDS, Kind, Resource},
    usage::{HostTotal, MeterIdentity},
};

use crate::{
    Error,
    bpf::Counters,
    cgroup::Depth,
    conservation::HostWindow,
    disk::Disks,
    draft::OrderDraft,
    ends::{Ends, Heard},
    file,
    gpu_meter::Trouble,
    gpu_table::Table,
    hierarchy::{Hierarchies, Mode},
    host::Host,
    nft,
    order::{Context, Known, Order, Reader, is_same, metered_kinds},
    plan::Plan,
    sample::{At, Sample, Target},
    state::OrderState,
    usage::{Limits, Usage},
};

/// At most so many orders keep their files open, fewer where this process may not open enough; for more the kernel's memory counts, and they are opened for each reading.
pub const KEPT_ORDERS: usize = 256;
/// What is no usage is read with each so many-th sample.
const QUALITY_TICKS: u32 = 10;

/// What one window held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowDraft {
    /// Start, ns since 1970-01-01Z.
    pub start_real_ns: i64,
    /// End, not included.
    pub end_real_ns: i64,
    /// Length by CLOCK_BOOTTIME, ns.
    pub elapsed_ns: u64,
    /// Samples that were due.
    pub samples_due: u32,
    /// Samples that were taken.
    pub samples_taken: u32,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: [u8; 16],
    /// The pieces of the orders' time, each order's in time order.
    pub orders: Vec<OrderDraft>,
    /// Host totals of the resources that have orders.
    pub totals: Vec<HostTotal>,
}

/// Meters a set of orders.
#[derive(Debug)]
pub struct Sampler {
    root: PathBuf,
    hierarchies: Hierarchies,
    boot_id: [u8; 16],
    host: Host,
    disks: Disks,
    buffer: Vec<u8>,
    interval_ns: u64,
    cpus: u32,
    /// Ticks since the last that read all.
    ticks: u32,
    /// Network counters that were handed over and that no order has taken yet, by their cgroup's path.
    handed: Vec<(String, Counters)>,
    nft: nft::Reader,
    heard: Heard,
    orders: Vec<Order>,
    window: HostWindow,
    /// The last tick.
    at: At,
    gpus: Option<Arc<Table>>,
}

impl Sampler {
    /// A sampler of the host whose `/proc` and `/sys` lie below `root` (`/` on a real host), planned to tick each `interval_ns`.
    ///
    /// # Errors
    /// [`Error::Unreadable`] or [`Error::UnexpectedText`] when there is no usable `/proc`.
    pub fn new(root: &Path, interval_ns: u64, at: At) -> Result<Self, Error> {
        let hierarchies = Hierarchies::detect(root)?;
        let host = Host::open(&hierarchies)?;
        let mut buffer = vec![0; file::BUFFER_BYTES];
        let cpus = host.cpus(&mut buffer);
        let (boot_id, disks) = (file::boot_id(root)?, Disks::new(root));
        let (root, handed, orders, window) = (root.to_owned(), Vec::new(), Vec::new(), HostWindow::new(at));
        let mut sampler = Self {
            root,
            hierarchies,
            boot_id,
            host,
            disks,
            buffer,
            interval_ns,
            cpus,
            ticks: 0,
            handed,
            nft: nft::Reader::new(),
            heard: Heard::default(),
            orders,
            window,
            at,
            gpus: None,
        };
        sampler.tick_host(at);
        Ok(sampler)
    }

    /// Reads the GPUs of orders that hold some from what NVML's thread leaves in `table`.
    pub fn follow_gpus(&mut self, table: Arc<Table>) {
        self.gpus = Some(table);
    }

    /// Has cgroups of orders that start from now on listened to: [`Sampler::emptied`] is then told of what `ends` hears.
    pub fn hear(&mut self, ends: Arc<Ends>) {
        self.heard.by(ends);
    }

    /// Something changed in the cgroup of this number, most likely its last process ended: the orders in it are read at once,
    /// since whoever made the cgroup may be about to remove it.
    pub fn emptied(&mut self, number: i32, at: At) {
        self.at = at;
        for key in self.heard.orders(number).collect::<Vec<_>>() {
            let Some(index) = self.orders.iter().position(|known| known.key == key) else { continue };
            let (orders, mut context) = self.context(Depth::All);
            if let Some(order) = orders.get_mut(index) {
                order.tick(at, &mut context);
            }
        }
    }

    /// Where this process may not read the counters that nftables keeps of orders, `ask` does: whenever a window or an order
    /// ends, and with each sample that reads all.
    pub fn ask_nft_by(&mut self, ask: nft::Ask) {
        self.nft.ask_by(ask);
    }

    /// What somebody must know of orders' GPUs, each once; it allocates only then.
    pub fn take_troubles(&mut self) -> Vec<([u8; 16], Trouble)> {
        let of = |order: &mut Order| {
            let key = order.key;
            order.troubles().into_iter().map(move |trouble| (key, trouble))
        };
        self.orders.iter_mut().flat_map(of).collect()
    }

    /// Which cgroup generations the host has.
    pub fn mode(&self) -> Mode {
        self.hierarchies.mode()
    }

    /// `/proc/sys/kernel/random/boot_id`.
    pub fn boot_id(&self) -> [u8; 16] {
        self.boot_id
    }

    /// Orders being metered.
    pub fn orders(&self) -> impl Iterator<Item = &[u8; 16]> {
        self.orders.iter().map(|order| &order.key)
    }

    /// Begins metering an order, or goes on with it from a stored state. `metered` are the used resources its records list;
    /// `reserved` gives each reservation in base units a second (1,000,000,000 for one core or device, bytes for memory).
    /// With a stored state whose meter is gone, the order goes on as a gap.
    ///
    /// # Errors
    /// [`Error::KnownOrder`]; [`Error::UnknownCgroup`], [`Error::UnknownProcess`], [`Error::Unreadable`] for the target.
    pub fn start(
        &mut self,
        order: [u8; 16],
        plan: impl Into<Plan>,
        metered: &[Resource],
        reserved: &[(Resource, u64)],
        restored: Option<OrderState>,
        at: At,
    ) -> Result<MeterIdentity, Error> {
        let known = Known { state: restored, ..Known::default() };
        self.go_on(order, plan, (metered, reserved), known, at)
    }

    /// As [`Sampler::start`], with `metered` and `reserved`, for an order of which records were written already: its totals go
    /// on from theirs, also where the stored state is older than the records or gone.
    ///
    /// # Errors
    /// Those of [`Sampler::start`].
    pub fn go_on(
        &mut self,
        order: [u8; 16],
        plan: impl Into<Plan>,
        (metered, reserved): (&[Resource], &[(Resource, u64)]),
        known: Known,
        at: At,
    ) -> Result<MeterIdentity, Error> {
        if self.orders.iter().any(|known| known.key == order) {
            return Err(Error::KnownOrder);
        }
        self.at = at;
        let mut usage = Usage::new(metered, reserved);
        usage.bound(Kind::Memory, self.host.memory_bytes(&mut self.buffer));
        let mut started = Order::start(order, plan.into(), usage, known, at, &mut self.context(Depth::All).1)?;
        started.window_base = used(&started.usage);
        for kind in metered_kinds(metered) {
            if let Some(has) = self.window.kinds.get_mut(kind as usize) {
                *has = true;
            }
        }
        let identity = started.identity().clone();
        if let Target::Cgroup { path } = started.target() {
            self.heard.start(order, &self.hierarchies, path);
        }
        self.orders.push(started);
        Ok(identity)
    }

    /// Goes on with an order from its state alone, where its meter is there and is the same as before. False where it is not:
    /// whoever knows more of the order starts it.
    pub fn resume(&mut self, state: &OrderState, at: At) -> bool {
        let Some((plan, metered, reserved)) = state.started() else { return false };
        let found = Reader::open(&plan, &self.context(Depth::All).1);
        found.is_ok_and(|(_, identity)| is_same(&identity, &state.identity))
            && self.start(state.order, plan, &metered, &reserved, Some(state.clone()), at).is_ok()
    }

    /// Whether an order is being metered just as [`Sampler::start`] would begin it.
    pub fn is_metering(
        &self,
        order: [u8; 16],
        plan: &Plan,
        metered: &[Resource],
        reserved: &[(Resource, u64)],
    ) -> bool {
        let known = self.orders.iter().find(|known| known.key == order);
        known.is_some_and(|known| known.is(plan, &Usage::new(metered, reserved)))
    }

    /// The totals and times of an order that goes on from its state alone are not below those of its newest record.
    pub fn lift(&mut self, order: [u8; 16], totals: &[(Resource, u128)], times: &[(Quality, u128)]) {
        for known in self.orders.iter_mut().filter(|known| known.key == order) {
            known.lift(totals, times);
        }
    }

    /// Takes the traffic counters of the cgroup at `path` from whoever had the right to attach them, for the order that is metered
    /// there, now or as soon as it starts.
    pub fn hand_over(&mut self, path: &str, counters: Counters) {
        self.handed.retain(|(of, _)| of != path);
        self.handed.push((path.to_owned(), counters));
        self.orders.iter_mut().for_each(Order::look_again);
    }

    /// Ends metering an order without a final read: its state.
    pub fn let_go(&mut self, order: [u8; 16]) -> Option<OrderState> {
        let index = self.orders.iter().position(|known| known.key == order)?;
        self.window.spans_begin = true;
        self.heard.stop(order);
        Some(self.orders.swap_remove(index).state())
    }

    fn context(&mut self, depth: Depth) -> (&mut Vec<Order>, Context<'_>) {
        let stolen = match depth {
            Depth::Usage => Err("not read with this sample"),
            Depth::All => self.host.stolen(&mut self.buffer),
        };
        let keep_files = self.orders.iter().filter(|order| order.keeps_files()).count() < self.host.kept_orders();
        let limits = Limits { cpus: self.cpus, interval_ns: self.interval_ns };
        let context = Context {
            root: &self.root,
            hierarchies: &self.hierarchies,
            boot_id: self.boot_id,
            buffer: &mut self.buffer,
            disks: &mut self.disks,
            at: self.at,
            gpus: self.gpus.as_ref(),
            limits,
            handed: &mut self.handed,
            nft: &mut self.nft,
            depth,
            keep_files,
            stolen,
        };
        (&mut self.orders, context)
    }

    fn tick_host(&mut self, at: At) {
        let limits = Limits { cpus: self.cpus, interval_ns: self.interval_ns };
        let sample = self.host.read(&mut self.buffer, &mut self.disks);
        self.window.take(at, sample, limits);
    }

    /// Reads an order without counting it: what its sources say now, the quality too.
    pub fn look(&mut self, order: [u8; 16]) -> Option<Sample> {
        let index = self.orders.iter().position(|known| known.key == order)?;
        let (orders, mut context) = self.context(Depth::All);
        orders.get_mut(index)?.look(&mut context)
    }

    /// Reads all orders and the host. In the steady state it allocates nothing for orders in cgroups.
    pub fn tick(&mut self, at: At) {
        self.at = at;
        self.ticks += 1;
        let depth = if self.ticks >= QUALITY_TICKS { Depth::All } else { Depth::Usage };
        self.read(at, depth);
    }

    fn read(&mut self, at: At, depth: Depth) {
        if depth == Depth::All {
            self.cpus = self.cpus.max(self.host.cpus(&mut self.buffer));
            self.ticks = 0;
        }
        let (orders, mut context) = self.context(depth);
        for order in orders {
            order.tick(at, &mut context);
        }
        self.tick_host(at);
        self.window.taken = self.window.taken.saturating_add(1);
    }

    /// Reads at the window's edge and hands out what each order used since its last draft. The next window starts here.
    pub fn close(&mut self, at: At, end_real_ns: i64) -> WindowDraft {
        // The host is read before the orders for the next window and after them for this one: then the orders' sum can
        // never exceed the host's for the order of reading alone.
        let next_base = self.host.read(&mut self.buffer, &mut self.disks);
        self.read(at, Depth::All);
        let (orders, context) = self.context(Depth::Usage);
        let limits = context.limits;
        let mut pieces = Vec::new();
        for order in orders {
            order.close(at, end_real_ns, limits);
            pieces.append(&mut order.pieces);
        }
        let elapsed_ns = at.boot_ns.saturating_sub(self.window.from.boot_ns);
        let due = elapsed_ns.saturating_add(self.interval_ns / 2).checked_div(self.interval_ns).unwrap_or(0);
        let draft = WindowDraft {
            start_real_ns: self.window.from.real_ns,
            end_real_ns,
            elapsed_ns,
            samples_due: u32::try_from(due).unwrap_or(u32::MAX),
            samples_taken: self.window.taken,
            boot_id: self.boot_id,
            orders: pieces,
            totals: self.window.totals(&self.orders, limits),
        };
        let mut next = HostWindow::new(At { real_ns: end_real_ns, ..at });
        (next.base, next.last) = (Some(next_base), self.window.last);
        for order in &mut self.orders {
            order.window_base = used(&order.usage);
            // What is held back at the edge is counted in the next window, once it is confirmed.
            order.spans_begin = order.usage.in_doubt();
            for (has, kind) in next.kinds.iter_mut().zip(KINDS) {
                *has |= order.usage.meters(kind);
            }
        }
        self.window = next;
        draft
    }

    /// The final read of an order, then its last pieces; the last one has reason `End`. Stop before the cgroup is removed.
    ///
    /// # Errors
    /// [`Error::UnknownOrder`].
    pub fn stop(&mut self, order: [u8; 16], at: At) -> Result<Vec<OrderDraft>, Error> {
        let index = self.orders.iter().position(|known| known.key == order).ok_or(Error::UnknownOrder)?;
        self.at = at;
        self.heard.stop(order);
        let mut stopped = self.orders.swap_remove(index);
        stopped.stop(at, &mut self.context(Depth::All).1);
        for ((ended, kind), base) in self.window.ended.iter_mut().zip(KINDS).zip(stopped.window_base) {
            *ended = ended.saturating_add(stopped.usage.used(kind).saturating_sub(base));
        }
        self.window.spans_begin |= stopped.spans_begin;
        self.handed.retain(|(path, _)| *path != stopped.identity().path);
        Ok(stopped.pieces)
    }

    /// Hands out pieces that are complete before the window is: gaps and what was before them. Call it after a tick to
    /// record a gap at once; [`Sampler::close`] hands out the rest.
    pub fn take_pieces(&mut self) -> Vec<OrderDraft> {
        self.orders.iter_mut().flat_map(|order| std::mem::take(&mut order.pieces)).collect()
    }

    /// What to keep of one order.
    pub fn state_of(&self, order: [u8; 16]) -> Option<OrderState> {
        self.orders.iter().find(|known| known.key == order).map(Order::state)
    }

    /// What to keep so that a restart loses nothing.
    pub fn state(&self) -> Vec<OrderState> {
        self.orders.iter().map(Order::state).collect()
    }
}

fn used(usage: &Usage) -> [u128; 12] {
    KINDS.map(|kind| usage.used(kind))
}
