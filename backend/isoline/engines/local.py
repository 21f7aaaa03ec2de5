"""Tiles on this machine: worker processes, each with its own open images and loaded models.

One dispatcher thread feeds all workers. Urgent runs go first and have workers that take nothing
else, so that a click never waits behind a slide; then users share the workers evenly, and the runs
of a user take turns. A worker holds one tile and, while plenty are left, the next one, so that it
never waits for the dispatcher.

Prompts run on the urgent workers alone, and of these on the one that has looked at their image
before. Other workers yield the processor to them.

A worker that dies, hangs or grows too large is replaced. What it was at is tried once more, in
quarters when memory was short and the model allows it, then reported as a tile that failed.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

import psutil

from isoline.engines import lifeline
from isoline.engines.base import Agenda, Engine, Result
from isoline.engines.messages import Begin, Do, Forget, Look, Part, Ready, Refusal, Reply
from isoline.errors import Broken
from isoline.inference.task import Answered, Computed, Masked, Survey, Task, TileFailed
from isoline.models import devices
from isoline.models.base import Bounded, Voxels
from isoline.models.catalogue import ModelCatalogue

if TYPE_CHECKING:
    from isoline.server.metrics import Metrics

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""How often busy workers are looked at."""
SURVEY_FACTOR = 5
"""A survey reads a whole image and may take so many times as long as a tile."""
AWAY_SECONDS = 0.25
"""Prompts wait so long for the worker that knows their image before another one takes them."""
KNOWN_IMAGES = 64
"""Of so many images it is remembered which worker looked at them for prompts."""
NICENESS = 4
"""By how much workers of large runs stand back: an urgent one then has a whole core beside them."""
STOPPED = "what it was at was given up"
STOP_SECONDS = 0.7
"""A worker that is at a volume or a survey so long after it was given up is replaced."""
STARTS = 3
"""So many workers in a row may fail to start before the engine gives up."""


@dataclass(frozen=True)
class Bounds:
    """What one worker may take."""

    tile_seconds: float = 0.0
    """Longest time for one tile; 0: as long as it likes."""
    memory_mib: int = 0
    """Largest resident memory of one worker; 0: as much as there is."""
    seen_mib: int = 512
    """What one worker keeps of what prompts made it read and compute."""


@dataclass
class _Run:
    """The orders of one consumer, and the results on their way to it."""

    number: int
    task: Task
    agenda: Agenda | None
    first: deque[Do]
    """Goes before the agenda: the survey, and tiles whose worker died."""
    results: queue.SimpleQueue[Reply | TileFailed] = field(default_factory=queue.SimpleQueue)
    in_flight: int = 0
    since: float = field(default_factory=time.monotonic)
    """When it came."""

    looked_at: int | None = None
    """The slice that its worker knows the user to look at."""

    @property
    def prompted(self) -> bool:
        return self.task.asked is not None

    @property
    def is_volume(self) -> bool:
        return isinstance(self.task.output, Voxels)

    @property
    def image(self) -> str:
        """What is in the image: the same for all who see it, by whatever name."""
        return self.task.fingerprint

    @property
    def urgent(self) -> bool:
        return self.agenda is not None and self.agenda.urgent

    @property
    def owner(self) -> str:
        return "" if self.agenda is None else self.agenda.owner

    @property
    def splits(self) -> bool:
        """Whether a quarter of a tile gives a quarter of the result."""
        bounded = isinstance(self.task.output, Bounded)
        return bounded and not self.task.spec.fixed_tile

    def next(self) -> Do | None:
        if self.first:
            return self.first.popleft()
        tile = self.agenda.take() if self.agenda is not None else None
        return None if tile is None else Do(self.number, tile)

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
    urgent_only: bool = False
    gpu: str | None = None
    """Its device, None where it computes on CPUs."""
    ready: bool = False
    begun: set[int] = field(default_factory=set)
    doing: deque[Do] = field(default_factory=deque)
    since: float = 0.0
    """When it began the first of `doing`."""
    verdict: str = ""
    """Why it was killed, where that was our decision."""
    images: deque[str] = field(default_factory=lambda: deque(maxlen=KNOWN_IMAGES))
    """Those that it looked at for prompts, the last one last."""
    given_up: float | None = None
    """When the volume or the survey that it is at was given up."""

    @property
    def died_of_memory(self) -> bool:
        # what nobody here has killed, the kernel has: it does that when memory runs out
        return "memory" in self.verdict or (not self.verdict and self.process.exitcode == -9)


class LocalEngine(Engine):
    """Worker processes fed by one dispatcher thread."""

    def __init__(
        self,
        workers: int,
        models: ModelCatalogue,
        device: str = "cpu",
        *,
        urgent_workers: int = 0,
        cores: int = 0,
        bounds: Bounds = Bounds(),  # frozen
        metrics: Metrics | None = None,
    ) -> None:
        """Start `workers` processes, and `urgent_workers` more that take urgent runs only.

        Each GPU that `device` means gets one more, which takes the tiles of the models that use it,
        and the others take none of these. Raises Malformed for a device that is not known.

        A volume may use those of `cores` (0: one per worker) whose workers have nothing to do.

        `models` is what the workers find models in.
        """
        self._models = models
        self._gpus = devices.gpus(device)
        self._has_lane = urgent_workers > 0
        self._cores = cores or workers
        self._bounds = bounds
        self._metrics = metrics
        self._failed_starts = 0
        self._context = multiprocessing.get_context("spawn")
        self._numbers = itertools.count()
        self._lock = threading.RLock()
        self._runs: deque[_Run] = deque()
        self._closing = False
        self._broken: Broken | None = None
        self._bell, self._button = self._context.Pipe(duplex=False)
        self._rung = False
        kinds: list[tuple[bool, str | None]] = [(True, None)] * urgent_workers
        kinds += [(False, None)] * workers + [(False, gpu) for gpu in self._gpus]
        self._workers = [self._start(urgent_only, gpu) for urgent_only, gpu in kinds]
        self._dispatcher = threading.Thread(target=self._dispatch, name="engine", daemon=True)
        self._dispatcher.start()

    @property
    def workers(self) -> int:
        """How many workers take any tile that is for CPUs."""
        return sum(not worker.urgent_only and worker.gpu is None for worker in self._workers)

    @property
    def broken(self) -> bool:
        """Whether workers cannot be started any more."""
        return self._broken is not None

    @property
    def ready(self) -> bool:
        """Whether every worker has imported and compiled what it needs."""
        return all(worker.ready for worker in self._workers)

    @property
    def process_ids(self) -> list[int]:
        return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def survey(self, task: Task, agenda: Agenda) -> Survey | None:
        run = self._open(task, None)
        try:
            result = None
            while result is None:
                if agenda.cancelled:
                    return None
                result = self._result(run)
        finally:
            self._close(run)
        if isinstance(result, Refusal):
            raise result.error
        assert isinstance(result, Survey)
        return result

    def run(self, task: Task, agenda: Agenda) -> Iterator[Result]:
        run = self._open(task, agenda)
        try:
            while not agenda.cancelled:
                with self._lock:
                    if run.finished:
                        return
                self._pass_on_gaze(run)
                result = self._result(run)
                if result is not None:
                    assert isinstance(result, Computed | Masked | Answered | TileFailed)
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

    def _start(self, urgent_only: bool, gpu: str | None) -> _Worker:
        ours, theirs = self._context.Pipe()
        niceness = NICENESS if self._has_lane and not urgent_only else 0
        device = gpu or devices.CPU
        arguments = (theirs, pickle.dumps(self._models), device, self._bounds.seen_mib, niceness)
        process = self._context.Process(target=lifeline.serve, args=arguments, daemon=True)
        # one worker per core: a library that starts threads of its own only gets in their way;
        # the variables must be there before the child imports anything
        one = _environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
        with one, _interrupts_held():
            process.start()
        theirs.close()
        return _Worker(process, ours, urgent_only, gpu)

    def _open(self, task: Task, agenda: Agenda | None) -> _Run:
        number = next(self._numbers)
        first = deque([Do(number, None)] if agenda is None else [])
        run = _Run(number, task, agenda, first)
        with self._lock:
            if self._closing:
                raise Broken("the server is shutting down", "try again in a minute")
            self._runs.append(run)
        self._ring()
        return run

    def _result(self, run: _Run) -> Reply | TileFailed | None:
        """Return the next result, or None where a moment passes without one."""
        if self._broken is not None:
            raise self._broken
        try:
            return run.results.get(timeout=0.1)
        except queue.Empty:
            return None

    def _pass_on_gaze(self, run: _Run) -> None:
        """Tell the worker that is at the volume of `run` where the user looks now."""
        assert run.agenda is not None
        if run.agenda.slice == run.looked_at:
            return
        with self._lock:
            for worker in self._workers:
                if run.number in worker.begun and run.agenda.slice is not None:
                    run.looked_at = run.agenda.slice
                    self._tell(worker, Look(run.number, run.looked_at))

    def _close(self, run: _Run) -> None:
        with self._lock:
            self._runs.remove(run)
            for worker in self._workers:
                is_long = run.is_volume or run.agenda is None
                if is_long and worker.doing and worker.doing[0].run == run.number:
                    worker.given_up = time.monotonic()
                if run.number in worker.begun:
                    worker.begun.discard(run.number)
                    self._tell(worker, Forget(run.number))
                    worker.doing = deque(
                        order
                        for place, order in enumerate(worker.doing)
                        if place == 0 or order.run != run.number
                    )

    def _ring(self) -> None:
        """Wake the dispatcher."""
        with self._lock:
            if not self._rung:
                self._rung = True
                self._button.send_bytes(b"!")

    def _dispatch(self) -> None:
        try:
            while not self._closing:
                self._turn()
        except Exception:  # whatever it is, those who wait for results must hear of it
            log.exception("the engine stopped")
            self._broken = Broken(
                "the engine stopped", "restart the server; its log has the reason"
            )

    def _turn(self) -> None:
        """Hand out what there is, wait until something happens, and take note of it."""
        with self._lock:
            self._hand_out()
            workers = {worker.pipe: worker for worker in self._workers}
            busy = any(worker.doing for worker in self._workers)
        ready = wait([self._bell, *workers], LOOK_SECONDS if busy else None)
        with self._lock:
            for pipe in ready:
                if pipe is self._bell:
                    self._bell.recv_bytes()
                    self._rung = False
                elif isinstance(pipe, Connection):
                    self._listen(workers[pipe])
            for worker in self._workers:
                self._supervise(worker)

    def _supervise(self, worker: _Worker) -> None:
        """Kill `worker` if it takes too long or too much; its pipe will say that it is gone."""
        if not worker.ready or not worker.doing or worker.verdict:
            return
        if worker.given_up is not None and time.monotonic() - worker.given_up > STOP_SECONDS:
            worker.verdict = STOPPED
            worker.process.kill()
            return
        limit = self._bounds.tile_seconds * (1 if worker.doing[0].tile else SURVEY_FACTOR)
        if limit and time.monotonic() - worker.since > limit:
            worker.verdict = f"no result within {limit:g} s"
        elif self._bounds.memory_mib and _mib(worker.process) > self._bounds.memory_mib:
            worker.verdict = f"more than {self._bounds.memory_mib} MiB of memory"
        if worker.verdict:
            worker.process.kill()

    def _hand_out(self) -> None:
        """Give every idle worker a tile, then, while plenty are left, each a second one."""
        # where somebody clicks, a small region goes to another worker if it can
        for worker in sorted(self._workers, key=lambda each: bool(each.images)):
            if not worker.doing:
                self._hand_one(worker)
        if sum(run.waiting for run in self._runs) < len(self._workers):
            return
        for worker in self._workers:
            if len(worker.doing) == 1 and not worker.urgent_only:
                self._hand_one(worker)

    def _hand_one(self, worker: _Worker) -> None:
        while (run := self._most_deserving(worker)) is not None:
            order = run.next()
            if order is None:
                continue  # cancelled between the two looks
            self._runs.remove(run)
            self._runs.append(run)  # among equals the next order is another run's
            run.in_flight += 1
            if not worker.doing:
                worker.since = time.monotonic()
            if run.is_volume:
                order = replace(order, threads=self._free_cores())
            worker.doing.append(order)
            if run.prompted:
                with contextlib.suppress(ValueError):
                    worker.images.remove(run.image)
                worker.images.append(run.image)
            if run.number not in worker.begun:
                worker.begun.add(run.number)
                self._tell(worker, Begin(run.number, run.task))
            self._tell(worker, order)
            return

    def _free_cores(self) -> int:
        """Return how many cores a volume may use now: those whose workers have nothing to do."""
        here = [each for each in self._workers if not each.urgent_only and each.gpu is None]
        busy = sum(bool(worker.doing) for worker in here)
        return max(1, self._cores - busy)

    def _most_deserving(self, worker: _Worker) -> _Run | None:
        """Return the run whose turn it is.

        Prompts go first, then surveys, urgent runs, and who has least in flight.
        """
        candidates = [
            run
            for run in self._runs
            if run.waiting
            and self._may_take(worker, run)
            # a task may be long, and a busy worker reads its pipe only after the tile: nobody waits
            and (run.number in worker.begun or not worker.doing)
        ]
        in_flight: Counter[str] = Counter()
        for run in self._runs:
            in_flight[run.owner] += run.in_flight

        def rank(run: _Run) -> tuple[bool, bool, bool, int]:
            survey = run.agenda is None
            return not run.prompted, not survey, not run.urgent, in_flight[run.owner]

        return min(candidates, key=rank, default=None)

    def _may_take(self, worker: _Worker, run: _Run) -> bool:
        """Return whether `run` is for `worker`; where nobody is kept for clicks, all is for all."""
        on_gpu = worker.gpu is not None
        if self._gpus and run.task.on_gpu != on_gpu:
            return False
        if not run.prompted or not (on_gpu or self._has_lane):
            return on_gpu or run.urgent or not worker.urgent_only
        if not on_gpu and not worker.urgent_only:
            return False
        alike = (each for each in self._workers if (each.gpu is not None) == on_gpu)
        home = next((each for each in alike if run.image in each.images), worker)
        return home is worker or time.monotonic() - run.since > AWAY_SECONDS

    def _tell(self, worker: _Worker, message: Begin | Do | Look | Forget) -> None:
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
        if isinstance(message, Ready):
            worker.ready, worker.since = True, time.monotonic()
            self._failed_starts = 0
            return
        order, result = message.order, message.result
        if isinstance(message, Part):
            worker.since = time.monotonic()
            if (waiting := self._run_of(order)) is not None:
                waiting.results.put(message.result)
            return
        worker.given_up = None
        if order in worker.doing:  # not there: its run was closed while it was under way
            worker.doing.remove(order)
        if self._metrics is not None and isinstance(result, Computed):
            self._metrics.computed(result)
        if self._metrics is not None and isinstance(result, Answered):
            self._metrics.answered_prompts(result)
        worker.since = time.monotonic()
        run = self._run_of(order)
        if run is None:
            return  # given up
        if isinstance(result, Refusal) and result.of_memory and not order.again and run.splits:
            self._again(run, order, in_quarters=True)
        else:
            self._deliver(run, order, result)

    def _run_of(self, order: Do) -> _Run | None:
        return next((run for run in self._runs if run.number == order.run), None)

    def _deliver(self, run: _Run, order: Do, result: Reply) -> None:
        run.in_flight -= 1
        if isinstance(result, Refusal) and order.tile is not None:
            if self._metrics is not None:
                self._metrics.tile_failed()
            run.results.put(TileFailed(order.tile, result.error.code, str(result.error)))
        else:
            run.results.put(result)

    def _again(self, run: _Run, order: Do, *, in_quarters: bool) -> None:
        run.in_flight -= 1
        run.first.append(Do(order.run, order.tile, again=True, in_quarters=in_quarters))

    def _replace(self, worker: _Worker) -> None:
        """Start a new worker in the place of one that died; what it was at is tried once more."""
        worker.process.join()
        worker.pipe.close()
        reason = worker.verdict or f"exit code {worker.process.exitcode}"
        if worker.verdict == STOPPED:
            log.info("worker %s was replaced: %s", worker.process.pid, reason)
        else:
            log.error("worker %s died: %s", worker.process.pid, reason)
            if self._metrics is not None:
                self._metrics.worker_died()
        if not worker.ready:
            self._failed_starts += 1
        place = self._workers.index(worker)
        if self._failed_starts >= STARTS:  # the next one would fare no better
            del self._workers[place]
            self._broken = Broken("worker processes cannot start", "see the log for the reason")
            return
        self._workers[place] = self._start(worker.urgent_only, worker.gpu)
        for number, order in enumerate(worker.doing):
            run = self._run_of(order)
            if run is None:
                continue
            if number > 0 or not worker.ready:  # it had not begun
                run.in_flight -= 1
                run.first.append(order)
            elif order.again:
                self._deliver(run, order, Refusal(Broken(f"a worker died here twice: {reason}")))
            else:
                self._again(run, order, in_quarters=worker.died_of_memory and run.splits)


def _mib(process: BaseProcess) -> float:
    try:
        return float(psutil.Process(process.pid).memory_info().rss) / 2**20
    except psutil.Error:
        return 0.0  # it has just died


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let what is started in the block never hear Ctrl-C, which a terminal sends to all processes.

    A worker says so itself too, but only once it has imported something.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
