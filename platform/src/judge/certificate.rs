//! Whether a certificate may speak for a node or a buyer. Pure: anchors and time are arguments.

use hufu_gm::{Certificate, Usage, verify_chain};

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

/// A chain that may sign for the node `pool`: trusted, and its common name or a DNS name is the node's.
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
    let (site, node) = pool.split_once('/').unwrap_or(("", pool));
    let qualified = format!("{node}.{site}");
    let names_node = chain.first().is_some_and(|leaf| {
        let common = leaf.common_name();
        common.as_deref() == Some(node)
            || common.as_deref() == Some(pool)
            || leaf.dns_names().iter().any(|name| name == node || *name == qualified)
    });
    if names_node {
        Ok(chain)
    } else {
        Err(Refusal::new(Code::Certificate, format!("the certificate does not name node {pool}")))
    }
}
