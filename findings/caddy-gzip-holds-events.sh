#!/usr/bin/env bash
# Caddy 2.6.2 (Debian caddy 2.6.2-5), "encode gzip" before reverse_proxy
#
# Expected: an event stream passes a proxy event by event or it does not; how it passes does not depend on what is in
#   the first event. reverse_proxy passes text/event-stream on at once.
# Instead: it goes by the size of the first write. A first event under 512 bytes: the stream is not compressed and
#   each event arrives when it is sent. A first event above that: the stream is compressed, the headers come,
#   and no event does until the upstream ends the stream. What works in every test hangs with a larger first event.
#
# Seen 2026-11-30 (three events, one a second, then the end):
#   first event of 9 bytes, plain: arrives after 0 s
#   first event of 700 bytes, gzip: arrives after 3 s
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
import http.server, sys, time
class Events(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for size in (int(self.path[1:]), 9, 9):
            self.wfile.write(b"data: " + b"." * (size - 8) + b"\n\n")
            self.wfile.flush()
            time.sleep(1)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Events).serve_forever()
PY
free_port() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
listening() { until (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do sleep 0.1; done; }
upstream=$(free_port)
python3 "$work/upstream.py" "$upstream" 2>/dev/null &
pids+=($!)
listening "$upstream"
proxy=$(free_port)
printf '{\n admin off\n auto_https off\n}\nhttp://127.0.0.1:%s {\n encode gzip\n reverse_proxy 127.0.0.1:%s\n}\n' "$proxy" "$upstream" >"$work/Caddyfile"
HOME=$work XDG_DATA_HOME=$work XDG_CONFIG_HOME=$work "$caddy" run --config "$work/Caddyfile" --adapter caddyfile 2>"$work/log" &
pids+=($!)
listening "$proxy"

cat >"$work/ask.py" <<'PY'
import sys, time, urllib.request, zlib
request = urllib.request.Request(f"http://127.0.0.1:{sys.argv[1]}/{sys.argv[2]}", headers={"Accept-Encoding": "gzip"})
began = time.monotonic()
answer = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10)
gzip = zlib.decompressobj(31) if answer.headers["Content-Encoding"] == "gzip" else None
events = b""
while not events and (piece := answer.read1()):
    events += gzip.decompress(piece) if gzip else piece
print(f"first event of {sys.argv[2]} bytes, {'gzip' if gzip else 'plain'}: arrives after {time.monotonic() - began:.0f} s")
PY
small=$(python3 "$work/ask.py" "$proxy" 9)
large=$(python3 "$work/ask.py" "$proxy" 700)
echo "$small"
echo "$large"
[ "$small" = 'first event of 9 bytes, plain: arrives after 0 s' ] && [ "$large" = 'first event of 700 bytes, gzip: arrives after 3 s' ] ||
    { echo 'no longer as described' >&2; exit 1; }
