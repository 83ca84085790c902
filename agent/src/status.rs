//! What `hufu status` shows: one JSON object, made by the writer when asked. No keys, no personal data.

use std::{collections::VecDeque, path::Path};

use hufu_trade::octets::rfc3339;
use serde_json::json;

use crate::{
    clock::Now,
    node::{Core, Service},
};

/// Alarms kept for status.
const ALARM_COUNT_MAX: usize = 32;

/// The last alarms, newest last.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    last: VecDeque<(i64, &'static str, String)>,
    count: u64,
}

impl Alarms {
    /// Notes an alarm.
    pub(crate) fn raise(&mut self, what: &'static str, detail: String, now_ns: i64) {
        if self.last.len() == ALARM_COUNT_MAX {
            self.last.pop_front();
        }
        self.last.push_back((now_ns, what, detail));
        self.count += 1;
    }
}

/// The status as JSON text.
pub(crate) fn render(core: &Core, alarms: &Alarms, dir: &Path, now: Now) -> String {
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
                "product": contract.offer.as_ref().map(|(_, offer, _)| offer.product_id.clone()),
                "service_end": contract.deal.as_ref().map(|(_, deal)| rfc3339(deal.service_end)),
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
                    "paid": contract.paid,
                })).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "node": core.identity.pool,
        "at": rfc3339(now.real_ns),
        "linked": core.linked,
        "ledger": dir.display().to_string(),
        "logs": { "trade": log(0), "finance": log(1) },
        "window_end": core.book.window_end.map(rfc3339),
        "conservation_violations": core.violations.to_string(),
        "catalogue_revision": core.book.revision.to_string(),
        "contracts": contracts,
        "alarms": alarms.last.iter().map(|(at, what, detail)| json!({
            "at": rfc3339(*at), "what": what, "detail": detail,
        })).collect::<Vec<_>>(),
        "alarm_count": alarms.count.to_string(),
    })
    .to_string()
}
