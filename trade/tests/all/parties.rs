//! The parties of the golden files: fixed keys, certificates and times. The keys are published here on purpose; nothing
//! outside these files may ever trust them.

use hufu_gm::{Certificate, Error, SecretKey, Signed, ca};
use hufu_trade::octets::{Digest, Octets};

/// 2026-01-01T00:00:00Z, ns.
pub(crate) const T0: i64 = 1_767_225_600_000_000_000;
pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
/// ComputingPoolID of the node.
pub(crate) const POOL: &str = "site-1/node-a";

/// One party: its secret key and its certificate.
pub(crate) struct Party {
    pub(crate) key: SecretKey,
    pub(crate) certificate: Certificate,
}

impl Party {
    pub(crate) fn id(&self) -> Digest {
        Octets(self.certificate.id())
    }

    pub(crate) fn seal(&self, tbs: Vec<u8>) -> Result<Signed, Error> {
        Signed::seal(tbs, &self.certificate.id(), &self.key)
    }
}

/// Everybody.
pub(crate) struct Parties {
    pub(crate) root: Party,
    pub(crate) buyer: Party,
    pub(crate) node: Party,
    pub(crate) platform: Party,
}

impl Parties {
    /// The same parties, byte for byte, every time: SM2 nonces are RFC 6979's.
    pub(crate) fn new() -> Result<Self, Error> {
        let root_key = SecretKey::from_scalar(&[0x10; 32])?;
        let terms = |serial: &'static [u8; 16]| ca::Terms {
            serial,
            not_before_s: T0 / SECOND - 86_400,
            not_after_s: T0 / SECOND + 3_650 * 86_400,
            dns_names: &[],
        };
        let root = ca::root(&root_key, "CN=Golden Root,O=Hufu test data,C=CN", None, &terms(b"golden root 0001"))?;
        let issue = |scalar: u8, name: &str, serial: &'static [u8; 16]| -> Result<Party, Error> {
            let key = SecretKey::from_scalar(&[scalar; 32])?;
            let subject = format!("CN={name},O=Hufu test data,C=CN");
            let role = ca::Role::Signer;
            let certificate = ca::issue(&root, &root_key, role, &subject, &key.public_key(), &terms(serial))?;
            Ok(Party { key, certificate })
        };
        let buyer = issue(0x21, "buyer-1", b"golden buyer 001")?;
        let node = issue(0x32, POOL, b"golden node 0001")?;
        let platform = issue(0x43, "site-1/platform", b"golden platform ")?;
        Ok(Self { root: Party { key: root_key, certificate: root }, buyer, node, platform })
    }
}
