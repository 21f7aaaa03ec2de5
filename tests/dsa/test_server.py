"""What the plugin passes on between the panel and the isoline server: no Girder needed."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from isoline_client import ClientError
from tests.dsa.stack import imported_alone
from tests.serving import free_port

plugin = imported_alone("server")

PROBLEM = {"code": "Busy", "detail": "the queue is full", "remedy": "come back later"}


@dataclass
class Answer:
    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Isoline(ThreadingHTTPServer):
    """Answers everything with `answer` and keeps what was asked."""

    daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.requests: list[Request] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Isoline

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = dict(self.headers)
        self.server.requests.append(Request(self.command, self.path, headers, body))
        answer = self.server.answer
        self.close_connection = True
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def do_GET(self) -> None:
        self._any()

    def do_POST(self) -> None:
        self._any()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def answering(
    status: int = 200, body: object = b"{}", headers: Mapping[str, str] | None = None
) -> Iterator[Isoline]:
    said = body if isinstance(body, bytes) else json.dumps(body).encode()
    with Isoline(Answer(status, said, headers or {})) as isoline:
        threading.Thread(target=isoline.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield isoline
        finally:
            isoline.shutdown()


def refusal(call: Callable[[], Any]) -> Any:
    """Return the ServerError that `call` raises."""
    with pytest.raises(plugin.ServerError) as raised:
        call()
    return raised.value


def test_a_submission_carries_the_key_of_the_panel_and_the_token_of_its_user() -> None:
    with answering(201, {"job": "j", "position": 0}) as isoline:
        server = plugin.Server(isoline.url, "shared")
        assert server.submit({"model": "nuclei"}, "key-1", "of the user") == "j"
    (asked,) = isoline.requests
    assert (asked.method, asked.path) == ("POST", "/v1/jobs")
    assert json.loads(asked.body) == {"model": "nuclei"}
    assert asked.headers["Idempotency-Key"] == "key-1"
    assert asked.headers["Girder-Token"] == "of the user"
    assert asked.headers["Authorization"] == "Bearer shared"


@pytest.mark.parametrize(
    ("status", "body", "told", "says"),
    [
        *((status, PROBLEM, status, "Isoline: the queue is full") for status in (404, 422, 429)),
        *((status, PROBLEM, status, "come back later") for status in (502, 503, 504)),
        # it is Girder that was refused, not the user
        *((status, PROBLEM, 500, "Isoline: the queue is full") for status in (401, 403)),
        *((status, b"<html>", status, "does not respond") for status in (502, 503, 504)),
        *((status, b"<html>", 500, "is not an isoline server") for status in (200, 302, 401, 404)),
    ],
)
def test_the_panel_tries_again_where_that_may_help(
    status: int, body: object, told: int, says: str
) -> None:
    with answering(status, body) as isoline:
        server = plugin.Server(isoline.url, "")
        error = refusal(server.models)
    assert error.status == told
    assert says in str(error)
    assert len(isoline.requests) == 1, "that is left to the panel"


def test_a_server_that_is_down_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    error = refusal(plugin.Server(url, "").models)
    assert error.status == plugin.NO_ANSWER == 502
    assert f"{url} does not respond" in str(error)
    assert error.retry_after == ""


def test_the_panel_hears_how_long_to_wait() -> None:
    in_seconds = answering(429, PROBLEM, {"Retry-After": "3"})
    moment = time.time() + 60
    on_a_date = answering(503, PROBLEM, {"Retry-After": formatdate(moment, usegmt=True)})
    with in_seconds as isoline:
        server = plugin.Server(isoline.url, "")
        assert refusal(lambda: server.submit({}, "k", "t")).retry_after == "3"
    with on_a_date as isoline:
        server = plugin.Server(isoline.url, "")
        told = refusal(lambda: server.events("j", -1, "t")).retry_after
    assert parsedate_to_datetime(told).timestamp() == int(moment)


def test_tokens_are_not_sent_to_where_the_server_redirects() -> None:
    with answering() as elsewhere:
        headers = {"Location": f"{elsewhere.url}/v1/jobs/j/events"}
        with answering(307, b"", headers) as isoline:
            error = refusal(lambda: plugin.Server(isoline.url, "s").events("j", -1, "of the user"))
    assert "is not an isoline server (307)" in str(error)
    assert elsewhere.requests == []


def test_whole_lines_are_passed_on_and_heartbeats_with_them() -> None:
    with answering(body=b'{"seq": 0}\n\n{"seq": 1}\n{"seq": 2, "ev') as isoline:
        lines = plugin.Server(isoline.url, "").events("j", -1, "t")
        assert [*lines] == [b'{"seq": 0}', b"", b'{"seq": 1}']
    (asked,) = isoline.requests
    assert asked.path == "/v1/jobs/j/events?after=-1&format=dsa"


def test_a_stream_that_breaks_off_just_ends() -> None:
    """The panel asks again from where it is."""
    headers = {"Transfer-Encoding": "chunked"}
    with answering(body=b'b\r\n{"seq": 0}\n\r\n9\r\n{"se', headers=headers) as isoline:
        assert [*plugin.Server(isoline.url, "").segment({}, "t")] == [b'{"seq": 0}']


def test_a_stream_without_a_line_is_none() -> None:
    with answering(body=b"") as isoline:
        assert [*plugin.Server(isoline.url, "").events("j", -1, "t")] == []


def test_who_closes_the_lines_hangs_up() -> None:
    closed = []

    def lines() -> Iterator[bytes]:
        try:
            yield b"1"
            yield b"2"
        finally:
            closed.append(True)

    passed_on = plugin._to_their_end([], lines())
    assert next(passed_on) == b"1"
    passed_on.close()
    assert closed == [True]


def test_what_ends_a_run_is_told_in_words_for_users() -> None:
    gone = ClientError(404, "UnknownJob", "no such job", "")
    lost = ClientError(0, "Lost", "the events broke off after number 3: no connection", "events()")
    assert str(plugin.explained(gone, "http://i")) == "Isoline: no such job"
    assert str(plugin.explained(lost, "http://i")).startswith(
        "The isoline server at http://i does not respond."
    )
