"""What the girder source makes of servers that misbehave: no Girder needed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from isoline.config.settings import Girder
from isoline.errors import IsolineError, NotAllowed, UnknownImage, Unreadable
from isoline.geometry.grid import Box
from isoline.images.catalog import Caller, Descriptions, Found
from isoline.images.girder import GirderImages
from isoline.sources.base import Remote, Source
from tests.killable import running

pytestmark = pytest.mark.slow

ITEM = "0123456789abcdef01234567"
NAME = f"girder:archive/{ITEM}"
TOKEN = "a-girder-token"
TILES = {"levels": 3, "sizeX": 1000, "sizeY": 700, "tileWidth": 256, "tileHeight": 256} | {
    "mm_x": 0.00025,
    "mm_y": 0.0005,
    "magnification": 40,
    "dtype": "uint8",
    "bandCount": 3,
}
FILES = [{"_id": "f1", "size": 5, "created": "2024"}]


class Fake(ThreadingHTTPServer):
    """Answers as Girder does, except where a test says otherwise."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str | None]] = []
        self.private = False
        """Whether only `TOKEN` may read."""
        self.answers: dict[str, Callable[[], tuple[int, bytes]]] = {
            f"item/{ITEM}": lambda: (200, json.dumps({"_id": ITEM}).encode()),
            f"item/{ITEM}/tiles": lambda: (200, json.dumps(TILES).encode()),
            f"item/{ITEM}/files": lambda: (200, json.dumps(FILES).encode()),
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def says(self, route: str, status: int, body: Any = b"") -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers[route] = lambda: (status, content)

    def find(self, **more: Any) -> Found:
        servers = {"archive": Girder(self.url, **more)}
        finder = GirderImages(servers, Descriptions().of)
        return finder.find(NAME, Caller({"girder": TOKEN}))

    def open(self) -> Source:
        image = self.find().path
        assert isinstance(image, Remote)
        return image.open()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Fake

    def do_GET(self) -> None:  # http.server's name
        route = self.path.removeprefix("/api/v1/")
        self.server.asked.append((route, self.headers.get("Girder-Token")))
        path = route.partition("?")[0]
        if self.server.private and self.headers.get("Girder-Token") != TOKEN:
            status, body = 401, b"{}"
        elif "/tiles/zxy/" in path and path not in self.server.answers:
            column, row = map(int, path.split("/")[-2:])
            pixels = np.full((256, 256, 3), 10 * row + column, np.uint8)
            status, body = 200, b"P6\n256 256\n255\n" + pixels.tobytes()
        else:
            status, body = self.server.answers.get(path, lambda: (404, b"{}"))()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if 300 <= status < 400:
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def girder() -> Iterator[Fake]:
    server = Fake()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_three_questions_come_before_the_first_tile(girder: Fake) -> None:
    found = girder.find()
    assert isinstance(found.path, Remote)
    assert len(girder.asked) == 3
    assert {token for _, token in girder.asked} == {TOKEN}
    assert found.info.size == (1000, 700)
    assert found.info.spacing_um == (0.25, 0.5)
    girder.asked.clear()
    source = found.path.open()
    assert girder.asked == []
    pixels = source.read_level(0, Box(200, 100, 600, 300))
    assert sorted(route.partition("?")[0].split("zxy/")[1] for route, _ in girder.asked) == [
        "2/0/0", "2/0/1", "2/1/0", "2/1/1", "2/2/0", "2/2/1",
    ]  # fmt: skip
    expected = [[0, 1, 2], [10, 11, 12]]
    assert pixels[0][::199, [0, 56, 399]].tolist() == expected
    source.read_level(0, Box(210, 110, 220, 120))
    assert len(girder.asked) == 6
    source.close()


def test_the_path_is_asked_for_only_with_a_token(girder: Fake, tmp_path: Any) -> None:
    girder.find(path_mapping={"/assets": tmp_path}, token="shared")
    asked = f"isoline/item/{ITEM}/file"
    assert asked in [route for route, _ in girder.asked]
    girder.asked.clear()
    girder.find(path_mapping={"/assets": tmp_path})
    assert asked not in [route for route, _ in girder.asked]


def test_rights_are_asked_for_and_the_job_is_parked_after_a_restart(
    girder: Fake, tmp_path: Path
) -> None:
    girder.says(f"item/{ITEM}", 200, {"_id": ITEM})
    girder.private = True
    images, data = tmp_path / "images", tmp_path / "data"
    images.mkdir()
    data.mkdir()
    more = f'[engine]\nworkers = 1\nurgent_workers = 0\n[girder.archive]\nurl = "{girder.url}"\n'
    body = {"image": NAME, "model": "slow", "tile": 256, "parameters": {"seconds": 0.1}}
    with running(images, data, more=more) as server:

        def ask(method: str, path: str, token: str | None, **options: Any) -> requests.Response:
            headers = {} if token is None else {"Girder-Token": token}
            return requests.request(
                method, server.url + path, headers=headers, timeout=20, **options
            )

        assert ask("POST", "/v1/jobs", "guess", json=body).status_code == 403
        job = ask("POST", "/v1/jobs", TOKEN, json=body).json()["job"]
        where = f"/v1/jobs/{job}"
        with ask("GET", f"{where}/events", TOKEN, stream=True) as stream:
            seen = [json.loads(line) for line in islice(filter(None, stream.iter_lines()), 3)]
        server.kill()
        server.start()
        time.sleep(0.3)
        state = ask("GET", where, None).json()
        assert (state["state"], state["waits_for"]) == ("parked", "a token")
        for token in (None, "guess"):
            refused = ask("GET", f"{where}/events", token)
            assert (refused.status_code, refused.json()["code"]) == (403, "NotAllowed")
        assert ask("GET", where, None).json()["state"] == "parked"

        after = ask("GET", f"{where}/events?after={seen[-1]['seq']}", TOKEN)
        events = seen + [json.loads(line) for line in after.text.splitlines() if line]
        assert [event["seq"] for event in events] == list(range(len(events)))
        assert events[-1]["event"] == "done"
        assert events[-1]["tiles_failed"] == 0
        assert ask("GET", f"{where}/events", None).status_code == 403
        assert ask("GET", f"{where}/events", TOKEN).text.endswith(after.text[-80:])

        long = {**body, "parameters": {"seconds": 5}}
        parked = ask("POST", "/v1/jobs", TOKEN, json=long).json()["job"]
        server.kill()
        server.start()
        assert ask("DELETE", f"/v1/jobs/{parked}", None).status_code == 202
        last = ask("GET", f"/v1/jobs/{parked}/events", TOKEN).text.splitlines()[-1]
        assert json.loads(last)["event"] == "cancelled"
    written = [path.read_bytes() for path in data.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in text for text in written)


@pytest.mark.parametrize(
    ("route", "status", "body", "error", "says"),
    [
        (f"item/{ITEM}", 403, {}, NotAllowed, "403"),
        (f"item/{ITEM}", 401, {}, NotAllowed, "401"),
        (f"item/{ITEM}", 400, {"message": "Invalid item id"}, UnknownImage, "400"),
        (f"item/{ITEM}/tiles", 404, {}, UnknownImage, "404"),
        (f"item/{ITEM}", 302, {}, Unreadable, "a redirect"),
        (f"item/{ITEM}", 500, {}, Unreadable, "500"),
        (f"item/{ITEM}", 200, b"<html>", Unreadable, "did not return JSON"),
        (f"item/{ITEM}/tiles", 200, b"[" * (5 << 20), Unreadable, "more than"),
        (f"item/{ITEM}/tiles", 200, {**TILES, "dtype": "uint16"}, Unreadable, "map the path"),
        (f"item/{ITEM}/tiles", 200, {**TILES, "sizeX": "many"}, Unreadable, "description"),
        (f"item/{ITEM}/tiles", 200, {**TILES, "tileWidth": 10**6}, Unreadable, "tiles of"),
        (f"item/{ITEM}/files", 200, [{}], Unreadable, "description"),
    ],
)
def test_strange_answers_become_errors(
    girder: Fake, route: str, status: int, body: Any, error: type[IsolineError], says: str
) -> None:
    girder.says(route, status, body)
    with pytest.raises(error, match=says) as raised:
        girder.find()
    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, b"P6\n4 4\n255\nshort", "zxy"),
        (200, b"\x89PNG\r\n\x1a\n", "zxy"),
        (200, b"P6\n99999 99999\n255\n", "zxy"),
        (200, b"P6\n512 256\n255\n" + bytes(256 * 512 * 3), "more than"),
        (302, b"", "a redirect"),
        (500, b"", "500"),
    ],
)
def test_a_strange_tile_is_unreadable(girder: Fake, status: int, body: bytes, says: str) -> None:
    source = girder.open()
    girder.says(f"item/{ITEM}/tiles/zxy/2/0/0", status, body)
    with pytest.raises(Unreadable, match=says):
        source.read_level(0, Box(0, 0, 10, 10))
    source.close()


def test_nobody_there_is_said_without_the_token(girder: Fake) -> None:
    servers = {"archive": Girder("http://127.0.0.1:9")}
    finder = GirderImages(servers, Descriptions().of)
    with pytest.raises(Unreadable, match="does not respond") as raised:
        finder.find(NAME, Caller({"girder": TOKEN}))
    assert TOKEN not in str(raised.value)


def test_another_file_is_another_fingerprint(girder: Fake) -> None:
    before = girder.find().info.fingerprint
    assert girder.find().info.fingerprint == before
    girder.says(f"item/{ITEM}/files", 200, [{**FILES[0], "size": 6}])
    assert girder.find().info.fingerprint != before
