-- What convicts nodes that showed two pasts; one is never changed.
CREATE TABLE fork_proofs (
  number TEXT NOT NULL PRIMARY KEY,        -- first 8 octets of SM3 of the bytes, hexadecimal
  pool TEXT NOT NULL,
  log BIGINT NOT NULL,
  bytes BLOB NOT NULL,                     -- DER of ForkProof
  is_told BIGINT NOT NULL,                 -- 1 once it was published
  at BIGINT NOT NULL
);
-- Signed headers of blocks that have not come here yet, as nodes publish them.
CREATE TABLE seen_headers (
  pool TEXT NOT NULL,
  log BIGINT NOT NULL,
  height BIGINT NOT NULL,
  header BLOB NOT NULL,                    -- Signed over BlockHeader
  PRIMARY KEY (pool, log, height)
);
