"""A part of a cluster that does nothing but answer on its port: fake_part.py PORT [crash|stubborn]."""

from __future__ import annotations

import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        """Say nothing."""


def main() -> None:
    port, manner = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    if manner == "crash":
        sys.stderr.write("no such option: --nonsense\n")
        raise SystemExit(2)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if manner == "stubborn" else lambda *_: sys.exit(0))
    sys.stdout.write(f"listening on {port}\n")
    sys.stdout.flush()
    HTTPServer(("127.0.0.1", port), Answer).serve_forever()


if __name__ == "__main__":
    main()
