-- One row for each session. Device code, tokens, secret and revocation are sealed with the key that key_id names; seal covers the
-- whole row, so a row that was changed by hand is not read. Times are milliseconds since the Unix epoch.
CREATE TABLE sessions (
    id uuid NOT NULL PRIMARY KEY,
    version bigint NOT NULL,
    revision bigint NOT NULL,
    provider text NOT NULL,
    caller text,
    status text NOT NULL,
    opened_at bigint NOT NULL,
    facts text NOT NULL,
    key_id text NOT NULL,
    device_code bytea,
    tokens bytea,
    secret bytea,
    revocation bytea,
    seal bytea NOT NULL
);
