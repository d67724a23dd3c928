-- How often a process has opened this database. Revisions that readers saw are not all written, so those of an earlier start are
-- told from ours by it: each row keeps the number of the start that wrote it, its epoch. probe is what readiness writes.
CREATE TABLE starts (
    only_row integer NOT NULL PRIMARY KEY CHECK (only_row = 1),
    number bigint NOT NULL,
    probe bytea
);
INSERT INTO starts (only_row, number) VALUES (1, 0);
ALTER TABLE sessions ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
-- From here on the cell revocation may hold several grants; an older Anteroom would take such a row for damaged.
