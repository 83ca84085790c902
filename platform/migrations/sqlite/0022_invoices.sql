-- Invoices of bills: what was asked for, issued and reversed, one row an act, none is ever changed.
CREATE TABLE invoices (
  bill BLOB NOT NULL,                      -- hash of the bill's entry
  turn BIGINT NOT NULL,                    -- counted by bill, from 1
  number TEXT NOT NULL,                    -- the bill's
  act TEXT NOT NULL,                       -- request, issue, reverse
  invoice TEXT,                            -- the invoice's own number, from issue on
  amount TEXT NOT NULL,                    -- what was due for the bill, decimal CNY
  note TEXT NOT NULL,                      -- whom it is made out to; why it is reversed
  at BIGINT NOT NULL,
  PRIMARY KEY (bill, turn)
);
CREATE INDEX invoices_invoice ON invoices (invoice);
