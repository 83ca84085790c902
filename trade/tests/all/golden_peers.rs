//! The golden files of what nodes tell each other about their logs: cosignatures, a fork proof, headers, questions.

use der::{Sequence, asn1::OctetString};
use hufu_gm::Signed;
use hufu_trade::{
    encode,
    entry::octet_string,
    if2::{
        peers::{Ask, Beginning, Headers, Witnessing},
        public::{Public, PublicDeal, PublicRecord},
    },
    octets::{Digest, Octets},
    statement::RequirementItem,
};

use crate::{
    golden::{Files, Outcome},
    parties::{MINUTE, POOL, Parties, Party, T0},
    wire::{BlockHeader, Checkpoint, Log, digest},
};

// The ledger's structures written down a second time, as in `wire.rs`.

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
struct Witnessed {
    version: u8,
    checkpoint: Digest,
    witness: Digest,
    time: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
struct Cosignature {
    witness: Octets<16>,
    time: i64,
    signature: OctetString,
}

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
struct WitnessedCheckpoint {
    checkpoint: Signed,
    cosignatures: Vec<Cosignature>,
}

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
struct Join {
    root: Digest,
    proof: Vec<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
struct ForkProof {
    version: u8,
    log: Log,
    node: String,
    first: Signed,
    second: Signed,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    join: Option<Join>,
    certificates: Vec<OctetString>,
}

/// The platform is the witness of the golden trade.
fn cosigned(files: &mut Files, checkpoint: &Signed, witness: &Party) -> Outcome<Cosignature> {
    let said = Witnessed { version: 1, checkpoint: digest(checkpoint.tbs()), witness: witness.id(), time: T0 };
    let der = files.der("Witnessed", &said)?;
    let signature = witness.key.sign(&der)?;
    files.raw("Witnessed.sig", &signature);
    let mut name = [0; 16];
    name.copy_from_slice(&witness.id().0[..16]);
    Ok(Cosignature { witness: Octets(name), time: T0, signature: octet_string(&signature, "Cosignature")? })
}

/// Makes everything from a checkpoint and a header of the golden trade, as they were signed.
pub(crate) fn peers(
    files: &mut Files,
    parties: &Parties,
    (checkpoint, first): (&Checkpoint, &BlockHeader),
) -> Outcome<()> {
    let sealed = parties.node.seal(encode(checkpoint, "Checkpoint")?)?;
    let cosignature = cosigned(files, &sealed, &parties.platform)?;
    let der = files.der("Cosignature", &cosignature)?;
    files.der(
        "WitnessedCheckpoint",
        &WitnessedCheckpoint { checkpoint: sealed.clone(), cosignatures: vec![cosignature] },
    )?;
    let word = Witnessing::new(POOL, 0, (checkpoint.size, checkpoint.root.0), der)?;
    files.der("Witnessing", &word)?;

    let header = parties.node.seal(encode(first, "BlockHeader")?)?;
    files.der("Headers", &Headers::new(POOL, 0, first.height, vec![header.clone()]))?;
    let peak = octet_string(&checkpoint.root.0, "Beginning")?;
    let beginning = Beginning { checkpoint: sealed.clone(), peaks: vec![peak], head: digest(header.tbs()) };
    files.der("Beginning", &beginning)?;
    files.der("Ask", &Ask::new(POOL, 0, 0, 2))?;

    let record = PublicRecord {
        height: first.height,
        index: 0,
        kind: 3,
        hash: digest(b"a deal entry"),
        path: Vec::new(),
        deal: None,
        offer: None,
        score: None,
    };
    let items = vec![RequirementItem { product_id: "vm-2c4g".to_owned(), quantity: 1 }];
    let deal = PublicDeal { contract_no: Octets([0xeb; 16]), items, contract_time: T0, service_end: T0 + 60 * MINUTE };
    files.der("PublicDeal", &deal)?;
    let offer = PublicRecord { kind: 22, offer: Some(digest(b"what was offered")), ..record.clone() };
    let deal = PublicRecord { index: 1, deal: Some(deal), path: vec![digest(b"beside it")], ..record };
    files.der("PublicRecord", &deal)?;
    let public = Public::newest(POOL, &[offer, deal]);
    public.check()?;
    files.signed("Public", &parties.node.seal(encode(&public, "Public")?)?)?;

    // Another block of the same height, and another root of the same size.
    let other = BlockHeader { time: first.time + 1, ..first.clone() };
    let mut pair = [header, parties.node.seal(encode(&other, "BlockHeader")?)?];
    pair.sort_by_key(|signed| digest(signed.tbs()).0);
    let [one, two] = pair;
    let certificates = vec![octet_string(parties.node.certificate.der(), "ForkProof")?];
    let proof = ForkProof {
        version: 1,
        log: Log::Trade,
        node: POOL.to_owned(),
        first: one,
        second: two,
        join: None,
        certificates: certificates.clone(),
    };
    files.der("ForkProof", &proof)?;
    let other = Checkpoint { root: digest(b"another past"), ..checkpoint.clone() };
    let mut pair = [(checkpoint.root.0, sealed), (other.root.0, parties.node.seal(encode(&other, "Checkpoint")?)?)];
    pair.sort_by_key(|(root, _)| *root);
    let [(_, one), (root, two)] = pair;
    let join = Join { root: Octets(root), proof: Vec::new() };
    files.der("Join", &join)?;
    let proof = ForkProof { first: one, second: two, join: Some(join), ..proof };
    files.der("ForkProof-checkpoints", &proof)?;
    Ok(())
}
