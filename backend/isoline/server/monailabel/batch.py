"""Batch inference: one model on the images of the datastore, one after the other."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from isoline.errors import IsolineError

log = logging.getLogger(__name__)

_REMEMBERED = 20

Infer = Callable[[str, Callable[[], bool]], dict[str, object]]
"""Runs the model on an image, given by its id, and stores the label; the callable tells it to
stop."""


@dataclass
class Task:
    """One run over many images, as reported to clients."""

    owner: str
    request: Mapping[str, object]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "SUBMITTED"
    start_ts: str = field(default_factory=lambda: _now())
    end_ts: str = ""
    details: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    result: dict[str, object] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event, repr=False)

    def stop(self) -> None:
        """Stop after the current image."""
        self.status = "STOPPED"
        self.stopped.set()

    def json(self) -> dict[str, object]:
        return {
            "id": self.id,
            "status": self.status,
            "request": self.request,
            "start_ts": self.start_ts,
            "end_ts": self.end_ts,
            "details": list(self.details),
        }


class BatchInference:
    """Runs at most one task at a time and remembers the last few."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: deque[Task] = deque(maxlen=_REMEMBERED)
        self._running: Task | None = None

    @property
    def tasks(self) -> list[Task]:
        """The remembered tasks, oldest first."""
        with self._lock:
            return list(self._tasks)

    @property
    def running(self) -> Task | None:
        return self._running

    def start(
        self,
        owner: str,
        request: Mapping[str, object],
        images: list[str],
        infer: Infer,
        *,
        wait: bool,
    ) -> Task | None:
        """Start a task, or return None while another is running; with `wait`, wait until it
        ends."""
        with self._lock:
            if self._running is not None:
                return None
            task = self._running = Task(owner, request)
            self._tasks.append(task)
        thread = threading.Thread(
            target=self._run, args=(task, images, infer), name=f"batch-{task.id}", daemon=True
        )
        thread.start()
        if wait:
            thread.join()
        return task

    def _run(self, task: Task, images: list[str], infer: Infer) -> None:
        task.status = "RUNNING"
        failed = 0
        try:
            for done, image in enumerate(images):
                if task.stopped.is_set():
                    break
                try:
                    task.result[image] = infer(image, task.stopped.is_set)
                    task.details.append(f"{image}: {done + 1} / {len(images)}")
                except IsolineError as error:
                    failed += 1
                    task.result[image] = {}
                    task.details.append(f"{image}: {error}")
        except Exception as error:
            log.exception("batch inference %s failed", task.id)
            task.details.append(f"{type(error).__name__}: {error}")
            failed += 1
        finally:
            task.end_ts = _now()
            ended = "ERROR" if failed else "DONE"
            task.status = "STOPPED" if task.stopped.is_set() else ended
            with self._lock:
                self._running = None


def _now() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")
