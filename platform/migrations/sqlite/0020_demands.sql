-- What buyers look for, and what nodes proposed.
CREATE TABLE demands (
  place BIGINT NOT NULL PRIMARY KEY,       -- the platform's own count, from 1
  number BLOB NOT NULL,
  hash BLOB NOT NULL UNIQUE,               -- SM3 of the DER of Demand
  buyer BLOB NOT NULL,                     -- certificate id
  valid_until BIGINT NOT NULL,
  signed BLOB NOT NULL,                    -- Signed over it, by this platform
  signature BLOB NOT NULL,                 -- the buyer's, over the same DER
  certificates TEXT NOT NULL,              -- the buyer's chain, JSON list of base64url, leaf first
  made_at BIGINT NOT NULL
);
CREATE INDEX demands_number ON demands (number);
CREATE TABLE proposals (
  demand BLOB NOT NULL,                    -- hash of the demand
  pool TEXT NOT NULL,
  entry BLOB NOT NULL,                     -- DER of the Entry in the node's trade log
  response BLOB NOT NULL,                  -- DER of Response
  received_at BIGINT NOT NULL,
  PRIMARY KEY (demand, pool)
);
