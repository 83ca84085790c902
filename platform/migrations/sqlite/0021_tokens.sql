-- Authorisation codes and tokens of nodes and users.
CREATE TABLE auth_codes (
  code BLOB NOT NULL PRIMARY KEY,
  pool TEXT NOT NULL,
  expires_at BIGINT NOT NULL
);
CREATE TABLE tokens (
  id BLOB NOT NULL PRIMARY KEY,
  subject TEXT NOT NULL,                   -- {site}/{node}, or a user's certificate id
  audience TEXT NOT NULL,
  scope TEXT NOT NULL,
  not_after BIGINT NOT NULL,
  ended_at BIGINT                          -- logged out
);
