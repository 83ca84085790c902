//! `hufu-platform notice`: the platform's own word in a contract, where the rule table gives it one (to revoke a service, to
//! uphold a bill). It is kept here; `serve` has the key, signs it and sends it until the node answers.

use hufu_audit::{Exit, Failure};
use hufu_trade::{
    decode,
    notice::Notice,
    octets::{ContractNo, Octets, rfc3339},
    rules::Party,
};
use serde_json::json;
use sqlx::AnyConnection;

use super::{DirArgs, Outcome, in_database_noted};
use crate::{
    cli::Context,
    error::{Error, hash},
    judge::notice::is_notice,
    store::{bill, contract, notice},
    text::Text,
};

/// Which contract, what, why.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The contract's number, 32 hexadecimal digits
    #[arg(value_name = "CONTRACT_NO")]
    pub(super) contract_no: String,
    /// What the platform does: an act of the contract's rule table, for example revoke or uphold
    #[arg(value_name = "ACT")]
    pub(super) act: String,
    #[command(flatten)]
    pub(super) place: DirArgs,
    /// Why, for the buyer and the site
    #[arg(long, value_name = "T")]
    pub(super) why: String,
    /// The bill it is about, if it is about one
    #[arg(long, value_name = "BILL_NO")]
    pub(super) bill: Option<String>,
}

pub(super) async fn run(args: &Args, now_ns: i64, context: &Context) -> Outcome {
    let kept = keep(args, now_ns).await?;
    let contract = kept.contract_no.to_string();
    let shown = json!({
        "contract_no": contract, "node": kept.computing_pool_id, "act": kept.act, "why": kept.why,
        "made_at": rfc3339(kept.time), "answer": "waiting",
    });
    context.show(&shown, || Text::NoticeKept { contract, act: kept.act }.render(context.lang))?;
    Ok(Exit::Done)
}

/// Checks and keeps what the arguments say.
pub(super) async fn keep(args: &Args, now_ns: i64) -> Result<Notice, Failure<Text>> {
    let usage = |why: String| Failure::new(Exit::Usage, Text::Usage { why });
    let no = ContractNo::from_hex(&args.contract_no);
    let no = no.ok_or_else(|| usage("CONTRACT_NO: 32 hexadecimal digits expected".to_owned()))?;
    let told = (args.act.as_str(), args.bill.as_deref(), args.why.as_str());
    let noted = ("notice", args.contract_no.as_str(), &*format!("{}: {}", args.act, args.why));
    let work = async |db: &mut AnyConnection| record(db, no, told, now_ns).await;
    in_database_noted(&args.place, noted, now_ns, work).await
}

/// Keeps a notice; the same one again, while it waits for its answer, is the same answer.
///
/// # Errors
/// [`Error`] from the database; inside, why it is refused.
pub(crate) async fn record(
    db: &mut AnyConnection,
    no: ContractNo,
    (act, bill, why): (&str, Option<&str>, &str),
    now_ns: i64,
) -> Result<Result<Notice, Text>, Error> {
    let (contract_no, act) = (no.to_string(), act.to_owned());
    let Some(pool) = contract::node_of(&mut *db, no).await? else {
        return Ok(Err(Text::UnknownContract { contract: contract_no }));
    };
    let bill = match bill {
        None => None,
        Some(number) => match bill::find(&mut *db, number).await?.filter(|found| found.contract == no.0) {
            Some(found) => Some(Octets(hash(&found.hash)?)),
            None => return Ok(Err(Text::UnknownBill { number: number.to_owned() })),
        },
    };
    if let Some(tbs) = notice::waiting(&mut *db, no).await? {
        let before: Notice = decode(&tbs, "Notice")?;
        return Ok(if before.act == act && before.bill == bill {
            Ok(before)
        } else {
            Err(Text::NoticeWaits { contract: contract_no, act: before.act })
        });
    }
    let course = contract::course(&mut *db, &pool, no).await?;
    let (contract, table) = course.ok_or(Error::Damaged("contract without a rule table"))?;
    let Some((deal, _)) = contract.deal.filter(|_| is_notice(&table, &contract.state, &act, Some(Party::Platform)))
    else {
        return Ok(Err(Text::NoSuchAct { act, state: contract.state }));
    };
    let notice = Notice {
        version: 1,
        contract_no: no,
        computing_pool_id: pool,
        deal,
        act,
        time: now_ns,
        bill,
        renewal: None,
        why: why.trim().to_owned(),
    };
    if let Err(error) = notice.check() {
        return Ok(Err(Text::Usage { why: error.to_string() }));
    }
    notice::add(&mut *db, &notice).await?;
    Ok(Ok(notice))
}
