//! An order as the child of a parent order: the same number, level and count go into each child's order. The first child makes
//! the number, the others are given it.

use clap::ValueEnum;
use hufu_audit::{Exit, Failure};
use hufu_trade::{
    octets::Octets,
    parent::{CHILDREN_MAX, CHILDREN_MIN, ParentNo, ParentOrder, Payable, parent_no},
};

use super::sign::Buyer;
use crate::{cmd::bug, text::Text};

/// What makes an order a child.
#[derive(clap::Args)]
pub(in crate::cmd) struct Args {
    /// Number of the parent order, 32 hexadecimal digits; without it the first child makes one
    #[arg(long, value_name = "NO", value_parser = number, requires = "payable")]
    parent: Option<ParentNo>,
    /// The level that is paid: each child by itself, or all through the parent
    #[arg(long, value_enum, requires = "children")]
    payable: Option<Level>,
    /// How many children the parent has, 2 to 64
    #[arg(long, value_name = "N", requires = "payable",
        value_parser = clap::value_parser!(u32).range(i64::from(CHILDREN_MIN)..=i64::from(CHILDREN_MAX)))]
    children: Option<u32>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Level {
    /// Each child's bills by themselves
    Child,
    /// All children at once
    Parent,
}

fn number(text: &str) -> Result<ParentNo, String> {
    ParentNo::from_hex(text).ok_or_else(|| "32 hexadecimal digits".to_owned())
}

impl Args {
    /// What goes into the order; a new number where none is given.
    pub(super) fn order(&self, buyer: &Buyer, now_ns: i64) -> Result<Option<ParentOrder>, Failure<Text>> {
        let (Some(level), Some(children)) = (self.payable, self.children) else { return Ok(None) };
        let payable = match level {
            Level::Child => Payable::Child,
            Level::Parent => Payable::Parent,
        };
        let parent_no = match self.parent {
            Some(given) => given,
            None => {
                let mut nonce = [0; 16];
                hufu_gm::random::fill(&mut nonce).map_err(|e| bug(&e))?;
                parent_no(buyer.id, Octets(nonce), now_ns).map_err(|e| bug(&e))?
            }
        };
        let order = ParentOrder { parent_no, payable, children };
        order.check().map_err(|e| Failure::new(Exit::Usage, Text::Usage { why: e.to_string() }))?;
        Ok(Some(order))
    }
}

/// The line about it.
pub(super) fn shown(parent: &ParentOrder) -> Text {
    Text::ChildOrder {
        parent: parent.parent_no.to_string(),
        level: parent.payable.name().to_owned(),
        children: parent.children.to_string(),
    }
}
