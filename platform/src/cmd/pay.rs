//! `hufu-platform pay`: the operator records that money for a bill has come in. The node asks and learns it; nothing is
//! transferred here.

use hufu_audit::{Exit, Failure};
use hufu_trade::{money::Money, octets::rfc3339};
use serde_json::json;
use sqlx::SqliteConnection;

use super::{DirArgs, Outcome, failed, open};
use crate::{
    cli::Context,
    error::Error,
    store::bill::{self, State},
    text::Text,
};

/// Longest reference, characters.
const REFERENCE_CHARS: usize = 200;

/// Which bill, how much, by what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bill's number
    #[arg(value_name = "BILL_NO")]
    pub(super) bill_no: String,
    #[command(flatten)]
    pub(super) place: DirArgs,
    /// What was paid: exactly the bill's total
    #[arg(long, value_name = "CNY", allow_hyphen_values = true)]
    pub(super) amount: String,
    /// What the payment is known by, for example the bank's reference
    #[arg(long, value_name = "T")]
    pub(super) reference: String,
}

/// A payment as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Paid {
    /// Decimal CNY.
    pub(super) amount: String,
    /// What it is known by.
    pub(super) reference: String,
    /// When it was recorded first, ns since 1970-01-01Z.
    pub(super) at_ns: i64,
}

pub(super) async fn run(args: &Args, now_ns: i64, context: &Context) -> Outcome {
    let Paid { amount, reference, at_ns } = settle(args, now_ns).await?;
    let number = args.bill_no.clone();
    let shown = json!({
        "bill_no": number, "amount_cny": amount, "reference": reference, "state": "paid", "paid_at": rfc3339(at_ns),
    });
    context.show(&shown, || Text::Paid { number, amount }.render(context.lang))?;
    Ok(Exit::Done)
}

/// Checks and records what the arguments say.
pub(super) async fn settle(args: &Args, now_ns: i64) -> Result<Paid, Failure<Text>> {
    let (amount, reference) = checked(args)?;
    let store = open(&args.place.dir).await?;
    let recorded = async {
        let mut tx = store.write().await?;
        let paid = record(&mut tx, &args.bill_no, amount, reference, now_ns).await?;
        tx.commit().await?;
        Ok::<_, Error>(paid)
    };
    let recorded = recorded.await;
    store.close().await;
    let paid = recorded.map_err(|error| failed(&args.place.dir, &error))?;
    paid.map_err(|text| Failure::new(Exit::No, text))
}

/// The amount as money, and the reference without blanks around it.
fn checked(args: &Args) -> Result<(Money, &str), Failure<Text>> {
    let not_money = || Failure::new(Exit::Usage, Text::NotMoney { amount: args.amount.clone() });
    let amount = args.amount.parse::<Money>().ok().filter(|amount| amount.0 >= 0).ok_or_else(not_money)?;
    let reference = args.reference.trim();
    let fits = (1..=REFERENCE_CHARS).contains(&reference.chars().count()) && !reference.chars().any(char::is_control);
    if fits {
        Ok((amount, reference))
    } else {
        let why = format!("--reference: 1 to {REFERENCE_CHARS} printable characters expected");
        Err(Failure::new(Exit::Usage, Text::Usage { why }))
    }
}

/// Records a payment; the same one again is the same answer.
async fn record(
    db: &mut SqliteConnection,
    number: &str,
    amount: Money,
    reference: &str,
    now_ns: i64,
) -> Result<Result<Paid, Text>, Error> {
    let named = || number.to_owned();
    let Some(found) = bill::find(&mut *db, number).await? else {
        return Ok(Err(Text::UnknownBill { number: named() }));
    };
    if found.state == State::Refused {
        return Ok(Err(Text::BillRefused { number: named() }));
    }
    let total: Money = found.total.parse()?;
    if amount != total {
        let (total, amount) = (total.to_string(), amount.to_string());
        return Ok(Err(Text::WrongAmount { number: named(), total, amount }));
    }
    if let Some((amount, known_by, at_ns)) = bill::payment(&mut *db, number).await? {
        return Ok(if known_by == reference {
            Ok(Paid { amount, reference: known_by, at_ns })
        } else {
            Err(Text::PaidOtherwise { number: named(), reference: known_by })
        });
    }
    bill::pay(&mut *db, number, &found.total, reference, now_ns).await?;
    Ok(Ok(Paid { amount: found.total, reference: reference.to_owned(), at_ns: now_ns }))
}
