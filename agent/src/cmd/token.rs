//! `hufu token check`: whether a user who comes to a service with a token may enter. Offline: the platform's certificate is all
//! that is needed; whether the token was logged out meanwhile the node's `user-info` tells.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hufu_audit::{Exit, Failure};
use hufu_gm::{Signed, Usage, verify_chain};
use hufu_trade::{
    account::ACTIVE,
    decode,
    if2::Sealed,
    octets::rfc3339,
    party::is_named,
    token::{SCOPE_CONTRACT, Token},
};
use serde_json::json;

use crate::{
    clock,
    cmd::{Context, Outcome, account, file},
    text::Text,
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Check a user's token at the entry of a service: signature, audience, contract, time
    Check(Check),
}

#[derive(Args)]
pub(super) struct Check {
    /// The token: DER, or base64url as the platform gives it
    #[arg(value_name = "TOKEN")]
    token: PathBuf,
    /// The platform's certificate chain (PEM), leaf first
    #[arg(long, value_name = "F")]
    platform_cert: PathBuf,
    /// Trust anchors for the platform (PEM); may be given several times
    #[arg(long, value_name = "CA.pem", required = true)]
    trust: Vec<PathBuf>,
    /// The node whose service this is, SITE/NODE
    #[arg(long, value_name = "S/N")]
    audience: String,
    /// The contract that the user comes for; without it any
    #[arg(long, value_name = "NO")]
    contract: Option<String>,
    /// The node's configuration: its running agent says whether the user's account is still active
    #[arg(long, value_name = "F")]
    config: Option<PathBuf>,
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    let Command::Check(args) = command;
    let anchors = file::read_anchors(&args.trust)?;
    let chain = file::read_certificates(&args.platform_cert)?;
    let shown = args.token.display().to_string();
    let malformed = |why: String| Failure::new(Exit::Malformed, Text::Malformed { path: shown.clone(), why });
    let bytes = file::read(&args.token)?;
    let text = std::str::from_utf8(&bytes).ok().map(|text| format!("\"{}\"", text.trim().trim_matches('"')));
    let der =
        text.and_then(|text| serde_json::from_str::<Sealed>(&text).ok()).map_or_else(|| bytes.clone(), |der| der.0);
    let signed = Signed::from_bytes(&der).map_err(|e| malformed(e.to_string()))?;
    let token: Token = decode(signed.tbs(), "Token").map_err(|e| malformed(e.to_string()))?;
    let now_ns = clock::now().real_ns;
    if let Err(why) = judge(args, (&signed, &token), &chain, &anchors, now_ns) {
        return Err(Failure::new(Exit::No, Text::NotValid { path: shown, why }));
    }
    if let Some(config) = &args.config
        && let Some(why) = barred(&account::accounts(config, context)?, &token.subject)
    {
        return Err(Failure::new(Exit::No, Text::NotValid { path: shown, why }));
    }
    let contract = token.scope.strip_prefix(SCOPE_CONTRACT).unwrap_or_default().to_owned();
    let found = json!({
        "token_id": token.token_id, "user": token.subject, "contract_no": contract, "not_after": rfc3339(token.not_after),
    });
    context.show(&found, || {
        let (user, until) = (token.subject.clone(), rfc3339(token.not_after));
        Text::TokenHolds { user, contract: contract.clone(), until }.render(context.lang)
    })?;
    Ok(Exit::Done)
}

/// Why the node's accounts keep a user out. One of whom the platform told nothing comes with its token alone.
fn barred(found: &serde_json::Value, user: &str) -> Option<String> {
    let mut accounts = found["accounts"].as_array().into_iter().flatten();
    let state = accounts.find(|account| account["user"] == user)?["state"].as_str()?;
    (state != ACTIVE).then(|| format!("the account of {user} is {state}"))
}

/// Why the user may not enter.
fn judge(
    args: &Check,
    (signed, token): (&Signed, &Token),
    chain: &[hufu_gm::Certificate],
    anchors: &[hufu_gm::Certificate],
    now_ns: i64,
) -> Result<(), String> {
    let (leaf, rest) = chain.split_first().ok_or("no certificate of a platform")?;
    verify_chain(leaf, rest, anchors, &[], now_ns, Usage::Signing).map_err(|e| e.to_string())?;
    if signed.cert_id() != leaf.id() || !signed.verify(leaf.public_key()).is_valid() {
        return Err("it is not signed by this platform".to_owned());
    }
    if !is_named(leaf, &token.issuer) {
        return Err(format!("the certificate does not name {}", token.issuer));
    }
    token.holds(&args.audience, now_ns).map_err(|e| e.to_string())?;
    let scope = token.scope.strip_prefix(SCOPE_CONTRACT).ok_or("it is no user's token")?;
    match &args.contract {
        Some(contract) if contract != scope => Err(format!("it is for contract {scope}")),
        _ => Ok(()),
    }
}
