#!/usr/bin/env bash
# Caddy 2.6.2 (Debian caddy 2.6.2-5), reverse_proxy with its defaults
#
# Expected: a client that half-closes after its request (FIN, as nc -N and old tools do) still gets the upstream's
#   answer; and if the proxy takes the FIN for "gone", it sends nothing, or an error.
# Instead: Caddy gives the upstream request up at once and answers "200 OK" with Content-Length: 0, while the upstream
#   is still at work. A client of a long poll or of a slow POST reads a success that nobody gave.
#
# Seen 2026-11-30 (the upstream takes 2 s):
#   upstream itself: HTTP/1.1 200 OK after 2 s, body 'done'
#   through Caddy:   HTTP/1.1 200 OK after 0 s, body ''
set -euo pipefail
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT

caddy=$(command -v caddy) || {
    (cd "$work" && apt-get download -qq caddy >/dev/null && dpkg -x caddy_*.deb .)
    caddy=$work/usr/bin/caddy
}
echo "Caddy $("$caddy" version)"
cat >"$work/upstream.py" <<'PY'
import socket, sys, threading, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
def answer(peer):
    with peer:
        if peer.recv(65536):
            time.sleep(2)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone")
while True:
    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
PY
cat >"$work/ask.py" <<'PY'
import socket, sys, time
began = time.monotonic()
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10) as peer:
    peer.sendall(b"GET /sessions/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    peer.shutdown(socket.SHUT_WR)
    answer = b"".join(iter(lambda: peer.recv(65536), b""))
head, _, body = answer.decode().partition("\r\n\r\n")
print(f"{head.splitlines()[0]} after {time.monotonic() - began:.0f} s, body {body!r}")
PY
free_port() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
listening() { until (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do sleep 0.1; done; }
upstream=$(free_port)
python3 "$work/upstream.py" "$upstream" &
pids+=($!)
listening "$upstream"
proxy=$(free_port)
printf '{\n admin off\n auto_https off\n}\nhttp://127.0.0.1:%s {\n reverse_proxy 127.0.0.1:%s\n}\n' "$proxy" "$upstream" >"$work/Caddyfile"
HOME=$work XDG_DATA_HOME=$work XDG_CONFIG_HOME=$work "$caddy" run --config "$work/Caddyfile" --adapter caddyfile 2>"$work/log" &
pids+=($!)
listening "$proxy"

direct=$(python3 "$work/ask.py" "$upstream")
proxied=$(python3 "$work/ask.py" "$proxy")
echo "upstream itself: $direct"
echo "through Caddy:   $proxied"
[ "$direct" = "HTTP/1.1 200 OK after 2 s, body 'done'" ] && [ "$proxied" = "HTTP/1.1 200 OK after 0 s, body ''" ] ||
    { echo 'no longer as described' >&2; exit 1; }
