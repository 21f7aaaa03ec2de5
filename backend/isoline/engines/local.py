"""Tiles on this machine: worker processes, each with its own open images and loaded models.

One dispatcher thread feeds all workers. Runs take turns tile by tile, so that a small region never
waits for a whole slide. A worker holds one tile and, while plenty are left, the next one, so that
it never waits for the dispatcher.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from isoline.engines.base import Agenda, Engine
from isoline.errors import Broken, IsolineError
from isoline.models.base import Voxels
from isoline.plan import Tile
from isoline.work import Computed, Masked, Survey, Task, TileFailed

if TYPE_CHECKING:
    from isoline.workbench import Workbench

log = logging.getLogger(__name__)

# --- What the two sides of a pipe say to each other --------------------------------------------


@dataclass(frozen=True)
class _Begin:
    """Orders of this run are about to follow."""

    run: int
    task: Task


@dataclass(frozen=True)
class _Do:
    """Compute one tile, or survey the image where there is none."""

    run: int
    tile: Tile | None


@dataclass(frozen=True)
class _Forget:
    """The run has ended: drop its task and the orders of it that wait."""

    run: int


@dataclass(frozen=True)
class _Refusal:
    """What a worker raised, in words for the user."""

    error: IsolineError


@dataclass(frozen=True)
class _Ready:
    """The worker has imported and compiled what it needs."""


@dataclass(frozen=True)
class _Answer:
    order: _Do
    result: Computed | Survey | Masked | _Refusal


@dataclass(frozen=True)
class _Part:
    """What was found on the way to an answer."""

    order: _Do
    result: Masked


# --- The worker's side -------------------------------------------------------------------------


def _serve(pipe: Connection, weights: Path, device: str) -> None:
    """Answer orders until the pipe closes: the main function of a worker process."""
    import signal

    import cv2

    from isoline.workbench import Workbench

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    cv2.setNumThreads(1)
    bench = Workbench(weights, device)
    bench.warm()
    tasks: dict[int, Task] = {}
    waiting: deque[_Do] = deque()

    def listen() -> None:
        match pipe.recv():
            case _Begin(run, task):
                tasks[run] = task
            case _Do() as order:
                waiting.append(order)
            case _Forget(run):
                tasks.pop(run, None)
                for order in [order for order in waiting if order.run == run]:
                    waiting.remove(order)

    def tell(order: _Do, found: Masked) -> bool:
        """Pass on what was found in a volume; return whether anybody still waits for more."""
        pipe.send(_Part(order, found))
        while pipe.poll():
            listen()
        return order.run in tasks

    try:
        pipe.send(_Ready())
        while True:
            # drain the pipe before each tile, so that a run given up is not computed to its end
            while not waiting or pipe.poll():
                listen()
            order = waiting.popleft()
            pipe.send(_Answer(order, _attempt(bench, tasks[order.run], order, tell)))
    except (EOFError, ConnectionError):
        bench.close()


def _attempt(
    bench: Workbench, task: Task, order: _Do, tell: Callable[[_Do, Masked], bool]
) -> Computed | Survey | Masked | _Refusal:
    tile = order.tile
    try:
        if isinstance(task.output, Voxels) and tile is not None:
            return _segment(bench.segment(task, tile), order, tell)
        return bench.survey(task) if tile is None else bench.compute(task, tile)
    except IsolineError as error:
        return _Refusal(error)
    except MemoryError:
        return _Refusal(Broken("out of memory", "use a smaller tile"))
    except Exception as error:
        # a model is someone else's code: whatever it raises costs one tile, never the worker
        log.exception("%s failed on tile %s", task.model, tile and tile.place)
        return _Refusal(Broken(f"{task.model} raised {type(error).__name__}: {error}"))


def _segment(parts: Iterator[Masked], order: _Do, tell: Callable[[_Do, Masked], bool]) -> Masked:
    """Tell every part but the last, which is the answer; stop where nobody waits any more."""
    last = next(parts)
    for part in parts:
        if not tell(order, last):
            break
        last = part
    return last


# --- The parent's side -------------------------------------------------------------------------

_Result: TypeAlias = Computed | Masked | TileFailed | Survey | _Refusal


@dataclass
class _Run:
    """The orders of one consumer, and the results on their way to it."""

    number: int
    task: Task
    agenda: Agenda | None
    first: deque[_Do]
    """Goes before the agenda: the survey, and tiles whose worker died."""
    results: queue.SimpleQueue[_Result] = field(default_factory=queue.SimpleQueue)
    in_flight: int = 0
    retried: set[Tile | None] = field(default_factory=set)

    def next(self) -> _Do | None:
        if self.first:
            return self.first.popleft()
        tile = self.agenda.take() if self.agenda is not None else None
        return None if tile is None else _Do(self.number, tile)

    @property
    def waiting(self) -> int:
        return len(self.first) + (len(self.agenda) if self.agenda is not None else 0)

    @property
    def finished(self) -> bool:
        """Whether every order was answered and every answer taken."""
        return self.waiting == self.in_flight == 0 and self.results.empty()


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    ready: bool = False
    begun: set[int] = field(default_factory=set)
    doing: deque[_Do] = field(default_factory=deque)


class LocalEngine(Engine):
    """Worker processes fed by one dispatcher thread."""

    def __init__(self, workers: int, weights: Path, device: str = "cpu") -> None:
        """Start `workers` processes; `weights` is the directory that holds models' files."""
        self._weights = weights
        self._device = device
        self._context = multiprocessing.get_context("spawn")
        self._numbers = itertools.count()
        self._lock = threading.RLock()
        self._runs: deque[_Run] = deque()
        self._closing = False
        self._broken: Broken | None = None
        self._bell, self._button = self._context.Pipe(duplex=False)
        self._workers = [self._start() for _ in range(workers)]
        self._dispatcher = threading.Thread(target=self._dispatch, name="engine", daemon=True)
        self._dispatcher.start()

    @property
    def workers(self) -> int:
        return len(self._workers)

    @property
    def ready(self) -> bool:
        """Whether every worker has imported and compiled what it needs."""
        return all(worker.ready for worker in self._workers)

    @property
    def process_ids(self) -> list[int]:
        return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def survey(self, task: Task) -> Survey:
        run = self._open(task, None)
        try:
            result = None
            while result is None:
                result = self._result(run)
        finally:
            self._close(run)
        if isinstance(result, _Refusal):
            raise result.error
        assert isinstance(result, Survey)
        return result

    def run(self, task: Task, agenda: Agenda) -> Iterator[Computed | Masked | TileFailed]:
        run = self._open(task, agenda)
        try:
            while not agenda.cancelled:
                with self._lock:
                    if run.finished:
                        return
                result = self._result(run)
                if result is not None:
                    assert isinstance(result, Computed | Masked | TileFailed)
                    yield result
                    self._ring()  # the consumer may have added tiles
        finally:
            self._close(run)

    def close(self) -> None:
        self._closing = True
        self._ring()
        self._dispatcher.join()
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._weights, self._device), daemon=True
        )
        # one worker per core: a library that starts threads of its own only gets in their way;
        # the variables must be there before the child imports anything
        with _environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1"):
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _open(self, task: Task, agenda: Agenda | None) -> _Run:
        number = next(self._numbers)
        first = deque([_Do(number, None)] if agenda is None else [])
        run = _Run(number, task, agenda, first)
        with self._lock:
            if self._closing:
                raise Broken("the server is shutting down", "try again in a minute")
            self._runs.append(run)
        self._ring()
        return run

    def _result(self, run: _Run) -> _Result | None:
        """Return the next result, or None where a moment passes without one."""
        if self._broken is not None:
            raise self._broken
        try:
            return run.results.get(timeout=0.1)
        except queue.Empty:
            return None

    def _close(self, run: _Run) -> None:
        with self._lock:
            self._runs.remove(run)
            for worker in self._workers:
                if run.number in worker.begun:
                    worker.begun.discard(run.number)
                    self._tell(worker, _Forget(run.number))
                    worker.doing = deque(
                        order
                        for place, order in enumerate(worker.doing)
                        if place == 0 or order.run != run.number
                    )

    def _ring(self) -> None:
        """Wake the dispatcher."""
        with self._lock:
            self._button.send_bytes(b"!")

    def _dispatch(self) -> None:
        while not self._closing:
            with self._lock:
                self._hand_out()
                workers = {worker.pipe: worker for worker in self._workers}
            ready = wait([self._bell, *workers])
            with self._lock:
                for pipe in ready:
                    if pipe is self._bell:
                        self._bell.recv_bytes()
                    elif isinstance(pipe, Connection):
                        self._listen(workers[pipe])

    def _hand_out(self) -> None:
        """Give every idle worker a tile, then, while plenty are left, each a second one."""
        for depth in (1, 2):
            if depth == 2 and sum(run.waiting for run in self._runs) < len(self._workers):
                return
            for worker in self._workers:
                if len(worker.doing) < depth:
                    self._hand_one(worker)

    def _hand_one(self, worker: _Worker) -> None:
        for _ in range(len(self._runs)):
            run = self._runs[0]
            self._runs.rotate(-1)  # the next order is another run's
            order = run.next()
            if order is None:
                continue
            run.in_flight += 1
            worker.doing.append(order)
            if run.number not in worker.begun:
                worker.begun.add(run.number)
                self._tell(worker, _Begin(run.number, run.task))
            self._tell(worker, order)
            return

    def _tell(self, worker: _Worker, message: _Begin | _Do | _Forget) -> None:
        try:
            worker.pipe.send(message)
        except ConnectionError:
            log.debug("worker %s is gone; its end of the pipe says so", worker.process.pid)

    def _listen(self, worker: _Worker) -> None:
        try:
            message = worker.pipe.recv()
        except (EOFError, ConnectionError):
            self._replace(worker)
            return
        if isinstance(message, _Ready):
            worker.ready = True
            return
        if isinstance(message, _Part):
            self._pass_on(message)
            return
        if message.order in worker.doing:  # not there: its run was closed while it was under way
            worker.doing.remove(message.order)
        self._deliver(message.order, message.result)

    def _pass_on(self, part: _Part) -> None:
        for run in self._runs:
            if run.number == part.order.run:
                run.results.put(part.result)

    def _deliver(self, order: _Do, result: Computed | Survey | Masked | _Refusal) -> None:
        run = next((run for run in self._runs if run.number == order.run), None)
        if run is None:
            return  # given up
        run.in_flight -= 1
        if isinstance(result, _Refusal) and order.tile is not None:
            run.results.put(TileFailed(order.tile, result.error.code, str(result.error)))
        else:
            run.results.put(result)

    def _replace(self, worker: _Worker) -> None:
        """Start a new worker in the place of one that died; what it was at is tried once more."""
        worker.process.join()
        log.error("worker %s died (%s)", worker.process.pid, worker.process.exitcode)
        if not worker.ready:  # the next one would fare no better
            self._workers.remove(worker)
            self._broken = Broken("a worker process could not start", "see the log for the reason")
            return
        self._workers[self._workers.index(worker)] = self._start()
        for place, order in enumerate(worker.doing):
            run = next((run for run in self._runs if run.number == order.run), None)
            if run is None:
                continue
            guilty = place == 0  # the others had not begun
            if guilty and order.tile in run.retried:
                self._deliver(order, _Refusal(Broken("the worker died here, twice")))
                continue
            if guilty:
                run.retried.add(order.tile)
            run.in_flight -= 1
            run.first.append(order)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set environment variables for the length of a block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
