//! Which GPUs an order is given: the node chooses, an `allocation` entry makes it durable before the order's place is made, and
//! no device is ever held by two contracts. How many are free is part of the stock (`stock.rs`); what a device does is `metering`.

use std::collections::BTreeSet;

use hufu_ledger::{Log, NewBlock};
use hufu_trade::{
    allocation::{Allocation, DEVICE_COUNT_MAX, Device},
    encode,
    entry::EntryKind,
    resource::{Kind, Resource},
};

use crate::{
    book::Book,
    books::BookError,
    contract::Contract,
    node::{Core, Effect},
    stock::Capacity,
};

/// What an order still needs of devices before its place is made.
#[derive(Debug)]
pub(crate) enum Need {
    /// It holds what it reserved, or reserved none.
    Nothing,
    /// These entries give them to it.
    Entry(Vec<NewBlock>),
    /// There are none for it, and why.
    Lacking(String),
}

/// The devices an order reserves, by resource; `None` beyond 64 bits.
fn reserved(contract: &Contract) -> Option<Vec<(&str, u64)>> {
    let reserves = contract.offer.iter().flat_map(|(_, offer, _)| &offer.reserves);
    let quantity = u64::from(contract.quantity());
    let of_devices = reserves.filter(|held| is_device(&held.resource));
    of_devices.map(|held| Some((held.resource.as_str(), held.quantity.checked_mul(quantity)?))).collect()
}

fn is_device(resource: &str) -> bool {
    resource.parse::<Resource>().is_ok_and(|resource| resource.kind == Kind::Gpu && !resource.reserved)
}

fn holding(book: &Book) -> impl Iterator<Item = &Contract> {
    let holds = |contract: &&Contract| {
        book.table_of(Some(contract)).is_some_and(|(.., table)| table.is_holding(&contract.state))
    };
    book.contracts.values().filter(holds)
}

/// The devices of `known` that nobody holds.
fn unheld<'a>(known: &'a [Device], held: &'a BTreeSet<&str>) -> impl Iterator<Item = &'a Device> {
    known.iter().filter(|device| !held.contains(device.id.as_str()))
}

/// So many devices of each resource, of those that nobody holds, in the order of an [`Allocation`]; or the resource that is
/// lacking.
fn choose(known: &[Device], held: &BTreeSet<&str>, wanted: &[(&str, u64)]) -> Result<Vec<Device>, String> {
    let mut chosen = Vec::new();
    for (resource, count) in wanted {
        let mut free: Vec<&Device> = unheld(known, held).filter(|device| device.resource == *resource).collect();
        free.sort_by(|a, b| a.id.cmp(&b.id));
        free.dedup_by(|a, b| a.id == b.id);
        let lacking = || format!("{count} of {resource} reserved, {} free", free.len());
        let count = usize::try_from(*count).map_err(|_| lacking())?;
        chosen.extend(free.get(..count).ok_or_else(lacking)?.iter().copied().cloned());
    }
    chosen.sort_by(|a, b| (&a.resource, &a.id).cmp(&(&b.resource, &b.id)));
    Ok(chosen)
}

/// Devices of a resource that could be sold: there, held by nobody, and promised to nobody. `None` when more are promised than
/// there are, or nothing is known of them: then nothing is sold.
pub(crate) fn free(capacity: &Capacity, book: &Book, resource: &str) -> Option<u64> {
    let known = capacity.gpus.as_ref().ok()?;
    let held: BTreeSet<&str> = holding(book).flat_map(|contract| &contract.devices).map(|d| d.id.as_str()).collect();
    let free = unheld(known, &held).filter(|device| device.resource == resource).count();
    let mut promised = 0_u64;
    for contract in holding(book) {
        let wanted = reserved(contract)?.iter().find(|(name, _)| *name == resource).map_or(0, |(_, count)| *count);
        let has = contract.devices.iter().filter(|device| device.resource == resource).count();
        promised = promised.checked_add(wanted.saturating_sub(u64::try_from(has).ok()?))?;
    }
    u64::try_from(free).ok()?.checked_sub(promised)
}

impl Core {
    /// What `contract` needs of devices now.
    ///
    /// # Errors
    /// [`BookError`].
    pub(crate) fn need(&self, contract: &Contract, now_ns: i64) -> Result<Need, BookError> {
        let Some(wanted) = reserved(contract) else { return Ok(Need::Lacking("more than can be counted".to_owned())) };
        let total = wanted.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        if u64::try_from(contract.devices.len()) == Ok(total) {
            return Ok(Need::Nothing);
        }
        let known = match &self.shop.capacity.gpus {
            Ok(known) => known,
            Err(why) => return Ok(Need::Lacking(why.clone())),
        };
        if u64::try_from(DEVICE_COUNT_MAX).is_ok_and(|most| total > most) {
            return Ok(Need::Lacking(format!("{total} devices, at most {DEVICE_COUNT_MAX} can be given")));
        }
        let others = holding(&self.book).filter(|other| other.no != contract.no);
        let held: BTreeSet<&str> = others.flat_map(|other| &other.devices).map(|device| device.id.as_str()).collect();
        let devices = match choose(known, &held, &wanted) {
            Ok(devices) => devices,
            Err(why) => return Ok(Need::Lacking(why)),
        };
        let given = Allocation { version: 1, contract_no: contract.no, time: now_ns, devices };
        given.check()?;
        let mut batch = self.batch();
        let body = encode(&given, "Allocation")?;
        batch.entry(Log::Trade, (EntryKind::Allocation, Some(contract.no), body))?;
        Ok(Need::Entry(batch.finish()))
    }

    /// Takes note of the devices that there are now: stock follows, and whose order holds one that is not there is said.
    pub(crate) fn devices(&mut self, found: Result<Vec<Device>, String>) -> Vec<Effect> {
        if self.shop.capacity.gpus == found {
            return Vec::new();
        }
        let mut effects = Vec::new();
        match &found {
            Err(why) => effects.push(Effect::Alarm { what: "GPUs are not known", detail: why.clone() }),
            Ok(known) => {
                for contract in holding(&self.book) {
                    let is_here = |device: &&Device| known.iter().any(|other| other.id == device.id);
                    let gone = contract.devices.iter().filter(|device| !is_here(device));
                    effects.extend(gone.map(|device| Effect::Alarm {
                        what: "GPU of an order is gone",
                        detail: format!("{}: {} {}", contract.no, device.resource, device.id),
                    }));
                }
            }
        }
        self.shop.capacity.gpus = found;
        // The same revision with another stock: the platform keeps the newest.
        self.told_revision = None;
        effects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [&str; 2] = ["gpu:A100-80G", "gpu:1g.10gb"];

    fn device(number: u64) -> Device {
        let kind = usize::try_from(number % 2).unwrap();
        Device { resource: KINDS[kind].to_owned(), id: format!("GPU-{number:02x}") }
    }

    /// Numbers that are the same again from the same seed.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }
    }

    #[test]
    fn no_device_is_ever_held_by_two_and_none_is_withheld() {
        for seed in 0..500 {
            let mut dice = Dice(seed);
            let mut known: Vec<Device> = (0..16).map(device).collect();
            let mut orders: Vec<Vec<Device>> = Vec::new();
            for _ in 0..100 {
                match dice.below(5) {
                    0 | 1 => {
                        let (resource, count) = (KINDS[usize::try_from(dice.below(2)).unwrap()], 1 + dice.below(4));
                        let held: BTreeSet<&str> = orders.iter().flatten().map(|device| device.id.as_str()).collect();
                        let free = unheld(&known, &held).filter(|device| device.resource == resource).count();
                        let chosen = choose(&known, &held, &[(resource, count)]);
                        assert_eq!(chosen.is_ok(), free as u64 >= count, "seed {seed}");
                        let Ok(chosen) = chosen else { continue };
                        assert_eq!(chosen.len() as u64, count, "seed {seed}");
                        assert!(chosen.iter().all(|given| given.resource == resource && known.contains(given)));
                        orders.push(chosen);
                    }
                    2 if !orders.is_empty() => {
                        let index = usize::try_from(dice.below(orders.len() as u64)).unwrap();
                        orders.swap_remove(index);
                    }
                    // An order keeps the device that it lost; nobody else gets it when it comes back.
                    3 => {
                        let lost = device(dice.below(16));
                        known.retain(|other| *other != lost);
                    }
                    _ => {
                        let found = device(dice.below(16));
                        if !known.contains(&found) {
                            known.push(found);
                        }
                    }
                }
                let all: Vec<&Device> = orders.iter().flatten().collect();
                let ids: BTreeSet<&str> = all.iter().map(|device| device.id.as_str()).collect();
                assert_eq!(ids.len(), all.len(), "seed {seed}");
            }
        }
    }

    #[test]
    fn what_is_lacking_is_said_and_what_is_given_is_in_order() {
        let known: Vec<Device> = [3, 1, 0, 2].map(device).to_vec();
        let none = BTreeSet::new();
        let both = choose(&known, &none, &[(KINDS[0], 2), (KINDS[1], 1)]).unwrap();
        assert_eq!(both, [device(1), device(0), device(2)]);
        for count in [3, u64::MAX] {
            let why = choose(&known, &none, &[(KINDS[0], count)]).unwrap_err();
            assert_eq!(why, format!("{count} of gpu:A100-80G reserved, 2 free"));
        }
        let twice = [device(0), device(0)];
        assert!(choose(&twice, &none, &[(KINDS[0], 2)]).is_err(), "one device under one name is one device");
    }
}
