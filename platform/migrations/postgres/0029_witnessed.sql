-- Checkpoints of nodes with the cosignatures of other nodes that hold, as they were published; the newest few of each log.
CREATE TABLE witnessed (
  pool TEXT NOT NULL,
  log BIGINT NOT NULL,
  size BIGINT NOT NULL,
  epoch BIGINT NOT NULL,
  witnesses BIGINT NOT NULL,               -- cosignatures in it
  bytes BYTEA NOT NULL,                     -- DER of WitnessedCheckpoint
  PRIMARY KEY (pool, log, size)
);
