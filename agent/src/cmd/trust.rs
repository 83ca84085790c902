//! Whom a command trusts and as of when, where certificates come from, and how a judgement becomes an exit status. Shared by
//! `cms`, `seal` and `cert`.

use std::path::{Path, PathBuf};

use hufu_audit::{Exit, Failure};
use hufu_gm::{Certificate, Crl, Fault, Judgement, Trust};
use hufu_trade::octets::from_rfc3339;
use serde_json::{Value, json};

use crate::{
    clock,
    cmd::{Context, Outcome, file},
    text::Text,
};

/// Anchors, revocation lists, the instant.
#[derive(clap::Args)]
pub(super) struct TrustArgs {
    /// PEM file of trust anchors; may be given several times
    #[arg(long, value_name = "T")]
    pub(super) trust: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) when: WhenArgs,
}

/// Revocation lists and the instant.
#[derive(clap::Args)]
pub(super) struct WhenArgs {
    /// Revocation list (PEM); may be given several times
    #[arg(long, value_name = "C")]
    crl: Vec<PathBuf>,
    /// The instant to judge at, for example 2026-01-01T00:00:00Z; default now
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

/// What the arguments name, read.
pub(super) struct Trusted {
    pub(super) anchors: Vec<Certificate>,
    pub(super) known: Vec<Certificate>,
    pub(super) crls: Vec<Crl>,
    pub(super) at_ns: i64,
}

impl TrustArgs {
    /// Reads them all, at least one anchor; `known` are files of further certificates.
    pub(super) fn read(&self, known: &[PathBuf]) -> Result<Trusted, Failure<Text>> {
        if self.trust.is_empty() {
            return Err(Failure::new(Exit::Usage, Text::ArgumentMissing { argument: "--trust <T>".to_owned() }));
        }
        Ok(Trusted {
            anchors: file::read_anchors(&self.trust)?,
            known: file::read_anchors(known)?,
            crls: self.when.crls()?,
            at_ns: self.when.at_ns()?,
        })
    }
}

impl WhenArgs {
    pub(super) fn crls(&self) -> Result<Vec<Crl>, Failure<Text>> {
        let mut found = Vec::new();
        for path in &self.crl {
            found.extend(Crl::from_pem_many(&file::read_text(path)?).map_err(|e| file::gm_failure(path, &e))?);
        }
        Ok(found)
    }

    pub(super) fn at_ns(&self) -> Result<i64, Failure<Text>> {
        let Some(text) = &self.at else { return Ok(clock::now().real_ns) };
        from_rfc3339(text).ok_or_else(|| {
            let expected = "a time such as 2026-01-01T00:00:00Z".to_owned();
            Failure::new(
                Exit::Usage,
                Text::ArgumentValue { argument: "--at".to_owned(), value: text.clone(), expected },
            )
        })
    }
}

impl Trusted {
    pub(super) fn trust(&self) -> Trust<'_> {
        Trust { anchors: &self.anchors, known: &self.known, crls: &self.crls, at_ns: self.at_ns }
    }
}

/// What was judged if it is valid. Malformed is status 65; not valid is shown as such, for status 1.
pub(super) fn judged<T>(
    path: &Path,
    judgement: Judgement<T>,
    context: &Context,
) -> Result<Result<T, Exit>, Failure<Text>> {
    match judgement {
        Judgement::Valid(found) => Ok(Ok(found)),
        Judgement::Malformed(why) => Err(file::malformed(path, &why)),
        Judgement::Invalid(why) => refuse(path, &why, context).map(Err),
    }
}

/// Says that `path` is not valid, and why.
pub(super) fn refuse(path: &Path, why: &dyn std::fmt::Display, context: &Context) -> Outcome {
    let (path, why) = (path.display().to_string(), why.to_string());
    context.show(&json!({ "file": path, "result": "invalid", "reason": why }), || {
        Text::NotValid { path: path.clone(), why: why.clone() }.render(context.lang)
    })?;
    Ok(Exit::No)
}

/// What `gm` says when something cannot be made: whose fault it is decides the status.
pub(super) fn not_made(path: &Path, error: &hufu_gm::Error) -> Failure<Text> {
    match error {
        hufu_gm::Error::Randomness | hufu_gm::Error::Sign | hufu_gm::Error::Der(_) => super::bug(error),
        hufu_gm::Error::Fault(Fault::Malformed(why)) => file::malformed(path, why),
        other => Failure::new(Exit::Usage, Text::Usage { why: other.to_string() }),
    }
}

/// The certificate of a key and what stands behind it in the file: the leaf first.
pub(super) fn certificate_and_along(path: &Path) -> Result<(Certificate, Vec<Certificate>), Failure<Text>> {
    let mut all = file::read_certificates(path)?.into_iter();
    let leaf = all.next().ok_or_else(|| file::malformed(path, &"no certificate"))?;
    Ok((leaf, all.collect()))
}

/// Who a certificate is of, in a view.
pub(super) fn shown(certificate: &Certificate) -> Value {
    json!({
        "subject": certificate.subject(),
        "issuer": certificate.issuer(),
        "serial": certificate.serial_hex(),
        "id": hex::encode(certificate.id()),
    })
}
