//! One order being metered: its reader, its usage, and the pieces its time falls into (usage, gap, usage). The set of
//! orders and the windows are `window.rs`.

use std::path::Path;

use hufu_trade::{
    octets::Octets,
    resource::{Kind, Resource},
    usage::{MeterIdentity, Reason, Status},
};

use crate::{
    Error,
    cgroup::Cgroup,
    disk::Disks,
    hierarchy::Hierarchies,
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
}

/// What every reading of a tick shares.
pub(crate) struct Context<'a> {
    pub(crate) root: &'a Path,
    pub(crate) hierarchies: &'a Hierarchies,
    pub(crate) boot_id: [u8; 16],
    pub(crate) buffer: &'a mut [u8],
    pub(crate) disks: &'a mut Disks,
    pub(crate) limits: Limits,
}

/// An open source.
#[derive(Debug)]
pub(crate) enum Reader {
    Cgroup(Cgroup),
    Process(Box<ProcessTree>),
}

impl Reader {
    /// Opens the target and says whose counters these are.
    pub(crate) fn open(target: &Target, context: &Context<'_>) -> Result<(Self, MeterIdentity), Error> {
        let boot_id = Octets(context.boot_id);
        match target {
            Target::Cgroup { path } => {
                let cgroup = Cgroup::open(context.hierarchies, path)?;
                let (source, instance) = (context.hierarchies.mode().source().to_owned(), cgroup.instance());
                let path = path.clone();
                let identity = MeterIdentity { boot_id, source, path, instance, resolved: None, attached: None };
                Ok((Self::Cgroup(cgroup), identity))
            }
            Target::Process { pid } => {
                let tree = ProcessTree::open(context.root, *pid)?;
                let (source, instance) = (PROCESS_TREE.to_owned(), tree.instance());
                let path = pid.to_string();
                let identity = MeterIdentity { boot_id, source, path, instance, resolved: None, attached: None };
                Ok((Self::Process(Box::new(tree)), identity))
            }
        }
    }

    pub(crate) fn read(&mut self, context: &mut Context<'_>) -> Result<Sample, Error> {
        match self {
            Self::Cgroup(cgroup) => cgroup.read(context.buffer, context.disks),
            Self::Process(tree) => tree.read(),
        }
    }
}

/// A piece of an order's time, ready to become a usage record or a gap: the pieces of an order join without hole or overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderDraft {
    /// The caller's key of the order.
    pub order: [u8; 16],
    /// `Continue`, `End`, `Gap` or `PowerLoss`; the caller knows begin, tariff change and suspension.
    pub reason: Reason,
    /// Start, ns since 1970-01-01Z.
    pub start_real_ns: i64,
    /// End, not included, ns since 1970-01-01Z.
    pub end_real_ns: i64,
    /// Length by CLOCK_BOOTTIME, ns (by the wall clock for a power loss: the other stood still).
    pub elapsed_ns: u64,
    /// Time covered by samples, ns.
    pub measured_ns: u64,
    /// Time in which gauges were not integrated, ns; counters lose nothing in it.
    pub unsampled_ns: u64,
    /// Whose counters were read.
    pub identity: MeterIdentity,
    /// Cumulative totals at the end, one a metered or reserved resource in code order. A gap's totals are those before it.
    pub totals: Vec<Total>,
    /// Why there is a gap.
    pub why: Option<String>,
    /// The most CPU time that may have been used unseen in a gap, ns; nothing of it is in the totals.
    pub lost_cpu_ns_max: Option<u128>,
    /// Samples that were due.
    pub samples_due: u32,
    /// Samples that were taken.
    pub samples_taken: u32,
}

/// An order being metered.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) key: [u8; 16],
    target: Target,
    reader: Option<Reader>,
    lost_why: String,
    identity: MeterIdentity,
    pub(crate) usage: Usage,
    /// Start of the piece being measured.
    from: At,
    pub(crate) pieces: Vec<OrderDraft>,
    taken: u32,
    /// Base of the running window's sums, by kind.
    pub(crate) window_base: [u128; 12],
    /// The running window holds a step longer than the window: it began before this process did.
    pub(crate) spans_restart: bool,
}

impl Order {
    pub(crate) fn start(
        key: [u8; 16],
        target: Target,
        mut usage: Usage,
        known: Known,
        at: At,
        context: &mut Context<'_>,
    ) -> Result<Self, Error> {
        let Known { state: restored, totals } = known;
        let opened = Reader::open(&target, context);
        let (reader, identity, lost_why) = match (opened, &restored) {
            (Ok((reader, identity)), _) => (Some(reader), identity, String::new()),
            (Err(error), Some(state)) => (None, state.identity.clone(), error.to_string()),
            (Err(error), None) => return Err(error),
        };
        let Some(state) = restored else {
            usage.lift(&totals, true);
            let mut order = Self::new(key, target, reader, identity, usage, at);
            order.tick(at, context);
            return Ok(order);
        };
        usage.restore(&state.meters, state.last);
        (usage.measured_ns, usage.unsampled_ns) = (state.measured_ns, state.unsampled_ns);
        let same = reader.is_some() && identity == state.identity && at.boot_ns >= state.last.boot_ns;
        usage.lift(&totals, !same);
        let mut order = Self::new(key, target, reader, state.identity.clone(), usage, state.from);
        order.spans_restart = true;
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
            if order.reader.is_some() || rebooted {
                order.gap(at, if rebooted { Reason::PowerLoss } else { Reason::Gap }, &why, context.limits);
            }
            order.identity = identity;
            order.lost_why = why;
        }
        order.tick(at, context);
        Ok(order)
    }

    fn new(
        key: [u8; 16],
        target: Target,
        reader: Option<Reader>,
        identity: MeterIdentity,
        usage: Usage,
        from: At,
    ) -> Self {
        let lost_why = String::new();
        let (pieces, taken, spans_restart) = (Vec::new(), 0, false);
        Self {
            key,
            target,
            reader,
            lost_why,
            identity,
            usage,
            from,
            pieces,
            taken,
            window_base: [0; 12],
            spans_restart,
        }
    }

    /// Whether it was started with this target and what `usage` meters.
    pub(crate) fn is(&self, target: &Target, usage: &Usage) -> bool {
        self.target == *target && self.usage.meters_as(usage)
    }

    pub(crate) fn identity(&self) -> &MeterIdentity {
        &self.identity
    }

    /// Reads once. A reading that fails is a gap, not an error.
    pub(crate) fn tick(&mut self, at: At, context: &mut Context<'_>) {
        if self.reader.is_none() {
            let Ok((reader, identity)) = Reader::open(&self.target, context) else { return };
            let why = std::mem::take(&mut self.lost_why);
            self.gap(at, Reason::Gap, &why, context.limits);
            (self.reader, self.identity) = (Some(reader), identity);
        }
        let Some(reader) = &mut self.reader else { return };
        match reader.read(context) {
            Ok(sample) => self.take(at, &sample, context.limits),
            Err(error) => self.lose(&error.to_string(), context.limits),
        }
    }

    fn take(&mut self, at: At, sample: &Sample, limits: Limits) {
        let before = self.usage.last();
        let mut quarantined = None;
        self.usage.step(at, sample, &limits, |finding| {
            if let Finding::Quarantined { .. } = finding {
                quarantined = Some(finding);
            }
        });
        self.taken = self.taken.saturating_add(1);
        if let (Some(Finding::Quarantined { kind, from, to, most }), Some(before)) = (quarantined, before) {
            let why = format!("{} counter went from {from} to {to}, at most {most} is possible", kind.name());
            let totals = self.usage.totals_before();
            self.cut(before, Reason::Continue, totals.clone(), None, limits);
            self.cut(at, Reason::Gap, totals, Some(why), limits);
        }
    }

    /// The source is gone: what was measured ends at the last sample.
    fn lose(&mut self, why: &str, limits: Limits) {
        self.reader = None;
        why.clone_into(&mut self.lost_why);
        if let Some(last) = self.usage.last() {
            self.end_piece(last, Reason::Continue, limits);
        }
        self.usage.rebase();
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
            why,
            lost_cpu_ns_max: reason.is_gap().then_some(lost),
            samples_due: u32::try_from(due).unwrap_or(u32::MAX),
            samples_taken: if reason.is_gap() { 0 } else { std::mem::take(&mut self.taken) },
        });
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
        }
    }
}

/// The resources a caller asked for, as far as they are used quantities.
pub(crate) fn metered_kinds(metered: &[Resource]) -> impl Iterator<Item = Kind> {
    metered.iter().filter(|resource| !resource.reserved).map(|resource| resource.kind)
}
