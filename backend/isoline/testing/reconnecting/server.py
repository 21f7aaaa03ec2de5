"""A server that replays a recording of isoline's protocol, and fails as its case specifies."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from isoline.testing.reconnecting.cases import Break, Fault, Place, ReconnectingCase, RefusedAnswer

JOB = "5f2b8c5f2b8c5f2b8c5f2b8c"
HEARTBEAT_SECONDS = 0.25
PACE_SECONDS = 0.3
"""The pause between events in a case with focus changes, in which the client can send them."""
PATIENCE_SECONDS = 12.0
"""How long the last event is held back for the client to move the focus."""


@dataclass
class Attempt:
    """One request as it was received."""

    place: Place
    began: float
    """When it was received, by `time.monotonic` like all times here."""
    fault: Fault | None
    body: Any = None
    key: str | None = None
    address: str = ""
    """Path and query."""
    authorization: str | None = None
    after: int = -1
    is_alive: bool = False
    """Whether anything was sent before it failed."""
    told: int = 0
    """The number of events of the job that had been sent completely when it ended."""
    failed: float = math.inf
    """When its last byte was sent."""


class FaultyServer(ThreadingHTTPServer):
    """The server of one case, on its own port. A context manager, which starts and stops it."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, case: ReconnectingCase, lines: Sequence[bytes]) -> None:
        """Prepare to play `case`; `lines` are the events of the job, with their line ends."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.case = case
        self.lines = lines
        self.attempts: list[Attempt] = []
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> FaultyServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def attempt(self, place: Place) -> Attempt:
        """Record a request that has just arrived, and return it with its fault."""
        began = time.monotonic()
        with self._lock:
            earlier = [each for each in self.attempts if each.place == place]
            attempt = Attempt(place, began, self._fault(place, earlier, began))
            self.attempts.append(attempt)
        return attempt

    def _fault(self, place: Place, earlier: Sequence[Attempt], now: float) -> Fault | None:
        faults = self.case.faults(place)
        if len(earlier) < len(faults):
            return faults[len(earlier)]
        if self.case.forever == place:
            return faults[-1]
        if earlier and isinstance(first := earlier[0].fault, RefusedAnswer) and first.stands:
            return first if now < earlier[0].began + (first.retry_after or 0) else None
        return None

    def has_looked(self) -> bool:
        """Return whether the client has sent the last focus of its case."""
        wanted = [{"focus": list(look.focus)} for look in self.case.looks[-1:]]
        said = [each.body for each in self.attempts if each.place == "focus" and not each.fault]
        return wanted == said[-1:]


class _HungUp(Exception):
    """The connection is to be closed without the rest of the response."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FaultyServer

    def do_GET(self) -> None:
        path = urlsplit(self.path)
        match path.path:
            case "/v1/health":
                self._answer(200, {"status": "ready", "version": "0", "workers": []})
            case "/v1/models":
                self._answer(200, {"models": []})
            case "/v1/images":
                self._answer(200, {"images": [], "archives": []})
            case each if each == f"/v1/jobs/{JOB}":
                self._answer(200, _STATE)
            case each if each == f"/v1/jobs/{JOB}/events":
                attempt = self._attempt("events")
                attempt.after = int(parse_qs(path.query).get("after", ["-1"])[0])
                self._meet(attempt, self._stream)
            case _:
                self._answer(404, _problem(404))

    def do_POST(self) -> None:
        created = {"job": JOB, "position": 0, "events": f"/v1/jobs/{JOB}/events"}
        if self.path != "/v1/jobs":
            self._answer(404, _problem(404))
            return
        attempt = self._attempt("submit")
        attempt.key = self.headers.get("Idempotency-Key")
        attempt.body = self._body()
        self._meet(attempt, lambda attempt: self._answer_to(attempt, 201, created))

    def do_PATCH(self) -> None:
        attempt = self._attempt("focus")
        attempt.body = self._body()
        self._meet(attempt, lambda attempt: self._answer_to(attempt, 200, _STATE))

    def do_DELETE(self) -> None:
        self._answer(200, _STATE)

    def log_message(self, *_: object) -> None:
        pass

    def _attempt(self, place: Place) -> Attempt:
        attempt = self.server.attempt(place)
        attempt.address = self.path
        attempt.authorization = self.headers.get("Authorization")
        return attempt

    def _body(self) -> Any:
        try:
            return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        except ValueError:
            return None

    def _meet(self, attempt: Attempt, answer: Callable[[Attempt], None]) -> None:
        """Respond to `attempt` with its fault, or else with `answer`."""
        self.close_connection = True  # some clients retry on a reused connection by themselves
        attempt.failed = attempt.began
        match attempt.fault:
            case RefusedAnswer() as refusal:
                headers = {"Retry-After": _retry_after(refusal)} if refusal.retry_after else {}
                self._answer(refusal.status, _problem(refusal.status), headers)
                attempt.failed = time.monotonic()
            case Break("closed", None):
                pass
            case Break("silent", None):
                self.server.over.wait()
            case _:
                with suppress(_HungUp, OSError):
                    answer(attempt)

    def _answer(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        self._send_head(status, body, headers)
        self.wfile.write(json.dumps(body).encode())

    def _answer_to(self, attempt: Attempt, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        if attempt.fault is None:
            self._answer(status, body)
            return
        self._send_head(status, body)
        self.wfile.write(content[: len(content) // 2])
        attempt.failed = time.monotonic()

    def _send_head(
        self, status: int, body: object, headers: Mapping[str, str] | None = None
    ) -> None:
        kind = "application/json" if status < 400 else "application/problem+json"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(json.dumps(body).encode())))
        self.send_header("Connection", "close")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()

    # --- The stream ------------------------------------------------------------------------------

    def _stream(self, attempt: Attempt) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        case, lines = self.server.case, self.server.lines
        attempt.told = attempt.after + 1
        fault = attempt.fault if isinstance(attempt.fault, Break) else None
        last = len(lines) if fault is None or fault.events is None else fault.events
        first = attempt.told - (case.repeats if attempt.after >= 0 else 0)
        for seq in range(max(0, first), last):
            self._wait_before(seq, is_resumed=attempt.after >= 0)
            self._send(lines[seq])
            attempt.is_alive, attempt.told = True, max(attempt.told, seq + 1)
            attempt.failed = time.monotonic()
        if fault is not None:
            self._break(fault, attempt)
        self._chunk(b"")

    def _wait_before(self, seq: int, is_resumed: bool) -> None:
        """Leave the client time to move the focus, and hold back the last event until it has."""
        case = self.server.case
        if case.looks:
            self._beat(PACE_SECONDS)
        if seq == len(self.server.lines) - 1:
            self._beat(0.0 if is_resumed else case.heartbeats_seconds)
            self._beat(PATIENCE_SECONDS, self.server.has_looked)

    def _beat(self, seconds: float, is_enough: Callable[[], bool] = lambda: False) -> None:
        """Send heartbeats for `seconds`, or until `is_enough` returns true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not is_enough():
            self._send(b"\n")
            if self.server.over.wait(HEARTBEAT_SECONDS):
                raise _HungUp

    def _break(self, fault: Break, attempt: Attempt) -> None:
        rest = self.server.lines[attempt.told]
        half = rest[: rest.find("É".encode()) + 1 or len(rest) // 2]
        match fault.how:
            case "closed":
                raise _HungUp
            case "cut":
                self._send(half)
                attempt.failed = time.monotonic()
                raise _HungUp
            case "half a line":
                self._send(half)
                attempt.failed = time.monotonic()
            case "not JSON":
                self._send(b"<html><body>502 Bad Gateway</body></html>\n")
                attempt.failed = time.monotonic()
                for line in self.server.lines[attempt.told :]:
                    self._send(line)
            case "silent":
                self.server.over.wait()

    def _send(self, data: bytes) -> None:
        size = self.server.case.piece_bytes or len(data)
        for start in range(0, len(data), size):
            self._chunk(data[start : start + size])

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))


_STATE = {"job": JOB, "state": "running", "tiles_done": 1, "tiles": 4}


def _problem(status: int) -> dict[str, object]:
    code = {401: "NotAuthenticated", 404: "UnknownJob", 422: "BadParameter", 429: "Busy"}.get(
        status, "Unavailable"
    )
    return {
        "type": f"urn:isoline:problem:{code}",
        "title": code,
        "status": status,
        "detail": f"this case of the conformance suite responds with {status}",
        "code": code,
        "remedy": "follow the protocol",
    }


def _retry_after(refusal: RefusedAnswer) -> str:
    assert refusal.retry_after is not None
    if not refusal.is_date:
        return str(refusal.retry_after)
    return formatdate(math.ceil(time.time() + refusal.retry_after), usegmt=True)
