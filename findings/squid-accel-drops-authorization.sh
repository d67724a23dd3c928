#!/usr/bin/env bash
# Squid 5.7 (Debian squid 5.7-2+deb12u6) as a reverse proxy: http_port … accel, cache_peer … originserver
#
# Expected: a reverse proxy passes Authorization on to the server it stands for, as it does other request headers;
#   Authorization is end to end, only Proxy-Authorization is for the proxy.
# Instead: Squid leaves Authorization out, Basic and Bearer alike, until the cache_peer line says
#   login=PASSTHRU. Other headers arrive, and the origin answers 401 to clients that did send their token.
#
# Seen 2026-11-30:
#   as above: the origin saw: none
#   login=PASSTHRU: the origin saw: Bearer token
set -euo pipefail
command -v squid >/dev/null || apt-get install -y -qq --no-install-recommends squid >/dev/null
work=$(mktemp -d)
chmod 755 "$work"
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT

squid -v | head -1
cat >"$work/origin.py" <<'PY'
import http.server, sys
class Origin(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen = (self.headers["Authorization"] or "none").encode()
        self.send_response(200)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(seen)))
        self.end_headers()
        self.wfile.write(seen)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Origin).serve_forever()
PY
free_port() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
listening() { until (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do sleep 0.1; done; }
origin=$(free_port)
python3 "$work/origin.py" "$origin" &
pids+=($!)
listening "$origin"

through() { # through NAME [OPTION]: what the origin sees of a Bearer token sent to Squid
    local port folder=$work/$1
    port=$(free_port)
    mkdir "$folder"
    [ "$(id -u)" != 0 ] || chown proxy "$folder"
    cat >"$folder/squid.conf" <<CONF
http_port 127.0.0.1:$port accel defaultsite=localhost no-vhost
cache_peer 127.0.0.1 parent $origin 0 no-query originserver ${2-}
http_access allow all
cache deny all
access_log none
cache_log $folder/log
pid_filename $folder/pid
coredump_dir $folder
netdb_filename none
visible_hostname localhost
shutdown_lifetime 0 seconds
CONF
    squid -N -n "finding$1$$" -f "$folder/squid.conf" >"$folder/out" 2>&1 &
    local squid=$!
    pids+=("$squid")
    listening "$port"
    seen=$(curl -s --noproxy '*' -m 10 -H 'Authorization: Bearer token' "http://127.0.0.1:$port/")
    kill "$squid"
    wait "$squid" || true
}
through plain
plain=$seen
through passthru login=PASSTHRU
echo "as above: the origin saw: $plain"
echo "login=PASSTHRU: the origin saw: $seen"
[ "$plain" = none ] && [ "$seen" = 'Bearer token' ] || { echo 'no longer as described' >&2; exit 1; }
