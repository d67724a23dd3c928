-- "antr": what tells our files from others.
PRAGMA application_id = 0x616e7472;

-- One row for each session. Device code, tokens, secret and revocation are sealed with the key that key_id names; seal covers the
-- whole row, so a row that was changed by hand is not read. Times are milliseconds since the Unix epoch.
CREATE TABLE sessions (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    version INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    provider TEXT NOT NULL,
    caller TEXT,
    status TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    facts TEXT NOT NULL,
    key_id TEXT NOT NULL,
    device_code BLOB,
    tokens BLOB,
    secret BLOB,
    revocation BLOB,
    seal BLOB NOT NULL
) STRICT;
