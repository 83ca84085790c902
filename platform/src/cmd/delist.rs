//! `hufu-platform delist|relist`: the operator takes a product of a node, or its whole shop, off sale and puts it back. What was sold
//! goes on; buyers are shown nothing of it and get no offer through this platform.

use hufu_audit::{Exit, Failure};
use hufu_trade::{if2::segment_ok, octets::rfc3339};
use serde_json::json;

use super::{DirArgs, Outcome, in_database};
use crate::{
    account,
    cli::Context,
    store::{
        delisting::{self, SHOP},
        node,
    },
    text::Text,
};

/// Longest reason, characters.
const WHY_CHARS: usize = 200;

/// Which product, or the shop.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// The node, SITE/NODE
    #[arg(value_name = "S/N")]
    pub(super) node: String,
    /// The product; without it the node's whole shop
    #[arg(long, value_name = "ID")]
    pub(super) product: Option<String>,
    #[command(flatten)]
    pub(super) place: DirArgs,
}

/// What is taken off sale, and why.
#[derive(Debug, clap::Args)]
pub(crate) struct DelistArgs {
    #[command(flatten)]
    pub(super) which: Which,
    /// Why, for the site
    #[arg(long, value_name = "T")]
    pub(super) why: String,
}

/// Takes something off sale.
pub(super) async fn delist(args: &DelistArgs, now_ns: i64, context: &Context) -> Outcome {
    let why = args.why.trim();
    if !(1..=WHY_CHARS).contains(&why.chars().count()) || why.chars().any(char::is_control) {
        let why = format!("--why: 1 to {WHY_CHARS} printable characters expected");
        return Err(Failure::new(Exit::Usage, Text::Usage { why }));
    }
    let (node, product) = named(&args.which)?;
    in_database(&args.which.place, async |db| {
        if !node::is_known(&mut *db, node).await? {
            return Ok(Err(Text::UnknownNode { node: node.to_owned() }));
        }
        delisting::add(&mut *db, (node, product), why, now_ns).await?;
        account::note_local(&mut *db, ("delist", &shown(node, product), why), now_ns).await?;
        Ok(Ok(()))
    })
    .await?;
    let value =
        json!({ "node": node, "product": args.which.product, "listed": false, "why": why, "at": rfc3339(now_ns) });
    context.show(&value, || Text::Delisted { what: shown(node, product) }.render(context.lang))?;
    Ok(Exit::Done)
}

/// Puts it back.
pub(super) async fn relist(which: &Which, now_ns: i64, context: &Context) -> Outcome {
    let (node, product) = named(which)?;
    in_database(&which.place, async |db| {
        let was = delisting::remove(&mut *db, (node, product)).await?;
        if was {
            account::note_local(&mut *db, ("relist", &shown(node, product), ""), now_ns).await?;
        }
        Ok(if was { Ok(()) } else { Err(Text::NotDelisted { what: shown(node, product) }) })
    })
    .await?;
    let value = json!({ "node": node, "product": which.product, "listed": true });
    context.show(&value, || Text::Relisted { what: shown(node, product) }.render(context.lang))?;
    Ok(Exit::Done)
}

fn named(which: &Which) -> Result<(&str, &str), Failure<Text>> {
    let parts = which.node.split_once('/').filter(|(site, name)| segment_ok(site) && segment_ok(name));
    if parts.is_none() {
        return Err(Failure::new(Exit::Usage, Text::NotANode { node: which.node.clone() }));
    }
    match which.product.as_deref() {
        None => Ok((&which.node, SHOP)),
        Some(id) if segment_ok(id) => Ok((&which.node, id)),
        Some(id) => {
            let why = format!("--product {id:?}: 1 to 64 of a-z 0-9 _ - expected");
            Err(Failure::new(Exit::Usage, Text::Usage { why }))
        }
    }
}

fn shown(node: &str, product: &str) -> String {
    if product == SHOP { node.to_owned() } else { format!("{node} {product}") }
}
