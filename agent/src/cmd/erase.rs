//! `hufu erase`: everything personal of a contract that is over is made unreadable on this node, and asking leave to read
//! personal data. The running agent judges, writes it down and does it; here are only words. What is personal is
//! `crate::personal`'s business.

use std::path::{Path, PathBuf};

use hufu_audit::{Exit, Failure};
use hufu_trade::{if2::Problem, octets::ContractNo};
use serde_json::json;

use super::{Context, Outcome, buyer, correct, node};
use crate::{config::Config, local::Question, text::Text};

/// Contracts named in one question: what fits its longest.
const CONTRACTS_PER_QUESTION: usize = 1000;
/// Where an agent's socket is if its configuration does not say otherwise.
const SOCKET: &str = "hufu.sock";

/// Which contract, and why.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The contract's number
    #[arg(value_name = "CONTRACT_NO", value_parser = contract_no)]
    contract_no: ContractNo,
    /// Why, in a sentence for whoever asks later
    #[arg(long, value_name = "TEXT", value_parser = correct::why)]
    why: String,
    /// The configuration file
    #[arg(long, value_name = "F", default_value = "/etc/hufu/hufu.toml")]
    config: PathBuf,
}

fn contract_no(text: &str) -> Result<ContractNo, String> {
    ContractNo::from_hex(text).ok_or_else(|| "32 hexadecimal digits".to_owned())
}

/// Exit status 0 when it is erased, 1 when the contract is not over or not wholly acknowledged, 69 without an agent.
pub(super) fn run(args: &Args, context: &Context) -> Outcome {
    let config = Config::load(&args.config)?;
    let (contract_no, why) = (args.contract_no, args.why.clone());
    let mut said = node::ask(&config.socket, &Question::Erase { contract_no, why })?;
    if let Ok(problem) = serde_json::from_value::<Problem>(said["error"].take()) {
        return Err(buyer::refusal(&problem, context.lang));
    }
    let contract = contract_no.to_string();
    context.show(&json!({ "contract_no": contract, "erased": true }), || {
        Text::Erased { contract: contract.clone() }.render(context.lang)
    })?;
    Ok(Exit::Done)
}

/// The socket beside a ledger.
pub(super) fn socket_beside(ledger: &Path) -> PathBuf {
    let place = ledger.canonicalize().unwrap_or_else(|_| ledger.to_owned());
    place.with_file_name(SOCKET)
}

/// Has the agent write down that personal data of some contracts is read (`read`) or written out (`export`): on return it
/// stands in its ledger.
///
/// # Errors
/// Status 69 without an agent, 1 when the agent refuses: it is not this ledger's.
pub(super) fn announce(
    socket: &Path,
    (act, why): (&str, &str),
    contracts: &[ContractNo],
    context: &Context,
) -> Result<(), Failure<Text>> {
    for contracts in contracts.chunks(CONTRACTS_PER_QUESTION) {
        let (act, why, contracts) = (act.to_owned(), why.to_owned(), contracts.to_vec());
        let mut said = node::ask(socket, &Question::Reading { act, contracts, why })?;
        if let Ok(problem) = serde_json::from_value::<Problem>(said["error"].take()) {
            return Err(buyer::refusal(&problem, context.lang));
        }
    }
    Ok(())
}
