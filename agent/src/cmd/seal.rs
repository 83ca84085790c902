//! `hufu seal`: electronic seals of GB/T 38540 on files. Their form and the order of checks are `gm`'s.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use hufu_audit::{Exit, Failure};
use hufu_gm::{
    seal::{self, Design, Picture},
    sm3::sm3,
};
use hufu_trade::octets::rfc3339;
use serde_json::{Value, json};

use crate::{
    clock,
    cmd::{
        Context, Outcome, file,
        key::lines,
        trust::{TrustArgs, certificate_and_along, judged, not_made, shown},
    },
    text::Text,
};

const SECOND_NS: i64 = 1_000_000_000;
const DAY_S: i64 = 86_400;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make an electronic seal and list who may use it
    Make {
        /// Secret key file of the seal's maker
        #[arg(long, value_name = "K")]
        key: PathBuf,
        /// Certificate of that key (PEM)
        #[arg(long, value_name = "C")]
        cert: PathBuf,
        /// Certificate of one who may use the seal (PEM); may be given several times
        #[arg(long = "user", value_name = "CERT", required = true)]
        users: Vec<PathBuf>,
        /// Identifier of the seal, ASCII
        #[arg(long, value_name = "ID")]
        id: String,
        /// Name of the seal that a reader sees
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Picture of the seal: a PNG, JPEG, GIF or BMP file
        #[arg(long, value_name = "F")]
        picture: PathBuf,
        /// Width of the picture on paper, mm
        #[arg(long, value_name = "MM", default_value_t = 40)]
        width: u32,
        /// Height of the picture on paper, mm
        #[arg(long, value_name = "MM", default_value_t = 40)]
        height: u32,
        /// Days it is valid
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(i64).range(1..=3650))]
        days: i64,
        /// File to make
        #[arg(short, long, value_name = "F")]
        out: PathBuf,
    },
    /// Use a seal on a file
    Sign {
        /// The file
        #[arg(long = "in", value_name = "F")]
        input: PathBuf,
        /// The seal
        #[arg(long, value_name = "S")]
        seal: PathBuf,
        /// Secret key file of whoever uses the seal
        #[arg(long, value_name = "K")]
        key: PathBuf,
        /// Certificate of that key (PEM); the seal must list it
        #[arg(long, value_name = "C")]
        cert: PathBuf,
        /// File to make
        #[arg(short, long, value_name = "F")]
        out: PathBuf,
    },
    /// Check a seal by itself, or with --in its use on a file
    Verify {
        /// The seal, or what its use made
        #[arg(long, value_name = "S")]
        seal: PathBuf,
        /// The file that it was used on
        #[arg(long = "in", value_name = "F")]
        input: Option<PathBuf>,
        #[command(flatten)]
        trust: TrustArgs,
        /// Certificates that a seal leaves out, of intermediate authorities (PEM); may be given several times
        #[arg(long, value_name = "C")]
        cert: Vec<PathBuf>,
    },
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Make { key, cert, users, id, name, picture, width, height, days, out } => {
            let picture = read_picture(picture, *width, *height)?;
            let now_s = clock::now().real_ns.div_euclid(SECOND_NS);
            let mut certificates = Vec::with_capacity(users.len());
            for path in users {
                certificates.push(certificate_and_along(path)?.0);
            }
            let design = Design {
                id,
                vendor: "hufu",
                name,
                kind: 1,
                users: &certificates,
                created_s: now_s,
                start_s: now_s,
                end_s: now_s + days * DAY_S,
                picture: &picture,
            };
            let maker = certificate_and_along(cert)?.0;
            let made = seal::make(&design, &file::read_key(key)?, &maker);
            // A design that no reader takes is the fault of its flags, not of a file.
            let made = made.map_err(|e| Failure::new(Exit::Usage, Text::Usage { why: e.to_string() }))?;
            write(out, &made, context)
        }
        Command::Sign { input, seal, key, cert, out } => use_seal(input, seal, key, cert, out, context),
        Command::Verify { seal, input, trust, cert } => verify(seal, input.as_deref(), trust, cert, context),
    }
}

fn use_seal(input: &Path, seal: &Path, key: &Path, cert: &Path, out: &Path, context: &Context) -> Outcome {
    let digest = sm3(&[&file::read(input)?]);
    let signer = certificate_and_along(cert)?.0;
    let name = input.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // The range is ASCII by the standard; a name that is not says nothing there.
    let range = if name.is_ascii() && !name.chars().any(char::is_control) { name } else { "document".to_owned() };
    let at_s = clock::now().real_ns.div_euclid(SECOND_NS);
    let made = seal::sign(&file::read(seal)?, &digest, &range, at_s, &file::read_key(key)?, &signer);
    write(out, &made.map_err(|e| not_made(seal, &e))?, context)
}

fn write(out: &Path, made: &[u8], context: &Context) -> Outcome {
    file::replace(out, made)?;
    let path = out.display().to_string();
    context.show(&json!({ "file": path, "bytes": made.len() }), || {
        Text::SealMade { path: path.clone() }.render(context.lang)
    })?;
    Ok(Exit::Done)
}

fn verify(seal: &Path, input: Option<&Path>, trust: &TrustArgs, known: &[PathBuf], context: &Context) -> Outcome {
    let trusted = trust.read(known)?;
    let bytes = file::read(seal)?;
    let view = match input {
        None => match judged(seal, seal::verify_seal(&bytes, &trusted.trust()), context)? {
            Ok(found) => json!({ "file": seal.display().to_string(), "result": "valid", "seal": describe(&found) }),
            Err(exit) => return Ok(exit),
        },
        Some(input) => {
            let digest = sm3(&[&file::read(input)?]);
            match judged(seal, seal::verify(&bytes, &digest, &trusted.trust()), context)? {
                Ok(found) => json!({
                    "file": seal.display().to_string(),
                    "result": "valid",
                    "signed_at": rfc3339(found.at_s.saturating_mul(SECOND_NS)),
                    "range": found.range,
                    "time_stamp": found.has_time_stamp,
                    "signer": shown(&found.signer),
                    "seal": describe(&found.seal),
                }),
                Err(exit) => return Ok(exit),
            }
        }
    };
    context.show(&view, || lines(&view))?;
    Ok(Exit::Done)
}

fn describe(seal: &seal::Seal) -> Value {
    let time = |unix_s: i64| rfc3339(unix_s.saturating_mul(SECOND_NS));
    json!({
        "id": seal.id,
        "name": seal.name,
        "vendor": seal.vendor,
        "created_at": time(seal.created_s),
        "valid_from": time(seal.start_s),
        "valid_until": time(seal.end_s),
        "picture": { "format": seal.picture.format, "bytes": seal.picture.data.len(), "width_mm": seal.picture.width_mm, "height_mm": seal.picture.height_mm },
        "maker": shown(&seal.maker),
    })
}

/// The picture with its format, told from its first bytes.
fn read_picture(path: &Path, width_mm: u32, height_mm: u32) -> Result<Picture, Failure<Text>> {
    const FORMATS: [(&[u8], &str); 5] = [
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xff\xd8\xff", "JPG"),
        (b"GIF87a", "GIF"),
        (b"GIF89a", "GIF"),
        (b"BM", "BMP"),
    ];
    let data = file::read(path)?;
    let format = FORMATS.iter().find(|(head, _)| data.starts_with(head)).map(|(_, format)| (*format).to_owned());
    let format = format.ok_or_else(|| file::malformed(path, &"not a PNG, JPEG, GIF or BMP picture"))?;
    Ok(Picture { format, data, width_mm, height_mm })
}
