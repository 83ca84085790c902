//! `hufu buyer demand|proposals|select`: what the buyer looks for, signed here and published by the platform; what nodes proposed, each
//! believed only where its node's signature and certificate hold here; and which the buyer chooses. A proposal is ordered like any
//! product: browse, order.

use std::collections::BTreeMap;

use clap::Args;
use hufu_audit::{Exit, Failure};
use hufu_gm::{Certificate, Signed, Usage, verify_chain};
use hufu_trade::{
    decode,
    demand::{CLASSES, Demand, DemandAttribute, DemandItem, Response},
    encode,
    if2::{PLATFORM, Sealed, segment_ok},
    matching::Selection,
    money::Money,
    octets::{Octets, rfc3339},
    party::is_named,
    resource::Resource,
    statement::Reservation,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Channel, Common, amount, channel::Platform, list::table, missing, pool};
use crate::{
    clock,
    cmd::{Context, Outcome, bug, file, term},
    text::Text,
};

/// What is looked for.
#[derive(Args)]
pub(in crate::cmd) struct Wanted {
    #[command(flatten)]
    common: Common,
    /// Class of the product: IaaS, PaaS or SaaS
    #[arg(long, value_name = "CLASS", default_value = "IaaS", value_parser = class)]
    class: String,
    /// RESOURCE=LEAST of each unit, in base units: cpu=2000 (thousandths of a core), memory=4294967296, gpu=1; several times
    #[arg(long = "min", value_name = "RESOURCE=LEAST", value_parser = least)]
    minima: Vec<Reservation>,
    /// Units
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    quantity: u32,
    /// Term of service, for example 90s, 30m, 12h, 30d
    #[arg(long, value_parser = term::parse, value_name = "TERM", default_value = "1h")]
    term: u64,
    /// Service may start from now until after this
    #[arg(long, value_parser = term::parse, value_name = "TIME", default_value = "1h")]
    start_within: u64,
    /// Answers are taken for so long
    #[arg(long, value_parser = term::parse, value_name = "TIME", default_value = "1h")]
    valid: u64,
    /// The most that all of it may cost, CNY; told to the nodes
    #[arg(long, value_name = "CNY", value_parser = amount)]
    ceiling: Option<Money>,
    /// Only this node may see it; several times. Without it the demand is public
    #[arg(long, value_name = "S/N", value_parser = pool)]
    node: Vec<String>,
    /// Template that the attributes belong to
    #[arg(long, value_name = "NAME", default_value = "general", value_parser = name)]
    template: String,
    /// NAME=VALUE, a wish in the template's words; several times. Never who or where you are
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<DemandAttribute>,
    /// The site whose platform passes it on; without it the one whose nodes the platform lists
    #[arg(long, value_name = "SITE", value_parser = name)]
    site: Option<String>,
}

fn class(text: &str) -> Result<String, String> {
    if CLASSES.contains(&text) { Ok(text.to_owned()) } else { Err(CLASSES.join(", ")) }
}

fn name(text: &str) -> Result<String, String> {
    if segment_ok(text) { Ok(text.to_owned()) } else { Err("1 to 64 of a-z 0-9 _ -".to_owned()) }
}

fn least(text: &str) -> Result<Reservation, String> {
    let expected = || "RESOURCE=LEAST, such as cpu=2000".to_owned();
    let (resource, quantity) = text.split_once('=').ok_or_else(expected)?;
    let read: Resource = resource.parse().map_err(|_| expected())?;
    let quantity: u64 = quantity.parse().map_err(|_| expected())?;
    Ok(Reservation { resource: read.to_string(), quantity })
}

fn attribute(text: &str) -> Result<DemandAttribute, String> {
    let (key, value) = text.split_once('=').ok_or("NAME=VALUE")?;
    Ok(DemandAttribute { name: name(key)?, value: value.to_owned() })
}

/// What the platform answers.
#[derive(Deserialize)]
struct Published {
    demand_no: String,
    valid_until: String,
}

/// Signs the demand and has it published.
pub(super) fn publish(wanted: &Wanted, context: &Context) -> Outcome {
    let Channel::Platform(platform) = wanted.common.channel(context)? else { return Err(missing("--platform <URL>")) };
    let buyer = wanted.common.buyer()?;
    let site = match &wanted.site {
        Some(site) => site.clone(),
        None => {
            let nodes: Value = platform.get("/v1/nodes")?;
            let first = nodes["nodes"][0]["node"].as_str().and_then(|node| node.split_once('/'));
            first.map(|(site, _)| site.to_owned()).ok_or_else(|| missing("--site <SITE>"))?
        }
    };
    let demand = demand(wanted, buyer.id, &site, clock::now().real_ns)?;
    let der = encode(&demand, "Demand").map_err(|e| bug(&e))?;
    let signature = buyer.key.sign(&der).map_err(|e| bug(&e))?;
    let body = json!({ "demand": Sealed(der), "signature": Sealed(signature), "certificates": buyer.chain() });
    let Published { demand_no, valid_until } = platform.post("/v1/demands", &body)?;
    let shown = json!({ "demand_no": demand_no, "valid_until": valid_until });
    context.show(&shown, || {
        Text::DemandPublished { number: demand_no.clone(), until: valid_until.clone() }.render(context.lang)
    })?;
    Ok(Exit::Done)
}

fn demand(wanted: &Wanted, buyer: Octets<32>, site: &str, now_ns: i64) -> Result<Demand, Failure<Text>> {
    let later = |span_ns: u64| now_ns.saturating_add(i64::try_from(span_ns).unwrap_or(i64::MAX));
    let sorted: BTreeMap<String, Reservation> =
        wanted.minima.iter().map(|least| (least.resource.clone(), least.clone())).collect();
    let mut attributes = wanted.attributes.clone();
    attributes.sort_by(|a, b| a.name.cmp(&b.name));
    let mut pools = wanted.node.clone();
    pools.sort();
    pools.dedup();
    let mut demand = Demand {
        version: 1,
        demand_no: Octets([0; 16]),
        buyer,
        relay: format!("{site}/{PLATFORM}"),
        time: now_ns,
        valid_until: later(wanted.valid),
        pools: (!pools.is_empty()).then_some(pools),
        template: wanted.template.clone(),
        items: vec![DemandItem {
            class: wanted.class.clone(),
            minima: sorted.into_values().collect(),
            quantity: wanted.quantity,
        }],
        attributes,
        term_ns: wanted.term,
        start_from: now_ns,
        start_until: later(wanted.start_within),
        ceiling: wanted.ceiling,
    };
    demand.demand_no = demand.number().map_err(|e| bug(&e))?;
    let unusable = |e: hufu_trade::Error| {
        let (argument, value) = ("demand".to_owned(), String::new());
        Failure::new(Exit::Usage, Text::ArgumentValue { argument, value, expected: e.to_string() })
    };
    demand.check().map_err(unusable)?;
    Ok(demand)
}

/// A demand as the platform shows it.
#[derive(Deserialize)]
struct Found {
    signed: Sealed,
    is_open: bool,
    responses: Vec<Answered>,
    plans: Vec<Value>,
    matching: Option<Value>,
}

/// A node's answer as the platform shows it; only the entry is believed.
#[derive(Deserialize)]
struct Answered {
    node: String,
    entry: Sealed,
    certificates: Vec<Sealed>,
}

/// What a node answered, by its own signed bytes.
#[derive(Serialize)]
struct Shown {
    node: String,
    /// Signature and chain hold, and it answers this demand; `null` where no trust anchor was given.
    verified: Option<bool>,
    #[serde(flatten)]
    response: Response,
}

/// A demand as the platform shows it, with what nodes answered; only what is signed is believed.
struct Proposed {
    demand: Demand,
    /// SM3 of its DER.
    hash: Octets<32>,
    responses: Vec<Shown>,
    found: Found,
}

fn proposed(platform: &Platform, common: &Common, number: &str) -> Result<Proposed, Failure<Text>> {
    let anchors = if common.trust.is_empty() { None } else { Some(file::read_anchors(&common.trust)?) };
    let found: Found = platform.get(&format!("/v1/demands/{number}"))?;
    let malformed = |why: String| Failure::new(Exit::Malformed, Text::Malformed { path: number.to_owned(), why });
    let signed = Signed::from_bytes(&found.signed.0).map_err(|e| malformed(e.to_string()))?;
    let demand: Demand = decode(signed.tbs(), "Demand").map_err(|e| malformed(e.to_string()))?;
    if demand.check().is_err() || demand.demand_no.to_string() != number {
        return Err(malformed("the platform shows another demand".to_owned()));
    }
    let hash = Octets(hufu_gm::sm3::sm3(&[signed.tbs()]));
    let now_ns = clock::now().real_ns;
    let responses = found
        .responses
        .iter()
        .filter_map(|answered| {
            let entry = hufu_ledger::Entry::from_bytes(&answered.entry.0).ok()?;
            let signed = Signed::from_bytes(&entry.body).ok()?;
            let response: Response = decode(signed.tbs(), "Response").ok()?;
            let verified = anchors.as_deref().map(|anchors| {
                response.answers(response.follows, (hash, &demand)).is_ok()
                    && response.computing_pool_id == answered.node
                    && holds(answered, &signed, anchors, now_ns)
            });
            Some(Shown { node: answered.node.clone(), verified, response })
        })
        .collect();
    Ok(Proposed { demand, hash, responses, found })
}

/// Shows what was proposed for a demand.
pub(super) fn proposals(common: &Common, number: &str, context: &Context) -> Outcome {
    let Channel::Platform(platform) = common.channel(context)? else { return Err(missing("--platform <URL>")) };
    let Proposed { demand, responses, found, .. } = proposed(&platform, common, number)?;
    let shown = json!({
        "demand": demand, "is_open": found.is_open, "responses": responses, "plans": found.plans, "matching": found.matching,
    });
    context.show(&shown, || {
        let rows = table(&Text::ProposalColumns {}.render(context.lang), &responses, |row| cells(row, context));
        let plans = table(&Text::PlanColumns {}.render(context.lang), &found.plans, plan_cells);
        format!("{rows}\n{plans}")
    })?;
    Ok(Exit::Done)
}

/// Signs which proposals the buyer chooses; the platform signs what they were chosen from, and tells the nodes.
pub(super) fn select(common: &Common, number: &str, (nodes, why): (&[String], &str), context: &Context) -> Outcome {
    let Channel::Platform(platform) = common.channel(context)? else { return Err(missing("--platform <URL>")) };
    common.anchors()?;
    let buyer = common.buyer()?;
    let Proposed { hash, responses, .. } = proposed(&platform, common, number)?;
    let mut chosen = Vec::new();
    for node in nodes {
        let of_node = responses.iter().find(|row| row.node == *node && row.response.proposal.is_some());
        let found = of_node.filter(|row| row.verified == Some(true));
        let found = found.ok_or_else(|| Failure::new(Exit::No, Text::NoProposal { node: node.clone() }))?;
        chosen.push(found.response.proposal_no);
    }
    chosen.sort_unstable();
    chosen.dedup();
    let time = clock::now().real_ns;
    let selection = Selection { version: 1, demand: hash, time, chosen, why: why.to_owned() };
    let der = encode(&selection, "Selection").map_err(|e| bug(&e))?;
    let sealed = Signed::seal(der, &buyer.id.0, &buyer.key).and_then(|sealed| sealed.to_bytes());
    let body = json!({ "selection": Sealed(sealed.map_err(|e| bug(&e))?) });
    let made: Value = platform.post(&format!("/v1/demands/{number}/selection"), &body)?;
    context.show(&made, || {
        let (number, nodes) = (number.to_owned(), nodes.join(", "));
        Text::SelectionMade { number, nodes }.render(context.lang)
    })?;
    Ok(Exit::Done)
}

/// Whether the node that it names signed the answer, with a certificate that leads to an anchor.
fn holds(answered: &Answered, signed: &Signed, anchors: &[Certificate], now_ns: i64) -> bool {
    let known: Vec<Certificate> =
        answered.certificates.iter().filter_map(|der| Certificate::from_der(&der.0).ok()).collect();
    let leaf = known.iter().find(|found| found.id() == signed.cert_id());
    leaf.is_some_and(|leaf| {
        is_named(leaf, &answered.node)
            && signed.verify(leaf.public_key()).is_valid()
            && verify_chain(leaf, &known, anchors, &[], now_ns, Usage::Signing).is_ok()
    })
}

fn cells(row: &Shown, context: &Context) -> Vec<String> {
    let verified = match row.verified {
        Some(true) => Text::ScoreHolds {}.render(context.lang),
        Some(false) => Text::ScoreFalse {}.render(context.lang),
        None => "-".to_owned(),
    };
    match (&row.response.proposal, &row.response.refusal) {
        (Some(offered), _) => vec![
            row.node.clone(),
            format!("{} x{}", offered.product_id, offered.quantity),
            offered.estimate.to_string(),
            rfc3339(offered.hold_until),
            verified,
        ],
        (None, refusal) => {
            let why = refusal.as_ref().map(|no| format!("{}: {}", no.code, no.why)).unwrap_or_default();
            vec![row.node.clone(), why, "-".to_owned(), "-".to_owned(), verified]
        }
    }
}

fn plan_cells(plan: &Value) -> Vec<String> {
    let parts = plan["parts"].as_array().into_iter().flatten();
    let shown: Vec<String> = parts
        .map(|part| {
            let text = |name: &str| part[name].as_str().unwrap_or("?").to_owned();
            format!("{} x{} @ {}", text("product"), part["quantity"], text("node"))
        })
        .collect();
    vec![plan["rank"].to_string(), plan["estimate_cny"].as_str().unwrap_or("?").to_owned(), shown.join("\n")]
}
