//! Whether a certificate may speak for a node or a buyer. Pure: anchors and time are arguments.

use hufu_gm::{Certificate, Usage, verify_chain};
use hufu_trade::party::is_named;

use super::code::{Code, Refusal};

/// Reads a chain, leaf first, and verifies it to an anchor at `at_ns`.
///
/// # Errors
/// The [`Refusal`] with code `certificate`.
pub(crate) fn trusted(ders: &[Vec<u8>], anchors: &[Certificate], at_ns: i64) -> Result<Vec<Certificate>, Refusal> {
    let read: Result<Vec<_>, _> = ders.iter().take(8).map(|der| Certificate::from_der(der)).collect();
    let chain = read.map_err(|error| Refusal::new(Code::Certificate, error))?;
    let (leaf, rest) = chain.split_first().ok_or_else(|| Refusal::new(Code::Certificate, "no certificate"))?;
    verify_chain(leaf, rest, anchors, &[], at_ns, Usage::Signing)
        .map_err(|error| Refusal::new(Code::Certificate, error))?;
    Ok(chain)
}

/// A chain that may sign for the node `pool`: trusted, and its leaf names the node.
///
/// # Errors
/// The [`Refusal`] with code `certificate`.
pub(crate) fn for_node(
    ders: &[Vec<u8>],
    anchors: &[Certificate],
    at_ns: i64,
    pool: &str,
) -> Result<Vec<Certificate>, Refusal> {
    let chain = trusted(ders, anchors, at_ns)?;
    if chain.first().is_some_and(|leaf| is_named(leaf, pool)) {
        Ok(chain)
    } else {
        Err(Refusal::new(Code::Certificate, format!("the certificate does not name node {pool}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::parties::{START_S, party};

    #[test]
    fn a_node_speaks_only_under_its_whole_name() {
        let root = party(None, "root", 1);
        for (name, holds) in
            [("s1/n1", true), ("n1", false), ("n1.s1", false), ("s2/n1", false), ("s1/platform", false)]
        {
            let node = party(Some(&root), name, 3);
            let ders = [node.certificate.der().to_vec()];
            let found = for_node(&ders, std::slice::from_ref(&root.certificate), START_S * 1_000_000_000, "s1/n1");
            assert_eq!(
                found.map_err(|refusal| refusal.code),
                if holds { Ok(vec![node.certificate]) } else { Err(Code::Certificate) },
                "{name}"
            );
        }
    }
}
