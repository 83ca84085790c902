//! The certificates of a pack: which are used, by whom, and who issued which. Whether one may be trusted is the verdict's
//! question.

use hufu_gm::{Hash, cert::Certificate};

use crate::{
    Error,
    pack::build::{Link, is_root},
    signed::Role,
};

#[derive(Default)]
pub(crate) struct Certs {
    all: Vec<Held>,
}

struct Held {
    role: Role,
    certificate: Certificate,
    signed_at: Option<i64>,
}

impl Held {
    fn name(&self) -> String {
        let id: String = self.certificate.id().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("certs/{}-{id}.pem", self.role.name())
    }
}

impl Certs {
    /// Takes a certificate in, once.
    pub(crate) fn add(&mut self, role: Role, der: &[u8]) -> Result<(), Error> {
        let certificate = Certificate::from_der(der)?;
        if !self.all.iter().any(|held| held.certificate == certificate) {
            self.all.push(Held { role, certificate, signed_at: None });
        }
        Ok(())
    }

    /// The file of the certificate with this id, which signed something at `at`.
    pub(crate) fn use_for(&mut self, id: &Hash, role: Role, at: i64) -> Option<String> {
        let held = self.all.iter_mut().find(|held| held.certificate.id() == *id)?;
        if held.signed_at.is_none() {
            held.role = role;
        }
        held.signed_at = Some(held.signed_at.map_or(at, |before| before.max(at)));
        Some(held.name())
    }

    /// Whether the certificate with this id is here.
    pub(crate) fn is_given(&self, id: &Hash) -> bool {
        self.all.iter().any(|held| held.certificate.id() == *id)
    }

    /// Whether the certificate with this id was given as a party's.
    pub(crate) fn is_of(&self, role: Role, id: &Hash) -> bool {
        self.all.iter().any(|held| held.role == role && held.certificate.id() == *id)
    }

    fn issuer_of(&self, subject: &Certificate) -> Option<&Held> {
        self.all.iter().find(|held| {
            held.certificate != *subject
                && held.certificate.subject() == subject.issuer()
                && subject.verify_signature(held.certificate.public_key()).is_valid()
        })
    }

    /// The certificates that go into the pack: signers, and issuers that are not roots.
    pub(crate) fn used(&self) -> Vec<(String, &Certificate)> {
        let wanted = |held: &&Held| held.signed_at.is_some() || !is_root(&held.certificate);
        let mut found: Vec<_> = self.all.iter().filter(wanted).map(|held| (held.name(), &held.certificate)).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// Every link that a reader has to check, signers first.
    pub(crate) fn links(&self) -> Vec<Link> {
        let mut links: Vec<Link> = Vec::new();
        for signer in self.all.iter().filter(|held| held.signed_at.is_some()) {
            let at_s = signer.signed_at.unwrap_or(0).div_euclid(1_000_000_000);
            let mut subject = signer;
            // Paths are short; the bound keeps certificates that issued each other from going round.
            for _ in 0..hufu_gm::chain::PATH_COUNT_MAX {
                if is_root(&subject.certificate) || links.iter().any(|link| link.subject == subject.name()) {
                    break;
                }
                let issuer = self.issuer_of(&subject.certificate).filter(|found| !is_root(&found.certificate));
                let named = issuer.map_or_else(|| Err(subject.certificate.issuer()), |found| Ok(found.name()));
                links.push(Link { subject: subject.name(), issuer: named, at_s });
                match issuer {
                    Some(next) => subject = next,
                    None => break,
                }
            }
        }
        links.sort_by(|a, b| a.subject.cmp(&b.subject));
        links
    }
}
