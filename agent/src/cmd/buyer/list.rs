//! `hufu buyer browse` without a node: what is on sale, and how earlier buyers scored whom. Products are as the platform says;
//! a score is believed only where its buyer's signature and certificate hold here.

use hufu_audit::Exit;
use hufu_gm::{Certificate, Usage, verify_chain};
use hufu_trade::{
    decode,
    if2::Sealed,
    octets::{Octets, rfc3339},
    statement::{Statement, con_type},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Channel, Common, missing,
    proof::{Proof, Reader},
};
use crate::{
    clock,
    cmd::{Context, Outcome, file},
    text::Text,
};

/// A list of the platform.
#[derive(Deserialize)]
struct Products {
    products: Vec<Value>,
}

/// The scores of the platform, and its own certificates.
#[derive(Deserialize)]
struct Scores {
    scores: Vec<Score>,
    platform_certificates: Vec<Sealed>,
}

/// The deals of the platform's nodes.
#[derive(Deserialize)]
struct Deals {
    deals: Vec<Value>,
}

/// One score as the platform gives it.
#[derive(Deserialize)]
struct Score {
    statement: Sealed,
    signature: Sealed,
    certificates: Vec<Sealed>,
    proof: Option<Proof>,
}

/// What a score's statement says, and whether it holds.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Shown {
    node: String,
    overall: String,
    contract_no: String,
    at: String,
    /// Signature and chain hold; `null` where no trust anchor was given.
    verified: Option<bool>,
    /// It stands in the node's log: its proof holds; `null` where no trust anchor was given or no proof is there yet.
    proven: Option<bool>,
}

/// Lists products, past deals and scores.
pub(super) fn run(common: &Common, context: &Context) -> Outcome {
    let Channel::Platform(platform) = common.channel(context)? else { return Err(missing("--platform <URL>")) };
    let anchors = if common.trust.is_empty() { None } else { Some(file::read_anchors(&common.trust)?) };
    let Products { products } = platform.get("/v1/products")?;
    let Deals { deals } = platform.get("/v1/deals")?;
    let Scores { scores, platform_certificates } = platform.get("/v1/scores")?;
    // What is no certificate vouches for nothing.
    let platforms = platform_certificates.iter().filter_map(|der| Certificate::from_der(&der.0).ok());
    let platforms: Vec<Certificate> = platforms.collect();
    let now_ns = clock::now().real_ns;
    let reader = anchors.as_deref().map(|anchors| Reader { anchors, now_ns, platforms: &platforms });
    let scores: Vec<Shown> = scores.iter().filter_map(|score| shown(score, reader.as_ref())).collect();
    let found = json!({ "products": products, "deals": deals, "scores": scores });
    context.show(&found, || {
        let products = table(&Text::BuyerProductColumns {}.render(context.lang), &products, product_cells);
        let deals = table(&Text::BuyerDealColumns {}.render(context.lang), &deals, deal_cells);
        let scores =
            table(&Text::BuyerScoreColumns {}.render(context.lang), &scores, |score| score_cells(score, context));
        format!("{products}\n{deals}\n{scores}")
    })?;
    Ok(Exit::Done)
}

/// What a score says by its own signed bytes; bytes that are no score are not shown.
fn shown(score: &Score, reader: Option<&Reader<'_>>) -> Option<Shown> {
    let statement: Statement = decode(&score.statement.0, "Statement").ok()?;
    let card = statement.score.as_ref().filter(|_| statement.con_type == con_type::SCORE)?;
    Some(Shown {
        node: statement.computing_pool_id.clone(),
        overall: format!("{}.{:02}", card.overall / 100, card.overall % 100),
        contract_no: statement.contract_no.to_string(),
        at: rfc3339(statement.contract_time),
        verified: reader.map(|reader| holds(score, &statement, reader.anchors, reader.now_ns)),
        proven: reader.zip(score.proof.as_ref()).map(|(reader, proof)| {
            proof.holds(&statement.computing_pool_id, (&score.statement.0, &score.signature.0), reader)
        }),
    })
}

/// Whether the buyer that the statement names signed it, with a certificate that leads to an anchor. One that has run out since
/// is judged at the time of the score.
fn holds(score: &Score, statement: &Statement, anchors: &[Certificate], now_ns: i64) -> bool {
    let chain: Option<Vec<Certificate>> =
        score.certificates.iter().map(|der| Certificate::from_der(&der.0).ok()).collect();
    let Some((leaf, rest)) = chain.as_deref().and_then(<[Certificate]>::split_first) else { return false };
    Octets(leaf.id()) == statement.buyer
        && leaf.public_key().verify(&score.statement.0, &score.signature.0).is_valid()
        && verify_chain(leaf, rest, anchors, &[], now_ns.min(statement.contract_time), Usage::Signing).is_ok()
}

/// A table of `|`-separated headings. Others wrote what is in it: a control character must not reach a terminal.
pub(super) fn table<T>(columns: &str, rows: &[T], cells: impl Fn(&T) -> Vec<String>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(columns.split('|'));
    for row in rows {
        table.add_row(cells(row).into_iter().map(|cell| cell.replace(char::is_control, "\u{fffd}")));
    }
    table.to_string()
}

fn product_cells(product: &Value) -> Vec<String> {
    let text = |name: &str| product.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    let price = |price: &Value| {
        let part = |name: &str| price.get(name).and_then(Value::as_str).unwrap_or("?").to_owned();
        format!("{} {}/{}", part("resource"), part("price"), part("per"))
    };
    let prices = product.get("prices").and_then(Value::as_array).map(|prices| prices.iter().map(price).collect());
    let prices: Vec<String> = prices.unwrap_or_default();
    let stock = product.get("stock").map(ToString::to_string).unwrap_or_default();
    vec![text("node"), text("presence"), text("id"), text("name"), stock, prices.join("\n")]
}

fn deal_cells(deal: &Value) -> Vec<String> {
    let text = |name: &str| deal.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    ["node", "product", "at", "state", "contract_no"].map(text).to_vec()
}

fn score_cells(score: &Shown, context: &Context) -> Vec<String> {
    let verified = match score.verified {
        Some(true) => Text::ScoreHolds {},
        Some(false) => Text::ScoreFalse {},
        None => Text::ScoreUnchecked {},
    };
    let proven = match score.proven {
        Some(true) => Text::ScoreHolds {},
        Some(false) => Text::ScoreFalse {},
        None => Text::ScoreUnproven {},
    };
    let [verified, proven] = [verified, proven].map(|text| text.render(context.lang));
    vec![score.node.clone(), score.overall.clone(), score.contract_no.clone(), score.at.clone(), verified, proven]
}
