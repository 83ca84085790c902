-- What this platform acknowledged and has lost, and where a node went on in a new epoch (docs/adr/0012-epochs.md). Nothing that a
-- receipt named goes without a trace: it is moved here.
ALTER TABLE entries ADD COLUMN state TEXT;           -- of its contract after it, where it moved it; NULL before this schema, too
CREATE TABLE epochs (
  pool TEXT NOT NULL,
  log BIGINT NOT NULL,
  height BIGINT NOT NULL,                            -- of the block that opens it
  epoch BIGINT NOT NULL,
  receipted BIGINT NOT NULL,                         -- largest size that a receipt was given for before; above height: lost
  why TEXT NOT NULL,                                 -- the node's word
  at BIGINT NOT NULL,
  PRIMARY KEY (pool, log, height)
);
CREATE TABLE lost_receipts (
  pool TEXT NOT NULL,
  log BIGINT NOT NULL,
  size BIGINT NOT NULL,
  since BIGINT NOT NULL,
  epoch BIGINT NOT NULL,                             -- that came after it
  bytes BYTEA NOT NULL,
  stored_at BIGINT NOT NULL,
  PRIMARY KEY (pool, log, size, since, epoch)
);
CREATE TABLE lost_entries (
  pool TEXT NOT NULL,
  log BIGINT NOT NULL,
  height BIGINT NOT NULL,
  idx BIGINT NOT NULL,
  kind BIGINT NOT NULL,
  hash BYTEA NOT NULL,
  contract BYTEA,
  refused TEXT,
  bytes BYTEA NOT NULL,
  lost_at BIGINT NOT NULL,
  PRIMARY KEY (pool, log, height, idx, hash)
);
