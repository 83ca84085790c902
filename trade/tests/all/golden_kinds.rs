//! The golden files of demands, their answers and what was chosen, of a key that is changed, of orders with a parent, and of books
//! that are compared.

use hufu_gm::{SecretKey, ca};
use hufu_trade::{
    account::{ACTIVE, Account, BUYER, FIRST, Operation},
    demand::{Demand, DemandAttribute, DemandItem, DemandRefusal, Proposal, Response},
    encode,
    entry::{EntryKind, EntryName, octet_string},
    matching::{Matching, Selection, candidates},
    octets::{Digest, Octets},
    parent::{Child, ChildBill, ParentNoInput, ParentOrder, Payable, parent_bill, parent_no},
    reconciliation::{Reconciliation, ReconciliationLine},
    rotation::{KeyRotation, SignedRotation},
    statement::{Requirement, Reservation},
    token::{SCOPE_CONTRACT, SCOPE_IF2, Token},
};

use crate::{
    golden::{Files, Outcome},
    golden_parts::lone,
    parties::{MINUTE, POOL, Parties, Party, SECOND, T0},
    wire::digest,
};

/// A demand of this content, with its number.
pub(crate) fn demand(buyer: Digest) -> Outcome<Demand> {
    let minima = [("cpu", 2_000), ("memory", 4 << 30)];
    let least = |(resource, quantity): (&str, u64)| Reservation { resource: resource.to_owned(), quantity };
    let wish = |name: &str, value: &str| DemandAttribute { name: name.to_owned(), value: value.to_owned() };
    let plain = Demand {
        version: 1,
        demand_no: Octets([0; 16]),
        buyer,
        relay: "site-1/platform".to_owned(),
        time: T0 - 90 * MINUTE,
        valid_until: T0 + 600 * MINUTE,
        pools: Some(vec![POOL.to_owned(), "site-2/node-b".to_owned()]),
        template: "vm".to_owned(),
        items: vec![DemandItem { class: "IaaS".to_owned(), minima: minima.map(least).to_vec(), quantity: 3 }],
        attributes: vec![wish("qos", "at most 20 ms to the buyer (时延)"), wish("region", "华东")],
        term_ns: 86_400 * 1_000_000_000,
        start_from: T0,
        start_until: T0 + 1_440 * MINUTE,
        ceiling: Some("500".parse()?),
    };
    Ok(Demand { demand_no: plain.number()?, ..plain })
}

/// An answer to a demand, with its number.
pub(crate) fn response(follows: Digest, demand: &Demand, refused: Option<DemandRefusal>) -> Outcome<Response> {
    let proposal = Proposal {
        product_id: "vm-2c4g".to_owned(),
        catalogue_revision: 7,
        quantity: 3,
        term_ns: demand.term_ns,
        tariff: digest(b"the price terms"),
        estimate: "17.28".parse()?,
        hold_until: T0 + 60 * MINUTE,
    };
    let plain = Response {
        version: 1,
        demand: digest(&encode(demand, "Demand")?),
        follows,
        proposal_no: Octets([0; 16]),
        computing_pool_id: POOL.to_owned(),
        time: T0 - 80 * MINUTE,
        proposal: if refused.is_none() { Some(proposal) } else { None },
        refusal: refused,
    };
    Ok(Response { proposal_no: plain.number()?, ..plain })
}

/// What the buyer chose of these answers.
pub(crate) fn matching(buyer: &Party, answers: &[Response], chosen: &Response) -> Outcome<Matching> {
    let selection = Selection {
        version: 1,
        demand: chosen.demand,
        time: T0 - 70 * MINUTE,
        chosen: vec![chosen.proposal_no],
        why: "the nearest (最近)".to_owned(),
    };
    let hashed: Vec<(Digest, &Response)> =
        answers.iter().map(|answer| Ok((digest(&encode(answer, "Response")?), answer))).collect::<Outcome<_>>()?;
    Ok(Matching {
        version: 1,
        demand: chosen.demand,
        relay: "site-1/platform".to_owned(),
        time: T0 - 69 * MINUTE,
        candidates: candidates(hashed, &selection),
        selection: buyer.seal(encode(&selection, "Selection")?)?,
    })
}

/// The account of a user, and the operation that made it.
fn account(user: Digest) -> Outcome<(Account, Operation)> {
    let operation = Operation {
        version: 1,
        relay: "site-1/platform".to_owned(),
        number: 1,
        previous: FIRST,
        operator: user.to_string(),
        act: "register".to_owned(),
        about: user.to_string(),
        time: T0 - 100 * MINUTE,
        why: "the first browse (首次浏览)".to_owned(),
    };
    operation.check()?;
    operation.follows(None)?;
    let account = Account {
        version: 1,
        relay: operation.relay.clone(),
        user,
        revision: 1,
        roles: vec![BUYER.to_owned()],
        state: ACTIVE.to_owned(),
        time: operation.time,
        operation: digest(&encode(&operation, "Operation")?),
    };
    account.check()?;
    Ok((account, operation))
}

/// The books of one side over a day in which the golden bill was made.
pub(crate) fn books(side: u8, other: Option<Digest>, bill: &EntryName, child: &ChildBill) -> Reconciliation {
    let line = |kind: EntryKind, entry| ReconciliationLine {
        kind: kind.number(),
        number: child.number.clone(),
        contract_no: child.contract_no,
        time: T0 + 180 * MINUTE,
        amount: Some(child.due),
        entry,
        refused: None,
    };
    let paid = ReconciliationLine { time: T0 + 200 * MINUTE, ..line(EntryKind::Payment, None) };
    let lines = std::iter::once(line(EntryKind::Bill, Some(bill.clone()))).chain((side == 1).then_some(paid));
    Reconciliation {
        version: 1,
        computing_pool_id: POOL.to_owned(),
        side,
        from: T0,
        until: T0 + 1_440 * MINUTE,
        time: T0 + 1_500 * MINUTE,
        trade_size: 34,
        trade_root: digest(b"the trade log"),
        finance_size: 1,
        finance_root: digest(b"the finance log"),
        other,
        lines: Reconciliation::sorted(lines.collect()),
    }
}

/// The node's next key and certificate.
pub(crate) fn next_node(parties: &Parties, name: &str) -> Outcome<Party> {
    let key = SecretKey::from_scalar(&[0x35; 32])?;
    let terms = ca::Terms {
        serial: b"golden node 0002",
        not_before_s: T0 / SECOND - 86_400,
        not_after_s: T0 / SECOND + 3_650 * 86_400,
        dns_names: &[],
    };
    let root = &parties.root;
    let subject = format!("CN={name},O=Hufu test data,C=CN");
    let certificate = ca::issue(&root.certificate, &root.key, ca::Role::Signer, &subject, &key.public_key(), &terms)?;
    Ok(Party { key, certificate })
}

/// A rotation from one key to another, signed by both.
pub(crate) fn rotated(old: &Party, new: &Party) -> Outcome<(KeyRotation, SignedRotation)> {
    let rotation = KeyRotation {
        version: 1,
        computing_pool_id: POOL.to_owned(),
        old: old.id(),
        new: new.id(),
        finance_from: 5,
        time: T0 + 400 * MINUTE,
        why: "yearly (例行更换)".to_owned(),
    };
    let der = encode(&rotation, "KeyRotation")?;
    let signed = SignedRotation {
        old_signature: octet_string(&old.key.sign(&der)?, "SignedRotation")?,
        new_signature: octet_string(&new.key.sign(&der)?, "SignedRotation")?,
        rotation: octet_string(&der, "SignedRotation")?,
        certificates: vec![octet_string(new.certificate.der(), "SignedRotation")?],
    };
    Ok((rotation, signed))
}

/// The token of a node, and that of a user for a contract.
fn tokens(parties: &Parties) -> [Token; 2] {
    let own = Token {
        version: 1,
        token_id: Octets([0x51; 16]),
        issuer: "site-1/platform".to_owned(),
        subject: POOL.to_owned(),
        audience: "site-1/platform".to_owned(),
        scope: SCOPE_IF2.to_owned(),
        not_before: T0,
        not_after: T0 + 60 * MINUTE,
    };
    let user = Token {
        token_id: Octets([0x52; 16]),
        subject: parties.buyer.id().to_string(),
        audience: POOL.to_owned(),
        scope: format!("{SCOPE_CONTRACT}{}", Octets([0x53; 16])),
        not_after: T0 + 15 * MINUTE,
        ..own.clone()
    };
    [own, user]
}

/// Makes everything.
pub(crate) fn kinds(files: &mut Files, parties: &Parties, order: &Requirement, bill: ChildBill) -> Outcome<()> {
    for (which, token) in ["", "-user"].into_iter().zip(tokens(parties)) {
        token.check()?;
        files.signed(&format!("Token{which}"), &parties.platform.seal(encode(&token, "Token")?)?)?;
    }
    let demand = demand(parties.buyer.id())?;
    demand.check()?;
    files.der("DemandItem", demand.items.first().ok_or("no item")?)?;
    files.der("DemandAttribute", demand.attributes.first().ok_or("no attribute")?)?;
    let body = files.signed("Demand", &parties.platform.seal(encode(&demand, "Demand")?)?)?;
    let named = lone(files, "demand", EntryKind::Demand, 30, &body)?;
    let refusal = DemandRefusal { code: "stock".to_owned(), why: "three are not free (库存不足)".to_owned() };
    files.der("DemandRefusal", &refusal)?;
    let mut answers = Vec::new();
    for (which, height, refused) in [("proposal", 31, None), ("refusal", 32, Some(refusal))] {
        let response = response(named.hash, &demand, refused)?;
        response.check()?;
        if let Some(proposal) = &response.proposal {
            files.der("Proposal", proposal)?;
        }
        let signed = parties.node.seal(encode(&response, "Response")?)?;
        let body = files.signed(&format!("Response-{which}"), &signed)?;
        lone(files, &format!("response-{which}"), EntryKind::Response, height, &body)?;
        answers.push(response);
    }
    // A node has one answer; the refusal is another node's.
    let mut other = answers.pop().ok_or("no refusal")?;
    other.computing_pool_id = "site-2/node-b".to_owned();
    let chosen = answers.first().cloned().ok_or("no proposal")?;
    let matching = matching(&parties.buyer, &[chosen.clone(), other], &chosen)?;
    matching.check()?;
    files.der("Candidate", matching.candidates.first().ok_or("no candidate")?)?;
    files.signed("Selection", &matching.selection)?;
    let body = files.signed("Matching", &parties.platform.seal(encode(&matching, "Matching")?)?)?;
    lone(files, "matching", EntryKind::Matching, 34, &body)?;

    let (account, operation) = account(digest(parties.buyer.certificate.der()))?;
    files.signed("Operation", &parties.platform.seal(encode(&operation, "Operation")?)?)?;
    let body = files.signed("Account", &parties.platform.seal(encode(&account, "Account")?)?)?;
    lone(files, "account", EntryKind::Account, 35, &body)?;

    let own = books(0, None, &named_bill(&bill), &bill);
    let own_der = encode(&own, "Reconciliation")?;
    let theirs = books(1, Some(Reconciliation::digest(&own_der)), &named_bill(&bill), &bill);
    for (which, side, party) in [("node", &own, &parties.node), ("platform", &theirs, &parties.platform)] {
        side.check()?;
        files.signed(&format!("Reconciliation-{which}"), &party.seal(encode(side, "Reconciliation")?)?)?;
    }
    files.der("ReconciliationLine", theirs.lines.last().ok_or("no line")?)?;

    let next = next_node(parties, POOL)?;
    files.raw("node-next.crt", next.certificate.to_pem().as_bytes());
    let (rotation, signed) = rotated(&parties.node, &next)?;
    files.der("KeyRotation", &rotation)?;
    files.raw("KeyRotation-old.sig", signed.old_signature.as_bytes());
    files.raw("KeyRotation-new.sig", signed.new_signature.as_bytes());
    let body = files.der("SignedRotation", &signed)?;
    lone(files, "key-rotation", EntryKind::KeyRotation, 33, &body)?;
    parents(files, parties, order, bill)
}

/// Where the golden bill stands.
fn named_bill(bill: &ChildBill) -> EntryName {
    EntryName { log: 1, height: 0, index: 0, hash: bill.bill }
}

/// A child's requirement, and the parent's bill over two children.
fn parents(files: &mut Files, parties: &Parties, order: &Requirement, bill: ChildBill) -> Outcome<()> {
    let (buyer, nonce, time) = (parties.buyer.id(), Octets(*b"nonce of a paren"), T0);
    files.der("ParentNoInput", &ParentNoInput { buyer, nonce, time })?;
    let parent = ParentOrder { parent_no: parent_no(buyer, nonce, time)?, payable: Payable::Parent, children: 2 };
    files.der("ParentOrder", &parent)?;
    files.der("Requirement-child", &Requirement { parent: Some(parent), ..order.clone() })?;
    files.der("ChildBill", &bill)?;
    let other = ChildBill {
        contract_no: Octets([0xab; 16]),
        computing_pool_id: "site-2/node-b".to_owned(),
        bill: digest(b"a bill of the other node"),
        number: format!("{}-1", Octets([0xab; 16])),
        due: "2.50".parse()?,
    };
    let children = [bill, other].map(|bill| Child { parent, buyer, currency: "CNY".to_owned(), bill });
    let sum = parent_bill(&children, T0 + 200 * MINUTE)?;
    files.signed("ParentBill", &parties.platform.seal(encode(&sum, "ParentBill")?)?)?;
    Ok(())
}

/// What a bill is as one of a parent.
pub(crate) fn child((name, bill): (&EntryName, &hufu_trade::bill::Bill)) -> ChildBill {
    ChildBill {
        contract_no: bill.contract_no,
        computing_pool_id: bill.computing_pool_id.clone(),
        bill: name.hash,
        number: bill.number.clone(),
        due: bill.total,
    }
}
