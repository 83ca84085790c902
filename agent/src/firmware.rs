//! The node's burnt-in record as identity and endpoints of the daemon. Layout and slots are `firmware-config`; the
//! signature check is `gm`; `hufu firmware` (in `cmd/`) makes and shows images.

use std::path::Path;

use hufu_firmware_config::{Selected, select};
use hufu_gm::cert::Certificate;

/// What the daemon takes from the record.
#[derive(Clone, Debug)]
pub(crate) struct BurntIn {
    pub(crate) site: String,
    pub(crate) node: String,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// The record of an image file, signed by the first certificate of `signer`.
pub(crate) fn load(image: &Path, signer: &Path) -> Result<BurntIn, String> {
    let selected = open(image, signer)?;
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
    })
}

/// The valid slot of an image file.
pub(crate) fn open(image: &Path, signer: &Path) -> Result<Selected, String> {
    let shown = image.display();
    let bytes = std::fs::read(image).map_err(|e| format!("node.firmware {shown}: {e}"))?;
    let pem = std::fs::read_to_string(signer).map_err(|e| format!("node.firmware_signer: {e}"))?;
    let certificates = Certificate::from_pem_many(&pem).map_err(|e| format!("node.firmware_signer: {e}"))?;
    let certificate = certificates.first().ok_or("node.firmware_signer: no certificate in the file")?;
    let verify = |signed: &[u8], signature: &[u8]| certificate.public_key().verify(signed, signature).is_valid();
    select(&bytes, verify).map_err(|e| format!("node.firmware {shown}: {e}"))
}
