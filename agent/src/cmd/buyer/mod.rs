//! `hufu buyer`: the buyer's side of a contract. It holds a key, a certificate and an address; it signs here, checks what it
//! is given before it signs, and never sends a key. Checks are `check.rs`, statements `sign.rs`, transport `channel.rs`.

mod ask;
mod change;
mod channel;
mod check;
mod demand;
mod list;
mod operations;
mod parent;
mod proof;
mod sign;
mod state;
mod suggest;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hufu_audit::{Exit, Failure};
use hufu_gm::cert::Certificate;
use hufu_trade::{
    if2::{Accepted, Browse, Interface, Offered, Sealed, segment_ok},
    money::Money,
    octets::rfc3339,
    resource::{KINDS, Resource},
    statement::{Payment, ScoreItem},
};
use serde_json::json;

use crate::{
    clock,
    cmd::{Context, Outcome, bug, file, term},
    text::Text,
};
use channel::{Channel, Reply};
pub(super) use channel::{Platform, refusal};
use sign::Buyer;
use state::State;

#[derive(Subcommand)]
pub(super) enum Command {
    /// List products and scores; with --node and --product, ask for an offer
    Browse {
        #[command(flatten)]
        common: Common,
        /// Node to ask, SITE/NODE
        #[arg(long, value_name = "S/N", value_parser = pool, requires = "product")]
        node: Option<String>,
        /// Product to ask an offer for
        #[arg(long, value_name = "P", requires = "node")]
        product: Option<String>,
    },
    /// Check the offer, sign the order, check the deal
    Order {
        #[command(flatten)]
        common: Common,
        /// Units
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        quantity: u32,
        /// Term of service, for example 90s, 30m, 12h, 30d
        #[arg(long, value_parser = term::parse, value_name = "TERM", default_value = "1h")]
        term: u64,
        /// The most a bill may be, CNY
        #[arg(long, value_name = "CNY", value_parser = amount, default_value = "100")]
        ceiling: Money,
        #[command(flatten)]
        parent: parent::Args,
        /// Pay the price of the whole term before: possible where all that is priced is reserved
        #[arg(long, conflicts_with = "ceiling")]
        prepaid: bool,
    },
    /// Score a served contract, for example cpu=95 memory=90
    Score {
        #[command(flatten)]
        common: Common,
        /// RESOURCE=0..100, one for each priced resource of the deal
        #[arg(value_name = "RESOURCE=SCORE", required_unless_present_any = ["answer", "suggest"], value_parser = score_item)]
        scores: Vec<ScoreItem>,
        /// Only show what the quality lines of this evidence pack suggest; signs and sends nothing
        #[arg(long, value_name = "PACK", conflicts_with_all = ["scores", "answer", "request", "platform"])]
        suggest: Option<PathBuf>,
    },
    /// Ask for an act of the contract: suspend, resume, renew, terminate, dispute, withdraw
    Change(change::Change),
    /// Publish what you look for; nodes answer with proposals
    Demand(demand::Wanted),
    /// What was proposed for a demand
    Proposals {
        #[command(flatten)]
        common: Common,
        /// The demand's number
        #[arg(value_parser = demand_no)]
        demand_no: String,
    },
    /// Choose among the proposals for a demand; what was not chosen is free again
    Select {
        #[command(flatten)]
        common: Common,
        /// The demand's number
        #[arg(value_parser = demand_no)]
        demand_no: String,
        /// Node whose proposal is chosen, SITE/NODE; several times
        #[arg(long, value_name = "S/N", value_parser = pool, required = true)]
        node: Vec<String>,
        /// Why, for whoever reads it later
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = reason)]
        why: String,
    },
    /// What of a contract's money goes back, asked of its node
    Refund {
        #[command(flatten)]
        common: Common,
        /// Contract number; without it the contract of the papers in --state
        #[arg(long, value_name = "NO")]
        contract: Option<String>,
        /// For service that ends then, RFC 3339, such as 2026-12-01T00:00:00Z
        #[arg(long, value_name = "TIME", value_parser = moment)]
        at: Option<String>,
    },
    /// A token with which you enter the service of a contract, for a quarter of an hour
    Token {
        #[command(flatten)]
        common: Common,
        /// Contract number; without it the contract of the papers in --state
        #[arg(long, value_name = "NO")]
        contract: Option<String>,
        /// File to write
        #[arg(short, long, value_name = "F", default_value = "hufu.token")]
        output: PathBuf,
    },
    /// The bills of a contract, asked of its node
    Bills {
        #[command(flatten)]
        common: Common,
        /// Contract number; without it the contract of the papers in --state
        #[arg(long, value_name = "NO")]
        contract: Option<String>,
    },
    /// Your account at the platform, and what was noted there that you did or that concerns you
    Operations(Common),
    /// Fetch the evidence pack of a bill
    Pack {
        #[command(flatten)]
        common: Common,
        /// The bill's number
        bill_no: String,
        /// File to write; default BILL_NO.zip
        #[arg(short, long, value_name = "F")]
        output: Option<PathBuf>,
    },
}

/// Who the buyer is, whom it believes and how it reaches the node.
#[derive(Args)]
pub(super) struct Common {
    /// Address of the platform, http://HOST:PORT
    #[arg(long, value_name = "URL", conflicts_with_all = ["answer", "request"])]
    platform: Option<String>,
    /// Read the node's answer from a file
    #[arg(long = "in", value_name = "F", conflicts_with = "request")]
    answer: Option<PathBuf>,
    /// Write the request to a file
    #[arg(long = "out", value_name = "F")]
    request: Option<PathBuf>,
    /// The buyer's secret key file
    #[arg(long, value_name = "F")]
    key: Option<PathBuf>,
    /// The buyer's certificate chain (PEM), leaf first
    #[arg(long, value_name = "F")]
    cert: Option<PathBuf>,
    /// Trust anchors for nodes (PEM); may be given several times
    #[arg(long, value_name = "CA.pem")]
    trust: Vec<PathBuf>,
    /// Directory of this contract's papers
    #[arg(long, value_name = "DIR", default_value = "hufu-contract")]
    state: PathBuf,
}

impl Common {
    fn channel(&self, context: &Context) -> Result<Channel, Failure<Text>> {
        match (&self.platform, &self.answer, &self.request) {
            (Some(url), None, None) => Channel::platform(url, context.lang),
            (None, Some(path), None) => Ok(Channel::Answer(path.clone(), context.lang)),
            (None, None, Some(path)) => Ok(Channel::Request(path.clone())),
            _ => Err(missing("--platform <URL> | --in <F> | --out <F>")),
        }
    }

    fn buyer(&self) -> Result<Buyer, Failure<Text>> {
        let key = self.key.as_deref().ok_or_else(|| missing("--key <F>"))?;
        let cert = self.cert.as_deref().ok_or_else(|| missing("--cert <F>"))?;
        Buyer::load(key, cert)
    }

    fn anchors(&self) -> Result<Vec<Certificate>, Failure<Text>> {
        if self.trust.is_empty() {
            return Err(missing("--trust <CA.pem>"));
        }
        file::read_anchors(&self.trust)
    }
}

fn missing(argument: &str) -> Failure<Text> {
    Failure::new(Exit::Usage, Text::ArgumentMissing { argument: argument.to_owned() })
}

fn pool(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        Some((site, node)) if segment_ok(site) && segment_ok(node) => Ok(text.to_owned()),
        _ => Err("SITE/NODE, each 1 to 64 of a-z 0-9 _ -".to_owned()),
    }
}

fn amount(text: &str) -> Result<Money, String> {
    match text.parse::<Money>() {
        Ok(amount) if amount.0 >= 0 => Ok(amount),
        _ => Err("a decimal amount such as 10.00".to_owned()),
    }
}

fn reason(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Ok(String::new()) } else { crate::cmd::correct::why(text) }
}

fn demand_no(text: &str) -> Result<String, String> {
    let number = hufu_trade::octets::Octets::<16>::from_hex(text);
    number.map(|number| number.to_string()).ok_or_else(|| "32 hexadecimal digits".to_owned())
}

fn moment(text: &str) -> Result<String, String> {
    let time = text.parse::<jiff::Timestamp>().map_err(|_| "a time such as 2026-12-01T00:00:00Z".to_owned())?;
    Ok(time.to_string())
}

fn score_item(text: &str) -> Result<ScoreItem, String> {
    let expected = || {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name()).collect();
        format!("RESOURCE=0..100, RESOURCE one of {}", names.join(" "))
    };
    let (name, score) = text.split_once('=').ok_or_else(expected)?;
    let resource: Resource = name.parse().map_err(|_| expected())?;
    let score: u8 = score.parse().ok().filter(|score| *score <= 100).ok_or_else(expected)?;
    Ok(ScoreItem { code: resource.kind as u8, score })
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Browse { common, node: None, .. } if common.answer.is_none() => list::run(common, context),
        Command::Browse { common, node, product } => browse(common, node.as_deref().zip(product.as_deref()), context),
        Command::Order { common, quantity, term, ceiling, prepaid, parent } => {
            order(common, (*quantity, *term, (!prepaid).then_some(*ceiling)), parent, context)
        }
        Command::Score { common, suggest: Some(pack), .. } => suggest::run(common, pack, context),
        Command::Score { common, scores, suggest: None } => score(common, scores, context),
        Command::Change(args) => change::run(args, context),
        Command::Demand(wanted) => demand::publish(wanted, context),
        Command::Proposals { common, demand_no } => demand::proposals(common, demand_no, context),
        Command::Select { common, demand_no, node, why } => demand::select(common, demand_no, (node, why), context),
        Command::Refund { common, contract, at } => ask::refund(common, contract.as_deref(), at.as_deref(), context),
        Command::Token { common, contract, output } => ask::token(common, contract.as_deref(), output, context),
        Command::Operations(common) => operations::run(common, context),
        Command::Bills { common, contract } => ask::bills(common, contract.as_deref(), context),
        Command::Pack { common, bill_no, output } => pack(common, bill_no, output.as_deref(), context),
    }
}

fn browse(common: &Common, wanted: Option<(&str, &str)>, context: &Context) -> Outcome {
    let channel = common.channel(context)?;
    let anchors = common.anchors()?;
    let state = State::new(&common.state);
    state.refuse_second_offer()?;
    let buyer = common.buyer()?;
    // A request that got no answer is sent again as it was: the node gives the same offer for it.
    let asked = match (state.asked()?, wanted) {
        (Some(asked), None) => asked,
        (Some(asked), Some((pool, product))) if asked.is_for(pool, product) => asked,
        (_, Some((pool, product))) => {
            let asked = sign::browse(&buyer, pool, product, clock::now().real_ns)?;
            state.keep_asked(&asked)?;
            asked
        }
        (None, None) => return Err(missing("--node <S/N>")),
    };
    let request: &Browse = &asked.request;
    let Reply::Answer(offered) = channel.ask::<Browse, Offered>(Interface::Browse, &asked.pool, request)? else {
        return written(common, context);
    };
    let now_ns = clock::now().real_ns;
    let checked = check::offer(&asked, &offered, &anchors, now_ns)?;
    state.keep_offer(&asked, &offered)?;
    let offer = &checked.offer;
    let shown = json!({
        "contract_no": offer.contract_no,
        "node": offer.computing_pool_id,
        "product": offer.product_id,
        "stock": offer.stock,
        "valid_until": rfc3339(offer.valid_until),
        "tariff": offer.tariff,
        "metered": offer.metered,
        "reserves": offer.reserves,
        "state": common.state.display().to_string(),
    });
    context.show(&shown, || {
        let price = |price: &hufu_trade::tariff::Price| {
            let first = price.tiers.first().map(|tier| tier.price.to_string()).unwrap_or_default();
            format!("\n  {} {first} CNY/{}", price.resource, price.per)
        };
        let prices: String = offer.tariff.prices.iter().map(price).collect();
        let (product, node) = (offer.product_id.clone(), offer.computing_pool_id.clone());
        Text::OfferGood { product, node, until: rfc3339(offer.valid_until), prices }.render(context.lang)
    })?;
    Ok(Exit::Done)
}

fn order(
    common: &Common,
    (quantity, term_ns, ceiling): (u32, u64, Option<Money>),
    parent: &parent::Args,
    context: &Context,
) -> Outcome {
    let channel = common.channel(context)?;
    let (anchors, buyer) = (common.anchors()?, common.buyer()?);
    let state = State::new(&common.state);
    let (asked, offered) = state.offer()?;
    let now_ns = clock::now().real_ns;
    let checked = check::offer(&asked, &offered, &anchors, now_ns)?;
    check::offer_is_mine(&checked, &buyer)?;
    let request = match state.order()? {
        Some(kept) => kept,
        None => {
            check::order_fits(&checked.offer, quantity, term_ns)?;
            // The node's clock may be ahead of ours by a little: an order is not signed before its offer.
            let signed_ns = now_ns.max(checked.offer.valid_from);
            let parent = parent.order(&buyer, signed_ns)?;
            let request = sign::order(&buyer, &checked, (quantity, term_ns, ceiling), parent, signed_ns)?;
            state.keep_order(&request)?;
            request
        }
    };
    let Reply::Answer(accepted) = channel.ask::<_, Accepted>(Interface::SendOrder, &asked.pool, &request)? else {
        return written(common, context);
    };
    let deal = check::deal(&checked, &request, &accepted)?;
    state.keep_deal(&accepted)?;
    let shown = json!({
        "contract_no": deal.contract_no,
        "node": deal.computing_pool_id,
        "start": rfc3339(deal.contract_time),
        "service_end": rfc3339(deal.service_end),
        "payment": deal.contract_value.payment,
        "ceiling_cny": deal.contract_value.amount,
        "address": accepted.address,
        "parent": deal.requirement.parent,
        "height": accepted.height,
    });
    context.show(&shown, || {
        let (contract, node) = (deal.contract_no.to_string(), deal.computing_pool_id.clone());
        let good = Text::DealGood { contract, node, end: rfc3339(deal.service_end) }.render(context.lang);
        let mut lines = vec![good];
        if deal.contract_value.payment == Payment::Prepaid {
            lines.push(Text::PrepaidPrice { price: deal.contract_value.amount.to_string() }.render(context.lang));
        }
        lines.push(match &accepted.address {
            Some(address) => Text::AddressIs { address: address.clone() }.render(context.lang),
            None => Text::AddressLater {}.render(context.lang),
        });
        lines.extend(deal.requirement.parent.as_ref().map(|parent| parent::shown(parent).render(context.lang)));
        lines.join("\n")
    })?;
    Ok(Exit::Done)
}

fn score(common: &Common, scores: &[ScoreItem], context: &Context) -> Outcome {
    let channel = common.channel(context)?;
    let (anchors, buyer) = (common.anchors()?, common.buyer()?);
    let state = State::new(&common.state);
    let (asked, offered) = state.offer()?;
    let request = state.order()?.ok_or_else(|| state.lacks("order.json"))?;
    let accepted = state.deal()?.ok_or_else(|| state.lacks("deal.json"))?;
    // The offer's validity has passed by now; it was checked when the order was signed, so it is judged as of its own time.
    let signed_at = check::offered_at(&offered)?;
    let checked = check::offer(&asked, &offered, &anchors, signed_at)?;
    check::offer_is_mine(&checked, &buyer)?;
    check::deal(&checked, &request, &accepted)?;
    let card = match state.score()? {
        Some(kept) => kept,
        None => {
            let card = check::score_card(&checked, scores)?;
            let made = sign::score(&buyer, &checked, &accepted, card, clock::now().real_ns)?;
            state.keep_score(&made)?;
            made
        }
    };
    let Reply::Answer(answer) = channel.ask::<_, Accepted>(Interface::Score, &asked.pool, &card)? else {
        return written(common, context);
    };
    let overall = sign::overall(&card)?;
    let shown = json!({
        "contract_no": checked.offer.contract_no,
        "overall": overall,
        "height": answer.height,
        "index": answer.index,
    });
    context.show(&shown, || Text::ScoreGood { overall: overall.clone() }.render(context.lang))?;
    Ok(Exit::Done)
}

fn pack(common: &Common, bill_no: &str, output: Option<&Path>, context: &Context) -> Outcome {
    let Channel::Platform(platform) = common.channel(context)? else { return Err(missing("--platform <URL>")) };
    if bill_no.is_empty() || !bill_no.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        return Err(Failure::new(Exit::Usage, Text::BillNumber { number: bill_no.to_owned() }));
    }
    let buyer = common.buyer()?;
    let at = rfc3339(clock::now().real_ns);
    let signature = buyer.key.sign(format!("hufu-pack-v1\n{bill_no}\n{at}").as_bytes()).map_err(|e| bug(&e))?;
    let body = json!({ "certificates": buyer.chain(), "at": at, "signature": Sealed(signature) });
    let bytes = platform.post_for_bytes(&format!("/v1/bills/{bill_no}/pack"), &body)?;
    let default = PathBuf::from(format!("{bill_no}.zip"));
    let output = output.unwrap_or(&default);
    file::replace(output, &bytes)?;
    let path = output.display().to_string();
    context.show(&json!({ "file": path }), || Text::PackWritten { path: path.clone() }.render(context.lang))?;
    Ok(Exit::Done)
}

fn written(common: &Common, context: &Context) -> Outcome {
    let path = common.request.as_deref().unwrap_or(Path::new("-")).display().to_string();
    context.show(&json!({ "request": path }), || Text::RequestWritten { path: path.clone() }.render(context.lang))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod argument_tests {
    use super::*;

    #[test]
    fn arguments_are_read_strictly() {
        for (text, want) in [("s1/n_1", true), ("s1", false), ("S/n", false), ("a/b/c", false), ("/", false)] {
            assert_eq!(pool(text).is_ok(), want, "{text}");
        }
        for (text, want) in [("cpu=95", true), ("cpu=101", false), ("cpu", false), ("memory=-1", false), ("x=1", false)]
        {
            assert_eq!(score_item(text).is_ok(), want, "{text}");
        }
        for (text, want) in [("10", true), ("0.01", true), ("-1", false), ("1e3", false)] {
            assert_eq!(amount(text).is_ok(), want, "{text}");
        }
    }
}
