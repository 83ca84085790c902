//! `hufu-platform pay PARENT_NO`: the operator records that money for a parent order has come in. All bills of its children that
//! are open are paid with it, or none.

use hufu_audit::{Exit, Failure};
use hufu_trade::{
    encode,
    money::Money,
    octets::{Digest, rfc3339},
    parent::{ParentNo, Payable},
};
use serde_json::json;
use sqlx::AnyConnection;

use super::{Outcome, in_database_noted, pay};
use crate::{
    cli::Context,
    error::Error,
    parent::{ParentView, read},
    store::{
        bill::{self, Moved},
        parent::{self, StoredParentBill},
    },
    text::Text,
};

/// The number of a parent order in the place of a bill's, which has a hyphen.
pub(crate) fn number(text: &str) -> Option<ParentNo> {
    ParentNo::from_hex(text).filter(|no| no.to_string() == text)
}

/// What was paid at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Paid {
    pub(crate) bill: Digest,
    pub(crate) amount: String,
    pub(crate) reference: String,
    pub(crate) at_ns: i64,
}

pub(super) async fn run(args: &pay::Args, parent: ParentNo, now_ns: i64, context: &Context) -> Outcome {
    let Paid { bill, amount, reference, at_ns } = settle(args, parent, now_ns).await?;
    let number = parent.to_string();
    let shown = json!({
        "parent_no": number, "parent_bill": bill, "amount_cny": amount, "reference": reference, "state": "paid",
        "paid_at": rfc3339(at_ns),
    });
    context.show(&shown, || Text::PaidParent { number, amount }.render(context.lang))?;
    Ok(Exit::Done)
}

/// Checks and records what the arguments say.
pub(crate) async fn settle(args: &pay::Args, parent: ParentNo, now_ns: i64) -> Result<Paid, Failure<Text>> {
    let (amount, reference) = pay::checked(&args.amount, &args.reference)?;
    let buyer = match &args.buyer {
        None => None,
        Some(text) => {
            let why = "--buyer: 64 hexadecimal digits expected".to_owned();
            let wrong = || Failure::new(Exit::Usage, Text::Usage { why });
            Some(Digest::from_hex(text).ok_or_else(wrong)?)
        }
    };
    let noted = ("pay", args.bill_no.as_str(), &*format!("{amount} CNY, {reference}"));
    let work = async |db: &mut AnyConnection| record(db, (parent, buyer), (amount, reference), now_ns).await;
    in_database_noted(&args.place, noted, now_ns, work).await
}

/// The one buyer of a parent order.
async fn buyer_of(
    db: &mut AnyConnection,
    parent: ParentNo,
    told: Option<Digest>,
) -> Result<Result<Digest, Text>, Error> {
    let number = parent.to_string();
    let mut buyers: Vec<Digest> = parent::children(db, parent, told).await?.iter().map(|child| child.buyer).collect();
    buyers.dedup();
    Ok(match buyers.as_slice() {
        [] => Err(Text::UnknownParent { number }),
        [buyer] => Ok(*buyer),
        _ => Err(Text::ParentTwice { number }),
    })
}

/// Records a payment; the same one again is the same answer.
async fn record(
    db: &mut AnyConnection,
    (parent, told): (ParentNo, Option<Digest>),
    (amount, reference): (Money, &str),
    now_ns: i64,
) -> Result<Result<Paid, Text>, Error> {
    let number = parent.to_string();
    let buyer = match buyer_of(&mut *db, parent, told).await? {
        Ok(buyer) => buyer,
        Err(text) => return Ok(Err(text)),
    };
    for before in parent::bills(&mut *db, (parent, buyer)).await? {
        if before.reference == reference && before.amount.parse::<Money>()? == amount {
            let StoredParentBill { hash: bill, amount, reference, made_at: at_ns, .. } = before;
            return Ok(Ok(Paid { bill, amount, reference, at_ns }));
        }
    }
    let view = read(&mut *db, (parent, buyer)).await?.ok_or(Error::Damaged("parent without children"))?;
    let (open, sum) = match owed(&view, (&number, amount), now_ns) {
        Ok(owed) => owed,
        Err(text) => return Ok(Err(text)),
    };
    let (hash, tbs) = (sum.hash()?, encode(&sum, "ParentBill")?);
    let stored = StoredParentBill {
        hash,
        amount: open.to_string(),
        reference: reference.to_owned(),
        made_at: now_ns,
        signed: None,
    };
    parent::add_bill(&mut *db, (parent, buyer), &stored, &tbs).await?;
    for owed in view.owed().filter(|owed| !owed.is_paid) {
        let row = &owed.child.bill;
        let paid = Moved { amount: row.due.to_string(), reference: reference.to_owned(), at_ns: now_ns };
        bill::pay(&mut *db, &row.number, &paid).await?;
        parent::pay_with(&mut *db, &row.number, hash).await?;
    }
    let StoredParentBill { amount, reference, .. } = stored;
    Ok(Ok(Paid { bill: hash, amount, reference, at_ns: now_ns }))
}

/// What is open of a parent order that may be paid now with this amount, and its bill.
fn owed(
    view: &ParentView,
    (number, amount): (&str, Money),
    now_ns: i64,
) -> Result<(Money, hufu_trade::parent::ParentBill), Text> {
    let number = || number.to_owned();
    if view.children.iter().any(|child| child.order.parent.payable == Payable::Child) {
        return Err(Text::PaidByChild { number: number() });
    }
    let wrong = |error: hufu_trade::Error| Text::ParentWrong { number: number(), why: error.to_string() };
    let sum = view.bill(now_ns).map_err(wrong)?;
    let open = view.open().map_err(wrong)?;
    if view.owed().all(|owed| owed.is_paid) {
        return Err(Text::NothingOpen { number: number() });
    }
    let stuck = view.owed().find(|owed| !owed.is_paid && !owed.may_be_paid);
    if let Some(stuck) = stuck {
        let number = stuck.child.bill.number.clone();
        return Err(Text::NotPayable { number, state: stuck.state.clone() });
    }
    if amount == open {
        return Ok((open, sum));
    }
    Err(Text::WrongAmount { number: number(), due: open.to_string(), amount: amount.to_string() })
}
