//! `hufu ledger`: check a whole ledger from its bytes, list it, write it out, prove an entry. It only reads, and may run
//! beside the agent. Whether a bill is right is `hufu verify`'s question.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use clap::{Subcommand, ValueEnum};
use hufu_audit::{Exit, Failure};
use hufu_gm::{Hash, PublicKey, Signed};
use hufu_ledger::{
    CheckOptions, Checkpoint, Closed, Entry, Error, HeldBlock, HeldEntry, Ledger, Log, LogReport, Report, check,
    merkle, verify_checkpoint,
};
use hufu_trade::{
    decode,
    entry::{EXPORT, EntryKind, Epoch, READ},
    octets::{ContractNo, Octets, rfc3339},
};
use serde_json::{Value, json};

use crate::{
    cmd::{Context, Outcome, bug, erase, file, key, ledger_keys::Keys, ledger_model, ledger_restore},
    text::Text,
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Check every byte, link, root and signature
    Check {
        /// The ledger's directory
        dir: PathBuf,
        /// Trust anchor (PEM); may be given several times. Without it: self-consistent only
        #[arg(long, value_name = "CA.pem")]
        trust: Vec<PathBuf>,
        /// A signed checkpoint (DER) that somebody kept; may be given several times
        #[arg(long, value_name = "F")]
        checkpoint: Vec<PathBuf>,
    },
    /// List the entries
    Show {
        /// The ledger's directory
        dir: PathBuf,
    },
    /// Write blocks and entries out as DER files
    Export {
        /// The ledger's directory
        dir: PathBuf,
        /// Directory to make
        #[arg(long, value_name = "D")]
        out: PathBuf,
    },
    /// Put back what copies of a ledger hold that lost blocks; run hufu init --recover before where all of it is lost
    Restore(ledger_restore::Args),
    /// Prove that an entry is in the log
    Prove {
        /// The ledger's directory
        dir: PathBuf,
        /// Which log
        #[arg(long, value_enum)]
        log: LogArg,
        /// Height of the block
        #[arg(long)]
        height: u64,
        /// Index of the entry in its block
        #[arg(long, default_value_t = 0)]
        index: u32,
    },
    /// The paper's formulas (1) and (2): the chance to replace the blocks of a trade
    Risk(ledger_model::RiskArgs),
    /// The paper's formulas (3) to (5): what the blocks of a trade cost on this machine
    Cost(ledger_model::CostArgs),
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum LogArg {
    /// The trade log
    Trade,
    /// The finance log
    Finance,
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Check { dir, trust, checkpoint } => check_all(dir, trust, checkpoint, context),
        Command::Show { dir } => show(dir, context),
        Command::Export { dir, out } => export(dir, out, context),
        Command::Prove { dir, log, height, index } => {
            let log = match log {
                LogArg::Trade => Log::Trade,
                LogArg::Finance => Log::Finance,
            };
            prove(dir, (log, *height, *index), context)
        }
        Command::Restore(args) => ledger_restore::run(args, context),
        Command::Risk(args) => ledger_model::risk(args, context),
        Command::Cost(args) => ledger_model::cost(args, context),
    }
}

/// What the ledger says about a directory, with the status it deserves.
pub(crate) fn failure(dir: &Path, error: &Error) -> Failure<Text> {
    let path = dir.display().to_string();
    match error {
        Error::InUse { .. } => Failure::new(Exit::Io, Text::LedgerInUse { path }),
        Error::Missing { .. } => Failure::new(Exit::Io, Text::LedgerMissing { path }),
        Error::Exists { .. } => Failure::new(Exit::Io, Text::LedgerThere { path }),
        Error::Io { path, source } => file::unreadable(path, source),
        Error::NoSpace { path } => file::unwritable(path, &"no space left"),
        Error::OtherNode { .. } | Error::NodeName(_) => {
            Failure::new(Exit::Config, Text::ConfigWrong { path, why: error.to_string() })
        }
        Error::Beyond { .. } => Failure::new(Exit::Usage, Text::Usage { why: error.to_string() }),
        Error::Damaged { .. } => Failure::new(Exit::No, Text::LedgerDamaged { path, why: error.to_string() }),
        other => bug(other),
    }
}

fn open(dir: &Path) -> Result<Ledger, Failure<Text>> {
    Ledger::open_read_only(dir).map_err(|e| failure(dir, &e))
}

fn kept_checkpoint(path: &Path, keys: Option<&BTreeMap<Hash, PublicKey>>) -> Result<Checkpoint, Failure<Text>> {
    let signed = Signed::from_bytes(&file::read(path)?).map_err(|e| file::malformed(path, &e))?;
    let read = match keys {
        None => Checkpoint::from_bytes(signed.tbs()),
        Some(keys) => {
            let key = keys.get(&signed.cert_id());
            let untrusted = || Text::SignerUntrusted { path: path.display().to_string() };
            verify_checkpoint(&signed, key.ok_or_else(|| Failure::new(Exit::No, untrusted()))?)
        }
    };
    read.map_err(|e| file::malformed(path, &e))
}

/// The place that an entry opens an epoch at: log, height, epoch.
fn opens(kind: u16, body: &[u8]) -> Option<(u8, u64, u64)> {
    let epoch = (kind == EntryKind::Epoch.number()).then(|| decode::<Epoch>(body, "Epoch").ok())??;
    Some((epoch.log, epoch.held, epoch.epoch))
}

fn check_all(dir: &Path, trust: &[PathBuf], kept: &[PathBuf], context: &Context) -> Outcome {
    let anchors = file::read_anchors(trust)?;
    let told = Keys::read(dir, (!anchors.is_empty()).then_some(&anchors));
    let keys = (!anchors.is_empty()).then_some(&told.known);
    let checkpoints: Vec<Checkpoint> = kept.iter().map(|path| kept_checkpoint(path, keys)).collect::<Result<_, _>>()?;
    let key_of = |id: &Hash| keys.and_then(|keys| keys.get(id).cloned());
    let may_sign = |log: Log, height: u64, id: &Hash| told.may_sign(log, height, id);
    let options = CheckOptions {
        key_of: keys.is_some().then_some(&key_of as &dyn Fn(&Hash) -> Option<PublicKey>),
        may_sign: Some(&may_sign),
        opens: Some(&opens),
        checkpoints: &checkpoints,
        ..CheckOptions::default()
    };
    let report = check(dir, &options).map_err(|e| failure(dir, &e))?;
    if keys.is_none() {
        context.say(&Text::SelfConsistentOnly {});
    }
    context.show(&report_json(&report, (keys.is_some(), &told)), || report_text(&report, &told, context))?;
    let holds = report.problems.is_empty() && told.refused.is_empty() && told.meters.refused.is_empty();
    Ok(if holds { Exit::Done } else { Exit::No })
}

fn log_json(log: &LogReport) -> Value {
    json!({ "size": log.size.to_string(), "root": log.root.map(hex::encode), "head_time": log.head_time.map(rfc3339) })
}

fn report_json(report: &Report, (trusted, keys): (bool, &Keys)) -> Value {
    let rotations =
        keys.refused.iter().map(|(height, why)| json!({ "where": format!("trade height {height}"), "what": why }));
    let problems = report.problems.iter().map(|p| json!({ "where": p.place(), "what": p.fault.to_string() }));
    let meters = keys.meters.refused.iter().map(|(place, why)| json!({ "where": place, "what": why }));
    let problems = problems.chain(rotations).chain(meters);
    let set_aside = report
        .set_aside
        .iter()
        .map(|tail| json!({ "segment": tail.segment, "offset": tail.offset.to_string(), "length": tail.length.to_string(), "sm3": hex::encode(tail.sm3) }));
    let first_bad = report.first_bad_block();
    json!({
        "node": report.node,
        "trust": if trusted { "anchored" } else { "self-consistent only" },
        "logs": { "trade": log_json(&report.logs.trade), "finance": log_json(&report.logs.finance) },
        "segments": report.segments,
        "entries": report.entries,
        "sealed": report.sealed,
        "erased": report.erased,
        "signatures": report.signatures,
        "set_aside": set_aside.collect::<Vec<_>>(),
        "first_bad": first_bad.map(|(log, height)| json!({ "log": log.to_string(), "height": height.to_string() })),
        "problems": problems.collect::<Vec<_>>(),
    })
}

fn report_text(report: &Report, keys: &Keys, context: &Context) -> String {
    let mut out = String::new();
    for log in Log::ALL {
        let found = report.logs.of(log);
        let root = found.root.map_or_else(|| "-".to_owned(), hex::encode);
        let time = found.head_time.map_or_else(|| "-".to_owned(), rfc3339);
        out.push_str(&format!("{log}: {} · {root} · {time}\n", found.size));
    }
    if let Some((log, height)) = report.first_bad_block() {
        let first = Text::LedgerFirstBad { log: log.to_string(), height: height.to_string() };
        out.push_str(&format!("{}\n", first.render(context.lang)));
    }
    for problem in &report.problems {
        out.push_str(&format!("{problem}\n"));
    }
    for (height, why) in &keys.refused {
        out.push_str(&format!("trade height {height}: {why}\n"));
    }
    for (place, why) in &keys.meters.refused {
        out.push_str(&format!("{place}: {why}\n"));
    }
    let count = |n: usize| n.to_string();
    let (entries, signatures) = (report.entries.to_string(), report.signatures.to_string());
    let problems = count(report.problems.len() + keys.refused.len() + keys.meters.refused.len());
    let summary = Text::LedgerChecked { entries, signatures, problems };
    out.push_str(&summary.render(context.lang));
    out
}

/// The name of an entry kind in file names and lists.
fn kind_name(kind: u16) -> String {
    EntryKind::from_number(kind).map_or_else(|| format!("kind{kind}"), |kind| kind.name().to_owned())
}

/// Calls `each` with every block, in order, log after log.
fn walk(
    (dir, ledger): (&Path, &Ledger),
    mut each: impl FnMut(Log, u64, &HeldBlock) -> Result<(), Failure<Text>>,
) -> Result<(), Failure<Text>> {
    for log in Log::ALL {
        for height in 0..ledger.size(log) {
            each(log, height, &ledger.held(log, height).map_err(|e| failure(dir, &e))?)?;
        }
    }
    Ok(())
}

/// The ledger as it may be read: with its personal entries only when the agent beside it has written down that they are read
/// (`read`) or written out (`export`), and otherwise without.
fn open_announced(dir: &Path, act: &str, context: &Context) -> Result<Ledger, Failure<Text>> {
    let (ledger, closed) = (open(dir)?, open(dir)?.without_keys());
    let (mut contracts, mut count) = (BTreeSet::new(), 0_u64);
    walk((dir, &closed), |_, _, block| {
        for key in block.entries().iter().filter_map(sealed_under) {
            if contracts.contains(&key) || !ledger.is_erased(&key).map_err(|e| failure(dir, &e))? {
                contracts.insert(key);
                count += 1;
            }
        }
        Ok(())
    })?;
    let contracts: Vec<ContractNo> = contracts.iter().map(contract_of).collect();
    let why = format!("hufu ledger, {act}");
    match erase::announce(&erase::socket_beside(dir), (act, &why), &contracts, context) {
        Ok(()) => Ok(ledger),
        Err(failure) => {
            let why = failure.text.render(context.lang);
            context.say(&Text::SealedShown { count: count.to_string(), why });
            Ok(closed)
        }
    }
}

fn sealed_under(entry: &HeldEntry) -> Option<[u8; 32]> {
    match entry {
        HeldEntry::Sealed { key, .. } => Some(*key),
        HeldEntry::Plain(_) => None,
    }
}

/// The contract a key of the ledger stands for.
fn contract_of(key: &[u8; 32]) -> ContractNo {
    let mut no = [0; 16];
    no.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    Octets(no)
}

/// What an entry is called in a list, and of which contract it is if it cannot be read.
fn called(entry: &HeldEntry) -> (String, Option<String>) {
    match entry {
        HeldEntry::Plain(bytes) => (kind_name(Entry::from_bytes(bytes).map_or(0, |entry| entry.kind)), None),
        HeldEntry::Sealed { key, closed } => {
            let name = if *closed == Closed::Erased { "erased" } else { "sealed" };
            (name.to_owned(), Some(contract_of(key).to_string()))
        }
    }
}

fn show(dir: &Path, context: &Context) -> Outcome {
    let (mut rows, mut lines) = (Vec::new(), String::new());
    let ledger = open_announced(dir, READ, context)?;
    walk((dir, &ledger), |log, height, block| {
        let time = rfc3339(block.header().time);
        for (place, entry) in block.entry_refs().iter().zip(block.entries()) {
            let ((name, contract), hash) = (called(entry), hex::encode(place.hash));
            if context.json {
                let log = log.to_string();
                rows.push(json!({
                    "log": log, "height": height.to_string(), "index": place.index, "kind": name, "time": time, "hash": hash,
                    "sealed_for": contract,
                }));
            } else {
                lines.push_str(&format!("{log:8} {height:>8} {:>3}  {name:14} {time:32} {hash}\n", place.index));
            }
        }
        Ok(())
    })?;
    context.show(&json!({ "entries": rows }), || lines)?;
    Ok(Exit::Done)
}

fn export(dir: &Path, out: &Path, context: &Context) -> Outcome {
    let ledger = open_announced(dir, EXPORT, context)?;
    std::fs::create_dir(out).map_err(|e| file::unwritable(out, &e))?;
    let (blocks_dir, entries_dir) = (out.join("blocks"), out.join("entries"));
    file::make_dir(&blocks_dir)?;
    file::make_dir(&entries_dir)?;
    let (mut blocks, mut entries, mut sealed) = (0_u64, 0_u64, 0_u64);
    let write = |path: PathBuf, bytes: &[u8]| std::fs::write(&path, bytes).map_err(|e| file::unwritable(&path, &e));
    walk((dir, &ledger), |log, height, block| {
        // Of a block with entries that stay sealed the signed header is written: it and the other entries' hashes prove the rest.
        if block.entries().iter().all(|entry| entry.plain().is_some()) {
            let bytes = ledger.block(log, height).map_err(|e| failure(dir, &e))?;
            write(blocks_dir.join(format!("{log}-{height}.der")), &bytes)?;
        } else {
            let bytes = block.signed().to_bytes().map_err(|e| bug(&e))?;
            write(blocks_dir.join(format!("{log}-{height}.header.der")), &bytes)?;
        }
        blocks += 1;
        for (place, entry) in block.entry_refs().iter().zip(block.entries()) {
            let Some(bytes) = entry.plain() else {
                sealed += 1;
                continue;
            };
            let (name, _) = called(entry);
            write(entries_dir.join(format!("{log}-{height}-{}-{name}.der", place.index)), bytes)?;
            entries += 1;
        }
        Ok(())
    })?;
    let path = out.display().to_string();
    context.show(&json!({ "dir": path, "blocks": blocks, "entries": entries, "sealed": sealed }), || {
        let (blocks, entries) = (blocks.to_string(), entries.to_string());
        Text::LedgerExported { path: path.clone(), blocks, entries }.render(context.lang)
    })?;
    Ok(Exit::Done)
}

fn prove(dir: &Path, (log, height, index): (Log, u64, u32), context: &Context) -> Outcome {
    let ledger = open(dir)?.without_keys();
    // A proof is over hashes: it needs no key, and holds for what was erased.
    let block = ledger.held(log, height).map_err(|e| failure(dir, &e))?;
    let beyond = || Failure::new(Exit::Usage, Text::NoEntry { index: index.to_string(), height: height.to_string() });
    let refs = block.entry_refs();
    let entry = usize::try_from(index).ok().and_then(|index| refs.get(index)).ok_or_else(beyond)?;
    let entry_path = block.entry_path(index).ok_or_else(beyond)?;
    let size = ledger.size(log);
    let block_path = ledger.prove(log, height, size).map_err(|e| failure(dir, &e))?;
    let proof = json!({
        "log": log.to_string(),
        "height": height.to_string(),
        "index": index,
        "entry_hash": hex::encode(entry.hash),
        "entry_path": merkle::path_to_text(&entry_path).lines().collect::<Vec<_>>(),
        "block_root": hex::encode(block.header().root),
        "block_hash": hex::encode(block.hash()),
        "block_path": merkle::path_to_text(&block_path).lines().collect::<Vec<_>>(),
        "size": size.to_string(),
        "root": hex::encode(ledger.root(log)),
    });
    context.show(&proof, || key::lines(&proof))?;
    Ok(Exit::Done)
}
