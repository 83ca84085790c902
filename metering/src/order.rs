//! One order being metered: its reader, its usage, and the pieces its time falls into (usage, gap, usage). The set of
//! orders and the windows are `window.rs`.

use std::{path::Path, sync::Arc};

use hufu_trade::{
    octets::Octets,
    quality::Quality,
    resource::{Kind, Resource},
    usage::{MeterIdentity, Reason, SourceIdentity, Status},
};

use crate::{
    Error,
    attached::{Came, Slot},
    bpf::Counters,
    cgroup::{Cgroup, Depth},
    delivered::Delivered,
    disk::Disks,
    draft::OrderDraft,
    gpu_meter::{GpuMeter, Trouble},
    gpu_table::Table,
    hierarchy::Hierarchies,
    nft,
    plan::Plan,
    process::ProcessTree,
    sample::{At, Sample, Target, is_gauge},
    state::{OrderState, PROCESS_TREE},
    usage::{Finding, Limits, Total, Usage},
};

/// What is known of an order that was metered before.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The meter's state of the last run; after a power cut it may be an old one or gone.
    pub state: Option<OrderState>,
    /// Totals of its newest record in base units, which the next ones go on from.
    pub totals: Vec<(Resource, u128)>,
    /// Times of its newest record, ns, which the next ones go on from.
    pub times: Vec<(Quality, u128)>,
}

/// What every reading of a tick shares.
pub(crate) struct Context<'a> {
    pub(crate) root: &'a Path,
    pub(crate) hierarchies: &'a Hierarchies,
    pub(crate) boot_id: [u8; 16],
    pub(crate) buffer: &'a mut [u8],
    pub(crate) disks: &'a mut Disks,
    /// When this tick is.
    pub(crate) at: At,
    /// What NVML's thread saw of the server's GPUs, where there is one.
    pub(crate) gpus: Option<&'a Arc<Table>>,
    pub(crate) limits: Limits,
    /// Counters of cgroups that somebody with more rights handed over, by the cgroup's path.
    pub(crate) handed: &'a mut Vec<(String, Counters)>,
    /// Counters in nftables, read once a tick for all orders.
    pub(crate) nft: &'a mut nft::Reader,
    pub(crate) depth: Depth,
    /// Whether an order that is opened now keeps its files open.
    pub(crate) keep_files: bool,
    /// What was stolen from the host by now, with its own CPU time by then; read where `depth` is all.
    pub(crate) stolen: Result<Stolen, &'static str>,
}

/// Two counters of the host, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stolen {
    pub(crate) stolen_ns: u64,
    pub(crate) used_ns: u64,
}

/// An open source.
#[derive(Debug)]
pub(crate) enum Reader {
    Cgroup(Cgroup),
    Process(Box<ProcessTree>),
}

impl Reader {
    /// Opens the plan's target and says whose counters these are.
    pub(crate) fn open(plan: &Plan, context: &Context<'_>) -> Result<(Self, MeterIdentity), Error> {
        let (reader, source, path, instance) = match &plan.target {
            Target::Cgroup { path } => {
                let cgroup = Cgroup::open(context.hierarchies, path, context.keep_files)?;
                let (source, instance) = (context.hierarchies.mode().source(), cgroup.instance());
                (Self::Cgroup(cgroup), source, path.clone(), instance)
            }
            Target::Process { pid } => {
                let tree = ProcessTree::open(context.root, *pid)?;
                let instance = tree.instance();
                (Self::Process(Box::new(tree)), PROCESS_TREE, pid.to_string(), instance)
            }
        };
        let (boot_id, source, resolved) = (Octets(context.boot_id), source.to_owned(), plan.resolved.clone());
        Ok((reader, MeterIdentity { boot_id, source, path, instance, resolved, attached: None }))
    }

    pub(crate) fn read(&mut self, context: &mut Context<'_>) -> Result<Sample, Error> {
        match self {
            Self::Cgroup(cgroup) => cgroup.read(context.buffer, context.disks, context.depth),
            Self::Process(tree) => tree.read(),
        }
    }
}

/// An order being metered.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) key: [u8; 16],
    plan: Plan,
    reader: Option<Reader>,
    lost_why: String,
    identity: MeterIdentity,
    attached: Vec<Slot>,
    pub(crate) usage: Usage,
    delivered: Delivered,
    /// The host's counters when stolen time was shared out last, and the order's CPU time then.
    shared: Option<(Stolen, u128)>,
    /// Start of the piece being measured.
    from: At,
    pub(crate) pieces: Vec<OrderDraft>,
    taken: u32,
    /// Base of the running window's sums, by kind.
    pub(crate) window_base: [u128; 12],
    /// The running window counts what was used before it: the agent was started again, or a counter was held back at its edge.
    pub(crate) spans_begin: bool,
}

impl Order {
    pub(crate) fn start(
        key: [u8; 16],
        plan: Plan,
        mut usage: Usage,
        known: Known,
        at: At,
        context: &mut Context<'_>,
    ) -> Result<Self, Error> {
        let Known { state: restored, totals, times } = known;
        let opened = Reader::open(&plan, context);
        let (reader, identity, lost_why) = match (opened, &restored) {
            (Ok((reader, identity)), _) => (Some(reader), identity, String::new()),
            (Err(error), Some(state)) => (None, state.identity.clone(), error.to_string()),
            (Err(error), None) => return Err(error),
        };
        let Some(state) = restored else {
            usage.lift(&totals, true);
            let mut order = Self::new(key, plan, reader, identity, usage, at);
            order.delivered.lift(&times, true);
            order.tick(at, context);
            return Ok(order);
        };
        usage.restore(&state.meters, state.last);
        (usage.measured_ns, usage.unsampled_ns) = (state.measured_ns, state.unsampled_ns);
        let same = reader.is_some() && is_same(&identity, &state.identity) && at.boot_ns >= state.last.boot_ns;
        usage.lift(&totals, !same);
        let mut order = Self::new(key, plan, reader, state.identity.clone(), usage, state.from);
        order.spans_begin = true;
        order.delivered = Delivered::new(state.delivered);
        order.delivered.lift(&times, !same);
        if state.identity.boot_id.0 == context.boot_id {
            // Of another boot nothing is the same, whatever it is called.
            order.attached = Slot::all(&order.plan, state.identity.attached.as_deref().unwrap_or_default());
        }
        if same && let Some(Reader::Process(tree)) = &mut order.reader {
            let cpu = state.meters.iter().find(|meter| meter.resource == Resource::used(Kind::Cpu));
            tree.resume(cpu.and_then(|meter| meter.raw).unwrap_or(0));
        }
        if !same {
            let rebooted = state.identity.boot_id.0 != context.boot_id;
            let why = if rebooted {
                "the host lost power or was reset".to_owned()
            } else if order.reader.is_none() {
                lost_why
            } else {
                "the order's meter was replaced while the agent was down".to_owned()
            };
            order.end_piece(state.last, Reason::Continue, context.limits);
            order.usage.rebase();
            order.delivered.rebase(None);
            if order.reader.is_some() || rebooted {
                order.gap(at, if rebooted { Reason::PowerLoss } else { Reason::Gap }, &why, context.limits);
            }
            order.identity = identity;
            order.lost_why = why;
        }
        order.tick(at, context);
        Ok(order)
    }

    fn new(key: [u8; 16], plan: Plan, reader: Option<Reader>, identity: MeterIdentity, usage: Usage, from: At) -> Self {
        let lost_why = String::new();
        let (pieces, taken, spans_begin) = (Vec::new(), 0, false);
        let (attached, delivered) = (Slot::all(&plan, &[]), Delivered::new(Default::default()));
        Self {
            key,
            plan,
            reader,
            lost_why,
            identity,
            attached,
            usage,
            delivered,
            shared: None,
            from,
            pieces,
            taken,
            window_base: [0; 12],
            spans_begin,
        }
    }

    /// See [`crate::Sampler::lift`].
    pub(crate) fn lift(&mut self, totals: &[(Resource, u128)], times: &[(Quality, u128)]) {
        self.usage.lift(totals, false);
        self.delivered.lift(times, false);
    }

    /// Whether it was started with this plan and what `usage` meters.
    pub(crate) fn is(&self, plan: &Plan, usage: &Usage) -> bool {
        self.plan == *plan && self.usage.meters_as(usage)
    }

    /// What it is metered by.
    pub(crate) fn target(&self) -> &Target {
        &self.plan.target
    }

    /// What somebody must know of its GPUs.
    pub(crate) fn troubles(&mut self) -> Vec<Trouble> {
        self.attached.iter_mut().filter_map(Slot::gpus).flat_map(GpuMeter::take_troubles).collect()
    }

    /// Whether it holds files open.
    pub(crate) fn keeps_files(&self) -> bool {
        matches!(&self.reader, Some(Reader::Cgroup(cgroup)) if cgroup.keeps_files())
    }

    pub(crate) fn identity(&self) -> &MeterIdentity {
        &self.identity
    }

    /// What could not be opened beside the primary source is tried at the next tick.
    pub(crate) fn look_again(&mut self) {
        self.attached.iter_mut().for_each(Slot::look_again);
    }

    /// Reads once. A reading that fails is a gap, not an error.
    pub(crate) fn tick(&mut self, at: At, context: &mut Context<'_>) {
        if self.reader.is_none() {
            let Ok((reader, identity)) = Reader::open(&self.plan, context) else { return };
            let why = std::mem::take(&mut self.lost_why);
            self.gap(at, Reason::Gap, &why, context.limits);
            let attached = self.identity.attached.take();
            (self.reader, self.identity) = (Some(reader), MeterIdentity { attached, ..identity });
        }
        let Some(reader) = &mut self.reader else { return };
        match reader.read(context) {
            Ok(mut sample) => {
                self.read_attached(context, &mut sample);
                self.take(at, &sample, context);
                self.mark_lower_bound();
            }
            Err(error) => self.lose(&error.to_string(), context.limits),
        }
    }

    /// Of a process that ended between two samples the tree knows what its parent waited for, in whole ticks, and no more.
    fn mark_lower_bound(&mut self) {
        const LOWER: &str = "processes of the tree ended between samples: their time is a lower bound";
        if let Some(Reader::Process(tree)) = &mut self.reader
            && tree.has_ended()
        {
            self.usage.mark(Kind::Cpu, LOWER);
        }
    }

    /// What the sources say now; nothing of it is counted.
    pub(crate) fn look(&mut self, context: &mut Context<'_>) -> Option<Sample> {
        let mut sample = self.reader.as_mut()?.read(context).ok()?;
        self.read_attached(context, &mut sample);
        Some(sample)
    }

    /// Reads the sources beside the primary one. One that is another instance now starts its own kinds anew.
    fn read_attached(&mut self, context: &mut Context<'_>, sample: &mut Sample) {
        let mut changed = false;
        for slot in &mut self.attached {
            let came = slot.read(&self.plan, context, sample);
            if slot.kinds().contains(&Kind::NetRx) {
                let most = slot.most_per_second();
                slot.kinds().iter().for_each(|kind| self.usage.bound(*kind, most));
            }
            changed |= came != Came::Same;
            if came == Came::Anew {
                self.usage.rebase_kinds(slot.kinds(), slot.replaced());
                if slot.kinds().contains(&Kind::Gpu) {
                    self.delivered.rebase(Some(Quality::GpuThrottled));
                }
            }
        }
        if changed {
            let mut attached: Vec<SourceIdentity> = Vec::new();
            for known in self.attached.iter().flat_map(Slot::known) {
                if !attached.contains(known) {
                    attached.push(known.clone());
                }
            }
            self.identity.attached = (!attached.is_empty()).then_some(attached);
        }
    }

    fn take(&mut self, at: At, sample: &Sample, context: &Context<'_>) {
        let limits = context.limits;
        let before = self.usage.last();
        let mut quarantined = None;
        self.usage.step(at, sample, &limits, |finding| {
            if let Finding::Quarantined { .. } = finding {
                quarantined = Some(finding);
            }
        });
        if context.depth == Depth::All {
            self.delivered.step(at, sample, &limits);
            self.share_stolen(context.stolen);
        }
        self.taken = self.taken.saturating_add(1);
        if let (Some(Finding::Quarantined { kind, from, to, most }), Some(before)) = (quarantined, before) {
            let why = format!("{} counter went from {from} to {to}, at most {most} is possible", kind.name());
            let totals = self.usage.totals_before();
            self.cut(before, Reason::Continue, totals.clone(), None, limits);
            self.cut(at, Reason::Gap, totals, Some(why), limits);
        }
    }

    /// What was stolen from the host since the last time is this order's in the proportion in which it used the host's CPUs.
    fn share_stolen(&mut self, stolen: Result<Stolen, &'static str>) {
        const SHARE: &str = "the host's stolen time, shared out by CPU time used";
        let used = self.usage.used(Kind::Cpu);
        let share = match stolen {
            _ if !self.usage.meters(Kind::Cpu) => Err("no CPU time of this order to share it out by"),
            Err(why) => Err(why),
            Ok(now) => match self.shared.replace((now, used)) {
                None => Ok(0),
                Some((then, used_then)) => share_of(then, now, used.saturating_sub(used_then)),
            },
        };
        self.delivered.add(Quality::CpuStolen, share, SHARE);
    }

    /// The source is gone: what was measured ends at the last sample.
    fn lose(&mut self, why: &str, limits: Limits) {
        self.reader = None;
        why.clone_into(&mut self.lost_why);
        if let Some(last) = self.usage.last() {
            self.end_piece(last, Reason::Continue, limits);
        }
        self.usage.rebase();
        self.delivered.rebase(None);
    }

    /// Ends the piece at an instant with the totals as they stand.
    fn end_piece(&mut self, end: At, reason: Reason, limits: Limits) {
        let totals = self.usage.totals();
        self.cut(end, reason, totals, None, limits);
    }

    fn gap(&mut self, end: At, reason: Reason, why: &str, limits: Limits) {
        let totals = self.usage.totals();
        self.cut(end, reason, totals, Some(why.to_owned()), limits);
    }

    fn cut(&mut self, end: At, reason: Reason, mut totals: Vec<Total>, why: Option<String>, limits: Limits) {
        let start = self.from;
        let end_real_ns = end.real_ns.max(start.real_ns);
        let elapsed_ns = match reason {
            Reason::PowerLoss => end_real_ns.abs_diff(start.real_ns),
            _ => end.boot_ns.saturating_sub(start.boot_ns),
        };
        self.from = At { real_ns: end_real_ns, ..end };
        let empty = elapsed_ns == 0 && end_real_ns == start.real_ns;
        if empty && reason != Reason::End {
            return;
        }
        let measured_ns = if reason.is_gap() { 0 } else { self.usage.take_measured(end.boot_ns).min(elapsed_ns) };
        let unsampled_ns = elapsed_ns - measured_ns;
        if !reason.is_gap() && unsampled_ns > 0 {
            let gauges = totals.iter_mut().filter(|total| !total.resource.reserved && is_gauge(total.resource.kind));
            for total in gauges.filter(|total| total.status == Status::Measured) {
                total.status = Status::Estimated;
                total.why =
                    Some(format!("not sampled for {} ms, and not counted there", unsampled_ns.div_ceil(1_000_000)));
            }
        }
        for slot in self.attached.iter().filter(|slot| !slot.why().is_empty()) {
            let kinds = slot.kinds();
            let of = totals.iter_mut().filter(|total| !total.resource.reserved && kinds.contains(&total.resource.kind));
            of.filter(|total| total.status != Status::Measured)
                .for_each(|total| total.why = Some(slot.why().to_owned()));
        }
        let lost = u128::from(elapsed_ns).saturating_mul(u128::from(limits.cpus));
        let due = elapsed_ns.saturating_add(limits.interval_ns / 2).checked_div(limits.interval_ns).unwrap_or(0);
        self.pieces.push(OrderDraft {
            order: self.key,
            reason,
            start_real_ns: start.real_ns,
            end_real_ns,
            elapsed_ns,
            measured_ns,
            unsampled_ns,
            identity: self.identity.clone(),
            totals,
            delivered: self.delivered.times(),
            why,
            lost_cpu_ns_max: reason.is_gap().then_some(lost),
            samples_due: u32::try_from(due).unwrap_or(u32::MAX),
            samples_taken: if reason.is_gap() { 0 } else { std::mem::take(&mut self.taken) },
        });
        if !reason.is_gap() {
            self.usage.clear_marks();
        }
    }

    /// Ends the window's piece at its edge. A sample at most one interval after the edge is the reading of the edge; a
    /// later one is split by time.
    pub(crate) fn close(&mut self, at: At, end_real_ns: i64, limits: Limits) {
        let late_ns = u64::try_from(at.real_ns.saturating_sub(end_real_ns)).unwrap_or(0);
        let whole = late_ns <= limits.interval_ns;
        let back = if whole { 0 } else { late_ns };
        let boot_ns = at.boot_ns.saturating_sub(back).max(self.from.boot_ns);
        let edge = At { real_ns: end_real_ns, boot_ns, mono_ns: at.mono_ns.saturating_sub(back) };
        if self.reader.is_none() {
            let why = self.lost_why.clone();
            self.gap(edge, Reason::Gap, &why, limits);
        } else {
            let totals = if whole { self.usage.totals() } else { self.usage.totals_at(boot_ns) };
            self.cut(edge, Reason::Continue, totals, None, limits);
        }
    }

    /// The final read, again if a value waits for confirmation, and the last piece.
    pub(crate) fn stop(&mut self, at: At, context: &mut Context<'_>) {
        self.tick(at, context);
        if self.usage.in_doubt() {
            self.tick(at, context);
        }
        if self.reader.is_none() {
            let why = self.lost_why.clone();
            self.gap(at, Reason::Gap, &why, context.limits);
        }
        self.end_piece(at, Reason::End, context.limits);
    }

    pub(crate) fn state(&self) -> OrderState {
        // Pieces not handed out yet would be lost with this process: their time is said to be unsampled then.
        let from = match self.pieces.first() {
            Some(piece) => At {
                real_ns: piece.start_real_ns,
                boot_ns: self
                    .pieces
                    .iter()
                    .fold(self.from.boot_ns, |boot_ns, piece| boot_ns.saturating_sub(piece.elapsed_ns)),
                ..self.from
            },
            None => self.from,
        };
        OrderState {
            order: self.key,
            identity: self.identity.clone(),
            last: self.usage.last().unwrap_or(self.from),
            from,
            measured_ns: self.usage.measured_ns,
            unsampled_ns: self.usage.unsampled_ns,
            meters: self.usage.stored(),
            network: self.plan.network.clone(),
            storage: self.plan.storage.clone(),
            gpus: self.plan.gpus.clone(),
            delivered: self.delivered.stored(),
        }
    }
}

/// What of the time stolen between two instants is an order's that used so much of the host's CPU time, ns.
fn share_of(then: Stolen, now: Stolen, order_ns: u128) -> Result<u64, &'static str> {
    let fell = "the host's counter fell";
    let stolen_ns = now.stolen_ns.checked_sub(then.stolen_ns).ok_or(fell)?;
    let host_ns = u128::from(now.used_ns.checked_sub(then.used_ns).ok_or(fell)?).max(order_ns);
    let share = u128::from(stolen_ns).saturating_mul(order_ns).checked_div(host_ns).unwrap_or(0);
    Ok(u64::try_from(share).unwrap_or(u64::MAX))
}

/// Whether the primary source is the same; attached ones are looked at one by one.
pub(crate) fn is_same(a: &MeterIdentity, b: &MeterIdentity) -> bool {
    (a.boot_id, &a.source, &a.path, a.instance) == (b.boot_id, &b.source, &b.path, b.instance)
}

/// The resources a caller asked for, as far as they are used quantities.
pub(crate) fn metered_kinds(metered: &[Resource]) -> impl Iterator<Item = Kind> {
    metered.iter().filter(|resource| !resource.reserved).map(|resource| resource.kind)
}
