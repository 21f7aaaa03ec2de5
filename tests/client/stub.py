"""A server made of scripts: what it answers to each call, and what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

BEATS: list[bytes | float] = [b"\n", 0.05] * 200
"""Heartbeats, for a `stream` with nothing to say."""


class Call(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: Any


class HungUp(Exception):
    """The server closes the connection without ending its answer."""


class Server:
    """Answers each call by the next script for its path; the last one stays."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.scripts: dict[str, list[Callable[[Handler], None]]] = {}
        self.hung_up = threading.Event()

        class Bound(Handler):
            server_state = self

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/"

    def scripts_for(self, path: str) -> list[Callable[[Handler], None]]:
        """Return those for `path`, or for the nearest folder above it."""
        above = [key for key in self.scripts if f"{path}/".startswith(f"{key}/")]
        return self.scripts[max(above, key=len)]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: Server
    call: Call

    def handle_call(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body: Any = self.rfile.read(length) if length else None
        if length and self.headers.get("Content-Type") == "application/json":
            body = json.loads(body)
        self.call = Call(self.command, self.path, dict(self.headers), body)
        self.server_state.calls.append(self.call)
        scripts = self.server_state.scripts_for(self.path.split("?")[0])
        try:
            (scripts.pop(0) if len(scripts) > 1 else scripts[0])(self)
        except (HungUp, OSError):
            self.server_state.hung_up.set()
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_call  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()


def answer(value: object, status: int = 200, **headers: str) -> Callable[[Handler], None]:
    """Answer with bytes, or with JSON; headers have _ for -."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()

    def script(handler: Handler) -> None:
        handler.send_response(status)
        for name, text in headers.items():
            handler.send_header(name.replace("_", "-"), text)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return script


def stream(*chunks: bytes | float, cut: bool = False) -> Callable[[Handler], None]:
    """Send chunks, pause where a number stands, and end well or be cut off."""

    def script(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for chunk in chunks:
            if isinstance(chunk, bytes):
                handler.chunk(chunk)
            else:
                time.sleep(chunk)
        if cut:
            raise HungUp
        handler.chunk(b"")

    return script
