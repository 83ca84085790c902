-- Time-stamps (RFC 3161) over the signatures of receipts; one is never changed.
CREATE TABLE time_stamps (
  pool TEXT NOT NULL,
  log BIGINT NOT NULL,
  size BIGINT NOT NULL,                    -- of the receipt
  since BIGINT NOT NULL,                   -- of the receipt
  token BYTEA NOT NULL,
  at BIGINT NOT NULL,                      -- when it was asked for, by the platform's clock
  PRIMARY KEY (pool, log, size)
);
