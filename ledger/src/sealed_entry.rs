//! Sealed entries: what stands in a stored block in place of an entry that is encrypted at rest. Header, root and signature
//! are over the plain entries, so a block is the same block whether its entries can be read or not. The keys are `keys.rs`;
//! what was found of a block is `held.rs`; who wants which entry sealed, and why, is not known here.
//!
//! ```text
//! SealedEntry ::= [APPLICATION 1] IMPLICIT SEQUENCE {
//!     hash        OCTET STRING (SIZE (32)),  -- entry hash of the plain entry: the leaf under the block's root
//!     key         OCTET STRING (SIZE (32)),  -- key of the entry, which names the SM4 key
//!     nonce       OCTET STRING (SIZE (16)),  -- HMAC-SM3(SM4 key, "hufu-nonce-v1" || hash), first 16 bytes
//!     ciphertext  OCTET STRING }             -- SM4-CTR of the Entry's DER
//! ```
//! An `Entry` is a SEQUENCE, so its first byte is another one: neither can be taken for the other. The nonce comes from the
//! content, so the same nonce means the same content, also where a torn tail was set aside and its height written anew.

use der::{
    Decode, Encode, Reader, Sequence, SliceReader,
    asn1::{AnyRef, OctetString},
};
use hufu_gm::{
    Hash, Signed,
    signed::strict,
    sm3::hmac_sm3,
    sm4::{self, NONCE_BYTES},
};

use crate::{
    block::{Block, BlockHeader, check_entries, check_limits, read_parts},
    entry::entry_hash,
    error::{Error, Fault},
    index::NO_KEY,
    journal::{Framed, Journal, Mode},
    merkle,
};

/// First byte of a sealed entry.
const TAG: u8 = 0x61;
/// First byte of every SEQUENCE, and so of every entry.
const SEQUENCE_TAG: u8 = 0x30;

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(crate) struct SealedEntry {
    /// Entry hash of the plain entry.
    #[asn1(type = "OCTET STRING", deref = "true")]
    pub(crate) hash: Hash,
    /// The entry's key.
    #[asn1(type = "OCTET STRING", deref = "true")]
    pub(crate) key: [u8; 32],
    #[asn1(type = "OCTET STRING", deref = "true")]
    nonce: [u8; NONCE_BYTES],
    #[asn1(type = "OCTET STRING", deref = "true")]
    ciphertext: Vec<u8>,
}

impl SealedEntry {
    /// Seals the DER of an entry.
    pub(crate) fn seal(entry: &[u8], key: [u8; 32], secret: &sm4::Key) -> Self {
        let hash = entry_hash(entry);
        let mac = hmac_sm3(secret.as_bytes(), &[b"hufu-nonce-v1", &hash]);
        let mut nonce = [0; NONCE_BYTES];
        nonce.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
        let mut ciphertext = entry.to_vec();
        secret.apply_ctr(&nonce, &mut ciphertext);
        Self { hash, key, nonce, ciphertext }
    }

    /// The DER of the entry; `None` when this is not the key, or the bytes were changed.
    pub(crate) fn open(&self, secret: &sm4::Key) -> Option<Vec<u8>> {
        let mut entry = self.ciphertext.clone();
        secret.apply_ctr(&self.nonce, &mut entry);
        (entry_hash(&entry) == self.hash).then_some(entry)
    }

    /// Strict DER of the form above.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Fault> {
        let mut sequence = bytes.to_vec();
        match sequence.first_mut() {
            Some(tag) if *tag == TAG => *tag = SEQUENCE_TAG,
            _ => return Err(Fault::NotDer),
        }
        strict(&sequence).map_err(|_| Fault::NotDer)
    }

    fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = self.to_der().map_err(hufu_gm::Error::from)?;
        if let Some(tag) = bytes.first_mut() {
            *tag = TAG;
        }
        Ok(bytes)
    }
}

/// Whether the bytes in an entry's place are a sealed entry.
pub(crate) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.first() == Some(&TAG)
}

/// Whether a stored block has a sealed entry. It looks at the first byte of each entry only: most blocks have none, and they
/// are read as often as before.
pub(crate) fn has_sealed(block: &[u8]) -> bool {
    fn look(block: &[u8]) -> Result<bool, der::Error> {
        let mut parts = SliceReader::new(AnyRef::from_der(block)?.value())?;
        let _header = AnyRef::decode(&mut parts)?;
        let mut entries = SliceReader::new(AnyRef::decode(&mut parts)?.value())?;
        while !entries.is_finished() {
            if is_sealed(AnyRef::decode(&mut entries)?.value()) {
                return Ok(true);
            }
        }
        Ok(false)
    }
    // What is no block is refused by whoever reads it next.
    look(block).unwrap_or(false)
}

/// A block's DER with these bytes in its entries' places.
pub(crate) fn block_with(signed: &Signed, entries: &[Vec<u8>]) -> Result<Vec<u8>, Error> {
    #[derive(Sequence)]
    struct Wire {
        header: Signed,
        entries: Vec<OctetString>,
    }
    let entries = entries.iter().map(|entry| OctetString::new(entry.as_slice())).collect::<Result<_, _>>();
    let wire = Wire { header: signed.clone(), entries: entries.map_err(hufu_gm::Error::from)? };
    Ok(wire.to_der().map_err(hufu_gm::Error::from)?)
}

/// The stored form of a block in which each entry with a secret is sealed: `secrets` has one place for each entry.
fn stored_block(block: &Block, keys: &[[u8; 32]], secrets: &[Option<sm4::Key>]) -> Result<Vec<u8>, Error> {
    let places = block.entries().iter().zip(keys).zip(secrets);
    let entries = places.map(|((entry, key), secret)| match secret {
        Some(secret) => SealedEntry::seal(entry, *key, secret).to_bytes(),
        None => Ok(entry.clone()),
    });
    block_with(block.signed(), &entries.collect::<Result<Vec<_>, _>>()?)
}

/// What becomes of a sealed entry whose key was destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destroyed {
    /// It is not appended.
    Refuse,
    /// It was appended before and comes back: it stays erased, sealed under a key that nobody keeps.
    StaysErased,
}

impl Journal {
    /// Gives the blocks that have sealed entries the form in which they are written, and makes the keys they need durable. For
    /// a batch without any it does nothing.
    pub(crate) fn seal_entries(&mut self, batch: &mut [Framed], destroyed: Destroyed) -> Result<(), Error> {
        for framed in batch.iter_mut().filter(|framed| framed.sealed.contains(&true)) {
            let (log, height) = (framed.block.header().log, framed.block.header().height);
            let Some(keys) = &mut self.keys else { return Err(Error::NoKeys { log: Some(log), height: Some(height) }) };
            let mut secrets = Vec::new();
            for (index, (sealed, key)) in (0_u32..).zip(framed.sealed.iter().zip(&framed.keys)) {
                if *sealed && *key == NO_KEY {
                    return Err(Fault::SealedKey(index).refused(Some(log), Some(height)));
                }
                let secret = if *sealed { keys.for_writing(key) } else { Ok(None) };
                if matches!(secret, Err(Error::Io { .. } | Error::NoSpace { .. })) {
                    // As after any failed write: what the disk holds is not known.
                    self.mode = Mode::Poisoned;
                }
                secrets.push(match secret? {
                    None if *sealed && destroyed == Destroyed::Refuse => return Err(Error::ErasedKey),
                    None if *sealed => Some(keys.one_off()?),
                    found => found,
                });
            }
            framed.stored = Some(stored_block(&framed.block, &framed.keys, &secrets)?);
        }
        Ok(())
    }
}

/// A stored block whose inside fits together: as [`Block`], with sealed entries in the places of others.
#[derive(Debug)]
pub(crate) struct StoredBlock {
    pub(crate) signed: Signed,
    pub(crate) header: BlockHeader,
    /// Entries and sealed entries.
    pub(crate) entries: Vec<Vec<u8>>,
    /// Entry hash of each.
    pub(crate) leaves: Vec<Hash>,
}

impl StoredBlock {
    /// Strict DER, limits, count and root.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Fault> {
        let (signed, header, entries) = read_parts(bytes)?;
        let leaves = check_stored(&header, &entries)?;
        Ok(Self { signed, header, entries, leaves })
    }
}

/// As [`check_entries`], with sealed entries in the places of others: what they hide is their keys' business.
pub(crate) fn check_stored(header: &BlockHeader, entries: &[Vec<u8>]) -> Result<Vec<Hash>, Fault> {
    if !entries.iter().any(|entry| is_sealed(entry)) {
        return check_entries(header, entries);
    }
    let (mut leaves, mut bytes) = (Vec::with_capacity(entries.len()), 0_usize);
    for entry in entries {
        if is_sealed(entry) {
            let sealed = SealedEntry::from_bytes(entry)?;
            bytes = bytes.saturating_add(sealed.ciphertext.len());
            leaves.push(sealed.hash);
        } else {
            strict::<crate::entry::Entry>(entry).map_err(|_| Fault::NotDer)?;
            bytes = bytes.saturating_add(entry.len());
            leaves.push(entry_hash(entry));
        }
    }
    check_limits(leaves.len(), bytes)?;
    if usize::try_from(header.count) != Ok(entries.len()) {
        return Err(Fault::WrongCount { header: header.count, found: entries.len() });
    }
    if merkle::root(&leaves) == header.root { Ok(leaves) } else { Err(Fault::WrongRoot) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Entry;

    #[test]
    fn what_is_sealed_is_no_entry_and_opens_under_its_key_alone() {
        let entry = Entry { salt: [1; 16], kind: 42, body: b"paid".to_vec() }.to_bytes().unwrap();
        let (secret, other) = (sm4::Key::from_bytes([5; 16]), sm4::Key::from_bytes([6; 16]));
        let sealed = SealedEntry::seal(&entry, [9; 32], &secret);
        let bytes = sealed.to_bytes().unwrap();
        assert!(is_sealed(&bytes) && !is_sealed(&entry));
        assert!(Entry::from_bytes(&bytes).is_err() && SealedEntry::from_bytes(&entry).is_err());
        assert_eq!(SealedEntry::from_bytes(&bytes).as_ref(), Ok(&sealed));
        assert_eq!(sealed.open(&secret), Some(entry.clone()));
        assert_eq!(sealed.open(&other), None);
        assert!(!bytes.windows(4).any(|part| part == b"paid"));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            // The entry key is compared with the one behind the block, everything else by the hash.
            let found = SealedEntry::from_bytes(&bad).ok().filter(|sealed| sealed.key == [9; 32]);
            assert_eq!(found.and_then(|sealed| sealed.open(&secret)), None, "byte {at}");
        }
    }

    #[test]
    fn a_nonce_is_never_used_for_two_contents() {
        let secret = sm4::Key::from_bytes([5; 16]);
        let nonce = |body: &[u8]| SealedEntry::seal(body, [9; 32], &secret).nonce;
        assert_eq!(nonce(b"a"), nonce(b"a"));
        assert_ne!(nonce(b"a"), nonce(b"b"));
    }
}
