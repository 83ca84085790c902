//! What `hufu status` shows: one JSON object, made by the writer when asked. No keys, no personal data.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
};

use hufu_metering::gpu_table::Snapshot;
use hufu_trade::octets::rfc3339;
use serde_json::{Value, json};

use crate::{
    clock::Now,
    contract::Contract,
    gpu_shown,
    metrics::Own,
    node::{Core, Service},
    peers::Shown,
    writer::Writer,
};

/// Alarms kept for status.
const ALARM_COUNT_MAX: usize = 32;
/// Alarms of one kind that are said in the log, in any minute: whoever may publish to the broker raises as many as he likes.
const SAID_A_MINUTE: u32 = 20;
const MINUTE_NS: i64 = 60_000_000_000;

/// The last alarms, newest last.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    last: VecDeque<(i64, &'static str, String)>,
    count: u64,
    /// By kind: start of its minute, alarms since then.
    said: BTreeMap<&'static str, (i64, u32)>,
    /// By kind: how many ever, and when the last was, ns since 1970-01-01Z.
    raised: BTreeMap<&'static str, (u64, i64)>,
}

impl Alarms {
    /// Those of the last alarms that were raised after the first `seen`, and how many there were by now.
    pub(crate) fn since(&self, seen: u64) -> (u64, impl Iterator<Item = (&'static str, &str)>) {
        let fresh = usize::try_from(self.count.saturating_sub(seen)).unwrap_or(usize::MAX);
        let last = self.last.iter().skip(self.last.len().saturating_sub(fresh));
        (self.count, last.map(|(_, what, detail)| (*what, detail.as_str())))
    }

    /// Of each kind that was raised: how many, and when the last was, ns since 1970-01-01Z.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (&'static str, u64, i64)> {
        self.raised.iter().map(|(what, (count, last_ns))| (*what, *count, *last_ns))
    }

    /// Notes an alarm; false when its kind was said often enough for now. The kind that came most often makes room, so that a
    /// flood of one kind hides no other.
    pub(crate) fn raise(&mut self, what: &'static str, detail: String, now_ns: i64) -> bool {
        if self.last.len() == ALARM_COUNT_MAX {
            let times = |kind: &str| self.last.iter().filter(|(_, other, _)| *other == kind).count();
            let most = self.last.iter().map(|(_, kind, _)| times(kind)).max();
            let place = self.last.iter().position(|(_, kind, _)| Some(times(kind)) == most);
            self.last.remove(place.unwrap_or(0));
        }
        self.last.push_back((now_ns, what, detail));
        self.count += 1;
        let raised = self.raised.entry(what).or_insert((0, now_ns));
        *raised = (raised.0.saturating_add(1), now_ns);
        let (since_ns, said) = self.said.entry(what).or_insert((now_ns, 0));
        // A clock that was set back begins a new minute, too.
        if now_ns.saturating_sub(*since_ns).unsigned_abs() >= MINUTE_NS.unsigned_abs() {
            (*since_ns, *said) = (now_ns, 0);
        }
        *said = said.saturating_add(1);
        *said <= SAID_A_MINUTE
    }
}

impl Writer {
    /// How things are, as JSON.
    pub(crate) fn status(&self) -> String {
        let waits_for = self.comparing.as_deref();
        let gpus = self.metrics.seen_gpus();
        render(
            &self.core,
            (&self.alarms, waits_for, self.key_status()),
            (self.metrics.own(), &gpus[..], self.peers_shown.as_deref()),
            &self.dir,
            (self.clock.now)(),
        )
    }

    /// Every series, as text.
    pub(crate) fn rendered(&self) -> String {
        let quality = (self.clock.quality)((self.clock.now)());
        self.metrics.render(&self.core, &self.alarms, (quality, self.comparing.is_some()))
    }
}

/// The status as JSON text. `key` is what signs, `waits_for` what keeps the node from signing, if something does; `own` what the
/// agent costs; `gpus` what NVML's thread saw last.
pub(crate) fn render(
    core: &Core,
    (alarms, waits_for, key): (&Alarms, Option<&str>, Value),
    (own, gpus, peers): (&Own, &[Snapshot], Option<&Shown>),
    dir: &Path,
    now: Now,
) -> String {
    let log = |index: usize| {
        json!({
            "size": core.sizes.get(index).copied().unwrap_or(0).to_string(),
            "receipted": core.book.receipted.get(index).and_then(Option::as_ref).map(|receipt| receipt.size.to_string()),
        })
    };
    let contracts: Vec<_> = core
        .book
        .contracts
        .values()
        .map(|contract| {
            let service = core.services.get(&contract.no).map(|service| match service {
                Service::Starting => "starting",
                Service::Running => "running",
                Service::Failed { .. } => "failed",
                Service::Stopping => "stopping",
            });
            json!({
                "contract_no": contract.no.to_string(),
                "state": contract.state,
                "service": service,
                "address": core.addresses.get(&contract.no),
                "note": note(core, contract),
                "product": contract.offer.as_ref().map(|(_, offer, _)| offer.product_id.clone()),
                "service_end": contract.in_force.map(|in_force| rfc3339(in_force.service_end)),
                "records": contract.last.as_ref().map(|(_, record)| (record.order_seq + 1).to_string()),
                "usage": contract.last.as_ref().map(|(_, record)| {
                    record.readings.iter().map(|reading| {
                        json!({
                            "resource": reading.resource().map(|r| r.to_string()).unwrap_or_default(),
                            "unit": reading.resource().map(|r| r.unit()).unwrap_or_default(),
                            "quantity": reading.total.map(|total| total.to_string()),
                        })
                    }).collect::<Vec<_>>()
                }),
                "bills": contract.bills.iter().map(|billed| json!({
                    "bill_no": billed.bill.number,
                    "total_cny": billed.bill.total,
                    "receipted": billed.receipted,
                    "refused": billed.refused,
                    "due_cny": billed.due.total,
                    "paid": billed.paid.is_some(),
                    "refunded": billed.refunded,
                })).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "node": core.identity.pool,
        "at": rfc3339(now.real_ns),
        "linked": core.linked,
        "waits_for": waits_for,
        "key": key,
        "ledger": dir.display().to_string(),
        "logs": { "trade": log(0), "finance": log(1) },
        "window_end": core.book.window_end.map(rfc3339),
        "conservation_violations": core.violations.to_string(),
        "catalogue_revision": core.book.revision.to_string(),
        "directory": core.directory.as_ref().map(|known| known.shown(now.real_ns)),
        "hardware": { "fingerprint": core.shop.hardware.fingerprint, "changed": core.shop.hardware.changed },
        "agent": own.each().map(|(name, value)| {
            let shown = value.map_or(Value::Null, |value| if name == "threads" { json!(value) } else { json!(value.to_string()) });
            (name.to_owned(), shown)
        }).collect::<serde_json::Map<_, _>>(),
        "products": core.shop.products.iter().map(|product| {
            let stock = core.shop.stock(&core.book, product);
            json!({ "id": product.id, "stock": stock.units, "why": stock.why })
        }).collect::<Vec<_>>(),
        "witnesses": peers.map(|shown| shown.to_json([0, 1].map(|log: usize| {
            core.book.receipted.get(log).and_then(Option::as_ref).map_or(0, |receipt| receipt.size)
        }))),
        "gpus": gpus.iter().map(|seen| gpu_shown::shown(core, seen)).collect::<Vec<_>>(),
        "contracts": contracts,
        "alarms": alarms.last.iter().map(|(at, what, detail)| json!({
            "at": rfc3339(*at), "what": what, "detail": detail,
        })).collect::<Vec<_>>(),
        "alarm_count": alarms.count.to_string(),
    })
    .to_string()
}

/// What a person should know of a contract.
fn note(core: &Core, contract: &Contract) -> Option<&'static str> {
    let (_, offer, _) = contract.offer.as_ref()?;
    let now = core.shop.hardware.fingerprint?;
    offer.fingerprint.is_some_and(|then| then != now).then_some("the hardware changed since its offer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_alarm_hides_no_other_and_does_not_fill_the_log() {
        let mut alarms = Alarms::default();
        assert!(alarms.raise("conservation violated", String::new(), 0));
        let said = (0..1000).filter(|at| alarms.raise("message refused", String::new(), *at)).count();
        assert_eq!(said, 20);
        assert!(alarms.raise("bill cannot be computed", String::new(), 1000));
        assert!(alarms.raise("message refused", String::new(), MINUTE_NS), "the next minute");
        assert_eq!((alarms.last.len(), alarms.count), (ALARM_COUNT_MAX, 1003));
        let kept: Vec<_> =
            alarms.last.iter().map(|(_, what, _)| *what).filter(|what| *what != "message refused").collect();
        assert_eq!(kept, ["conservation violated", "bill cannot be computed"]);
    }
}
