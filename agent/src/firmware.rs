//! The node's burnt-in record as identity and endpoints of the daemon. Layout, slots and the order of writes are
//! `firmware-config`; the signature check is `gm`; `hufu firmware` (in `cmd/`) makes, shows and installs images.

use std::{
    io,
    path::{Path, PathBuf},
};

use hufu_audit::{Exit, Failure};
use hufu_firmware_config::{Error, InstallError, Selected, open};
use hufu_gm::cert::Certificate;

use crate::text::Text;

pub(crate) mod floor;
pub(crate) mod target;

use target::Target;

/// What the daemon takes from the record.
#[derive(Clone, Debug)]
pub(crate) struct BurntIn {
    pub(crate) site: String,
    pub(crate) node: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Where the image lies.
    pub(crate) image: PathBuf,
    pub(crate) revision: u64,
}

/// The record of an image file or device, signed by the first certificate of `signer`. The daemon holds its revision
/// against [`floor`] when it starts.
pub(crate) fn load(image: &Path, signer: &Path) -> Result<BurntIn, String> {
    let selected = read(image, signer)?;
    let record = &selected.record;
    let endpoint = record.endpoints().first().ok_or("node.firmware: the record names no broker")?;
    if endpoint.tls {
        return Err("node.firmware: the record asks for TLS, which this version does not speak".to_owned());
    }
    Ok(BurntIn {
        site: record.site.as_str().to_owned(),
        node: record.node.as_str().to_owned(),
        host: endpoint.host.as_str().to_owned(),
        port: endpoint.port,
        image: image.to_owned(),
        revision: selected.revision,
    })
}

fn read(image: &Path, signer: &Path) -> Result<Selected, String> {
    let shown = image.display();
    let pem = std::fs::read_to_string(signer).map_err(|e| format!("node.firmware_signer: {e}"))?;
    let certificates = Certificate::from_pem_many(&pem).map_err(|e| format!("node.firmware_signer: {e}"))?;
    let certificate = certificates.first().ok_or("node.firmware_signer: no certificate in the file")?;
    let verify = |signed: &[u8], signature: &[u8]| certificate.public_key().verify(signed, signature).is_valid();
    let mut target = Target::to_read(image).map_err(|e| format!("node.firmware {shown}: {e}"))?;
    open(&mut target, 0, verify).map_err(|e| format!("node.firmware {shown}: {e}"))
}

/// What opening or installing says about `path`, with the status it deserves.
pub(crate) fn failure(path: &Path, error: &InstallError<io::Error>) -> Failure<Text> {
    let path = path.display().to_string();
    match error {
        InstallError::Storage(error) => Failure::new(Exit::Io, Text::FileUnwritable { path, why: error.to_string() }),
        InstallError::TooSmall { bytes } => {
            Failure::new(Exit::Malformed, Text::FirmwareTooSmall { path, bytes: bytes.to_string() })
        }
        InstallError::NotAligned { sector_bytes } => {
            let why = format!("{sector_bytes} B");
            Failure::new(Exit::Malformed, Text::FirmwareNotAligned { path, why })
        }
        InstallError::Target(Error::NoValidSlot { .. }) => {
            Failure::new(Exit::No, Text::FirmwareNoSlot { path, why: error.to_string() })
        }
        InstallError::RevisionNotAbove { revision, active } => {
            let (revision, active) = (revision.to_string(), active.to_string());
            Failure::new(Exit::No, Text::FirmwareNotAbove { path, revision, active })
        }
        InstallError::RolledBack { revision, floor } => {
            let (revision, floor) = (revision.to_string(), floor.to_string());
            Failure::new(Exit::No, Text::FirmwareRolledBack { path, revision, floor })
        }
        InstallError::ReadBack { slot } => {
            Failure::new(Exit::Io, Text::FirmwareReadBack { path, slot: format!("{slot:?}") })
        }
        other => Failure::new(Exit::No, Text::FirmwareRefused { path, why: other.to_string() }),
    }
}
