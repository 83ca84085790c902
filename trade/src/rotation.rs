//! A node changes its key: what both keys sign, whether that holds, and which key may sign which block. Whether a certificate
//! is trusted and names the node is the caller's question, as for any other.

use der::{Sequence, asn1::OctetString};
use hufu_gm::{Certificate, sm2::PublicKey};
use serde::Serialize;

use crate::{
    Error,
    notice::WHY_CHARS_MAX,
    octets::{self, Digest, Octets},
};

/// The key under which a ledger indexes rotations, so that packs find them without reading the log: a contract's key ends in zeros.
pub const KEY: [u8; 32] = *b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0key_rotation\0\0\0\0";

/// What the old and the new key sign.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct KeyRotation {
    /// Format version, 1.
    pub version: u8,
    /// `{site}/{node}`.
    pub computing_pool_id: String,
    /// Certificate id of the key that signed until now.
    pub old: Digest,
    /// Certificate id of the key that signs from now on.
    pub new: Digest,
    /// First height of the finance log that the new key signs; in the trade log it is the height after this entry.
    pub finance_from: u64,
    /// When, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub time: i64,
    /// Why, for a person; at most [`WHY_CHARS_MAX`] characters.
    pub why: String,
}

/// Body of a key_rotation entry: the last that the old key signs in the trade log.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct SignedRotation {
    /// DER of [`KeyRotation`], as signed.
    pub rotation: OctetString,
    /// DER `SM2Signature` by the old key.
    pub old_signature: OctetString,
    /// DER `SM2Signature` by the new key.
    pub new_signature: OctetString,
    /// The new certificate and its issuers up to, not including, the anchor (DER, leaf first).
    pub certificates: Vec<OctetString>,
}

fn wrong<T>(field: &'static str, why: &str) -> Result<T, Error> {
    Err(Error::Field { what: "KeyRotation", field, why: why.to_owned() })
}

impl SignedRotation {
    /// The rotation inside, checked for form.
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Field`].
    pub fn open(&self) -> Result<KeyRotation, Error> {
        let rotation: KeyRotation = crate::decode(self.rotation.as_bytes(), "KeyRotation")?;
        if rotation.old == rotation.new {
            return wrong("new", "the old certificate");
        }
        if rotation.why.chars().count() > WHY_CHARS_MAX || rotation.why.chars().any(char::is_control) {
            return wrong("why", "at most 400 characters, none of them a control character");
        }
        Ok(rotation)
    }

    /// Whether the node `pool` rotated its key in this entry: both keys signed it, the old one is `old`, and the new one is that
    /// of the first certificate inside. Gives the rotation and the new certificate.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::Field`] with the field `computingPoolId`, `old`, `new`, `certificates`, `oldSignature` or
    /// `newSignature` that does not hold.
    pub fn check(&self, pool: &str, old: (Digest, &PublicKey)) -> Result<(KeyRotation, Certificate), Error> {
        let rotation = self.open()?;
        if rotation.computing_pool_id != pool {
            return wrong("computingPoolId", "another node's");
        }
        if rotation.old != old.0 {
            return wrong("old", "not the certificate in force, which signs this block");
        }
        let leaf = self.certificates.first().and_then(|der| Certificate::from_der(der.as_bytes()).ok());
        let Some(leaf) = leaf.filter(|leaf| Octets(leaf.id()) == rotation.new) else {
            return wrong("certificates", "the first one is not the new certificate");
        };
        if leaf.public_key() == old.1 {
            return wrong("new", "the same key under another certificate: that is no rotation");
        }
        if !old.1.verify(self.rotation.as_bytes(), self.old_signature.as_bytes()).is_valid() {
            return wrong("oldSignature", "not by the old key");
        }
        if !leaf.public_key().verify(self.rotation.as_bytes(), self.new_signature.as_bytes()).is_valid() {
            return wrong("newSignature", "not by the new key");
        }
        Ok((rotation, leaf))
    }
}

/// The heights at which one key signs, in the trade and the finance log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    key: PublicKey,
    from: [u64; 2],
    /// Not included.
    until: [u64; 2],
}

/// Which key of a node signs which blocks. Without a rotation every certificate of the node does; a rotation ends all keys
/// before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signers {
    terms: Vec<Term>,
}

impl Signers {
    /// A certificate of the node became known. It never brings back a key that a rotation has ended.
    pub fn introduce(&mut self, key: &PublicKey) {
        if !self.terms.iter().any(|term| term.key == *key) {
            self.terms.push(Term { key: key.clone(), from: [0; 2], until: [u64::MAX; 2] });
        }
    }

    /// A rotation from one key to another stands at a height of the trade log.
    ///
    /// # Errors
    /// [`Error::Field`] for a new key that has been in force before, and for a height before an earlier rotation's.
    pub fn rotate(
        &mut self,
        trade_height: u64,
        rotation: &KeyRotation,
        (old, new): (&PublicKey, &PublicKey),
    ) -> Result<(), Error> {
        self.introduce(old);
        let from = [trade_height.saturating_add(1), rotation.finance_from];
        let was_there = |term: &Term| term.key == *new && (term.until != [u64::MAX; 2] || term.from != [0; 2]);
        if self.terms.iter().any(was_there) {
            return wrong("new", "a key that was in force before");
        }
        self.terms.retain(|term| term.key != *new);
        for term in self.terms.iter_mut().filter(|term| term.until == [u64::MAX; 2]) {
            if rotation.finance_from < term.from[1] {
                return wrong("financeFrom", "before the rotation before it");
            }
            term.until = from;
        }
        self.terms.push(Term { key: new.clone(), from, until: [u64::MAX; 2] });
        Ok(())
    }

    /// Whether a key may sign the block at a height of a log (0 trade, 1 finance). A key that is not known here is not
    /// judged: its certificate is another question.
    pub fn may_sign(&self, log: u8, height: u64, key: &PublicKey) -> bool {
        let log = usize::from(log.min(1));
        let mut terms = self.terms.iter().filter(|term| term.key == *key).peekable();
        terms.peek().is_none() || terms.any(|term| (term.from[log]..term.until[log]).contains(&height))
    }
}
