//! What `hufu init` made: secrets, certificates, the ledger.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use hufu_gm::{SecretKey, Usage, cert::Certificate, keyfile, verify_chain};
use hufu_ledger::Ledger;
use hufu_trade::{
    octets::rfc3339,
    party::{is_named, platform_of},
};

use super::{Check, Patient, State, or_fail};
use crate::{cmd::file, key_place::KeyPlace, setup, signer::Far, text::Text};

/// A certificate that ends within this many days is to be renewed.
const RENEW_DAYS: i64 = 30;
const DAY_NS: i64 = 86_400_000_000_000;

pub(super) fn checks(patient: &Patient<'_>) -> Vec<Check> {
    let config = patient.config;
    let mut checks = vec![
        node_key(patient),
        secret(patient, "salt", &config.salt, |path, uid| keyfile::read_secret32_of(path, uid).map(drop)),
    ];
    let party = config.pool();
    checks.extend(certificate(patient, ["certificate", "certificate_time"], &config.certificates, &party));
    checks.push(key_fits(patient));
    let party = platform_of(&party);
    let ids = ["platform_certificate", "platform_certificate_time"];
    checks.extend(certificate(patient, ids, &config.platform_certificates, &party));
    checks.extend(ledger(patient));
    checks
}

/// The node's key: a file, or a signer that signs when it is asked.
fn node_key(patient: &Patient<'_>) -> Check {
    let id = "node_key";
    match &patient.config.key {
        KeyPlace::File { key, password } => {
            secret(patient, id, key, |path, uid| key_in_file(path, password.as_deref(), uid).map(drop))
        }
        KeyPlace::Signer(address) => {
            let socket = address.socket.display().to_string();
            let signs = Far::find(address.clone()).and_then(|far| far.probe());
            let found = signs.map(|()| socket.clone()).map_err(|fault| format!("{socket}: {fault}"));
            patient.check(id, or_fail(found), &Text::DoctorSigner { socket })
        }
    }
}

/// The key in its file, under its password if it has one; both may be the service's.
fn key_in_file(path: &Path, password: Option<&Path>, uid: u32) -> Result<SecretKey, hufu_gm::Error> {
    let password = password.map(|place| keyfile::read_password_of(place, uid)).transpose()?;
    keyfile::read_of(path, uid, password.as_ref())
}

/// A secret's file: there, whole, nobody else's. The secret itself is read and forgotten.
fn secret(
    patient: &Patient<'_>,
    id: &'static str,
    path: &Path,
    read: impl Fn(&Path, u32) -> Result<(), hufu_gm::Error>,
) -> Check {
    let shown = path.display().to_string();
    let text = Text::DoctorSecret { path: shown.clone() };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied && !patient.is_root => {
            return patient.skipped(id, &Text::DoctorNotRoot { path: shown }, &text);
        }
        Err(error) => return patient.check(id, (State::Fail, format!("{shown}: {error}")), &text),
    };
    let owner = metadata.uid();
    // What systemd hands over is root's; everything else the service itself must be able to read.
    if owner != patient.service.0 && owner != 0 {
        return patient.check(id, (State::Fail, format!("{shown}: uid {owner}")), &text);
    }
    match read(path, patient.service.0) {
        Err(hufu_gm::Error::Io { source, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied && !patient.is_root =>
        {
            patient.skipped(id, &Text::DoctorNotRoot { path: shown }, &text)
        }
        Err(error) => patient.check(id, (State::Fail, error.to_string()), &text),
        Ok(()) => {
            let actual = format!("{shown}: {:04o}, uid {owner}", metadata.mode() & 0o7777);
            patient.check(id, (State::Ok, actual), &text)
        }
    }
}

/// A chain of certificates: whose it is and who vouches for it, and how long.
fn certificate(patient: &Patient<'_>, ids: [&'static str; 2], path: &Path, party: &str) -> Vec<Check> {
    let text = Text::DoctorCertificate { party: party.to_owned(), path: path.display().to_string() };
    let chain = match setup::certificates(path) {
        Ok(chain) => chain,
        Err(failure) => {
            return vec![patient.check(ids[0], (State::Fail, failure.text.render(patient.lang)), &text)];
        }
    };
    let Some((leaf, rest)) = chain.split_first() else { return Vec::new() };
    let found = leaf.subject();
    let vouched = if is_named(leaf, party) { vouched(patient, leaf, rest) } else { Err(found.clone()) };
    let mut checks = vec![patient.check(ids[0], or_fail(vouched.map(|()| found)), &text)];
    let (now_ns, begin, end) = (patient.now.real_ns, leaf.not_before_ns(), leaf.not_after_ns());
    let days = end.saturating_sub(now_ns).div_euclid(DAY_NS);
    let state = match () {
        () if now_ns < begin || now_ns > end => State::Fail,
        () if days < RENEW_DAYS => State::Warn,
        () => State::Ok,
    };
    let actual = format!("{} .. {}", rfc3339(begin), rfc3339(end));
    checks.push(patient.check(ids[1], (state, actual), &Text::DoctorCertificateTime { days: RENEW_DAYS.to_string() }));
    checks
}

/// Whether an anchor vouches for it. Its time is a check of its own, so it is asked as of when the certificate holds.
fn vouched(patient: &Patient<'_>, leaf: &Certificate, rest: &[Certificate]) -> Result<(), String> {
    let mut anchors = Vec::new();
    for path in &patient.config.trust {
        anchors.extend(setup::certificates(path).map_err(|failure| failure.text.render(patient.lang))?);
    }
    let at_ns = patient.now.real_ns.min(leaf.not_after_ns()).max(leaf.not_before_ns());
    verify_chain(leaf, rest, &anchors, &[], at_ns, Usage::Signing).map(drop).map_err(|e| e.to_string())
}

/// Whether the certificate is that of the key.
fn key_fits(patient: &Patient<'_>) -> Check {
    let (id, text) = ("key_fits", Text::DoctorKeyFits {});
    let config = patient.config;
    let public = match &config.key {
        KeyPlace::File { key, password } => {
            key_in_file(key, password.as_deref(), patient.service.0).ok().map(|key| key.public_key())
        }
        place @ KeyPlace::Signer(_) => file::node_key(place).ok().map(|key| key.public_key()),
    };
    let (Some(public), Ok(chain)) = (public, setup::certificates(&config.certificates)) else {
        return patient.skipped(id, &Text::DoctorNeedsBoth {}, &text);
    };
    let fits = chain.first().is_some_and(|leaf| *leaf.public_key() == public);
    let (state, actual) = if fits { (State::Ok, "same key") } else { (State::Fail, "another key") };
    patient.check(id, (state, actual.to_owned()), &text)
}

/// The ledger, read beside whoever writes it: there, of this node, of this user, whole.
fn ledger(patient: &Patient<'_>) -> Vec<Check> {
    let config = patient.config;
    let dir = &config.ledger_dir;
    let shown = dir.display().to_string();
    let (node, user) = (config.pool(), patient.service.0.to_string());
    let text = Text::DoctorLedger { node: node.clone(), path: shown.clone() };
    let opened = match Ledger::open_read_only(dir) {
        Ok(ledger) if ledger.node() != node => Err(format!("{shown}: {}", ledger.node())),
        Ok(ledger) => {
            let sizes = hufu_ledger::Log::ALL.map(|log| format!("{log} {}", ledger.size(log)));
            Ok(format!("{shown}: {}", sizes.join(", ")))
        }
        Err(error) if is_denied(&error) && !patient.is_root => {
            return vec![patient.skipped("ledger", &Text::DoctorNotRoot { path: shown }, &text)];
        }
        Err(error) => Err(error.to_string()),
    };
    let mut checks = vec![patient.check("ledger", or_fail(opened), &text)];
    let Ok(metadata) = std::fs::metadata(dir) else { return checks };
    let foreign = files(dir).into_iter().find(|path| {
        let owner = std::fs::metadata(path).map_or(metadata.uid(), |found| found.uid());
        owner != patient.service.0
    });
    let (state, actual) = match foreign {
        Some(path) => (State::Fail, path.display().to_string()),
        None => (State::Ok, format!("uid {}", metadata.uid())),
    };
    let text = Text::DoctorLedgerOwner { user: user.clone(), path: shown };
    checks.push(patient.check("ledger_owner", (state, actual), &text));
    let behind = std::fs::read_to_string(dir.join("behind"));
    let (state, actual) = match behind {
        Ok(text) => (State::Warn, text),
        Err(_) => (State::Ok, "-".to_owned()),
    };
    checks.push(patient.check("ledger_behind", (state, actual), &Text::DoctorBehind {}));
    checks
}

fn is_denied(error: &hufu_ledger::Error) -> bool {
    matches!(error, hufu_ledger::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied)
}

/// The directory and the files in it.
fn files(dir: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(dir).into_iter().flatten().filter_map(|item| Some(item.ok()?.path()));
    std::iter::once(dir.to_owned()).chain(found).collect()
}
