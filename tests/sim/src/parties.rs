//! Who takes part: keys and certificates, made once for all seeds.

use std::sync::OnceLock;

use hufu_gm::{
    Hash,
    ca::{self, Role, Terms},
    cert::Certificate,
    sm2::SecretKey,
};

use crate::clocks::START_NS;

/// Nodes that there may be.
pub const NODES_MAX: usize = 3;
/// Buyers that there may be.
pub const BUYERS_MAX: usize = 4;

/// A key and its certificate.
#[derive(Clone, Debug)]
pub struct Party {
    /// The key.
    pub key: SecretKey,
    /// The certificate.
    pub certificate: Certificate,
    /// Its id.
    pub id: Hash,
}

/// Everybody.
#[derive(Debug)]
pub struct Parties {
    /// Issues everybody's certificates.
    pub root: Party,
    /// The platform.
    pub platform: Party,
    /// The nodes, `s1/n1` and so on.
    pub nodes: Vec<Party>,
    /// The buyers.
    pub buyers: Vec<Party>,
    /// Somebody whom nobody trusts.
    pub stranger: Party,
}

/// `{site}/{node}` of a node.
pub fn pool(index: usize) -> String {
    format!("s1/n{}", index + 1)
}

fn party(issuer: Option<&Party>, name: &str, scalar: u8) -> Party {
    let key = SecretKey::from_scalar(&[scalar; 32]).expect("a scalar in range");
    let (from, to) = (START_NS / 1_000_000_000 - 864_000, START_NS / 1_000_000_000 + 86_400 * 300);
    let terms = Terms { serial: &[scalar; 8], not_before_s: from, not_after_s: to, dns_names: &[] };
    let subject = format!("CN={name}");
    let certificate = match issuer {
        None => ca::root(&key, &subject, None, &terms),
        Some(ca) => ca::issue(&ca.certificate, &ca.key, Role::Signer, &subject, &key.public_key(), &terms),
    };
    let certificate = certificate.expect("a certificate");
    Party { key, id: certificate.id(), certificate }
}

/// Everybody.
pub fn parties() -> &'static Parties {
    static PARTIES: OnceLock<Parties> = OnceLock::new();
    PARTIES.get_or_init(|| {
        let root = party(None, "root", 1);
        let numbered = |from: u8, count: usize| from..from.saturating_add(u8::try_from(count).unwrap_or(0));
        let nodes = (0..).zip(numbered(10, NODES_MAX)).map(|(index, n)| party(Some(&root), &pool(index), n));
        let buyers = numbered(20, BUYERS_MAX).map(|n| party(Some(&root), &format!("buyer-{n}"), n));
        Parties {
            platform: party(Some(&root), "s1/platform", 2),
            nodes: nodes.collect(),
            buyers: buyers.collect(),
            stranger: party(None, "stranger", 99),
            root,
        }
    })
}
