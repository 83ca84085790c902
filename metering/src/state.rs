//! What must survive a restart of the agent, per order, and its small stable encoding: integers big-endian, texts with a
//! two-byte length. Where it is kept, and when, is the agent's business; integrity too.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

use hufu_trade::{
    octets::Octets,
    quality::QUALITIES,
    resource::Resource,
    usage::{MeterIdentity, SourceIdentity},
};

use crate::{
    Error,
    delivered::StoredTime,
    plan::{Network, Plan, Storage},
    sample::{At, Target},
    usage::Stored,
};

const VERSION: u8 = 2;
/// It ended after the meters: a target and nothing else.
const WITHOUT_PLAN: u8 = 1;
/// The source of meters that are process trees.
pub(crate) const PROCESS_TREE: &str = "process-tree";

/// The meter state of one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderState {
    /// The caller's key of the order.
    pub order: [u8; 16],
    /// Whose counters the raw values are.
    pub identity: MeterIdentity,
    /// The last sample.
    pub last: At,
    /// Where the next record of the order starts: end of the last draft handed out.
    pub from: At,
    /// Time covered by samples since `from`, ns.
    pub measured_ns: u64,
    /// Time without samples since `from`, ns.
    pub unsampled_ns: u64,
    /// Raw values and sums.
    pub meters: Vec<Stored>,
    /// The boundary of its traffic.
    pub network: Option<Network>,
    /// What holds its files.
    pub storage: Option<Storage>,
    /// The GPUs it holds.
    pub gpus: Vec<String>,
    /// Raw values and sums of what it was delivered, in code order.
    pub delivered: [StoredTime; QUALITIES.len()],
}

/// What an order was started with, as its state tells: plan, metered resources, reservations in base units a second.
pub(crate) type Started = (Plan, Vec<Resource>, Vec<(Resource, u64)>);

impl OrderState {
    /// What the order was started with; `None` where the state does not tell.
    pub(crate) fn started(&self) -> Option<Started> {
        let path = &self.identity.path;
        let target = match self.identity.source.as_str() {
            PROCESS_TREE => Target::Process { pid: path.parse().ok()? },
            _ => Target::Cgroup { path: path.clone() },
        };
        let (reserved, metered): (Vec<&Stored>, Vec<_>) = self.meters.iter().partition(|meter| meter.resource.reserved);
        // Versions before this one kept no rates.
        let reserved = reserved.into_iter().map(|meter| Some((meter.resource.clone(), meter.raw?)));
        let (network, storage, gpus) = (self.network.clone(), self.storage.clone(), self.gpus.clone());
        Some((
            Plan { target, resolved: self.identity.resolved.clone(), network, storage, gpus },
            metered.into_iter().map(|meter| meter.resource.clone()).collect(),
            reserved.collect::<Option<_>>()?,
        ))
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend(self.order);
        out.extend(self.identity.boot_id.0);
        put_text(&mut out, &self.identity.source);
        put_text(&mut out, &self.identity.path);
        out.extend(self.identity.instance.to_be_bytes());
        for at in [self.last, self.from] {
            out.extend(at.real_ns.to_be_bytes());
            out.extend(at.boot_ns.to_be_bytes());
            out.extend(at.mono_ns.to_be_bytes());
        }
        out.extend(self.measured_ns.to_be_bytes());
        out.extend(self.unsampled_ns.to_be_bytes());
        out.push(u8::try_from(self.meters.len()).unwrap_or(u8::MAX));
        for meter in self.meters.iter().take(usize::from(u8::MAX)) {
            out.push(meter.resource.code());
            put_text(&mut out, meter.resource.qualifier.as_deref().unwrap_or_default());
            out.push(u8::from(meter.raw.is_some()) | u8::from(meter.read) << 1);
            out.extend(meter.raw.unwrap_or(0).to_be_bytes());
            out.extend(meter.raw_boot_ns.to_be_bytes());
            out.extend(meter.sum.to_be_bytes());
        }
        self.put_plan(&mut out);
        for time in self.delivered {
            out.push(u8::from(time.raw.is_some()) | u8::from(time.read) << 1);
            out.extend(time.raw.unwrap_or(0).to_be_bytes());
            out.extend(time.raw_boot_ns.to_be_bytes());
            out.extend(time.sum_ns.to_be_bytes());
        }
        out
    }

    /// What version 1 did not have: resolution, attached sources, plan.
    fn put_plan(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.identity.resolved.is_some()));
        put_text(out, self.identity.resolved.as_deref().unwrap_or_default());
        let attached = self.identity.attached.as_deref().unwrap_or_default();
        out.push(u8::try_from(attached.len()).unwrap_or(u8::MAX));
        for source in attached.iter().take(usize::from(u8::MAX)) {
            put_text(out, &source.source);
            put_text(out, &source.path);
            out.extend(source.instance.to_be_bytes());
        }
        let (tag, name) = match &self.network {
            None => (0, ""),
            Some(Network::Cgroup) => (1, ""),
            // Two more where a namespace of its own is named, whose process follows.
            Some(Network::Interface { name, host_side, netns_pid }) => {
                (2 + u8::from(*host_side) + 2 * u8::from(netns_pid.is_some()), name.as_str())
            }
        };
        out.push(tag);
        put_text(out, name);
        if let Some(Network::Interface { netns_pid: Some(pid), .. }) = &self.network {
            out.extend(pid.to_be_bytes());
        }
        let (tag, path) = match &self.storage {
            None => (0, None),
            Some(Storage::Directory { path }) => (1, Some(path)),
            Some(Storage::Filesystem { mount }) => (2, Some(mount)),
        };
        out.push(tag);
        put_bytes(out, path.map_or(&[][..], |path| path.as_os_str().as_bytes()));
        out.push(u8::try_from(self.gpus.len()).unwrap_or(u8::MAX));
        self.gpus.iter().take(usize::from(u8::MAX)).for_each(|gpu| put_text(out, gpu));
    }

    /// Reads the bytes back.
    ///
    /// # Errors
    /// [`Error::BadState`] for bytes that [`OrderState::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Input(bytes);
        let [version] = input.array("version")?;
        if !matches!(version, VERSION | WITHOUT_PLAN) {
            return Err(Error::BadState { what: "version" });
        }
        let order = input.array("order")?;
        let boot_id = Octets(input.array("boot id")?);
        let (source, path) = (input.text("source")?, input.text("path")?);
        let instance = input.u64("instance")?;
        let identity = MeterIdentity { boot_id, source, path, instance, resolved: None, attached: None };
        let (last, from) = (input.at()?, input.at()?);
        let (measured_ns, unsampled_ns) = (input.u64("measured")?, input.u64("unsampled")?);
        let [count] = input.array::<1>("count")?;
        let meters = (0..count).map(|_| input.stored()).collect::<Result<_, _>>()?;
        let (network, storage, gpus) = (None, None, Vec::new());
        let delivered = [StoredTime::default(); QUALITIES.len()];
        let mut state =
            Self { order, identity, last, from, measured_ns, unsampled_ns, meters, network, storage, gpus, delivered };
        if version == VERSION {
            input.plan(&mut state)?;
        }
        if !input.0.is_empty() {
            return Err(Error::BadState { what: "length" });
        }
        Ok(state)
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text.get(..end).unwrap_or_default();
    put_bytes(out, text.as_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = bytes.get(..usize::from(u16::MAX)).unwrap_or(bytes);
    out.extend(u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
    out.extend(bytes);
}

/// The bytes not read yet.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Error::BadState { what })?;
        self.0 = rest;
        Ok(*head)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, Error> {
        self.array(what).map(u64::from_be_bytes)
    }

    fn bytes(&mut self, what: &'static str) -> Result<Vec<u8>, Error> {
        let length = usize::from(u16::from_be_bytes(self.array(what)?));
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Error::BadState { what })?;
        self.0 = rest;
        Ok(bytes.to_vec())
    }

    fn text(&mut self, what: &'static str) -> Result<String, Error> {
        String::from_utf8(self.bytes(what)?).map_err(|_| Error::BadState { what })
    }

    /// What [`OrderState::put_plan`] wrote, and the times.
    fn plan(&mut self, state: &mut OrderState) -> Result<(), Error> {
        let bad = |what| Err(Error::BadState { what });
        let ([has], resolved) = (self.array("resolution")?, self.text("resolution")?);
        state.identity.resolved = match has {
            0 if resolved.is_empty() => None,
            1 => Some(resolved),
            _ => return bad("resolution"),
        };
        let [count] = self.array("attached")?;
        let source = |input: &mut Self| {
            let (source, path) = (input.text("attached")?, input.text("attached")?);
            Ok::<_, Error>(SourceIdentity { source, path, instance: input.u64("attached")? })
        };
        let attached = (0..count).map(|_| source(self)).collect::<Result<Vec<_>, _>>()?;
        state.identity.attached = (!attached.is_empty()).then_some(attached);
        let ([tag], name) = (self.array("network")?, self.text("network")?);
        state.network = match tag {
            0 if name.is_empty() => None,
            1 if name.is_empty() => Some(Network::Cgroup),
            2 | 3 => Some(Network::Interface { name, host_side: tag == 3, netns_pid: None }),
            4 | 5 => {
                let netns_pid = Some(u32::from_be_bytes(self.array("network")?));
                Some(Network::Interface { name, host_side: tag == 5, netns_pid })
            }
            _ => return bad("network"),
        };
        let ([tag], path) = (self.array("storage")?, self.bytes("storage")?);
        let path = PathBuf::from(OsString::from_vec(path));
        state.storage = match tag {
            0 if path.as_os_str().is_empty() => None,
            1 => Some(Storage::Directory { path }),
            2 => Some(Storage::Filesystem { mount: path }),
            _ => return bad("storage"),
        };
        let [count] = self.array("GPUs")?;
        state.gpus = (0..count).map(|_| self.text("GPUs")).collect::<Result<_, _>>()?;
        for time in &mut state.delivered {
            let [flags] = self.array("times")?;
            let (raw, raw_boot_ns) = (self.u64("times")?, self.u64("times")?);
            let sum_ns = u128::from_be_bytes(self.array("times")?);
            if flags > 3 || flags & 1 == 0 && raw != 0 {
                return bad("times");
            }
            *time = StoredTime { raw: (flags & 1 == 1).then_some(raw), raw_boot_ns, sum_ns, read: flags & 2 == 2 };
        }
        Ok(())
    }

    fn at(&mut self) -> Result<At, Error> {
        let real_ns = i64::from_be_bytes(self.array("time")?);
        Ok(At { real_ns, boot_ns: self.u64("time")?, mono_ns: self.u64("time")? })
    }

    fn stored(&mut self) -> Result<Stored, Error> {
        let [code] = self.array::<1>("resource")?;
        let qualifier = Some(self.text("qualifier")?).filter(|text| !text.is_empty());
        let resource = Resource::from_code(code, qualifier).map_err(|_| Error::BadState { what: "resource" })?;
        let [flags] = self.array::<1>("flags")?;
        if flags > 3 {
            return Err(Error::BadState { what: "flags" });
        }
        let (raw, raw_boot_ns) = (self.u64("raw value")?, self.u64("raw value")?);
        if flags & 1 == 0 && raw != 0 {
            return Err(Error::BadState { what: "raw value" });
        }
        let sum = u128::from_be_bytes(self.array("sum")?);
        Ok(Stored { resource, raw: (flags & 1 == 1).then_some(raw), raw_boot_ns, sum, read: flags & 2 == 2 })
    }
}
