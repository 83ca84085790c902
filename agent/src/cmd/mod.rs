//! The command line: flags every command has, dispatch, and how results and failures reach a person or a program.
//! What a command does is in its own file.

mod account;
mod benchmark;
mod buyer;
mod capacity;
mod cert;
mod cms;
mod correct;
mod demo;
mod dispute;
mod doctor;
mod erase;
mod file;
mod firmware;
mod fork;
mod help;
mod help_market;
mod init;
mod key;
mod layout;
mod ledger;
mod ledger_keys;
mod ledger_meters;
mod ledger_model;
mod ledger_restore;
mod manual;
mod meter;
mod node;
mod pack;
mod password;
mod peers;
mod pki;
mod reconcile;
mod report;
mod rotate;
mod sample;
mod seal;
mod signer;
mod sm2;
mod stamp;
mod term;
mod token;
mod trust;
mod usage;
mod verify;

use std::{
    ffi::OsString,
    io::{ErrorKind, Write},
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use hufu_audit::{Exit, Failure, Lang};
use serde::Serialize;

use crate::text::Text;

/// What a command returns: the exit status, or the status with the line for stderr.
pub(crate) type Outcome = Result<Exit, Failure<Text>>;

/// Metering, billing and evidence agent for sold computing power.
#[derive(Parser)]
#[command(name = "hufu", version, disable_help_subcommand = true, arg_required_else_help = false)]
struct Cli {
    /// One JSON object on stdout; messages go to stderr
    #[arg(long, global = true)]
    json: bool,
    /// Language of messages: en or zh; default from the locale
    #[arg(long, global = true, value_name = "LANG", value_parser = ["en", "zh"])]
    lang: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The whole main job on this machine: sell, meter, bill, verify
    Demo(demo::Args),
    /// Meter one workload and say what it used
    Meter(meter::Args),
    /// Show what this server has and what can be metered
    Capacity(capacity::Args),
    /// Show what this node's configuration would offer
    Products(node::ConfigArgs),
    /// Set up a node
    Init(Box<init::Args>),
    /// Run the daemon
    Agent(node::AgentArgs),
    /// Check configuration, keys and certificates
    CheckConfig(node::ConfigArgs),
    /// Ask the running daemon
    Status(node::ConfigArgs),
    /// Look at server and installation: what is, what is needed, what to do
    Doctor(node::ConfigArgs),
    /// Hold the node's key apart from the daemon, and sign for it over a local socket
    Signer(signer::Args),
    /// Make, request for and show keys
    #[command(subcommand)]
    Key(key::Command),
    /// A small test certificate authority
    #[command(subcommand)]
    Pki(pki::Command),
    /// Show and check certificates, with a directory if there is one
    #[command(subcommand)]
    Cert(cert::Command),
    /// Messages of GM/T 0010: sign, verify, encrypt, decrypt
    #[command(subcommand)]
    Cms(cms::Command),
    /// Electronic seals of GB/T 38540: make, use, check
    #[command(subcommand)]
    Seal(seal::Command),
    /// Time-stamps of RFC 3161 over SM3: get, check, answer
    #[command(subcommand)]
    Stamp(stamp::Command),
    /// Bare SM2: sign, verify, encrypt, decrypt
    #[command(subcommand)]
    Sm2(sm2::Command),
    /// Accounts of the platform at this node
    #[command(subcommand)]
    Account(account::Command),
    /// Tokens with which users enter services
    #[command(subcommand)]
    Token(token::Command),
    /// The node's burnt-in record
    #[command(subcommand)]
    Firmware(firmware::Command),
    /// Deals and scores of the nodes that this one follows
    Peers(node::ConfigArgs),
    /// Proofs that a node showed two pasts of its log
    #[command(subcommand)]
    Fork(fork::Command),
    /// Check, list, write out and prove a ledger; the paper's model
    #[command(subcommand)]
    Ledger(ledger::Command),
    /// Write the evidence pack of a bill
    Pack(pack::Args),
    /// Reach the four verdicts over an evidence pack
    Verify(verify::Args),
    /// Write the page a person reads: usage, costs, verdicts, signers
    Report(report::Args),
    /// Where two evidence packs of one contract part
    Dispute(dispute::Args),
    /// Compare orders, bills and money of a period with the platform's books, signed by both
    Reconcile(reconcile::Args),
    /// Take something off a bill in dispute
    Correct(correct::Args),
    /// Make everything personal of a contract unreadable on this node
    Erase(erase::Args),
    /// The buyer's side: browse, order, score, fetch evidence
    #[command(subcommand)]
    Buyer(buyer::Command),
    /// Completions for a shell, on standard output
    Completions(manual::CompletionsArgs),
    #[command(name = "__manual", hide = true)]
    Manual(manual::ManualArgs),
    #[command(name = meter::ENTER, hide = true)]
    Enter(meter::EnterArgs),
    #[command(name = "__provision", hide = true)]
    Provision(demo::ProvisionArgs),
    #[command(name = "__workload", hide = true)]
    Workload(demo::WorkloadArgs),
}

/// What every command is given besides its own flags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    /// JSON on stdout instead of text.
    pub(crate) json: bool,
    /// Language of messages.
    pub(crate) lang: Lang,
}

/// Reads the arguments and does what they say.
pub(crate) fn run(arguments: &[OsString], lang: Lang) -> Outcome {
    let command = match lang {
        Lang::En => Cli::command(),
        Lang::Zh => help::in_chinese(Cli::command()),
    };
    let parsed = command.try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return usage::explain(&error),
    };
    let context = Context { json: cli.json, lang };
    match &cli.command {
        Command::Demo(args) => demo::run(args, &context),
        Command::Meter(args) => meter::run(args, &context),
        Command::Capacity(args) => capacity::run(args, &context),
        Command::Products(args) => node::products(args, &context),
        Command::Init(args) => init::run(args, &context),
        Command::Agent(args) => node::agent(args),
        Command::CheckConfig(args) => node::check_config(args, &context),
        Command::Status(args) => node::status(args, &context),
        Command::Doctor(args) => doctor::run(args, &context),
        Command::Enter(args) => meter::enter(args),
        Command::Provision(args) => demo::provision(args),
        Command::Workload(args) => demo::workload(args),
        Command::Signer(args) => signer::run(args, &context),
        Command::Key(command) => key::run(command, &context),
        Command::Pki(command) => pki::run(command, &context),
        Command::Cert(command) => cert::run(command, &context),
        Command::Cms(command) => cms::run(command, &context),
        Command::Seal(command) => seal::run(command, &context),
        Command::Stamp(command) => stamp::run(command, &context),
        Command::Peers(args) => peers::run(args, &context),
        Command::Fork(command) => fork::run(command, &context),
        Command::Reconcile(args) => reconcile::run(args, &context),
        Command::Sm2(command) => sm2::run(command, &context),
        Command::Account(command) => account::run(command, &context),
        Command::Token(command) => token::run(command, &context),
        Command::Firmware(command) => firmware::run(command, &context),
        Command::Ledger(command) => ledger::run(command, &context),
        Command::Pack(args) => pack::run(args, &context),
        Command::Verify(args) => verify::run(args, &context),
        Command::Report(args) => report::run(args, &context),
        Command::Dispute(args) => dispute::run(args, &context),
        Command::Correct(args) => correct::run(args, &context),
        Command::Erase(args) => erase::run(args, &context),
        Command::Buyer(command) => buyer::run(command, &context),
        Command::Completions(args) => manual::completions(args, Cli::command(), &context),
        Command::Manual(args) => manual::manual(args, Cli::command()),
    }
}

impl Context {
    /// Shows a result: `value` as one JSON object with `--json`, `text` otherwise. A reader that went away is no failure.
    pub(crate) fn show(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure<Text>> {
        let mut shown = if self.json { serde_json::to_string(value).map_err(|e| bug(&e))? } else { text() };
        if !shown.is_empty() && !shown.ends_with('\n') {
            shown.push('\n');
        }
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(shown.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Failure::new(Exit::Io, Text::FileUnwritable { path: "stdout".to_owned(), why: error.to_string() }))
            }
            _ => Ok(()),
        }
    }

    /// Says something on stderr that is no failure.
    pub(crate) fn say(&self, text: &Text) {
        complain(&text.render(self.lang));
    }
}

/// One line on stderr; a closed stderr is nobody's business.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "hufu: {}", line.replace('\n', " "));
}

/// No core file of this process, and no debugger of another one of its user: its memory holds a key.
pub(crate) fn keep_memory_private() {
    // Kernels before 6.4 say in /proc/self/auxv where their clock is, and from here on that file is root's.
    crate::clock::now();
    let set = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    if let Err(error) = set {
        tracing::warn!(%error, "a crash may leave a core file");
    }
}

/// What is wrong with a key file, with the status it deserves.
pub(crate) fn key_file_failure(path: &std::path::Path, error: &hufu_gm::Error) -> Failure<Text> {
    file::gm_failure(path, error)
}

/// A failure that can only be our own fault.
pub(crate) fn bug(why: &dyn std::fmt::Display) -> Failure<Text> {
    Failure::new(Exit::Software, Text::Bug { why: why.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_table_is_well_formed() {
        Cli::command().debug_assert();
        help::in_chinese(Cli::command()).debug_assert();
    }
}
