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

use super::ledger_meters::Meters;

/// What the ledger says of its keys.
#[derive(Default)]
pub(super) struct Keys {
    /// Keys of certificates that name the node; with anchors only of those that lead to one, as of their block.
    pub(super) known: BTreeMap<Hash, PublicKey>,
    signers: Signers,
    /// Trade height and reason of each rotation that does not hold.
    pub(super) refused: Vec<(u64, String)>,
    /// Whose counters the records of the same log hold: it is read once.
    pub(super) meters: Meters,
}

impl Keys {
    /// Reads the trade log of a ledger.
    pub(super) fn read(dir: &Path, anchors: Option<&[Certificate]>) -> Self {
        let mut keys = Self::default();
        let Ok(ledger) = Ledger::open_read_only(dir).map(Ledger::without_keys) else { return keys };
        for block in (0..ledger.size(Log::Trade)).map_while(|height| ledger.held(Log::Trade, height).ok()) {
            let plain = block.entries().iter().map(HeldEntry::plain).enumerate();
            let plain = plain.filter_map(|(index, bytes)| Some((index, Entry::from_bytes(bytes?).ok()?)));
            for (index, entry) in plain {
                keys.meters.take((block.header().height, index), &entry);
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
            // Every block of the ledger is checked under it.
            self.known.insert(leaf.id(), leaf.public_key().with_table());
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

#[cfg(test)]
mod tests {
    use hufu_gm::{SecretKey, ca};
    use hufu_ledger::{CheckOptions, Fault, NewBlock, NewEntry, Options, Signer, TimeQuality, TimeState, check};
    use hufu_trade::{encode, entry::octet_string, rotation, rotation::KeyRotation};

    use super::*;

    const POOL: &str = "s1/n1";

    struct Node(SecretKey, Certificate);

    fn node(root: Option<&Node>, name: &str, seed: u8) -> Node {
        let key = SecretKey::from_scalar(&[seed; 32]).unwrap();
        let serial = &[seed; 8];
        let terms = ca::Terms { serial, not_before_s: 1_780_000_000, not_after_s: 1_800_000_000, dns_names: &[] };
        let subject = format!("CN={name}");
        let certificate = match root {
            None => ca::root(&key, &subject, None, &terms),
            Some(root) => ca::issue(&root.1, &root.0, ca::Role::Signer, &subject, &key.public_key(), &terms),
        };
        Node(key, certificate.unwrap())
    }

    fn append(ledger: &mut Ledger, by: &Node, log: Log, kind: EntryKind, body: Vec<u8>) {
        let key = if kind == EntryKind::KeyRotation { rotation::KEY } else { [0; 32] };
        let entries = vec![NewEntry { kind: kind.number(), body, key, sealed: false }];
        let signer = Signer { key: &by.0, cert_id: by.1.id(), salt_key: &[1; 32] };
        let quality = TimeQuality { state: TimeState::Relative, max_error_ns: None };
        ledger.append(&[NewBlock { log, entries }], &signer, 0, 1_790_000_000_000_000_000, quality).unwrap();
    }

    fn rotation(by: [&Node; 2], pool: &str, signed_by: [&Node; 2]) -> Vec<u8> {
        let [old, new] = by.map(|node| Octets(node.1.id()));
        let rotation = KeyRotation {
            version: 1,
            computing_pool_id: pool.to_owned(),
            old,
            new,
            finance_from: 1,
            time: 0,
            why: String::new(),
        };
        let tbs = encode(&rotation, "KeyRotation").unwrap();
        let octets = |bytes: &[u8]| octet_string(bytes, "x").unwrap();
        let [old_signature, new_signature] = signed_by.map(|node| octets(&node.0.sign(&tbs).unwrap()));
        let certificates = vec![octets(by[1].1.der())];
        encode(&SignedRotation { rotation: octets(&tbs), old_signature, new_signature, certificates }, "x").unwrap()
    }

    #[test]
    fn a_ledger_with_a_rotation_is_signed_by_the_old_key_before_and_the_new_one_after() {
        let root = node(None, "root", 1);
        let (old, new) = (node(Some(&root), POOL, 2), node(Some(&root), POOL, 3));
        for (name, pool, signed_by, then, refused, late) in [
            ("right", POOL, [&old, &new], &new, None, 0),
            ("the old key signs on", POOL, [&old, &new], &old, None, 2),
            ("without the old key", POOL, [&new, &new], &new, Some("oldSignature"), 0),
            ("without the new key", POOL, [&old, &old], &new, Some("newSignature"), 0),
            ("another node", "s1/n2", [&old, &new], &new, Some("computingPoolId"), 0),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let (dir, options) = (dir.path().join("ledger"), Options::new(POOL));
            std::fs::create_dir_all(&dir).unwrap();
            Ledger::create(&dir, &options, [5; 16]).unwrap();
            let (mut ledger, _) = Ledger::open(&dir, &options).unwrap();
            let leaf = octet_string(old.1.der(), "x").unwrap();
            let listed = Certificates { role: "node".to_owned(), certificates: vec![leaf] };
            append(&mut ledger, &old, Log::Trade, EntryKind::Certificates, encode(&listed, "x").unwrap());
            append(&mut ledger, &old, Log::Finance, EntryKind::Bill, vec![1]);
            let body = rotation([&old, &new], pool, signed_by);
            append(&mut ledger, &old, Log::Trade, EntryKind::KeyRotation, body);
            append(&mut ledger, then, Log::Trade, EntryKind::Window, vec![1]);
            append(&mut ledger, then, Log::Finance, EntryKind::Bill, vec![2]);
            drop(ledger);
            let keys = Keys::read(&dir, Some(std::slice::from_ref(&root.1)));
            let why: Vec<&String> = keys.refused.iter().map(|(_, why)| why).collect();
            assert_eq!(why.len(), usize::from(refused.is_some()), "{name}: {why:?}");
            assert!(refused.is_none_or(|field| why[0].contains(field) && keys.refused[0].0 == 1), "{name}: {why:?}");
            let key_of = |id: &Hash| keys.known.get(id).cloned();
            let may_sign = |log: Log, height: u64, id: &Hash| keys.may_sign(log, height, id);
            let options = CheckOptions { key_of: Some(&key_of), may_sign: Some(&may_sign), ..CheckOptions::default() };
            let found: Vec<Fault> = check(&dir, &options).unwrap().problems.into_iter().map(|p| p.fault).collect();
            let want = match refused {
                None => vec![Fault::KeyNotInForce; late],
                // The new certificate never came into force.
                Some(_) => vec![Fault::UnknownCertificate; 2],
            };
            assert_eq!(found, want, "{name}");
        }
    }
}
