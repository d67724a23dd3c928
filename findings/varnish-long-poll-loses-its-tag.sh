#!/usr/bin/env bash
# Varnish 7.1.1 (Debian varnish 7.1.1-2+deb12u1), built-in VCL, one backend
#
# Expected: what says Cache-Control: no-store goes through Varnish untouched. A long poll by ETag works: the client
#   sends If-None-Match, the upstream holds the request while it has nothing newer, then answers 304.
# Instead: a request that is not in the cache (no-store never is) goes upstream as a fetch for the cache, without
#   If-None-Match. The upstream sees a client that has nothing and answers in full at once; Varnish compares the tags
#   itself and tells the client 304, at once. The long poll becomes a loop without a pause.
#
# Seen 2026-11-30 (the upstream holds for 2 s whoever has the current tag):
#   upstream itself: 304 after 2 s
#   Varnish, 1st: 304 after 0 s
#   Varnish, 2nd: 304 after 0 s
set -euo pipefail
command -v varnishd >/dev/null || apt-get install -y -qq --no-install-recommends varnish >/dev/null
work=$(mktemp -d)
chmod 755 "$work"
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT

varnishd -V 2>&1 | head -1
cat >"$work/upstream.py" <<'PY'
import http.server, sys, time
class LongPoll(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.headers["If-None-Match"] == '"7"'
        if known:
            time.sleep(2)
        self.send_response(304 if known else 200)
        self.send_header("ETag", '"7"')
        self.send_header("Cache-Control", "no-store")
        if not known:
            self.send_header("Content-Length", "7")
        self.end_headers()
        if not known:
            self.wfile.write(b"pending")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), LongPoll).serve_forever()
PY
free_port() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
listening() { until (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do sleep 0.1; done; }
upstream=$(free_port)
python3 "$work/upstream.py" "$upstream" &
pids+=($!)
listening "$upstream"
proxy=$(free_port)
varnishd -F -a "127.0.0.1:$proxy" -b "127.0.0.1:$upstream" -n "$work/varnish" -s malloc,16m >"$work/log" 2>&1 &
pids+=($!)
listening "$proxy"

ask() { # ask PORT: status and whole seconds of a poll that has the current tag
    curl -s --noproxy '*' -m 10 -o /dev/null -H 'If-None-Match: "7"' -w '%{http_code} after %{time_total}' "http://127.0.0.1:$1/sessions/1" | sed 's/\..*/ s/'
}
direct=$(ask "$upstream")
first=$(ask "$proxy")
second=$(ask "$proxy")
echo "upstream itself: $direct"
echo "Varnish, 1st: $first"
echo "Varnish, 2nd: $second"
[ "$direct" = '304 after 2 s' ] && [ "$first" = '304 after 0 s' ] && [ "$second" = '304 after 0 s' ] ||
    { echo 'no longer as described' >&2; exit 1; }
