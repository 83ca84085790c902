//! Rows that are written together: what a batch of messages adds, in a few statements instead of one a row. What the rows mean is for
//! the files of their nouns.

use std::collections::BTreeMap;

use hufu_gm::Hash;
use hufu_trade::{
    bill::Bill,
    entry::EntryName,
    octets::{ContractNo, Digest},
};
use sqlx::{AnyConnection, Database};

use crate::{
    error::{Error, sql},
    judge::block::JudgedEntry,
    store::bill::{self, State},
};

/// Rows of one statement, from the most on: few lengths are few statements to prepare.
const ROWS: [usize; 4] = [64, 16, 4, 1];

/// A value of a row.
#[derive(Clone, Debug)]
enum Value {
    Int(i64),
    MaybeInt(Option<i64>),
    Text(String),
    MaybeText(Option<String>),
    Bytes(Vec<u8>),
    MaybeBytes(Option<Vec<u8>>),
}

/// What is to be written of one node.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    blocks: Vec<Vec<Value>>,
    tree: Vec<Vec<Value>>,
    entries: Vec<Vec<Value>>,
    receipts: Vec<Vec<Value>>,
    bills: Vec<Vec<Value>>,
    contracts: BTreeMap<ContractNo, (String, Option<Digest>)>,
}

impl Rows {
    /// A block.
    pub(crate) fn block(
        &mut self,
        (pool, log, height): (&str, u8, u64),
        (hash, header, bytes): (&Hash, &[u8], &[u8]),
        now_ns: i64,
    ) {
        self.blocks.push(vec![
            Value::Text(pool.to_owned()),
            Value::Int(i64::from(log)),
            Value::Int(sql(height)),
            Value::Bytes(hash.to_vec()),
            Value::Bytes(header.to_vec()),
            Value::Bytes(bytes.to_vec()),
            Value::Int(now_ns),
        ]);
    }

    /// A complete subtree.
    pub(crate) fn subtree(&mut self, (pool, log): (&str, u8), (level, place): (u32, u64), hash: &Hash) {
        self.tree.push(vec![
            Value::Text(pool.to_owned()),
            Value::Int(i64::from(log)),
            Value::Int(i64::from(level)),
            Value::Int(sql(place)),
            Value::Bytes(hash.to_vec()),
        ]);
    }

    /// An entry; `turn` where it moved its contract.
    pub(crate) fn entry(&mut self, pool: &str, entry: &JudgedEntry, turn: Option<i64>) {
        self.entries.push(vec![
            Value::Text(pool.to_owned()),
            Value::Int(i64::from(entry.name.log)),
            Value::Int(sql(entry.name.height)),
            Value::Int(i64::from(entry.name.index)),
            Value::Int(i64::from(entry.kind)),
            Value::Bytes(entry.name.hash.0.to_vec()),
            Value::MaybeBytes(entry.contract.map(|no| no.0.to_vec())),
            Value::MaybeInt(entry.seq.map(sql)),
            Value::MaybeText(entry.refused.as_ref().map(|refusal| refusal.code.name().to_owned())),
            Value::Bytes(entry.bytes.clone()),
            Value::MaybeText(entry.state.clone()),
            Value::MaybeInt(turn),
        ]);
    }

    /// The state of a contract; the last one counts.
    pub(crate) fn state(&mut self, no: ContractNo, state: &str, buyer: Option<Digest>) {
        let before = self.contracts.get(&no).and_then(|(_, buyer)| *buyer);
        self.contracts.insert(no, (state.to_owned(), buyer.or(before)));
    }

    /// A bill.
    pub(crate) fn bill(&mut self, pool: &str, name: &EntryName, bill: &Bill, state: State) {
        self.bills.push(vec![
            Value::Text(pool.to_owned()),
            Value::Bytes(name.hash.0.to_vec()),
            Value::Text(bill.number.clone()),
            Value::Bytes(bill.contract_no.0.to_vec()),
            Value::Int(sql(name.height)),
            Value::Text(bill.total.to_string()),
            Value::Text(state.name().to_owned()),
        ]);
    }

    /// A receipt.
    pub(crate) fn receipt(&mut self, (pool, log): (&str, u8), (size, since): (u64, u64), bytes: &[u8], now_ns: i64) {
        self.receipts.push(vec![
            Value::Text(pool.to_owned()),
            Value::Int(i64::from(log)),
            Value::Int(sql(size)),
            Value::Int(sql(since)),
            Value::Bytes(bytes.to_vec()),
            Value::Int(now_ns),
        ]);
    }

    /// Writes everything.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(crate) async fn write(self, db: &mut AnyConnection, pool: &str) -> Result<(), Error> {
        let insert = "INSERT INTO blocks (pool, log, height, hash, header, bytes, received_at)";
        insert_all(&mut *db, insert, "", self.blocks).await?;
        insert_all(&mut *db, "INSERT INTO tree (pool, log, level, place, hash)", "", self.tree).await?;
        let insert = "INSERT INTO entries
            (pool, log, height, idx, kind, hash, contract, seq, refused, bytes, state, turn)";
        insert_all(&mut *db, insert, "", self.entries).await?;
        let contract = |(no, (state, buyer)): (ContractNo, (String, Option<Digest>))| {
            let buyer = buyer.map(|buyer| buyer.0.to_vec()).unwrap_or_default();
            vec![Value::Bytes(no.0.to_vec()), Value::Text(pool.to_owned()), Value::Text(state), Value::Bytes(buyer)]
        };
        let contracts = self.contracts.into_iter().map(contract).collect();
        let update = "ON CONFLICT (contract) DO UPDATE SET state = excluded.state";
        insert_all(&mut *db, "INSERT INTO contracts (contract, pool, state, buyer)", update, contracts).await?;
        insert_all(&mut *db, bill::INSERT, bill::CONFLICT, self.bills).await?;
        let insert = "INSERT INTO receipts (pool, log, size, since, bytes, stored_at)";
        insert_all(&mut *db, insert, "", self.receipts).await
    }
}

async fn insert_all(db: &mut AnyConnection, insert: &str, conflict: &str, rows: Vec<Vec<Value>>) -> Result<(), Error> {
    // A place with a name is sought among all the names, for each of them; PostgreSQL knows no other.
    let is_named = db.backend_name() != sqlx::Sqlite::NAME;
    let mut rows = rows.into_iter().peekable();
    let mut left = rows.len();
    while let Some(columns) = rows.peek().map(Vec::len) {
        let count = ROWS.into_iter().find(|count| *count <= left).unwrap_or(1);
        left = left.saturating_sub(count);
        // Only places go into the text; every value is bound.
        let mut text = format!("{insert} VALUES ");
        for row in 0..count {
            let first = row.saturating_mul(columns).saturating_add(1);
            let places: Vec<String> = (first..first.saturating_add(columns))
                .map(|place| if is_named { format!("${place}") } else { "?".to_owned() })
                .collect();
            text.push_str(&format!("{}({})", if row == 0 { "" } else { ", " }, places.join(", ")));
        }
        text.push(' ');
        text.push_str(conflict);
        let mut query = sqlx::query(sqlx::AssertSqlSafe(text));
        for value in rows.by_ref().take(count).flatten() {
            query = match value {
                Value::Int(value) => query.bind(value),
                Value::MaybeInt(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::MaybeText(value) => query.bind(value),
                Value::Bytes(value) => query.bind(value),
                Value::MaybeBytes(value) => query.bind(value),
            };
        }
        query.execute(&mut *db).await?;
    }
    Ok(())
}
