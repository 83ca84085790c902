//! `hufu ledger restore`: puts back into a ledger that lost blocks what copies on this machine hold, each block verified. It signs nothing:
//! the next start asks the platform for the rest, hears the peers, and names what nobody has in a new epoch (`whole.rs`).

use std::path::{Path, PathBuf};

use hufu_audit::{Exit, Failure};
use hufu_ledger::{Error, Ledger, Log, Options, storage::Directory};
use serde_json::json;

use super::{Context, Outcome, file, ledger::failure, node::ConfigArgs};
use crate::{
    config::Config,
    fetch::{Trust, Unusable, continued},
    setup,
    text::Text,
    whole,
};

/// Blocks restored in one frame: the ledger takes 256, and 4 MiB.
const FRAME_BLOCKS: usize = 64;
/// Largest block file of an export that is read.
const BLOCK_BYTES_MAX: u64 = 4 << 20;

/// What is put back, and where.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// A copy of the ledger's directory (its keys beside it), or what `hufu ledger export` wrote; may be given several times
    #[arg(long, value_name = "D", required = true)]
    from: Vec<PathBuf>,
}

/// A copy that blocks come from.
enum Source {
    Ledger(Box<Ledger>),
    Export(PathBuf),
}

impl Source {
    fn open(dir: &Path) -> Result<Self, Failure<Text>> {
        let blocks = dir.join("blocks");
        if blocks.is_dir() {
            return Ok(Source::Export(blocks));
        }
        Ledger::open_read_only(dir).map(|ledger| Source::Ledger(Box::new(ledger))).map_err(|e| failure(dir, &e))
    }

    /// A block as it was signed; `None` where this copy has none that is whole.
    fn block(&self, log: Log, height: u64) -> Result<Option<Vec<u8>>, Failure<Text>> {
        match self {
            Source::Ledger(ledger) => match ledger.block(log, height) {
                Ok(bytes) => Ok(Some(bytes)),
                // Damage in a copy is a reason to look into the next one.
                Err(Error::Beyond { .. } | Error::Erased { .. } | Error::NoKeys { .. } | Error::Damaged { .. }) => {
                    Ok(None)
                }
                Err(error) => Err(failure(Path::new(ledger.node()), &error)),
            },
            Source::Export(dir) => {
                let path = dir.join(format!("{log}-{height}.der"));
                match std::fs::metadata(&path) {
                    Ok(found) if found.len() <= BLOCK_BYTES_MAX => file::read(&path).map(Some),
                    _ => Ok(None),
                }
            }
        }
    }
}

/// Exit status 1 when a copy holds blocks that are not this node's, or of another past than what is here.
pub(super) fn run(args: &Args, context: &Context) -> Outcome {
    let config = Config::load(&args.config.config)?;
    let material = setup::material(&config)?;
    let dir = &config.ledger_dir;
    let sources = args.from.iter().map(|dir| Source::open(dir)).collect::<Result<Vec<_>, _>>()?;
    let (mut ledger, _) = Ledger::open(dir, &Options::new(&config.pool())).map_err(|e| failure(dir, &e))?;
    let mut trust = Trust::new(&material.identity);
    trust.learn_all(&ledger).map_err(|e| failure(dir, &e))?;
    // Before the first block: whatever happens from here on, the next start waits for the platform's word.
    whole::mark(&Directory::new(dir), "restored from copies").map_err(|e| file::unwritable(dir, &e))?;
    let mut restored = [0_u64; 2];
    for (log, count) in Log::ALL.into_iter().zip(&mut restored) {
        loop {
            let frame = frame(&sources, log, ledger.size(log))?;
            if frame.is_empty() {
                break;
            }
            let blocks: Vec<&[u8]> = frame.iter().map(Vec::as_slice).collect();
            let (kept, _) = continued(&ledger, &mut trust, log, &blocks).map_err(|why| refused(dir, why))?;
            ledger.restore(&kept).map_err(|e| failure(dir, &e))?;
            *count += u64::try_from(kept.len()).unwrap_or(0);
        }
    }
    let [trade, finance] = Log::ALL.map(|log| ledger.size(log).to_string());
    let found = json!({
        "ledger": dir.display().to_string(), "restored": restored.map(|count| count.to_string()), "trade": trade, "finance": finance,
    });
    let count = restored.iter().sum::<u64>().to_string();
    context.show(&found, || Text::LedgerRestored { count, trade, finance }.render(context.lang))?;
    Ok(Exit::Done)
}

/// The next blocks of a log, each from the first copy that has it.
fn frame(sources: &[Source], log: Log, from: u64) -> Result<Vec<Vec<u8>>, Failure<Text>> {
    let mut frame = Vec::new();
    for height in (from..).take(FRAME_BLOCKS) {
        let mut found = None;
        for source in sources {
            found = source.block(log, height)?;
            if found.is_some() {
                break;
            }
        }
        match found {
            Some(bytes) => frame.push(bytes),
            None => break,
        }
    }
    Ok(frame)
}

fn refused(dir: &Path, why: Unusable) -> Failure<Text> {
    let path = dir.display().to_string();
    Failure::new(Exit::No, Text::NotValid { path, why: why.to_string() })
}
