#!/usr/bin/env bash
# SQLite 3.40.1 (Debian: libsqlite3-0 and sqlite3 3.40.1-2+deb12u2, used as they are installed), Linux
#
# Expected: while a program has a database in WAL mode open, a second program that opens it, reads and leaves finds
#   the first one's locks, so the WAL stays. Nothing that the first program does with a descriptor of its own
#   changes the locks that SQLite took.
# Instead: POSIX locks belong to the process and go when it closes *any* descriptor of the file. One open and close
#   of the database file beside SQLite (a checksum, a look at its head) and the visitor takes itself for the last
#   one, merges the WAL and deletes it. The first program goes on committing into the deleted file: every commit
#   succeeds and it reads its own rows, nobody else ever sees them, and they are gone when it ends.
#
# Seen 2026-11-30:
#   without a close: WAL kept, rows: 2 by the program, 2 by the visitor
#   after a close:   WAL deleted, rows: 2 by the program, 1 by the visitor
set -euo pipefail
command -v sqlite3 >/dev/null || apt-get install -y -qq sqlite3 >/dev/null
command -v python3 >/dev/null || apt-get install -y -qq python3 >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "sqlite3 shell $(sqlite3 --version | cut -d' ' -f1), library of Python $(python3 -c 'import sqlite3; print(sqlite3.sqlite_version)')"
cat >"$work/run.py" <<'PY'
import os, sqlite3, subprocess, sys

def visitor(path):
    return subprocess.run(["sqlite3", path, "select count(*) from t"], capture_output=True, text=True, check=True).stdout.strip()

def run(path, close):
    program = sqlite3.connect(path, isolation_level=None)
    program.execute("pragma journal_mode = wal")
    program.execute("create table t (x)")
    program.execute("insert into t values (1)")
    if close:
        os.close(os.open(path, os.O_RDONLY))
    visitor(path)
    wal = "kept" if os.path.exists(path + "-wal") else "deleted"
    program.execute("insert into t values (2)")
    own = program.execute("select count(*) from t").fetchone()[0]
    return f"WAL {wal}, rows: {own} by the program, {visitor(path)} by the visitor"

print("without a close:", run(sys.argv[1] + "/plain.db", False))
print("after a close:  ", run(sys.argv[1] + "/closed.db", True))
PY
seen=$(python3 "$work/run.py" "$work")
echo "$seen"
[ "$seen" = 'without a close: WAL kept, rows: 2 by the program, 2 by the visitor
after a close:   WAL deleted, rows: 2 by the program, 1 by the visitor' ] || { echo 'no longer as described' >&2; exit 1; }
