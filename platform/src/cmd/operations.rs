//! `hufu-platform operations`: what users did here, and whether the chain of it holds.

use std::{collections::BTreeMap, path::PathBuf};

use hufu_audit::{Exit, Failure};
use hufu_gm::Certificate;
use serde_json::json;

use super::{
    DirArgs, Outcome, failed,
    lists::{self, List},
    open,
};
use crate::{account, cli::Context, identity, text::Text};

/// Which, or whether they hold.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) place: DirArgs,
    /// Check the whole chain: numbers without gaps, hashes, signatures under the certificates of --cert
    #[arg(long, requires = "cert")]
    pub(super) check: bool,
    /// The platform's certificate (PEM), the first of the file; for the check, once for each that it ever had
    #[arg(long, value_name = "F")]
    pub(super) cert: Vec<PathBuf>,
}

/// Exit status 1 when the chain does not hold.
pub(super) async fn run(args: &Args, context: &Context) -> Outcome {
    if !args.check {
        return lists::show(List::Operations, &args.place, context).await;
    }
    let mut known: Vec<Certificate> = Vec::new();
    for path in &args.cert {
        known.extend(identity::certificates(path)?.into_iter().next());
    }
    let place = args.place.place()?;
    let store = open(&place).await?;
    let keys: BTreeMap<_, _> = known.iter().map(|one| (one.id(), one.public_key())).collect();
    let checked = async {
        let mut tx = store.read().await?;
        account::check(&mut tx, &keys).await
    };
    let checked = checked.await;
    store.close().await;
    match checked.map_err(|error| failed(&place, &error))? {
        Ok(count) => {
            let shown = json!({ "operations": count, "holds": true });
            context.show(&shown, || Text::ChainHolds { count: count.to_string() }.render(context.lang))?;
            Ok(Exit::Done)
        }
        Err((number, why)) => Err(Failure::new(Exit::No, Text::ChainBroken { number: number.to_string(), why })),
    }
}
