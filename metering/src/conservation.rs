//! Conservation: what all orders of a window used together, against the host's own counters of the same time. Each resource
//! says `checked`, `violated`, or why it was not checked. Reading the host is `host.rs`; windows are `window.rs`.

use hufu_trade::{
    resource::{KINDS, Kind, Resource},
    usage::HostTotal,
};

use crate::{
    host::HostSample,
    order::Order,
    sample::{At, Raw},
    usage::Limits,
};

/// The host's side of the running window.
#[derive(Debug)]
pub(crate) struct HostWindow {
    pub(crate) from: At,
    pub(crate) base: Option<HostSample>,
    pub(crate) last: Option<(At, HostSample)>,
    /// Twice the byte-ns of memory in use.
    memory_sum: u128,
    /// Why that lacks a part of the window: what was not read is not zero.
    memory_why: Option<&'static str>,
    pub(crate) taken: u32,
    /// Used by orders that ended in this window, by kind.
    pub(crate) ended: [u128; 12],
    /// Kinds that an order of this window meters.
    pub(crate) kinds: [bool; 12],
    pub(crate) spans_begin: bool,
}

impl HostWindow {
    pub(crate) fn new(from: At) -> Self {
        Self {
            from,
            base: None,
            last: None,
            memory_sum: 0,
            memory_why: None,
            taken: 0,
            ended: [0; 12],
            kinds: [false; 12],
            spans_begin: false,
        }
    }

    /// Takes what the host says; it is read before the orders when a window begins, and after them ever since.
    pub(crate) fn take(&mut self, at: At, sample: HostSample, limits: Limits) {
        if let Some((last_at, last)) = self.last {
            let elapsed = at.boot_ns.saturating_sub(last_at.boot_ns);
            match (last.memory_used, sample.memory_used) {
                (Raw::Missing(why), _) | (_, Raw::Missing(why)) => self.memory_why = Some(why),
                (Raw::Value(old), Raw::Value(new)) if elapsed <= limits.gap_ns() => {
                    let ends = u128::from(old) + u128::from(new);
                    self.memory_sum = self.memory_sum.saturating_add(ends.saturating_mul(u128::from(elapsed)));
                }
                // Nor do the orders integrate over so long a time.
                (Raw::Value(_), Raw::Value(_)) => {}
            }
        }
        self.base.get_or_insert(sample);
        self.last = Some((at, sample));
    }

    /// Compares the orders' sums with the host's own counters.
    pub(crate) fn totals(&self, orders: &[Order], limits: Limits) -> Vec<HostTotal> {
        let spans = self.spans_begin || orders.iter().any(|order| order.spans_begin);
        let kinds = KINDS.into_iter().zip(self.kinds).filter(|(_, has)| *has).map(|(kind, _)| kind);
        kinds
            .map(|kind| {
                let index = kind as usize;
                let base = |order: &Order| order.window_base.get(index).copied().unwrap_or(0);
                let running = orders.iter().map(|order| order.usage.used(kind).saturating_sub(base(order)));
                let ended = self.ended.get(index).copied().unwrap_or(0);
                let sum = running.fold(ended, u128::saturating_add);
                let (host, tolerance) = self.host_total(kind, orders.len(), limits);
                let check = match host {
                    Err(why) => why,
                    Ok(_) if spans => "not checked: the window holds usage from before it began",
                    Ok(host) if sum <= host.saturating_add(tolerance) => "checked",
                    Ok(_) => "violated",
                };
                HostTotal { code: Resource::used(kind).code(), host: host.ok(), orders: sum, check: check.to_owned() }
            })
            .collect()
    }

    /// The host's total over the window, and by how much the orders may seem to exceed it.
    fn host_total(&self, kind: Kind, orders: usize, limits: Limits) -> (Result<u128, &'static str>, u128) {
        const ONE_MIB: u128 = 1 << 20;
        let (Some(base), Some((_, last))) = (self.base, self.last) else {
            return (Err("no host counter"), 0);
        };
        let counter = |pick: fn(&HostSample) -> Raw| match (pick(&base), pick(&last)) {
            (Raw::Value(old), Raw::Value(new)) => new.checked_sub(old).map(u128::from).ok_or("the host's counter fell"),
            (Raw::Missing(why), _) | (_, Raw::Missing(why)) => Err(why),
        };
        let cpus = u128::from(limits.cpus);
        let orders = u128::try_from(orders).unwrap_or(u128::MAX);
        let elapsed_s = u128::from(limits.interval_ns) / 1_000_000_000 + 1;
        match kind {
            // The host's reading encloses the orders', so that the time between them can only add to the host's side. What is
            // left is what a CPU has run and not accounted yet when the root is read: one tick of each, at most 10 ms.
            Kind::Cpu => (counter(|host| host.cpu_ns), cpus * 10_000_000),
            Kind::Memory => {
                if let (_, Raw::Missing(why)) | (Some(why), _) = (self.memory_why, last.memory_used) {
                    return (Err(why), 0);
                }
                let host = self.memory_sum / 2_000_000_000;
                // Each CPU holds up to 64 pages charged ahead per order; one interval's change is not seen by both.
                let ahead = orders.saturating_mul(cpus).saturating_mul(ONE_MIB).saturating_mul(elapsed_s);
                (Ok(host), host / 32 + ahead + 64 * ONE_MIB)
            }
            Kind::DiskRead => (counter(|host| host.disk_read), 64 * ONE_MIB),
            Kind::DiskWrite => (counter(|host| host.disk_write), 64 * ONE_MIB),
            Kind::DiskReadOps | Kind::DiskWriteOps => {
                (Err("the host counts operations after merging, orders before"), 0)
            }
            Kind::NetRx | Kind::NetTx => {
                (Err("not comparable: orders are counted at their own boundary, the host at its network cards"), 0)
            }
            Kind::Storage => (Err("the host has no counter of what directories hold"), 0),
            Kind::Gpu | Kind::GpuMemory | Kind::GpuEnergy => {
                (Err("a device is held by one order, and its own counters are the host's"), 0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(memory_used: Raw) -> HostSample {
        let none = Raw::Missing("not of this test");
        HostSample {
            cpu_ns: none,
            memory_used,
            disk_read: none,
            disk_write: none,
            disk_read_ops: none,
            disk_write_ops: none,
            net_rx: none,
            net_tx: none,
        }
    }

    /// What the window says of memory that an order used, a GiB for ten seconds, when the host says this at each second.
    fn check(used: fn(u64) -> Raw) -> HostTotal {
        let at = |second: u64| At { real_ns: 0, boot_ns: second * 1_000_000_000, mono_ns: second * 1_000_000_000 };
        let limits = Limits { cpus: 1, interval_ns: 1_000_000_000 };
        let mut window = HostWindow::new(at(0));
        window.kinds[Kind::Memory as usize] = true;
        window.ended[Kind::Memory as usize] = 10 << 30;
        (0..=10).for_each(|second| window.take(at(second), host(used(second)), limits));
        window.totals(&[], limits).remove(0)
    }

    #[test]
    fn a_host_that_was_not_read_for_a_while_used_no_less() {
        let whole = check(|_| Raw::Value(2 << 30));
        assert_eq!((whole.check.as_str(), whole.host), ("checked", Some(20 << 30)));
        assert_eq!(check(|_| Raw::Value(1 << 20)).check, "violated");
        // Half of the time without a reading is not half of the memory.
        let holed =
            check(|second| if (3..8).contains(&second) { Raw::Missing("no meminfo") } else { Raw::Value(1 << 30) });
        assert_eq!((holed.check.as_str(), holed.host), ("no meminfo", None));
        let first = check(|second| if second == 0 { Raw::Missing("no meminfo") } else { Raw::Value(1 << 30) });
        assert_eq!(first.host, None);
    }
}
