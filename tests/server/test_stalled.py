"""Callers that stop reading or do not hang up: they hold up nobody, and lose their place."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from isoline.client import Client, Options
from tests.serving import serving
from tests.stalled import Stalled, noise

pytestmark = pytest.mark.slow

STALLED_SECONDS = 4.0
MORE = f"[limits]\nstreams = 1\nstalled_seconds = {STALLED_SECONDS}\n[engine]\nworkers = 2\n"
NOISY: Options = {"parameters": {"below": 128}, "tile": 512}
BUFFERED = 24 << 20
"""More than a connection and waitress hold between them."""


@dataclass(frozen=True)
class Finished:
    """A job that has much to say, and where it is kept."""

    images: Path
    data: Path
    job: str
    numbers: list[int]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    images, data = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("data")
    noise(images / "noise.png", 1100)
    with serving(images, data, more=MORE) as url:
        job = Client(url).submit("slides/noise.png", "threshold", **NOISY)
        numbers = [event.seq for event in job.events()]
        with requests.get(f"{url}/v1/jobs/{job.id}/events", timeout=60, stream=True) as stream:
            size = sum(map(len, stream.iter_content(1 << 20)))
    assert size > BUFFERED
    return Finished(images, data, job.id, numbers)


@pytest.fixture(scope="module", params=["gunicorn", "waitress"])
def url(finished: Finished, request: pytest.FixtureRequest) -> Iterator[str]:
    with serving(finished.images, finished.data, kind=request.param, more=MORE) as url:
        yield url


def test_who_stops_reading_loses_the_place_and_no_event(url: str, finished: Finished) -> None:
    events = f"{url}/v1/jobs/{finished.job}/events"
    with Stalled(_port(url), finished.job) as stalled:
        time.sleep(0.5)
        assert _status(events) == 503
        began = time.monotonic()
        while _status(events) == 503:
            assert time.monotonic() - began < 30, "the only place is still taken"
            time.sleep(0.1)
        heard = [event["seq"] for event in stalled.read_on()]
    assert heard == finished.numbers[: len(heard)]
    assert len(heard) < len(finished.numbers)
    job = Client(url).job(finished.job)
    assert heard + [event.seq for event in job.events(heard[-1])] == finished.numbers


def test_who_reads_slowly_hears_everything(url: str, finished: Finished) -> None:
    began, size = time.monotonic(), 0
    with requests.get(f"{url}/v1/jobs/{finished.job}/events", timeout=60, stream=True) as stream:
        for piece in stream.iter_content(4 << 20):
            size += len(piece)
            # some pieces are read before the kernel's buffers let the server send again
            time.sleep(STALLED_SECONDS / 8)
    assert time.monotonic() - began > STALLED_SECONDS
    assert size > BUFFERED


def test_who_does_not_hang_up_keeps_nobody_waiting(url: str) -> None:
    with ExitStack() as kept:
        for _ in range(5):
            connection = kept.enter_context(socket.create_connection(("127.0.0.1", _port(url))))
            connection.sendall(b"GET /v1/health HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1")
        began = time.monotonic()
        assert _status(f"{url}/v1/health") == 200
        assert time.monotonic() - began < 5  # gunicorn waits 2 s for each, one after the other


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _status(url: str) -> int:
    with requests.get(url, timeout=30, stream=True) as answer:
        return answer.status_code
