#!/usr/bin/env bash
# PostgreSQL 15.20 (also the server that PGHOST, PGUSER and PGDATABASE name; the script makes a schema of its own and drops it)
#
# Expected: one statement that inserts with ON CONFLICT DO NOTHING and, where nothing was inserted, selects the
#   row that is there always returns that row: either it was inserted now or it exists.
# Instead: under READ COMMITTED it can return no row at all, without an error. The insert waits for the other
#   transaction and sees its row once that has committed; the select of the same statement still reads the
#   snapshot taken before the wait, in which there is no row. Whoever keeps idempotency keys so has to ask again.
#
# Seen 2026-11-30:
#   the statement returned: ''
#   the same statement again: 'theirs'
set -euo pipefail
export PGHOST=${PGHOST-127.0.0.1} PGUSER=${PGUSER-postgres} PGDATABASE=${PGDATABASE-test}
schema=finding_get_or_create_$$
export PGOPTIONS="-c search_path=$schema -c client_min_messages=warning"
sql() { psql -qAtX -v ON_ERROR_STOP=1 "$@"; }
trap 'sql -c "drop schema if exists $schema cascade"' EXIT

echo "PostgreSQL $(sql -c 'show server_version')"
sql -c "create schema $schema" -c 'create table keys (key text primary key, owner text not null)'
get_or_create="with made as (insert into keys values ('k', 'ours') on conflict do nothing returning owner)
  select owner from made union all select owner from keys where key = 'k'"

sql <<<"begin; insert into keys values ('k', 'theirs'); select pg_sleep(2); commit;" >/dev/null &
other=$!
sleep 1
first=$(sql -c "$get_or_create")
wait "$other"
again=$(sql -c "$get_or_create")
echo "the statement returned: '$first'"
echo "the same statement again: '$again'"
[ -z "$first" ] && [ "$again" = theirs ] || { echo 'no longer as described' >&2; exit 1; }
