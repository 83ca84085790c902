//! `hufu pack`: writes the evidence pack of a bill from the node's ledger, which may be in use. What a pack holds is
//! `hufu-audit`'s business.

use std::path::{Path, PathBuf};

use hufu_audit::{
    Error, Exit, Failure,
    pack::{Witnesses, build, from_ledger, witness},
};
use hufu_gm::cert::Certificate;
use hufu_ledger::{Ledger, Log, WitnessedCheckpoint, witness::COSIGNATURES_MAX};
use hufu_trade::{
    entry::{EXPORT, key_of},
    if2::peers::chain_from_bytes,
    octets::ContractNo,
};

use super::{Context, Outcome, erase, file, ledger};
use crate::{config::Config, peers, text::Text};

/// Which bill, and where the ledger is.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bill's number
    #[arg(value_name = "BILL_NO")]
    bill_no: String,
    /// Where the pack goes; a file that is there is replaced
    #[arg(short, long, value_name = "F")]
    output: PathBuf,
    /// Configuration of the node
    #[arg(long, value_name = "F", conflicts_with = "dir", default_value = "/etc/hufu/hufu.toml")]
    config: PathBuf,
    /// The ledger itself, without any configuration
    #[arg(long, value_name = "LEDGERDIR")]
    dir: Option<PathBuf>,
}

/// Where the ledger is and the certificates that may not be in it.
struct Source {
    dir: PathBuf,
    node: Vec<Vec<u8>>,
    platform: Vec<Vec<u8>>,
    /// Where the agent is asked.
    socket: PathBuf,
}

/// The pack is written beside its place and renamed, so there is a whole one or none.
pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let source = source(args)?;
    let open = || Ledger::open_read_only(&source.dir).map_err(|e| ledger::failure(&source.dir, &e));
    let collect = |ledger: &Ledger| from_ledger(ledger, &args.bill_no, &source.node, &source.platform);
    let input = match collect(&open()?.without_keys()) {
        // The buyer's own entries are in a pack: who else reads them is written down first, by the agent that holds the pen.
        Err(Error::Ledger(hufu_ledger::Error::NoKeys { .. })) => {
            let ledger = open()?;
            let contract = args.bill_no.split_once('-').and_then(|(no, _)| ContractNo::from_hex(no));
            let no =
                contract.ok_or_else(|| Failure::new(Exit::No, Text::BillUnknown { number: args.bill_no.clone() }))?;
            if ledger.is_erased(&key_of(Some(no))).map_err(|e| ledger::failure(&source.dir, &e))? {
                return Err(Failure::new(Exit::No, Text::ErasedBill { number: args.bill_no.clone() }));
            }
            let why = format!("evidence pack of bill {}", args.bill_no);
            erase::announce(&source.socket, (EXPORT, &why), &[no], context)?;
            collect(&ledger)
        }
        collected => collected,
    };
    let mut input = input.map_err(|e| failure(&source.dir, &e))?;
    // A ledger of years takes its time to open: only where somebody follows this node, once more.
    if peers::thread::dir_of(&source.dir).is_dir() {
        let ledger = open()?;
        for log in [Log::Trade, Log::Finance] {
            let kept = witnesses(&source.dir, ledger.node(), log)?;
            witness(&mut input, &ledger, kept).map_err(|e| failure(&source.dir, &e))?;
        }
    }
    let mut pack = std::io::Cursor::new(Vec::new());
    build(&input, &mut pack).map_err(|e| failure(&source.dir, &e))?;
    file::replace(&args.output, pack.get_ref())?;
    let shown = args.output.display().to_string();
    context.show(&serde_json::json!({ "file": shown }), || shown.clone())?;
    Ok(Exit::Done)
}

fn source(args: &Args) -> Result<Source, Failure<Text>> {
    if let Some(dir) = &args.dir {
        let socket = erase::socket_beside(dir);
        return Ok(Source { dir: dir.clone(), node: Vec::new(), platform: Vec::new(), socket });
    }
    let config = Config::load(&args.config)?;
    let ders = |path: &Path| -> Result<Vec<Vec<u8>>, Failure<Text>> {
        let certificates = file::read_certificates(path)?;
        Ok(certificates.iter().map(Certificate::der).map(<[u8]>::to_vec).collect())
    };
    let (node, platform) = (ders(&config.certificates)?, ders(&config.platform_certificates)?);
    Ok(Source { dir: config.ledger_dir, node, platform, socket: config.socket })
}

/// What other nodes cosigned of a log: the newest checkpoint of each number of witnesses.
fn witnesses(ledger: &Path, node: &str, log: Log) -> Result<Vec<Witnesses>, Failure<Text>> {
    let dir = peers::thread::dir_of(ledger).join(peers::dir_name(node));
    let read = |name: String| -> Result<Option<(PathBuf, Vec<u8>)>, Failure<Text>> {
        let path = dir.join(name);
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            _ => file::read(&path).map(|bytes| Some((path, bytes))),
        }
    };
    let mut kept = Vec::new();
    for count in 1..=COSIGNATURES_MAX {
        let Some((path, bytes)) = read(peers::file_of(log, count))? else { continue };
        let Some((listed, chain)) = read(peers::certificates_of(log, count))? else { continue };
        let checkpoint = WitnessedCheckpoint::from_bytes(&bytes).map_err(|e| file::malformed(&path, &e))?;
        let certificates = chain_from_bytes(&chain).map_err(|e| file::malformed(&listed, &e))?;
        kept.push(Witnesses { checkpoint, certificates });
    }
    Ok(kept)
}

fn failure(dir: &Path, error: &Error) -> Failure<Text> {
    match error {
        Error::Ledger(source) => ledger::failure(dir, source),
        Error::UnknownBill { number } => Failure::new(Exit::No, Text::BillUnknown { number: number.clone() }),
        Error::Input { .. } | Error::Trade(_) | Error::Gm(_) => file::malformed(dir, error),
        other => super::bug(other),
    }
}
