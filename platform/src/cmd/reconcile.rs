//! `hufu-platform reconcile`: the platform's half of a reconciliation. Shows the newest pair that was signed for a period, or answers the
//! node's statement of a file; before there is one, the money that the node's log does not tell of yet.

use std::path::PathBuf;

use hufu_audit::{
    Exit, Failure,
    reconciliation::{Comparison, Statement, books as compare_books, compare, from_file, to_file},
};
use hufu_gm::Signed;
use hufu_trade::{if2::segment_ok, period::named, reconciliation::Side};

use super::{DirArgs, Outcome, in_database};
use crate::{
    cli::{Context, bug},
    file,
    identity::Identity,
    reconciliation::{answer, books},
    store::{node, reconciliation},
    text::Text,
};

/// Which node and period, and whose statement is answered.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) place: DirArgs,
    /// The node, SITE/NODE
    #[arg(long, value_name = "S/N")]
    pub(super) node: String,
    /// Month YYYY-MM, day YYYY-MM-DD, or two times of RFC 3339 in UTC with / between them
    #[arg(long, value_name = "P")]
    pub(super) period: String,
    /// Time zone of months and days
    #[arg(long, value_name = "ZONE", default_value = "Asia/Shanghai")]
    pub(super) zone: String,
    /// Answer the node's statement in this file; its signature is checked
    #[arg(long, value_name = "F", requires_all = ["key", "cert", "trust"])]
    pub(super) with: Option<PathBuf>,
    /// File to write: the pair of signed statements
    #[arg(short, long, value_name = "F")]
    pub(super) out: Option<PathBuf>,
    /// The platform's secret key file, or credential:NAME for one that systemd hands over
    #[arg(long, value_name = "F", requires = "with")]
    pub(super) key: Option<PathBuf>,
    /// File with the password of an encrypted key in one line, mode 0600, or credential:NAME
    #[arg(long, value_name = "F", requires = "key")]
    pub(super) key_password: Option<PathBuf>,
    /// The platform's certificate chain (PEM), leaf first
    #[arg(long, value_name = "F", requires = "with")]
    pub(super) cert: Option<PathBuf>,
    /// Trust anchors for nodes and buyers (PEM); may be given several times
    #[arg(long, value_name = "CA.pem", requires = "with")]
    pub(super) trust: Vec<PathBuf>,
}

/// Exit status 0 when both sides agree, 1 when they differ.
pub(super) async fn run(args: &Args, now_ns: i64, context: &Context) -> Outcome {
    let usage = |why: String| Failure::new(Exit::Usage, Text::Usage { why });
    let period = named(&args.zone, &args.period).map_err(|e| usage(e.to_string()))?;
    let site = args.node.split_once('/').filter(|(site, name)| segment_ok(site) && segment_ok(name));
    let (site, _) = site.ok_or_else(|| Failure::new(Exit::Usage, Text::NotANode { node: args.node.clone() }))?;
    let pair = match &args.with {
        Some(path) => Some(answered(args, (path, site), period, now_ns).await?),
        None => kept(args, period).await?,
    };
    let Some((theirs, own)) = pair else { return unsigned(args, period, now_ns, context).await };
    let found = compare(&theirs, &own).map_err(|e| bug(&e))?;
    if let Some(out) = &args.out {
        file::replace(out, &to_file(&[&theirs, &own]).map_err(|e| bug(&e))?)?;
    }
    show(&found, true, context)
}

/// The answer to the statement of a file, which is kept.
async fn answered(
    args: &Args,
    (path, site): (&PathBuf, &str),
    period: (i64, i64),
    now_ns: i64,
) -> Result<(Statement, Statement), Failure<Text>> {
    let malformed =
        |why: String| Failure::new(Exit::Malformed, Text::Malformed { path: path.display().to_string(), why });
    let found = from_file(&file::read(path)?).map_err(|e| malformed(e.to_string()))?;
    let [theirs] = &found[..] else { return Err(malformed("one statement expected, the node's".to_owned())) };
    if (theirs.books.from, theirs.books.until) != period {
        return Err(malformed("it is of another period".to_owned()));
    }
    let (Some(key), Some(cert)) = (&args.key, &args.cert) else { return Err(malformed("no key".to_owned())) };
    let identity = Identity::load(site, (key, args.key_password.as_deref(), cert), &args.trust, now_ns)?;
    let bytes = theirs.signed.to_bytes().map_err(|e| bug(&e))?;
    in_database(&args.place, async |db| {
        if !node::is_known(&mut *db, &args.node).await? {
            return Ok(Err(Text::UnknownNode { node: args.node.clone() }));
        }
        let answer = answer(&mut *db, &identity, now_ns, (&args.node, &bytes)).await?;
        Ok(answer.map_err(|refusal| Text::ReconciliationNot {
            code: refusal.code.name().to_owned(),
            why: refusal.why.to_string(),
        }))
    })
    .await
}

/// The newest pair of the period.
async fn kept(args: &Args, (from, until): (i64, i64)) -> Result<Option<(Statement, Statement)>, Failure<Text>> {
    in_database(&args.place, async |db| {
        if !node::is_known(&mut *db, &args.node).await? {
            return Ok(Err(Text::UnknownNode { node: args.node.clone() }));
        }
        let Some(kept) = reconciliation::last(&mut *db, (&args.node, from, until)).await? else { return Ok(Ok(None)) };
        let read = |bytes: &[u8]| Ok::<_, crate::error::Error>(Statement::read(Signed::from_bytes(bytes)?)?);
        Ok(Ok(Some((read(&kept.node)?, read(&kept.platform)?))))
    })
    .await
}

/// Before the node has signed anything: its log as far as it is here.
async fn unsigned(args: &Args, period: (i64, i64), now_ns: i64, context: &Context) -> Outcome {
    let both = in_database(&args.place, async |db| {
        let theirs = books(&mut *db, &args.node, period, (Side::Node, None), now_ns).await?;
        let own = books(&mut *db, &args.node, period, (Side::Platform, None), now_ns).await?;
        Ok(Ok((theirs, own)))
    })
    .await?;
    let found = compare_books(&both.0, &both.1).map_err(|e| bug(&e))?;
    show(&found, false, context)
}

fn show(found: &Comparison<'_>, is_signed: bool, context: &Context) -> Outcome {
    let mut value = found.to_json(context.lang).map_err(|e| bug(&e))?;
    value["signed"] = is_signed.into();
    let mut text = found.to_text(context.lang).map_err(|e| bug(&e))?;
    if !is_signed {
        text = format!("{}\n{text}", Text::ReconciliationHere {}.render(context.lang));
    }
    context.show(&value, || text)?;
    Ok(found.exit())
}
