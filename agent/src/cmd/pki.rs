//! `hufu pki`: a small certificate authority for tests, demonstrations and sites without one. The format is `gm`'s.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use hufu_audit::{Exit, Failure};
use hufu_gm::{
    ca::{self, Revocation, Role, Terms},
    cert::Certificate,
    csr::Csr,
    sm2::SecretKey,
};
use serde_json::json;

use crate::{
    clock,
    cmd::{Context, Outcome, bug, file},
    text::Text,
};

const DAY_S: i64 = 86_400;
/// Certificates begin a little in the past, so that a clock that is slow accepts them.
const SLACK_S: i64 = 300;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a self-signed root certificate
    Root {
        /// Secret key file of the root
        #[arg(long, value_name = "F")]
        key: PathBuf,
        /// Subject, for example CN=test-root,C=CN
        #[arg(long, value_name = "CN")]
        subject: String,
        /// Days it is valid
        #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(i64).range(1..=3650))]
        days: i64,
        /// File to make
        #[arg(short, long, value_name = "F")]
        out: PathBuf,
    },
    /// Issue a certificate for a request
    Issue {
        #[command(flatten)]
        issuer: Issuer,
        /// The request (PEM)
        #[arg(long, value_name = "F")]
        csr: PathBuf,
        /// What the certificate is for
        #[arg(long, value_enum, default_value_t = RoleArg::Signer)]
        role: RoleArg,
        /// Days it is valid
        #[arg(long, default_value_t = 825, value_parser = clap::value_parser!(i64).range(1..=3650))]
        days: i64,
        /// File to make for the encryption certificate of a double certificate, whose key pair is made here, too
        #[arg(long, value_name = "F", conflicts_with = "role", requires = "key_out")]
        pair: Option<PathBuf>,
        /// File to make for the delivered key pair (SM2EnvelopedKey, DER), encrypted to the request's key
        #[arg(long, value_name = "F", requires = "pair")]
        key_out: Option<PathBuf>,
        /// File to make
        #[arg(short, long, value_name = "F")]
        out: PathBuf,
    },
    /// Make a revocation list
    Crl {
        #[command(flatten)]
        issuer: Issuer,
        /// Certificate to revoke; may be given several times, earlier ones must be repeated
        #[arg(long, value_name = "F")]
        revoke: Vec<PathBuf>,
        /// Number of the list, rising
        #[arg(long, default_value_t = 1)]
        number: u64,
        /// Days until the next list
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(i64).range(1..=3650))]
        days: i64,
        /// File to make
        #[arg(short, long, value_name = "F")]
        out: PathBuf,
    },
}

#[derive(clap::Args)]
pub(super) struct Issuer {
    /// Certificate of the authority (PEM)
    #[arg(long, value_name = "F")]
    ca: PathBuf,
    /// Secret key file of the authority
    #[arg(long, value_name = "F")]
    ca_key: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum RoleArg {
    /// Signs messages and evidence
    Signer,
    /// Issues certificates
    Authority,
    /// Receives encrypted data
    Recipient,
    /// Stamps the time, and signs nothing else
    TimeStamper,
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Root { key, subject, days, out } => {
            let made = make_root(&file::read_key(key)?, subject, *days)?;
            write(out, &made, context)?;
        }
        Command::Issue { issuer, csr, days, pair: Some(pair), key_out: Some(key_out), out, .. } => {
            issue_pair(issuer, csr, *days, [out, pair, key_out], context)?;
        }
        Command::Issue { issuer, csr, role, days, out, .. } => {
            let (authority, key) = open(issuer)?;
            let request = Csr::from_pem(&file::read_text(csr)?).map_err(|e| file::gm_failure(csr, &e))?;
            let role = match role {
                RoleArg::Signer => Role::Signer,
                RoleArg::Authority => Role::Authority { path_len: Some(0) },
                RoleArg::Recipient => Role::Recipient,
                RoleArg::TimeStamper => Role::TimeStamper,
            };
            let names: Vec<&str> = request.dns_names().iter().map(String::as_str).collect();
            let serial = serial()?;
            let made = ca::issue_for(&authority, &key, role, &request, &terms(&serial, *days, &names));
            write(out, &made.map_err(|e| file::malformed(csr, &e))?, context)?;
        }
        Command::Crl { issuer, revoke, number, days, out } => {
            let (authority, key) = open(issuer)?;
            let revoked = file::read_anchors(revoke)?;
            let now_s = now_s();
            let lines: Vec<Revocation<'_>> =
                revoked.iter().map(|certificate| Revocation { certificate, at_s: now_s }).collect();
            let list = ca::crl(&authority, &key, *number, now_s, now_s + days * DAY_S, &lines);
            let list = list.map_err(|e| file::malformed(&issuer.ca, &e))?;
            file::write_new(out, list.to_pem().as_bytes())?;
            let path = out.display().to_string();
            context.show(&json!({ "file": path, "revoked": lines.len() }), String::new)?;
        }
    }
    Ok(Exit::Done)
}

/// Both certificates of a double certificate, and the encryption key pair for the holder: files `out`.
fn issue_pair(
    issuer: &Issuer,
    csr: &Path,
    days: i64,
    [signing, encryption, delivered]: [&Path; 3],
    context: &Context,
) -> Result<(), Failure<Text>> {
    let (authority, key) = open(issuer)?;
    let request = Csr::from_pem(&file::read_text(csr)?).map_err(|e| file::gm_failure(csr, &e))?;
    let names: Vec<&str> = request.dns_names().iter().map(String::as_str).collect();
    let serials = [serial()?, serial()?];
    let [first, second] = &serials;
    let both = [terms(first, days, &names), terms(second, days, &names)];
    let made = ca::issue_pair(&authority, &key, &request, &both, hufu_gm::random::fill);
    let made = made.map_err(|e| file::malformed(csr, &e))?;
    // Nothing of a half-made pair is left behind.
    let outputs = [
        (signing, made.signing.to_pem().into_bytes()),
        (encryption, made.encryption.to_pem().into_bytes()),
        (delivered, made.delivered.clone()),
    ];
    let mut written = Vec::new();
    for (path, bytes) in outputs {
        if let Err(failure) = file::write_new(path, &bytes) {
            written.into_iter().for_each(|path: &Path| drop(std::fs::remove_file(path)));
            return Err(failure);
        }
        written.push(path);
    }
    let one = |path: &Path, certificate: &Certificate| {
        json!({
            "file": path.display().to_string(),
            "subject": certificate.subject(),
            "serial": certificate.serial_hex(),
            "id": hex::encode(certificate.id()),
        })
    };
    let shown = json!({
        "signing": one(signing, &made.signing),
        "encryption": one(encryption, &made.encryption),
        "key_file": delivered.display().to_string(),
    });
    let (path, subject) = (signing.display().to_string(), made.signing.subject());
    context.show(&shown, || Text::CertificateMade { path: path.clone(), subject: subject.clone() }.render(context.lang))
}

/// A root certificate over `key`.
pub(super) fn make_root(key: &SecretKey, subject: &str, days: i64) -> Result<Certificate, Failure<Text>> {
    let serial = serial()?;
    ca::root(key, subject, None, &terms(&serial, days, &[]))
        .map_err(|e| Failure::new(Exit::Usage, Text::Usage { why: e.to_string() }))
}

/// A signer's certificate for `key` under `authority`.
pub(super) fn issue_signer(
    authority: &Certificate,
    authority_key: &SecretKey,
    subject: &str,
    key: &SecretKey,
    days: i64,
) -> Result<Certificate, Failure<Text>> {
    let serial = serial()?;
    let terms = terms(&serial, days, &[]);
    ca::issue(authority, authority_key, Role::Signer, subject, &key.public_key(), &terms).map_err(|e| bug(&e))
}

fn open(issuer: &Issuer) -> Result<(Certificate, SecretKey), Failure<Text>> {
    let found = file::read_certificates(&issuer.ca)?;
    let authority = found.into_iter().next().ok_or_else(|| file::malformed(&issuer.ca, &"no certificate"))?;
    Ok((authority, file::read_key(&issuer.ca_key)?))
}

fn write(out: &Path, made: &Certificate, context: &Context) -> Result<(), Failure<Text>> {
    file::write_new(out, made.to_pem().as_bytes())?;
    let path = out.display().to_string();
    let shown = json!({
        "file": path,
        "subject": made.subject(),
        "issuer": made.issuer(),
        "serial": made.serial_hex(),
        "id": hex::encode(made.id()),
    });
    context.show(&shown, || Text::CertificateMade { path: path.clone(), subject: made.subject() }.render(context.lang))
}

fn serial() -> Result<[u8; 16], Failure<Text>> {
    let mut serial = [0; 16];
    hufu_gm::random::fill(&mut serial).map_err(|e| bug(&e))?;
    Ok(serial)
}

fn now_s() -> i64 {
    clock::now().real_ns / 1_000_000_000
}

fn terms<'a>(serial: &'a [u8], days: i64, dns_names: &'a [&'a str]) -> Terms<'a> {
    let now_s = now_s();
    Terms { serial, not_before_s: now_s - SLACK_S, not_after_s: now_s + days * DAY_S, dns_names }
}
