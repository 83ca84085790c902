//! `hufu buyer change`: the buyer asks for an act of a contract it has: suspend, resume, renew, terminate, dispute, withdraw,
//! or another that the rule table of its offer has. What may happen the node's contract decides.

use std::{io::Cursor, path::PathBuf};

use clap::Args;
use hufu_audit::{Exit, bill_of};
use hufu_gm::Signed;
use hufu_ledger::{Entry, entry_hash};
use hufu_trade::{
    entry::{Deal, EntryKind},
    if2::{Accepted, Interface, OrderChange, Sealed},
    money::Money,
    notice::{Notice, Renewal},
    octets::{Digest, Octets},
    prepaid::price_of_term,
    rules::{DISPUTE, RENEW},
    statement::{ContractValue, Offer, Payment},
};
use serde_json::json;

use super::{
    Common, amount,
    channel::Reply,
    check::{self, Checked},
    missing,
    sign::Buyer,
    state::State,
    written,
};
use crate::{
    clock,
    cmd::{Context, Outcome, bug, correct, file, term, verify},
    text::Text,
};

#[derive(Args)]
pub(in crate::cmd) struct Change {
    #[command(flatten)]
    common: Common,
    /// Act of the contract: suspend, resume, renew, terminate, dispute, withdraw
    #[arg(value_name = "ACT", value_parser = act)]
    act: String,
    /// Renew: how much longer, for example 12h, 30d
    #[arg(long, value_parser = term::parse, value_name = "TERM")]
    term: Option<u64>,
    /// Renew: the most all bills of the contract may be from now on, CNY
    #[arg(long, value_name = "CNY", value_parser = amount)]
    ceiling: Option<Money>,
    /// Renew a prepaid contract: by how much it was renewed before
    #[arg(long, value_parser = term::parse, value_name = "TERM")]
    renewed: Option<u64>,
    /// Dispute: the evidence pack of the bill
    #[arg(long, value_name = "PACK")]
    pack: Option<PathBuf>,
    /// Why, in a sentence the site will read
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = reason)]
    why: String,
}

fn act(text: &str) -> Result<String, String> {
    let fits = (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if fits { Ok(text.to_owned()) } else { Err("1 to 32 of a-z and _".to_owned()) }
}

fn reason(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { correct::why(text) }
}

/// Signs the notice, sends it and checks that what the node wrote is what was signed.
pub(super) fn run(args: &Change, context: &Context) -> Outcome {
    let common = &args.common;
    let channel = common.channel(context)?;
    let (anchors, buyer) = (common.anchors()?, common.buyer()?);
    let state = State::new(&common.state);
    let (asked, offered) = state.offer()?;
    let order = state.order()?.ok_or_else(|| state.lacks("order.json"))?;
    let accepted = state.deal()?.ok_or_else(|| state.lacks("deal.json"))?;
    let checked = check::offer(&asked, &offered, &anchors, check::offered_at(&offered)?)?;
    check::offer_is_mine(&checked, &buyer)?;
    let deal = check::deal(&checked, &order, &accepted)?;
    // A notice that got no answer is sent again as it was, so that it happens once.
    let request = match state.change(&args.act)? {
        Some(kept) => kept,
        None => {
            let made = sign(args, &buyer, (&checked, &deal, &accepted), clock::now().real_ns)?;
            state.keep_change(&args.act, &made)?;
            made
        }
    };
    let reply = channel.ask::<_, Accepted>(Interface::OrderChange, &asked.pool, &request);
    let answer = match reply {
        Ok(Reply::Answer(answer)) => answer,
        Ok(Reply::Written) => return written(common, context),
        Err(failure) => {
            if failure.exit == Exit::No {
                state.forget_change(&args.act)?;
            }
            return Err(failure);
        }
    };
    if !holds(&request, &answer) {
        return Err(hufu_audit::Failure::new(Exit::No, Text::DealField { field: "notice".to_owned() }));
    }
    state.forget_change(&args.act)?;
    let shown = json!({
        "contract_no": deal.contract_no, "act": args.act, "height": answer.height, "index": answer.index,
    });
    context.show(&shown, || {
        let (act, contract) = (args.act.clone(), deal.contract_no.to_string());
        Text::ChangeGood { act, contract }.render(context.lang)
    })?;
    Ok(Exit::Done)
}

/// The entry in the answer holds exactly what was signed.
fn holds(request: &OrderChange, answer: &Accepted) -> bool {
    let entry = Entry::from_bytes(&answer.entry.0);
    entry.is_ok_and(|entry| entry.kind == EntryKind::Notice.number() && entry.body == request.notice.0)
}

fn sign(
    args: &Change,
    buyer: &Buyer,
    (checked, deal, accepted): (&Checked, &Deal, &Accepted),
    now_ns: i64,
) -> Result<OrderChange, hufu_audit::Failure<Text>> {
    let notice = Notice {
        version: 1,
        contract_no: deal.contract_no,
        computing_pool_id: checked.offer.computing_pool_id.clone(),
        deal: Octets(entry_hash(&accepted.entry.0)),
        act: args.act.clone(),
        time: now_ns,
        bill: bill(args, deal)?,
        renewal: renewal(args, &checked.offer, deal)?,
        why: args.why.clone(),
    };
    notice.check().map_err(|e| bug(&e))?;
    let tbs = hufu_trade::encode(&notice, "Notice").map_err(|e| bug(&e))?;
    let signed = Signed::seal(tbs, &buyer.id.0, &buyer.key).and_then(|signed| signed.to_bytes());
    Ok(OrderChange { notice: Sealed(signed.map_err(|e| bug(&e))?) })
}

/// A postpaid contract gets the ceiling that is asked for, a prepaid one the price of its whole longer term.
fn renewal(args: &Change, offer: &Offer, deal: &Deal) -> Result<Option<Renewal>, hufu_audit::Failure<Text>> {
    if args.act != RENEW {
        return Ok(None);
    }
    let term_ns = args.term.ok_or_else(|| missing("--term <TERM>"))?;
    let payment = deal.contract_value.payment;
    let amount = match payment {
        Payment::Postpaid => args.ceiling.ok_or_else(|| missing("--ceiling <CNY>"))?,
        Payment::Prepaid => {
            let before = deal.requirement.term_ns.saturating_add(args.renewed.unwrap_or(0));
            price_of_term(offer, &deal.requirement, before.saturating_add(term_ns)).map_err(|e| bug(&e))?
        }
    };
    Ok(Some(Renewal { term_ns, contract_value: ContractValue { payment, amount } }))
}

fn bill(args: &Change, deal: &Deal) -> Result<Option<Digest>, hufu_audit::Failure<Text>> {
    let Some(path) = &args.pack else {
        return if args.act == DISPUTE { Err(missing("--pack <PACK>")) } else { Ok(None) };
    };
    let bytes = verify::read_pack(path)?;
    let found = bill_of(Cursor::new(bytes)).map_err(|error| verify::failure(path, &error))?;
    if found.contract_no != deal.contract_no {
        let why = format!("a bill of contract {}, not of {}", found.contract_no, deal.contract_no);
        return Err(file::malformed(path, &why));
    }
    Ok(Some(found.entry))
}
