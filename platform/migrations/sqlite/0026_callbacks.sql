-- Orders and bills that changed and whose change the operator's own system has not been told (callbacks, 7.4). Marks are made only while
-- somebody is to be told: one row, the newest state counts.
CREATE TABLE callbacks (
  url TEXT NOT NULL PRIMARY KEY
);
CREATE TABLE changes (
  kind TEXT NOT NULL,                      -- order or bill
  name TEXT NOT NULL,                      -- contract number, hexadecimal, or bill number
  turn BIGINT NOT NULL,                    -- rises while it waits
  PRIMARY KEY (kind, name)
);
CREATE TRIGGER orders_added AFTER INSERT ON contracts FOR EACH ROW WHEN EXISTS (SELECT 1 FROM callbacks)
BEGIN
  INSERT INTO changes (kind, name, turn) VALUES ('order', lower(hex(new.contract)), 1)
    ON CONFLICT (kind, name) DO UPDATE SET turn = turn + 1;
END;
CREATE TRIGGER orders_moved AFTER UPDATE OF state ON contracts FOR EACH ROW WHEN EXISTS (SELECT 1 FROM callbacks) AND old.state <> new.state
BEGIN
  INSERT INTO changes (kind, name, turn) VALUES ('order', lower(hex(new.contract)), 1)
    ON CONFLICT (kind, name) DO UPDATE SET turn = turn + 1;
END;
CREATE TRIGGER bills_added AFTER INSERT ON bills FOR EACH ROW WHEN EXISTS (SELECT 1 FROM callbacks)
BEGIN
  INSERT INTO changes (kind, name, turn) VALUES ('bill', new.number, 1)
    ON CONFLICT (kind, name) DO UPDATE SET turn = turn + 1;
END;
CREATE TRIGGER bills_moved AFTER UPDATE ON bills FOR EACH ROW WHEN EXISTS (SELECT 1 FROM callbacks)
BEGIN
  INSERT INTO changes (kind, name, turn) VALUES ('bill', new.number, 1)
    ON CONFLICT (kind, name) DO UPDATE SET turn = turn + 1;
END;
CREATE TRIGGER payments_added AFTER INSERT ON payments FOR EACH ROW WHEN EXISTS (SELECT 1 FROM callbacks)
BEGIN
  INSERT INTO changes (kind, name, turn) VALUES ('bill', new.number, 1)
    ON CONFLICT (kind, name) DO UPDATE SET turn = turn + 1;
END;
CREATE TRIGGER refunds_added AFTER INSERT ON refunds FOR EACH ROW WHEN EXISTS (SELECT 1 FROM callbacks)
BEGIN
  INSERT INTO changes (kind, name, turn) VALUES ('bill', new.number, 1)
    ON CONFLICT (kind, name) DO UPDATE SET turn = turn + 1;
END;
CREATE TRIGGER invoices_added AFTER INSERT ON invoices FOR EACH ROW WHEN EXISTS (SELECT 1 FROM callbacks)
BEGIN
  INSERT INTO changes (kind, name, turn) VALUES ('bill', new.number, 1)
    ON CONFLICT (kind, name) DO UPDATE SET turn = turn + 1;
END;
CREATE TRIGGER payments_moved AFTER UPDATE ON payments FOR EACH ROW WHEN EXISTS (SELECT 1 FROM callbacks)
BEGIN
  INSERT INTO changes (kind, name, turn) VALUES ('bill', new.number, 1)
    ON CONFLICT (kind, name) DO UPDATE SET turn = turn + 1;
END;
