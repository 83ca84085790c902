//! `hufu-platform bills`: the bills as a list, or with `--focus` as a file in the billing format FOCUS. What a row of that is, is
//! `focus.rs`.

use std::{collections::BTreeMap, path::PathBuf};

use hufu_audit::Exit;
use hufu_ledger::Entry;
use hufu_trade::{bill::Bill, correction::Correction, decode, entry::EntryKind, octets::Digest, period::Month};
use serde_json::json;
use sqlx::AnyConnection;

use super::{DirArgs, Outcome, failed, lists, open};
use crate::{
    cli::Context,
    error::{Error, hash},
    file,
    focus::{self, Billed},
    store::{
        bill::{self, StoredBill},
        contract, invoice, list,
    },
    text::Text,
};

/// Bills read at a time.
const PAGE: i64 = 256;

/// What of the bills, and in which form.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) place: DirArgs,
    /// Write them as CSV in the FinOps billing format FOCUS
    #[arg(long, requires = "output")]
    pub(super) focus: bool,
    /// Only bills of this month, by the calendar of their tariff
    #[arg(long, value_name = "YYYY-MM", requires = "focus", value_parser = month)]
    pub(super) period: Option<String>,
    /// Where the file goes; one that is there is replaced
    #[arg(short, long, value_name = "F", requires = "focus")]
    pub(super) output: Option<PathBuf>,
}

/// A month's name.
pub(super) fn month(text: &str) -> Result<String, String> {
    if Month::is_name(text) { Ok(text.to_owned()) } else { Err("a month as YYYY-MM".to_owned()) }
}

pub(super) async fn run(args: &Args, context: &Context) -> Outcome {
    let Some(output) = args.output.as_ref().filter(|_| args.focus) else {
        return lists::show(lists::List::Bills, &args.place, context).await;
    };
    let place = args.place.place()?;
    let store = open(&place).await?;
    let mut beside = file::Beside::create(output)?;
    let written = async {
        // One state of the database, a page at a time: an export may be larger than the memory.
        let mut tx = store.read().await?;
        write(&mut tx, args.period.as_deref(), &mut beside).await
    };
    let written = written.await;
    store.close().await;
    let count = written.map_err(|error| failed(&place, &error))?;
    beside.finish()?;
    let path = output.display().to_string();
    context.show(&json!({ "file": path, "bills": count }), || {
        Text::FocusWritten { path: path.clone(), count: count.to_string() }.render(context.lang)
    })?;
    Ok(Exit::Done)
}

/// Writes the bills that ask for something, by node and in the order of its log; those of one month where one is named. How many.
async fn write(db: &mut AnyConnection, period: Option<&str>, out: &mut file::Beside) -> Result<u64, Error> {
    let (mut count, mut last) = (0_u64, None::<StoredBill>);
    out.write(&focus::heading());
    loop {
        let page = bill::behind(&mut *db, last.as_ref(), PAGE).await?;
        for found in &page {
            if let Some(billed) = billed(&mut *db, found, period).await? {
                out.write(&focus::lines(&billed)?);
                count = count.saturating_add(1);
            }
        }
        match page.into_iter().next_back() {
            Some(end) => last = Some(end),
            None => return Ok(count),
        }
    }
}

/// A bill with all that its rows need; `None` where it asks for nothing, or is of another month.
async fn billed(db: &mut AnyConnection, found: &StoredBill, period: Option<&str>) -> Result<Option<Billed>, Error> {
    if found.state != bill::State::Payable {
        return Ok(None);
    }
    let no = list::contract_no(&found.contract)?;
    let own: Digest = hufu_trade::octets::Octets(hash(&found.hash)?);
    let entries = contract::entries(&mut *db, &found.pool, no).await?;
    let mut papers = BTreeMap::new();
    for entry in &entries {
        papers.insert(entry.name.hash, Entry::from_bytes(&entry.bytes)?.body);
    }
    let body = papers.get(&own).ok_or(Error::Damaged("bill without its entry"))?;
    let bill: Bill = decode(body, "Bill")?;
    let known = contract::load(&mut *db, &found.pool, no, false).await?;
    let (_, offer) = known.and_then(|known| known.offer).ok_or(Error::Damaged("bill without an offer"))?;
    let month = Month::of(&offer.tariff.calendar, bill.period_end)?;
    if period.is_some_and(|period| period != month.name) {
        return Ok(None);
    }
    let mut corrections = Vec::new();
    // One that a mended bill needed and that did not go far enough counts, too: what is due follows from all of them.
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Correction.number()) {
        let Some(body) = papers.get(&entry.name.hash) else { continue };
        let counts = entry.refused.as_deref().is_none_or(|code| code == crate::judge::Code::Amount.name());
        if let Ok(correction) = decode::<Correction>(body, "Correction")
            && counts
            && correction.bill == own
        {
            corrections.push(correction);
        }
    }
    let paid = bill::payment(&mut *db, &bill.number).await?.is_some();
    let refunded = bill::refund(&mut *db, &bill.number).await?.is_some();
    let issued = invoice::last(&mut *db, &found.hash).await?.filter(|last| last.act == invoice::Act::Issue);
    let issued = issued.and_then(|last| last.invoice);
    Ok(Some(Billed {
        hash: own,
        due: found.due.parse()?,
        state: bill::shown((found.state, found.is_disputed), (paid, refunded)),
        corrections,
        product: offer.product_id,
        invoice: issued,
        period: (month.start, month.end),
        bill,
    }))
}
