//! Who a fork proof convicts and by which number it is known, the same for nodes, platform and whoever judges one offline. Whether it holds is
//! the ledger's.

use hufu_gm::{Certificate, Hash, PublicKey, Usage, sm3::sm3, verify_chain};
use hufu_ledger::ForkProof;
use hufu_trade::{octets::Octets, party::is_named};

/// The number of a proof by its DER: the first eight octets of SM3 of it, hexadecimal. Topics and files are named by it.
pub fn number(proof: &[u8]) -> String {
    let hash = sm3(&[proof]);
    hash.first_chunk::<8>().map(|first| Octets(*first).to_string()).unwrap_or_default()
}

/// Keys of the certificates in a proof that name its node and lead to an anchor, by certificate id. They are judged as of the time that each
/// was issued for: an old fork stays one.
pub fn signers(proof: &ForkProof, anchors: &[Certificate]) -> Vec<(Hash, PublicKey)> {
    let found: Vec<Certificate> =
        proof.certificates.iter().filter_map(|der| Certificate::from_der(der.as_bytes()).ok()).collect();
    let named = found.iter().filter(|leaf| is_named(leaf, &proof.node));
    let good =
        named.filter(|leaf| verify_chain(leaf, &found, anchors, &[], leaf.not_before_ns(), Usage::Signing).is_ok());
    good.map(|leaf| (leaf.id(), leaf.public_key().clone())).collect()
}
