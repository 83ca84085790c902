//! The sampling thread: ticks on CLOCK_MONOTONIC, cuts windows at UTC edges, hands drafts and its state to the writer.
//! What is read and how it adds up is `metering`; what is signed is the writer's.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::Duration,
};

use hufu_metering::{
    At, Known, OrderState, Plan, Sampler, Target,
    counters::Counters,
    ends::Ends,
    gpu_meter::Trouble,
    hierarchy::Hierarchies,
    nft,
    own::{Own, holds_self},
};
use hufu_trade::{
    octets::{ContractNo, Octets},
    quality::Quality,
    resource::Resource,
    usage::{TimeQuality, TimeState},
};

use crate::{
    clock::{Clock, Now},
    gpus::Followed,
    metrics::Shared,
    node::Event,
    writer::Input,
};

/// `meter.state` is written this often, ns: what a host power loss can cost of gauges.
const STATE_NS: u64 = 10_000_000_000;
/// Room for a file of the agent's own cgroup.
const OWN_BYTES_MAX: usize = 8192;
/// REALTIME against BOOTTIME moving by more than this between two windows is a step, ns.
const STEP_NS: u64 = 500_000_000;

/// What the writer asks of the sampler.
#[derive(Debug)]
pub(crate) enum Command {
    /// Meter an order.
    Start {
        contract: ContractNo,
        plan: Box<Plan>,
        metered: Vec<Resource>,
        reserved: Vec<(Resource, u64)>,
        /// What the meter has counted by the order's newest record.
        totals: Vec<(Resource, u128)>,
        /// Times of quality of its newest record since then, ns.
        times: Vec<(Quality, u128)>,
        address: Option<String>,
        /// When it was resumed last, ns since 1970-01-01Z: a state from before holds totals that were counted already.
        resumed_ns: Option<i64>,
    },
    /// Read traffic from these counters of the cgroup at this path; before its order's [`Command::Start`].
    HandOver { path: String, counters: Counters },
    /// Read an order for the last time.
    Stop { contract: ContractNo },
    /// Something changed in the cgroup of this number: read the orders in it.
    Emptied { number: i32 },
    /// Of the orders that were resumed from their states alone only these are metered still.
    Only { contracts: Vec<ContractNo> },
    /// Write the state and end.
    Quit,
}

/// What the thread needs.
pub(crate) struct Setting {
    pub(crate) root: PathBuf,
    pub(crate) interval_ns: u64,
    pub(crate) window_ns: u64,
    /// States of the last run.
    pub(crate) stored: Vec<OrderState>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) writer: SyncSender<Input>,
    pub(crate) clock: Clock,
    /// Its ticks, for whoever watches.
    pub(crate) counted: Shared,
    /// The GPUs, where products hold them.
    pub(crate) gpus: Option<Followed>,
    /// Who reads what nftables counted of orders, where this process may not.
    pub(crate) nft: Option<nft::Ask>,
    /// What hears of orders' cgroups that are empty.
    pub(crate) ends: Option<Arc<Ends>>,
}

fn at(now: Now) -> At {
    At { real_ns: now.real_ns, boot_ns: now.boot_ns, mono_ns: now.mono_ns }
}

/// Runs until told to quit or the writer is gone.
///
/// # Errors
/// Those of [`Sampler::new`].
pub(crate) fn run(setting: Setting) -> Result<(), hufu_metering::Error> {
    let mut thread = Thread::new(setting)?;
    while thread.turn() {}
    thread.keep();
    if let Some(gpus) = thread.setting.gpus.take() {
        gpus.end();
    }
    Ok(())
}

/// What the thread does, one turn at a time.
pub(crate) struct Thread {
    setting: Setting,
    sampler: Sampler,
    own: Own,
    buffer: Vec<u8>,
    /// States of the last run, until their orders start again.
    stored: Vec<OrderState>,
    /// Orders that go on from their states alone, until the writer has read its ledger and knows them too.
    resumed: Vec<ContractNo>,
    /// Next window edge, REALTIME.
    edge_ns: i64,
    /// Next tick, MONOTONIC.
    tick_ns: u64,
    /// Next write of the state, MONOTONIC.
    state_ns: u64,
    /// REALTIME - BOOTTIME at the last window edge.
    offset_ns: i64,
}

/// What a trouble is called as an alarm.
fn about(trouble: &Trouble) -> &'static str {
    match trouble {
        Trouble::Gone { .. } | Trouble::Hung => "GPU is not metered",
        Trouble::Foreign { .. } => "GPU used by others",
        Trouble::Implausible { .. } => "GPU energy counter jumped",
    }
}

fn next_edge(real_ns: i64, window_ns: u64) -> i64 {
    let window = i64::try_from(window_ns).unwrap_or(60_000_000_000).max(1);
    (real_ns.div_euclid(window) + 1).saturating_mul(window)
}

fn offset(now: Now) -> i64 {
    now.real_ns.saturating_sub(i64::try_from(now.boot_ns).unwrap_or(i64::MAX))
}

impl Thread {
    /// A sampler that goes on with the orders of the last run whose meters are still there: they are sampled from now on, and
    /// not only when a long ledger was read and compared.
    ///
    /// # Errors
    /// Those of [`Sampler::new`].
    pub(crate) fn new(mut setting: Setting) -> Result<Self, hufu_metering::Error> {
        let now = (setting.clock.now)();
        let mut sampler = Sampler::new(&setting.root, setting.interval_ns, at(now))?;
        if let Some(gpus) = &setting.gpus {
            sampler.follow_gpus(gpus.watch().table().clone());
            // The first one stays; there is one daemon a process.
            setting.counted.gpus.set(gpus.watch().table().clone()).ok();
        }
        if let Some(ask) = setting.nft.take() {
            sampler.ask_nft_by(ask);
        }
        if let Some(ends) = &setting.ends {
            sampler.hear(Arc::clone(ends));
        }
        let stored = std::mem::take(&mut setting.stored);
        let (resumed, stored): (Vec<_>, Vec<_>) = stored.into_iter().partition(|state| sampler.resume(state, at(now)));
        let resumed: Vec<_> = resumed.iter().map(|state| Octets(state.order)).collect();
        tracing::info!(orders = resumed.len(), "metering goes on");
        let (own, mut buffer) = (Own::open(&Hierarchies::detect(&setting.root)?)?, vec![0; OWN_BYTES_MAX]);
        setting.counted.own.set(own.read(&mut buffer));
        Ok(Self {
            edge_ns: next_edge(now.real_ns, setting.window_ns),
            tick_ns: now.mono_ns,
            state_ns: now.mono_ns.saturating_add(STATE_NS),
            offset_ns: offset(now),
            own,
            buffer,
            setting,
            sampler,
            stored,
            resumed,
        })
    }

    fn turn(&mut self) -> bool {
        // An edge is looked at again at least each second, because the wall clock may be stepped meanwhile.
        // NVML's answers are taken within a second, too.
        let busy = self.sampler.orders().next().is_some() || self.setting.gpus.is_some();
        let wait = self.wait_ns((self.setting.clock.now)()).min(if busy { 1_000_000_000 } else { 60_000_000_000 });
        if wait > 0 {
            match self.setting.commands.recv_timeout(Duration::from_nanos(wait)) {
                Ok(Command::Quit) | Err(RecvTimeoutError::Disconnected) => return false,
                Ok(command) => return self.obey(command),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        self.look()
    }

    /// How long there is nothing to do but obey, ns, if no clock is stepped.
    pub(crate) fn wait_ns(&self, now: Now) -> u64 {
        let busy = self.sampler.orders().next().is_some();
        let to_edge = u64::try_from(self.edge_ns.saturating_sub(now.real_ns)).unwrap_or(0);
        let to_tick = if busy { self.tick_ns.saturating_sub(now.mono_ns) } else { u64::MAX };
        to_edge.min(to_tick)
    }

    /// Does what the time asks for; false when the writer is gone.
    pub(crate) fn look(&mut self) -> bool {
        let now = (self.setting.clock.now)();
        if let Some(event) = self.setting.gpus.as_mut().and_then(|gpus| gpus.look(now))
            && !self.tell(event)
        {
            return false;
        }
        let busy = self.sampler.orders().next().is_some();
        // The wall clock was set back: edges follow it, intervals keep their BOOTTIME length. Not later than the next tick:
        // while an order is metered a tick is due at every look.
        let ahead_ns = u64::try_from(self.edge_ns.saturating_sub(now.real_ns)).unwrap_or(0);
        if ahead_ns > self.setting.window_ns.saturating_mul(2) {
            self.edge_ns = next_edge(now.real_ns, self.setting.window_ns);
        }
        if now.real_ns >= self.edge_ns {
            return self.close(now);
        }
        if busy && now.mono_ns >= self.tick_ns {
            let late_ns = now.mono_ns.saturating_sub(self.tick_ns);
            self.sampler.tick(at(now));
            let took_ns = (self.setting.clock.now)().mono_ns.saturating_sub(now.mono_ns);
            self.setting.counted.tick(took_ns, late_ns > self.setting.interval_ns / 2);
            self.tick_ns = now.mono_ns.saturating_add(self.setting.interval_ns);
            for (order, trouble) in self.sampler.take_troubles() {
                let (contract, what) = (Octets(order), about(&trouble));
                if !self.tell(Event::Trouble { contract, what, detail: trouble.to_string() }) {
                    return false;
                }
            }
            if now.mono_ns >= self.state_ns {
                self.keep();
                self.state_ns = now.mono_ns.saturating_add(STATE_NS);
            }
        }
        true
    }

    fn quality(&mut self, now: Now) -> TimeQuality {
        let quality = (self.setting.clock.quality)(now);
        let moved = offset(now).abs_diff(self.offset_ns) > STEP_NS;
        self.offset_ns = offset(now);
        if moved && quality.state > TimeState::Stepped {
            return TimeQuality { state: TimeState::Stepped, max_error_ns: None };
        }
        quality
    }

    fn close(&mut self, now: Now) -> bool {
        let window = i64::try_from(self.setting.window_ns).unwrap_or(i64::MAX).max(1);
        let edge_ns = now.real_ns.div_euclid(window).saturating_mul(window);
        let quality = self.quality(now);
        let draft = self.sampler.close(at(now), edge_ns);
        self.edge_ns = next_edge(now.real_ns, self.setting.window_ns);
        self.tick_ns = now.mono_ns.saturating_add(self.setting.interval_ns);
        self.setting.counted.own.set(self.own.read(&mut self.buffer));
        if draft.orders.is_empty() {
            return true;
        }
        self.keep();
        self.tell(Event::Window { draft, quality })
    }

    /// Whether what an order is to be metered by holds this process, too.
    fn holds_agent(&self, plan: &Plan) -> bool {
        matches!(&plan.target, Target::Cgroup { path } if holds_self(&self.setting.root, path))
    }

    /// Obeys the writer; false when it is gone, or wants the end.
    pub(crate) fn obey(&mut self, command: Command) -> bool {
        let now = (self.setting.clock.now)();
        match command {
            Command::Start { contract, plan, .. } if self.holds_agent(&plan) => {
                self.resumed.retain(|known| *known != contract);
                self.sampler.let_go(contract.0);
                let Target::Cgroup { path } = plan.target else { return true };
                let why = format!(
                    "the agent itself lives in cgroup {path:?}: its own work would be billed; give the order another"
                );
                self.tell(Event::Provisioned { contract, outcome: Err(why) })
            }
            Command::Start { contract, plan, metered, reserved, totals, times, address, resumed_ns } => {
                if let Some(index) = self.resumed.iter().position(|known| *known == contract) {
                    self.resumed.swap_remove(index);
                    let is_newer = |from_ns: i64| resumed_ns.is_none_or(|at| from_ns >= at);
                    let since = self.sampler.state_of(contract.0).map(|state| state.from.real_ns);
                    if since.is_some_and(is_newer) && self.sampler.is_metering(contract.0, &plan, &metered, &reserved) {
                        self.sampler.lift(contract.0, &totals, &times);
                        return self.tell(Event::Provisioned { contract, outcome: Ok(address) });
                    }
                    self.stored.extend(self.sampler.let_go(contract.0));
                }
                let index = self.stored.iter().position(|state| state.order == contract.0);
                let restored = index.map(|index| self.stored.swap_remove(index));
                let state = restored.filter(|state| resumed_ns.is_none_or(|at| state.from.real_ns >= at));
                let known = Known { state, totals, times };
                let started = self.sampler.go_on(contract.0, *plan, (&metered, &reserved), known, at(now));
                self.tick_ns = now.mono_ns;
                let outcome = started.map(|_| address).map_err(|e| e.to_string());
                self.tell(Event::Provisioned { contract, outcome })
            }
            Command::HandOver { path, counters } => {
                self.sampler.hand_over(&path, counters);
                true
            }
            Command::Emptied { number } => {
                self.sampler.emptied(number, at(now));
                true
            }
            Command::Only { contracts } => {
                let (known, over): (Vec<_>, Vec<_>) = self.resumed.drain(..).partition(|no| contracts.contains(no));
                self.resumed = known;
                for contract in over {
                    self.sampler.let_go(contract.0);
                }
                true
            }
            Command::Stop { contract } => {
                self.resumed.retain(|known| *known != contract);
                let drafts = self.sampler.stop(contract.0, at(now)).unwrap_or_default();
                let quality = (self.setting.clock.quality)(now);
                self.tell(Event::Final { contract, drafts, quality })
            }
            Command::Quit => false,
        }
    }

    /// What the writer asks for and was not obeyed yet.
    pub(crate) fn commands(&self) -> &Receiver<Command> {
        &self.setting.commands
    }

    fn tell(&self, event: Event) -> bool {
        self.setting.writer.send(Input::Event(event)).is_ok()
    }

    /// Hands its state to the writer.
    pub(crate) fn keep(&self) {
        let mut states = self.sampler.state();
        // An order whose place is not back yet keeps its old state.
        states.extend(self.stored.iter().cloned());
        self.setting.writer.send(Input::MeterState(pack(&states))).ok();
    }
}

/// States as one text of bytes: each with its length, u32 big-endian.
fn pack(states: &[OrderState]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for state in states.iter().map(OrderState::encode) {
        bytes.extend(u32::try_from(state.len()).unwrap_or(0).to_be_bytes());
        bytes.extend(state);
    }
    bytes
}

/// The states [`pack`] wrote; what cannot be read is left out: those orders go on from their last record.
pub(crate) fn unpack(mut bytes: &[u8]) -> Vec<OrderState> {
    let mut states = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some((state, rest)) = rest.split_at_checked(length) else { break };
        states.extend(OrderState::decode(state));
        bytes = rest;
    }
    states
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::mpsc};

    use hufu_trade::octets::Octets;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    thread_local! {
        static NOW: Cell<Now> = const { Cell::new(Now { real_ns: 0, boot_ns: 0, mono_ns: 0 }) };
    }

    /// A sampler of this machine on the clock of this test's thread, and what it tells the writer.
    fn thread() -> (Thread, Receiver<Input>) {
        let quality = |_| TimeQuality { state: TimeState::Synchronised, max_error_ns: None };
        let (_, commands) = mpsc::sync_channel(1);
        let (writer, events) = mpsc::sync_channel(1000);
        NOW.set(Now { real_ns: 1_790_000_000 * SECOND, boot_ns: 10_000_000_000, mono_ns: 10_000_000_000 });
        let setting = Setting {
            root: PathBuf::from("/"),
            interval_ns: 1_000_000_000,
            window_ns: 5_000_000_000,
            stored: Vec::new(),
            commands,
            writer,
            clock: Clock { now: || NOW.get(), quality },
            counted: Shared::default(),
            gpus: None,
            nft: None,
            ends: None,
        };
        (Thread::new(setting).unwrap(), events)
    }

    #[test]
    fn an_order_that_holds_the_agent_is_refused_and_the_agents_cost_is_known() {
        let (mut thread, events) = thread();
        let counted = thread.setting.counted.clone();
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let path = own.lines().next().and_then(|line| line.splitn(3, ':').nth(2)).unwrap().to_owned();
        let above = path.rsplit_once('/').map_or(String::new(), |(above, _)| above.to_owned());
        for path in [path, above] {
            thread.obey(Command::Start {
                contract: Octets([7; 16]),
                plan: Box::new(Plan::from(Target::Cgroup { path: path.clone() })),
                metered: vec![Resource::from_code(0, None).unwrap()],
                reserved: Vec::new(),
                totals: Vec::new(),
                times: Vec::new(),
                address: None,
                resumed_ns: None,
            });
            let Ok(Input::Event(Event::Provisioned { outcome: Err(why), .. })) = events.try_recv() else {
                panic!("{path} is metered");
            };
            assert!(why.contains("the agent itself lives in cgroup"), "{why}");
            assert_eq!(thread.sampler.orders().count(), 0);
        }
        let known: Vec<_> = counted.own.each().filter_map(|(name, value)| value.map(|_| name)).collect();
        assert!(
            known.contains(&"cpu_ns") && known.contains(&"resident_bytes") && known.contains(&"threads"),
            "{known:?}"
        );
    }

    #[test]
    fn windows_follow_a_clock_that_is_set_back_while_an_order_is_metered() {
        let (mut thread, events) = thread();
        let contract = Octets([7; 16]);
        let (metered, reserved) = (vec![Resource::from_code(0, None).unwrap()], Vec::new());
        let plan = Box::new(Plan::from(hufu_metering::Target::Process { pid: std::process::id() }));
        thread.obey(Command::Start {
            contract,
            plan,
            metered,
            reserved,
            totals: Vec::new(),
            times: Vec::new(),
            address: None,
            resumed_ns: None,
        });
        let mut windows = |seconds: u32| {
            for _ in 0..seconds {
                let Now { real_ns, boot_ns, mono_ns } = NOW.get();
                let wait_ns = thread.wait_ns(NOW.get()).min(1_000_000_000);
                NOW.set(Now {
                    real_ns: real_ns + i64::try_from(wait_ns).unwrap(),
                    boot_ns: boot_ns + wait_ns,
                    mono_ns: mono_ns + wait_ns,
                });
                assert!(thread.look());
            }
            let windows = events.try_iter().filter_map(|input| match input {
                Input::Event(Event::Window { draft, quality }) => Some((draft, quality)),
                _ => None,
            });
            windows.collect::<Vec<_>>()
        };
        assert!(windows(30).len() >= 4, "it meters");
        NOW.set(Now { real_ns: NOW.get().real_ns - 600 * SECOND, ..NOW.get() });
        let after = windows(30);
        assert!(after.len() >= 4, "{} windows in 30 turns after the clock was set back", after.len());
        assert_eq!(after[0].1.state, TimeState::Stepped);
        for (draft, _) in &after {
            assert!(draft.elapsed_ns <= 10_000_000_000, "{draft:?}");
            assert!(draft.end_real_ns <= NOW.get().real_ns, "{draft:?}");
        }
    }
}
