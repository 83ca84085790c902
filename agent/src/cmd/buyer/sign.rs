//! The statements a buyer makes and signs (paper formulas 6, 7 and 11). What they rest on was checked in `check.rs` before.

use std::path::Path;

use hufu_audit::{Exit, Failure};
use hufu_gm::{cert::Certificate, sm2::SecretKey, sm3::sm3};
use hufu_trade::{
    entry::SignedStatement,
    if2::{Accepted, Browse, Sealed, SendOrder},
    money::Money,
    octets::{Digest, Octets},
    parent::ParentOrder,
    prepaid::price_of_term,
    statement::{ContractValue, Payment, Requirement, RequirementItem, ScoreCard, Statement, con_type, contract_no},
};

use super::{check::Checked, state::Asked};
use crate::{
    cmd::{bug, file},
    text::Text,
};

/// The buyer: a key and its certificate chain, leaf first.
pub(super) struct Buyer {
    pub(super) key: SecretKey,
    certificates: Vec<Certificate>,
    /// UserCertID.
    pub(super) id: Digest,
}

impl Buyer {
    /// Reads key and chain, and that they belong together.
    pub(super) fn load(key: &Path, cert: &Path) -> Result<Self, Failure<Text>> {
        let (secret, certificates) = (file::read_key(key)?, file::read_certificates(cert)?);
        Self::new(secret, certificates)
            .ok_or_else(|| file::malformed(cert, &format!("its first certificate is not that of {}", key.display())))
    }

    /// `None` when the first certificate is not that of the key.
    pub(super) fn new(key: SecretKey, certificates: Vec<Certificate>) -> Option<Self> {
        let leaf = certificates.first().filter(|leaf| *leaf.public_key() == key.public_key())?;
        let id = Octets(leaf.id());
        Some(Self { key, certificates, id })
    }

    /// The chain as it travels.
    pub(super) fn chain(&self) -> Vec<Sealed> {
        self.certificates.iter().map(|certificate| Sealed(certificate.der().to_vec())).collect()
    }

    fn sign(&self, statement: &Statement) -> Result<SendOrder, Failure<Text>> {
        statement.check().map_err(|e| bug(&e))?;
        let bytes = hufu_trade::encode(statement, "Statement").map_err(|e| bug(&e))?;
        let signature = self.key.sign(&bytes).map_err(|e| bug(&e))?;
        Ok(SendOrder { statement: Sealed(bytes), signature: Sealed(signature) })
    }
}

/// A statement with the fields that every type has.
fn statement(con_type: u8, checked: &Checked, buyer: &Buyer, now_ns: i64) -> Statement {
    Statement {
        version: 1,
        con_type,
        contract_no: checked.offer.contract_no,
        contract_time: now_ns,
        computing_pool_id: checked.offer.computing_pool_id.clone(),
        buyer: buyer.id,
        nonce: None,
        offer: Some(checked.offer_hash),
        follows: None,
        requirement: None,
        contract_value: None,
        score: None,
    }
}

/// Browse: a new contract number.
pub(super) fn browse(buyer: &Buyer, pool: &str, product: &str, now_ns: i64) -> Result<Asked, Failure<Text>> {
    let mut nonce = [0; 16];
    hufu_gm::random::fill(&mut nonce).map_err(|e| bug(&e))?;
    let nonce = Octets(nonce);
    let no = contract_no(buyer.id, pool, nonce, now_ns).map_err(|e| bug(&e))?;
    let made = Statement {
        version: 1,
        con_type: con_type::BROWSE,
        contract_no: no,
        contract_time: now_ns,
        computing_pool_id: pool.to_owned(),
        buyer: buyer.id,
        nonce: Some(nonce),
        offer: None,
        follows: None,
        requirement: None,
        contract_value: None,
        score: None,
    };
    let SendOrder { statement, signature } = buyer.sign(&made)?;
    let request = Browse { statement, signature, certificates: buyer.chain(), product_id: product.to_owned() };
    Ok(Asked { pool: pool.to_owned(), contract_no: no.to_string(), request })
}

/// Order: the requirement, the price terms' hash and the ceiling; without one the price of the term, prepaid.
pub(super) fn order(
    buyer: &Buyer,
    checked: &Checked,
    (quantity, term_ns, ceiling): (u32, u64, Option<Money>),
    parent: Option<ParentOrder>,
    now_ns: i64,
) -> Result<SendOrder, Failure<Text>> {
    let offer = &checked.offer;
    let requirement = Requirement {
        catalogue_revision: offer.catalogue_revision,
        items: vec![RequirementItem { product_id: offer.product_id.clone(), quantity }],
        term_ns,
        tariff: offer.tariff.hash().map_err(|e| bug(&e))?,
        parent,
    };
    let contract_value = match ceiling {
        Some(amount) => ContractValue { payment: Payment::Postpaid, amount },
        None => {
            let price = price_of_term(offer, &requirement, term_ns);
            let unpriced =
                |error: hufu_trade::Error| Failure::new(Exit::No, Text::NotPrepaid { why: error.to_string() });
            ContractValue { payment: Payment::Prepaid, amount: price.map_err(unpriced)? }
        }
    };
    buyer.sign(&Statement {
        follows: Some(offer.browse),
        requirement: Some(requirement),
        contract_value: Some(contract_value),
        ..statement(con_type::ORDER, checked, buyer, now_ns)
    })
}

/// Score: the card, resting on the deal.
pub(super) fn score(
    buyer: &Buyer,
    checked: &Checked,
    deal: &Accepted,
    card: ScoreCard,
    now_ns: i64,
) -> Result<SendOrder, Failure<Text>> {
    buyer.sign(&Statement {
        follows: Some(Octets(hufu_ledger::entry_hash(&deal.entry.0))),
        score: Some(card),
        ..statement(con_type::SCORE, checked, buyer, now_ns)
    })
}

/// The overall score inside a signed score, as a decimal number.
pub(super) fn overall(signed: &SendOrder) -> Result<String, Failure<Text>> {
    let parts = SignedStatement::new(&signed.statement.0, &signed.signature.0, &[]).map_err(|e| bug(&e))?;
    let overall = parts.open().map_err(|e| bug(&e))?.score.map_or(0, |card| card.overall);
    Ok(format!("{}.{:02}", overall / 100, overall % 100))
}

/// SM3 of some signed bytes.
pub(super) fn digest(bytes: &[u8]) -> Digest {
    Octets(sm3(&[bytes]))
}
