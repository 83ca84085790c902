//! `hufu account list`: the accounts that the platform told this node. Making and changing them is the platform's.

use std::path::Path;

use clap::Subcommand;
use hufu_audit::{Exit, Failure};
use serde_json::Value;

use super::{
    Context, Outcome, buyer,
    node::{self, ConfigArgs},
};
use crate::{config::Config, local::Question, text::Text};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List the users that the platform told this node of, with roles and state
    List(ConfigArgs),
}

/// Exit status 69 without an agent.
pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    let Command::List(args) = command;
    let found = accounts(&args.config, context)?;
    context.show(&found, || text(&found, context))?;
    Ok(Exit::Done)
}

/// What the running agent says of its accounts.
///
/// # Errors
/// Those of the configuration; 69 without an agent, 1 when it refuses.
pub(super) fn accounts(config: &Path, context: &Context) -> Result<Value, Failure<Text>> {
    let config = Config::load(config)?;
    let mut said = node::ask(&config.socket, &Question::Accounts)?;
    match serde_json::from_value(said["error"].take()) {
        Ok(problem) => Err(buyer::refusal(&problem, context.lang)),
        Err(_) => {
            said.as_object_mut().map(|object| object.remove("error"));
            Ok(said)
        }
    }
}

fn text(found: &Value, context: &Context) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(Text::AccountColumns {}.render(context.lang).split('|'));
    for account in found["accounts"].as_array().into_iter().flatten() {
        let roles: Vec<&str> = account["roles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let named = |name: &str| account[name].as_str().unwrap_or_default().to_owned();
        table.add_row([named("user"), roles.join(", "), named("state"), named("changed_at")]);
    }
    table.to_string()
}
