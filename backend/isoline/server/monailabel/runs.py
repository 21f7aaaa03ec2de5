"""Running a request and waiting for it, since MONAI Label's clients expect a single response."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from isoline.config.settings import Settings
from isoline.domain import mask_rle
from isoline.domain.batch import Batch
from isoline.domain.events import Cancelled, Contours, Failed, Mask, Objects, Started
from isoline.domain.request import SegmentRequest
from isoline.errors import Busy, Conflict, restored
from isoline.images.catalog import Found
from isoline.jobs.queue import Jobs
from isoline.pipeline.kinds import Plan
from isoline.pipeline.planner import Planner
from isoline.protocol import requests
from isoline.server.audit import Audit

LOOK_SECONDS = 0.5
"""How often to check whether the caller is still connected."""


@dataclass(frozen=True)
class FinishedRun:
    """The results of one job."""

    started: Started
    found: tuple[Objects, ...]
    """Final results only, in the order in which they arrived."""
    seconds: float
    labels: NDArray[np.uint8] | None = None
    """(k, j, i) labels in a volume."""

    @classmethod
    def together(cls, runs: Sequence[FinishedRun]) -> FinishedRun:
        """Return several runs on one plane, merged into one."""
        found = tuple(objects for run in runs for objects in run.found)
        return cls(runs[0].started, found, sum(run.seconds for run in runs))


class Runner:
    """Runs requests as jobs on this server and waits for them."""

    def __init__(
        self,
        jobs: Jobs,
        planner: Planner,
        settings: Settings,
        audit: Audit,
    ) -> None:
        """Allow at most `monailabel.waiting` callers to wait, since each of them occupies a
        thread."""
        self._jobs = jobs
        self._planner = planner
        self._audit = audit
        self._seats = threading.BoundedSemaphore(settings.monailabel.waiting)

    @contextlib.contextmanager
    def seat(self) -> Iterator[None]:
        """Reserve a waiting caller's place for the duration of a block. Raises Busy if none is
        free."""
        if not self._seats.acquire(blocking=False):
            raise Busy("too many callers are waiting for a response", "try again in a few seconds")
        try:
            yield
        finally:
            self._seats.release()

    def run(
        self, asked: SegmentRequest, image: Found, owner: str, is_gone: Callable[[], bool]
    ) -> FinishedRun:
        """Run the request `asked` of `owner` on `image`; cancel it once `is_gone` returns True.

        Raises what `Planner.plan` raises, Busy if the queue is full, the error of a job that fails,
        and Conflict if it is cancelled.
        """
        began = time.monotonic()
        plan = self._planner.plan_on(image, asked)
        volume, scope = plan.started.volume, plan.started.scope
        job, batches, stop = self._begin(asked, plan, owner)
        self._audit.note(owner, "run", job, image=scope.image, model=scope.model)
        labels = None if volume is None else np.zeros(volume.grid.shape, np.uint8)
        found: list[Objects] = []
        started, looked = plan.started, began
        for batch in batches:
            for event in batch.events if batch is not None else ():
                if isinstance(event, Started):
                    started = event
                elif isinstance(event, Contours) and not event.provisional:
                    found.append(event.objects)
                elif isinstance(event, Mask) and not event.provisional and labels is not None:
                    mask_rle.draw(event, labels)
                elif isinstance(event, Failed):
                    raise restored(event.code, event.message, event.remedy)
                elif isinstance(event, Cancelled):
                    raise Conflict("the job was cancelled", "send the request again")
            if batch is None and self._jobs.closing:
                raise Busy("the server is shutting down", "try again in a minute")
            if time.monotonic() - looked >= LOOK_SECONDS:
                looked = time.monotonic()
                if is_gone():
                    stop()
        return FinishedRun(started, tuple(found), time.monotonic() - began, labels)

    def _begin(
        self, asked: SegmentRequest, plan: Plan, owner: str
    ) -> tuple[str, Iterator[Batch | None], Callable[[], None]]:
        """Return the id, the batches as they arrive, and a function that stops them."""
        if plan.transient:
            answer = self._jobs.answer(plan, owner)
            return answer.id, answer.follow(LOOK_SECONDS), answer.stop
        body = orjson.dumps(requests.request_json(asked))
        job = self._jobs.submit(body, plan, owner=owner, lasting=False)
        return job.id, job.follow(-1, LOOK_SECONDS), lambda: self._jobs.cancel(job)


def hung_up(environ: Mapping[str, Any]) -> bool:
    """Return whether the caller of a WSGI request has closed the connection."""
    if is_disconnected := environ.get("waitress.client_disconnected"):
        return bool(is_disconnected())
    connection = environ.get("gunicorn.socket")
    if not isinstance(connection, socket.socket):
        return False
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    except (OSError, ValueError):  # an encrypted connection cannot be peeked at
        return False
