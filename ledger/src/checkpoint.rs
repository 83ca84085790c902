//! Checkpoints: the signed size and root of a log at one time. Who cosigns them and when is the agent's and the
//! platform's business.

use der::{Encode, Sequence};
use hufu_gm::{Hash, Signed, signed::strict, sm2::PublicKey};

use crate::{
    block::{Signer, VERSION, check_signature},
    entry::Log,
    error::{Error, Fault},
};

/// What a checkpoint's signature covers. `root` is the RFC 6962 root with SM3 over the block hashes, each a leaf.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Checkpoint {
    /// [`VERSION`].
    pub version: u8,
    /// The log.
    pub log: Log,
    /// The node whose log it is.
    pub node: String,
    /// Epoch of the newest block.
    pub epoch: u64,
    /// Number of blocks.
    pub size: u64,
    /// Root over them.
    #[asn1(type = "OCTET STRING", deref = "true")]
    pub root: Hash,
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub time: i64,
}

impl Checkpoint {
    /// Strict DER of a version known here.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let checkpoint: Self = strict(bytes).map_err(|_| Fault::NotDer.refused(None, None))?;
        let at = (Some(checkpoint.log), None);
        match checkpoint.version {
            VERSION => Ok(checkpoint),
            version => Err(Fault::Version(version).refused(at.0, at.1)),
        }
    }

    /// The DER, which is what is signed.
    ///
    /// # Errors
    /// [`Error::Gm`] when the node's name is larger than DER lengths allow.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        Ok(self.to_der().map_err(hufu_gm::Error::from)?)
    }

    /// Signs it.
    ///
    /// # Errors
    /// [`Error::Gm`].
    pub fn seal(&self, signer: &Signer<'_>) -> Result<Signed, Error> {
        Ok(Signed::seal(self.to_bytes()?, &signer.cert_id, signer.key)?)
    }
}

/// Reads a checkpoint and checks its signature under `key`; whether it is consistent with what was seen before is
/// [`crate::merkle::verify_consistency`]'s question.
///
/// # Errors
/// [`Error::Refused`].
pub fn verify_checkpoint(signed: &Signed, key: &PublicKey) -> Result<Checkpoint, Error> {
    let checkpoint = Checkpoint::from_bytes(signed.tbs())?;
    check_signature(signed, key).map_err(|fault| fault.refused(Some(checkpoint.log), None))?;
    Ok(checkpoint)
}
