//! The keys of a ledger's node as the ledger itself tells them: its certificates, and the rotations from one key to the next.
//! Whether every block is signed by a key in force is the full check's question, which asks here.

use std::{collections::BTreeMap, path::Path};

use hufu_gm::{Certificate, Hash, PublicKey, Usage, verify_chain};
use hufu_ledger::{BlockHeader, Entry, HeldEntry, Ledger, Log};
use hufu_trade::{
    decode,
    entry::{Certificates, EntryKind},
    octets::Octets,
    party::is_named,
    rotation::{SignedRotation, Signers},
};

/// What the ledger says of its keys.
#[derive(Default)]
pub(super) struct Keys {
    /// Keys of certificates that name the node; with anchors only of those that lead to one, as of their block.
    pub(super) known: BTreeMap<Hash, PublicKey>,
    signers: Signers,
    /// Trade height and reason of each rotation that does not hold.
    pub(super) refused: Vec<(u64, String)>,
}

impl Keys {
    /// Reads the trade log of a ledger.
    pub(super) fn read(dir: &Path, anchors: Option<&[Certificate]>) -> Self {
        let mut keys = Self::default();
        let Ok(ledger) = Ledger::open_read_only(dir).map(Ledger::without_keys) else { return keys };
        for block in (0..ledger.size(Log::Trade)).map_while(|height| ledger.held(Log::Trade, height).ok()) {
            let plain = block.entries().iter().filter_map(HeldEntry::plain);
            for entry in plain.filter_map(|bytes| Entry::from_bytes(bytes).ok()) {
                if entry.kind == EntryKind::Certificates.number() {
                    keys.certificates(&entry.body, block.header(), anchors);
                } else if entry.kind == EntryKind::KeyRotation.number()
                    && let Err(why) = keys.rotation(&entry.body, block.header(), (block.signed().cert_id(), anchors))
                {
                    keys.refused.push((block.header().height, why));
                }
            }
        }
        keys
    }

    /// Whether the key of a certificate may sign a block; of one that is not known that is another question.
    pub(super) fn may_sign(&self, log: Log, height: u64, id: &Hash) -> bool {
        self.known.get(id).is_none_or(|key| self.signers.may_sign(log.number(), height, key))
    }

    fn certificates(&mut self, body: &[u8], header: &BlockHeader, anchors: Option<&[Certificate]>) {
        let Ok(found) = decode::<Certificates>(body, "Certificates") else { return };
        let ders = found.certificates.iter().map(|der| der.as_bytes());
        if let Some(leaf) = trusted(ders, header, anchors) {
            self.signers.introduce(leaf.public_key());
            self.known.insert(leaf.id(), leaf.public_key().clone());
        }
    }

    fn rotation(
        &mut self,
        body: &[u8],
        header: &BlockHeader,
        (signer, anchors): (Hash, Option<&[Certificate]>),
    ) -> Result<(), String> {
        let signed: SignedRotation = decode(body, "SignedRotation").map_err(|error| error.to_string())?;
        let old = self
            .known
            .get(&signer)
            .cloned()
            .ok_or("KeyRotation.old: the block is signed under an unknown certificate")?;
        let (rotation, leaf) = signed.check(&header.node, (Octets(signer), &old)).map_err(|error| error.to_string())?;
        let ders = signed.certificates.iter().map(|der| der.as_bytes());
        if trusted(ders, header, anchors).is_none() {
            return Err(
                "KeyRotation.certificates: the new certificate is not trusted, or does not name the node".into()
            );
        }
        self.signers.rotate(header.height, &rotation, (&old, leaf.public_key())).map_err(|error| error.to_string())?;
        self.known.insert(leaf.id(), leaf.public_key().clone());
        Ok(())
    }
}

/// The leaf of a chain that names the block's node and, where there are anchors, leads to one.
fn trusted<'a>(
    ders: impl Iterator<Item = &'a [u8]>,
    header: &BlockHeader,
    anchors: Option<&[Certificate]>,
) -> Option<Certificate> {
    let chain: Vec<Certificate> = ders.filter_map(|der| Certificate::from_der(der).ok()).collect();
    let (leaf, rest) = chain.split_first()?;
    let holds =
        anchors.is_none_or(|anchors| verify_chain(leaf, rest, anchors, &[], header.time, Usage::Signing).is_ok());
    (is_named(leaf, &header.node) && holds).then(|| leaf.clone())
}
