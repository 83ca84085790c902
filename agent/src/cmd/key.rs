//! `hufu key`: make a key, ask for a certificate, show what is in a file. Granting certificates is `pki.rs`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Subcommand;
use hufu_audit::{Exit, Failure};
use hufu_gm::{cert::Certificate, csr::Csr};
use serde_json::{Value, json};

use crate::{
    cmd::{Context, Outcome, file},
    key_place::KeyPlace,
    signer::Address,
    text::Text,
};

/// How long a signer may take: somebody may have to touch a token.
const SIGNER_LIMIT: Duration = Duration::from_secs(20);

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a new SM2 key (PKCS#8 PEM, mode 0600)
    New {
        /// File to make
        #[arg(short, long, value_name = "F")]
        out: PathBuf,
    },
    /// Make a certification request (PKCS#10 PEM)
    Csr {
        /// Secret key file
        #[arg(long, value_name = "F", required_unless_present = "signer")]
        key: Option<PathBuf>,
        /// Socket of a signer that holds the node's key, in place of a key file
        #[arg(long, value_name = "S", conflicts_with = "key")]
        signer: Option<PathBuf>,
        /// Whose process may listen there besides root's and your own, by name or number
        #[arg(long, value_name = "USER", requires = "signer")]
        signer_user: Option<String>,
        /// Subject, for example CN=site-1/node-1,O=site,C=CN
        #[arg(long, value_name = "CN")]
        subject: String,
        /// DNS name; may be given several times
        #[arg(long, value_name = "NAME")]
        dns: Vec<String>,
        /// File to make; default stdout
        #[arg(short, long, value_name = "F")]
        out: Option<PathBuf>,
    },
    /// Show the public side of a key, certificate or request file
    Show {
        /// File to read
        #[arg(value_name = "F")]
        file: PathBuf,
    },
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::New { out } => {
            let key = file::new_key(out)?;
            let shown = hex::encode(key.public_key().to_sec1());
            let path = out.display().to_string();
            context.show(&json!({ "file": path, "public_key": shown }), || {
                Text::KeyMade { path: path.clone() }.render(context.lang)
            })?;
        }
        Command::Csr { key, signer, signer_user, subject, dns, out } => {
            let place = key_place(key.as_deref(), signer.as_deref(), signer_user.as_deref())?;
            request(&place, subject, dns, out.as_deref(), context)?;
        }
        Command::Show { file } => {
            let found = describe(file)?;
            context.show(&found, || lines(&found))?;
        }
    }
    Ok(Exit::Done)
}

/// Where the command line says the key is.
fn key_place(key: Option<&Path>, signer: Option<&Path>, user: Option<&str>) -> Result<KeyPlace, Failure<Text>> {
    let Some(socket) = signer else { return Ok(KeyPlace::File(key.unwrap_or(Path::new("")).to_owned())) };
    let uid = user.map(|user| file::user(user, "--signer-user")).transpose()?;
    Ok(KeyPlace::Signer(Address { socket: socket.to_owned(), uid, limit: SIGNER_LIMIT }))
}

fn request(
    place: &KeyPlace,
    subject: &str,
    dns: &[String],
    out: Option<&Path>,
    context: &Context,
) -> Result<(), Failure<Text>> {
    let key = file::node_key(place)?;
    let names: Vec<&str> = dns.iter().map(String::as_str).collect();
    let made = Csr::make(&key, subject, &names);
    let pem = made.map_err(|e| Failure::new(Exit::Usage, Text::Usage { why: e.to_string() }))?.to_pem();
    let path = match out {
        Some(path) => {
            file::write_new(path, pem.as_bytes())?;
            Some(path.display().to_string())
        }
        None => None,
    };
    context.show(&json!({ "subject": subject, "file": path, "csr": pem }), || {
        if path.is_some() { String::new() } else { pem.clone() }
    })
}

/// What stands in a key, certificate or request file, secrets left out.
fn describe(path: &Path) -> Result<Value, Failure<Text>> {
    let text = file::read_text(path)?;
    if text.contains("PRIVATE KEY-----") {
        let key = file::read_key(path)?;
        return Ok(json!({ "kind": "key", "public_key": hex::encode(key.public_key().to_sec1()) }));
    }
    if text.contains("BEGIN CERTIFICATE REQUEST") {
        let csr = Csr::from_pem(&text).map_err(|e| file::gm_failure(path, &e))?;
        return Ok(json!({
            "kind": "request",
            "subject": csr.subject(),
            "public_key": hex::encode(csr.public_key().to_sec1()),
            "dns": csr.dns_names(),
            "signature": if csr.verify().is_valid() { "valid" } else { "invalid" },
        }));
    }
    let found = Certificate::from_pem_many(&text).map_err(|e| file::gm_failure(path, &e))?;
    let shown: Vec<Value> = found.iter().map(certificate).collect();
    Ok(json!({ "kind": "certificates", "certificates": shown }))
}

/// What stands in a certificate.
pub(super) fn certificate(found: &Certificate) -> Value {
    json!({
        "subject": found.subject(),
        "issuer": found.issuer(),
        "serial": found.serial_hex(),
        "id": hex::encode(found.id()),
        "not_before": hufu_trade::octets::rfc3339(found.not_before_ns()),
        "not_after": hufu_trade::octets::rfc3339(found.not_after_ns()),
        "ca": found.is_ca(),
        "public_key": hex::encode(found.public_key().to_sec1()),
    })
}

/// `key: value` lines of a JSON view, for a person.
pub(super) fn lines(value: &Value) -> String {
    let mut out = String::new();
    let mut put = |name: &str, value: &Value| match value {
        Value::String(text) => out.push_str(&format!("{name}: {text}\n")),
        other => out.push_str(&format!("{name}: {other}\n")),
    };
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::Array(items) if items.iter().any(Value::is_object) => {
                        for item in items {
                            put(name, &Value::String(String::new()));
                            for (inner, value) in item.as_object().into_iter().flatten() {
                                put(&format!("  {inner}"), value);
                            }
                        }
                    }
                    other => put(name, other),
                }
            }
        }
        other => put("value", other),
    }
    out
}
