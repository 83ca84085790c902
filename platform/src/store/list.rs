//! Rows as lists and the HTTP API show them; quantities and money are strings, times RFC 3339, hashes hexadecimal.

use std::collections::BTreeSet;

use hufu_ledger::Entry;
use hufu_trade::{
    decode,
    if2::{Answer, Catalogue, ProductPrice, Qualification},
    octets::{ContractNo, Octets, rfc3339},
    statement::RequirementItem,
    usage::UsageRecord,
};
use serde::Serialize;
use sqlx::AnyConnection;

use crate::{
    error::{Error, count},
    store::{bill, contract, delisting},
};

/// Rows of one list at most.
pub(crate) const ROWS_MAX: i64 = 10_000;

/// A node.
#[derive(Debug, Serialize)]
pub(crate) struct NodeRow {
    node: String,
    presence: String,
    presence_at: Option<String>,
    first_seen: String,
    trade_size: i64,
    finance_size: i64,
    forks: i64,
}

/// A product of a node.
#[derive(Debug, Serialize)]
pub(crate) struct ProductRow {
    node: String,
    presence: String,
    revision: String,
    id: String,
    class: String,
    name: String,
    stock: u32,
    prices: String,
    listed: bool,
}

/// A shop: 算力店铺 (6.3).
#[derive(Debug, Serialize)]
pub(crate) struct ShopRow {
    node: String,
    name: String,
    summary: Option<String>,
    contact: Option<String>,
    credit_code: Option<String>,
    qualifications: Vec<Qualification>,
    products: usize,
    /// Products taken off sale by the operator stand in none of the buyers' lists.
    listed: bool,
}

impl ShopRow {
    /// Whether a word occurs in what the shop says of itself; buyers look for shops by it.
    pub(crate) fn has(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        let said = [Some(&self.node), Some(&self.name), self.summary.as_ref(), self.credit_code.as_ref()];
        said.into_iter().flatten().any(|text| text.to_lowercase().contains(&word))
    }

    /// Whether it is on sale.
    pub(crate) fn is_listed(&self) -> bool {
        self.listed
    }
}

/// A contract.
#[derive(Debug, Serialize)]
pub(crate) struct OrderRow {
    contract_no: String,
    node: String,
    state: String,
    buyer: String,
    product: Option<String>,
    service_start: Option<String>,
    service_end: Option<String>,
}

/// A bill.
#[derive(Debug, Serialize)]
pub(crate) struct BillRow {
    pub(crate) bill_no: String,
    pub(crate) contract_no: String,
    pub(crate) node: String,
    pub(crate) total_cny: String,
    /// What is due after the bill's corrections.
    pub(crate) due_cny: String,
    pub(crate) state: &'static str,
    pub(crate) paid_at: Option<String>,
    pub(crate) reference: Option<String>,
    pub(crate) refunded_cny: Option<String>,
    pub(crate) refunded_at: Option<String>,
}

/// A notice of this platform.
#[derive(Debug, Serialize)]
pub(crate) struct NoticeRow {
    contract_no: String,
    node: String,
    act: String,
    why: String,
    made_at: String,
    /// `waiting`, `accepted`, or the code of the node's refusal.
    answer: String,
}

/// What a contract used of one resource.
#[derive(Debug, Serialize)]
pub(crate) struct UsageRow {
    contract_no: String,
    node: String,
    resource: String,
    unit: String,
    quantity: Option<String>,
    records: String,
    until: String,
}

/// An alarm.
#[derive(Debug, Serialize)]
pub(crate) struct AlarmRow {
    at: String,
    node: String,
    code: String,
    detail: String,
}

/// The nodes with the sizes of their logs.
pub(crate) async fn nodes(db: &mut AnyConnection) -> Result<Vec<NodeRow>, Error> {
    let select = "SELECT n.pool, COALESCE(n.presence, 'unknown'), n.presence_at, n.first_seen,
        (SELECT COUNT(*) FROM blocks b WHERE b.pool = n.pool AND b.log = 0),
        (SELECT COUNT(*) FROM blocks b WHERE b.pool = n.pool AND b.log = 1),
        (SELECT COUNT(*) FROM forks f WHERE f.pool = n.pool)
        FROM nodes n ORDER BY n.pool LIMIT $1";
    type Row = (String, String, Option<i64>, i64, i64, i64, i64);
    let rows: Vec<Row> = sqlx::query_as(select).bind(ROWS_MAX).fetch_all(db).await?;
    let row = |(node, presence, at, first, trade_size, finance_size, forks)| NodeRow {
        node,
        presence,
        presence_at: Option::map(at, rfc3339),
        first_seen: rfc3339(first),
        trade_size,
        finance_size,
        forks,
    };
    Ok(rows.into_iter().map(row).collect())
}

/// Catalogues with node and presence, as the node reported them.
pub(crate) async fn catalogues(db: &mut AnyConnection) -> Result<Vec<(String, String, Catalogue)>, Error> {
    let select = "SELECT c.pool, COALESCE(n.presence, 'unknown'), c.body
        FROM catalogues c LEFT JOIN nodes n ON n.pool = c.pool ORDER BY c.pool LIMIT $1";
    let rows: Vec<(String, String, String)> = sqlx::query_as(select).bind(ROWS_MAX).fetch_all(db).await?;
    rows.into_iter().map(|(pool, presence, body)| Ok((pool, presence, serde_json::from_str(&body)?))).collect()
}

/// What is taken off sale.
pub(crate) struct Delisted(BTreeSet<(String, String)>);

impl Delisted {
    /// Reads it.
    pub(crate) async fn read(db: &mut AnyConnection) -> Result<Self, Error> {
        let rows = delisting::all(db).await?.into_iter();
        Ok(Self(rows.map(|row| (row.node, row.product.unwrap_or_default())).collect()))
    }

    /// Whether a product of a node is.
    pub(crate) fn has(&self, node: &str, product: &str) -> bool {
        [product, delisting::SHOP].iter().any(|name| self.0.contains(&(node.to_owned(), (*name).to_owned())))
    }
}

/// The catalogues without what is taken off sale, as buyers see them.
pub(crate) async fn on_sale(db: &mut AnyConnection) -> Result<Vec<(String, String, Catalogue)>, Error> {
    let off = Delisted::read(&mut *db).await?;
    let mut found = catalogues(db).await?;
    for (node, _, catalogue) in &mut found {
        catalogue.products.retain(|product| !off.has(node, &product.id));
    }
    Ok(found)
}

/// The shops of the nodes that present themselves.
pub(crate) async fn shops(db: &mut AnyConnection) -> Result<Vec<ShopRow>, Error> {
    let off = Delisted::read(&mut *db).await?;
    let rows = catalogues(db).await?.into_iter().filter_map(|(node, _, catalogue)| {
        let shop = catalogue.shop?;
        Some(ShopRow {
            listed: !off.has(&node, delisting::SHOP),
            products: catalogue.products.iter().filter(|product| !off.has(&node, &product.id)).count(),
            node,
            name: shop.name,
            summary: shop.summary,
            contact: shop.contact,
            credit_code: shop.credit_code,
            qualifications: shop.qualifications,
        })
    });
    Ok(rows.collect())
}

/// The products of every node.
pub(crate) async fn products(db: &mut AnyConnection) -> Result<Vec<ProductRow>, Error> {
    let mut rows = Vec::new();
    let off = Delisted::read(&mut *db).await?;
    for (node, presence, catalogue) in catalogues(db).await? {
        for product in catalogue.products {
            let price = |p: &ProductPrice| format!("{} {}/{}", p.resource, p.price, p.per);
            rows.push(ProductRow {
                node: node.clone(),
                presence: presence.clone(),
                revision: catalogue.revision.to_string(),
                prices: product.prices.iter().map(price).collect::<Vec<_>>().join(", "),
                listed: !off.has(&node, &product.id),
                id: product.id,
                class: product.class,
                name: product.name,
                stock: product.stock,
            });
        }
    }
    Ok(rows)
}

/// The contract number of a row.
///
/// # Errors
/// [`Error::Damaged`] when it is not 16 bytes.
pub(crate) fn contract_no(bytes: &[u8]) -> Result<ContractNo, Error> {
    bytes.try_into().map(Octets).map_err(|_| Error::Damaged("contract number length"))
}

/// The contracts.
pub(crate) async fn orders(db: &mut AnyConnection) -> Result<Vec<OrderRow>, Error> {
    let select = "SELECT contract FROM contracts ORDER BY pool, contract LIMIT $1";
    let rows: Vec<(Vec<u8>,)> = sqlx::query_as(select).bind(ROWS_MAX).fetch_all(&mut *db).await?;
    let mut orders = Vec::new();
    for (no,) in rows {
        orders.extend(order(&mut *db, contract_no(&no)?).await?);
    }
    Ok(orders)
}

/// One contract.
pub(crate) async fn order(db: &mut AnyConnection, no: ContractNo) -> Result<Option<OrderRow>, Error> {
    let select = "SELECT pool, state, buyer FROM contracts WHERE contract = $1";
    let row: Option<(String, String, Vec<u8>)> =
        sqlx::query_as(select).bind(no.0.to_vec()).fetch_optional(&mut *db).await?;
    let Some((node, state, buyer)) = row else { return Ok(None) };
    let contract = contract::load(&mut *db, &node, no, false).await?.unwrap_or_default();
    let deal = contract.deal.as_ref().map(|(_, deal)| deal);
    let item = |item: &RequirementItem| format!("{} x{}", item.product_id, item.quantity);
    let items = deal.map(|deal| deal.requirement.items.iter().map(item).collect::<Vec<_>>().join(", "));
    Ok(Some(OrderRow {
        contract_no: no.to_string(),
        node,
        state,
        buyer: hex::encode(buyer),
        product: items,
        service_start: deal.map(|deal| rfc3339(deal.contract_time)),
        service_end: contract.in_force.map(|in_force| rfc3339(in_force.service_end)),
    }))
}

/// The bills with their payments.
pub(crate) async fn bills(db: &mut AnyConnection) -> Result<Vec<BillRow>, Error> {
    let select = "SELECT b.number, b.contract, b.pool, b.total, b.due, b.state, b.disputed,
        p.paid_at, p.reference, r.amount AS refunded, r.paid_at AS refunded_at
        FROM bills b LEFT JOIN payments p ON p.number = b.number AND (b.state = 'payable' OR b.due IS NOT NULL)
        LEFT JOIN refunds r ON r.number = p.number ORDER BY b.pool, b.height LIMIT $1";
    #[derive(sqlx::FromRow)]
    struct Row {
        number: String,
        contract: Vec<u8>,
        pool: String,
        total: String,
        due: Option<String>,
        state: String,
        disputed: i64,
        paid_at: Option<i64>,
        reference: Option<String>,
        refunded: Option<String>,
        refunded_at: Option<i64>,
    }
    let rows: Vec<Row> = sqlx::query_as(select).bind(ROWS_MAX).fetch_all(db).await?;
    let row = |row: Row| BillRow {
        state: bill::shown(
            (bill::State::of(&row.state, row.due.as_ref()), row.disputed == 1),
            (row.paid_at.is_some(), row.refunded_at.is_some()),
        ),
        bill_no: row.number,
        contract_no: hex::encode(row.contract),
        node: row.pool,
        due_cny: row.due.unwrap_or_else(|| row.total.clone()),
        total_cny: row.total,
        paid_at: row.paid_at.map(rfc3339),
        reference: row.reference,
        refunded_cny: row.refunded,
        refunded_at: row.refunded_at.map(rfc3339),
    };
    Ok(rows.into_iter().map(row).collect())
}

/// One bill with its payments, and its entry hash.
pub(crate) async fn bill(db: &mut AnyConnection, number: &str) -> Result<Option<(BillRow, Vec<u8>)>, Error> {
    let Some(found) = bill::find(&mut *db, number).await? else { return Ok(None) };
    let (paid, back) = match found.state {
        bill::State::Refused | bill::State::Lost => (None, None),
        bill::State::Payable => (bill::payment(&mut *db, number).await?, bill::refund(&mut *db, number).await?),
    };
    let row = BillRow {
        state: bill::shown((found.state, found.is_disputed), (paid.is_some(), back.is_some())),
        bill_no: number.to_owned(),
        contract_no: contract_no(&found.contract)?.to_string(),
        node: found.pool,
        total_cny: found.total,
        due_cny: found.due,
        paid_at: paid.as_ref().map(|paid| rfc3339(paid.at_ns)),
        reference: paid.map(|paid| paid.reference),
        refunded_at: back.as_ref().map(|back| rfc3339(back.at_ns)),
        refunded_cny: back.map(|back| back.amount),
    };
    Ok(Some((row, found.hash)))
}

/// The notices of this platform, newest first.
pub(crate) async fn notices(db: &mut AnyConnection) -> Result<Vec<NoticeRow>, Error> {
    let select = "SELECT contract, pool, act, why, made_at, answer FROM notices ORDER BY made_at DESC, id LIMIT $1";
    type Row = (Vec<u8>, String, String, String, i64, Option<String>);
    let rows: Vec<Row> = sqlx::query_as(select).bind(ROWS_MAX).fetch_all(db).await?;
    let row = |(contract, node, act, why, made_at, answer): Row| {
        let answer: Option<Answer<serde_json::Value>> =
            answer.map(|answer| serde_json::from_str(&answer)).transpose()?;
        Ok(NoticeRow {
            contract_no: hex::encode(contract),
            node,
            act,
            why,
            made_at: rfc3339(made_at),
            answer: match answer {
                None => "waiting".to_owned(),
                Some(Answer::Ok(_)) => "accepted".to_owned(),
                Some(Answer::Error(problem)) => problem.code,
            },
        })
    };
    rows.into_iter().map(row).collect()
}

/// Usage by contract and resource: the cumulative totals of the newest record.
pub(crate) async fn usage(db: &mut AnyConnection) -> Result<Vec<UsageRow>, Error> {
    let select = "SELECT contract, pool, MAX(seq) FROM entries
        WHERE kind IN (12, 13) AND refused IS NULL AND contract IS NOT NULL
        GROUP BY contract, pool ORDER BY pool, contract LIMIT $1";
    let newest: Vec<(Vec<u8>, String, i64)> = sqlx::query_as(select).bind(ROWS_MAX).fetch_all(&mut *db).await?;
    let mut rows = Vec::new();
    for (no, node, seq) in newest {
        let found = contract::records(&mut *db, &node, contract_no(&no)?, count(seq)?..u64::MAX).await?;
        let Some(last) = found.last() else { continue };
        let record: UsageRecord = decode(&Entry::from_bytes(&last.bytes)?.body, "UsageRecord")?;
        for reading in &record.readings {
            let resource = reading.resource()?;
            rows.push(UsageRow {
                contract_no: hex::encode(&no),
                node: node.clone(),
                unit: resource.unit().to_owned(),
                resource: resource.to_string(),
                quantity: reading.total.map(|total| total.to_string()),
                records: seq.saturating_add(1).to_string(),
                until: rfc3339(record.end),
            });
        }
    }
    Ok(rows)
}

/// The alarms, newest first.
pub(crate) async fn alarms(db: &mut AnyConnection) -> Result<Vec<AlarmRow>, Error> {
    let select = "SELECT at, pool, code, detail FROM alarms ORDER BY id DESC LIMIT $1";
    let rows: Vec<(i64, String, String, String)> = sqlx::query_as(select).bind(ROWS_MAX).fetch_all(db).await?;
    Ok(rows.into_iter().map(|(at, node, code, detail)| AlarmRow { at: rfc3339(at), node, code, detail }).collect())
}
