"""REST APIs that answer from a dictionary, on a real port."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@contextmanager
def serving(answers: dict[str, Any]) -> Iterator[str]:
    """Answer `GET path` with what stands under the path, 404 where nothing does; yield the URL."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer."""
            path = unquote(urlsplit(self.path).path)
            body = json.dumps(answers.get(path, {"message": f"no {path}"})).encode()
            self.send_response(200 if path in answers else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
