//! Whether a certificate may be trusted: a path of signatures from it to an anchor, each certificate valid and entitled at
//! one instant. Certificates are read in `cert.rs`; nothing here reads a clock, a file or the network.

use crate::{
    ChainError,
    cert::{Certificate, KeyUsage},
    crl::Crl,
    sm2::Verdict,
};

/// Longest path, leaf and anchor included.
pub const PATH_COUNT_MAX: usize = 8;

/// Most links tried for one leaf: a bound on signatures computed over hostile heaps of intermediates.
const LINKS_TRIED_MAX: usize = 64;

/// What the leaf is to be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// It signed a message: keyUsage must hold digitalSignature.
    Signing,
    /// It receives keys or data: keyUsage must hold one of keyEncipherment, dataEncipherment, keyAgreement.
    Encryption,
    /// It issues certificates: a CA with keyCertSign.
    Issuing,
    /// It says when something existed: keyUsage must hold digitalSignature or nonRepudiation, and time-stamping must be its one
    /// purpose, critical (RFC 3161 2.3).
    TimeStamping,
}

impl Usage {
    fn allowed_by(self, certificate: &Certificate) -> bool {
        // No keyUsage would mean "anything" to RFC 5280; evidence needs a certificate that says what it is for.
        let Some(usage) = certificate.key_usage() else { return false };
        let encryption = KeyUsage::KEY_ENCIPHERMENT.with(KeyUsage::DATA_ENCIPHERMENT).with(KeyUsage::KEY_AGREEMENT);
        let signs = KeyUsage::DIGITAL_SIGNATURE.with(KeyUsage::NON_REPUDIATION);
        match self {
            // What says the time says nothing else.
            Self::TimeStamping => usage.meets(signs) && certificate.is_for_time_stamping(),
            _ if certificate.is_for_time_stamping() => false,
            Self::Signing => usage.contains(KeyUsage::DIGITAL_SIGNATURE),
            Self::Encryption => usage.meets(encryption),
            Self::Issuing => certificate.is_ca() && usage.contains(KeyUsage::CERT_SIGN),
        }
    }
}

/// Finds and checks a path from `leaf` over `intermediates` to one of `anchors`, as of `at_ns` (ns since 1970), and returns
/// it, leaf first, anchor last.
///
/// Every link: names match, key identifiers match where both sides carry them, the signature verifies over the bytes as
/// received. Every certificate, the anchor too: valid at `at_ns`, no critical extension that this crate cannot honour.
/// Every issuer: `CA:TRUE`, keyCertSign, path length. An anchor may be an intermediate, or the leaf itself; as an issuer it
/// must be a CA as well, but may lack keyUsage, as `openssl req -x509` makes roots.
///
/// A list of `crls` counts when its name and key identifier are the issuer's: it must verify, and refuses what it lists from
/// the instant of revocation on, whenever it was made. No list, or an old one, refuses nothing. Anchors are not looked up.
///
/// # Errors
/// [`ChainError`]: which certificate, and why; [`ChainError::fault`] tells *untrusted* from *damaged* and *refused*. When
/// several paths fail, the first fault that is more than a missing anchor is reported.
pub fn verify_chain(
    leaf: &Certificate,
    intermediates: &[Certificate],
    anchors: &[Certificate],
    crls: &[Crl],
    at_ns: i64,
    usage: Usage,
) -> Result<Vec<Certificate>, ChainError> {
    check_itself(leaf, true, at_ns)?;
    check_usage(leaf, usage)?;
    let mut search = Search { intermediates, anchors, crls, at_ns, links_tried: 0, path: vec![leaf] };
    search.climb()?;
    Ok(search.path.into_iter().cloned().collect())
}

/// Whether keyUsage allows `usage`; nothing else of the certificate is looked at.
pub(crate) fn check_usage(certificate: &Certificate, usage: Usage) -> Result<(), ChainError> {
    if usage.allowed_by(certificate) {
        return Ok(());
    }
    Err(ChainError::KeyUsage { subject: certificate.subject(), usage })
}

/// Whether revocation was ruled out for every certificate of a `path` that [`verify_chain`] gave, anchor excepted: its issuer's
/// list must be at hand, verify, and speak for `at_ns`. [`verify_chain`] by itself refuses what a list names and does not ask for
/// lists, because evidence is judged for ever and lists are not; whoever accepts something today asks here, too.
///
/// # Errors
/// [`ChainError::NoCrl`], [`ChainError::StaleCrl`], [`ChainError::BadCrl`].
pub fn check_lists(path: &[Certificate], crls: &[Crl], at_ns: i64) -> Result<(), ChainError> {
    for pair in path.windows(2) {
        let [child, issuer] = pair else { continue };
        let own: Vec<&Crl> = crls.iter().filter(|crl| crl.names_issuer(issuer)).collect();
        let newest = own.iter().max_by_key(|crl| crl.this_update_ns());
        let Some(newest) = newest else { return Err(ChainError::NoCrl { subject: child.subject() }) };
        let may_sign = issuer.key_usage().is_none_or(|usage| usage.contains(KeyUsage::CRL_SIGN));
        if !may_sign || own.iter().any(|crl| !crl.verify_signature(issuer).is_valid()) {
            return Err(ChainError::BadCrl { issuer: issuer.subject() });
        }
        if !own.iter().any(|crl| crl.covers(at_ns)) {
            let (this_update_ns, next_update_ns) = (newest.this_update_ns(), newest.next_update_ns());
            return Err(ChainError::StaleCrl { issuer: issuer.subject(), this_update_ns, next_update_ns });
        }
    }
    Ok(())
}

struct Search<'a> {
    intermediates: &'a [Certificate],
    anchors: &'a [Certificate],
    crls: &'a [Crl],
    at_ns: i64,
    links_tried: usize,
    /// Leaf first; every certificate in it has been checked.
    path: Vec<&'a Certificate>,
}

impl<'a> Search<'a> {
    /// Completes `path` up to an anchor, or leaves it as it was. Recursion ends with [`PATH_COUNT_MAX`].
    fn climb(&mut self) -> Result<(), ChainError> {
        let Some(child) = self.path.last().copied() else { return Ok(()) };
        if self.anchors.contains(child) {
            return Ok(());
        }
        let mut fault = ChainError::NoAnchor { subject: child.subject(), issuer: child.issuer() };
        let (anchors, intermediates) = (self.anchors, self.intermediates);
        let candidates = anchors.iter().map(|found| (found, true));
        for (issuer, is_anchor) in candidates.chain(intermediates.iter().map(|found| (found, false))) {
            if !names_issuer(child, issuer) || self.path.contains(&issuer) {
                continue;
            }
            let outcome = self.check_link(child, issuer, is_anchor).and_then(|()| {
                self.path.push(issuer);
                let rest = if is_anchor { Ok(()) } else { self.climb() };
                if rest.is_err() {
                    self.path.pop();
                }
                rest
            });
            match outcome {
                Ok(()) => return Ok(()),
                Err(error @ ChainError::TooManyPaths { .. }) => return Err(error),
                Err(error) if matches!(fault, ChainError::NoAnchor { .. }) => fault = error,
                Err(_) => {}
            }
        }
        Err(fault)
    }

    fn check_link(&mut self, child: &Certificate, issuer: &Certificate, is_anchor: bool) -> Result<(), ChainError> {
        if self.path.len() >= PATH_COUNT_MAX {
            return Err(ChainError::PathTooLong { subject: issuer.subject() });
        }
        self.links_tried += 1;
        if self.links_tried > LINKS_TRIED_MAX {
            return Err(ChainError::TooManyPaths { subject: child.subject() });
        }
        check_itself(issuer, false, self.at_ns)?;
        self.check_authority(issuer, is_anchor)?;
        match child.verify_signature(issuer.public_key()) {
            Verdict::Valid => self.check_revocation(child, issuer),
            Verdict::Invalid => Err(ChainError::BadSignature { subject: child.subject(), issuer: issuer.subject() }),
            Verdict::Malformed => Err(ChainError::MalformedSignature { subject: child.subject() }),
        }
    }

    fn check_authority(&self, issuer: &Certificate, is_anchor: bool) -> Result<(), ChainError> {
        let old_root = is_anchor && issuer.is_version_1();
        if !issuer.is_ca() && !old_root {
            return Err(ChainError::NotAnAuthority { subject: issuer.subject() });
        }
        let may_sign = issuer.key_usage().map_or(is_anchor, |usage| usage.contains(KeyUsage::CERT_SIGN));
        if !may_sign {
            return Err(ChainError::KeyUsage { subject: issuer.subject(), usage: Usage::Issuing });
        }
        // The leaf does not count, nor do certificates that a CA gave itself (RFC 5280 4.2.1.9).
        let below = self.path.iter().skip(1).filter(|certificate| !certificate.is_self_issued()).count();
        match issuer.path_len() {
            Some(limit) if below > usize::from(limit) => {
                Err(ChainError::PathLength { subject: issuer.subject(), limit })
            }
            _ => Ok(()),
        }
    }

    fn check_revocation(&self, child: &Certificate, issuer: &Certificate) -> Result<(), ChainError> {
        for crl in self.crls.iter().filter(|crl| crl.names_issuer(issuer)) {
            let may_sign = issuer.key_usage().is_none_or(|usage| usage.contains(KeyUsage::CRL_SIGN));
            if !may_sign || !crl.verify_signature(issuer).is_valid() {
                return Err(ChainError::BadCrl { issuer: issuer.subject() });
            }
            match crl.revoked_at_ns(child) {
                Some(revoked_at_ns) if revoked_at_ns <= self.at_ns => {
                    return Err(ChainError::Revoked { subject: child.subject(), revoked_at_ns });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What must hold of every certificate, wherever it stands.
fn check_itself(certificate: &Certificate, is_leaf: bool, at_ns: i64) -> Result<(), ChainError> {
    let subject = || certificate.subject();
    if at_ns < certificate.not_before_ns() {
        return Err(ChainError::NotYetValid { subject: subject(), not_before_ns: certificate.not_before_ns() });
    }
    // The last second belongs to the validity as a whole.
    if at_ns > certificate.not_after_ns().saturating_add(999_999_999) {
        return Err(ChainError::Expired { subject: subject(), not_after_ns: certificate.not_after_ns() });
    }
    match certificate.unknown_critical(is_leaf) {
        Some(oid) => Err(ChainError::CriticalExtension { subject: subject(), oid }),
        None => Ok(()),
    }
}

fn names_issuer(child: &Certificate, issuer: &Certificate) -> bool {
    let same_key = match (child.authority_key_id(), issuer.subject_key_id()) {
        (Some(wanted), Some(found)) => wanted == found,
        _ => true,
    };
    same_key && child.issuer_name() == issuer.subject_name()
}
