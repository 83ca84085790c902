//! `hufu-platform invoice request|issue|reverse`: what is done about a bill's invoice is recorded under the bill's hash. Nothing is made
//! out here.

use clap::Subcommand;
use hufu_audit::{Exit, Failure};
use hufu_trade::octets::rfc3339;
use serde_json::json;
use sqlx::AnyConnection;

use super::{DirArgs, Outcome, in_database_noted};
use crate::{
    cli::Context,
    error::Error,
    store::{
        bill::{self, State},
        invoice::{self, Act, Done},
    },
    text::Text,
};

/// Longest number of an invoice, and longest note, characters.
const WORDS_CHARS: usize = 200;

/// What is done.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(super) act: Acts,
}

/// The acts.
#[derive(Debug, Subcommand)]
pub(crate) enum Acts {
    /// Record that the buyer wants an invoice
    Request {
        /// The bill's number
        #[arg(value_name = "BILL_NO")]
        bill_no: String,
        #[command(flatten)]
        place: DirArgs,
        /// Whom it is made out to
        #[arg(long, value_name = "T")]
        to: String,
    },
    /// Record that the invoice was issued
    Issue {
        /// The bill's number
        #[arg(value_name = "BILL_NO")]
        bill_no: String,
        #[command(flatten)]
        place: DirArgs,
        /// The invoice's own number
        #[arg(long, value_name = "T")]
        number: String,
    },
    /// Record that the invoice was reversed
    Reverse {
        /// The bill's number
        #[arg(value_name = "BILL_NO")]
        bill_no: String,
        #[command(flatten)]
        place: DirArgs,
        /// Why
        #[arg(long, value_name = "T")]
        why: String,
    },
}

/// An act with its own words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    /// What.
    pub(crate) act: Act,
    /// The number of an invoice that is issued, otherwise to whom or why.
    pub(crate) words: &'a str,
}

pub(super) async fn run(args: &Args, now_ns: i64, context: &Context) -> Outcome {
    let (number, place, act, words) = match &args.act {
        Acts::Request { bill_no, place, to } => (bill_no, place, Act::Request, to),
        Acts::Issue { bill_no, place, number } => (bill_no, place, Act::Issue, number),
        Acts::Reverse { bill_no, place, why } => (bill_no, place, Act::Reverse, why),
    };
    let done = settle(place, number, Told { act, words }, now_ns).await?;
    let shown = json!({
        "bill_no": number, "state": done.act.state(), "invoice": done.invoice, "amount_cny": done.amount,
        "at": rfc3339(done.at_ns),
    });
    let state = done.act.state().to_owned();
    context.show(&shown, || Text::InvoiceState { number: number.clone(), state }.render(context.lang))?;
    Ok(Exit::Done)
}

/// Checks and records what the arguments say.
pub(crate) async fn settle(place: &DirArgs, number: &str, told: Told<'_>, now_ns: i64) -> Result<Done, Failure<Text>> {
    let words = told.words.trim();
    let fits = (1..=WORDS_CHARS).contains(&words.chars().count()) && !words.chars().any(char::is_control);
    if !fits {
        let why = format!("1 to {WORDS_CHARS} printable characters expected");
        return Err(Failure::new(Exit::Usage, Text::Usage { why }));
    }
    let noted = (told.act.operation(), number, words);
    let work = async |db: &mut AnyConnection| record(db, number, Told { words, ..told }, now_ns).await;
    in_database_noted(place, noted, now_ns, work).await
}

/// Records an act; the same one again is the same answer.
///
/// # Errors
/// [`Error`] from the database; inside, why it is refused.
pub(crate) async fn record(
    db: &mut AnyConnection,
    number: &str,
    Told { act, words }: Told<'_>,
    now_ns: i64,
) -> Result<Result<Done, Text>, Error> {
    let named = || number.to_owned();
    let Some(found) = bill::find(&mut *db, number).await? else {
        return Ok(Err(Text::UnknownBill { number: named() }));
    };
    let last = invoice::last(&mut *db, &found.hash).await?;
    let own = |done: &Done| if act == Act::Issue { done.invoice.clone() } else { Some(done.note.clone()) };
    if let Some(before) = last.clone().filter(|last| last.act == act && own(last).as_deref() == Some(words)) {
        return Ok(Ok(before));
    }
    if !act.may_follow(last.as_ref().map(|last| last.act)) {
        let state = last.map_or("none", |last| last.act.state()).to_owned();
        return Ok(Err(Text::InvoiceAct { number: named(), act: act.name().to_owned(), state }));
    }
    // What is reversed was issued, whatever became of the bill.
    if act != Act::Reverse && (found.state != State::Payable || found.is_disputed) {
        return Ok(Err(Text::BillRefused { number: named() }));
    }
    if act == Act::Issue && invoice::is_taken(&mut *db, words).await? {
        return Ok(Err(Text::InvoiceTaken { invoice: words.to_owned() }));
    }
    let (invoice, note, amount) = match (act, last) {
        (Act::Request, _) => (None, words.to_owned(), found.due),
        (Act::Issue, last) => (Some(words.to_owned()), last.map(|last| last.note).unwrap_or_default(), found.due),
        // The whole of what was issued, not of what is due now.
        (Act::Reverse, last) => {
            let amount = last.as_ref().map(|last| last.amount.clone()).unwrap_or(found.due);
            (last.and_then(|last| last.invoice), words.to_owned(), amount)
        }
    };
    let done = Done { act, invoice, amount, note, at_ns: now_ns };
    invoice::add(&mut *db, (&found.hash, number), &done).await?;
    Ok(Ok(done))
}
