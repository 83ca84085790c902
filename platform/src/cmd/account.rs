//! `hufu-platform account`: the operator makes or changes a user's account. `serve` has the key: it signs it and tells the nodes.

use hufu_audit::{Exit, Failure};
use hufu_trade::octets::{Digest, rfc3339};
use serde_json::json;

use super::{DirArgs, Outcome, in_database};
use crate::{
    account as accounts,
    cli::Context,
    store::{account, node, operation::Done},
    text::Text,
};

/// Longest reason, characters.
const WHY_CHARS: usize = 200;

/// Whose account, and what it is from now on.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The user: the id of its certificate, 64 hexadecimal digits (hufu cert show)
    #[arg(value_name = "CERT_ID")]
    pub(super) user: String,
    #[command(flatten)]
    pub(super) place: DirArgs,
    /// What the user may do: buyer, operator, provider, with commas between them; without it as before, buyer for a new one
    #[arg(long, value_name = "ROLES", value_delimiter = ',', value_parser = ["buyer", "operator", "provider"])]
    pub(super) roles: Vec<String>,
    /// Whether it may: active, suspended or closed; without it as before
    #[arg(long, value_name = "STATE", value_parser = ["active", "suspended", "closed"])]
    pub(super) state: Option<String>,
    /// Tell this node, SITE/NODE, too; may be given several times. Nodes where the user came to buy are told anyway
    #[arg(long, value_name = "S/N")]
    pub(super) node: Vec<String>,
    /// Why, for the record
    #[arg(long, value_name = "T")]
    pub(super) why: String,
}

pub(super) async fn run(args: &Args, now_ns: i64, context: &Context) -> Outcome {
    let usage = |why: String| Failure::new(Exit::Usage, Text::Usage { why });
    let user = Digest::from_hex(&args.user);
    let user = user.ok_or_else(|| usage("CERT_ID: 64 hexadecimal digits expected".to_owned()))?;
    let why = args.why.trim();
    if !(1..=WHY_CHARS).contains(&why.chars().count()) || why.chars().any(char::is_control) {
        return Err(usage(format!("--why: 1 to {WHY_CHARS} printable characters expected")));
    }
    let stored = in_database(&args.place, async |db| {
        for node in &args.node {
            if !node::is_known(&mut *db, node).await? {
                return Ok(Err(Text::UnknownNode { node: node.clone() }));
            }
        }
        let before = account::find(&mut *db, user).await?;
        let stored = accounts::changed(before.as_ref(), args.roles.clone(), args.state.clone());
        if before.as_ref().is_none_or(|before| (&before.roles, &before.state) != (&stored.roles, &stored.state)) {
            let (operator, about) = (accounts::local_operator(), user.to_string());
            let why = format!("{} {}: {why}", stored.roles.join(","), stored.state);
            let done = Done { operator: &operator, act: "account", about: &about, concerns: Some(user), why: &why };
            let number = accounts::note(&mut *db, &done, now_ns).await?;
            account::put(&mut *db, user, &stored, (number, now_ns)).await?;
        }
        for node in &args.node {
            account::tell(&mut *db, user, node).await?;
        }
        Ok(Ok(account::find(&mut *db, user).await?.unwrap_or(stored)))
    })
    .await?;
    let (user, roles, state) = (user.to_string(), stored.roles.join(", "), stored.state.clone());
    let shown = json!({
        "user": user, "revision": stored.revision, "roles": stored.roles, "state": stored.state, "at": rfc3339(now_ns),
    });
    context.show(&shown, || Text::AccountIs { user, roles, state }.render(context.lang))?;
    Ok(Exit::Done)
}
