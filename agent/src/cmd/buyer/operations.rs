//! `hufu buyer operations`: the user's account at the platform and what was noted there that it did or that concerns it (7.6), each with the
//! platform's signature, which is checked here.

use hufu_audit::{Exit, Failure};
use hufu_gm::{Certificate, Signed, Usage, verify_chain};
use hufu_trade::{
    account::Operation,
    decode,
    if2::Sealed,
    octets::{Digest, rfc3339},
    party::is_named,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Channel, Common, list::table, missing};
use crate::{
    clock,
    cmd::{Context, Outcome, bug},
    text::Text,
};

/// What the platform answers.
#[derive(Deserialize)]
struct Answered {
    user: Digest,
    #[serde(default)]
    account: Option<serde_json::Value>,
    operations: Vec<Row>,
    certificates: Vec<Sealed>,
}

#[derive(Deserialize)]
struct Row {
    number: u64,
    signed: Option<Sealed>,
}

/// An operation as it is shown: what the platform signed, and nothing else.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    operation: Operation,
    signed: Sealed,
}

/// Exit status 1 when something of it is not signed by the platform.
pub(super) fn run(common: &Common, context: &Context) -> Outcome {
    let Channel::Platform(platform) = common.channel(context)? else { return Err(missing("--platform <URL>")) };
    let (buyer, anchors) = (common.buyer()?, common.anchors()?);
    let now_ns = clock::now().real_ns;
    let at = rfc3339(now_ns);
    let signature = buyer.key.sign(format!("hufu-operations-v1\n{at}").as_bytes()).map_err(|e| bug(&e))?;
    let body = json!({ "certificates": buyer.chain(), "at": at, "signature": Sealed(signature) });
    let found: Answered = platform.post("/v1/operations", &body)?;
    let leaf = trusted(&found.certificates, &anchors, now_ns).map_err(not_valid)?;
    // What was done a moment ago may wait for its signature; it is shown next time.
    let signed = found.operations.iter().filter_map(|row| Some((row.number, row.signed.as_ref()?)));
    let shown: Vec<Shown> = signed
        .map(|(number, signed)| read(number, signed, &leaf).map_err(|why| not_valid(format!("{number}: {why}"))))
        .collect::<Result<_, _>>()?;
    let value = json!({ "user": found.user, "account": found.account, "operations": shown });
    context.show(&value, || {
        let account = found.account.as_ref().map_or_else(String::new, |account| {
            let roles: Vec<&str> =
                account["roles"].as_array().into_iter().flatten().filter_map(|role| role.as_str()).collect();
            let state = account["state"].as_str().unwrap_or_default().to_owned();
            let user = found.user.to_string();
            format!("{}\n", Text::AccountIs { user, state, roles: roles.join(", ") }.render(context.lang))
        });
        let rows = table(&Text::OperationColumns {}.render(context.lang), &shown, |one| {
            let Operation { number, time, operator, act, about, .. } = one.operation.clone();
            vec![number.to_string(), rfc3339(time), act, about, operator]
        });
        account + &rows
    })?;
    Ok(Exit::Done)
}

fn not_valid(why: String) -> Failure<Text> {
    Failure::new(Exit::No, Text::NotValid { path: "/v1/operations".to_owned(), why })
}

fn trusted(ders: &[Sealed], anchors: &[Certificate], now_ns: i64) -> Result<Certificate, String> {
    let chain: Result<Vec<_>, _> = ders.iter().map(|der| Certificate::from_der(&der.0)).collect();
    let chain = chain.map_err(|e| e.to_string())?;
    let (leaf, rest) = chain.split_first().ok_or("no certificate of the platform")?;
    verify_chain(leaf, rest, anchors, &[], now_ns, Usage::Signing).map_err(|e| e.to_string())?;
    Ok(leaf.clone())
}

fn read(number: u64, signed: &Sealed, leaf: &Certificate) -> Result<Shown, String> {
    let opened = Signed::from_bytes(&signed.0).map_err(|e| e.to_string())?;
    let operation: Operation = decode(opened.tbs(), "Operation").map_err(|e| e.to_string())?;
    operation.check().map_err(|e| e.to_string())?;
    // Under a certificate that the platform had before, whoever has that one checks it.
    if opened.cert_id() != leaf.id() || !opened.verify(leaf.public_key()).is_valid() {
        return Err("not signed under the platform's certificate".to_owned());
    }
    if !is_named(leaf, &operation.relay) || operation.number != number {
        return Err("of another platform, or another number".to_owned());
    }
    Ok(Shown { operation, signed: signed.clone() })
}
