//! First verdict: every line of the index is a valid signature, made under a certificate that leads to a trust anchor, was
//! good at the time, and names the node or platform that the signed bytes name. What the signed bytes must say to each other is `links.rs`.

use std::collections::{BTreeMap, BTreeSet};

use hufu_gm::{
    Certificate, ChainError, ChainFault, Crl, Hash, Usage, Verdict as Signature, known::KnownKeys, sm2::PublicKey,
    sm3::sm3, verify_chain,
};
use hufu_trade::{
    octets::{Octets, rfc3339},
    party::{is_named, node_of},
};

use crate::{
    findings::Verdict,
    layout::{self, SignatureRow},
    open::Members,
    signed::{Kind, Role, Said},
    text::Text,
    verdict::Options,
};

/// A signature that holds.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    /// Id of the signer's certificate.
    pub(crate) certificate: Hash,
    /// The signature.
    pub(crate) signature: Vec<u8>,
    /// The file of the signed bytes.
    pub(crate) tbs: String,
    /// The signer's key.
    pub(crate) key: PublicKey,
    /// The node that the certificate names.
    pub(crate) node: Option<String>,
}

/// Signed bytes whose signature holds, by kind and SM3. Whether the signer is trusted is said once, in the verdict.
#[derive(Debug, Default)]
pub(crate) struct Authentic {
    by: BTreeMap<(Kind, Hash), Sealed>,
    /// Subjects of the certificates that signed, by role.
    pub(crate) parties: Vec<(Role, String)>,
    /// The revocation lists of the pack.
    pub(crate) crls: Vec<Crl>,
}

impl Authentic {
    pub(crate) fn of(&self, kind: Kind, tbs: &[u8]) -> Option<&Sealed> {
        self.by.get(&(kind, sm3(&[tbs])))
    }

    /// Everything signed of a kind.
    pub(crate) fn sealed(&self, kind: Kind) -> impl Iterator<Item = &Sealed> {
        self.by.iter().filter(move |((found, _), _)| *found == kind).map(|(_, sealed)| sealed)
    }

    /// The files of all signed bytes of a kind.
    pub(crate) fn files(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.sealed(kind).map(|sealed| sealed.tbs.as_str())
    }
}

/// What signatures are judged with.
struct Trust<'a> {
    certificates: BTreeMap<&'a str, Certificate>,
    intermediates: Vec<Certificate>,
    anchors: &'a [Certificate],
    crls: Vec<Crl>,
    /// Instants at which a path can begin or cease to hold, in order: between two of them nothing changes.
    turns: Vec<i64>,
}

/// Judges every line of the index, and certificates and revocation lists that no line uses.
pub(crate) fn check(members: &Members, anchors: &[Certificate], options: Options, out: &mut Verdict) -> Authentic {
    let trust = Trust::read(members, anchors, out);
    let Some(index) = members.text(layout::SIGNATURES) else {
        out.fail(layout::SIGNATURES, Text::FileMissing { file: layout::SIGNATURES.into() });
        return Authentic::default();
    };
    let mut rows = Vec::new();
    for (number, line) in (1_u32..).zip(index.lines()) {
        let place = format!("{}:{number}", layout::SIGNATURES);
        match SignatureRow::read(line).map(|row| read_row(members, &trust, row, line, &place)) {
            Some(Ok(row)) => rows.push(row),
            Some(Err((place, what))) => out.fail(place, what),
            None => out.fail(place, Text::IndexLine {}),
        }
    }
    let chains = chains(&trust, &rows, out);
    let verified = verify_rows(&rows, options);
    if options.cross_check && !cfg!(feature = "cross-check") {
        out.warn(layout::SIGNATURES, Text::CrossCheckAbsent {});
    }
    let mut authentic = Authentic::default();
    let mut roles: BTreeMap<Hash, Role> = BTreeMap::new();
    let mut named: BTreeSet<(Hash, &str)> = BTreeSet::new();
    for (row, wrong) in rows.iter().zip(verified) {
        out.checked();
        let role = row.kind.role();
        let trusted = chains.get(&(row.certificate.id(), trust.stretch(row.at))).is_some_and(Option::is_some);
        if let Some(what) = wrong {
            out.fail(row.signature_name.as_str(), what);
            continue;
        }
        if role == Role::Witness && !trusted {
            continue;
        }
        let before = *roles.entry(row.certificate.id()).or_insert(role);
        if before != role {
            let (first, second) = (before.name().to_owned(), role.name().to_owned());
            out.fail(row.certificate_name.as_str(), Text::TwoRoles { first, second });
        }
        if let Some(signer) = row.signer.as_deref().filter(|signer| named.insert((row.certificate.id(), signer))) {
            out.check(is_named(&row.certificate, signer), row.certificate_name.as_str(), || Text::NotNamed {
                role: role.name().to_owned(),
                certificate: row.certificate.subject(),
                party: signer.to_owned(),
            });
        }
        let party = (role, row.certificate.subject());
        if trusted && !authentic.parties.contains(&party) {
            authentic.parties.push(party);
        }
        let sealed = Sealed {
            certificate: row.certificate.id(),
            signature: row.signature.to_vec(),
            tbs: row.tbs_name.clone(),
            key: row.certificate.public_key().clone(),
            node: node_of(&row.certificate),
        };
        authentic.by.insert((row.kind, sm3(&[row.tbs])), sealed);
    }
    if options.cross_check {
        cross_check_chains(&chains, out);
    }
    trust.check_strays(&rows, out);
    authentic.crls = trust.crls;
    authentic
}

struct Row<'a> {
    kind: Kind,
    at: i64,
    /// Whom the certificate must name.
    signer: Option<String>,
    tbs_name: String,
    tbs: &'a [u8],
    signature_name: String,
    signature: &'a [u8],
    certificate_name: String,
    certificate: Certificate,
}

type Wrong = (String, Text);

/// Loads what a line names; the line must agree with the bytes.
fn read_row<'a>(
    members: &'a Members,
    trust: &Trust<'_>,
    row: SignatureRow,
    line: &str,
    place: &str,
) -> Result<Row<'a>, Wrong> {
    let missing = |file: &str| (file.to_owned(), Text::FileMissing { file: file.to_owned() });
    let tbs = members.bytes(&row.tbs).ok_or_else(|| missing(&row.tbs))?;
    let signature = members.bytes(&row.signature).ok_or_else(|| missing(&row.signature))?;
    members.bytes(&row.certificate).ok_or_else(|| missing(&row.certificate))?;
    let kind = row.kind;
    let not_this = || (row.tbs.clone(), Text::NotThis { what: kind.name().to_owned() });
    let Said { at, signer } = kind.said(tbs).ok_or_else(not_this)?;
    let told: Vec<&str> = line.split('\t').collect();
    if told.get(3) != Some(&kind.role().name()) {
        let told = told.get(3).copied().unwrap_or_default().to_owned();
        return Err((place.to_owned(), Text::IndexRole { told, right: kind.role().name().to_owned() }));
    }
    if told.get(4) != Some(&rfc3339(at).as_str()) {
        let told = told.get(4).copied().unwrap_or_default().to_owned();
        return Err((place.to_owned(), Text::IndexTime { told, signed: rfc3339(at) }));
    }
    // A certificate that does not decode was reported where it was read.
    let unknown = || (row.certificate.clone(), Text::NotThis { what: "certificate".to_owned() });
    let certificate = trust.certificates.get(row.certificate.as_str()).cloned().ok_or_else(unknown)?;
    Ok(Row {
        kind,
        at,
        signer,
        tbs_name: row.tbs,
        tbs,
        signature_name: row.signature,
        signature,
        certificate_name: row.certificate,
        certificate,
    })
}

/// Most paths that are searched in one pack: each may try many links.
const CHAINS_MAX: usize = 64;

/// Paths to anchors: a certificate, and the stretch of time it was used in.
type Chains = BTreeMap<(Hash, usize), Option<Vec<Certificate>>>;

/// For each certificate and stretch of time it was used in, the path on which it leads to an anchor.
fn chains(trust: &Trust<'_>, rows: &[Row<'_>], out: &mut Verdict) -> Chains {
    let mut known = Chains::new();
    for row in rows {
        let key = (row.certificate.id(), trust.stretch(row.at));
        if known.contains_key(&key) {
            continue;
        }
        out.checked();
        let role = row.kind.role().name().to_owned();
        let fault = if known.len() < CHAINS_MAX {
            match trust.chain(&row.certificate, row.at) {
                Ok(path) => {
                    known.insert(key, Some(path));
                    continue;
                }
                Err(error) if error.fault() == ChainFault::Untrusted && row.kind.role() == Role::Witness => {
                    // A witness from elsewhere takes nothing from what the parties signed.
                    out.warn(row.certificate_name.as_str(), Text::NoTrust { role, why: error.to_string() });
                    known.insert(key, None);
                    continue;
                }
                Err(error) if error.fault() == ChainFault::Untrusted => Text::NoTrust { role, why: error.to_string() },
                Err(error) => Text::ChainBad { role, why: error.to_string() },
            }
        } else {
            Text::ChainBad { role, why: format!("more than {CHAINS_MAX} paths to look for in one pack") }
        };
        out.fail(row.certificate_name.as_str(), fault);
        known.insert(key, None);
    }
    known
}

/// Keys of one pack that get a table once they come often enough: node, platform, buyer, and some to spare.
const KNOWN_KEY_COUNT_MAX: usize = 8;

/// What is wrong with each signature, in order.
fn verify_rows(rows: &[Row<'_>], options: Options) -> Vec<Option<Text>> {
    let known = KnownKeys::new(KNOWN_KEY_COUNT_MAX);
    let judge =
        |part: &[Row<'_>]| -> Vec<Option<Text>> { part.iter().map(|row| verify_row(row, &known, options)).collect() };
    let (left, right) = rows.split_at(rows.len() / 2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| judge(right));
        let mut all = judge(left);
        // A panic of the other thread would be our bug; nothing it judged may then pass.
        let malformed = |row: &Row<'_>| Some(Text::SignatureMalformed { role: row.kind.role().name().to_owned() });
        all.extend(other.join().unwrap_or_else(|_| right.iter().map(malformed).collect()));
        all
    })
}

fn verify_row(row: &Row<'_>, known: &KnownKeys, options: Options) -> Option<Text> {
    let role = row.kind.role().name().to_owned();
    match known.verify(row.certificate.public_key(), row.tbs, row.signature) {
        Signature::Malformed => Some(Text::SignatureMalformed { role }),
        Signature::Invalid => Some(Text::SignatureWrong { role, certificate: row.certificate.subject() }),
        Signature::Valid if options.cross_check && !second_agrees(&row.certificate, row.tbs, row.signature) => {
            Some(Text::CrossCheck {})
        }
        Signature::Valid => None,
    }
}

#[cfg(feature = "cross-check")]
fn second_agrees(certificate: &Certificate, tbs: &[u8], signature: &[u8]) -> bool {
    let key = certificate.public_key().to_sec1();
    hufu_gm::second_opinion::verify_with_libsm(&key, tbs, signature).is_valid()
}

#[cfg(not(feature = "cross-check"))]
fn second_agrees(_: &Certificate, _: &[u8], _: &[u8]) -> bool {
    true
}

/// The second implementation's word on every certificate link below an anchor.
fn cross_check_chains(chains: &Chains, out: &mut Verdict) {
    let mut seen: Vec<Hash> = Vec::new();
    for path in chains.values().flatten() {
        for pair in path.windows(2) {
            let [subject, issuer] = pair else { continue };
            if seen.contains(&subject.id()) {
                continue;
            }
            seen.push(subject.id());
            let agrees = second_agrees(issuer, subject.tbs(), subject.signature());
            out.check(agrees, subject.subject(), || Text::CrossCheck {});
        }
    }
}

impl<'a> Trust<'a> {
    fn read(members: &'a Members, anchors: &'a [Certificate], out: &mut Verdict) -> Self {
        let (certificates, intermediates, crls, turns) = <_>::default();
        let mut trust = Self { certificates, intermediates, anchors, crls, turns };
        for (name, bytes) in members.below("certs/") {
            let text = String::from_utf8_lossy(bytes);
            match Certificate::from_pem_many(&text) {
                Ok(found) => {
                    let only: String = found.iter().map(Certificate::to_pem).collect();
                    let plain = found.len() == 1 && only == text;
                    out.check(plain, name, || Text::CertificateMalformed {
                        why: "one plain PEM block expected".into(),
                    });
                    trust.intermediates.extend(found.first().cloned());
                    trust.certificates.extend(found.into_iter().take(1).map(|first| (name, first)));
                }
                Err(error) => out.fail(name, Text::CertificateMalformed { why: error.to_string() }),
            }
        }
        for (name, bytes) in members.below("crls/") {
            let text = String::from_utf8_lossy(bytes);
            match Crl::from_pem_many(&text) {
                Ok(found) => {
                    let plain = found.iter().map(Crl::to_pem).collect::<String>() == text && found.len() == 1;
                    out.check(plain, name, || Text::CrlMalformed { why: "one plain PEM block expected".into() });
                    if let Some(crl) = found.into_iter().next() {
                        let signed = trust.everybody().any(|issuer| crl.verify_signature(issuer).is_valid());
                        out.check(signed, name, || Text::CrlStray {});
                        trust.crls.push(crl);
                    }
                }
                Err(error) => out.fail(name, Text::CrlMalformed { why: error.to_string() }),
            }
        }
        let mut turns = Vec::new();
        for certificate in trust.everybody() {
            // The last second belongs to the validity as a whole.
            turns.extend([certificate.not_before_ns(), certificate.not_after_ns().saturating_add(1_000_000_000)]);
            turns.extend(trust.crls.iter().filter_map(|crl| crl.revoked_at_ns(certificate)));
        }
        turns.sort_unstable();
        trust.turns = turns;
        trust
    }

    /// Which stretch between two turns an instant lies in.
    fn stretch(&self, at: i64) -> usize {
        self.turns.partition_point(|turn| *turn <= at)
    }

    fn everybody(&self) -> impl Iterator<Item = &Certificate> {
        self.anchors.iter().chain(&self.intermediates)
    }

    fn chain(&self, leaf: &Certificate, at: i64) -> Result<Vec<Certificate>, ChainError> {
        verify_chain(leaf, &self.intermediates, self.anchors, &self.crls, at, Usage::Signing)
    }

    /// Certificates on no line's path must at least be what their issuer signed: nothing in a pack goes unchecked.
    fn check_strays(&self, rows: &[Row<'_>], out: &mut Verdict) {
        let signers: Vec<Hash> = rows.iter().map(|row| row.certificate.id()).collect();
        for (name, certificate) in &self.certificates {
            if signers.contains(&certificate.id()) || self.anchors.contains(certificate) {
                continue;
            }
            let issued = self.everybody().any(|issuer| {
                issuer.subject() == certificate.issuer() && certificate.verify_signature(issuer.public_key()).is_valid()
            });
            out.check(issued, *name, || Text::CertificateStray {});
        }
    }
}

/// How a certificate id is shown.
pub(crate) fn shown(id: &Hash) -> String {
    Octets(*id).to_string()
}
