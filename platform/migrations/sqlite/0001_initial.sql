-- What the platform holds. Written in the common part of SQLite and PostgreSQL: no autoincrement, no type affinity tricks,
-- times are nanoseconds since 1970-01-01Z, hashes and signed bytes are binary, money is decimal text.
CREATE TABLE nodes (
  pool TEXT NOT NULL PRIMARY KEY,          -- {site}/{node}
  first_seen BIGINT NOT NULL,
  presence TEXT,                           -- online, offline, lost
  boot TEXT,
  session BIGINT,
  presence_at BIGINT
);
CREATE TABLE certificates (
  pool TEXT NOT NULL,
  id BLOB NOT NULL,                        -- SM3 of the DER
  leaf BIGINT NOT NULL,                    -- 1: names the node and was verified up to a trust anchor; 0: an issuer
  der BLOB NOT NULL,
  added_at BIGINT NOT NULL,
  PRIMARY KEY (pool, id)
);
CREATE TABLE catalogues (
  pool TEXT NOT NULL PRIMARY KEY,
  revision BIGINT NOT NULL,
  body TEXT NOT NULL,
  received_at BIGINT NOT NULL
);
CREATE TABLE blocks (
  pool TEXT NOT NULL,
  log BIGINT NOT NULL,                     -- 0 trade, 1 finance
  height BIGINT NOT NULL,
  hash BLOB NOT NULL,
  header BLOB NOT NULL,                    -- Signed, as received
  bytes BLOB NOT NULL,
  received_at BIGINT NOT NULL,
  PRIMARY KEY (pool, log, height)
);
-- Complete subtrees of the tree over block hashes: roots and paths without reading blocks.
CREATE TABLE tree (
  pool TEXT NOT NULL,
  log BIGINT NOT NULL,
  level BIGINT NOT NULL,
  place BIGINT NOT NULL,
  hash BLOB NOT NULL,
  PRIMARY KEY (pool, log, level, place)
);
-- A second block for a height that is taken, signed by the same node: evidence against it.
CREATE TABLE forks (
  pool TEXT NOT NULL,
  log BIGINT NOT NULL,
  height BIGINT NOT NULL,
  hash BLOB NOT NULL,                      -- SM3 of the bytes
  bytes BLOB NOT NULL,
  received_at BIGINT NOT NULL,
  PRIMARY KEY (pool, log, height, hash)
);
CREATE TABLE entries (
  pool TEXT NOT NULL,
  log BIGINT NOT NULL,
  height BIGINT NOT NULL,
  idx BIGINT NOT NULL,
  kind BIGINT NOT NULL,
  hash BLOB NOT NULL,
  contract BLOB,                           -- contract number
  seq BIGINT,                              -- order_seq of usage records and gaps
  refused TEXT,                            -- code, where the platform refuses the entry
  bytes BLOB NOT NULL,
  PRIMARY KEY (pool, log, height, idx)
);
CREATE INDEX entries_contract ON entries (contract, seq);
CREATE INDEX entries_hash ON entries (hash);
CREATE INDEX entries_kind ON entries (pool, log, kind);
CREATE TABLE contracts (
  contract BLOB NOT NULL PRIMARY KEY,
  pool TEXT NOT NULL,
  state TEXT NOT NULL,
  buyer BLOB NOT NULL                      -- certificate id
);
CREATE TABLE bills (
  pool TEXT NOT NULL,
  hash BLOB NOT NULL,                      -- of the entry
  number TEXT NOT NULL,
  contract BLOB NOT NULL,
  height BIGINT NOT NULL,
  total TEXT NOT NULL,
  state TEXT NOT NULL,                     -- payable, refused
  PRIMARY KEY (pool, hash)
);
CREATE INDEX bills_number ON bills (number);
CREATE TABLE payments (
  number TEXT NOT NULL PRIMARY KEY,
  amount TEXT NOT NULL,
  reference TEXT NOT NULL,
  paid_at BIGINT NOT NULL
);
CREATE TABLE receipts (
  pool TEXT NOT NULL,
  log BIGINT NOT NULL,
  size BIGINT NOT NULL,
  since BIGINT NOT NULL,                   -- refusals and bills are listed from this height on
  bytes BLOB NOT NULL,
  stored_at BIGINT NOT NULL,
  PRIMARY KEY (pool, log, size, since)
);
CREATE TABLE messages (
  pool TEXT NOT NULL,
  iface TEXT NOT NULL,
  id TEXT NOT NULL,
  content BLOB NOT NULL,                   -- SM3 of the body
  bytes BLOB NOT NULL,                     -- the envelope
  answer BLOB,                             -- up: the envelope given; down: JSON of the node's answer
  final BIGINT NOT NULL,                   -- 1: the answer stands for good
  at BIGINT NOT NULL,
  PRIMARY KEY (pool, iface, id)
);
CREATE TABLE scores (
  contract BLOB NOT NULL PRIMARY KEY,
  pool TEXT NOT NULL,
  overall BIGINT NOT NULL,                 -- hundredths
  statement BLOB NOT NULL,
  signature BLOB NOT NULL,
  from_node BIGINT NOT NULL,               -- 1: the node's log holds it
  at BIGINT NOT NULL
);
-- Since when a block waits for the other log.
CREATE TABLE waits (
  pool TEXT NOT NULL,
  log BIGINT NOT NULL,
  height BIGINT NOT NULL,
  since BIGINT NOT NULL,
  PRIMARY KEY (pool, log)
);
CREATE TABLE alarms (
  id BIGINT NOT NULL PRIMARY KEY,
  at BIGINT NOT NULL,
  pool TEXT NOT NULL,
  code TEXT NOT NULL,
  detail TEXT NOT NULL
);
