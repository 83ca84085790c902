//! `hufu firmware`: make, show and verify the image of a node's burnt-in record. The layout is `firmware-config`'s, the
//! signature `gm`'s; how the daemon takes its identity from an image is `crate::firmware`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use hufu_audit::{Exit, Failure};
use hufu_firmware_config::{
    Endpoint, Error, Host, IMAGE_BYTES, KeyPurpose, KeyReference, KeySlot, Record, Segment, Selected, SerialNumber,
    Signature, Slot, blank, select, update,
};
use hufu_gm::{Certificate, PublicKey};
use serde_json::{Value, json};

use crate::{
    cmd::{Context, Outcome, file, key},
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
    /// Secret key file of whoever signs records
    #[arg(long, value_name = "F")]
    key: PathBuf,
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Build(wanted) => build(wanted, context),
        Command::Show { image, signer: None } => {
            let found = choose(image, &file::read(image)?, |_, _| true)?;
            context.say(&Text::SignatureUnchecked {});
            show(&found, context)
        }
        Command::Show { image, signer: Some(signer) } | Command::Verify { image, signer } => {
            let signer = signer_key(signer)?;
            let verify = |bytes: &[u8], signature: &[u8]| signer.verify(bytes, signature).is_valid();
            show(&choose(image, &file::read(image)?, verify)?, context)
        }
    }
}

fn signer_key(path: &Path) -> Result<PublicKey, Failure<Text>> {
    let found = file::read_certificates(path)?;
    found.first().map(|leaf| leaf.public_key().clone()).ok_or_else(|| file::malformed(path, &"no certificate"))
}

fn choose(path: &Path, bytes: &[u8], verify: impl Fn(&[u8], &[u8]) -> bool) -> Result<Selected, Failure<Text>> {
    select(bytes, verify).map_err(|e| match e {
        Error::ImageSize { .. } => file::malformed(path, &e),
        other => {
            let path = path.display().to_string();
            Failure::new(Exit::No, Text::FirmwareRefused { path, why: other.to_string() })
        }
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
    let mut image = blank();
    if wanted.out.exists() {
        let bytes = file::read(&wanted.out)?;
        let fits: [u8; IMAGE_BYTES] =
            bytes.try_into().map_err(|_| file::malformed(&wanted.out, &"not the size of an image"))?;
        image = fits;
    }
    let verify = |bytes: &[u8], signature: &[u8]| public.verify(bytes, signature).is_valid();
    let sign = |bytes: &[u8]| secret.sign(bytes).ok().and_then(|signature| Signature::new(&signature).ok());
    let selected = update(&mut image, &record, verify, sign).map_err(usage)?;
    file::replace(&wanted.out, &image)?;
    show(&selected, context)
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
