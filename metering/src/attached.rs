//! The sources of an order beside its primary one: network, storage, GPU. Each fails and comes back alone: what is gone here
//! starts its own kinds anew and leaves the others as they are. What each of them reads is said in its own file.

use hufu_trade::{resource::Kind, usage::SourceIdentity};

use crate::{
    Error,
    gpu_meter::GpuMeter,
    net::Boundary,
    order::Context,
    plan::{Network, Plan, Storage},
    sample::{Raw, Sample, Target},
    storage::StorageMeter,
};

/// After so many ticks a source that could not be opened is tried again.
const RETRY_TICKS: u8 = 10;

/// An open source. Each variant's type has `identity`, `is_gone` and `read`; see [`Slot::read`] for what they promise.
#[derive(Debug)]
pub(crate) enum Attached {
    Network(Boundary),
    Storage(StorageMeter),
    /// The GPUs that it holds.
    Gpus(Box<GpuMeter>),
}

impl Attached {
    /// Opens what the plan names.
    fn open(part: &Part, plan: &Plan, context: &mut Context<'_>) -> Result<Self, Error> {
        match part {
            Part::Network(network) => Boundary::open(network, plan, context).map(Self::Network),
            Part::Storage(storage) => StorageMeter::open(context.root, storage).map(Self::Storage),
            Part::Gpus(uuids) => {
                let cgroup = match &plan.target {
                    Target::Cgroup { path } => Some(path.as_str()),
                    Target::Process { .. } => None,
                };
                let meter = GpuMeter::open(context.root, context.gpus.cloned(), uuids, cgroup)?;
                Ok(Self::Gpus(Box::new(meter)))
            }
        }
    }

    /// Whose counters these are.
    fn identity(&self) -> SourceIdentity {
        match self {
            Self::Network(boundary) => boundary.identity(),
            Self::Storage(meter) => meter.identity(),
            Self::Gpus(gpus) => gpus.identity(),
        }
    }

    /// True once the instance that was opened exists no more: it is then opened anew, as another one.
    fn is_gone(&self) -> bool {
        match self {
            Self::Network(boundary) => boundary.is_gone(),
            Self::Storage(meter) => meter.is_gone(),
            // A device that comes back is the same one: its UUID is.
            Self::Gpus(_) => false,
        }
    }

    /// More than so much a second no counter of it can count up; `None` where nothing but what every machine bears limits it.
    fn most_per_second(&self) -> Option<u64> {
        match self {
            Self::Network(boundary) => boundary.most_bytes_s(),
            Self::Storage(_) | Self::Gpus(_) => None,
        }
    }

    /// Sets its kinds to values or reasons; no allocation in the steady state.
    fn read(&mut self, context: &mut Context<'_>, sample: &mut Sample) {
        let at = context.at;
        match self {
            Self::Network(boundary) => boundary.read(context.buffer, (context.nft, at, context.depth), sample),
            Self::Storage(meter) => meter.read(context.buffer, sample),
            Self::Gpus(gpus) => gpus.read(at, context.buffer, sample),
        }
    }
}

/// What of the plan a slot is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Network(Network),
    Storage(Storage),
    Gpus(Vec<String>),
}

impl Part {
    fn kinds(&self) -> &'static [Kind] {
        match self {
            Self::Network(_) => &[Kind::NetRx, Kind::NetTx],
            Self::Storage(_) => &[Kind::Storage],
            Self::Gpus(_) => &[Kind::Gpu, Kind::GpuMemory, Kind::GpuEnergy],
        }
    }

    /// Why nothing was read, without the detail that `Slot::why` has.
    fn absent(&self) -> &'static str {
        match self {
            Self::Network(_) => "the order's network counters cannot be read",
            Self::Storage(_) => "the order's storage cannot be read",
            Self::Gpus(_) => "the order's GPUs cannot be read",
        }
    }

    fn replaced(&self) -> &'static str {
        match self {
            Self::Network(_) => "the order's network counters were replaced; what was sent between is not counted",
            Self::Storage(_) => "the order's storage was replaced; the time between is not counted",
            Self::Gpus(_) => "the order's GPUs were replaced; the time between is not counted",
        }
    }
}

/// One attached source of an order, open or not.
#[derive(Debug)]
pub(crate) struct Slot {
    part: Part,
    source: Option<Attached>,
    /// The identities its meters' raw values may belong to: the one that is open, or those of the last run.
    known: Vec<SourceIdentity>,
    why: String,
    wait_ticks: u8,
}

/// What a slot's reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// As before.
    Same,
    /// Another instance was opened, or the one that was open is gone.
    Changed,
    /// As [`Came::Changed`], and the raw values so far are another's.
    Anew,
}

impl Slot {
    /// The slots of a plan; `known` are the identities of the last run.
    pub(crate) fn all(plan: &Plan, known: &[SourceIdentity]) -> Vec<Self> {
        let network = plan.network.clone().map(Part::Network);
        let storage = plan.storage.clone().map(Part::Storage);
        let gpus = (!plan.gpus.is_empty()).then(|| Part::Gpus(plan.gpus.clone()));
        let slot = |part| Self { part, source: None, known: known.to_vec(), why: String::new(), wait_ticks: 0 };
        network.into_iter().chain(storage).chain(gpus).map(slot).collect()
    }

    /// The kinds it sets.
    pub(crate) fn kinds(&self) -> &'static [Kind] {
        self.part.kinds()
    }

    /// Why they start anew.
    pub(crate) fn replaced(&self) -> &'static str {
        self.part.replaced()
    }

    /// Tries at the next tick to open what is not open: it may be there now.
    pub(crate) fn look_again(&mut self) {
        self.wait_ticks = 0;
    }

    /// Why nothing is read, in full; empty while it is open.
    pub(crate) fn why(&self) -> &str {
        &self.why
    }

    /// The GPUs of the order, where it is their slot and it is open.
    pub(crate) fn gpus(&mut self) -> Option<&mut GpuMeter> {
        match &mut self.source {
            Some(Attached::Gpus(gpus)) => Some(gpus),
            #[allow(unreachable_patterns, reason = "the list of sources grows")]
            _ => None,
        }
    }

    /// The most that a counter of it can count up in a second, where it is open and something limits it.
    pub(crate) fn most_per_second(&self) -> Option<u64> {
        self.source.as_ref().and_then(Attached::most_per_second)
    }

    /// What its raw values belong to.
    pub(crate) fn known(&self) -> &[SourceIdentity] {
        &self.known
    }

    /// Reads it into the sample; opens it first if it is not open and was not tried lately. A source that is gone gives a
    /// reason and is opened anew at the next tick: it never reads another instance's counters by itself.
    pub(crate) fn read(&mut self, plan: &Plan, context: &mut Context<'_>, sample: &mut Sample) -> Came {
        let mut came = Came::Same;
        if self.source.is_none() {
            if self.wait_ticks > 0 {
                self.wait_ticks -= 1;
            } else {
                match Attached::open(&self.part, plan, context) {
                    Ok(source) => {
                        let identity = source.identity();
                        came = if self.known.contains(&identity) || self.known.is_empty() {
                            Came::Changed
                        } else {
                            Came::Anew
                        };
                        self.known = vec![identity];
                        self.source = Some(source);
                        self.why.clear();
                    }
                    Err(error) => {
                        self.why = error.to_string();
                        self.wait_ticks = RETRY_TICKS;
                    }
                }
            }
        }
        let Some(source) = &mut self.source else {
            self.kinds().iter().for_each(|kind| sample.set(*kind, Raw::Missing(self.part.absent())));
            return came;
        };
        source.read(context, sample);
        if source.is_gone() {
            let why = self.kinds().iter().find_map(|kind| match sample.of(*kind) {
                Raw::Missing(why) => Some(why),
                Raw::Value(_) => None,
            });
            self.why = why.unwrap_or(self.part.absent()).to_owned();
            self.source = None;
        }
        came
    }
}
