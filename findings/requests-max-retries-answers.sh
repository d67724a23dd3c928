#!/usr/bin/env bash
# requests 2.34.2 with urllib3 2.8.0 (PyPI)
#
# Expected: HTTPAdapter(max_retries=2) is, by its documentation, for failed look-ups, connections and connection
#   time-outs alone and never repeats a request that reached the server. timeout=1 bounds the call.
# Instead: the number becomes a urllib3 Retry whose respect_retry_after_header is on. A GET that is answered with
#   429 or 503 and Retry-After has reached the server, and is repeated all the same, inside the call, after sleeping
#   for as long as the server says; timeout= does not count the sleep. Without Retry-After nothing is repeated.
#
# Seen 2026-11-30:
#   429 without Retry-After: 1 request
#   429 with Retry-After: 2: 3 requests in 4 s, timeout=1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check requests==2.34.2 urllib3==2.8.0
cat >"$work/run.py" <<'PY'
import http.server, threading, time
import requests
from requests.adapters import HTTPAdapter

class Busy(http.server.BaseHTTPRequestHandler):
    retry_after = None
    requests = 0
    def do_GET(self):
        Busy.requests += 1
        self.send_response(429)
        if Busy.retry_after:
            self.send_header("Retry-After", Busy.retry_after)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy)
threading.Thread(target=server.serve_forever, daemon=True).start()

def ask(retry_after):
    Busy.retry_after, Busy.requests = retry_after, 0
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", HTTPAdapter(max_retries=2))
    began = time.monotonic()
    answer = session.get(f"http://127.0.0.1:{server.server_port}/", timeout=1)
    return answer.status_code, Busy.requests, time.monotonic() - began

status, plain, _ = ask(None)
print(f"429 without Retry-After: {plain} request")
assert (status, plain) == (429, 1), "no longer as described"
status, repeated, took = ask("2")
print(f"429 with Retry-After: 2: {repeated} requests in {took:.0f} s, timeout=1")
assert (status, repeated) == (429, 3) and took >= 4, "no longer as described"
PY
"$work/venv/bin/python" "$work/run.py"
