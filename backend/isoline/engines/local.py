"""Running tiles on this machine, in worker processes with their own open images and loaded models.

One dispatcher thread feeds all of them; the scheduler decides what each does. Workers for large
runs have a lower priority than those reserved for urgent ones.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import queue
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait

from isoline.engines.engine import Agenda, Bounds, Engine, Observer
from isoline.engines.messages import Completed, Dropped, Part, Ready, Refusal, Reply, ToWorker
from isoline.engines.process import WorkerProcess
from isoline.engines.scheduler import GIVEN_UP, CauseOfDeath, Run, Scheduler, Slot, Worker
from isoline.errors import Broken
from isoline.inference.task import Result, Task
from isoline.models import devices
from isoline.models.catalogue import ModelCatalogue

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""How often busy workers are checked."""
NICENESS = 4
"""Niceness of workers for large runs, so that an urgent worker gets a whole core next to them."""
KILLED = -9
"""Exit code of a process that was killed."""


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
        bounds: Bounds = Bounds(),  # noqa: B008  it is frozen
        observer: Observer = Observer(),  # noqa: B008  it has no state
    ) -> None:
        """Start `workers` processes, and `urgent_workers` more for urgent runs only.

        Each GPU that `device` selects gets an additional worker, which takes all tiles of models
        that use a GPU. Raises Malformed for an unknown device.

        A volume may use those of `cores` (0: one per worker) whose workers are idle.

        The workers look up models in `models`.
        """
        slots = [Slot(urgent_only=True)] * urgent_workers + [Slot()] * workers
        slots += [Slot(gpu=gpu) for gpu in devices.gpus(device)]
        self._models = models
        self._has_lane = urgent_workers > 0
        self._bounds = bounds
        self._scheduler = Scheduler(slots, bounds, cores=cores or workers, observer=observer)
        self._processes = {each: self._start(each.slot) for each in self._scheduler.workers}
        self._lock = threading.RLock()
        self._closing = False
        self._bell, self._button = multiprocessing.Pipe(duplex=False)
        self._rung = False
        self._dispatcher = threading.Thread(target=self._dispatch, name="engine", daemon=True)
        self._dispatcher.start()

    @property
    def workers(self) -> int:
        """The number of workers that take any CPU tile."""
        return sum(worker.slot.is_general for worker in self._scheduler.workers)

    @property
    def broken(self) -> bool:
        """Whether workers can no longer be started."""
        return self._scheduler.broken is not None

    @property
    def ready(self) -> bool:
        """Whether every worker has finished importing and compiling."""
        return all(worker.ready for worker in self._scheduler.workers)

    @property
    def process_ids(self) -> list[int]:
        with self._lock:
            return [self._processes[worker].pid for worker in self._scheduler.workers]

    # --- Called in the consumers' threads --------------------------------------------------------

    def survey(self, task: Task, agenda: Agenda) -> Result | None:
        with self._running(task, None) as (_, results):
            result = None
            while result is None:
                if agenda.cancelled:
                    return None
                result = self._next(results)
        if isinstance(result, Refusal):
            raise result.error
        return result

    def run(self, task: Task, agenda: Agenda) -> Iterator[Result]:
        with self._running(task, agenda) as (run, results):
            while not agenda.cancelled:
                with self._lock:
                    if run.answered and results.empty():
                        return
                    self._send(self._scheduler.look(run))
                result = self._next(results)
                if result is not None:
                    assert isinstance(result, Result)
                    yield result
                    self._ring()  # the consumer may have added tiles

    def close(self) -> None:
        self._closing = True
        self._ring()
        self._dispatcher.join()
        for process in self._processes.values():
            process.hang_up()
        for process in self._processes.values():
            process.join()

    @contextlib.contextmanager
    def _running(
        self, task: Task, agenda: Agenda | None
    ) -> Iterator[tuple[Run, queue.SimpleQueue[Reply]]]:
        """Schedule `task` for the duration of the block; its results arrive in the queue."""
        results = queue.SimpleQueue[Reply]()
        with self._lock:
            if self._closing:
                raise Broken("the server is shutting down", "try again in a minute")
            run = self._scheduler.open(task, agenda, results.put)
        self._ring()
        try:
            yield run, results
        finally:
            with self._lock:
                self._send(self._scheduler.close(run))

    def _next(self, results: queue.SimpleQueue[Reply]) -> Reply | None:
        """Return the next result, or None if there is none for a moment."""
        if self._scheduler.broken is not None:
            raise self._scheduler.broken
        try:
            return results.get(timeout=0.1)
        except queue.Empty:
            return None

    def _ring(self) -> None:
        """Wake the dispatcher."""
        with self._lock:
            if not self._rung:
                self._rung = True
                self._button.send_bytes(b"!")

    # --- Called in the dispatcher's thread -------------------------------------------------------

    def _dispatch(self) -> None:
        try:
            while not self._closing:
                self._turn()
        except Exception:  # whatever it is, consumers that wait for results must be notified
            log.exception("the engine stopped")
            self._scheduler.broken = Broken(
                "the engine stopped", "restart the server; its log has the reason"
            )

    def _turn(self) -> None:
        """Assign pending tiles, wait for an event, and handle it."""
        with self._lock:
            self._send(self._scheduler.hand_out())
            by_pipe = {self._processes[each].pipe: each for each in self._scheduler.workers}
            timeout = LOOK_SECONDS if self._scheduler.busy else None
        ready = wait([self._bell, *by_pipe], timeout)
        with self._lock:
            if self._bell in ready:
                self._bell.recv_bytes()
                self._rung = False
            for pipe, worker in by_pipe.items():
                if pipe in ready:
                    self._listen(worker)
            for worker in self._scheduler.condemn(lambda each: self._processes[each].memory_mib()):
                self._processes[worker].kill()

    def _listen(self, worker: Worker) -> None:
        match self._processes[worker].hear():
            case None:
                self._replace(worker)
            case Ready():
                self._scheduler.started(worker)
            case Part(order, part):
                self._scheduler.found(worker, order, part)
            case Dropped(order):
                self._scheduler.dropped(worker, order)
            case Completed(order, Refusal() as refusal):
                self._scheduler.refused(worker, order, refusal)
            case Completed(order, Result() as result):
                self._scheduler.answered(worker, order, result)

    def _replace(self, worker: Worker) -> None:
        """Start a new process to replace one that died."""
        process = self._processes.pop(worker)
        code = process.bury()
        # a process that was not killed here was killed by the kernel, for lack of memory
        verdict = worker.verdict or CauseOfDeath(f"exit code {code}", of_memory=code == KILLED)
        if verdict is GIVEN_UP:
            log.info("worker %s was replaced: %s", process.pid, verdict.reason)
        else:
            log.error("worker %s died: %s", process.pid, verdict.reason)
        successor = self._scheduler.died(worker, verdict)
        if successor is not None:
            self._processes[successor] = self._start(successor.slot)

    def _start(self, slot: Slot) -> WorkerProcess:
        niceness = NICENESS if self._has_lane and not slot.urgent_only else 0
        device = slot.gpu or devices.CPU
        return WorkerProcess(self._models, device, self._bounds.seen_mib, niceness)

    def _send(self, messages: Sequence[tuple[Worker, ToWorker]]) -> None:
        for worker, message in messages:
            self._processes[worker].tell(message)
