//! `hufu-platform parents`: the parent orders with their children, what they cost together and what is open.

use hufu_audit::Exit;
use hufu_trade::octets::rfc3339;
use serde::Serialize;
use serde_json::json;
use sqlx::AnyConnection;

use super::{DirArgs, Outcome, failed, open};
use crate::{
    cli::Context,
    error::Error,
    parent::{ParentView, read},
    store::parent::{self, StoredParentBill},
    text::Text,
};

/// Most parents in one list.
const ROWS_MAX: i64 = 10_000;

/// A bill of a child.
#[derive(Debug, Serialize)]
pub(crate) struct BillRow {
    pub(crate) bill_no: String,
    pub(crate) bill: String,
    pub(crate) due_cny: String,
    pub(crate) paid: bool,
}

/// A child.
#[derive(Debug, Serialize)]
pub(crate) struct ChildRow {
    pub(crate) contract_no: String,
    pub(crate) node: String,
    pub(crate) state: String,
    pub(crate) bills: Vec<BillRow>,
}

/// A parent bill that was paid.
#[derive(Debug, Serialize)]
pub(crate) struct PaidRow {
    pub(crate) parent_bill: String,
    pub(crate) amount_cny: String,
    pub(crate) reference: String,
    pub(crate) paid_at: String,
    /// DER of the platform's `Signed` over it, hexadecimal; null until a payment named it.
    pub(crate) signed: Option<String>,
}

/// A parent order of one buyer.
#[derive(Debug, Serialize)]
pub(crate) struct ParentRow {
    pub(crate) parent_no: String,
    pub(crate) buyer: String,
    /// `child` or `parent`.
    pub(crate) payable: &'static str,
    /// How many children the buyer signed.
    pub(crate) children_due: u32,
    pub(crate) children: Vec<ChildRow>,
    /// Null until every child has a bill.
    pub(crate) total_cny: Option<String>,
    /// Of the bills there are.
    pub(crate) open_cny: String,
    /// Why there is no total.
    pub(crate) why: Option<String>,
    pub(crate) paid: Vec<PaidRow>,
}

pub(super) async fn run(args: &DirArgs, now_ns: i64, context: &Context) -> Outcome {
    let place = args.place()?;
    let store = open(&place).await?;
    let found = async {
        let mut tx = store.read().await?;
        rows(&mut tx, now_ns).await
    };
    let found = found.await;
    store.close().await;
    let found = found.map_err(|error| failed(&place, &error))?;
    context.show(&json!({ "parents": found }), || shown(&found, context))?;
    Ok(Exit::Done)
}

/// All parents.
pub(crate) async fn rows(db: &mut AnyConnection, now_ns: i64) -> Result<Vec<ParentRow>, Error> {
    let mut rows = Vec::new();
    for name in parent::parents(&mut *db, ROWS_MAX).await? {
        let Some(view) = read(&mut *db, name).await? else { continue };
        let paid = parent::bills(&mut *db, name).await?;
        let Some(first) = view.children.first().map(|child| child.order.clone()) else { continue };
        let bill = view.bill(now_ns);
        rows.push(ParentRow {
            parent_no: first.parent.parent_no.to_string(),
            buyer: first.buyer.to_string(),
            payable: first.parent.payable.name(),
            children_due: first.parent.children,
            total_cny: bill.as_ref().ok().map(|bill| bill.total.to_string()),
            open_cny: view.open()?.to_string(),
            why: bill.err().map(|error| error.to_string()),
            children: children(&view),
            paid: paid.into_iter().map(paid_row).collect(),
        });
    }
    Ok(rows)
}

fn children(view: &ParentView) -> Vec<ChildRow> {
    let row = |owed: &crate::parent::Owed| BillRow {
        bill_no: owed.child.bill.number.clone(),
        bill: owed.child.bill.bill.to_string(),
        due_cny: owed.child.bill.due.to_string(),
        paid: owed.is_paid,
    };
    let child = |child: &crate::parent::ChildView| ChildRow {
        contract_no: child.order.contract.to_string(),
        node: child.order.pool.clone(),
        state: child.state.clone(),
        bills: child.bills.iter().map(row).collect(),
    };
    view.children.iter().map(child).collect()
}

fn paid_row(bill: StoredParentBill) -> PaidRow {
    PaidRow {
        parent_bill: bill.hash.to_string(),
        amount_cny: bill.amount,
        reference: bill.reference,
        paid_at: rfc3339(bill.made_at),
        signed: bill.signed.map(hex::encode),
    }
}

/// One line a parent and one a bill below it.
fn shown(rows: &[ParentRow], context: &Context) -> String {
    if rows.is_empty() {
        return Text::Nothing {}.render(context.lang);
    }
    let mut lines = Vec::new();
    for row in rows {
        let number = row.parent_no.clone();
        let children = format!("{}/{}", row.children.len(), row.children_due);
        let (level, open) = (row.payable.to_owned(), row.open_cny.clone());
        lines.push(Text::ParentLine { number, level, children, open }.render(context.lang));
        let total = |total: &String| format!("    {}", Text::ParentTotal { total: total.clone() }.render(context.lang));
        lines.extend(row.total_cny.iter().map(total));
        lines.extend(row.why.iter().map(|why| format!("    {why}")));
        for child in &row.children {
            let (contract, node, state) = (child.contract_no.clone(), child.node.clone(), child.state.clone());
            lines.push(format!("    {}", Text::ParentChild { contract, node, state }.render(context.lang)));
            for bill in &child.bills {
                let (number, due) = (bill.bill_no.clone(), bill.due_cny.clone());
                let line = if bill.paid { Text::ParentPaid { number, due } } else { Text::ParentOpen { number, due } };
                lines.push(format!("        {}", line.render(context.lang)));
            }
        }
    }
    lines.join("\n")
}
