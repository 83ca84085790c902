//! What must survive a restart of the agent, per order, and its small stable encoding: integers big-endian, texts with a
//! two-byte length. Where it is kept, and when, is the agent's business; integrity too.

use hufu_trade::{octets::Octets, resource::Resource, usage::MeterIdentity};

use crate::{
    Error,
    sample::{At, Target},
    usage::Stored,
};

const VERSION: u8 = 1;
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
}

/// What an order was started with, as its state tells: target, metered resources, reservations in base units a second.
pub(crate) type Plan = (Target, Vec<Resource>, Vec<(Resource, u64)>);

impl OrderState {
    /// What the order was started with; `None` where the state does not tell.
    pub(crate) fn plan(&self) -> Option<Plan> {
        let path = &self.identity.path;
        let target = match self.identity.source.as_str() {
            PROCESS_TREE => Target::Process { pid: path.parse().ok()? },
            _ => Target::Cgroup { path: path.clone() },
        };
        let (reserved, metered): (Vec<&Stored>, Vec<_>) = self.meters.iter().partition(|meter| meter.resource.reserved);
        // Versions before this one kept no rates.
        let reserved = reserved.into_iter().map(|meter| Some((meter.resource.clone(), meter.raw?)));
        Some((
            target,
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
        out
    }

    /// Reads the bytes back.
    ///
    /// # Errors
    /// [`Error::BadState`] for bytes that [`OrderState::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Input(bytes);
        if input.array::<1>("version")? != [VERSION] {
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
        if !input.0.is_empty() {
            return Err(Error::BadState { what: "length" });
        }
        Ok(Self { order, identity, last, from, measured_ns, unsampled_ns, meters })
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text.get(..end).unwrap_or_default();
    out.extend(u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    out.extend(text.as_bytes());
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

    fn text(&mut self, what: &'static str) -> Result<String, Error> {
        let length = usize::from(u16::from_be_bytes(self.array(what)?));
        let (text, rest) = self.0.split_at_checked(length).ok_or(Error::BadState { what })?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| Error::BadState { what })
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
