//! `hufu key`: make a key, put it under a password and out again, ask for a certificate, show what is in a file. Granting
//! certificates is `pki.rs`; where passwords come from, `password.rs`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Subcommand;
use hufu_audit::{Exit, Failure};
use hufu_gm::{
    SecretKey,
    cert::Certificate,
    csr::Csr,
    keyfile,
    pbes2::{self, ITERATIONS_MAX, ITERATIONS_WRITE_MIN, Password},
};
use serde_json::{Value, json};

use crate::{
    cmd::{Context, Outcome, bug, file, password::PasswordArgs},
    key_place::KeyPlace,
    signer::{Address, NodeKey},
    text::Text,
};

/// Rounds of PBKDF2 when nobody says how many.
pub(super) const ITERATIONS: u32 = ITERATIONS_WRITE_MIN;

/// How long a signer may take: somebody may have to touch a token.
const SIGNER_LIMIT: Duration = Duration::from_secs(20);

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a new SM2 key (PKCS#8 PEM, mode 0600)
    New {
        /// File to make
        #[arg(short, long, value_name = "F")]
        out: PathBuf,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Put a key under a password (PBKDF2-HMAC-SM3, SM4-CBC), in a new file
    Encrypt {
        /// Secret key file
        #[arg(long, value_name = "F")]
        key: PathBuf,
        /// File to make
        #[arg(short, long, value_name = "F")]
        out: PathBuf,
        /// Rounds of PBKDF2
        #[arg(long, value_name = "N", default_value_t = ITERATIONS,
              value_parser = clap::value_parser!(u32).range(i64::from(ITERATIONS_WRITE_MIN)..=i64::from(ITERATIONS_MAX)))]
        iterations: u32,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Take a key from under its password, into a new file
    Decrypt {
        /// Secret key file
        #[arg(long, value_name = "F")]
        key: PathBuf,
        /// File to make
        #[arg(short, long, value_name = "F")]
        out: PathBuf,
        #[command(flatten)]
        password: PasswordArgs,
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
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Change the node's key: a new one, its certificate, and the entry that both keys sign; run it again until it is done
    Rotate(super::rotate::Args),
    /// Show the public side of a key, certificate or request file
    Show {
        /// File to read
        #[arg(value_name = "F")]
        file: PathBuf,
        #[command(flatten)]
        password: PasswordArgs,
    },
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::New { out, password } => {
            let key = match password.read()? {
                Some(password) => {
                    let key = SecretKey::generate(hufu_gm::random::fill).map_err(|e| bug(&e))?;
                    write_encrypted(out, &key, &password, ITERATIONS)?;
                    key
                }
                None => file::new_key(out)?,
            };
            made(out, &key, context)?;
        }
        Command::Encrypt { key, out, iterations, password } => {
            let password = password.required()?;
            let key = file::read_key(key)?;
            write_encrypted(out, &key, &password, *iterations)?;
            made(out, &key, context)?;
        }
        Command::Decrypt { key, out, password } => {
            let key = file::read_key_with(key, Some(&password.required()?))?;
            keyfile::write_new(out, &key).map_err(|e| write_failure(out, &e))?;
            made(out, &key, context)?;
        }
        Command::Csr { key, signer, signer_user, subject, dns, out, password } => {
            let key = match (key, signer) {
                (Some(key), None) => NodeKey::File(file::read_key_with(key, password.read()?.as_ref())?),
                _ => file::node_key(&signer_place(signer.as_deref(), signer_user.as_deref())?)?,
            };
            request(&key, subject, dns, out.as_deref(), context)?;
        }
        Command::Rotate(args) => return super::rotate::run(args, context),
        Command::Show { file, password } => {
            let found = describe(file, password)?;
            context.show(&found, || lines(&found))?;
        }
    }
    Ok(Exit::Done)
}

fn made(out: &Path, key: &SecretKey, context: &Context) -> Result<(), Failure<Text>> {
    let shown = hex::encode(key.public_key().to_sec1());
    let path = out.display().to_string();
    context.show(&json!({ "file": path, "public_key": shown }), || {
        Text::KeyMade { path: path.clone() }.render(context.lang)
    })
}

/// A key file that could not be written.
pub(super) fn write_failure(path: &Path, error: &hufu_gm::Error) -> Failure<Text> {
    match error {
        hufu_gm::Error::Io { source, .. } => file::unwritable(path, source),
        other => bug(other),
    }
}

/// A new key file under a password.
pub(super) fn write_encrypted(
    out: &Path,
    key: &SecretKey,
    password: &Password,
    iterations: u32,
) -> Result<(), Failure<Text>> {
    let terms = pbes2::Terms::generate(iterations, hufu_gm::random::fill).map_err(|e| bug(&e))?;
    keyfile::write_encrypted_new(out, key, password, &terms).map_err(|e| write_failure(out, &e))
}

/// The signer that the command line names.
fn signer_place(signer: Option<&Path>, user: Option<&str>) -> Result<KeyPlace, Failure<Text>> {
    let socket = signer.unwrap_or(Path::new(""));
    let uid = user.map(|user| file::user(user, "--signer-user")).transpose()?;
    Ok(KeyPlace::Signer(Address { socket: socket.to_owned(), uid, limit: SIGNER_LIMIT }))
}

fn request(
    key: &NodeKey,
    subject: &str,
    dns: &[String],
    out: Option<&Path>,
    context: &Context,
) -> Result<(), Failure<Text>> {
    let names: Vec<&str> = dns.iter().map(String::as_str).collect();
    let made = Csr::make(key, subject, &names);
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
fn describe(path: &Path, password: &PasswordArgs) -> Result<Value, Failure<Text>> {
    let text = file::read_text(path)?;
    if text.contains("PRIVATE KEY-----") {
        let is_encrypted = text.contains("BEGIN ENCRYPTED PRIVATE KEY");
        // Whoever gives a password for a key that has none is told so.
        let key = file::read_key_with(path, password.read()?.as_ref())?;
        return Ok(
            json!({ "kind": "key", "encrypted": is_encrypted, "public_key": hex::encode(key.public_key().to_sec1()) }),
        );
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
                    Value::Object(inner) => {
                        put(name, &Value::String(String::new()));
                        for (inner, value) in inner {
                            put(&format!("  {inner}"), value);
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
