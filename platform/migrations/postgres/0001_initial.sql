-- What the platform holds, as in migrations/sqlite with the types of PostgreSQL: a test compares the tables. No autoincrement,
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
  id BYTEA NOT NULL,                        -- SM3 of the DER
  leaf BIGINT NOT NULL,                    -- 1: names the node and was verified up to a trust anchor; 0: an issuer
  der BYTEA NOT NULL,
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
  hash BYTEA NOT NULL,
  header BYTEA NOT NULL,                    -- Signed, as received
  bytes BYTEA NOT NULL,
  received_at BIGINT NOT NULL,
  PRIMARY KEY (pool, log, height)
);
-- Complete subtrees of the tree over block hashes: roots and paths without reading blocks.
CREATE TABLE tree (
  pool TEXT NOT NULL,
  log BIGINT NOT NULL,
  level BIGINT NOT NULL,
  place BIGINT NOT NULL,
  hash BYTEA NOT NULL,
  PRIMARY KEY (pool, log, level, place)
);
-- A second block for a height that is taken, signed by the same node: evidence against it.
CREATE TABLE forks (
  pool TEXT NOT NULL,
  log BIGINT NOT NULL,
  height BIGINT NOT NULL,
  hash BYTEA NOT NULL,                      -- SM3 of the bytes
  bytes BYTEA NOT NULL,
  received_at BIGINT NOT NULL,
  PRIMARY KEY (pool, log, height, hash)
);
CREATE TABLE entries (
  pool TEXT NOT NULL,
  log BIGINT NOT NULL,
  height BIGINT NOT NULL,
  idx BIGINT NOT NULL,
  kind BIGINT NOT NULL,
  hash BYTEA NOT NULL,
  contract BYTEA,                           -- contract number
  seq BIGINT,                              -- order_seq of usage records and gaps
  refused TEXT,                            -- code, where the platform refuses the entry
  bytes BYTEA NOT NULL,
  PRIMARY KEY (pool, log, height, idx)
);
CREATE INDEX entries_contract ON entries (contract, seq);
CREATE INDEX entries_hash ON entries (hash);
CREATE INDEX entries_kind ON entries (pool, log, kind);
CREATE TABLE contracts (
  contract BYTEA NOT NULL PRIMARY KEY,
  pool TEXT NOT NULL,
  state TEXT NOT NULL,
  buyer BYTEA NOT NULL                      -- certificate id
);
CREATE TABLE bills (
  pool TEXT NOT NULL,
  hash BYTEA NOT NULL,                      -- of the entry
  number TEXT NOT NULL,
  contract BYTEA NOT NULL,
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
  bytes BYTEA NOT NULL,
  stored_at BIGINT NOT NULL,
  PRIMARY KEY (pool, log, size, since)
);
CREATE TABLE messages (
  pool TEXT NOT NULL,
  iface TEXT NOT NULL,
  id TEXT NOT NULL,
  content BYTEA NOT NULL,                   -- SM3 of the body
  bytes BYTEA NOT NULL,                     -- the envelope
  answer BYTEA,                             -- up: the envelope given; down: JSON of the node's answer
  final BIGINT NOT NULL,                   -- 1: the answer stands for good
  at BIGINT NOT NULL,
  PRIMARY KEY (pool, iface, id)
);
CREATE TABLE scores (
  contract BYTEA NOT NULL PRIMARY KEY,
  pool TEXT NOT NULL,
  overall BIGINT NOT NULL,                 -- hundredths
  statement BYTEA NOT NULL,
  signature BYTEA NOT NULL,
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
