-- What the operator took off sale: a product of a node, or its whole shop.
CREATE TABLE delistings (
  pool TEXT NOT NULL,
  product TEXT NOT NULL,                   -- '' for the shop
  why TEXT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (pool, product)
);
