//! Fork proofs: a node that showed two pasts of one log convicts itself by its own signatures. Self-contained, without a word of whoever
//! found it, so that all who find the same fork hold the same file. What is done about it is the agent's and the platform's business.

use der::{Encode, Sequence, asn1::OctetString};
use hufu_gm::{Hash, Signed, signed::strict, sm2::PublicKey};

use crate::{
    block::{BlockHeader, VERSION, check_signature},
    checkpoint::Checkpoint,
    entry::Log,
    error::{Error, Fault},
    merkle,
};

/// Most octets of a proof.
pub const BYTES_MAX: usize = 32 * 1024;
/// Most certificates in one.
const CERTIFICATES_MAX: usize = 16;
/// Most hashes that join two sizes: two for each level of the tree.
const JOIN_MAX: usize = 130;

/// That the larger of two checkpoints says another root at the smaller size than the smaller one does.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Join {
    /// The root at the smaller size, by the larger checkpoint.
    #[asn1(type = "OCTET STRING", deref = "true")]
    pub root: Hash,
    /// Consistency proof from it to the root of the larger checkpoint, RFC 6962 section 2.1.2.
    pub proof: Vec<OctetString>,
}

/// Two statements of one node that exclude each other: two headers of one height and epoch, or two checkpoints of one epoch whose
/// roots nothing joins.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct ForkProof {
    /// [`VERSION`].
    pub version: u8,
    /// The log.
    pub log: Log,
    /// The node whose log it is.
    pub node: String,
    /// Headers: the one whose DER has the smaller hash. Checkpoints: the smaller one, or of one size the one with the smaller root.
    pub first: Signed,
    /// The other.
    pub second: Signed,
    /// Exactly with checkpoints.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub join: Option<Join>,
    /// Certificates of the signers and their issuers below the anchor, DER, by their octets, each once.
    pub certificates: Vec<OctetString>,
}

/// Where the two pasts are apart, by a proof that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parted {
    /// At this height two blocks were signed.
    Height(u64),
    /// The logs of this many blocks are two.
    Size(u64),
}

impl ForkProof {
    /// A proof from two signed headers, in its one order.
    ///
    /// # Errors
    /// [`Error::Refused`] when they are no headers, [`Error::Gm`] for certificates larger than DER lengths allow.
    pub fn of_headers(one: &Signed, other: &Signed, certificates: &[Vec<u8>]) -> Result<Self, Error> {
        let header = BlockHeader::from_bytes(one.tbs())?;
        let key = |signed: &Signed| crate::block::block_hash(signed.tbs());
        let (first, second) = if key(one) <= key(other) { (one, other) } else { (other, one) };
        Self::put((header.log, header.node), (first, second), None, certificates)
    }

    /// A proof from two signed checkpoints, the root at the smaller size by the larger, and the hashes between, in its one order.
    ///
    /// # Errors
    /// As [`ForkProof::of_headers`].
    pub fn of_checkpoints(
        (one, other): (&Signed, &Signed),
        (root, proof): (Hash, &[Hash]),
        certificates: &[Vec<u8>],
    ) -> Result<Self, Error> {
        let key = |signed: &Signed| Checkpoint::from_bytes(signed.tbs()).map(|read| (read.size, read.root));
        let (a, b) = (key(one)?, key(other)?);
        let (first, second) = if a <= b { (one, other) } else { (other, one) };
        let read = Checkpoint::from_bytes(first.tbs())?;
        let proof = proof.iter().map(|hash| OctetString::new(hash.to_vec())).collect::<Result<_, _>>();
        // Two checkpoints of one size: the second one's own root is the other past.
        let root = if a.0 == b.0 { b.1.max(a.1) } else { root };
        let join = Join { root, proof: proof.map_err(hufu_gm::Error::from)? };
        Self::put((read.log, read.node), (first, second), Some(join), certificates)
    }

    fn put(
        (log, node): (Log, String),
        (first, second): (&Signed, &Signed),
        join: Option<Join>,
        certificates: &[Vec<u8>],
    ) -> Result<Self, Error> {
        let mut certificates = certificates.to_vec();
        certificates.sort_unstable();
        certificates.dedup();
        let octets = certificates.into_iter().map(OctetString::new).collect::<Result<_, _>>();
        let certificates = octets.map_err(hufu_gm::Error::from)?;
        Ok(Self { version: VERSION, log, node, first: first.clone(), second: second.clone(), join, certificates })
    }

    /// Reads strict DER within the limits; nothing is judged.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let not_der = || Fault::NotDer.refused(None, None);
        if bytes.len() > BYTES_MAX {
            return Err(not_der());
        }
        let read: Self = strict(bytes).map_err(|_| not_der())?;
        for signed in [&read.first, &read.second] {
            signed.to_bytes().and_then(|der| Signed::from_bytes(&der)).map_err(|_| not_der())?;
        }
        let joins = read.join.iter().flat_map(|join| &join.proof);
        let is_join = read.join.as_ref().is_none_or(|join| join.proof.len() <= JOIN_MAX)
            && joins.into_iter().all(|hash| hash.as_bytes().len() == 32);
        let rises = read.certificates.is_sorted_by(|a, b| a.as_bytes() < b.as_bytes());
        if !is_join || !rises || read.certificates.len() > CERTIFICATES_MAX {
            return Err(not_der());
        }
        match read.version {
            VERSION => Ok(read),
            version => Err(Fault::Version(version).refused(Some(read.log), None)),
        }
    }

    /// The DER.
    ///
    /// # Errors
    /// [`Error::Gm`] when it is larger than DER lengths allow.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        Ok(self.to_der().map_err(hufu_gm::Error::from)?)
    }

    /// Judges it: both are signed under keys that `key_of` gives for the node's certificates, both are of this node and log, and they exclude
    /// each other. `None` for a pair that does not: it proves nothing. Whether a certificate is the node's, the caller knows.
    ///
    /// # Errors
    /// [`Error::Refused`] when a part is not what it must be, or a signature does not hold.
    pub fn judge(&self, key_of: &dyn Fn(&Hash) -> Option<PublicKey>) -> Result<Option<Parted>, Error> {
        let fault = |fault: Fault| fault.refused(Some(self.log), None);
        for signed in [&self.first, &self.second] {
            let key = key_of(&signed.cert_id()).ok_or_else(|| fault(Fault::BadSignature))?;
            check_signature(signed, &key).map_err(fault)?;
        }
        match &self.join {
            None => self.headers(),
            Some(join) => self.checkpoints(join),
        }
    }

    fn headers(&self) -> Result<Option<Parted>, Error> {
        let [a, b] = [BlockHeader::from_bytes(self.first.tbs())?, BlockHeader::from_bytes(self.second.tbs())?];
        for header in [&a, &b] {
            if header.log != self.log {
                return Err(Fault::OtherLog(header.log).refused(Some(self.log), None));
            }
            if header.node != self.node {
                return Err(Fault::OtherNode(header.node.clone()).refused(Some(self.log), None));
            }
        }
        // Another epoch at a height says that the block there was lost; whether that was honest its entry shows.
        let excludes = a.height == b.height && a.epoch == b.epoch && self.first.tbs() != self.second.tbs();
        let hash = |signed: &Signed| crate::block::block_hash(signed.tbs());
        let in_order = hash(&self.first) <= hash(&self.second);
        Ok((excludes && in_order).then_some(Parted::Height(a.height)))
    }

    fn checkpoints(&self, join: &Join) -> Result<Option<Parted>, Error> {
        let [a, b] = [Checkpoint::from_bytes(self.first.tbs())?, Checkpoint::from_bytes(self.second.tbs())?];
        for checkpoint in [&a, &b] {
            if checkpoint.log != self.log {
                return Err(Fault::OtherLog(checkpoint.log).refused(Some(self.log), None));
            }
            if checkpoint.node != self.node {
                return Err(Fault::OtherNode(checkpoint.node.clone()).refused(Some(self.log), None));
            }
        }
        let proof: Vec<Hash> = join.proof.iter().filter_map(|hash| hash.as_bytes().try_into().ok()).collect();
        let joined = merkle::verify_consistency(a.size, b.size, &proof, &join.root, &b.root);
        let excludes = a.epoch == b.epoch && a.size > 0 && joined && join.root != a.root;
        let in_order = (a.size, a.root) <= (b.size, b.root);
        Ok((excludes && in_order).then_some(Parted::Size(a.size)))
    }
}

#[cfg(test)]
mod tests {
    use hufu_gm::sm2::SecretKey;

    use super::*;
    use crate::block::{Signer, TimeQuality, TimeState};

    fn key() -> SecretKey {
        SecretKey::from_scalar(&[1; 32]).unwrap()
    }

    fn header(height: u64, epoch: u64, root: u8) -> Signed {
        let quality = TimeQuality { state: TimeState::Relative, max_error_ns: None };
        let header = BlockHeader {
            version: VERSION,
            log: Log::Trade,
            node: "s1/n1".to_owned(),
            epoch,
            height,
            previous: [3; 32],
            time: 5,
            quality,
            root: [root; 32],
            count: 1,
        };
        Signed::seal(header.to_bytes().unwrap(), &[9; 32], &key()).unwrap()
    }

    fn checkpoint(size: u64, root: Hash) -> Signed {
        let node = "s1/n1".to_owned();
        let one = Checkpoint { version: VERSION, log: Log::Trade, node, epoch: 0, size, root, time: 7 };
        one.seal(&Signer { key: &key(), cert_id: [9; 32], salt_key: &[0; 32] }).unwrap()
    }

    fn judged(proof: &ForkProof) -> Option<Parted> {
        let bytes = proof.to_bytes().unwrap();
        let read = ForkProof::from_bytes(&bytes).unwrap();
        assert_eq!(&read, proof);
        read.judge(&|id| (*id == [9; 32]).then(|| key().public_key())).unwrap()
    }

    #[test]
    fn two_headers_of_one_height_are_one_file_whoever_finds_them() {
        let (a, b) = (header(4, 0, 1), header(4, 0, 2));
        let certificates = [vec![2], vec![1], vec![2]];
        let one = ForkProof::of_headers(&a, &b, &certificates).unwrap();
        let other = ForkProof::of_headers(&b, &a, &certificates[..2]).unwrap();
        assert_eq!(one, other);
        assert_eq!(judged(&one), Some(Parted::Height(4)));
        for (name, second) in
            [("the same", header(4, 0, 1)), ("another height", header(5, 0, 2)), ("another epoch", header(4, 1, 2))]
        {
            assert_eq!(judged(&ForkProof::of_headers(&a, &second, &[]).unwrap()), None, "{name}");
        }
        let turned = ForkProof { first: one.second.clone(), second: one.first.clone(), ..one.clone() };
        assert_eq!(judged(&turned), None, "in the other order it is another file");
        let forged = Signed::from_parts(b.tbs().to_vec(), &[9; 32], a.signature().to_vec()).unwrap();
        let forged = ForkProof::of_headers(&a, &forged, &[]).unwrap();
        forged.judge(&|_| Some(key().public_key())).unwrap_err();
        one.judge(&|_| None).unwrap_err();
        let renamed = ForkProof { node: "s1/n2".to_owned(), ..one };
        renamed.judge(&|_| Some(key().public_key())).unwrap_err();
    }

    #[test]
    fn two_roots_that_nothing_joins_convict_and_two_that_are_joined_do_not() {
        let leaves: Vec<Hash> = (0..9_u8).map(|n| merkle::leaf(&[n])).collect();
        let other: Vec<Hash> = (0..9_u8).map(|n| merkle::leaf(&[n / 8 + n])).collect();
        for (then, now) in [(1, 9), (4, 9), (8, 9), (5, 7), (7, 8)] {
            let root = merkle::root(&leaves[..then]);
            let proof = merkle::consistency(&leaves[..now], then).unwrap();
            let (size, count) = (then as u64, now as u64);
            let whole = checkpoint(count, merkle::root(&leaves[..now]));
            let false_one = checkpoint(size, [0x55; 32]);
            let made = ForkProof::of_checkpoints((&whole, &false_one), (root, &proof), &[]).unwrap();
            assert_eq!(judged(&made), Some(Parted::Size(size)), "{then} {now}");
            let honest = checkpoint(size, root);
            let made = ForkProof::of_checkpoints((&honest, &whole), (root, &proof), &[]).unwrap();
            assert_eq!(judged(&made), None, "{then} {now}: the same past");
            let lied = ForkProof::of_checkpoints((&honest, &whole), ([0x55; 32], &proof), &[]).unwrap();
            assert_eq!(judged(&lied), None, "a root that its finder made up");
        }
        let (a, b) = (checkpoint(9, merkle::root(&leaves)), checkpoint(9, merkle::root(&other)));
        let made = ForkProof::of_checkpoints((&a, &b), ([0; 32], &[]), &[]).unwrap();
        let again = ForkProof::of_checkpoints((&b, &a), ([1; 32], &[]), &[]).unwrap();
        assert_eq!((judged(&made), &made), (Some(Parted::Size(9)), &again));
    }

    #[test]
    fn damaged_proofs_are_refused() {
        let proof = ForkProof::of_headers(&header(4, 0, 1), &header(4, 0, 2), &[vec![1], vec![2]]).unwrap();
        let bytes = proof.to_bytes().unwrap();
        for cut in 0..bytes.len() {
            ForkProof::from_bytes(&bytes[..cut]).unwrap_err();
        }
        ForkProof::from_bytes(&vec![0x30; BYTES_MAX + 1]).unwrap_err();
        let later = ForkProof { version: VERSION + 1, ..proof };
        ForkProof::from_bytes(&later.to_bytes().unwrap()).unwrap_err();
    }
}
