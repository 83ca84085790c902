//! `hufu-platform pack`: writes the evidence pack of a bill from the database.

use std::path::PathBuf;

use hufu_audit::{Exit, Failure};
use serde_json::json;

use super::{DirArgs, Outcome, failed, open};
use crate::{
    cli::Context,
    error::Error,
    file,
    pack::{Lack, collect, zip},
    text::Text,
};

/// Which bill, and where the pack goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bill's number
    #[arg(value_name = "BILL_NO")]
    pub(super) bill_no: String,
    /// Where the pack goes; a file that is there is replaced
    #[arg(short, long, value_name = "F")]
    pub(super) output: PathBuf,
    #[command(flatten)]
    pub(super) place: DirArgs,
}

pub(super) async fn run(args: &Args, context: &Context) -> Outcome {
    write(args).await?;
    let shown = args.output.display().to_string();
    context.show(&json!({ "file": shown }), || shown.clone())?;
    Ok(Exit::Done)
}

/// Makes the pack and writes it.
pub(super) async fn write(args: &Args) -> Result<(), Failure<Text>> {
    let place = args.place.place()?;
    let store = open(&place).await?;
    let collected = async {
        let mut tx = store.read().await?;
        // The platform's own certificates stand in the node's log; no key or configuration is needed here.
        collect(&mut tx, &args.bill_no, &[]).await
    };
    let collected = collected.await;
    store.close().await;
    let packed = match collected {
        Ok(Ok(input)) => zip(&input),
        Ok(Err(lack)) => Ok(Err(lack)),
        Err(error) => Err(error),
    };
    let bytes = packed.map_err(|error: Error| failed(&place, &error))?.map_err(|lack| lacking(&args.bill_no, lack))?;
    file::replace(&args.output, &bytes)
}

fn lacking(number: &str, lack: Lack) -> Failure<Text> {
    let number = number.to_owned();
    Failure::new(
        Exit::No,
        match lack {
            Lack::Bill => Text::UnknownBill { number },
            Lack::Piece(why) => Text::PackIncomplete { number, why },
        },
    )
}
