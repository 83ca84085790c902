-- Orders with a parent, and what was paid through it. The numbers between are free for what is made beside this.
CREATE TABLE children (
  contract BLOB NOT NULL PRIMARY KEY,
  pool TEXT NOT NULL,
  parent BLOB NOT NULL,                    -- number of the parent order
  buyer BLOB NOT NULL,                     -- certificate id
  payable TEXT NOT NULL,                   -- child or parent: the level that is paid
  children BIGINT NOT NULL                 -- how many there are, as the buyer signed
);
CREATE INDEX children_parent ON children (parent, buyer);
CREATE TABLE parent_bills (
  hash BLOB NOT NULL PRIMARY KEY,          -- SM3 of tbs
  parent BLOB NOT NULL,
  buyer BLOB NOT NULL,
  amount TEXT NOT NULL,                    -- what was open and is paid with it
  reference TEXT NOT NULL,
  made_at BIGINT NOT NULL,
  tbs BLOB NOT NULL,                       -- DER of ParentBill
  signed BLOB                              -- Signed over it, from the first time a payment names it
);
ALTER TABLE payments ADD COLUMN parent_bill BLOB;                    -- the parent bill it was paid with
