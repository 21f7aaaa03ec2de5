"""The plugin as a driver of docs/conformance.md: the panel's requests, passed on as Girder does.

    isoline conformance --format dsa -- python -m tests.dsa.driver
    isoline conformance --reconnecting --format dsa -- python -m tests.dsa.driver

The panel's own modules run under Node.js; what they ask Girder for goes through the plugin's own
`server`, behind routes that stand in for Girder's.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.dsa.stack import PLUGIN, imported_alone

DRIVER = PLUGIN / "test" / "driver.mjs"

server = imported_alone("server")


class StandIn(ThreadingHTTPServer):
    """The routes of the plugin as far as they pass on what the panel asks."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, isoline: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.isoline = isoline

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api/v1"


@contextlib.contextmanager
def standing_in(isoline: Any) -> Iterator[str]:
    """Yield the address of Girder's API, behind which is `isoline`, a `Server` of the plugin."""
    with StandIn(isoline) as girder:
        threading.Thread(target=girder.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield girder.url
        finally:
            girder.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        match url.path.split("/")[4:]:
            case ["models"]:
                self._answer(self.server.isoline.models)
            case ["run", job, "events"]:
                after = int(parse_qs(url.query)["after"][0])
                self._stream(lambda: self.server.isoline.events(job, after, "token"))

    def do_POST(self) -> None:
        match self.path.split("/")[4:]:
            case ["item", _, "run"]:
                request, key = self._body(), self.headers["Idempotency-Key"]
                self._answer(lambda: {"_id": self.server.isoline.submit(request, key, "token")})
            case ["item", _, "prompt"]:
                request = self._body()
                self._stream(lambda: self.server.isoline.segment(request, "token"))
            case ["run", job, "cancel"]:
                self._answer(lambda: self.server.isoline.cancel(job))

    def do_PUT(self) -> None:
        (_, job, _) = self.path.split("/")[4:]
        point = self._body()
        self._answer(lambda: self.server.isoline.focus(job, point))

    def log_message(self, *_: object) -> None:
        pass

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, call: Callable[[], Any]) -> None:
        with self._explained():
            content = json.dumps(call()).encode()
            self._begin(200, {"Content-Length": str(len(content))})
            self.wfile.write(content)

    def _stream(self, call: Callable[[], Any]) -> None:
        with self._explained(), contextlib.closing(call()) as lines:
            self._begin(200, {"Connection": "close"})
            with contextlib.suppress(OSError):  # the panel has hung up
                for line in lines:
                    self.wfile.write(line + b"\n")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except server.ServerError as error:
            content = json.dumps({"message": str(error)}).encode()
            told = {"Retry-After": error.retry_after} if error.retry_after else {}
            self._begin(error.status, {"Content-Length": str(len(content)), **told})
            self.wfile.write(content)

    def _begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def main(mode: str) -> int:
    """Do what `mode` asks with what is on standard input: follow a job, or what the panel does."""
    command = ["node", str(DRIVER), mode]
    if mode != "follow":
        return subprocess.run(command, check=False).returncode
    assignment = json.load(sys.stdin)
    limits = assignment.get("limits", {})
    silence = {key: limits[key] for key in ("silence_seconds",) if key in limits}
    isoline = server.Server(assignment["url"], assignment.get("token", ""), **silence)
    with standing_in(isoline) as url:
        told = json.dumps({**assignment, "url": url}).encode()
        return subprocess.run(command, input=told, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
