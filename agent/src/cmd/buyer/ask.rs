//! `hufu buyer refund|bills|token`: what the node says of a contract now, through the platform, and the way into its service. Nothing of it is evidence: a bill is
//! proven by its pack.

use std::path::Path;

use hufu_audit::Exit;
use hufu_trade::{
    if2::{BillList, RefundState, Sealed, TokenGiven},
    octets::{ContractNo, rfc3339},
};
use serde_json::json;

use super::{Channel, Common, check, list::table, missing, state::State};
use crate::{
    clock,
    cmd::{Context, Outcome, bug, file},
    text::Text,
};

/// The contract that was named, or the one of the papers in the state directory.
fn number(common: &Common, named: Option<&str>) -> Result<String, hufu_audit::Failure<Text>> {
    if let Some(text) = named {
        let expected = || {
            let (argument, value) = ("--contract".to_owned(), text.to_owned());
            let expected = "32 hexadecimal digits".to_owned();
            hufu_audit::Failure::new(Exit::Usage, Text::ArgumentValue { argument, value, expected })
        };
        return ContractNo::from_hex(text).map(|no| no.to_string()).ok_or_else(expected);
    }
    let (_, offered) = State::new(&common.state).offer()?;
    check::contract_of(&offered).map(|no| no.to_string())
}

/// What of the contract's money goes back.
pub(super) fn refund(common: &Common, named: Option<&str>, at: Option<&str>, context: &Context) -> Outcome {
    let Channel::Platform(platform) = common.channel(context)? else { return Err(missing("--platform <URL>")) };
    let number = number(common, named)?;
    let at = at.map(|at| format!("?at={at}")).unwrap_or_default();
    let found: RefundState = platform.get(&format!("/v1/contracts/{number}/refund{at}"))?;
    let shown = serde_json::to_value(&found).unwrap_or_default();
    context.show(&shown, || {
        let (refund, charged, paid) = (found.refund_cny.clone(), found.charged_cny.clone(), found.paid_cny.clone());
        let at = found.at.clone();
        let text = if found.is_final {
            Text::RefundFinal { refund, charged, paid, refunded: found.refunded_cny.clone() }
        } else {
            Text::RefundEstimate { refund, charged, paid, at }
        };
        text.render(context.lang)
    })?;
    Ok(Exit::Done)
}

/// The contract's bills, as the node holds them.
pub(super) fn bills(common: &Common, named: Option<&str>, context: &Context) -> Outcome {
    let Channel::Platform(platform) = common.channel(context)? else { return Err(missing("--platform <URL>")) };
    let number = number(common, named)?;
    let (mut bills, mut state, mut after) = (Vec::new(), String::new(), String::new());
    loop {
        let page: BillList = platform.get(&format!("/v1/contracts/{number}/bills{after}"))?;
        state.clone_from(&page.state);
        after = match page.bills.last().filter(|_| page.more) {
            Some(last) => format!("?after={}", last.bill_no),
            None => String::new(),
        };
        bills.extend(page.bills);
        if after.is_empty() {
            break;
        }
    }
    let shown = json!({ "contract_no": number, "state": state, "bills": bills });
    context.show(&shown, || {
        table(&Text::BillColumns {}.render(context.lang), &bills, |bill| {
            vec![bill.bill_no.clone(), bill.total_cny.clone(), bill.due_cny.clone(), bill.state.clone()]
        })
    })?;
    Ok(Exit::Done)
}

/// A token for the service of the contract, in a file of the owner's.
pub(super) fn token(common: &Common, named: Option<&str>, output: &Path, context: &Context) -> Outcome {
    let Channel::Platform(platform) = common.channel(context)? else { return Err(missing("--platform <URL>")) };
    let (number, buyer) = (number(common, named)?, common.buyer()?);
    let at = rfc3339(clock::now().real_ns);
    let signature = buyer.key.sign(format!("hufu-token-v1\n{number}\n{at}").as_bytes()).map_err(|e| bug(&e))?;
    let body = json!({
        "contract_no": number, "certificates": buyer.chain(), "at": at, "signature": Sealed(signature),
    });
    let TokenGiven { token } = platform.post("/v1/tokens", &body)?;
    file::replace_private(output, &token.0)?;
    let path = output.display().to_string();
    context.show(&json!({ "file": path }), || Text::TokenWritten { path: path.clone() }.render(context.lang))?;
    Ok(Exit::Done)
}
