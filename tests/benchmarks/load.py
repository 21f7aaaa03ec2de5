"""Fifty users at once: clicks, regions, lists, following and cancelling.

    python -m tests.benchmarks.load [SECONDS] [USERS]

No answer may be a 5xx but the announced 503, `/v1/health` answers within 50 ms at p99, and when all
have left there are as many threads, processes and open files as before, and little more memory.
A server that does nothing is asked beside it: what it needs, the machine takes from both.
"""

from __future__ import annotations

import multiprocessing
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeAlias

import numpy as np
import requests
from numpy.typing import NDArray

from isoline import client as api
from tests.benchmarks.measuring import describe_machine
from tests.killable import Server, running
from tests.slides import Shapes, disks

ASKED = {
    "image": "slides/disks.tif",
    "model": "threshold",
    # not the ground between the shapes, which every region would follow over the whole slide
    "parameters": {"below": 180},
}
ENGINE = "[engine]\nworkers = 2\nseen_mib = 64\n"
"""What clicks keep is bounded; here so low that it cannot be taken for a leak."""
LONG = 4
"""So many of the shapes are far longer than what anybody points at; they come first."""
SETTLE_SECONDS = 8.0

Places: TypeAlias = NDArray[np.int64]
"""(n, 2) pixels of objects, as y, x."""


@dataclass
class Tally:
    """What the users heard."""

    statuses: Counter[int] = field(default_factory=Counter)
    did: Counter[str] = field(default_factory=Counter)
    health: list[float] = field(default_factory=list)
    """Seconds of each call."""
    idle: list[float] = field(default_factory=list)
    """Of a server that has nothing else to do, at the same times."""
    clicks: list[float] = field(default_factory=list)
    unannounced: list[str] = field(default_factory=list)
    """5xx answers without Retry-After, and connections that broke."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, answer: requests.Response) -> requests.Response:
        with self._lock:
            self.statuses[answer.status_code] += 1
            if answer.status_code >= 500 and "Retry-After" not in answer.headers:
                self.unannounced.append(f"{answer.status_code} {answer.url}")
        return answer


@dataclass(frozen=True)
class Held:
    """What the server's processes hold."""

    processes: int
    threads: int
    files: int
    mib: float

    @classmethod
    def by(cls, server: Server) -> Held:
        family = [server.main, *server.main.children(recursive=True)]
        return cls(
            len(family),
            server.main.num_threads(),
            server.main.num_fds(),
            sum(process.memory_info().rss for process in family) / 2**20,
        )


class User(threading.Thread):
    """Does one thing after the other until `until`."""

    def __init__(
        self, server: Server, objects: Places, number: int, until: float, tally: Tally
    ) -> None:
        super().__init__(daemon=True)
        self._url = server.url
        self._objects = objects
        self._random = random.Random(number)
        self._until = until
        self._tally = tally
        self._session = requests.Session()

    def run(self) -> None:
        habits = [self._click] * 5 + [self._region] * 2 + [self._list] * 3 + [self._cancel] * 2
        while time.monotonic() < self._until:
            habit = self._random.choice(habits)
            try:
                habit()
            except requests.RequestException as error:
                self._tally.unannounced.append(repr(error))
            self._tally.did[habit.__name__.strip("_")] += 1
            time.sleep(self._random.uniform(0.2, 1.5))
        self._session.close()

    def _ask(self, method: str, path: str, **options: object) -> requests.Response:
        answer = self._session.request(method, self._url + path, timeout=60, **options)  # type: ignore[arg-type]
        return self._tally.note(answer)

    def _square(self, side: int) -> list[int]:
        x, y = self._random.randrange(5000), self._random.randrange(4000)
        return [x, y, x + side, y + side]

    def _submit(self, region: list[int], tile: int) -> str | None:
        body = {**ASKED, "region": region, "tile": tile}
        answer = self._ask("POST", "/v1/jobs", json=body)
        return answer.json()["job"] if answer.status_code == 201 else None

    def _click(self) -> None:
        y, x = self._random.choice(self._objects)
        prompts = [api.point(int(x) + 0.5, int(y) + 0.5)]
        body = {"image": ASKED["image"], "model": "click", "prompts": prompts}
        began = time.monotonic()
        answer = self._ask("POST", "/v1/segment", json=body)
        if answer.status_code == 200:
            self._tally.clicks.append(time.monotonic() - began)

    def _region(self) -> None:
        job = self._submit(self._square(900), 256)
        if job is None:
            return
        first = self._ask("GET", f"/v1/jobs/{job}/events")
        if first.status_code == 200:
            self._ask("GET", f"/v1/jobs/{job}/events?after=3")

    def _list(self) -> None:
        for path in ("/v1/jobs", "/v1/images", "/v1/models"):
            self._ask("GET", path)

    def _cancel(self) -> None:
        job = self._submit([0, 0, 6000, 5000], 256)
        if job is None:
            return
        time.sleep(self._random.uniform(0, 0.5))
        self._ask("PATCH", f"/v1/jobs/{job}", json={"focus": [3000, 2500]})
        self._ask("DELETE", f"/v1/jobs/{job}")
        # some leave in the middle of a stream
        with self._ask("GET", f"/v1/jobs/{job}/events", stream=True) as answer:
            next(answer.iter_content(100), None)


def load(server: Server, shapes: Shapes, seconds: float, users: int) -> Tally:
    """Let `users` work on `shapes` for `seconds`; ask for health all the while."""
    tally = Tally()
    objects = np.argwhere(shapes.labels > LONG)
    # processes of their own: they shall not wait for their turn among the users
    context = multiprocessing.get_context("spawn")
    listening, says_so = context.Pipe(duplex=False)
    idle = context.Process(target=_do_nothing, args=(says_so,), daemon=True)
    idle.start()
    says_so.close()  # its end is then the child's alone: one that dies is heard of at once
    urls = (f"{server.url}/v1/health", f"http://127.0.0.1:{listening.recv()}/")
    with context.Pool(1) as pool:
        until = time.monotonic() + seconds
        crowd = [User(server, objects, number, until, tally) for number in range(users)]
        for user in crowd:
            user.start()
        tally.health, tally.idle = pool.apply(_ask, (urls, seconds))
    idle.terminate()
    idle.join()
    for user in crowd:
        user.join(90)
    return tally


def _ask(urls: tuple[str, ...], seconds: float) -> tuple[list[float], ...]:
    """Return how long each answer took, by URL; they are asked in turn."""
    taken: tuple[list[float], ...] = tuple([] for _ in urls)
    until = time.monotonic() + seconds
    with requests.Session() as session:
        while time.monotonic() < until:
            for url, times in zip(urls, taken, strict=True):
                began = time.perf_counter()
                session.get(url, timeout=30).raise_for_status()
                times.append(time.perf_counter() - began)
            time.sleep(0.05)
    return taken


class _Nothing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def _do_nothing(listening: Connection) -> None:
    """Serve at a free port, which is said to `listening` once it accepts."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Nothing) as server:
        listening.send(server.server_port)
        server.serve_forever()


def settle(server: Server) -> Held:
    """Return what the server holds once nothing runs any more."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        jobs = requests.get(f"{server.url}/v1/jobs", timeout=30).json()["jobs"]
        if not any(job["state"] in ("queued", "running") for job in jobs):
            break
        time.sleep(0.2)
    time.sleep(SETTLE_SECONDS)
    return Held.by(server)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    users = int(sys.argv[2]) if len(sys.argv) > 2 else 50
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        images, data = Path(folder) / "images", Path(folder) / "data"
        images.mkdir()
        data.mkdir()
        shapes = disks(images / "disks.tif")
        with running(images, data, more=ENGINE) as server:
            load(server, shapes, 10, users)  # threads that are kept, models that are loaded
            before = settle(server)
            tally = load(server, shapes, seconds, users)
            after = settle(server)
    print(f"\n{users} users for {seconds:g} s: {dict(tally.did)}")
    print(f"  answers by status    {dict(sorted(tally.statuses.items()))}")
    print(f"  unannounced 5xx      {len(tally.unannounced)} {tally.unannounced[:3]}")
    for name, times in (("/v1/health", tally.health), ("a server that idles", tally.idle)):
        p99 = statistics.quantiles(times, n=100)[98]
        print(f"  {name:20} median {statistics.median(times) * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms")
    print(f"  clicks               median {statistics.median(tally.clicks) * 1e3:.0f} ms")
    for name in ("processes", "threads", "files", "mib"):
        print(f"  {name:20} {getattr(before, name):.0f} before, {getattr(after, name):.0f} after")


if __name__ == "__main__":
    main()
