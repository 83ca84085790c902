//! Whether a score stands in its node's log: the entry, its path to the root that the node signed in the block's header, and
//! the block's path to the root that the platform signed in a receipt. Pure: anchors and time are arguments.

use hufu_gm::{Certificate, Signed, Usage, verify_chain};
use hufu_ledger::{
    BlockHeader, Entry, block_hash, entry_hash,
    merkle::{leaf, path_from_text, verify_path},
};
use hufu_trade::{
    decode,
    entry::{EntryKind, Receipt, SignedStatement},
    if2::EntryProof,
    party::{is_named, platform_of},
};
use serde::Deserialize;

/// Whom the reader believes, and when it reads.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) anchors: &'a [Certificate],
    pub(super) now_ns: i64,
    /// Certificates of platforms, each believed only where it leads to an anchor.
    pub(super) platforms: &'a [Certificate],
}

/// The proof that comes with a score.
#[derive(Deserialize)]
pub(super) struct Proof(EntryProof);

impl Proof {
    /// Whether exactly this statement with this signature is the score entry of a block that the node `pool` signed; and
    /// where the platform has given a receipt over that block, whether it holds too.
    pub(super) fn holds(&self, pool: &str, (statement, signature): (&[u8], &[u8]), reader: &Reader<'_>) -> bool {
        self.holds_score(statement, signature) == Some(true)
            && self.header(pool, reader).is_some_and(|(tbs, header)| self.is_receipted(pool, (&tbs, &header), reader))
    }

    fn holds_score(&self, statement: &[u8], signature: &[u8]) -> Option<bool> {
        let entry = Entry::from_bytes(&self.0.entry.0).ok()?;
        let body: SignedStatement = decode(&entry.body, "SignedStatement").ok()?;
        let same = body.statement.as_bytes() == statement && body.signature.as_bytes() == signature;
        Some(same && entry.kind == EntryKind::Score.number())
    }

    /// The signed bytes of the header, which the node signed and under which the entry stands.
    fn header(&self, pool: &str, reader: &Reader<'_>) -> Option<(Vec<u8>, BlockHeader)> {
        let signed = Signed::from_bytes(&self.0.header.0).ok()?;
        let header = BlockHeader::from_bytes(signed.tbs()).ok()?;
        let chain: Vec<Certificate> =
            self.0.certificates.iter().map(|der| Certificate::from_der(&der.0)).collect::<Result<_, _>>().ok()?;
        let node = chain.iter().find(|certificate| certificate.id() == signed.cert_id())?;
        let path = path_from_text(&self.0.entry_path)?;
        let at_ns = reader.now_ns.min(header.time);
        let holds = header.node == pool
            && is_named(node, pool)
            && verify_chain(node, &chain, reader.anchors, &[], at_ns, Usage::Signing).is_ok()
            && signed.verify(node.public_key()).is_valid()
            && verify_path(&entry_hash(&self.0.entry.0), self.0.index.into(), header.count.into(), &path, &header.root);
        holds.then(|| (signed.tbs().to_vec(), header))
    }

    /// A receipt that is there holds; without one only the node vouches, as it does for its newest blocks.
    fn is_receipted(&self, pool: &str, (tbs, header): (&[u8], &BlockHeader), reader: &Reader<'_>) -> bool {
        let Some(receipt) = &self.0.receipt else { return true };
        let Ok(signed) = Signed::from_bytes(&receipt.0) else { return false };
        let (Ok(said), Some(path)) = (decode::<Receipt>(signed.tbs(), "Receipt"), path_from_text(&self.0.log_path))
        else {
            return false;
        };
        let at_ns = reader.now_ns.min(said.stored_at);
        let known = reader.platforms.iter().find(|platform| platform.id() == signed.cert_id());
        // Signed under a certificate the platform had before: then, too, only the node vouches.
        let Some(platform) = known else { return true };
        is_named(platform, &platform_of(pool))
            && signed.verify(platform.public_key()).is_valid()
            && verify_chain(platform, reader.platforms, reader.anchors, &[], at_ns, Usage::Signing).is_ok()
            && said.computing_pool_id == pool
            && said.log == header.log.number()
            && verify_path(&leaf(&block_hash(tbs)), header.height, said.size, &path, &said.root.0)
    }
}

#[cfg(test)]
mod tests {
    use hufu_gm::{
        SecretKey,
        ca::{self, Role, Terms},
    };
    use hufu_ledger::{Ledger, Log, NewBlock, NewEntry, Options, Signer, TimeQuality, TimeState, merkle::path_to_text};
    use hufu_trade::{encode, if2::Sealed, octets::Octets};

    use super::*;

    const NOW_NS: i64 = 1_800_000_000_000_000_000;
    const POOL: &str = "s1/n1";

    /// What is done to a proof.
    type Change<'a> = &'a dyn Fn(&mut Proof);

    struct Party {
        key: SecretKey,
        certificate: Certificate,
    }

    fn party(issuer: Option<&Party>, name: &str, n: u8) -> Party {
        let key = SecretKey::from_scalar(&[n; 32]).unwrap();
        let (from, to) = (NOW_NS / 1_000_000_000 - 1000, NOW_NS / 1_000_000_000 + 86_400);
        let terms = Terms { serial: &[n; 8], not_before_s: from, not_after_s: to, dns_names: &[] };
        let subject = format!("CN={name}");
        let certificate = match issuer {
            None => ca::root(&key, &subject, None, &terms),
            Some(ca) => ca::issue(&ca.certificate, &ca.key, Role::Signer, &subject, &key.public_key(), &terms),
        };
        Party { key, certificate: certificate.unwrap() }
    }

    /// The ledger of a node whose third block holds a score, with the proof of it under the platform's receipt.
    fn world(node: &Party, platform: &Party) -> (Proof, Vec<u8>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(POOL);
        Ledger::create(dir.path(), &options, [1; 16]).unwrap();
        let (mut ledger, _) = Ledger::open(dir.path(), &options).unwrap();
        let (statement, signature) = (b"what the buyer said".to_vec(), b"and signed".to_vec());
        let body = SignedStatement::new(&statement, &signature, &[]).unwrap();
        let body = encode(&body, "SignedStatement").unwrap();
        let entry = |kind: EntryKind| NewEntry { kind: kind.number(), body: body.clone(), key: [0; 32], sealed: false };
        let kinds = [EntryKind::Browse, EntryKind::Order, EntryKind::Score, EntryKind::Browse];
        let blocks = kinds.map(|kind| NewBlock { log: Log::Trade, entries: vec![entry(kind)] });
        let signer = Signer { key: &node.key, cert_id: node.certificate.id(), salt_key: &[2; 32] };
        let quality = TimeQuality { state: TimeState::Synchronised, max_error_ns: None };
        ledger.append(&blocks, &signer, 0, NOW_NS, quality).unwrap();
        let block = hufu_ledger::Block::from_bytes(&ledger.block(Log::Trade, 2).unwrap()).unwrap();
        let receipt = Receipt {
            version: 1,
            computing_pool_id: POOL.to_owned(),
            log: 0,
            size: 4,
            root: Octets(ledger.root(Log::Trade)),
            stored_at: NOW_NS,
            refused: Vec::new(),
            bills: Vec::new(),
        };
        let receipt = encode(&receipt, "Receipt").unwrap();
        let receipt = Signed::seal(receipt, &platform.certificate.id(), &platform.key).unwrap();
        let proof = Proof(EntryProof {
            entry: Sealed(block.entries()[0].clone()),
            index: 0,
            header: Sealed(block.signed().to_bytes().unwrap()),
            entry_path: path_to_text(&block.entry_path(0).unwrap()),
            log_path: path_to_text(&ledger.prove(Log::Trade, 2, 4).unwrap()),
            receipt: Some(Sealed(receipt.to_bytes().unwrap())),
            certificates: vec![Sealed(node.certificate.der().to_vec())],
        });
        (proof, statement, signature)
    }

    #[test]
    fn a_score_is_proven_by_its_block_and_receipt_and_by_nothing_less() {
        let root = party(None, "root", 1);
        let (node, platform) = (party(Some(&root), POOL, 2), party(Some(&root), "s1/platform", 3));
        let other = party(Some(&root), "s1/n2", 4);
        let anchors = [root.certificate.clone()];
        let platforms = [platform.certificate.clone()];
        let reader = Reader { anchors: &anchors, now_ns: NOW_NS, platforms: &platforms };
        let holds = |change: &dyn Fn(&mut Proof), pool: &str, reader: &Reader<'_>| {
            let (mut proof, statement, signature) = world(&node, &platform);
            change(&mut proof);
            proof.holds(pool, (&statement, &signature), reader)
        };
        assert!(holds(&|_| {}, POOL, &reader));
        assert!(holds(&|proof| proof.0.receipt = None, POOL, &reader), "then the node alone vouches");
        assert!(!holds(&|_| {}, "s1/n2", &reader), "the score of another node");
        assert!(!holds(&|_| {}, POOL, &Reader { anchors: &[], ..reader }), "nobody is believed");
        let (proof, statement, signature) = world(&other, &platform);
        assert!(!proof.holds(POOL, (&statement, &signature), &reader), "another node's signature");
        let (proof, statement, signature) = world(&node, &other);
        let wrong = [other.certificate.clone()];
        let reader_of = Reader { platforms: &wrong, ..reader };
        assert!(!proof.holds(POOL, (&statement, &signature), &reader_of), "a receipt by a node");
        assert!(!proof.holds(POOL, (b"something else", &signature), &reader), "another statement");
        let cases: [(&str, Change<'_>); 6] = [
            ("the entry", &|proof| *proof.0.entry.0.last_mut().unwrap() ^= 1),
            ("the index", &|proof| proof.0.index = 1),
            ("the header", &|proof| *proof.0.header.0.last_mut().unwrap() ^= 1),
            ("the path", &|proof| proof.0.entry_path = format!("L {}\n", "0".repeat(64))),
            ("the path to the receipt", &|proof| proof.0.log_path = String::new()),
            ("the receipt", &|proof| *proof.0.receipt.as_mut().unwrap().0.last_mut().unwrap() ^= 1),
        ];
        for (name, change) in cases {
            assert!(!holds(change, POOL, &reader), "{name}");
        }
    }
}
