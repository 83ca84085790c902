-- Bills that are disputed, corrected, refunded; notices of the platform itself.
ALTER TABLE bills ADD COLUMN due TEXT;                               -- after corrections; NULL: none yet, the total is due
ALTER TABLE bills ADD COLUMN disputed BIGINT NOT NULL DEFAULT 0;     -- 1: a notice disputes it and the contract waits for an end of that
CREATE INDEX bills_contract ON bills (contract);
CREATE TABLE refunds (
  number TEXT NOT NULL PRIMARY KEY,
  amount TEXT NOT NULL,
  reference TEXT NOT NULL,
  paid_at BIGINT NOT NULL
);
CREATE TABLE notices (
  id BYTEA NOT NULL PRIMARY KEY,            -- SM3 of tbs
  pool TEXT NOT NULL,
  contract BYTEA NOT NULL,
  act TEXT NOT NULL,
  why TEXT NOT NULL,
  made_at BIGINT NOT NULL,
  tbs BYTEA NOT NULL,                       -- DER of the notice
  signed BYTEA,                             -- Signed over it, from the first time it is sent
  answer TEXT                              -- JSON of the node's answer, once it stands for good
);
