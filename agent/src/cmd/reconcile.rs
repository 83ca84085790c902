//! `hufu reconcile`: the node's half of a reconciliation. What its ledger holds of a period is signed with the node's key, given to the
//! platform or into a file, and compared with what the platform signs. What differs and why is `hufu-audit`'s.

use std::path::{Path, PathBuf};

use clap::Args as Flags;
use hufu_audit::{
    Exit, Failure,
    reconciliation::{Statement, compare, from_file, to_file},
};
use hufu_gm::{Certificate, Signed};
use hufu_ledger::{Closed, Entry, HeldEntry, Ledger, Log};
use hufu_trade::{
    bill::Bill,
    correction::{Correction, RefundPaid},
    decode, encode,
    entry::{Deal, EXPORT, EntryKind, EntryName, FinanceLink, Payment},
    if2::Sealed,
    money::Money,
    octets::{ContractNo, Octets, rfc3339},
    period::named,
    reconciliation::{LINES_MAX, Reconciliation, ReconciliationLine, Side},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Context, Outcome, bug, buyer::Platform, erase, file, ledger};
use crate::{clock, config::Config, text::Text};

/// Which period, and how the platform is reached.
#[derive(Flags)]
pub(crate) struct Args {
    /// Month YYYY-MM, day YYYY-MM-DD, or two times of RFC 3339 in UTC with / between them
    #[arg(long, value_name = "P")]
    period: String,
    /// Time zone of months and days
    #[arg(long, value_name = "ZONE", default_value = "Asia/Shanghai")]
    zone: String,
    /// Compare with the platform there, http://HOST:PORT
    #[arg(long, value_name = "URL", conflicts_with = "with")]
    platform: Option<String>,
    /// Compare with the platform's statement in this file, or the pair of statements in it
    #[arg(long, value_name = "F")]
    with: Option<PathBuf>,
    /// File to write: this node's statement, or the pair
    #[arg(short, long, value_name = "F", required_unless_present_any = ["platform", "with"])]
    out: Option<PathBuf>,
    /// The configuration file
    #[arg(long, value_name = "F", default_value = "/etc/hufu/hufu.toml")]
    config: PathBuf,
}

/// What is asked of the platform.
#[derive(Serialize)]
struct Asked {
    reconciliation: Sealed,
}

/// What it answers.
#[derive(Deserialize)]
struct Answered {
    reconciliation: Sealed,
}

/// Exit status 0 when both sides agree or a statement was written, 1 when they differ.
pub(super) fn run(args: &Args, context: &Context) -> Outcome {
    let wrong = |e: hufu_trade::Error| {
        let (argument, value) = ("--period".to_owned(), args.period.clone());
        Failure::new(Exit::Usage, Text::ArgumentValue { argument, value, expected: e.to_string() })
    };
    let period = named(&args.zone, &args.period).map_err(wrong)?;
    let config = Config::load(&args.config)?;
    let trusted = file::read_certificates(&config.platform_certificates)?;
    let (own, other) = match (&args.with, &args.platform) {
        (Some(path), _) => with_file(&config, path, period, context)?,
        (None, Some(url)) => {
            let own = statement(&config, period, None, context)?;
            let asked = Asked { reconciliation: Sealed(own.signed.to_bytes().map_err(|e| bug(&e))?) };
            let platform = Platform::at(url, context.lang)?;
            let answer: Answered =
                platform.post(&format!("/v1/nodes/{}/reconciliation", own.books.computing_pool_id), &asked)?;
            let malformed = |why: &dyn std::fmt::Display| file::malformed(Path::new(url), why);
            let signed = Signed::from_bytes(&answer.reconciliation.0).map_err(|e| malformed(&e))?;
            let other = Statement::read(signed).map_err(|e| malformed(&e))?;
            (own, Some(other))
        }
        (None, None) => (statement(&config, period, None, context)?, None),
    };
    if let Some(out) = &args.out {
        let both: Vec<&Statement> = std::iter::once(&own).chain(&other).collect();
        file::replace(out, &to_file(&both).map_err(|e| bug(&e))?)?;
    }
    let Some(other) = other else {
        let path = args.out.as_deref().unwrap_or(Path::new("-")).display().to_string();
        let lines = own.books.lines.len();
        context.show(&json!({ "file": path, "lines": lines }), || {
            Text::ReconciliationWritten { path: path.clone(), lines: lines.to_string() }.render(context.lang)
        })?;
        return Ok(Exit::Done);
    };
    if other.side != Side::Platform || !other.is_by(&trusted) {
        return Err(Failure::new(Exit::No, Text::NotThePlatform {}));
    }
    let source = args.with.clone().unwrap_or_else(|| PathBuf::from(args.platform.as_deref().unwrap_or("-")));
    let found = compare(&own, &other).map_err(|e| file::malformed(&source, &e))?;
    let value = found.to_json(context.lang).map_err(|e| bug(&e))?;
    let text = found.to_text(context.lang).map_err(|e| bug(&e))?;
    context.show(&value, || text)?;
    Ok(found.exit())
}

/// The pair of a file that the platform has answered; or its lone statement, which this node answers now.
fn with_file(
    config: &Config,
    path: &Path,
    period: (i64, i64),
    context: &Context,
) -> Result<(Statement, Option<Statement>), Failure<Text>> {
    let found = from_file(&file::read(path)?).map_err(|e| file::malformed(path, &e))?;
    if found.iter().any(|one| (one.books.from, one.books.until) != period) {
        return Err(file::malformed(path, &"it is of another period"));
    }
    let (mut own, mut other): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| one.side == Side::Node);
    let (Some(other), true) = (other.pop(), other.is_empty()) else {
        return Err(file::malformed(path, &"no statement of the platform in it"));
    };
    match own.pop() {
        Some(own) => {
            let certificates = file::read_certificates(&config.certificates)?;
            if own.is_by(&certificates) {
                Ok((own, Some(other)))
            } else {
                Err(file::malformed(path, &"the node's statement in it is not signed by this node's key"))
            }
        }
        None => Ok((statement(config, period, Some(&other), context)?, Some(other))),
    }
}

/// What this node's ledger holds of a period, signed.
fn statement(
    config: &Config,
    (from, until): (i64, i64),
    answered: Option<&Statement>,
    context: &Context,
) -> Result<Statement, Failure<Text>> {
    let dir = &config.ledger_dir;
    let failed = |e: hufu_ledger::Error| ledger::failure(dir, &e);
    let open = || Ledger::open_read_only(dir).map_err(failed);
    let books = Books { period: (from, until) };
    let mut ledger = open()?.without_keys();
    let mut found = books.read(&ledger).map_err(failed)?;
    if !found.sealed.is_empty() {
        // Payments are personal: who reads them is written down first, by the agent that holds the pen.
        let why = format!("reconciliation {} to {}", rfc3339(from), rfc3339(until));
        found.sealed.sort_unstable();
        found.sealed.dedup();
        erase::announce(&config.socket, (EXPORT, &why), &found.sealed, context)?;
        ledger = open()?;
        found = books.read(&ledger).map_err(failed)?;
    }
    if found.lines.len() > LINES_MAX {
        let count = found.lines.len().to_string();
        return Err(Failure::new(Exit::No, Text::ReconciliationLong { count }));
    }
    let books = Reconciliation {
        version: 1,
        computing_pool_id: ledger.node().to_owned(),
        side: Side::Node as u8,
        from,
        until,
        time: clock::now().real_ns,
        trade_size: ledger.size(Log::Trade),
        trade_root: Octets(ledger.root(Log::Trade)),
        finance_size: ledger.size(Log::Finance),
        finance_root: Octets(ledger.root(Log::Finance)),
        other: answered.map(|other| Reconciliation::digest(other.signed.tbs())),
        lines: Reconciliation::sorted(found.lines),
    };
    let key = file::node_key(&config.key)?;
    let chain = file::read_certificates(&config.certificates)?;
    let leaf = chain.iter().find(|leaf| *leaf.public_key() == key.public_key());
    let leaf: &Certificate =
        leaf.ok_or_else(|| file::malformed(&config.certificates, &"not that of the node's key"))?;
    let der = encode(&books, "Reconciliation").map_err(|e| bug(&e))?;
    let signed = Signed::seal(der, &leaf.id(), &key).map_err(|e| bug(&e))?;
    Statement::read(signed).map_err(|e| bug(&e))
}

/// Reads the lines of a period.
struct Books {
    period: (i64, i64),
}

/// What was read.
#[derive(Default)]
struct Read {
    lines: Vec<ReconciliationLine>,
    /// Contracts of which money is sealed.
    sealed: Vec<ContractNo>,
}

impl Books {
    fn read(&self, ledger: &Ledger) -> Result<Read, hufu_ledger::Error> {
        let mut read = Read::default();
        let mut money = Vec::new();
        for log in [Log::Trade, Log::Finance] {
            for height in 0..ledger.size(log) {
                let block = ledger.held(log, height)?;
                for (at, held) in block.entry_refs().iter().zip(block.entries()) {
                    let Some(entry) = held.plain().and_then(|bytes| Entry::from_bytes(bytes).ok()) else { continue };
                    let name =
                        EntryName { log: at.log.number(), height: at.height, index: at.index, hash: Octets(at.hash) };
                    if let Some(link) = money_link(&entry) {
                        money.push(link);
                    }
                    self.take(&entry, name, &mut read);
                }
            }
        }
        for link in money {
            self.money(ledger, &link, &mut read)?;
        }
        Ok(read)
    }

    fn add(&self, read: &mut Read, line: ReconciliationLine) {
        if (self.period.0..self.period.1).contains(&line.time) {
            read.lines.push(line);
        }
    }

    /// Orders, bills and corrections. What does not decode is no line here; a check of the ledger finds it.
    fn take(&self, entry: &Entry, name: EntryName, read: &mut Read) {
        let line = |kind: EntryKind, number: String, contract_no, time, amount: Money| ReconciliationLine {
            kind: kind.number(),
            number,
            contract_no,
            time,
            amount: Some(amount),
            entry: Some(name.clone()),
            refused: None,
        };
        let kind = EntryKind::from_number(entry.kind);
        let found = match kind {
            Some(EntryKind::Deal) => decode::<Deal>(&entry.body, "Deal").ok().map(|deal| {
                let amount = deal.contract_value.amount;
                line(EntryKind::Deal, deal.contract_no.to_string(), deal.contract_no, deal.contract_time, amount)
            }),
            Some(EntryKind::Bill) => decode::<Bill>(&entry.body, "Bill")
                .ok()
                .map(|bill| line(EntryKind::Bill, bill.number, bill.contract_no, bill.period_end, bill.total)),
            Some(EntryKind::Correction) => decode::<Correction>(&entry.body, "Correction")
                .ok()
                .map(|made| line(EntryKind::Correction, made.number, made.contract_no, made.time, made.total)),
            _ => None,
        };
        if let Some(found) = found {
            self.add(read, found);
        }
    }

    /// A payment or refund, as far as it can be read.
    fn money(&self, ledger: &Ledger, link: &FinanceLink, read: &mut Read) -> Result<(), hufu_ledger::Error> {
        let block = ledger.held(Log::Finance, link.finance.height)?;
        let held = usize::try_from(link.finance.index).ok().and_then(|index| block.entries().get(index));
        let line = |number, time, amount| ReconciliationLine {
            kind: link.kind,
            number,
            contract_no: link.contract_no,
            time,
            amount,
            entry: Some(link.finance.clone()),
            refused: None,
        };
        match held {
            Some(HeldEntry::Plain(bytes)) => {
                let Ok(entry) = Entry::from_bytes(bytes) else { return Ok(()) };
                if let Ok(paid) = decode::<Payment>(&entry.body, "Payment") {
                    self.add(read, line(paid.number, paid.paid_at, Some(paid.amount)));
                } else if let Ok(back) = decode::<RefundPaid>(&entry.body, "RefundPaid") {
                    self.add(read, line(back.number, back.paid_at, Some(back.amount)));
                }
            }
            Some(HeldEntry::Sealed { closed: Closed::NoKeys, .. }) => read.sealed.push(link.contract_no),
            // Of what was erased nobody here knows more than its hash and the time of its block.
            Some(HeldEntry::Sealed { .. }) => {
                let number = format!("erased-{}", hex::encode(&link.finance.hash.0[..16]));
                self.add(read, line(number, block.header().time, None));
            }
            None => {}
        }
        Ok(())
    }
}

/// The trade log's word that a payment or refund stands in the finance log.
fn money_link(entry: &Entry) -> Option<FinanceLink> {
    if entry.kind != EntryKind::FinanceLink.number() {
        return None;
    }
    let link: FinanceLink = decode(&entry.body, "FinanceLink").ok()?;
    [EntryKind::Payment.number(), EntryKind::RefundPaid.number()].contains(&link.kind).then_some(link)
}
