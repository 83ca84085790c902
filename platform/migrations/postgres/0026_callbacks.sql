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
CREATE FUNCTION order_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM callbacks) THEN
    INSERT INTO changes (kind, name, turn) VALUES ('order', encode(NEW.contract, 'hex'), 1)
      ON CONFLICT (kind, name) DO UPDATE SET turn = changes.turn + 1;
  END IF;
  RETURN NULL;
END $$;
CREATE FUNCTION bill_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM callbacks) THEN
    INSERT INTO changes (kind, name, turn) VALUES ('bill', NEW.number, 1)
      ON CONFLICT (kind, name) DO UPDATE SET turn = changes.turn + 1;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER orders_added AFTER INSERT ON contracts FOR EACH ROW EXECUTE FUNCTION order_changed();
CREATE TRIGGER orders_moved AFTER UPDATE OF state ON contracts FOR EACH ROW
  WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION order_changed();
CREATE TRIGGER bills_added AFTER INSERT OR UPDATE ON bills FOR EACH ROW EXECUTE FUNCTION bill_changed();
CREATE TRIGGER payments_added AFTER INSERT OR UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION bill_changed();
CREATE TRIGGER refunds_added AFTER INSERT ON refunds FOR EACH ROW EXECUTE FUNCTION bill_changed();
CREATE TRIGGER invoices_added AFTER INSERT ON invoices FOR EACH ROW EXECUTE FUNCTION bill_changed();
