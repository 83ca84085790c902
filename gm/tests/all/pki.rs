//! A small PKI of our own making: root, intermediate, node. Keys are fixed scalars, times are fixed, so every run is alike.

use hufu_gm::{
    ca::{self, Role, Terms},
    cert::Certificate,
    sm2::SecretKey,
};

/// 2026-01-01T00:00:00Z.
pub(crate) const JANUARY_S: i64 = 1_767_225_600;
pub(crate) const YEAR_S: i64 = 365 * 86_400;

pub(crate) fn key(fill: u8) -> SecretKey {
    SecretKey::from_scalar(&[fill; 32]).unwrap()
}

pub(crate) fn terms(serial: &[u8]) -> Terms<'_> {
    Terms { serial, not_before_s: JANUARY_S, not_after_s: JANUARY_S + YEAR_S, dns_names: &[] }
}

/// An instant inside every validity above, ns since 1970.
pub(crate) fn june_ns() -> i64 {
    (JANUARY_S + YEAR_S / 2) * 1_000_000_000
}

pub(crate) struct Pki {
    pub(crate) root: Certificate,
    pub(crate) middle: Certificate,
    pub(crate) node: Certificate,
}

/// Keys: root 1, intermediate 2, node 3.
pub(crate) fn pki() -> Pki {
    let root = ca::root(&key(1), "CN=Hufu Test Root,O=Hufu,C=CN", None, &terms(&[1; 16])).unwrap();
    let role = Role::Authority { path_len: Some(0) };
    let middle =
        ca::issue(&root, &key(1), role, "CN=site-a CA,O=Hufu,C=CN", &key(2).public_key(), &terms(&[2; 16])).unwrap();
    let node = ca::issue(
        &middle,
        &key(2),
        Role::Signer,
        "CN=node-1,O=华东算力园,C=CN",
        &key(3).public_key(),
        &terms(&[3; 16]),
    );
    Pki { root, middle, node: node.unwrap() }
}
