//! `hufu cms`: messages of GM/T 0010 on files. Their form and what is refused are `gm`'s; files, trust and statuses are here.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use hufu_audit::Exit;
use hufu_gm::{
    message::{self, Algorithm, Attributes, ContentType, Signer, Signing},
    random,
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

#[derive(Subcommand)]
pub(super) enum Command {
    /// Sign a file: SignedData
    Sign {
        #[command(flatten)]
        files: Files,
        #[command(flatten)]
        signer: SignerArgs,
        /// Leave the content out of the message
        #[arg(long)]
        detached: bool,
        /// Sign attributes that hold the content's digest and the time, instead of the content itself
        #[arg(long)]
        attributes: bool,
    },
    /// Check the signatures of a message, and write its content out
    Verify {
        /// The message (DER)
        #[arg(long = "in", value_name = "F")]
        input: PathBuf,
        /// Where the content is written to; default nowhere
        #[arg(long, value_name = "G")]
        out: Option<PathBuf>,
        /// The content of a message that has none in it
        #[arg(long, value_name = "F")]
        content: Option<PathBuf>,
        /// The message must have no content in it
        #[arg(long, requires = "content")]
        detached: bool,
        #[command(flatten)]
        trust: TrustArgs,
        /// Certificates that the message may leave out (PEM); may be given several times
        #[arg(long, value_name = "C")]
        cert: Vec<PathBuf>,
    },
    /// Encrypt a file to certificates: EnvelopedData; signed as well with --key and --cert: SignedAndEnvelopedData; under a key
    /// that both sides have: EncryptedData
    Encrypt {
        #[command(flatten)]
        files: Files,
        /// Encryption certificate of a recipient (PEM); may be given several times
        #[arg(long, value_name = "CERT", required_unless_present = "key_file")]
        to: Vec<PathBuf>,
        /// File with the SM4 key that the reader has, too, mode 0600: 16 bytes, or 32 hexadecimal digits
        #[arg(long, value_name = "F", conflicts_with_all = ["to", "key", "cert", "alg"])]
        key_file: Option<PathBuf>,
        /// Secret key file of whoever signs
        #[arg(long, value_name = "K", requires = "cert")]
        key: Option<PathBuf>,
        /// Certificate of that key, and intermediate ones behind it (PEM)
        #[arg(long, value_name = "C", requires = "key")]
        cert: Option<PathBuf>,
        /// How the signature algorithm is called: 301.1 is the standard's, 501 what BouncyCastle reads
        #[arg(long, value_enum, default_value = "301.1")]
        alg: AlgorithmArg,
    },
    /// Open an encrypted message; one that is signed needs --trust
    Decrypt {
        #[command(flatten)]
        files: Files,
        /// Secret key file of the recipient
        #[arg(long, value_name = "K", required_unless_present = "key_file", requires = "cert")]
        key: Option<PathBuf>,
        /// Certificate of that key (PEM)
        #[arg(long, value_name = "C", requires = "key")]
        cert: Option<PathBuf>,
        /// File with the SM4 key that the reader has, too, mode 0600: 16 bytes, or 32 hexadecimal digits
        #[arg(long, value_name = "F", conflicts_with_all = ["key", "cert"])]
        key_file: Option<PathBuf>,
        #[command(flatten)]
        trust: TrustArgs,
    },
}

#[derive(clap::Args)]
pub(super) struct Files {
    /// File to read
    #[arg(long = "in", value_name = "F")]
    input: PathBuf,
    /// File to make
    #[arg(long, value_name = "G")]
    out: PathBuf,
}

#[derive(clap::Args)]
pub(super) struct SignerArgs {
    /// Secret key file of whoever signs
    #[arg(long, value_name = "K")]
    key: PathBuf,
    /// Certificate of that key, and intermediate ones behind it (PEM)
    #[arg(long, value_name = "C")]
    cert: PathBuf,
    /// How the signature algorithm is called: 301.1 is the standard's, 501 what BouncyCastle reads
    #[arg(long, value_enum, default_value = "301.1")]
    alg: AlgorithmArg,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum AlgorithmArg {
    /// SM2-1 digital signature
    #[value(name = "301.1")]
    Sm2,
    /// SM2 with SM3
    #[value(name = "501")]
    Sm2WithSm3,
}

impl AlgorithmArg {
    fn algorithm(self) -> Algorithm {
        match self {
            Self::Sm2 => Algorithm::Sm2,
            Self::Sm2WithSm3 => Algorithm::Sm2WithSm3,
        }
    }
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Sign { files, signer, detached, attributes } => sign(files, signer, *detached, *attributes, context),
        Command::Verify { input, out, content, detached, trust, cert } => {
            let wanted = Wanted { content: content.as_deref(), detached: *detached, out: out.as_deref() };
            verify(input, &wanted, trust, cert, context)
        }
        Command::Encrypt { files, key_file: Some(secret), .. } => encrypt_under(files, secret, context),
        Command::Encrypt { files, to, key, cert, alg, key_file: None } => {
            let signer = key.as_deref().zip(cert.as_deref());
            encrypt(files, to, signer, alg.algorithm(), context)
        }
        Command::Decrypt { files, key, cert, key_file, trust } => {
            let holds = match (key_file, key, cert) {
                (Some(secret), ..) => Holds::Secret(secret),
                (None, Some(key), Some(cert)) => Holds::Key { key, cert },
                // The command line has been read: one of the two is there.
                _ => return Err(super::bug(&"neither --key-file nor --key with --cert")),
            };
            decrypt(files, &holds, trust, context)
        }
    }
}

fn sign(files: &Files, signer: &SignerArgs, detached: bool, attributes: bool, context: &Context) -> Outcome {
    let content = file::read(&files.input)?;
    let key = file::read_key(&signer.key)?;
    let (certificate, along) = certificate_and_along(&signer.cert)?;
    let signing_time_s = Some(clock::now().real_ns / 1_000_000_000);
    let attributes = if attributes { Attributes::Signed { signing_time_s } } else { Attributes::None };
    let algorithm = signer.alg.algorithm();
    let signing = Signing { key: &key, certificate: &certificate, along: &along, algorithm, attributes };
    let made = message::sign(&content, &signing, detached).map_err(|e| not_made(&files.input, &e))?;
    write(&files.out, &made, ContentType::SignedData, context)
}

fn write(out: &Path, made: &[u8], kind: ContentType, context: &Context) -> Outcome {
    file::replace(out, made)?;
    let path = out.display().to_string();
    context.show(&json!({ "file": path, "kind": kind.name(), "bytes": made.len() }), || {
        Text::MessageMade { kind: kind.name().to_owned(), path: path.clone() }.render(context.lang)
    })?;
    Ok(Exit::Done)
}

struct Wanted<'a> {
    content: Option<&'a Path>,
    detached: bool,
    out: Option<&'a Path>,
}

fn verify(input: &Path, wanted: &Wanted<'_>, trust: &TrustArgs, known: &[PathBuf], context: &Context) -> Outcome {
    let trusted = trust.read(known)?;
    let given = wanted.content.map(file::read).transpose()?;
    let judgement = message::verify(&file::read(input)?, given.as_deref(), &trusted.trust());
    let found = match judged(input, judgement, context)? {
        Ok(found) => found,
        Err(exit) => return Ok(exit),
    };
    if wanted.detached && !found.is_detached {
        return super::trust::refuse(input, &"the content is in the message, which was to be detached", context);
    }
    if let Some(out) = wanted.out {
        file::replace(out, &found.content)?;
    }
    let shown = json!({
        "file": input.display().to_string(),
        "result": "valid",
        "kind": ContentType::SignedData.name(),
        "detached": found.is_detached,
        "bytes": found.content.len(),
        "signers": found.signers.iter().map(signer).collect::<Vec<_>>(),
    });
    context.show(&shown, || lines(&shown))?;
    Ok(Exit::Done)
}

/// Who signed, and what the message says about it.
fn signer(signer: &Signer) -> Value {
    let mut view = shown(&signer.certificate);
    let algorithm = match signer.algorithm {
        Algorithm::Sm2 => "301.1",
        Algorithm::Sm2WithSm3 => "501",
    };
    let time = signer.signing_time_s.map(|time_s| rfc3339(time_s.saturating_mul(1_000_000_000)));
    if let Some(members) = view.as_object_mut() {
        members.insert("alg".to_owned(), json!(algorithm));
        members.insert("attributes".to_owned(), json!(signer.with_attributes));
        members.insert("signing_time".to_owned(), json!(time));
    }
    view
}

fn encrypt(
    files: &Files,
    to: &[PathBuf],
    signer: Option<(&Path, &Path)>,
    algorithm: Algorithm,
    context: &Context,
) -> Outcome {
    let content = file::read(&files.input)?;
    let mut recipients = Vec::with_capacity(to.len());
    for path in to {
        recipients.push(certificate_and_along(path)?.0);
    }
    let refused = |e: &hufu_gm::Error| not_made(&files.input, e);
    let Some((key, cert)) = signer else {
        let made = message::envelop(&content, &recipients, random::fill).map_err(|e| refused(&e))?;
        return write(&files.out, &made, ContentType::EnvelopedData, context);
    };
    let key = file::read_key(key)?;
    let (certificate, along) = certificate_and_along(cert)?;
    let attributes = Attributes::None;
    let signing = Signing { key: &key, certificate: &certificate, along: &along, algorithm, attributes };
    let made = message::sign_and_envelop(&content, &signing, &recipients, random::fill).map_err(|e| refused(&e))?;
    write(&files.out, &made, ContentType::SignedAndEnvelopedData, context)
}

/// EncryptedData: no recipient and no key in the message.
fn encrypt_under(files: &Files, secret: &Path, context: &Context) -> Outcome {
    let key = hufu_gm::keyfile::read_sm4_key(secret).map_err(|e| file::secret_failure(secret, &e))?;
    let content = file::read(&files.input)?;
    let made = message::encrypt_with(&content, &key, random::fill).map_err(|e| not_made(&files.input, &e))?;
    write(&files.out, &made, ContentType::EncryptedData, context)
}

/// What the reader of a message has.
enum Holds<'a> {
    /// A secret key and its certificate.
    Key { key: &'a Path, cert: &'a Path },
    /// The SM4 key of an EncryptedData.
    Secret(&'a Path),
}

fn decrypt(files: &Files, holds: &Holds<'_>, trust: &TrustArgs, context: &Context) -> Outcome {
    let bytes = file::read(&files.input)?;
    let kind = message::kind(&bytes).map_err(|why| file::malformed(&files.input, &why))?;
    let unfit = |why: &str| Err(file::malformed(&files.input, &format!("{} {why}", kind.name())));
    let opened = match (kind, holds) {
        (ContentType::EncryptedData, Holds::Secret(secret)) => {
            let key = hufu_gm::keyfile::read_sm4_key(secret).map_err(|e| file::secret_failure(secret, &e))?;
            judged(&files.input, message::decrypt_with(&bytes, &key), context)?.map(|content| (content, Vec::new()))
        }
        (ContentType::EnvelopedData, Holds::Key { key, cert }) => {
            let judgement = message::open(&bytes, &certificate_and_along(cert)?.0, &file::read_key(key)?);
            judged(&files.input, judgement, context)?.map(|content| (content, Vec::new()))
        }
        (ContentType::SignedAndEnvelopedData, Holds::Key { key, cert }) => {
            let (trusted, key) = (trust.read(&[])?, file::read_key(key)?);
            let certificate = certificate_and_along(cert)?.0;
            judged(&files.input, message::open_signed(&bytes, &certificate, &key, &trusted.trust()), context)?
        }
        (ContentType::EncryptedData, Holds::Key { .. }) => return unfit("is under a key of its own: give --key-file"),
        (ContentType::EnvelopedData | ContentType::SignedAndEnvelopedData, Holds::Secret(_)) => {
            return unfit("is encrypted to a certificate: give --key and --cert");
        }
        _ => return unfit("is not encrypted to anybody"),
    };
    let (content, signers) = match opened {
        Ok(opened) => opened,
        Err(exit) => return Ok(exit),
    };
    file::replace_private(&files.out, &content)?;
    let path = files.out.display().to_string();
    let shown = json!({
        "file": path,
        "result": "valid",
        "kind": kind.name(),
        "bytes": content.len(),
        "signers": signers.iter().map(signer).collect::<Vec<_>>(),
    });
    context.show(&shown, || lines(&shown))?;
    Ok(Exit::Done)
}
