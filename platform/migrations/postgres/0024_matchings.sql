-- What buyers chose of the answers to their demands; one is never changed.
CREATE TABLE matchings (
  place BIGINT NOT NULL PRIMARY KEY,       -- in the count of the demands
  demand BYTEA NOT NULL UNIQUE,             -- hash of the demand
  selection BYTEA NOT NULL,                 -- Signed over Selection, by the buyer
  signed BYTEA NOT NULL,                    -- Signed over Matching, by this platform
  at BIGINT NOT NULL
);
-- Books that a node and this platform compared; both signed statements as they were.
CREATE TABLE reconciliations (
  pool TEXT NOT NULL,
  from_ns BIGINT NOT NULL,
  until_ns BIGINT NOT NULL,
  turn BIGINT NOT NULL,                    -- from 1
  node BYTEA NOT NULL,                      -- Signed over Reconciliation, by the node
  platform BYTEA NOT NULL,                  -- the same by this platform, which answers it
  differences BIGINT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (pool, from_ns, until_ns, turn)
);
