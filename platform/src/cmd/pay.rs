//! `hufu-platform pay`: the operator records that money for a bill has come in. The node asks and learns it; nothing is
//! transferred here.

use hufu_audit::{Exit, Failure};
use hufu_trade::{money::Money, octets::rfc3339, parent::Payable, rules::PAY};
use serde_json::json;
use sqlx::AnyConnection;

use super::{DirArgs, Outcome, in_database_noted};
use crate::{
    cli::Context,
    error::Error,
    store::{
        bill::{self, Moved, State},
        contract, list, parent,
    },
    text::Text,
};

/// Longest reference, characters.
const REFERENCE_CHARS: usize = 200;

/// Which bill, how much, by what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bill's number, or that of a parent order
    #[arg(value_name = "BILL_NO")]
    pub(crate) bill_no: String,
    #[command(flatten)]
    pub(crate) place: DirArgs,
    /// What was paid: exactly what is due
    #[arg(long, value_name = "CNY", allow_hyphen_values = true)]
    pub(crate) amount: String,
    /// What the payment is known by, for example the bank's reference
    #[arg(long, value_name = "T")]
    pub(crate) reference: String,
    /// Certificate id of the buyer, where two use one parent number
    #[arg(long, value_name = "ID")]
    pub(crate) buyer: Option<String>,
}

pub(super) async fn run(args: &Args, now_ns: i64, context: &Context) -> Outcome {
    let Moved { amount, reference, at_ns } = settle(args, now_ns).await?;
    let number = args.bill_no.clone();
    let shown = json!({
        "bill_no": number, "amount_cny": amount, "reference": reference, "state": "paid", "paid_at": rfc3339(at_ns),
    });
    context.show(&shown, || Text::Paid { number, amount }.render(context.lang))?;
    Ok(Exit::Done)
}

/// Checks and records what the arguments say.
pub(crate) async fn settle(args: &Args, now_ns: i64) -> Result<Moved, Failure<Text>> {
    let (amount, reference) = checked(&args.amount, &args.reference)?;
    let noted = ("pay", args.bill_no.as_str(), &*format!("{amount} CNY, {reference}"));
    let work = async |db: &mut AnyConnection| record(db, &args.bill_no, amount, reference, now_ns).await;
    in_database_noted(&args.place, noted, now_ns, work).await
}

/// The amount as money, and the reference without blanks around it.
pub(crate) fn checked<'a>(amount: &str, reference: &'a str) -> Result<(Money, &'a str), Failure<Text>> {
    let not_money = || Failure::new(Exit::Usage, Text::NotMoney { amount: amount.to_owned() });
    let amount = amount.parse::<Money>().ok().filter(|amount| amount.0 >= 0).ok_or_else(not_money)?;
    let reference = reference.trim();
    let fits = (1..=REFERENCE_CHARS).contains(&reference.chars().count()) && !reference.chars().any(char::is_control);
    if fits {
        Ok((amount, reference))
    } else {
        let why = format!("--reference: 1 to {REFERENCE_CHARS} printable characters expected");
        Err(Failure::new(Exit::Usage, Text::Usage { why }))
    }
}

/// Records a payment; the same one again is the same answer. One that the node's log does not hold gives way to the right
/// amount when the bill was corrected meanwhile.
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
    if let Some(parent) = parent::of(&mut *db, &found.contract).await?
        && parent.payable == Payable::Parent
    {
        let parent = parent.parent_no.to_string();
        return Ok(Err(Text::PaidThroughParent { number: named(), parent }));
    }
    let before = bill::payment(&mut *db, number).await?;
    if let Some(before) = before.clone().filter(|before| before.reference == reference)
        && before.amount.parse::<Money>()? == amount
    {
        return Ok(Ok(before));
    }
    if amount != found.due.parse()? {
        return Ok(Err(Text::WrongAmount { number: named(), due: found.due, amount: amount.to_string() }));
    }
    let course = contract::course(&mut *db, &found.pool, list::contract_no(&found.contract)?).await?;
    let (contract, table) = course.ok_or(Error::Damaged("bill without a contract"))?;
    let is_logged = contract.bills.iter().any(|billed| billed.paid && billed.bill.number == number);
    if let Some(before) = before.filter(|before| is_logged || before.amount == found.due) {
        return Ok(Err(Text::PaidOtherwise { number: named(), reference: before.reference }));
    }
    let hash = contract.bills.iter().find(|billed| billed.hash.0.as_slice() == found.hash).map(|billed| billed.hash);
    let act = hash.map_or(PAY, |hash| table.pay_act(contract.others_open(hash)));
    if found.is_disputed || table.row(&contract.state, act).is_none() {
        return Ok(Err(Text::NotPayable { number: named(), state: contract.state }));
    }
    let paid = Moved { amount: found.due, reference: reference.to_owned(), at_ns: now_ns };
    bill::pay(&mut *db, number, &paid).await?;
    Ok(Ok(paid))
}
