#!/usr/bin/env bash
# PostgreSQL 15.20 (also the server that PGHOST, PGUSER and PGDATABASE name; the script makes a schema of its own and drops it)
#
# Expected: when a client is killed while its UPDATE waits for a row lock, the kernel closes the connection, the
#   server notices and the UPDATE dies with its client.
# Instead: a backend that waits for a lock does not look at its socket (client_connection_check_interval is 0 by
#   default). It gets the lock when that is freed, writes and commits, long after the process that asked for it is
#   dead and perhaps replaced. A lease that has run out is no proof that its holder's last write is over.
#
# Seen 2026-11-30:
#   client killed; a second later the row says: before
#   after the lock was freed the row says: from the dead
set -euo pipefail
export PGHOST=${PGHOST-127.0.0.1} PGUSER=${PGUSER-postgres} PGDATABASE=${PGDATABASE-test}
schema=finding_killed_client_$$
export PGOPTIONS="-c search_path=$schema -c client_min_messages=warning"
sql() { psql -qAtX -v ON_ERROR_STOP=1 "$@"; }
trap 'sql -c "drop schema if exists $schema cascade"' EXIT

echo "PostgreSQL $(sql -c 'show server_version'), client_connection_check_interval $(sql -c 'show client_connection_check_interval')"
sql -c "create schema $schema" -c 'create table t (id int primary key, v text not null)' -c "insert into t values (1, 'before')"

sql <<<"begin; select from t where id = 1 for update; select pg_sleep(4); commit;" >/dev/null &
holder=$!
sleep 1
psql -qAtX -c "update t set v = 'from the dead' where id = 1" &
client=$!
sleep 1
kill -KILL "$client"
wait "$client" 2>/dev/null || true
sleep 1
during=$(sql -c 'select v from t')
wait "$holder"
sleep 1
after=$(sql -c 'select v from t')
echo "client killed; a second later the row says: $during"
echo "after the lock was freed the row says: $after"
[ "$during" = before ] && [ "$after" = 'from the dead' ] || { echo 'no longer as described' >&2; exit 1; }
