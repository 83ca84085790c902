//! Puts a pack together: which members it has and what is in each. The zip itself is `write.rs`, the README `readme.rs`.

use std::{
    collections::BTreeMap,
    io::{Seek, Write},
};

use hufu_gm::{Hash, Signed, cert::Certificate, crl::Crl, sm3::sm3};
use hufu_ledger::{BlockHeader, Checkpoint, Entry, merkle::path_to_text};
use hufu_trade::{
    bill::Bill,
    confirm,
    correction::RefundPaid,
    entry::{Certificates, Deal, EntryKind, Payment, Receipt, Rules, SignedStatement},
    octets::Octets,
    rotation::SignedRotation,
    statement::Offer,
};

use crate::{
    Error,
    layout::{self, ProofRow, SignatureRow},
    pack::{Located, PackInput, PathStep, Stamp, Witnesses, certs::Certs, readme, write},
    records::Together,
    signed::{Kind, Role},
};

/// Writes the evidence pack of one bill: members stored, in a fixed order, so that equal input gives equal bytes.
///
/// # Errors
/// [`Error::Input`] naming the piece that is missing or malformed; [`Error::Write`].
pub fn build(input: &PackInput, out: impl Write + Seek) -> Result<(), Error> {
    let mut draft = Draft { together: input.is_long(), ..Draft::default() };
    draft.certificates(input)?;
    let bill = draft.bill(&input.bill)?;
    let mut located: Vec<&Located> = input.entries.iter().collect();
    located.push(&input.bill);
    located.sort_by_key(|entry| (entry.log, entry.height, entry.index));
    located.dedup_by_key(|entry| (entry.log, entry.height, entry.index));
    for entry in &located {
        draft.entry(entry)?;
    }
    for signed in &input.checkpoints {
        draft.checkpoint(signed)?;
    }
    for signed in &input.receipts {
        draft.receipt(signed)?;
    }
    for Stamp { receipt, token } in &input.stamps {
        draft.stamp(receipt, token)?;
    }
    for witnesses in &input.witnesses {
        draft.witnesses(witnesses)?;
    }
    for entry in &located {
        draft.proof(entry)?;
    }
    let members = draft.finish(&bill, &input.crls)?;
    write::zip(&members, out)
}

/// Most witnesses of one checkpoint in a pack: whoever asks for more than these trusts nobody.
const WITNESSES_MAX: usize = 16;

/// A member of the zip.
pub(crate) type Member = (String, Vec<u8>);

fn input(what: impl Into<String>, why: impl std::fmt::Display) -> Error {
    Error::Input { what: what.into(), why: why.to_string() }
}

#[derive(Default)]
struct Draft {
    signed: Vec<Member>,
    entries: Vec<Member>,
    /// Usage records lie together.
    together: bool,
    records: Together,
    proofs: Vec<Member>,
    stamps: Vec<Member>,
    signatures: Vec<SignatureRow>,
    proven: Vec<ProofRow>,
    certs: Certs,
    bill: Vec<u8>,
    bill_entry: String,
    offer: Option<Offer>,
    rules: BTreeMap<Hash, String>,
    /// Signed bytes that hold the root of a log at a size.
    roots: BTreeMap<(u8, u64), String>,
}

impl Draft {
    fn certificates(&mut self, given: &PackInput) -> Result<(), Error> {
        let all = [
            (Role::Node, &given.node_certificates),
            (Role::Platform, &given.platform_certificates),
            (Role::Buyer, &given.buyer_certificates),
        ];
        for (role, ders) in all {
            for der in ders {
                self.certs.add(role, der)?;
            }
        }
        Ok(())
    }

    fn bill(&mut self, located: &Located) -> Result<Bill, Error> {
        let entry = Entry::from_bytes(&located.entry).map_err(|e| input("bill entry", e))?;
        if entry.kind != EntryKind::Bill.number() {
            return Err(input("bill entry", format!("it is of kind {}", entry.kind)));
        }
        self.bill = entry.body;
        self.bill_entry = layout::entry((located.log, located.height, located.index), EntryKind::Bill.name());
        Ok(hufu_trade::decode(&self.bill, "Bill")?)
    }

    fn entry(&mut self, located: &Located) -> Result<(), Error> {
        let place = (located.log, located.height, located.index);
        let entry = Entry::from_bytes(&located.entry).map_err(|e| input(format!("entry {place:?}"), e))?;
        let unknown = || input(format!("entry {place:?}"), format!("kind {} is unknown", entry.kind));
        let kind = EntryKind::from_number(entry.kind).ok_or_else(unknown)?;
        match kind {
            EntryKind::Browse => self.statement(&entry.body, Kind::Browse)?,
            EntryKind::Order => self.statement(&entry.body, Kind::Order)?,
            EntryKind::Score => self.statement(&entry.body, Kind::Score)?,
            EntryKind::Offer => {
                let signed = Signed::from_bytes(&entry.body)?;
                self.offer = Some(hufu_trade::decode(signed.tbs(), "Offer")?);
                self.signed(&signed, Kind::Offer, "offer")?;
            }
            EntryKind::Notice => {
                let signed = Signed::from_bytes(&entry.body)?;
                let of_platform = self.certs.is_of(Role::Platform, &signed.cert_id());
                let kind = if of_platform { Kind::PlatformNotice } else { Kind::Notice };
                self.signed(&signed, kind, kind.name())?;
            }
            EntryKind::Deal => {
                let deal: Deal = hufu_trade::decode(&entry.body, "Deal")?;
                self.signed(&deal.countersignature, Kind::Deal, "deal")?;
            }
            EntryKind::Rules => {
                let rules: Rules = hufu_trade::decode(&entry.body, "Rules")?;
                self.rules.insert(sm3(&[rules.text.as_bytes()]), rules.text);
            }
            EntryKind::Certificates => {
                let found: Certificates = hufu_trade::decode(&entry.body, "Certificates")?;
                let role = if found.role == Role::Platform.name() { Role::Platform } else { Role::Node };
                for der in &found.certificates {
                    self.certs.add(role, der.as_bytes())?;
                }
            }
            EntryKind::KeyRotation => self.rotation(&entry.body)?,
            EntryKind::Receipt => drop(self.receipt(&entry.body)?),
            EntryKind::Payment => {
                let payment: Payment = hufu_trade::decode(&entry.body, "Payment")?;
                self.confirmation(payment.confirmation.as_bytes())?;
            }
            EntryKind::RefundPaid => {
                let refund: RefundPaid = hufu_trade::decode(&entry.body, "RefundPaid")?;
                self.confirmation(refund.confirmation.as_bytes())?;
            }
            _ => {}
        }
        // An entry with a proof has its file, which the proof names; a month's other records would each cost a member.
        if self.together && matches!(kind, EntryKind::Usage | EntryKind::Gap) && located.proof.is_none() {
            self.records.push(place, kind.name(), &located.entry);
        } else {
            self.entries.push((layout::entry(place, kind.name()), located.entry.clone()));
        }
        Ok(())
    }

    fn statement(&mut self, body: &[u8], kind: Kind) -> Result<(), Error> {
        let signed: SignedStatement = hufu_trade::decode(body, "SignedStatement")?;
        for der in &signed.certificates {
            self.certs.add(Role::Buyer, der.as_bytes())?;
        }
        let buyer = signed.open()?.buyer.0;
        self.signature(kind, kind.name(), signed.statement.as_bytes(), signed.signature.as_bytes(), buyer).map(|_| ())
    }

    /// What a node took for the platform's word may be anything; what is none has no line in the index, and the verdict says so.
    fn confirmation(&mut self, envelope: &[u8]) -> Result<(), Error> {
        let kind = Kind::Confirmation;
        let Ok(sealed) = confirm::sealed(envelope) else { return Ok(()) };
        if kind.said(&sealed.tbs).is_none() || !self.certs.is_given(&sealed.cert_id.0) {
            return Ok(());
        }
        self.signature(kind, kind.name(), &sealed.tbs, &sealed.signature, sealed.cert_id.0).map(|_| ())
    }

    /// Both keys' words, where they are any; what is wrong with them the verdict says.
    fn rotation(&mut self, body: &[u8]) -> Result<(), Error> {
        let signed: SignedRotation = hufu_trade::decode(body, "SignedRotation")?;
        let rotation = signed.open()?;
        for der in &signed.certificates {
            self.certs.add(Role::Node, der.as_bytes())?;
        }
        let tbs = signed.rotation.as_bytes();
        let (old, new) = (signed.old_signature.as_bytes(), signed.new_signature.as_bytes());
        for (kind, signature, certificate) in
            [(Kind::RotationOld, old, rotation.old), (Kind::RotationNew, new, rotation.new)]
        {
            self.signature(kind, kind.name(), tbs, signature, certificate.0)?;
        }
        Ok(())
    }

    fn signed(&mut self, signed: &Signed, kind: Kind, stem: &str) -> Result<String, Error> {
        self.signature(kind, stem, signed.tbs(), signed.signature(), signed.cert_id())
    }

    /// Adds a signature once and returns the name of its signed bytes.
    fn signature(&mut self, kind: Kind, stem: &str, tbs: &[u8], sig: &[u8], cert: Hash) -> Result<String, Error> {
        let what = || format!("signature {stem}");
        let signed_at = kind.said(tbs).ok_or_else(|| input(what(), format!("not a {}", kind.name())))?.at;
        let missing = || {
            let role = kind.role().name();
            input(what(), format!("the {role}'s certificate {} is not given", Octets(cert)))
        };
        let certificate = self.certs.use_for(&cert, kind.role(), signed_at).ok_or_else(missing)?;
        // The same signed bytes may come twice, as an entry and in a list; other bytes of the same name get a number.
        for copy in 1_u32.. {
            let stem = if copy == 1 { stem.to_owned() } else { format!("{stem}-{copy}") };
            let (tbs_name, sig_name) = (format!("signed/{stem}.tbs"), format!("signed/{stem}.sig"));
            match self.signed.iter().find(|(name, _)| *name == tbs_name) {
                Some((_, there)) if there == tbs => return Ok(tbs_name),
                Some(_) => {}
                None => {
                    self.signed.push((tbs_name.clone(), tbs.to_vec()));
                    self.signed.push((sig_name.clone(), sig.to_vec()));
                    let tbs = tbs_name.clone();
                    self.signatures.push(SignatureRow { tbs, signature: sig_name, certificate, signed_at, kind });
                    return Ok(tbs_name);
                }
            }
        }
        Err(input(what(), "too many of one name"))
    }

    /// What each witness signed, put together from its cosignature, beside the checkpoint that it saw.
    fn witnesses(&mut self, witnesses: &Witnesses) -> Result<(), Error> {
        let signed = &witnesses.checkpoint.checkpoint;
        let found = witnesses.checkpoint.read()?;
        self.checkpoint(&signed.to_bytes()?)?;
        let mut ids = Vec::new();
        for der in &witnesses.certificates {
            self.certs.add(Role::Witness, der)?;
            ids.push(Certificate::from_der(der)?.id());
        }
        let stem = format!("witnessed-{}-{}", found.log.number(), found.size);
        for one in witnesses.checkpoint.cosignatures.iter().take(WITNESSES_MAX) {
            if let Some(id) = ids.iter().find(|id| one.names(id)) {
                let tbs = one.witnessed(signed.tbs(), id).to_bytes()?;
                self.signature(Kind::Witnessed, &stem, &tbs, one.signature.as_bytes(), *id)?;
            }
        }
        Ok(())
    }

    fn checkpoint(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let signed = Signed::from_bytes(bytes)?;
        let found = Checkpoint::from_bytes(signed.tbs())?;
        let name =
            self.signed(&signed, Kind::Checkpoint, &format!("checkpoint-{}-{}", found.log.number(), found.size))?;
        self.roots.entry((found.log.number(), found.size)).or_insert(name);
        Ok(())
    }

    /// A token over the signature of a receipt.
    fn stamp(&mut self, receipt: &[u8], token: &[u8]) -> Result<(), Error> {
        let name = self.receipt(receipt)?;
        let stamp = layout::stamp_of(&name).ok_or_else(|| input("time-stamp", "of no signed bytes"))?;
        if !self.stamps.iter().any(|(there, _)| *there == stamp) {
            self.stamps.push((stamp, token.to_vec()));
        }
        Ok(())
    }

    fn receipt(&mut self, bytes: &[u8]) -> Result<String, Error> {
        let signed = Signed::from_bytes(bytes)?;
        let found: Receipt = hufu_trade::decode(signed.tbs(), "Receipt")?;
        let name = self.signed(&signed, Kind::Receipt, &format!("receipt-{}-{}", found.log, found.size))?;
        // The platform's word is worth more than the node's own.
        self.roots.insert((found.log, found.size), name.clone());
        Ok(name)
    }

    fn proof(&mut self, located: &Located) -> Result<(), Error> {
        let Some(proof) = &located.proof else { return Ok(()) };
        let (log, height, index) = (located.log, located.height, located.index);
        let signed = Signed::from_bytes(&proof.header)?;
        BlockHeader::from_bytes(signed.tbs())?;
        let header = self.signed(&signed, Kind::Block, &format!("block-{log}-{height}"))?;
        let entry = Entry::from_bytes(&located.entry)?;
        let kind = EntryKind::from_number(entry.kind).map_or("", EntryKind::name);
        let entry_path = format!("proofs/{}.path", layout::stem((log, height, index), kind));
        self.put_proof(&entry_path, path_to_text(&proof.entry_path));
        let mut parts = vec![match proof.log_size {
            0 => None,
            size => Some(self.log_part((log, height), size, &proof.log_path)?),
        }];
        let mut sizes = vec![proof.log_size];
        for (size, path) in &proof.more {
            if !sizes.contains(size) {
                sizes.push(*size);
                parts.push(Some(self.log_part((log, height), *size, path)?));
            }
        }
        let entry = layout::entry((log, height, index), kind);
        for log in parts {
            let (entry, entry_path, header) = (entry.clone(), entry_path.clone(), header.clone());
            self.proven.push(ProofRow { entry, entry_path, header, log });
        }
        Ok(())
    }

    /// The path from a block to the root of its log at a size, and the signed bytes with that root.
    fn log_part(&mut self, (log, height): (u8, u64), size: u64, path: &[PathStep]) -> Result<(String, String), Error> {
        let missing = || input(format!("proof of block {log}-{height}"), format!("no root of size {size}"));
        let root = self.roots.get(&(log, size)).cloned().ok_or_else(missing)?;
        let name = format!("proofs/{log}-{height}-in-{size}.path");
        self.put_proof(&name, path_to_text(path));
        Ok((name, root))
    }

    fn put_proof(&mut self, name: &str, text: String) {
        if !self.proofs.iter().any(|(there, _)| there == name) {
            self.proofs.push((name.to_owned(), text.into_bytes()));
        }
    }

    fn finish(self, bill: &Bill, crls: &[Vec<u8>]) -> Result<Vec<Member>, Error> {
        let offer = self.offer.ok_or_else(|| input("offer", "the entry is not given"))?;
        let tariff = hufu_trade::encode(&offer.tariff, "Tariff")?;
        let rules = self.rules.get(&offer.rules.0).ok_or_else(|| input("rules", "the offer's table is not given"))?;
        let json = serde_json::to_string_pretty(bill).map_err(|e| input("bill", e))? + "\n";
        let mut certs = Vec::new();
        let readme = readme::text(bill, &self.bill_entry, &self.certs.links());
        for (name, certificate) in self.certs.used() {
            certs.push((name, certificate.to_pem().into_bytes()));
        }
        let mut members: Vec<Member> = vec![
            (layout::README.into(), readme.into_bytes()),
            (layout::BILL_JSON.into(), json.into_bytes()),
            (layout::BILL.into(), self.bill),
            (layout::TARIFF.into(), tariff),
            (layout::CONTRACT.into(), rules.clone().into_bytes()),
            (
                layout::SIGNATURES.into(),
                self.signatures.iter().map(SignatureRow::line).collect::<String>().into_bytes(),
            ),
        ];
        members.extend(self.signed);
        members.extend(self.entries);
        members.extend(self.records.members());
        members.push((layout::PROOFS.into(), self.proven.iter().map(ProofRow::line).collect::<String>().into_bytes()));
        members.extend(self.proofs);
        members.extend(self.stamps);
        members.extend(certs);
        for (number, der) in (1_u32..).zip(crls) {
            members.push((format!("crls/{number}.pem"), Crl::from_der(der)?.to_pem().into_bytes()));
        }
        Ok(members)
    }
}

/// What an issued certificate hangs on: the file of its issuer, or the issuer's name when that is an anchor.
pub(crate) struct Link {
    pub(crate) subject: String,
    pub(crate) issuer: Result<String, String>,
    pub(crate) at_s: i64,
}

pub(crate) fn is_root(certificate: &Certificate) -> bool {
    certificate.is_self_issued() && certificate.verify_signature(certificate.public_key()).is_valid()
}
