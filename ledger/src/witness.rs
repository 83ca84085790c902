//! Cosignatures: another node, having seen that a checkpoint continues what it holds, signs that it stands there. Whom that makes
//! sure of what is the agent's business; what a checkpoint is, `checkpoint.rs`.

use der::{Encode, Sequence, asn1::OctetString};
use hufu_gm::{
    Hash, Signed,
    sign::Sign,
    signed::strict,
    sm2::{PublicKey, Verdict},
    sm3::sm3,
};

use crate::{
    block::VERSION,
    checkpoint::Checkpoint,
    error::{Error, Fault},
};

/// Most cosignatures of one checkpoint.
pub const COSIGNATURES_MAX: usize = 64;
/// How many octets of its certificate id name a witness in a cosignature; who holds the certificate knows the rest.
pub const WITNESS_BYTES: usize = 16;

/// What a witness signs.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Witnessed {
    /// [`VERSION`].
    pub version: u8,
    /// SM3 of the DER of the checkpoint.
    #[asn1(type = "OCTET STRING", deref = "true")]
    pub checkpoint: Hash,
    /// The witness's certificate id.
    #[asn1(type = "OCTET STRING", deref = "true")]
    pub witness: Hash,
    /// Nanoseconds since 1970-01-01T00:00:00Z by the witness's clock.
    pub time: i64,
}

/// A cosignature as it travels and is stored: what it is of stands beside it, so that sixteen of them are small.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Cosignature {
    /// The first [`WITNESS_BYTES`] octets of the witness's certificate id.
    #[asn1(type = "OCTET STRING", deref = "true")]
    pub witness: [u8; WITNESS_BYTES],
    /// As in [`Witnessed`].
    pub time: i64,
    /// Over the DER of [`Witnessed`].
    pub signature: OctetString,
}

fn prefix(cert_id: &Hash) -> [u8; WITNESS_BYTES] {
    let mut bytes = [0; WITNESS_BYTES];
    bytes.copy_from_slice(&cert_id[..WITNESS_BYTES]);
    bytes
}

impl Witnessed {
    /// Reads strict DER; who signed it is not checked.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        strict(bytes).map_err(|_| Fault::NotDer.refused(None, None))
    }

    /// The DER, which is what a witness signs.
    ///
    /// # Errors
    /// [`Error::Gm`] when it is larger than DER lengths allow.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        Ok(self.to_der().map_err(hufu_gm::Error::from)?)
    }
}

impl Cosignature {
    /// Signs that the checkpoint with this DER stands.
    ///
    /// # Errors
    /// [`Error::Gm`].
    pub fn make(checkpoint: &[u8], (witness, key): (&Hash, &dyn Sign), time: i64) -> Result<Self, Error> {
        let said = Witnessed { version: VERSION, checkpoint: sm3(&[checkpoint]), witness: *witness, time };
        let signature = key.sign(&said.to_bytes()?)?;
        let signature = OctetString::new(signature).map_err(hufu_gm::Error::from)?;
        Ok(Self { witness: prefix(witness), time, signature })
    }

    /// What the holder of a certificate signed with it, over the checkpoint with this DER.
    pub fn witnessed(&self, checkpoint: &[u8], witness: &Hash) -> Witnessed {
        Witnessed { version: VERSION, checkpoint: sm3(&[checkpoint]), witness: *witness, time: self.time }
    }

    /// Whether the holder of a certificate made it over the checkpoint with this DER.
    pub fn is_by(&self, checkpoint: &[u8], (witness, key): (&Hash, &PublicKey)) -> bool {
        let Ok(der) = self.witnessed(checkpoint, witness).to_bytes() else { return false };
        self.witness == prefix(witness) && key.verify(&der, self.signature.as_bytes()) == Verdict::Valid
    }

    /// The DER.
    ///
    /// # Errors
    /// [`Error::Gm`] when it is larger than DER lengths allow.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        Ok(self.to_der().map_err(hufu_gm::Error::from)?)
    }

    /// Whether it names the certificate.
    pub fn names(&self, cert_id: &Hash) -> bool {
        self.witness == prefix(cert_id)
    }
}

/// Reads a cosignature by itself, strict DER; nothing is checked.
///
/// # Errors
/// [`Error::Refused`].
pub fn read_cosignature(bytes: &[u8]) -> Result<Cosignature, Error> {
    strict(bytes).map_err(|_| Fault::NotDer.refused(None, None))
}

/// A checkpoint with the cosignatures it has: what a node keeps on the broker for everybody, and what proves that an entry is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct WitnessedCheckpoint {
    /// `Signed` over [`Checkpoint`], by the node.
    pub checkpoint: Signed,
    /// By witness, each once, at most [`COSIGNATURES_MAX`].
    pub cosignatures: Vec<Cosignature>,
}

impl WitnessedCheckpoint {
    /// Reads strict DER within the limits; no signature is checked.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let not_der = || Fault::NotDer.refused(None, None);
        let read: Self = strict(bytes).map_err(|_| not_der())?;
        // Once more through its own decoder, which asks for more than the derived one.
        read.checkpoint.to_bytes().and_then(|der| Signed::from_bytes(&der)).map_err(|_| not_der())?;
        let rises = read.cosignatures.is_sorted_by(|a, b| a.witness < b.witness);
        if read.cosignatures.len() > COSIGNATURES_MAX || !rises {
            return Err(not_der());
        }
        Ok(read)
    }

    /// The DER.
    ///
    /// # Errors
    /// [`Error::Gm`] when it is larger than DER lengths allow.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        Ok(self.to_der().map_err(hufu_gm::Error::from)?)
    }

    /// What it is of; its signature is not checked.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn read(&self) -> Result<Checkpoint, Error> {
        Checkpoint::from_bytes(self.checkpoint.tbs())
    }

    /// Adds a cosignature whose maker was checked; a second one of the same witness changes nothing. False when it was there or there is
    /// no room.
    pub fn add(&mut self, cosignature: Cosignature) -> bool {
        match self.cosignatures.binary_search_by(|other| other.witness.cmp(&cosignature.witness)) {
            Err(at) if self.cosignatures.len() < COSIGNATURES_MAX => {
                self.cosignatures.insert(at, cosignature);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use hufu_gm::sm2::SecretKey;

    use super::*;
    use crate::{block::Signer, entry::Log};

    fn witnessed(count: u8) -> (WitnessedCheckpoint, Vec<(Hash, PublicKey)>) {
        let key = SecretKey::from_scalar(&[1; 32]).unwrap();
        let checkpoint = Checkpoint {
            version: VERSION,
            log: Log::Trade,
            node: "site-1/node-a".to_owned(),
            epoch: 0,
            size: 1 << 40,
            root: [7; 32],
            time: 1_767_225_600_000_000_000,
        };
        let signed = checkpoint.seal(&Signer { key: &key, cert_id: [9; 32], salt_key: &[0; 32] }).unwrap();
        let mut whole = WitnessedCheckpoint { checkpoint: signed, cosignatures: Vec::new() };
        let mut known = Vec::new();
        for number in 1..=count {
            let (key, id) = (SecretKey::from_scalar(&[number; 32]).unwrap(), [200 - number; 32]);
            let made = Cosignature::make(whole.checkpoint.tbs(), (&id, &key), checkpoint.time + 1).unwrap();
            assert!(whole.add(made.clone()) && !whole.add(made));
            known.push((id, key.public_key()));
        }
        (whole, known)
    }

    #[test]
    fn sixteen_cosignatures_stay_below_two_kibibytes_and_each_is_its_makers() {
        let (whole, known) = witnessed(16);
        let bytes = whole.to_bytes().unwrap();
        assert!(bytes.len() < 2048, "{} bytes", bytes.len());
        assert_eq!(WitnessedCheckpoint::from_bytes(&bytes).unwrap(), whole);
        for (id, key) in &known {
            let found = whole.cosignatures.iter().find(|one| one.names(id)).unwrap();
            assert!(found.is_by(whole.checkpoint.tbs(), (id, key)));
            assert!(!found.is_by(b"another checkpoint", (id, key)));
            assert!(!found.is_by(whole.checkpoint.tbs(), (&[1; 32], key)));
            let later = Cosignature { time: found.time + 1, ..found.clone() };
            assert!(!later.is_by(whole.checkpoint.tbs(), (id, key)));
        }
    }

    #[test]
    fn what_is_out_of_order_too_much_or_cut_is_refused() {
        let (whole, _) = witnessed(2);
        let bytes = whole.to_bytes().unwrap();
        for cut in 0..bytes.len() {
            WitnessedCheckpoint::from_bytes(&bytes[..cut]).unwrap_err();
        }
        WitnessedCheckpoint::from_bytes(&[&bytes[..], &[0]].concat()).unwrap_err();
        let mut turned = whole.clone();
        turned.cosignatures.reverse();
        WitnessedCheckpoint::from_bytes(&turned.to_bytes().unwrap()).unwrap_err();
        let mut twice = whole.clone();
        twice.cosignatures.push(whole.cosignatures[1].clone());
        WitnessedCheckpoint::from_bytes(&twice.to_bytes().unwrap()).unwrap_err();
    }
}
