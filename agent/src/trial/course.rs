//! Writes random courses down, so that the platform's tests judge the same blocks and must reach the same contracts: agent and
//! platform share no code but the trade's, and neither may depend on the other. The other half is `platform/src/tests/courses.rs`.

use std::path::Path;

use hufu_ledger::Log;
use hufu_trade::rules::DEFAULT;
use serde_json::{Value, json};

use super::{
    dice::{OTHER, course},
    market::{Market, POOL, party},
    period::{barred_and_paid, three_bills},
    prepaid::given_up,
};

/// Acts in a course: enough for a few bills, few enough for a file of some hundred kilobytes.
const ACTS: u32 = 160;

/// Blocks in the order they were written, who signed, and what the node says of its contracts in the end.
fn told(market: &Market) -> Value {
    let root = party(None, "root", 1);
    let node = party(Some(&root), POOL, 3);
    let der = |certificate: &hufu_gm::Certificate| hex::encode(certificate.der());
    let blocks: Vec<Value> = market
        .appended
        .iter()
        .map(|(log, height)| json!([log.number(), hex::encode(market.ledger.block(*log, *height).unwrap())]))
        .collect();
    let contracts = market.core.book.contracts.values().map(|contract| {
        let dues = contract.bills.iter().map(|billed| (billed.due.number.clone(), json!(billed.due.total)));
        let told = json!({
            "state": contract.state,
            "service_end": contract.in_force.map(|in_force| in_force.service_end.to_string()),
            "dues": dues.collect::<serde_json::Map<_, _>>(),
        });
        (contract.no.to_string(), told)
    });
    json!({
        "pool": POOL,
        "certificates": {
            "root": der(&root.certificate), "node": der(&node.certificate), "platform": der(&market.platform.certificate),
        },
        "contracts": contracts.collect::<serde_json::Map<_, _>>(),
        "blocks": blocks,
    })
}

/// With `HUFU_COURSES` set the courses are written into that folder: see platform/testdata/courses/README.md.
#[test]
fn a_course_is_told_whole() {
    let folder = std::env::var_os("HUFU_COURSES");
    let random = [("default", DEFAULT, 3), ("default-2", DEFAULT, 8), ("other", OTHER, 1003)];
    let random = random.map(|(name, text, seed)| (name, course(text, seed, ACTS)));
    let told_ones = [("periods", three_bills()), ("arrears", barred_and_paid()), ("prepaid", given_up())];
    for (name, market) in random.into_iter().chain(told_ones) {
        let said = told(&market);
        let sizes = [Log::Trade, Log::Finance].map(|log| market.ledger.size(log)).into_iter().sum::<u64>();
        assert_eq!(said["blocks"].as_array().map(Vec::len), usize::try_from(sizes).ok(), "{name}");
        assert_eq!(said["contracts"].as_object().map(serde_json::Map::len), Some(market.core.book.contracts.len()));
        if let Some(folder) = &folder {
            std::fs::write(Path::new(folder).join(format!("{name}.json")), format!("{said}\n")).unwrap();
        }
    }
}
