//! What a simulated node shows of its contracts, and of everything that a replay must bring back.

use hufu_trade::{
    entry::EntryName,
    money::Money,
    octets::{ContractNo, Digest},
    statement::Offer,
};

use super::Node;

/// A bill as the node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillView {
    /// Its number.
    pub number: String,
    /// Its entry.
    pub name: EntryName,
    /// As signed.
    pub total: Money,
    /// After its corrections.
    pub due: Money,
    /// What was paid.
    pub paid: Option<Money>,
    /// Whether what was paid too much went back.
    pub refunded: bool,
    /// Whether the platform's receipt covers it.
    pub receipted: bool,
    /// Whether the platform's receipt refuses it.
    pub refused: bool,
}

/// A contract as the node sees it.
#[derive(Clone, Debug)]
pub struct ContractView<'a> {
    /// Its number.
    pub no: ContractNo,
    /// State of the rule table.
    pub state: &'a str,
    /// The offer and its hash.
    pub offer: Option<(&'a Offer, Digest)>,
    /// Entry of the browse.
    pub browse: &'a EntryName,
    /// Entry of the deal.
    pub deal: Option<&'a EntryName>,
    /// End of service, with renewals.
    pub service_end: Option<i64>,
    /// Units it would hold.
    pub quantity: u32,
    /// Whether its state holds capacity.
    pub is_holding: bool,
    /// Whether its state is metered.
    pub is_metered: bool,
    /// Whether it could come to service again, or still awaits its bill.
    pub is_over: bool,
    /// Its bills.
    pub bills: Vec<BillView>,
    /// Whether what was personal of it was erased.
    pub erased: bool,
}

/// A followed node as this one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// `{site}/{node}`.
    pub node: String,
    /// Blocks of both logs that are held here.
    pub sizes: [String; 2],
    /// Sizes of the checkpoints that were cosigned here.
    pub cosigned: [String; 2],
    /// Whether it showed two pasts.
    pub has_forked: bool,
}

impl Node {
    /// The nodes that it follows; `None` where it takes no part, or not any more.
    pub fn peers(&self) -> Option<Vec<PeerView>> {
        let view = |peer: crate::peers::PeerShown| PeerView {
            node: peer.node,
            sizes: [peer.trade, peer.finance],
            cosigned: peer.cosigned,
            has_forked: peer.has_forked,
        };
        Some(self.shown_beside()?.peers.into_iter().map(view).collect())
    }

    /// Fork proofs that it holds: whom each convicts, and of which log.
    pub fn forks(&self) -> Vec<(String, String)> {
        let forks = self.shown_beside().map(|shown| shown.forks).unwrap_or_default();
        forks.into_iter().map(|(node, log, _)| (node, log)).collect()
    }

    /// Size and number of witnesses of the newest checkpoint of each log.
    pub fn witnessed(&self) -> [Option<(u64, usize)>; 2] {
        let shown = self.shown_beside().unwrap_or_default();
        shown.cosigned.map(|log| log.last().map(|one| (one.size, one.witnesses.len())))
    }

    /// Its contracts.
    pub fn contracts(&self) -> impl Iterator<Item = ContractView<'_>> {
        let book = &self.writer.core.book;
        book.contracts.values().map(|contract| {
            let table = book.table_of(Some(contract)).map(|(.., table)| table);
            let bills = contract.bills.iter().map(|billed| BillView {
                number: billed.bill.number.clone(),
                name: billed.name.clone(),
                total: billed.bill.total,
                due: billed.due.total,
                paid: billed.paid,
                refunded: billed.refunded,
                receipted: billed.receipted,
                refused: billed.refused,
            });
            let awaits = |table: &hufu_trade::rules::RuleTable| {
                table.may_be_metered(&contract.state) || table.row(&contract.state, "bill").is_some()
            };
            ContractView {
                no: contract.no,
                state: &contract.state,
                offer: contract.offer.as_ref().map(|(_, offer, hash)| (offer, *hash)),
                browse: &contract.browse,
                deal: contract.deal.as_ref().map(|(name, _)| name),
                service_end: contract.in_force.map(|in_force| in_force.service_end),
                quantity: contract.quantity(),
                is_holding: table.is_some_and(|table| table.is_holding(&contract.state)),
                is_metered: table.is_some_and(|table| table.is_metered(&contract.state)),
                is_over: !table.is_some_and(awaits),
                bills: bills.collect(),
                erased: contract.erased,
            }
        })
    }

    /// Everything that a replay must bring back, as text: two nodes with the same ledger say the same.
    pub fn digest(&self) -> String {
        use std::fmt::Write;
        let core = &self.writer.core;
        let book = &core.book;
        let mut text = format!("{:?} {} {:?} {:?}\n", core.sizes, book.revision, book.obligation, book.window_end);
        for contract in book.contracts.values() {
            let bills: Vec<_> =
                contract.bills.iter().map(|b| (&b.name, b.linked, &b.due, b.paid, b.refunded, b.bill.total)).collect();
            writeln!(
                text,
                "{} {} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {bills:?}",
                contract.no,
                contract.state,
                contract.since,
                contract.in_force,
                contract.offer.as_ref().map(|(name, ..)| name),
                contract.deal,
                contract.last,
                contract.score,
                contract.base,
                contract.notices,
            )
            .ok();
        }
        text
    }
}
