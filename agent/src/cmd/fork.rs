//! `hufu fork`: judges a proof that a node showed two pasts of its log, offline, and takes it apart for openssl. What a proof is, is the
//! ledger's; whose certificate counts, the reader's anchors.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use hufu_audit::{Exit, Failure, fork::signers};
use hufu_gm::PublicKey;
use hufu_ledger::{BlockHeader, Checkpoint, ForkProof, Parted};
use hufu_trade::octets::{Octets, rfc3339};
use serde_json::{Value, json};

use super::{Context, Outcome, file};
use crate::text::Text;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Judge a fork proof: both statements are the node's, and exclude each other
    Verify {
        /// The proof
        #[arg(value_name = "FILE")]
        proof: PathBuf,
        /// Trust anchors for the node (PEM); may be given several times
        #[arg(long, value_name = "CA.pem", required = true)]
        trust: Vec<PathBuf>,
    },
    /// Show what a fork proof says, and write its parts out for openssl
    Show {
        /// The proof
        #[arg(value_name = "FILE")]
        proof: PathBuf,
        /// Directory for first.der, first.sig, second.der, second.sig and certificates
        #[arg(long, value_name = "D")]
        out: Option<PathBuf>,
    },
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Verify { proof, trust } => verify(proof, trust, context),
        Command::Show { proof, out } => show(proof, out.as_deref(), context),
    }
}

fn read(path: &Path) -> Result<ForkProof, Failure<Text>> {
    ForkProof::from_bytes(&file::read(path)?).map_err(|e| file::malformed(path, &e))
}

/// Exit status 0 when it convicts its node, 1 when it does not, 65 when it is no proof.
fn verify(path: &Path, trust: &[PathBuf], context: &Context) -> Outcome {
    let (proof, anchors) = (read(path)?, file::read_anchors(trust)?);
    let keys = signers(&proof, &anchors);
    let key_of = |id: &hufu_gm::Hash| -> Option<PublicKey> {
        keys.iter().find(|(known, _)| known == id).map(|(_, key)| key.clone())
    };
    let (parted, why) = match proof.judge(&key_of) {
        Ok(Some(parted)) => (Some(parted), None),
        Ok(None) => (None, Some("the two statements do not exclude each other".to_owned())),
        Err(error) if keys.is_empty() => {
            (None, Some(format!("no certificate in it names the node and leads to an anchor: {error}")))
        }
        Err(error) => (None, Some(error.to_string())),
    };
    let mut value = described(&proof);
    value["result"] = if parted.is_some() { "valid" } else { "invalid" }.into();
    value["why"] = why.clone().into();
    value["parted"] = match parted {
        Some(Parted::Height(height)) => json!({ "height": height.to_string() }),
        Some(Parted::Size(size)) => json!({ "size": size.to_string() }),
        None => Value::Null,
    };
    context.show(&value, || {
        let (node, log) = (proof.node.clone(), proof.log.to_string());
        let text = match (parted, why) {
            (Some(Parted::Height(height)), _) => Text::ForkHeight { node, log, height: height.to_string() },
            (Some(Parted::Size(size)), _) => Text::ForkSize { node, log, size: size.to_string() },
            (None, why) => Text::ForkNot { node, why: why.unwrap_or_default() },
        };
        text.render(context.lang)
    })?;
    Ok(if parted.is_some() { Exit::Done } else { Exit::No })
}

/// What the proof says, without judging it.
fn described(proof: &ForkProof) -> Value {
    let statement = |signed: &hufu_gm::Signed| {
        let header = BlockHeader::from_bytes(signed.tbs()).ok().map(|header| {
            json!({
                "kind": "header", "height": header.height.to_string(), "epoch": header.epoch.to_string(),
                "at": rfc3339(header.time), "root": Octets(header.root), "previous": Octets(header.previous),
            })
        });
        let checkpoint = Checkpoint::from_bytes(signed.tbs()).ok().map(|checkpoint| {
            json!({
                "kind": "checkpoint", "size": checkpoint.size.to_string(), "epoch": checkpoint.epoch.to_string(),
                "at": rfc3339(checkpoint.time), "root": Octets(checkpoint.root),
            })
        });
        header.or(checkpoint)
    };
    json!({
        "node": proof.node,
        "log": proof.log.to_string(),
        "first": statement(&proof.first),
        "second": statement(&proof.second),
    })
}

fn show(path: &Path, out: Option<&Path>, context: &Context) -> Outcome {
    let proof = read(path)?;
    if let Some(out) = out {
        file::make_dir(out)?;
        for (name, signed) in [("first", &proof.first), ("second", &proof.second)] {
            file::replace(&out.join(format!("{name}.der")), signed.tbs())?;
            file::replace(&out.join(format!("{name}.sig")), signed.signature())?;
        }
        for (number, der) in (1..).zip(&proof.certificates) {
            let certificate = hufu_gm::Certificate::from_der(der.as_bytes()).map_err(|e| file::malformed(path, &e))?;
            // The one that signed is told from its issuers by name: openssl wants to know whose key it takes.
            let signed = [&proof.first, &proof.second].iter().any(|signed| signed.cert_id() == certificate.id());
            let name = if signed { format!("signer-{number}.pem") } else { format!("issuer-{number}.pem") };
            file::replace(&out.join(name), certificate.to_pem().as_bytes())?;
        }
    }
    let value = described(&proof);
    context.show(&value, || super::key::lines(&value))?;
    Ok(Exit::Done)
}
