//! Parent orders: which contracts are children, and the parent bills that were paid. What is due for the children is `parent.rs`.

use hufu_trade::{
    entry::Deal,
    octets::{ContractNo, Digest, Octets},
    parent::{ParentNo, ParentOrder, Payable},
};
use sqlx::AnyConnection;

use crate::error::{Error, hash};

/// A contract that is a child.
#[derive(Clone, Debug)]
pub(crate) struct ChildOrder {
    /// The contract.
    pub(crate) contract: ContractNo,
    /// Its node.
    pub(crate) pool: String,
    /// The buyer's certificate id.
    pub(crate) buyer: Digest,
    /// What the buyer signed.
    pub(crate) parent: ParentOrder,
}

/// A parent bill that was paid.
#[derive(Clone, Debug)]
pub(crate) struct StoredParentBill {
    /// SM3 of its DER.
    pub(crate) hash: Digest,
    /// What was paid with it, decimal CNY.
    pub(crate) amount: String,
    /// What the payment is known by.
    pub(crate) reference: String,
    /// When, ns since 1970-01-01Z.
    pub(crate) made_at: i64,
    /// DER of `Signed` over it, once a payment named it.
    pub(crate) signed: Option<Vec<u8>>,
}

/// Keeps the place of a child, as its deal says.
pub(crate) async fn add_child(db: &mut AnyConnection, pool: &str, deal: &Deal) -> Result<(), Error> {
    let Some(parent) = deal.requirement.parent else { return Ok(()) };
    let insert = "INSERT INTO children (contract, pool, parent, buyer, payable, children)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (contract) DO NOTHING";
    sqlx::query(insert)
        .bind(deal.contract_no.0.to_vec())
        .bind(pool)
        .bind(parent.parent_no.0.to_vec())
        .bind(deal.buyer.0.to_vec())
        .bind(parent.payable.name())
        .bind(i64::from(parent.children))
        .execute(db)
        .await?;
    Ok(())
}

fn no(bytes: &[u8]) -> Result<Octets<16>, Error> {
    Ok(Octets(bytes.try_into().map_err(|_| Error::Damaged("number of 16 bytes"))?))
}

type Row = (Vec<u8>, String, Vec<u8>, Vec<u8>, String, i64);

fn child((contract, pool, parent, buyer, payable, children): Row) -> Result<ChildOrder, Error> {
    let payable = if payable == Payable::Parent.name() { Payable::Parent } else { Payable::Child };
    let children = u32::try_from(children).map_err(|_| Error::Damaged("number of children"))?;
    let parent = ParentOrder { parent_no: no(&parent)?, payable, children };
    Ok(ChildOrder { contract: no(&contract)?, pool, buyer: Octets(hash(&buyer)?), parent })
}

/// The children of a parent order, of one buyer or of all who use its number; by buyer, node and contract.
pub(crate) async fn children(
    db: &mut AnyConnection,
    parent: ParentNo,
    buyer: Option<Digest>,
) -> Result<Vec<ChildOrder>, Error> {
    let select = "SELECT contract, pool, parent, buyer, payable, children FROM children
        WHERE parent = $1 AND ($2 IS NULL OR buyer = $2) ORDER BY buyer, pool, contract";
    let buyer = buyer.map(|buyer| buyer.0.to_vec());
    let rows: Vec<Row> = sqlx::query_as(select).bind(parent.0.to_vec()).bind(buyer).fetch_all(db).await?;
    rows.into_iter().map(child).collect()
}

/// The parent that a contract is a child of.
pub(crate) async fn of(db: &mut AnyConnection, contract: &[u8]) -> Result<Option<ParentOrder>, Error> {
    let select = "SELECT contract, pool, parent, buyer, payable, children FROM children WHERE contract = $1";
    let row: Option<Row> = sqlx::query_as(select).bind(contract).fetch_optional(db).await?;
    Ok(row.map(child).transpose()?.map(|child| child.parent))
}

/// Number and buyer of the parents, at most `rows_max`.
pub(crate) async fn parents(db: &mut AnyConnection, rows_max: i64) -> Result<Vec<(ParentNo, Digest)>, Error> {
    let select = "SELECT DISTINCT parent, buyer FROM children ORDER BY parent, buyer LIMIT $1";
    let rows: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(select).bind(rows_max).fetch_all(db).await?;
    rows.iter().map(|(parent, buyer)| Ok((no(parent)?, Octets(hash(buyer)?)))).collect()
}

/// Keeps a parent bill that was paid.
pub(crate) async fn add_bill(
    db: &mut AnyConnection,
    (parent, buyer): (ParentNo, Digest),
    bill: &StoredParentBill,
    tbs: &[u8],
) -> Result<(), Error> {
    let insert = "INSERT INTO parent_bills (hash, parent, buyer, amount, reference, made_at, tbs)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    sqlx::query(insert)
        .bind(bill.hash.0.to_vec())
        .bind(parent.0.to_vec())
        .bind(buyer.0.to_vec())
        .bind(&bill.amount)
        .bind(&bill.reference)
        .bind(bill.made_at)
        .bind(tbs)
        .execute(db)
        .await?;
    Ok(())
}

/// The parent bills of a parent order that were paid, oldest first.
pub(crate) async fn bills(
    db: &mut AnyConnection,
    (parent, buyer): (ParentNo, Digest),
) -> Result<Vec<StoredParentBill>, Error> {
    let select = "SELECT hash, amount, reference, made_at, signed FROM parent_bills
        WHERE parent = $1 AND buyer = $2 ORDER BY made_at, hash";
    type Row = (Vec<u8>, String, String, i64, Option<Vec<u8>>);
    let rows: Vec<Row> = sqlx::query_as(select).bind(parent.0.to_vec()).bind(buyer.0.to_vec()).fetch_all(db).await?;
    let bill = |(digest, amount, reference, made_at, signed): Row| {
        Ok(StoredParentBill { hash: Octets(hash(&digest)?), amount, reference, made_at, signed })
    };
    rows.into_iter().map(bill).collect()
}

/// Marks a payment as made with a parent bill.
pub(crate) async fn pay_with(db: &mut AnyConnection, number: &str, bill: Digest) -> Result<(), Error> {
    let update = "UPDATE payments SET parent_bill = $2 WHERE number = $1";
    sqlx::query(update).bind(number).bind(bill.0.to_vec()).execute(db).await?;
    Ok(())
}

/// The parent bill that a bill was paid with: its hash, and its DER while it is not signed yet.
pub(crate) async fn paid_with(
    db: &mut AnyConnection,
    number: &str,
) -> Result<Option<(Digest, Option<Vec<u8>>)>, Error> {
    let select = "SELECT p.parent_bill, CASE WHEN b.signed IS NULL THEN b.tbs END FROM payments p
        JOIN parent_bills b ON b.hash = p.parent_bill WHERE p.number = $1";
    let row: Option<(Vec<u8>, Option<Vec<u8>>)> = sqlx::query_as(select).bind(number).fetch_optional(db).await?;
    row.map(|(digest, tbs)| Ok((Octets(hash(&digest)?), tbs))).transpose()
}

/// Keeps the platform's signature on a parent bill; the first one stands.
pub(crate) async fn set_signed(db: &mut AnyConnection, bill: Digest, signed: &[u8]) -> Result<(), Error> {
    let update = "UPDATE parent_bills SET signed = $2 WHERE hash = $1 AND signed IS NULL";
    sqlx::query(update).bind(bill.0.to_vec()).bind(signed).execute(db).await?;
    Ok(())
}
