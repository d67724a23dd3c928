#!/usr/bin/env bash
# requests 2.34.2 with urllib3 2.8.0 (PyPI) on http.client of CPython 3.11.7; httpx 0.28.1 to compare
#
# Expected: interim answers (1xx; RFC 9110, 15.2) are read over, as every HTTP/1.1 client must be able to do, and the
#   caller gets the final answer that follows.
# Instead: http.client reads over 100 alone. A 103 (Early Hints), or a 102 that a server sends while it is busy, is
#   handed to the caller as the answer, with an empty body; the real one stays unread. raise_for_status() is content.
#   httpx returns the final answer.
#
# Seen 2026-11-30:
#   requests after 100: 200 'done'
#   requests after 103: 103 ''
#   httpx after 103: 200 'done'
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check requests==2.34.2 urllib3==2.8.0 httpx==0.28.1
cat >"$work/run.py" <<'PY'
import platform, socket, threading
import httpx, requests

def server(interim):
    listener = socket.create_server(("127.0.0.1", 0))
    def answer():
        peer, _ = listener.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(interim + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone")
    threading.Thread(target=answer, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/"

session = requests.Session()
session.trust_env = False
print("CPython", platform.python_version())
seen = []
for name, interim, get in [
    ("requests after 100", b"HTTP/1.1 100 Continue\r\n\r\n", session.get),
    ("requests after 103", b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n", session.get),
    ("httpx after 103", b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n", httpx.Client(trust_env=False).get),
]:
    answer = get(server(interim), timeout=5)
    answer.raise_for_status()
    seen.append((answer.status_code, answer.text))
    print(f"{name}: {answer.status_code} {answer.text!r}")
assert seen == [(200, "done"), (103, ""), (200, "done")], "no longer as described"
PY
"$work/venv/bin/python" "$work/run.py"
