//! The five stores behind one enum: create, commit a batch durably, open, compare a record.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    path::Path,
};

use hufu_gm::sm2::SecretKey;
use hufu_ledger::{Batch, Block, Ledger, Log, NO_KEY, NewBlock, NewEntry, Options, Signer, TimeQuality, TimeState};

use crate::Outcome;

#[derive(Clone, Copy)]
pub enum Kind {
    Plain,
    Ours,
    Sqlite,
    Redb,
    Sled,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Plain, Kind::Ours, Kind::Sqlite, Kind::Redb, Kind::Sled];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Ours => "ours",
            Kind::Sqlite => "sqlite",
            Kind::Redb => "redb",
            Kind::Sled => "sled",
        }
    }

    pub fn named(name: &str) -> Outcome<Self> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| format!("no store {name}").into())
    }
}

/// What the others store for what is a block of ours.
const RECORD_BYTES: usize = 600;
/// A body with which a block of ours has about as many bytes.
const BODY_BYTES: usize = 327;

/// Record `number`: the same bytes each time.
pub fn record(number: u64) -> Vec<u8> {
    noise(number, RECORD_BYTES)
}

fn noise(number: u64, count: usize) -> Vec<u8> {
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = |_| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_be_bytes()[0]
    };
    (0..count).map(byte).collect()
}

/// Records on their way into a store.
pub enum Ready {
    Signed(Batch),
    Bytes(u64, Vec<Vec<u8>>),
}

pub enum Store {
    /// Frames of length and CRC32C behind each other.
    Plain {
        file: File,
        ends: Vec<(u64, usize)>,
    },
    Ours {
        ledger: Box<Ledger>,
        key: SecretKey,
    },
    Sqlite(rusqlite::Connection),
    Redb(redb::Database),
    Sled(sled::Db),
}

const TABLE: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("records");
/// Both caches are held to what a small server can spare.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

fn options() -> Options {
    Options::new("site-1/node-1")
}

impl Store {
    pub fn create(kind: Kind, dir: &Path) -> Outcome<Self> {
        fs::create_dir_all(dir)?;
        match kind {
            Kind::Plain => drop(File::create(dir.join("log"))?),
            Kind::Ours => Ledger::create(dir, &options(), [9; 16])?,
            Kind::Sqlite => {
                let database = rusqlite::Connection::open(dir.join("db"))?;
                database.pragma_update(None, "journal_mode", "WAL")?;
                database.execute_batch("CREATE TABLE records (number INTEGER PRIMARY KEY, bytes BLOB NOT NULL)")?;
            }
            Kind::Redb => {
                let write = redb_at(dir)?.begin_write()?;
                write.open_table(TABLE)?;
                write.commit()?;
            }
            Kind::Sled => {}
        }
        Self::open(kind, dir)
    }

    pub fn open(kind: Kind, dir: &Path) -> Outcome<Self> {
        Ok(match kind {
            Kind::Plain => open_plain(&dir.join("log"))?,
            Kind::Ours => Store::Ours {
                ledger: Box::new(Ledger::open(dir, &options())?.0),
                key: SecretKey::from_scalar(&[1; 32])?,
            },
            Kind::Sqlite => {
                let database = rusqlite::Connection::open(dir.join("db"))?;
                database.pragma_update(None, "synchronous", "FULL")?;
                Store::Sqlite(database)
            }
            Kind::Redb => Store::Redb(redb_at(dir)?),
            Kind::Sled => Store::Sled(sled::Config::new().path(dir).cache_capacity(CACHE_BYTES as u64).open()?),
        })
    }

    /// Records `from..from + count` in batches, made but not stored.
    pub fn prepare(&self, from: u64, batch: u64, count: u64) -> Outcome<Vec<Ready>> {
        let starts = (from..from + count).step_by(usize::try_from(batch)?);
        let Store::Ours { ledger, key } = self else {
            return Ok(starts.map(|from| Ready::Bytes(from, (from..from + batch).map(record).collect())).collect());
        };
        let signer = Signer { key, cert_id: [2; 32], salt_key: &[3; 32] };
        let quality = TimeQuality { state: TimeState::Synchronised, max_error_ns: Some(500) };
        let block = |number| {
            let entry = NewEntry { kind: 7, body: noise(number, BODY_BYTES), key: NO_KEY, sealed: false };
            NewBlock { log: Log::Trade, entries: vec![entry] }
        };
        let mut plan = ledger.plan();
        let signed = starts.map(|from| {
            let blocks: Vec<NewBlock> = (from..from + batch).map(block).collect();
            Ok(Ready::Signed(plan.sign(&blocks, &signer, 0, 1_700_000_000_000_000_000, quality)?))
        });
        signed.collect()
    }

    /// Durable on return.
    pub fn commit(&mut self, ready: Ready) -> Outcome<()> {
        match (self, ready) {
            (Store::Ours { ledger, .. }, Ready::Signed(batch)) => {
                ledger.commit(batch)?;
            }
            (Store::Plain { file, ends }, Ready::Bytes(_, records)) => {
                let mut bytes = Vec::new();
                let mut at = ends.last().map_or(0, |(at, length)| at + *length as u64);
                for record in records {
                    bytes.extend(u32::try_from(record.len())?.to_be_bytes());
                    bytes.extend(crc32c::crc32c(&record).to_be_bytes());
                    bytes.extend(&record);
                    ends.push((at + 8, record.len()));
                    at += 8 + record.len() as u64;
                }
                file.write_all(&bytes)?;
                file.sync_data()?;
            }
            (Store::Sqlite(database), Ready::Bytes(from, records)) => {
                let transaction = database.transaction()?;
                {
                    let mut insert = transaction.prepare_cached("INSERT INTO records VALUES (?1, ?2)")?;
                    for (number, record) in (from..).zip(records) {
                        insert.execute(rusqlite::params![i64::try_from(number)?, record])?;
                    }
                }
                transaction.commit()?;
            }
            (Store::Redb(database), Ready::Bytes(from, records)) => {
                let write = database.begin_write()?;
                {
                    let mut table = write.open_table(TABLE)?;
                    for (number, record) in (from..).zip(&records) {
                        table.insert(number, record.as_slice())?;
                    }
                }
                write.commit()?;
            }
            (Store::Sled(database), Ready::Bytes(from, records)) => {
                let mut batch = sled::Batch::default();
                for (number, record) in (from..).zip(records) {
                    batch.insert(&number.to_be_bytes(), record);
                }
                database.apply_batch(batch)?;
                database.flush()?;
            }
            _ => return Err("records made for another store".into()),
        }
        Ok(())
    }

    pub fn count(&self) -> Outcome<u64> {
        use redb::{ReadableDatabase, ReadableTableMetadata};
        Ok(match self {
            Store::Plain { ends, .. } => ends.len() as u64,
            Store::Ours { ledger, .. } => ledger.size(Log::Trade),
            Store::Sqlite(database) => {
                let count: i64 = database.query_row("SELECT count(*) FROM records", [], |row| row.get(0))?;
                u64::try_from(count)?
            }
            Store::Redb(database) => database.begin_read()?.open_table(TABLE)?.len()?,
            Store::Sled(database) => match database.last()? {
                None => 0,
                Some((number, _)) => u64::from_be_bytes(number.as_ref().try_into()?) + 1,
            },
        })
    }

    /// Whether record `number` is there, with its bytes.
    pub fn check(&self, number: u64) -> Outcome<()> {
        use redb::ReadableDatabase;
        let (found, wanted) = match self {
            Store::Plain { file, ends } => {
                let (at, length) =
                    *ends.get(usize::try_from(number)?).ok_or_else(|| format!("record {number} lost"))?;
                let mut bytes = vec![0; length];
                std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, at)?;
                (bytes, record(number))
            }
            Store::Ours { ledger, .. } => {
                let block = Block::from_bytes(&ledger.block(Log::Trade, number)?)?;
                let entry = block.entries().first().ok_or("no entry")?;
                (hufu_ledger::Entry::from_bytes(entry)?.body, noise(number, BODY_BYTES))
            }
            Store::Sqlite(database) => {
                let number_text = i64::try_from(number)?;
                let query = "SELECT bytes FROM records WHERE number = ?1";
                (database.query_row(query, [number_text], |row| row.get(0))?, record(number))
            }
            Store::Redb(database) => {
                let table = database.begin_read()?.open_table(TABLE)?;
                let found = table.get(number)?.ok_or_else(|| format!("record {number} lost"))?;
                (found.value().to_vec(), record(number))
            }
            Store::Sled(database) => {
                let found = database.get(number.to_be_bytes())?.ok_or_else(|| format!("record {number} lost"))?;
                (found.to_vec(), record(number))
            }
        };
        if found == wanted { Ok(()) } else { Err(format!("record {number} changed").into()) }
    }
}

fn redb_at(dir: &Path) -> Outcome<redb::Database> {
    Ok(redb::Builder::new().set_cache_size(CACHE_BYTES).create(dir.join("db"))?)
}

fn open_plain(path: &Path) -> Outcome<Store> {
    let mut file = OpenOptions::new().read(true).append(true).open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let (mut ends, mut at) = (Vec::new(), 0_usize);
    while let Some((head, rest)) = bytes.get(at..).and_then(|rest| rest.split_first_chunk::<8>()) {
        let [l0, l1, l2, l3, c0, c1, c2, c3] = *head;
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3]))?;
        let good =
            rest.get(..length).is_some_and(|record| crc32c::crc32c(record) == u32::from_be_bytes([c0, c1, c2, c3]));
        if !good {
            break;
        }
        ends.push((at as u64 + 8, length));
        at += 8 + length;
    }
    file.set_len(at as u64)?;
    Ok(Store::Plain { file, ends })
}
