//! A reconciliation as both programs judge and show it: the two signed statements of a file, what differs, and why. What a statement
//! is and how two are compared is `trade::reconciliation`; whose signature it must be, the callers know.

use hufu_gm::{Certificate, Signed};
use hufu_trade::{
    decode, encode,
    octets::rfc3339,
    reconciliation::{Cause, Difference, KINDS, Reconciliation, ReconciliationLine, Side, differences, sum},
};
use serde_json::{Map, Value, json};

use crate::{Error, Exit, Lang, text::Text};

/// Differences shown to a person; the JSON has all.
const SHOWN_MAX: usize = 200;

/// One side's statement.
#[derive(Clone, Debug)]
pub struct Statement {
    /// As it was signed.
    pub signed: Signed,
    /// What it says.
    pub books: Reconciliation,
    /// Whose books.
    pub side: Side,
}

impl Statement {
    /// Reads what a side signed and checks its form; the signature is [`Statement::is_by`]'s question.
    ///
    /// # Errors
    /// [`Error::Trade`].
    pub fn read(signed: Signed) -> Result<Self, Error> {
        let books: Reconciliation = decode(signed.tbs(), "Reconciliation")?;
        books.check()?;
        let side = books.side()?;
        Ok(Self { signed, books, side })
    }

    /// Whether one of these certificates signed it.
    pub fn is_by<'a>(&self, certificates: impl IntoIterator<Item = &'a Certificate>) -> bool {
        let signer = certificates.into_iter().find(|found| found.id() == self.signed.cert_id());
        signer.is_some_and(|found| self.signed.verify(found.public_key()).is_valid())
    }

    /// Whether this one answers another.
    fn answers(&self, other: &Statement) -> bool {
        self.books.other == Some(Reconciliation::digest(other.signed.tbs()))
    }
}

/// The statements of a file: DER of `SEQUENCE OF Signed`, one or two.
///
/// # Errors
/// [`Error::Trade`] for other bytes, [`Error::Input`] for more or fewer.
pub fn from_file(bytes: &[u8]) -> Result<Vec<Statement>, Error> {
    let signed: Vec<Signed> = decode(bytes, "Reconciliations")?;
    if !(1..=2).contains(&signed.len()) {
        let why = format!("{} statements; one or two expected", signed.len());
        return Err(Error::Input { what: "reconciliation".to_owned(), why });
    }
    signed.into_iter().map(Statement::read).collect()
}

/// The file of some statements.
///
/// # Errors
/// [`Error::Trade`] when they do not fit DER.
pub fn to_file(statements: &[&Statement]) -> Result<Vec<u8>, Error> {
    let signed: Vec<Signed> = statements.iter().map(|statement| statement.signed.clone()).collect();
    Ok(encode(&signed, "Reconciliations")?)
}

/// Two statements side by side.
#[derive(Clone, Debug)]
pub struct Comparison<'a> {
    node: &'a Reconciliation,
    platform: &'a Reconciliation,
    /// Where they differ.
    pub differences: Vec<Difference<'a>>,
}

/// Compares the statement of a node and that of its platform, of which one answers the other.
///
/// # Errors
/// [`Error::Trade`] for statements of two nodes, periods or of one side; [`Error::Input`] when neither answers the other.
pub fn compare<'a>(node: &'a Statement, platform: &'a Statement) -> Result<Comparison<'a>, Error> {
    if !platform.answers(node) && !node.answers(platform) {
        let why = "neither statement answers the other: they were not made for each other".to_owned();
        return Err(Error::Input { what: "reconciliation".to_owned(), why });
    }
    books(&node.books, &platform.books)
}

/// Compares books that nobody has signed yet, or of which one is not answered.
///
/// # Errors
/// [`Error::Trade`] for books of two nodes, periods or of one side.
pub fn books<'a>(node: &'a Reconciliation, platform: &'a Reconciliation) -> Result<Comparison<'a>, Error> {
    node.fits(platform)?;
    Ok(Comparison { node, platform, differences: differences(node, platform) })
}

/// What a side says of a log.
type LogSaid = (u64, hufu_trade::octets::Digest);

fn log_of(books: &Reconciliation, log: usize) -> LogSaid {
    if log == 0 { (books.trade_size, books.trade_root) } else { (books.finance_size, books.finance_root) }
}

/// Whether both sides rest on the same log; not known where they rest on different sizes of it.
fn is_same((size, root): LogSaid, other: LogSaid) -> Option<bool> {
    (size == other.0).then_some(root == other.1)
}

impl Comparison<'_> {
    /// 0 when the sides agree, 1 when they differ or rest on logs that have parted.
    pub fn exit(&self) -> Exit {
        if self.differences.is_empty() && !self.have_parted() { Exit::Done } else { Exit::No }
    }

    fn have_parted(&self) -> bool {
        (0..2).any(|log| is_same(log_of(self.node, log), log_of(self.platform, log)) == Some(false))
    }

    /// Node, period, logs, sums of each kind, every difference.
    ///
    /// # Errors
    /// [`Error::Trade`] when a sum is out of range.
    pub fn to_json(&self, lang: Lang) -> Result<Value, Error> {
        let mut sums = Map::new();
        for kind in KINDS {
            let [own, other] = [sum(self.node, kind)?, sum(self.platform, kind)?]
                .map(|(count, amount)| json!({ "count": count, "amount_cny": amount }));
            sums.insert(kind.name().to_owned(), json!({ "node": own, "platform": other }));
        }
        let mut logs = Map::new();
        for (log, name) in [(0, "trade"), (1, "finance")] {
            let [own, other] = [log_of(self.node, log), log_of(self.platform, log)];
            let side = |(size, root): LogSaid| json!({ "size": size, "root": root });
            logs.insert(
                name.to_owned(),
                json!({ "node": side(own), "platform": side(other), "same": is_same(own, other) }),
            );
        }
        let differences: Vec<Value> = self.differences.iter().map(|found| difference(found, lang)).collect();
        Ok(json!({
            "node": self.node.computing_pool_id,
            "from": rfc3339(self.node.from),
            "until": rfc3339(self.node.until),
            "made_at": { "node": rfc3339(self.node.time), "platform": rfc3339(self.platform.time) },
            "logs": logs,
            "sums": sums,
            "differences": differences,
        }))
    }

    /// The same for a person.
    ///
    /// # Errors
    /// As [`Comparison::to_json`].
    pub fn to_text(&self, lang: Lang) -> Result<String, Error> {
        let (node, from) = (self.node.computing_pool_id.clone(), rfc3339(self.node.from));
        let mut lines = vec![Text::Reconciled { node, from, until: rfc3339(self.node.until) }.render(lang)];
        for kind in KINDS {
            let [(count, amount), (theirs, due)] = [sum(self.node, kind)?, sum(self.platform, kind)?];
            if count + theirs > 0 {
                let (kind, node) = (kind.name().to_owned(), format!("{count}, {amount}"));
                lines.push(Text::ReconciledSum { kind, node, platform: format!("{theirs}, {due}") }.render(lang));
            }
        }
        if self.have_parted() {
            lines.push(Text::ReconciledParted {}.render(lang));
        }
        for found in self.differences.iter().take(SHOWN_MAX) {
            let Some(line) = found.node.or(found.platform) else { continue };
            let amount = |line: Option<&ReconciliationLine>| {
                line.map_or_else(
                    || "-".to_owned(),
                    |line| line.amount.map_or_else(|| "?".to_owned(), |a| a.to_string()),
                )
            };
            let kind = line.entry_kind().map_or_else(|| line.kind.to_string(), |kind| kind.name().to_owned());
            let text = Text::ReconciledDifference {
                what: format!("{kind} {}", line.number),
                amounts: format!("{} / {}", amount(found.node), amount(found.platform)),
                why: why(found).render(lang),
            };
            lines.push(text.render(lang));
        }
        let count = self.differences.len();
        if count > SHOWN_MAX {
            lines.push(Text::ReconciledMore { count: (count - SHOWN_MAX).to_string() }.render(lang));
        }
        if self.exit() == Exit::Done {
            lines.push(Text::ReconciledSame {}.render(lang));
        }
        Ok(lines.join("\n"))
    }
}

fn difference(found: &Difference<'_>, lang: Lang) -> Value {
    let line = found.node.or(found.platform);
    let side = |line: &ReconciliationLine| json!({ "amount_cny": line.amount, "at": rfc3339(line.time), "entry": line.entry, "refused": line.refused });
    json!({
        "kind": line.and_then(ReconciliationLine::entry_kind).map(|kind| kind.name()),
        "number": line.map(|line| &line.number),
        "contract_no": line.map(|line| line.contract_no),
        "node": found.node.map(side),
        "platform": found.platform.map(side),
        "cause": found.cause,
        "why": why(found).render(lang),
    })
}

fn why(found: &Difference<'_>) -> Text {
    match found.cause {
        Cause::NotSent => Text::CauseNotSent {},
        Cause::Lost => Text::CauseLost {},
        Cause::NotConfirmed => Text::CauseNotConfirmed {},
        Cause::NotRecorded => Text::CauseNotRecorded {},
        Cause::Refused => {
            let code = found.platform.and_then(|line| line.refused.clone()).unwrap_or_default();
            Text::CauseRefused { code }
        }
        Cause::Amount => Text::CauseAmount {},
        Cause::Time => Text::CauseTime {},
        Cause::Entry => Text::CauseEntry {},
        Cause::Missing => Text::CauseMissing {},
    }
}
