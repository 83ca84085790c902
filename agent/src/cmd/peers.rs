//! `hufu peers`: what the nodes that this one follows made public of their trade, as it is held here: deals, and how buyers scored them
//! (paper 2.2). Each of it stands under a header that this node checked. Offline: the files beside the ledger.

use std::collections::BTreeMap;

use hufu_audit::Exit;
use hufu_ledger::storage::Directory;
use hufu_trade::{
    if2::{Sealed, public::PublicRecord},
    octets::rfc3339,
};
use serde_json::{Value, json};

use super::{Context, Outcome, node::ConfigArgs};
use crate::{
    config::Config,
    peers::{dir_name, public_records, scored, thread},
    text::Text,
};

/// Lists the deals of all followed nodes with their scores.
pub(super) fn run(args: &ConfigArgs, context: &Context) -> Outcome {
    let config = Config::load(&args.config)?;
    let dir = thread::dir_of(&config.ledger_dir);
    let follow = config.peers.as_ref().map(|terms| terms.follow.clone()).unwrap_or_default();
    let mut nodes = Vec::new();
    for node in follow.iter().filter(|node| **node != config.pool()) {
        let records = public_records(&Directory::new(&dir.join(dir_name(node))));
        nodes.push(json!({ "node": node, "deals": deals(&records), "offers": offers(&records) }));
    }
    let found = json!({ "nodes": nodes });
    context.show(&found, || text(&found, context))?;
    Ok(Exit::Done)
}

fn deals(records: &[PublicRecord]) -> Vec<Value> {
    let scores: BTreeMap<_, _> = records
        .iter()
        .filter_map(|record| Some((scored(record)?, record.score.as_ref()?)))
        .map(|((no, overall), entry)| (no, (overall, entry)))
        .collect();
    let shown = |record: &PublicRecord| {
        let deal = record.deal.as_ref()?;
        let score = scores.get(&deal.contract_no);
        Some(json!({
            "contract_no": deal.contract_no, "items": deal.items, "service_start": rfc3339(deal.contract_time),
            "service_end": rfc3339(deal.service_end), "height": record.height, "index": record.index, "hash": record.hash,
            "overall": score.map(|(overall, _)| overall), "score": score.map(|(_, entry)| Sealed(entry.as_bytes().to_vec())),
        }))
    };
    records.iter().filter_map(shown).collect()
}

fn offers(records: &[PublicRecord]) -> Vec<Value> {
    let shown = |record: &PublicRecord| {
        let offer = record.offer?;
        Some(json!({ "offer": offer, "height": record.height, "index": record.index, "hash": record.hash }))
    };
    records.iter().filter_map(shown).collect()
}

fn text(found: &Value, context: &Context) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(Text::PeerColumns {}.render(context.lang).split('|'));
    for node in found["nodes"].as_array().into_iter().flatten() {
        for deal in node["deals"].as_array().into_iter().flatten() {
            let named = |name: &str| deal[name].as_str().unwrap_or_default().to_owned();
            let items: Vec<String> = deal["items"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|item| format!("{} x{}", item["product_id"].as_str().unwrap_or_default(), item["quantity"]))
                .collect();
            let overall = deal["overall"]
                .as_u64()
                .map_or_else(|| "-".to_owned(), |score| format!("{}.{:02}", score / 100, score % 100));
            let pool = node["node"].as_str().unwrap_or_default().to_owned();
            table.add_row([
                pool,
                named("contract_no"),
                items.join(", "),
                named("service_start"),
                named("service_end"),
                overall,
            ]);
        }
    }
    table.to_string()
}
