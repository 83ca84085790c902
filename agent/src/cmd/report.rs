//! `hufu report`: the page a person reads. What is on it is `hufu-audit`'s; here are only files and trust.

use std::{io::Cursor, path::PathBuf};

use hufu_audit::report;

use super::{Context, Outcome, file, verify};

/// What is to be shown, whom the reader trusts, and where the page goes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The evidence pack
    #[arg(value_name = "PACK")]
    pack: PathBuf,
    /// PEM file of trust anchors; may be given several times
    #[arg(long, value_name = "CA.pem", required = true)]
    trust: Vec<PathBuf>,
    /// Where the page goes, one HTML file; a file that is there is replaced
    #[arg(short, long, value_name = "F.html")]
    output: PathBuf,
}

/// Exit status as of `hufu verify`: the page of a pack that fails is written too, and says so.
pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let anchors = file::read_anchors(&args.trust)?;
    let pack = verify::read_pack(&args.pack)?;
    let (verdicts, html) =
        report(Cursor::new(pack), &anchors, context.lang).map_err(|e| verify::failure(&args.pack, &e))?;
    file::replace(&args.output, html.as_bytes())?;
    let shown = args.output.display().to_string();
    context.show(&serde_json::json!({ "file": shown }), || shown.clone())?;
    Ok(verdicts.exit())
}
