//! `hufu firmware`: make, show, verify and install the image of a node's burnt-in record. Layout and order of writes are
//! `firmware-config`'s, the signature `gm`'s, files and devices those of `crate::firmware`, as is how the daemon takes its
//! identity from an image.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use hufu_audit::{Exit, Failure};
use hufu_firmware_config::{
    Endpoint, Error, Host, InstallError, KeyPurpose, KeyReference, KeySlot, Record, SLOT_BYTES, Segment, Selected,
    SerialNumber, Signature, Slot, Storage, blank, install, open,
};
use hufu_gm::{Certificate, PublicKey};
use serde_json::{Value, json};

use crate::{
    cmd::{Context, Outcome, file, key},
    firmware::{
        failure, floor,
        target::{self, Target, Unfit},
    },
    text::Text,
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Write a record into the slot that is not in use; a new image if there is none
    Build(Build),
    /// Show what an image says
    Show {
        /// The image
        image: PathBuf,
        /// Certificate (PEM) of whoever signs records; without it signatures are not checked
        #[arg(long, value_name = "F")]
        signer: Option<PathBuf>,
    },
    /// Check an image: checksum, signature, record
    Verify {
        /// The image
        image: PathBuf,
        /// Certificate (PEM) of whoever signs records
        #[arg(long, value_name = "F")]
        signer: PathBuf,
        /// The node's ledger directory: the highest revision that the node accepted counts too
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
    /// Install a record made elsewhere; a power cut at any moment leaves the old record or the new one
    Update {
        /// The node's image: a file, or a partition of its own
        target: PathBuf,
        /// The image that holds the new record
        #[arg(long, value_name = "F")]
        from: PathBuf,
        /// Certificate (PEM) of whoever signs records
        #[arg(long, value_name = "F")]
        signer: PathBuf,
        /// The node's ledger directory: the highest revision that the node accepted counts too
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
pub(super) struct Build {
    /// The image to make or update
    #[arg(short, long, value_name = "F")]
    out: PathBuf,
    /// Serial number of the machine
    #[arg(long)]
    serial: String,
    /// Site
    #[arg(long)]
    site: String,
    /// Node
    #[arg(long)]
    node: String,
    /// Broker and platform certificate, HOST:PORT=CERT.pem; in order of preference
    #[arg(long, value_name = "HOST:PORT=CERT.pem")]
    endpoint: Vec<String>,
    /// The node's signing key and certificate, REFERENCE=CERT.pem
    #[arg(long, value_name = "REFERENCE=CERT.pem")]
    node_key: Option<String>,
    /// Revision of the record; without it one above the image's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    revision: Option<u64>,
    /// Secret key file of whoever signs records
    #[arg(long, value_name = "F")]
    key: PathBuf,
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Build(wanted) => build(wanted, context),
        Command::Show { image, signer: None } => {
            let found = choose(image, 0, |_, _| true)?;
            context.say(&Text::SignatureUnchecked {});
            show(&found, context)
        }
        Command::Show { image, signer: Some(signer) } => show(&choose(image, 0, check(signer)?)?, context),
        Command::Verify { image, signer, state } => {
            show(&choose(image, highest(state.as_deref())?, check(signer)?)?, context)
        }
        Command::Update { target, from, signer, state } => {
            let verify = check(signer)?;
            let found = update(target, from, highest(state.as_deref())?, verify)?;
            show(&found, context)
        }
    }
}

/// The signature check with the first certificate of a file.
fn check(path: &Path) -> Result<impl Fn(&[u8], &[u8]) -> bool, Failure<Text>> {
    let signer = signer_key(path)?;
    Ok(move |bytes: &[u8], signature: &[u8]| signer.verify(bytes, signature).is_valid())
}

fn highest(state: Option<&Path>) -> Result<u64, Failure<Text>> {
    state.map_or(Ok(0), floor::highest)
}

fn signer_key(path: &Path) -> Result<PublicKey, Failure<Text>> {
    let found = file::read_certificates(path)?;
    found.first().map(|leaf| leaf.public_key().clone()).ok_or_else(|| file::malformed(path, &"no certificate"))
}

/// Why a path is no place for an image, with its status.
fn unfit(path: &Path, why: &Unfit) -> Failure<Text> {
    let shown = path.display().to_string();
    match why {
        Unfit::Unreadable(error) => file::unreadable(path, error),
        Unfit::InUse => Failure::new(Exit::Io, Text::FirmwareInUse { path: shown }),
        Unfit::Size(bytes) if *bytes < hufu_firmware_config::IMAGE_BYTES as u64 => {
            Failure::new(Exit::Malformed, Text::FirmwareTooSmall { path: shown, bytes: bytes.to_string() })
        }
        Unfit::NotAligned(why) => {
            Failure::new(Exit::Malformed, Text::FirmwareNotAligned { path: shown, why: why.clone() })
        }
        Unfit::Size(_) | Unfit::Kind => file::malformed(path, why),
    }
}

fn choose(path: &Path, floor: u64, verify: impl Fn(&[u8], &[u8]) -> bool) -> Result<Selected, Failure<Text>> {
    let mut image = Target::to_read(path).map_err(|e| unfit(path, &e))?;
    open(&mut image, floor, verify).map_err(|e| failure(path, &e))
}

fn update(
    path: &Path,
    from: &Path,
    floor: u64,
    verify: impl Fn(&[u8], &[u8]) -> bool,
) -> Result<Selected, Failure<Text>> {
    let mut source = Target::to_read(from).map_err(|e| unfit(from, &e))?;
    let chosen = open(&mut source, 0, &verify).map_err(|e| failure(from, &e))?;
    let mut slot = [0; SLOT_BYTES];
    source.read_at(chosen.slot.offset(), &mut slot).map_err(|e| file::unreadable(from, &e))?;
    let mut image = Target::to_write(path).map_err(|e| unfit(path, &e))?;
    // What the new slot itself lacks is the source's.
    install(&mut image, &slot, floor, verify).map_err(|e| match e {
        InstallError::New(_) => failure(from, &e),
        _ => failure(path, &e),
    })
}

fn build(wanted: &Build, context: &Context) -> Outcome {
    let usage = |e: Error| Failure::new(Exit::Usage, Text::Usage { why: e.to_string() });
    let serial = SerialNumber::new(&wanted.serial).map_err(usage)?;
    let site = Segment::new(&wanted.site).map_err(usage)?;
    let mut record = Record::new(serial, site, Segment::new(&wanted.node).map_err(usage)?);
    if let Some(text) = &wanted.node_key {
        let (reference, path) = split(text, "--node-key")?;
        let slot = KeySlot {
            index: 0,
            purpose: KeyPurpose::NodeSigning,
            certificate_id: leaf(Path::new(path))?.id(),
            key_reference: KeyReference::new(reference).map_err(usage)?,
        };
        record.add_key_slot(slot).map_err(usage)?;
    }
    for text in &wanted.endpoint {
        let (address, path) = split(text, "--endpoint")?;
        let wrong = || {
            let expected = "HOST:PORT=CERT.pem".to_owned();
            let argument = "--endpoint".to_owned();
            Failure::new(Exit::Usage, Text::ArgumentValue { argument, value: text.clone(), expected })
        };
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let endpoint = Endpoint {
            host: Host::new(host).map_err(usage)?,
            port: port.parse().map_err(|_| wrong())?,
            tls: false,
            platform_certificate_id: leaf(Path::new(path))?.id(),
        };
        record.add_endpoint(endpoint).map_err(usage)?;
    }
    let secret = file::read_key(&wanted.key)?;
    let public = secret.public_key();
    let verify = |bytes: &[u8], signature: &[u8]| public.verify(bytes, signature).is_valid();
    let sign = |bytes: &[u8]| secret.sign(bytes).ok().and_then(|signature| Signature::new(&signature).ok());
    let slot = |revision| hufu_firmware_config::build(&record, revision, sign).map_err(usage);
    let out = &wanted.out;
    if !out.exists() {
        let mut image = blank();
        let bug = |e: InstallError<Error>| Failure::new(Exit::Software, Text::Bug { why: e.to_string() });
        let found = install(&mut image, &slot(wanted.revision.unwrap_or(1))?, 0, verify).map_err(bug)?;
        target::create(out, &image).map_err(|e| file::unwritable(out, &e))?;
        return show(&found, context);
    }
    let mut image = Target::to_write(out).map_err(|e| unfit(out, &e))?;
    let next = match open(&mut image, 0, verify) {
        Ok(found) => found.revision.checked_add(1).ok_or_else(|| usage(Error::RevisionExhausted))?,
        // Never written, or not to the end: what may be done with it is for the installation to say.
        Err(InstallError::Target(Error::NoValidSlot { .. })) => 1,
        Err(other) => return Err(failure(out, &other)),
    };
    let slot = slot(wanted.revision.unwrap_or(next))?;
    show(&install(&mut image, &slot, 0, verify).map_err(|e| failure(out, &e))?, context)
}

fn split<'a>(text: &'a str, argument: &str) -> Result<(&'a str, &'a str), Failure<Text>> {
    text.split_once('=').ok_or_else(|| {
        let (value, expected) = (text.to_owned(), "...=CERT.pem".to_owned());
        Failure::new(Exit::Usage, Text::ArgumentValue { argument: argument.to_owned(), value, expected })
    })
}

fn leaf(path: &Path) -> Result<Certificate, Failure<Text>> {
    let found = file::read_certificates(path)?;
    found.into_iter().next().ok_or_else(|| file::malformed(path, &"no certificate"))
}

fn show(found: &Selected, context: &Context) -> Outcome {
    let view = view(found);
    context.show(&view, || key::lines(&view))?;
    Ok(Exit::Done)
}

fn view(found: &Selected) -> Value {
    let record = &found.record;
    let slot = |slot: Slot| match slot {
        Slot::A => "A",
        Slot::B => "B",
    };
    let keys = record.key_slots().iter().map(|key| {
        json!({
            "index": key.index,
            "purpose": key.purpose.number(),
            "certificate_id": hex::encode(key.certificate_id),
            "key": key.key_reference.as_str(),
        })
    });
    let endpoints = record.endpoints().iter().map(|endpoint| {
        json!({
            "host": endpoint.host.as_str(),
            "port": endpoint.port,
            "tls": endpoint.tls,
            "platform_certificate_id": hex::encode(endpoint.platform_certificate_id),
        })
    });
    json!({
        "slot": slot(found.slot),
        "revision": found.revision.to_string(),
        "other_slot": match &found.other {
            Ok(revision) => format!("revision {revision}"),
            Err(fault) => fault.to_string(),
        },
        "serial_number": record.serial_number.as_str(),
        "site": record.site.as_str(),
        "node": record.node.as_str(),
        "key_slots": keys.collect::<Vec<_>>(),
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}
