//! What a parent order costs and what of it is open: its children's bills, put together from the database. Adding up is
//! `hufu_trade::parent`, paying `cmd/pay_parent.rs`.

use hufu_trade::{
    money::Money,
    octets::Digest,
    parent::{Child, ChildBill, ParentBill, ParentNo, parent_bill},
};
use sqlx::AnyConnection;

use crate::{
    error::Error,
    store::{
        bill, contract,
        parent::{self, ChildOrder},
    },
};

/// A bill of a child.
#[derive(Clone, Debug)]
pub(crate) struct Owed {
    /// The bill as part of its parent.
    pub(crate) child: Child,
    /// State of its contract.
    pub(crate) state: String,
    /// Whether a payment may come in that state.
    pub(crate) may_be_paid: bool,
    /// Whether nothing of it is open: it was paid with what is due, or the node's log holds its payment.
    pub(crate) is_paid: bool,
}

/// A child with the bills that count.
#[derive(Clone, Debug)]
pub(crate) struct ChildView {
    /// The contract.
    pub(crate) order: ChildOrder,
    /// Its state.
    pub(crate) state: String,
    /// Its bills but those that were refused, in the order of the log.
    pub(crate) bills: Vec<Owed>,
}

/// A parent order of one buyer.
#[derive(Clone, Debug)]
pub(crate) struct ParentView {
    /// Its children that have a deal; never empty.
    pub(crate) children: Vec<ChildView>,
}

impl ParentView {
    /// Every bill of every child.
    pub(crate) fn owed(&self) -> impl Iterator<Item = &Owed> {
        self.children.iter().flat_map(|child| &child.bills)
    }

    /// The parent's bill as of `now_ns`.
    ///
    /// # Errors
    /// What does not belong together, or is missing.
    pub(crate) fn bill(&self, now_ns: i64) -> Result<ParentBill, hufu_trade::Error> {
        // A child whose order says otherwise counts too, before it has a bill: only one level is ever paid.
        if let Some(first) = self.children.first()
            && let Some(other) = self.children.iter().find(|child| child.order.parent != first.order.parent)
        {
            let why = format!("contract {} names the parent with other terms", other.order.contract);
            return Err(hufu_trade::Error::Field { what: "ParentBill", field: "payable", why });
        }
        if let Some(bare) = self.children.iter().find(|child| child.bills.is_empty()) {
            let why = format!("contract {} has no bill yet", bare.order.contract);
            return Err(hufu_trade::Error::Field { what: "ParentBill", field: "children", why });
        }
        let children: Vec<Child> = self.owed().map(|owed| owed.child.clone()).collect();
        parent_bill(&children, now_ns)
    }

    /// What is still to be paid for the bills there are.
    ///
    /// # Errors
    /// [`hufu_trade::Error::Overflow`].
    pub(crate) fn open(&self) -> Result<Money, hufu_trade::Error> {
        let open = self.owed().filter(|owed| !owed.is_paid).map(|owed| owed.child.bill.due);
        open.into_iter().try_fold(Money(0), Money::plus)
    }
}

/// Reads a parent order of a buyer; `None` when no contract names it.
///
/// # Errors
/// [`Error`] from the database.
pub(crate) async fn read(
    db: &mut AnyConnection,
    (number, buyer): (ParentNo, Digest),
) -> Result<Option<ParentView>, Error> {
    let mut children = Vec::new();
    for order in parent::children(&mut *db, number, Some(buyer)).await? {
        let course = contract::course(&mut *db, &order.pool, order.contract).await?;
        let (contract, table) = course.ok_or(Error::Damaged("child without a contract"))?;
        let mut bills = Vec::new();
        for billed in contract.bills.iter().filter(|billed| !billed.refused) {
            let due = billed.due.total;
            let payment = bill::payment(&mut *db, &billed.bill.number).await?;
            let paid = payment.map(|paid| paid.amount.parse::<Money>()).transpose()?;
            let bill = ChildBill {
                contract_no: order.contract,
                computing_pool_id: order.pool.clone(),
                bill: billed.hash,
                number: billed.bill.number.clone(),
                due,
            };
            let currency = billed.bill.currency.clone();
            bills.push(Owed {
                child: Child { parent: order.parent, buyer: order.buyer, currency, bill },
                state: contract.state.clone(),
                may_be_paid: table.row(&contract.state, table.pay_act(contract.others_open(billed.hash))).is_some(),
                is_paid: billed.paid || paid == Some(due),
            });
        }
        children.push(ChildView { order, state: contract.state, bills });
    }
    Ok((!children.is_empty()).then_some(ParentView { children }))
}
