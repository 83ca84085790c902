//! `hufu cert`: what stands in a certificate, and whether it may be trusted, with the help of a directory if one is named. Making
//! certificates is `pki.rs`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Subcommand, ValueEnum};
use hufu_audit::{Exit, Failure};
use hufu_gm::{
    Certificate, ChainError, Crl, Usage,
    directory::{Address, Directory, DirectoryError, Found, Patience},
    verify_chain,
};
use hufu_trade::octets::rfc3339;
use serde_json::{Value, json};

use crate::{
    clock,
    cmd::{
        Context, Outcome, file,
        key::{certificate, lines},
        trust::{WhenArgs, refuse, shown},
    },
    text::Text,
};

/// How long a directory may take for one answer.
const DIRECTORY_LIMIT: Duration = Duration::from_secs(10);
/// Most certificates that are fetched to complete one path.
const FETCHED_MAX: usize = 8;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Show certificates
    Show {
        /// File to read (PEM or DER)
        #[arg(value_name = "F")]
        file: PathBuf,
    },
    /// Check that a certificate leads to a trust anchor and may be used
    Check {
        /// The certificate, and intermediate ones behind it (PEM or DER)
        #[arg(value_name = "F")]
        file: PathBuf,
        /// PEM file of trust anchors; may be given several times
        #[arg(long, value_name = "T", required = true)]
        trust: Vec<PathBuf>,
        #[command(flatten)]
        when: WhenArgs,
        /// What it is to be used for
        #[arg(long = "for", value_enum, default_value = "signing")]
        usage: UsageArg,
        /// Directory to ask for missing issuers and for revocation lists, for example ldap://ldap.example.org/dc=ca,dc=example
        #[arg(long, value_name = "URL")]
        directory: Option<String>,
        /// Directory on this disk where what was found is kept, and answers when the other does not
        #[arg(long, value_name = "D", requires = "directory")]
        cache: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum UsageArg {
    /// Signing messages and evidence
    Signing,
    /// Receiving encrypted data
    Encryption,
    /// Issuing certificates
    Issuing,
    /// Stamping the time
    TimeStamping,
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Show { file } => {
            let found: Vec<Value> = read(file)?.iter().map(certificate).collect();
            let view = json!({ "file": file.display().to_string(), "certificates": found });
            context.show(&view, || lines(&view))?;
            Ok(Exit::Done)
        }
        Command::Check { file, trust, when, usage, directory, cache } => {
            let usage = match usage {
                UsageArg::Signing => Usage::Signing,
                UsageArg::Encryption => Usage::Encryption,
                UsageArg::Issuing => Usage::Issuing,
                UsageArg::TimeStamping => Usage::TimeStamping,
            };
            let directory = directory.as_deref().map(|url| open(url, cache.clone())).transpose()?;
            check(file, trust, when, usage, directory.as_ref(), context)
        }
    }
}

/// Certificates of a file, PEM or DER.
fn read(path: &Path) -> Result<Vec<Certificate>, Failure<Text>> {
    let bytes = file::read(path)?;
    if bytes.first() == Some(&0x30) {
        return Ok(vec![Certificate::from_der(&bytes).map_err(|e| file::gm_failure(path, &e))?]);
    }
    file::read_certificates(path)
}

fn open(url: &str, cache: Option<PathBuf>) -> Result<Directory, Failure<Text>> {
    let address =
        Address::parse(url).map_err(|e| Failure::new(Exit::Usage, Text::Usage { why: format!("--directory {e}") }))?;
    let patience = Patience { limit: DIRECTORY_LIMIT, mono_ns: || clock::now().mono_ns };
    Ok(Directory::new(address, cache, patience))
}

fn check(
    path: &Path,
    trust: &[PathBuf],
    when: &WhenArgs,
    usage: Usage,
    directory: Option<&Directory>,
    context: &Context,
) -> Outcome {
    let mut all = read(path)?.into_iter();
    let leaf = all.next().ok_or_else(|| file::malformed(path, &"no certificate"))?;
    let anchors = file::read_anchors(trust)?;
    let mut asked = Asked {
        known: all.collect(),
        crls: when.crls()?,
        notes: Vec::new(),
        now_s: clock::now().real_ns / 1_000_000_000,
    };
    let at_ns = when.at_ns()?;
    let mut judged = verify_chain(&leaf, &asked.known, &anchors, &asked.crls, at_ns, usage);
    if let Some(directory) = directory {
        for _ in 0..FETCHED_MAX {
            let Err(ChainError::NoAnchor { issuer, .. }) = &judged else { break };
            if !asked.issuer(directory, issuer) {
                break;
            }
            judged = verify_chain(&leaf, &asked.known, &anchors, &asked.crls, at_ns, usage);
        }
        if let Ok(chain) = &judged {
            for issuer in chain.iter().skip(1) {
                match asked.crl(directory, issuer) {
                    // Without the list nobody knows whether the certificate was taken back; a CA that has none says so.
                    Ok(()) | Err(DirectoryError::NotFound) => {}
                    Err(why @ (DirectoryError::Unreachable(_) | DirectoryError::TimedOut(_))) => {
                        let (what, why) = (directory.address().to_string(), why.to_string());
                        return Err(Failure::new(Exit::Unavailable, Text::Unreachable { what, why }));
                    }
                    Err(why) => {
                        let why =
                            format!("the revocation list of {} is not known: the directory {why}", issuer.subject());
                        return refuse(path, &why, context);
                    }
                }
            }
            judged = verify_chain(&leaf, &asked.known, &anchors, &asked.crls, at_ns, usage);
        }
    }
    let chain = match judged {
        Ok(chain) => chain,
        Err(error) => {
            // Why the directory was no help is part of why not.
            let failed: Vec<String> =
                asked.notes.iter().filter_map(|note| Some(note.get("reason")?.as_str()?.to_owned())).collect();
            let more = if failed.is_empty() { String::new() } else { format!("; the directory {}", failed.join(", ")) };
            return refuse(path, &format!("{error}{more}"), context);
        }
    };
    let view = json!({
        "file": path.display().to_string(),
        "result": "valid",
        "at": rfc3339(at_ns),
        "path": chain.iter().map(shown).collect::<Vec<_>>(),
        "directory": asked.notes,
    });
    context.show(&view, || lines(&view))?;
    Ok(Exit::Done)
}

/// What is known besides the certificate itself, and what a directory said.
struct Asked {
    known: Vec<Certificate>,
    crls: Vec<Crl>,
    notes: Vec<Value>,
    now_s: i64,
}

impl Asked {
    /// Fetches the certificates of an issuer; true when there are new ones.
    fn issuer(&mut self, directory: &Directory, issuer: &str) -> bool {
        match directory.certificates_of(issuer, self.now_s) {
            Ok(found) => {
                self.note("certificate", issuer, &found, None);
                let new: Vec<Certificate> = found.value.into_iter().filter(|one| !self.known.contains(one)).collect();
                self.known.extend(new.iter().cloned());
                !new.is_empty()
            }
            Err(error) => {
                self.notes.push(json!({ "what": "certificate", "of": issuer, "reason": error.to_string() }));
                false
            }
        }
    }

    fn crl(&mut self, directory: &Directory, issuer: &Certificate) -> Result<(), DirectoryError> {
        let asked = directory.crl(issuer, self.now_s);
        match asked {
            Ok(found) => {
                self.note("crl", &issuer.subject(), &found, Some(&found.value));
                self.crls.push(found.value);
                Ok(())
            }
            Err(error) => {
                self.notes.push(json!({ "what": "crl", "of": issuer.subject(), "reason": error.to_string() }));
                Err(error)
            }
        }
    }

    /// What was found, how old it is, and why it comes from the cache if it does.
    fn note<T>(&mut self, what: &str, of: &str, found: &Found<T>, list: Option<&Crl>) {
        self.notes.push(json!({
            "what": what,
            "of": of,
            "fetched_at": rfc3339(found.fetched_at_s.saturating_mul(1_000_000_000)),
            "age_s": self.now_s.saturating_sub(found.fetched_at_s),
            "cached_because": found.cached_because.as_ref().map(ToString::to_string),
            "this_update": list.map(|list| rfc3339(list.this_update_ns())),
            "next_update": list.and_then(Crl::next_update_ns).map(rfc3339),
            "overdue": list.and_then(Crl::next_update_ns).is_some_and(|due_ns| due_ns / 1_000_000_000 < self.now_s),
        }));
    }
}
