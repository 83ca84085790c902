//! The parties of the synthetic trade: a small CA, a site's own CA below it, and the keys of buyer, node and platform, all
//! from fixed seeds.

use hufu_gm::{
    Certificate, Hash, SecretKey,
    ca::{self, Role, Terms},
};

use crate::synthetic::{Made, START_S};

/// A key with its certificates, leaf first.
pub(crate) struct Party {
    /// The key.
    pub(crate) key: SecretKey,
    /// Leaf and intermediates, DER.
    pub(crate) chain: Vec<Certificate>,
}

impl Party {
    pub(crate) fn id(&self) -> Hash {
        self.chain.first().map_or([0; 32], Certificate::id)
    }
    pub(crate) fn ders(&self) -> Vec<Vec<u8>> {
        self.chain.iter().map(|certificate| certificate.der().to_vec()).collect()
    }
}

/// Everybody.
pub(crate) struct Parties {
    /// The trust anchor.
    pub(crate) root: Certificate,
    /// A revocation list of the root that lists somebody else.
    pub(crate) crl: Vec<u8>,
    /// The buyer.
    pub(crate) buyer: Party,
    /// The node, below the site's own CA.
    pub(crate) node: Party,
    /// The node with its next key.
    pub(crate) next: Party,
    /// The platform.
    pub(crate) platform: Party,
    /// Somebody with a good certificate who is none of them.
    pub(crate) stranger: Party,
}

fn key(seed: u8) -> Made<SecretKey> {
    Ok(SecretKey::from_scalar(&[seed; 32])?)
}

/// What a certificate says of whose it is: subject and DNS names.
pub(crate) type Name = (&'static str, &'static [&'static str]);

/// Whom the certificates of node and platform name.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    pub(crate) node: Name,
    pub(crate) platform: Name,
}

/// The right ones.
pub(crate) const NAMES: Names =
    Names { node: ("CN=site-1/node-1,C=CN", &[]), platform: ("CN=site-1/platform,C=CN", &[]) };

/// Keys from fixed seeds, so that every run makes the same bytes.
pub(crate) fn parties(names: Names) -> Made<Parties> {
    let named = |serial: &'static [u8; 16], dns_names| Terms {
        serial,
        not_before_s: START_S - 86_400,
        not_after_s: START_S + 400 * 86_400,
        dns_names,
    };
    let terms = |serial| named(serial, &[]);
    let root_key = key(1)?;
    let root = ca::root(&root_key, "CN=Test Root,O=Hufu,C=CN", None, &terms(&[1; 16]))?;
    let site_key = key(2)?;
    let authority = Role::Authority { path_len: Some(0) };
    let site =
        ca::issue(&root, &root_key, authority, "CN=Site 1 CA,O=Site,C=CN", &site_key.public_key(), &terms(&[2; 16]))?;
    let (buyer, node, platform) = (key(3)?, key(4)?, key(5)?);
    let buyer_cert =
        ca::issue(&root, &root_key, Role::Signer, "CN=buyer-1,C=CN", &buyer.public_key(), &terms(&[3; 16]))?;
    let (subject, dns_names) = names.node;
    let terms_4 = named(&[4; 16], dns_names);
    let node_cert = ca::issue(&site, &site_key, Role::Signer, subject, &node.public_key(), &terms_4)?;
    let next_key = key(8)?;
    let terms_8 = named(&[8; 16], dns_names);
    let next_cert = ca::issue(&site, &site_key, Role::Signer, subject, &next_key.public_key(), &terms_8)?;
    let (subject, dns_names) = names.platform;
    let terms_5 = named(&[5; 16], dns_names);
    let platform_cert = ca::issue(&root, &root_key, Role::Signer, subject, &platform.public_key(), &terms_5)?;
    let stranger_key = key(7)?;
    let stranger_cert =
        ca::issue(&root, &root_key, Role::Signer, "CN=buyer-2,C=CN", &stranger_key.public_key(), &terms(&[7; 16]))?;
    let lost = ca::issue(&root, &root_key, Role::Signer, "CN=lost,C=CN", &key(6)?.public_key(), &terms(&[6; 16]))?;
    let line = ca::Revocation { certificate: &lost, at_s: START_S };
    let crl = ca::crl(&root, &root_key, 1, START_S, START_S + 86_400, &[line])?.der().to_vec();
    Ok(Parties {
        root,
        crl,
        buyer: Party { key: buyer, chain: vec![buyer_cert] },
        node: Party { key: node, chain: vec![node_cert, site.clone()] },
        next: Party { key: next_key, chain: vec![next_cert, site] },
        platform: Party { key: platform, chain: vec![platform_cert] },
        stranger: Party { key: stranger_key, chain: vec![stranger_cert] },
    })
}
