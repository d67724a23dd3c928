#!/usr/bin/env bash
# PostgreSQL 15.20 (also the server that PGHOST, PGUSER and PGDATABASE name; the script makes a schema of its own and drops it)
#
# Expected: an UPDATE that holds a row lock on the lease row it depends on
#   (WHERE EXISTS (SELECT … FROM lease WHERE epoch = 1 FOR KEY SHARE)) keeps others from raising the epoch before it
#   is done; the lock's name says "share", and the writer that raises the epoch wants the row for itself.
# Instead: FOR KEY SHARE conflicts only with changes of *key* columns. Raising a plain column goes through at once
#   and commits, and the UPDATE, which had looked at the epoch before it queued for its own row, is then applied
#   under the epoch that is over. With FOR SHARE the change of the epoch waits.
#
# Seen 2026-11-30:
#   for key share: epoch raised while the writer waits: yes; in the end: epoch 2, row 'stale'
#   for share: epoch raised while the writer waits: no; in the end: epoch 1, row 'stale'
set -euo pipefail
export PGHOST=${PGHOST-127.0.0.1} PGUSER=${PGUSER-postgres} PGDATABASE=${PGDATABASE-test}
schema=finding_key_share_$$
export PGOPTIONS="-c search_path=$schema -c client_min_messages=warning"
sql() { psql -qAtX -v ON_ERROR_STOP=1 "$@"; }
trap 'sql -c "drop schema if exists $schema cascade"' EXIT

echo "PostgreSQL $(sql -c 'show server_version')"
sql -c "create schema $schema" -c 'create table lease (id int primary key, epoch int not null)' \
    -c 'create table work (id int primary key, v text not null)'

run() { # run LOCK: a holder of epoch 1 queues for a row; meanwhile another raises the epoch
    sql -c 'truncate lease, work' -c 'insert into lease values (1, 1)' -c "insert into work values (1, 'first')"
    sql <<<"begin; update work set v = 'other' where id = 1; select pg_sleep(3); commit;" >/dev/null &
    local holder=$! writer raised=yes
    sleep 1
    sql -c "update work set v = 'stale' where id = 1 and exists (select from lease where id = 1 and epoch = 1 $1)" &
    writer=$!
    sleep 0.5
    sql -c "set lock_timeout = '700ms'" -c 'update lease set epoch = 2 where id = 1' 2>/dev/null || raised=no
    wait "$holder" "$writer"
    result="$1: epoch raised while the writer waits: $raised; in the end: $(sql -F "" -c "select 'epoch ' || epoch || ', row ''' || v || '''' from lease, work")"
    echo "$result"
}

run 'for key share'
[ "$result" = "for key share: epoch raised while the writer waits: yes; in the end: epoch 2, row 'stale'" ] || { echo 'no longer as described' >&2; exit 1; }
run 'for share'
[ "$result" = "for share: epoch raised while the writer waits: no; in the end: epoch 1, row 'stale'" ] || { echo 'no longer as described' >&2; exit 1; }
