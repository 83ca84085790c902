//! `hufu verify`: the four verdicts over a pack. Judging is `hufu-audit`'s; here are only files, trust and the statement.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use hufu_audit::{Error, Failure, Options, Policy, limits::PACK_BYTES_MAX, verify};

use super::{Context, Outcome, file};
use crate::text::Text;

/// What is to be verified, and whom the reader trusts.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The evidence pack
    #[arg(value_name = "PACK")]
    pack: PathBuf,
    /// PEM file of trust anchors; may be given several times
    #[arg(long, value_name = "CA.pem", required = true)]
    trust: Vec<PathBuf>,
    /// Every signature must also pass the second implementation (libsm)
    #[arg(long)]
    cross_check: bool,
    /// Deal, usage and bill must be confirmed by so many nodes, the platform's receipt counting as one; or by so many of those named
    #[arg(long, value_name = "K[:NAME,NAME]")]
    witnesses: Option<Policy>,
}

/// Exit status 0 when nothing fails, 1 when a verdict does, 65 when there is no pack in the file.
pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let anchors = file::read_anchors(&args.trust)?;
    let pack = read_pack(&args.pack)?;
    let options = Options { cross_check: args.cross_check, witnesses: args.witnesses.as_ref() };
    let verdicts = verify(std::io::Cursor::new(pack), &anchors, options).map_err(|e| failure(&args.pack, &e))?;
    context.show(&verdicts.to_json(context.lang), || verdicts.to_text(context.lang))?;
    Ok(verdicts.exit())
}

/// The bytes of a pack, within the limit of any pack.
pub(super) fn read_pack(path: &Path) -> Result<Vec<u8>, Failure<Text>> {
    // A device or a pipe does not tell its size; so what is read is bounded, not what is promised.
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| file::unreadable(path, &e))?;
    file.take(PACK_BYTES_MAX.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| file::unreadable(path, &e))?;
    if u64::try_from(bytes.len()).map_or(true, |size| size > PACK_BYTES_MAX) {
        return Err(file::malformed(path, &format!("larger than {PACK_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// Why there are no verdicts over a file: there is no pack in it.
pub(super) fn failure(path: &Path, error: &Error) -> Failure<Text> {
    match error {
        Error::Unreadable { .. } | Error::TooLarge { .. } | Error::NoBill => file::malformed(path, error),
        other => super::bug(other),
    }
}
