-- What several workers on one PostgreSQL need, and the same tables here: SQLite has one process and leaves them empty.
-- The order in which entries moved their contracts, counted by node: what a rowid gave before.
ALTER TABLE entries ADD COLUMN turn BIGINT;
UPDATE entries SET turn = rowid WHERE state IS NOT NULL;
CREATE INDEX entries_turn ON entries (pool, turn);
-- Alarms number themselves: two workers may raise one at the same moment.
CREATE TABLE numbered_alarms (
  id INTEGER PRIMARY KEY,
  at BIGINT NOT NULL,
  pool TEXT NOT NULL,
  code TEXT NOT NULL,
  detail TEXT NOT NULL
);
INSERT INTO numbered_alarms SELECT id, at, pool, code, detail FROM alarms;
DROP TABLE alarms;
ALTER TABLE numbered_alarms RENAME TO alarms;
CREATE TABLE workers (
  worker TEXT NOT NULL PRIMARY KEY,
  until BIGINT NOT NULL                    -- ms since 1970-01-01Z by the database's clock: later it counts as gone
);
CREATE TABLE leases (
  part BIGINT NOT NULL PRIMARY KEY,        -- of the nodes, 0 to 63: store/lease.rs
  worker TEXT                              -- who handles them; whoever changes this has locked that worker's row before
);
