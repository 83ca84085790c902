//! `hufu dispute`: where two packs of one contract part. Comparing is `hufu-audit`'s; here are only files and the statement.

use std::{io::Cursor, path::PathBuf};

use hufu_audit::{Error, dispute};

use super::{Context, Outcome, file, verify};

/// The two packs, and whom the reader trusts.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One evidence pack
    #[arg(value_name = "A.zip")]
    first: PathBuf,
    /// Another one of the same contract
    #[arg(value_name = "B.zip")]
    second: PathBuf,
    /// PEM file of trust anchors; may be given several times; without, nobody vouches for the certificates
    #[arg(long, value_name = "CA.pem")]
    trust: Vec<PathBuf>,
}

/// Exit status 0 when the packs agree, 1 when they part, 65 when a file is no pack or they are not of one contract.
pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let anchors = file::read_anchors(&args.trust)?;
    let (first, second) = (verify::read_pack(&args.first)?, verify::read_pack(&args.second)?);
    // Which of the two files cannot be read is found by reading the first alone.
    let found = dispute(Cursor::new(&first), Cursor::new(&second), &anchors).map_err(|error| match &error {
        Error::OtherContract { .. } => file::malformed(&args.second, &error),
        _ if hufu_audit::verify(Cursor::new(&first), &[], Default::default()).is_ok() => {
            verify::failure(&args.second, &error)
        }
        _ => verify::failure(&args.first, &error),
    })?;
    context.show(&found.to_json(context.lang), || found.to_text(context.lang))?;
    Ok(found.exit())
}
