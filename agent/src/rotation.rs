//! The node changes its key: one entry, signed by both keys, is the last that the old one signs in the trade log. The writer appends
//! it when it is asked to, or at its start, and from then on signs with the new key; which key is in force after a crash the
//! ledger says, and not the files. Those are `next_key.rs`; what a rotation must say is `hufu_trade::rotation`.

use hufu_audit::{Exit, Failure};
use hufu_gm::{Certificate, Sign, Signed, sm2::PublicKey};
use hufu_ledger::{Ledger, Log, NewBlock, NewEntry};
use hufu_trade::{
    decode, encode,
    entry::{Certificates, EntryKind, Receipt, octet_string},
    octets::{Digest, Octets},
    rotation::{KEY, KeyRotation, SignedRotation},
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{
    act::problem,
    exchange::name_of,
    key_place::CREDENTIALS_DIRECTORY,
    next_key::{Asked, KeyFiles, Next},
    node::Effect,
    peers,
    setup::Material,
    signer::NodeKey,
    text::Text,
    writer::{Writer, WriterError},
};

/// A ledger's first blocks: the second one has the certificates that it began with.
const FIRST_BLOCKS: u64 = 2;

/// What the writer knows of keys beside the one that it signs with.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// Where their files are; absent where a signer holds the key.
    pub(crate) files: Option<KeyFiles>,
    /// The one that is to come, as it was at the start.
    pub(crate) next: Option<Next>,
    /// Why it cannot come, for an alarm.
    pub(crate) trouble: Option<String>,
    /// The rotation in force, once it was looked up.
    pub(crate) last: Option<Rotated>,
}

/// A rotation that stands in the ledger.
#[derive(Clone, Debug)]
pub(crate) struct Rotated {
    /// Its height in the trade log.
    height: u64,
    /// Hash of its entry.
    entry: Digest,
    /// The certificate of the key that signs since.
    leaf: Certificate,
}

/// The newest rotation of a ledger.
///
/// # Errors
/// The ledger's; [`hufu_ledger::Error::Damaged`] never hides behind `None`.
pub(crate) fn newest(ledger: &Ledger) -> Result<Option<Rotated>, WriterError> {
    let Some(at) = ledger.find(&KEY)?.into_iter().filter(|at| at.log == Log::Trade).max_by_key(|at| at.height) else {
        return Ok(None);
    };
    let entry = hufu_ledger::Entry::from_bytes(&ledger.entry(at.log, at.height, at.index)?)?;
    let unreadable = |why: String| WriterError::Entry(format!("key_rotation at trade height {}: {why}", at.height));
    let signed: SignedRotation =
        decode(&entry.body, "SignedRotation").map_err(|error| unreadable(error.to_string()))?;
    let leaf = signed.certificates.first().map(|der| Certificate::from_der(der.as_bytes()));
    let leaf = leaf.ok_or_else(|| unreadable("no certificate".to_owned()))?;
    let leaf = leaf.map_err(|error| unreadable(error.to_string()))?;
    Ok(Some(Rotated { height: at.height, entry: name_of(&at).hash, leaf }))
}

impl Keys {
    /// Makes `material` the key that is in force by the ledger; what is left is the key that is to come.
    ///
    /// # Errors
    /// Status 78 where the files hold only a key that a rotation has ended; 74 where the ledger cannot be read.
    pub(crate) fn in_force(
        files: Option<KeyFiles>,
        material: &mut Material,
        ledger: &Ledger,
        failed: impl Fn(WriterError) -> Failure<Text>,
    ) -> Result<Self, Failure<Text>> {
        let last = newest(ledger).map_err(failed)?;
        let mut keys = Self { files, last, ..Self::default() };
        match std::mem::replace(&mut material.next, Ok(None)) {
            Ok(next) => keys.next = next,
            Err(failure) => keys.trouble = Some(failure.text.render(hufu_audit::Lang::En)),
        }
        let Some(rotated) = &keys.last else {
            let own = material.identity.key.public_key();
            if keys.next.take_if(|next| next.pair.key.public_key() == own).is_some() {
                keys.trouble = Some("the certificate that lies ready is of the present key".to_owned());
            }
            return Ok(keys);
        };
        if material.identity.key.public_key() == *rotated.leaf.public_key() {
            // Both names may stand for one key while the files are being put in order.
            keys.next.take_if(|next| next.pair.key.public_key() == *rotated.leaf.public_key());
            return Ok(keys);
        }
        match keys.next.take_if(|next| next.pair.key.public_key() == *rotated.leaf.public_key()) {
            Some(next) => {
                material.identity.key = NodeKey::File(next.pair.key);
                material.identity.cert_id = Octets(next.pair.chain.first().map_or([0; 32], Certificate::id));
                material.certificates = next.pair.chain.iter().map(|c| c.der().to_vec()).collect();
                Ok(keys)
            }
            None => {
                let certificate = hex::encode(rotated.leaf.id());
                let why = keys.trouble.unwrap_or_default();
                Err(Failure::new(Exit::Config, Text::KeyRotated { certificate, why }))
            }
        }
    }
}

impl Writer {
    /// Rotates at a start, where a certificate for the next key lies ready. What keeps it from that is an alarm: the node goes on
    /// with its key.
    ///
    /// # Errors
    /// [`WriterError`].
    pub(crate) fn rotate_due(&mut self) -> Result<(), WriterError> {
        if let Some(why) = self.keys.trouble.take() {
            self.unchanged(why)?;
        }
        // The platform may have given back blocks that this disk had lost, with a rotation in them.
        self.keys.last = newest(&self.ledger)?;
        let own = self.core.identity.key.public_key();
        let is_ended = |rotated: &Rotated| *rotated.leaf.public_key() != own;
        if let Some(rotated) = self.keys.last.clone().filter(is_ended) {
            let next = self.keys.next.take_if(|next| next.pair.key.public_key() == *rotated.leaf.public_key());
            let ended = WriterError::Rotated(self.core.identity.cert_id.to_string());
            self.adopt(&next.ok_or(ended)?);
            return Ok(());
        }
        match self.keys.next.take() {
            Some(next) => match self.usable(&next) {
                Ok(signed) => self.rotate(&next, &signed),
                Err(why) => self.unchanged(why),
            },
            None => Ok(()),
        }
    }

    fn unchanged(&mut self, detail: String) -> Result<(), WriterError> {
        self.execute(Effect::Alarm { what: "the key cannot be changed", detail })
    }

    /// Deals with somebody who asks for a rotation, or what became of it.
    ///
    /// # Errors
    /// [`WriterError`].
    pub(crate) fn rotate_asked(&mut self, answer: oneshot::Sender<String>) -> Result<(), WriterError> {
        let now_ns = (self.clock.now)().real_ns;
        let said = match self.next_now(now_ns) {
            Err(problem) => json!({ "error": problem }),
            Ok(None) => json!({ "ok": self.rotated()? }),
            Ok(Some(next)) => match self.usable(&next) {
                Err(why) => {
                    let zh = format!("不能更换为该密钥：{why}");
                    json!({ "error": problem("certificate", None, format!("this key cannot be changed to: {why}"), zh) })
                }
                Ok(signed) => {
                    self.rotate(&next, &signed)?;
                    json!({ "ok": self.rotated()? })
                }
            },
        };
        answer.send(said.to_string()).ok();
        Ok(())
    }

    /// The key to change to, as its files are now; `None` where that is done.
    fn next_now(&self, now_ns: i64) -> Result<Option<Next>, hufu_trade::if2::Problem> {
        let identity = &self.core.identity;
        let Some(files) = &self.keys.files else {
            let en = "a signer holds the node's key: the agent has no second one to change to";
            return Err(problem("state", None, en, "节点密钥由签名器持有，代理没有可更换的第二把密钥"));
        };
        let asked = Asked { anchors: &identity.anchors, pool: &identity.pool, now_ns };
        match files.next(&asked) {
            Ok(Some(next)) if next.pair.key.public_key() == identity.key.public_key() => Ok(None),
            Ok(Some(next)) => Ok(Some(next)),
            Ok(None) if self.keys.last.is_some() => Ok(None),
            Ok(None) => {
                let en = "no certificate of a next key lies ready; run hufu key rotate";
                Err(problem("unknown", None, en, "没有备好的新密钥证书；请执行 hufu key rotate"))
            }
            Err(failure) => {
                // systemd gave the service copies of its secrets as they were at its start.
                let code = if is_handed(files) { "restart" } else { "certificate" };
                let said = |lang| failure.text.render(lang);
                Err(problem(code, None, said(hufu_audit::Lang::En), said(hufu_audit::Lang::Zh)))
            }
        }
    }

    /// The rotation, signed by both keys and checked as every reader will check it: one that nobody accepts would end the
    /// node's trade.
    ///
    /// # Errors
    /// Why the key cannot be changed to this one.
    fn usable(&self, next: &Next) -> Result<SignedRotation, String> {
        let identity = &self.core.identity;
        let failed = |error: &dyn std::fmt::Display| error.to_string();
        let leaf = next.pair.chain.first().ok_or("a chain without a certificate")?;
        if self.was_in_force(leaf.public_key()).map_err(|error| failed(&error))? {
            return Err("it was in force before: a rotation ends a key for ever".to_owned());
        }
        let rotation = KeyRotation {
            version: 1,
            computing_pool_id: identity.pool.clone(),
            old: identity.cert_id,
            new: Octets(leaf.id()),
            finance_from: self.ledger.size(Log::Finance),
            time: (self.clock.now)().real_ns,
            why: next.why.clone(),
        };
        let tbs = encode(&rotation, "KeyRotation").map_err(|error| failed(&error))?;
        let octets = |bytes: &[u8]| octet_string(bytes, "SignedRotation");
        let by = |key: &dyn Sign| key.sign(&tbs).map_err(|error| failed(&error));
        let (old, new) = (by(&identity.key)?, by(&next.pair.key)?);
        let certificates = next.pair.chain.iter().map(|found| octets(found.der())).collect::<Result<_, _>>();
        let all = || -> Result<SignedRotation, hufu_trade::Error> {
            let (old_signature, new_signature) = (octets(&old)?, octets(&new)?);
            Ok(SignedRotation { rotation: octets(&tbs)?, old_signature, new_signature, certificates: certificates? })
        };
        let signed = all().map_err(|error| failed(&error))?;
        let is_old = (identity.cert_id, &identity.key.public_key());
        signed.check(&identity.pool, is_old).map_err(|error| failed(&error))?;
        Ok(signed)
    }

    /// Whether a key signed for this node once: one of its first certificates, or of an earlier rotation.
    fn was_in_force(&self, key: &PublicKey) -> Result<bool, WriterError> {
        let mut places: Vec<(u64, u32)> = self.ledger.find(&KEY)?.iter().map(|at| (at.height, at.index)).collect();
        for height in 0..self.ledger.size(Log::Trade).min(FIRST_BLOCKS) {
            let count = self.ledger.held(Log::Trade, height)?.entry_refs().len();
            places.extend((0..u32::try_from(count).unwrap_or(0)).map(|index| (height, index)));
        }
        for (height, index) in places {
            let Ok(bytes) = self.ledger.entry(Log::Trade, height, index) else { continue };
            let entry = hufu_ledger::Entry::from_bytes(&bytes)?;
            let ders = match EntryKind::from_number(entry.kind) {
                Some(EntryKind::KeyRotation) => {
                    decode::<SignedRotation>(&entry.body, "SignedRotation").map(|signed| signed.certificates)
                }
                Some(EntryKind::Certificates) => {
                    decode::<Certificates>(&entry.body, "Certificates").map(|listed| listed.certificates)
                }
                _ => continue,
            };
            let leaf = ders.ok().and_then(|ders| Certificate::from_der(ders.first()?.as_bytes()).ok());
            if leaf.is_some_and(|leaf| leaf.public_key() == key) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Appends the rotation, the last entry that the present key signs, and goes on with the next key.
    fn rotate(&mut self, next: &Next, signed: &SignedRotation) -> Result<(), WriterError> {
        let failed = |error: &dyn std::fmt::Display| WriterError::Entry(error.to_string());
        let body = encode(signed, "SignedRotation").map_err(|error| failed(&error))?;
        let entry = NewEntry { kind: EntryKind::KeyRotation.number(), body, key: KEY, sealed: false };
        self.append(&[NewBlock { log: Log::Trade, entries: vec![entry] }])?;
        self.keys.last = newest(&self.ledger)?;
        self.adopt(next);
        tracing::info!(certificate = %self.core.identity.cert_id, "the node's key was changed");
        Ok(())
    }

    /// Signs with a key that the ledger says is in force, and tells the platform its certificate.
    fn adopt(&mut self, next: &Next) {
        let ders: Vec<Vec<u8>> = next.pair.chain.iter().map(|found| found.der().to_vec()).collect();
        let identity = &mut self.core.identity;
        identity.key = NodeKey::File(next.pair.key.clone());
        identity.cert_id = Octets(next.pair.chain.first().map_or([0; 32], Certificate::id));
        self.first.node.clone_from(&ders);
        if let Some(peers) = &self.peers {
            let (key, cert_id) = (identity.key.clone(), identity.cert_id.0);
            peers.rotated(peers::Event::Rotated { key, cert_id, certificates: ders.clone() });
        }
        self.core.shop.certificates = ders;
        // The catalogue brings the certificates, before anything else is signed under them.
        self.core.told_revision = None;
    }

    /// What signs, and since when, for status.
    pub(crate) fn key_status(&self) -> Value {
        let rotated =
            self.keys.last.as_ref().map(
                |rotated| json!({ "height": rotated.height.to_string(), "receipted": self.is_receipted(rotated) }),
            );
        json!({ "certificate": self.core.identity.cert_id.to_string(), "rotation": rotated })
    }

    fn is_receipted(&self, rotated: &Rotated) -> bool {
        let receipt = self.core.book.receipted.first().and_then(Option::as_ref);
        receipt.is_some_and(|receipt| receipt.size > rotated.height)
    }

    /// What became of the newest rotation, for whoever asked for it.
    fn rotated(&self) -> Result<Value, WriterError> {
        let Some(rotated) = &self.keys.last else { return Ok(Value::Null) };
        Ok(json!({
            "certificate": self.core.identity.cert_id.to_string(),
            "height": rotated.height.to_string(),
            "receipted": self.is_receipted(rotated),
            "refused": self.refusal(rotated)?,
        }))
    }

    /// The code under which the platform refuses it. Receipts that refuse something stand in the log.
    fn refusal(&self, rotated: &Rotated) -> Result<Option<String>, WriterError> {
        for height in rotated.height..self.ledger.size(Log::Trade) {
            let block = self.ledger.held(Log::Trade, height)?;
            for entry in block.entries().iter().filter_map(hufu_ledger::HeldEntry::plain) {
                let entry = hufu_ledger::Entry::from_bytes(entry)?;
                if entry.kind != EntryKind::Receipt.number() {
                    continue;
                }
                let read = Signed::from_bytes(&entry.body).ok();
                let receipt = read.and_then(|signed| decode::<Receipt>(signed.tbs(), "Receipt").ok());
                let mut refused = receipt.into_iter().flat_map(|receipt| receipt.refused);
                if let Some(found) = refused.find(|refused| refused.entry == rotated.entry) {
                    return Ok(Some(found.code.to_string()));
                }
            }
        }
        Ok(None)
    }
}

/// Whether the key's file is a copy that systemd handed over at the start.
fn is_handed(files: &KeyFiles) -> bool {
    std::env::var_os(CREDENTIALS_DIRECTORY).is_some_and(|dir| files.key.starts_with(dir))
}
