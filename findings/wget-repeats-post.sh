#!/usr/bin/env bash
# GNU Wget 1.21.3 (Debian wget 1.21.3-1+deb12u1, used as it is installed); curl to compare
#
# Expected: a POST whose connection ends without an answer is reported and left to the user, since nobody knows
#   whether the server has acted on it (RFC 9110, 9.2.2: no automatic repetition of what is not idempotent).
# Instead: Wget sends it again, up to 20 times in all by default (--tries), each as a new request. Whatever the POST
#   begins is begun again, unless the caller names it by a key. curl sends it once and says "empty reply".
#
# Seen 2026-11-30:
#   POSTs from wget --tries=3: 3
#   POSTs from curl: 1
set -euo pipefail
for tool in wget curl python3; do command -v "$tool" >/dev/null || apt-get install -y -qq "$tool" >/dev/null; done
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT

wget --version | head -1
cat >"$work/server.py" <<'PY'
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], file=open(sys.argv[1] + "/port", "w"), flush=True)
while True:
    peer, _ = listener.accept()
    with peer:
        head = peer.recv(65536)
        open(sys.argv[1] + "/log", "ab").write(head.split(b"\r\n")[0] + b"\n")
PY
: >"$work/log"
python3 "$work/server.py" "$work" &
pids+=($!)
until [ -s "$work/port" ]; do sleep 0.1; done
url=http://127.0.0.1:$(cat "$work/port")/sessions

timeout 30 wget -q --no-proxy -O /dev/null --tries=3 --post-data='provider=p' "$url" || true
by_wget=$(grep -c '^POST /sessions' "$work/log")
: >"$work/log"
curl -s --noproxy '*' -o /dev/null -m 10 -d 'provider=p' "$url" || true
by_curl=$(grep -c '^POST /sessions' "$work/log")
echo "POSTs from wget --tries=3: $by_wget"
echo "POSTs from curl: $by_curl"
[ "$by_wget" = 3 ] && [ "$by_curl" = 1 ] || { echo 'no longer as described' >&2; exit 1; }
