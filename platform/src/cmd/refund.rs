//! `hufu-platform refund`: the operator records that what was paid above a corrected bill has gone back. The node asks and
//! learns it; nothing is transferred here.

use hufu_audit::{Exit, Failure};
use hufu_trade::{money::Money, octets::rfc3339, rules::REFUND};
use serde_json::json;
use sqlx::AnyConnection;

use super::{DirArgs, Outcome, in_database_noted, pay::checked};
use crate::{
    cli::Context,
    error::Error,
    store::{
        bill::{self, Moved, State},
        contract, list,
    },
    text::Text,
};

/// Of which bill, how much, by what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bill's number
    #[arg(value_name = "BILL_NO")]
    pub(crate) bill_no: String,
    #[command(flatten)]
    pub(crate) place: DirArgs,
    /// What went back: exactly what was paid above what is due
    #[arg(long, value_name = "CNY", allow_hyphen_values = true)]
    pub(crate) amount: String,
    /// What the payment is known by, for example the bank's reference
    #[arg(long, value_name = "T")]
    pub(crate) reference: String,
}

pub(super) async fn run(args: &Args, now_ns: i64, context: &Context) -> Outcome {
    let Moved { amount, reference, at_ns } = settle(args, now_ns).await?;
    let number = args.bill_no.clone();
    let shown = json!({
        "bill_no": number, "refunded_cny": amount, "reference": reference, "state": "refunded",
        "refunded_at": rfc3339(at_ns),
    });
    context.show(&shown, || Text::Refunded { number, amount }.render(context.lang))?;
    Ok(Exit::Done)
}

/// Checks and records what the arguments say.
pub(crate) async fn settle(args: &Args, now_ns: i64) -> Result<Moved, Failure<Text>> {
    let (amount, reference) = checked(&args.amount, &args.reference)?;
    let noted = ("refund", args.bill_no.as_str(), &*format!("{amount} CNY, {reference}"));
    let work = async |db: &mut AnyConnection| record(db, &args.bill_no, amount, reference, now_ns).await;
    in_database_noted(&args.place, noted, now_ns, work).await
}

/// Records a refund; the same one again is the same answer.
///
/// # Errors
/// [`Error`] from the database; inside, why it is refused.
pub(crate) async fn record(
    db: &mut AnyConnection,
    number: &str,
    amount: Money,
    reference: &str,
    now_ns: i64,
) -> Result<Result<Moved, Text>, Error> {
    let named = || number.to_owned();
    let Some(found) = bill::find(&mut *db, number).await? else {
        return Ok(Err(Text::UnknownBill { number: named() }));
    };
    if found.state != State::Payable {
        return Ok(Err(Text::BillRefused { number: named() }));
    }
    let paid: Money = match bill::payment(&mut *db, number).await? {
        Some(paid) => paid.amount.parse()?,
        None => return Ok(Err(Text::NotPaid { number: named() })),
    };
    let over = paid.minus(found.due.parse()?)?;
    if over <= Money(0) {
        return Ok(Err(Text::NothingOver { number: named() }));
    }
    if amount != over {
        let (over, amount) = (over.to_string(), amount.to_string());
        return Ok(Err(Text::WrongRefund { number: named(), over, amount }));
    }
    if let Some(before) = bill::refund(&mut *db, number).await? {
        return Ok(if before.reference == reference {
            Ok(before)
        } else {
            Err(Text::RefundedOtherwise { number: named(), reference: before.reference })
        });
    }
    let course = contract::course(&mut *db, &found.pool, list::contract_no(&found.contract)?).await?;
    let (contract, table) = course.ok_or(Error::Damaged("bill without a contract"))?;
    if table.row(&contract.state, REFUND).is_none() {
        return Ok(Err(Text::NotRefundable { number: named(), state: contract.state }));
    }
    let back = Moved { amount: over.to_string(), reference: reference.to_owned(), at_ns: now_ns };
    bill::pay_back(&mut *db, number, &back).await?;
    Ok(Ok(back))
}
