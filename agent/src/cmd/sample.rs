//! The four trade blocks of the paper (figures 3 to 6), made and verified in memory to see what they cost on this machine. Keys
//! and certificate are fresh and forgotten; nothing is stored or sent.

use hufu_audit::Failure;
use hufu_gm::{
    PublicKey, SecretKey, Signed,
    ca::{self, Role, Terms},
    random,
    sm3::sm3,
};
use hufu_ledger::{Entry, Expected, Log, Signer, TimeQuality, TimeState, block::NO_PARENT, sample_block, verify_block};
use hufu_trade::{
    decode, encode,
    entry::{Countersignature, Deal, EntryKind, EntryName, SignedStatement, octet_string},
    money::Money,
    octets::Octets,
    statement::{
        ContractValue, Payment, Requirement, RequirementItem, ScoreCard, ScoreItem, Statement, con_type, contract_no,
    },
};

use crate::{clock, cmd::bug, text::Text};

/// The blocks of one trade, in their order.
pub(super) const KINDS: [EntryKind; 4] = [EntryKind::Browse, EntryKind::Order, EntryKind::Deal, EntryKind::Score];

const POOL: &str = "site-1/node-1";
const DAY_S: i64 = 86_400;

/// What one kind of block costs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// Size of the block's DER, bytes.
    pub(super) bytes: u64,
    /// To make and sign what is in the block and the block itself, median, ns.
    pub(super) make_ns: u64,
    /// To decode it strictly and check root, hashes and both signatures, median, ns.
    pub(super) verify_ns: u64,
}

/// The parties of a trade that never was.
pub(super) struct Sample {
    node: SecretKey,
    node_public: PublicKey,
    buyer: SecretKey,
    buyer_public: PublicKey,
    /// The buyer's certificate, DER.
    certificate: Vec<u8>,
    browse: Statement,
    order: Statement,
    ordered: Vec<u8>,
}

impl Sample {
    /// Fresh keys, a certificate, and the statements of a small order.
    pub(super) fn new() -> Result<Self, Failure<Text>> {
        let made = |error: hufu_gm::Error| bug(&error);
        let [root_key, node, buyer] = [(); 3].map(|()| SecretKey::generate(random::fill));
        let (root_key, node, buyer) = (root_key.map_err(made)?, node.map_err(made)?, buyer.map_err(made)?);
        let now_ns = clock::now().real_ns;
        let now_s = now_ns.div_euclid(1_000_000_000);
        let terms = Terms { serial: &[1; 16], not_before_s: now_s, not_after_s: now_s + DAY_S, dns_names: &[] };
        let root = ca::root(&root_key, "CN=sample root,C=CN", None, &terms).map_err(made)?;
        let certificate =
            ca::issue(&root, &root_key, Role::Signer, "CN=sample buyer,C=CN", &buyer.public_key(), &terms)
                .map_err(made)?;
        let (id, nonce) = (Octets(certificate.id()), Octets([7; 16]));
        let browse = Statement {
            version: 1,
            con_type: con_type::BROWSE,
            contract_no: contract_no(id, POOL, nonce, now_ns).map_err(|e| bug(&e))?,
            contract_time: now_ns,
            computing_pool_id: POOL.to_owned(),
            buyer: id,
            nonce: Some(nonce),
            offer: None,
            follows: None,
            requirement: None,
            contract_value: None,
            score: None,
        };
        let items = vec![RequirementItem { product_id: "small".to_owned(), quantity: 1 }];
        let term_ns = DAY_S.unsigned_abs() * 1_000_000_000;
        let order = Statement {
            con_type: con_type::ORDER,
            nonce: None,
            offer: Some(Octets([1; 32])),
            follows: Some(Octets([2; 32])),
            requirement: Some(Requirement {
                catalogue_revision: 1,
                items,
                term_ns,
                tariff: Octets([3; 32]),
                parent: None,
            }),
            contract_value: Some(ContractValue { payment: Payment::Postpaid, amount: Money(1_000_000_000) }),
            ..browse.clone()
        };
        let ordered = buyer.sign(&encode(&order, "Statement").map_err(|e| bug(&e))?).map_err(made)?;
        let (node_public, buyer_public) = (node.public_key(), buyer.public_key());
        Ok(Self {
            node,
            node_public,
            buyer,
            buyer_public,
            certificate: certificate.der().to_vec(),
            browse,
            order,
            ordered,
        })
    }

    /// Makes and verifies `repeat` blocks of a kind.
    pub(super) fn cost(&self, kind: EntryKind, repeat: u16) -> Result<Cost, Failure<Text>> {
        let (mut make, mut verify, mut bytes) = (Vec::new(), Vec::new(), 0);
        for _ in 0..repeat.max(1) {
            let begun = clock::now().mono_ns;
            let block = self.make(kind)?;
            let made = clock::now().mono_ns;
            self.verify(kind, &block)?;
            let verified = clock::now().mono_ns;
            make.push(made.saturating_sub(begun));
            verify.push(verified.saturating_sub(made));
            bytes = u64::try_from(block.len()).map_err(|e| bug(&e))?;
        }
        Ok(Cost { bytes, make_ns: median(make), verify_ns: median(verify) })
    }

    /// One block of a kind, signed by whoever signs it in a trade.
    fn make(&self, kind: EntryKind) -> Result<Vec<u8>, Failure<Text>> {
        let body = match kind {
            EntryKind::Browse => self.stated(&self.browse, std::slice::from_ref(&self.certificate))?,
            EntryKind::Order => self.stated(&self.order, &[])?,
            EntryKind::Deal => encode(&self.deal()?, "Deal").map_err(|e| bug(&e))?,
            _ => self.stated(&self.score(), &[])?,
        };
        let signer = Signer { key: &self.node, cert_id: [4; 32], salt_key: &[5; 32] };
        let quality = TimeQuality { state: TimeState::Relative, max_error_ns: None };
        sample_block(POOL, (kind.number(), &body), &signer, self.browse.contract_time, quality).map_err(|e| bug(&e))
    }

    fn stated(&self, statement: &Statement, chain: &[Vec<u8>]) -> Result<Vec<u8>, Failure<Text>> {
        let bytes = encode(statement, "Statement").map_err(|e| bug(&e))?;
        let signature = self.buyer.sign(&bytes).map_err(|e| bug(&e))?;
        let signed = SignedStatement::new(&bytes, &signature, chain).map_err(|e| bug(&e))?;
        encode(&signed, "SignedStatement").map_err(|e| bug(&e))
    }

    fn score(&self) -> Statement {
        let items = [0, 1, 7].map(|code| ScoreItem { code, score: 90 }).to_vec();
        Statement {
            con_type: con_type::SCORE,
            nonce: None,
            offer: Some(Octets([1; 32])),
            follows: Some(Octets([6; 32])),
            score: Some(ScoreCard { overall: 9_000, items }),
            ..self.browse.clone()
        }
    }

    fn deal(&self) -> Result<Deal, Failure<Text>> {
        let order = &self.order;
        let statement = encode(order, "Statement").map_err(|e| bug(&e))?;
        let counter = Countersignature {
            statement: Octets(sm3(&[&statement])),
            buyer_signature: Octets(sm3(&[&self.ordered])),
            computing_pool_id: POOL.to_owned(),
            time: order.contract_time,
        };
        let counter = encode(&counter, "Countersignature").map_err(|e| bug(&e))?;
        Ok(Deal {
            version: 1,
            con_type: con_type::DEAL,
            contract_no: order.contract_no,
            contract_time: order.contract_time,
            computing_pool_id: POOL.to_owned(),
            buyer: order.buyer,
            order: EntryName { log: Log::Trade.number(), height: 4, index: 0, hash: Octets([6; 32]) },
            offer: Octets([1; 32]),
            requirement: order.requirement.clone().ok_or_else(|| bug(&"no requirement"))?,
            contract_value: order.contract_value.ok_or_else(|| bug(&"no value"))?,
            buyer_signature: octet_string(&self.ordered, "Deal").map_err(|e| bug(&e))?,
            countersignature: Signed::seal(counter, &[4; 32], &self.node).map_err(|e| bug(&e))?,
            service_end: order.contract_time.saturating_add(DAY_S * 1_000_000_000),
        })
    }

    /// What a reader of one block checks, apart from the certificates' chains, which it checks once for each signer.
    fn verify(&self, kind: EntryKind, bytes: &[u8]) -> Result<(), Failure<Text>> {
        let place = Expected { log: Log::Trade, node: POOL, height: 0, previous: NO_PARENT };
        let block = verify_block(bytes, &self.node_public, &place).map_err(|e| bug(&e))?;
        let entry = block.entries().first().ok_or_else(|| bug(&"a block without entries"))?;
        let entry = Entry::from_bytes(entry).map_err(|e| bug(&e))?;
        let holds = if kind == EntryKind::Deal {
            let deal: Deal = decode(&entry.body, "Deal").map_err(|e| bug(&e))?;
            deal.countersignature.verify(&self.node_public).is_valid()
        } else {
            let signed: SignedStatement = decode(&entry.body, "SignedStatement").map_err(|e| bug(&e))?;
            signed.open().map_err(|e| bug(&e))?;
            self.buyer_public.verify(signed.statement.as_bytes(), signed.signature.as_bytes()).is_valid()
        };
        if holds { Ok(()) } else { Err(bug(&"a signature made here does not hold")) }
    }
}

/// The middle value; the lower one of two.
fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_of_a_trade_is_made_and_holds() {
        let sample = Sample::new().unwrap();
        for kind in KINDS {
            let cost = sample.cost(kind, 1).unwrap();
            assert!(cost.bytes > 500 && cost.make_ns > 0 && cost.verify_ns > 0, "{} {cost:?}", kind.name());
            let mut block = sample.make(kind).unwrap();
            let last = block.len() - 1;
            block[last / 2] ^= 1;
            assert!(sample.verify(kind, &block).is_err(), "{}", kind.name());
        }
    }

    #[test]
    fn the_median_is_a_value_that_was_measured() {
        for (values, want) in [(vec![], 0), (vec![7], 7), (vec![9, 1], 1), (vec![5, 900, 4], 5)] {
            assert_eq!(median(values), want);
        }
    }
}
