-- Users, each with the newest revision of its account.
CREATE TABLE accounts (
  subject BLOB NOT NULL PRIMARY KEY,       -- the user's certificate id
  revision BIGINT NOT NULL,
  roles TEXT NOT NULL,                     -- a space between two, rising
  state TEXT NOT NULL,                     -- active, suspended, closed
  operation BIGINT NOT NULL,               -- number of the operation that made this revision
  at BIGINT NOT NULL,
  signed BLOB                              -- Signed over Account, by this platform, once it was signed
);
-- The nodes that are told of an account: where its user came as a buyer, and those that the operator names.
CREATE TABLE account_nodes (
  subject BLOB NOT NULL,
  pool TEXT NOT NULL,
  revision BIGINT NOT NULL,                -- the newest that the node answered for good; 0 before
  refused TEXT,                            -- the code with which it refused that one
  PRIMARY KEY (subject, pool)
);
-- What users did here and must be provable: a chain, in the order of the numbers. None is ever changed.
CREATE TABLE operations (
  number BIGINT NOT NULL PRIMARY KEY,      -- from 1, without gaps
  operator TEXT NOT NULL,                  -- certificate id, hexadecimal, or os: and a name on this machine
  act TEXT NOT NULL,
  about TEXT NOT NULL,
  concerns BLOB,                           -- certificate id of the user whom it concerns, where that is known
  why TEXT NOT NULL,
  at BIGINT NOT NULL,
  tbs BLOB,                                -- DER of Operation, once it was signed
  signed BLOB                              -- Signed over it, by this platform
);
CREATE INDEX operations_concerns ON operations (concerns);
