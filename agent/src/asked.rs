//! Questions of the platform about an order: what goes back of its money, and its bills. Answered from the book at once; they
//! write nothing. Requests that write are `act.rs` and `change.rs`.

use hufu_trade::{
    if2::{BillList, BillQuery, BillView, Problem, RefundAmount, RefundState, Sealed},
    octets::{ContractNo, rfc3339},
    refund::{Settled, refund},
    statement::Payment,
};

use crate::{
    act::{malformed, own_fault, problem},
    clock::Now,
    contract::{Billed, Contract},
    node::Core,
};

/// Octets of bills in one answer: with base64 twice and the signature it stays below what a message may have.
const BILLS_BYTES_MAX: usize = 24 * 1024;

impl Core {
    /// What goes back of an order's money.
    ///
    /// # Errors
    /// The [`Problem`] for whoever asked.
    pub(crate) fn refund_amount(&self, now: Now, asked: &RefundAmount) -> Result<RefundState, Problem> {
        let contract = self.named(&asked.contract_no)?;
        let Some((.., table)) = self.book.table_of(Some(contract)) else { return Err(own_fault("no rule table")) };
        let (Some((_, offer, _)), Some((_, deal)), Some(in_force)) =
            (&contract.offer, &contract.deal, &contract.in_force)
        else {
            return Err(problem("state", Some("contract_no"), "there is no deal yet", "尚无交易"));
        };
        let time = match &asked.at {
            None => now.real_ns.min(in_force.service_end),
            Some(text) => moment(text)?,
        };
        if time < deal.contract_time || time > in_force.service_end {
            let (from, to) = (rfc3339(deal.contract_time), rfc3339(in_force.service_end));
            let en = format!("the term is from {from} to {to}; name a moment in it");
            return Err(problem("offer", Some("at"), en, format!("服务期为 {from} 至 {to}；请给出其中的时刻")));
        }
        let bills: Vec<Settled<'_>> = contract.bills.iter().map(settled).collect();
        let is_over = !table.may_be_billed(&contract.state);
        let terms = (offer, deal, in_force);
        let found = refund(terms, table.parameters.proration, &bills, is_over, time).map_err(own_fault)?;
        Ok(RefundState {
            contract_no: asked.contract_no.clone(),
            state: contract.state.clone(),
            payment: match in_force.value.payment {
                Payment::Prepaid => "prepaid",
                Payment::Postpaid => "postpaid",
            }
            .to_owned(),
            at: rfc3339(if found.is_final { now.real_ns } else { time }),
            is_final: found.is_final,
            paid_cny: found.paid.to_string(),
            charged_cny: found.charged.to_string(),
            refund_cny: found.refund.to_string(),
            refunded_cny: found.refunded.to_string(),
        })
    }

    /// The bills of a contract, as many as fit.
    ///
    /// # Errors
    /// The [`Problem`] for whoever asked.
    pub(crate) fn bill_query(&self, asked: &BillQuery) -> Result<BillList, Problem> {
        let contract = self.named(&asked.contract_no)?;
        let from = match &asked.after {
            None => 0,
            Some(number) => {
                let place = contract.bills.iter().position(|billed| billed.bill.number == *number);
                let en = format!("this contract has no bill {number}");
                1 + place.ok_or_else(|| problem("unknown", Some("after"), en, format!("该合约没有账单 {number}")))?
            }
        };
        let rest = contract.bills.get(from..).unwrap_or_default();
        let (mut bills, mut bytes) = (Vec::new(), 0);
        for billed in rest {
            let entry = self.bill_entry(billed).ok_or_else(|| own_fault("the bill cannot be encoded"))?;
            bytes += entry.len();
            if !bills.is_empty() && bytes > BILLS_BYTES_MAX {
                break;
            }
            bills.push(BillView {
                bill_no: billed.bill.number.clone(),
                height: billed.name.height,
                entry: Sealed(entry),
                total_cny: billed.bill.total.to_string(),
                due_cny: billed.due.total.to_string(),
                state: state(billed).to_owned(),
                is_receipted: billed.receipted,
            });
        }
        let more = bills.len() < rest.len();
        Ok(BillList { contract_no: asked.contract_no.clone(), state: contract.state.clone(), bills, more })
    }

    /// The contract that a question names.
    fn named(&self, number: &str) -> Result<&Contract, Problem> {
        self.contract(ContractNo::from_hex(number).ok_or_else(|| malformed("contract_no is 32 hexadecimal digits"))?)
    }
}

fn moment(text: &str) -> Result<i64, Problem> {
    let time = text.parse::<jiff::Timestamp>().map_err(malformed)?;
    i64::try_from(time.as_nanosecond()).map_err(malformed)
}

fn settled(billed: &Billed) -> Settled<'_> {
    Settled { bill: &billed.bill, due: &billed.due, paid: billed.paid, is_refunded: billed.refunded }
}

/// How a bill stands, in the words of the platform's lists.
fn state(billed: &Billed) -> &'static str {
    match (billed.paid, billed.refused && billed.due.count == 0) {
        (_, true) => "refused",
        (Some(_), _) if billed.refunded => "refunded",
        _ if billed.disputed => "disputed",
        (Some(_), _) => "paid",
        (None, _) => "payable",
    }
}
