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
    if2::Sealed,
    party::{is_named, platform_of},
};
use serde::Deserialize;

/// An entry with the proof that it stands in its node's log, as the platform gives it.
#[derive(Deserialize)]
pub(super) struct Proof {
    entry: Sealed,
    index: u32,
    header: Sealed,
    entry_path: String,
    log_path: String,
    receipt: Option<Sealed>,
    certificates: Vec<Sealed>,
}

/// Whom the reader believes, and when it reads.
pub(super) struct Reader<'a> {
    pub(super) anchors: &'a [Certificate],
    pub(super) now_ns: i64,
    /// Certificates of platforms, each believed only where it leads to an anchor.
    pub(super) platforms: &'a [Certificate],
}

impl Proof {
    /// Whether exactly this statement with this signature is the score entry of a block that the node `pool` signed; and
    /// where the platform has given a receipt over that block, whether it holds too.
    pub(super) fn holds(&self, pool: &str, (statement, signature): (&[u8], &[u8]), reader: &Reader<'_>) -> bool {
        self.holds_score(statement, signature) == Some(true)
            && self.header(pool, reader).is_some_and(|(tbs, header)| self.is_receipted(pool, (&tbs, &header), reader))
    }

    fn holds_score(&self, statement: &[u8], signature: &[u8]) -> Option<bool> {
        let entry = Entry::from_bytes(&self.entry.0).ok()?;
        let body: SignedStatement = decode(&entry.body, "SignedStatement").ok()?;
        let same = body.statement.as_bytes() == statement && body.signature.as_bytes() == signature;
        Some(same && entry.kind == EntryKind::Score.number())
    }

    /// The signed bytes of the header, which the node signed and under which the entry stands.
    fn header(&self, pool: &str, reader: &Reader<'_>) -> Option<(Vec<u8>, BlockHeader)> {
        let signed = Signed::from_bytes(&self.header.0).ok()?;
        let header = BlockHeader::from_bytes(signed.tbs()).ok()?;
        let chain: Vec<Certificate> =
            self.certificates.iter().map(|der| Certificate::from_der(&der.0)).collect::<Result<_, _>>().ok()?;
        let node = chain.iter().find(|certificate| certificate.id() == signed.cert_id())?;
        let path = path_from_text(&self.entry_path)?;
        let at_ns = reader.now_ns.min(header.time);
        let holds = header.node == pool
            && is_named(node, pool)
            && verify_chain(node, &chain, reader.anchors, &[], at_ns, Usage::Signing).is_ok()
            && signed.verify(node.public_key()).is_valid()
            && verify_path(&entry_hash(&self.entry.0), self.index.into(), header.count.into(), &path, &header.root);
        holds.then(|| (signed.tbs().to_vec(), header))
    }

    /// A receipt that is there holds; without one only the node vouches, as it does for its newest blocks.
    fn is_receipted(&self, pool: &str, (tbs, header): (&[u8], &BlockHeader), reader: &Reader<'_>) -> bool {
        let Some(receipt) = &self.receipt else { return true };
        let Ok(signed) = Signed::from_bytes(&receipt.0) else { return false };
        let (Ok(said), Some(path)) = (decode::<Receipt>(signed.tbs(), "Receipt"), path_from_text(&self.log_path))
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
