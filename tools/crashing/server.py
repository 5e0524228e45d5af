"""A web server on this machine that sends one file slowly."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECES = 40


class SlowServer(ThreadingHTTPServer):
    """Answers every request with ``content``, over ``seconds``, and counts the requests."""

    daemon_threads = True

    def __init__(self, content: bytes, seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.seconds = content, seconds
        self.requests = 0
        self.sending = threading.Event()

    @property
    def url(self) -> str:
        """What the file's name is appended to."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is what this server is for."""


class _Handler(BaseHTTPRequestHandler):
    server: SlowServer

    def do_GET(self) -> None:
        server = self.server
        server.requests += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(server.content)))
        self.end_headers()
        step = -(-len(server.content) // PIECES)
        server.sending.set()
        try:
            for start in range(0, len(server.content), step):
                self.wfile.write(server.content[start : start + step])
                time.sleep(server.seconds / PIECES)
        finally:
            server.sending.clear()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve(content: bytes, seconds: float) -> Iterator[SlowServer]:
    """A running server; it ends with the block."""
    with SlowServer(content, seconds) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
