//! `hufu sm2`: one signature or one encryption on a file, without a message around it. Signatures are DER with ZA of the user id
//! 1234567812345678, cipher texts DER `SM2Cipher`: what `openssl dgst` and `openssl pkeyutl` read and write.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use hufu_audit::Exit;
use hufu_gm::{Verdict, random};
use serde_json::json;

use crate::{
    cmd::{
        Context, Outcome, file,
        trust::{certificate_and_along, not_made, refuse},
    },
    text::Text,
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Sign a file
    Sign {
        /// File to read
        #[arg(long = "in", value_name = "F")]
        input: PathBuf,
        /// Secret key file of whoever signs
        #[arg(long, value_name = "K")]
        key: PathBuf,
        /// File to make
        #[arg(short, long, value_name = "S")]
        out: PathBuf,
    },
    /// Check a signature over a file; whether the certificate is trusted is for: hufu cert check
    Verify {
        /// The file that was signed
        #[arg(long = "in", value_name = "F")]
        input: PathBuf,
        /// The signature (DER)
        #[arg(long, value_name = "S")]
        sig: PathBuf,
        /// Certificate of the signer (PEM)
        #[arg(long, value_name = "C")]
        cert: PathBuf,
    },
    /// Encrypt a small file, for example a key, to a certificate
    Encrypt {
        /// File to read
        #[arg(long = "in", value_name = "F")]
        input: PathBuf,
        /// Certificate of the recipient (PEM)
        #[arg(long, alias = "cert", value_name = "CERT")]
        to: PathBuf,
        /// File to make
        #[arg(short, long, value_name = "G")]
        out: PathBuf,
    },
    /// Decrypt what was encrypted so
    Decrypt {
        /// File to read
        #[arg(long = "in", value_name = "F")]
        input: PathBuf,
        /// Secret key file of the recipient
        #[arg(long, value_name = "K")]
        key: PathBuf,
        /// File to make
        #[arg(short, long, value_name = "G")]
        out: PathBuf,
    },
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Sign { input, key, out } => {
            let key = file::read_key(key)?;
            let signature = key.sign(&file::read(input)?).map_err(|e| not_made(input, &e))?;
            file::replace(out, &signature)?;
            done(out, json!({ "file": out.display().to_string(), "signature": hex::encode(&signature) }), context)
        }
        Command::Verify { input, sig, cert } => verify(input, sig, cert, context),
        Command::Encrypt { input, to, out } => {
            let recipient = certificate_and_along(to)?.0;
            let made = recipient.public_key().encrypt(&file::read(input)?, random::fill);
            let made = made.map_err(|e| not_made(input, &e))?;
            file::replace(out, &made)?;
            done(out, json!({ "file": out.display().to_string(), "bytes": made.len() }), context)
        }
        Command::Decrypt { input, key, out } => {
            let key = file::read_key(key)?;
            match key.decrypt(&file::read(input)?) {
                Ok(plain) => {
                    file::replace_private(out, &plain)?;
                    done(out, json!({ "file": out.display().to_string(), "bytes": plain.len() }), context)
                }
                Err(error @ hufu_gm::Error::Decrypt) => refuse(input, &error, context),
                Err(error) => Err(file::malformed(input, &error)),
            }
        }
    }
}

fn done(out: &Path, view: serde_json::Value, context: &Context) -> Outcome {
    let path = out.display().to_string();
    context.show(&view, || Text::FileMade { path: path.clone() }.render(context.lang))?;
    Ok(Exit::Done)
}

fn verify(input: &Path, sig: &Path, cert: &Path, context: &Context) -> Outcome {
    let (message, signature) = (file::read(input)?, file::read(sig)?);
    let signer = certificate_and_along(cert)?.0;
    match signer.public_key().verify(&message, &signature) {
        Verdict::Valid => {
            let view = json!({ "file": input.display().to_string(), "result": "valid", "signer": super::trust::shown(&signer) });
            context.show(&view, || super::key::lines(&view))?;
            Ok(Exit::Done)
        }
        Verdict::Invalid => refuse(input, &format!("not the signature of {}", signer.subject()), context),
        Verdict::Malformed => Err(file::malformed(sig, &"not the strict DER of an SM2 signature")),
    }
}
