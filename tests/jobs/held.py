"""Jobs without a server: a small picture, and an engine that goes on when it is told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from isoline.config.settings import Limits
from isoline.domain.request import SegmentRequest
from isoline.engines.engine import Agenda
from isoline.geometry.region import Region
from isoline.images.catalog import Images
from isoline.inference.task import Result, Task
from isoline.jobs.job import Job, State
from isoline.jobs.queue import Jobs
from isoline.pipeline.kinds import Plan
from isoline.pipeline.tiled import TiledPlan
from tests.planning import tiled_plan
from tests.running import SerialEngine

SIZE = (300, 200)
SPOTS = 12
"""How many dark rectangles the picture has, each in a tile of 64 pixels of its own."""


def picture(path: Path, grey: int = 40) -> Path:
    """Write a bright picture with `SPOTS` dark rectangles."""
    pixels = np.full((SIZE[1], SIZE[0], 3), 230, np.uint8)
    for k in range(SPOTS):
        x, y = 64 * (k % 4) + 10, 64 * (k // 4) + 5
        pixels[y : y + 20 + k, x : x + 31] = grey
    Image.fromarray(pixels).save(path)
    return path


def planned(path: Path, region: Region | None = None) -> TiledPlan:
    """Return a request for the dark parts of a picture, in tiles of 64 pixels."""
    request = SegmentRequest(path.name, "threshold", region, tile=64, parameters={"below": 100})
    return tiled_plan(request, Images.of_file(path))


class HeldEngine(SerialEngine):
    """Holds every job until it may go on, gives so many results of it, and holds it again."""

    def __init__(self, weights: Path, results: int | None = None) -> None:
        super().__init__(weights)
        self.go_on = threading.Semaphore(0)
        self._results = results
        self._over = threading.Event()

    def run(self, task: Task, agenda: Agenda) -> Iterator[Result]:
        while not self._gives_up(agenda) and not self.go_on.acquire(timeout=0.005):
            pass
        for number, result in enumerate(super().run(task, agenda)):
            while number == self._results and not self._gives_up(agenda):
                time.sleep(0.005)
            if self._gives_up(agenda):
                return
            yield result

    def _gives_up(self, agenda: Agenda) -> bool:
        return agenda.cancelled or self._over.is_set()

    def let_go(self) -> None:
        """Hold nobody any more and give nothing."""
        self._over.set()


class Office:
    """The jobs of one data directory, as a server holds them, opened again as after a restart."""

    def __init__(self, folder: Path, plan: Plan, limits: Limits, engine: SerialEngine):
        self.folder = folder
        self.plan = plan
        self.limits = limits
        self.engine = engine
        self.asked: list[bytes] = []
        """Requests that were prepared anew, after a restart."""
        self.jobs = self._open()

    def _open(self) -> Jobs:
        return Jobs(self.folder / "jobs", self.engine, self.limits, self._prepare)

    def _prepare(self, request: bytes) -> Plan:
        self.asked.append(request)
        return self.plan

    def submit(self, owner: str = "", *, lasting: bool = True, parks: bool = False) -> Job:
        return self.jobs.submit(
            b'{"of":"%b"}' % owner.encode(),
            self.plan,
            owner=owner,
            lasting=lasting,
            parks=parks,
        )

    def close(self) -> None:
        self.jobs.wind_down()
        if isinstance(self.engine, HeldEngine):
            self.engine.let_go()
        self.jobs.close()

    def restart(self, engine: SerialEngine | None = None) -> None:
        self.close()
        self.engine = engine or HeldEngine(self.folder)
        self.jobs = self._open()

    def again(self, job: Job) -> Job:
        """Return `job` as the server knows it after a restart."""
        return self.jobs.get(job.id)


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


def until_state(job: Job, state: State) -> None:
    until(lambda: job.state is state)
