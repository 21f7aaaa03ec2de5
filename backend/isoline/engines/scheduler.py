"""The scheduling policy that engines share: what each worker does next, and what if it dies.

A scheduler receives events and returns actions. It does not itself start, send, measure or wait for
anything, so it works wherever the workers are. It does not lock: its engine calls it from one
thread at a time.

Interactive work has the highest priority, then surveys, then urgent tiles; users share the workers
evenly, and the runs of a user take turns. Some workers are reserved for urgent work, so that a
click never waits behind a slide. Interactive work runs only on these, preferably on the one that
has seen its image before. A worker holds one tile and, while there are plenty, the next one, so
that it never waits for its engine.

A worker that dies, hangs or grows too large is replaced. Its tile is tried once more, in quarters
if memory was short and the work is divisible, then reported as failed.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from isoline.engines.engine import Agenda, Bounds, Observer
from isoline.engines.messages import Begin, Do, Forget, Look, Refusal, Reply, ToWorker
from isoline.errors import Broken
from isoline.inference.task import Result, Task, TileFailed
from isoline.sources.registry import without_folders

SURVEY_FACTOR = 5
"""A survey reads a whole image and may take this many times as long as a tile."""
AWAY_SECONDS = 0.25
"""How long interactive work waits for a worker that has seen its image before another takes it."""
KNOWN_IMAGES = 64
"""Number of images remembered per worker."""
STOP_SECONDS = 0.7
"""A worker is killed this long after its survey or lasting work was cancelled."""
STARTS = 3
"""Number of consecutive failed starts after which the engine gives up."""


@dataclass(frozen=True)
class Slot:
    """A worker's slot, and the work that it takes."""

    urgent_only: bool = False
    gpu: str | None = None
    """The GPU that it uses, None for CPUs."""

    @property
    def is_general(self) -> bool:
        """Whether it takes all CPU work."""
        return not self.urgent_only and self.gpu is None


@dataclass(frozen=True)
class CauseOfDeath:
    """The reason why a worker is killed or has died."""

    reason: str
    of_memory: bool = False
    is_failure: bool = True
    """False if it was killed only because its work was cancelled."""


GIVEN_UP = CauseOfDeath("the work was cancelled", is_failure=False)


@dataclass(eq=False)
class Worker:
    """The state of a worker."""

    slot: Slot
    ready: bool = False
    verdict: CauseOfDeath | None = None
    """Why it is being killed, if the scheduler decided so."""
    begun: set[int] = field(default_factory=set)
    """The runs that were announced to it."""
    doing: deque[Do] = field(default_factory=deque)
    since: float = 0.0
    """When it started the first of `doing`, or last returned a part of it."""
    given_up: float | None = None
    """When its current survey or lasting work was cancelled."""
    images: deque[str] = field(default_factory=lambda: deque(maxlen=KNOWN_IMAGES))
    """Images that it read for interactive work, most recent last."""


@dataclass(eq=False)
class Run:
    """The work of one consumer."""

    number: int
    task: Task
    agenda: Agenda | None
    """None for a survey."""
    deliver: Callable[[Reply], None]
    """Receives each result and, for a survey, also a refusal."""
    since: float
    """When it was opened."""
    first: deque[Do] = field(default_factory=deque)
    """Orders that precede the agenda: the survey, and tiles whose worker died."""
    in_flight: int = 0
    looked_at: int | None = None
    """The slice last reported to its worker."""

    @property
    def urgent(self) -> bool:
        return self.agenda is not None and self.agenda.urgent

    @property
    def owner(self) -> str:
        return "" if self.agenda is None else self.agenda.owner

    @property
    def may_not_stop(self) -> bool:
        return self.agenda is None or self.task.lasting

    @property
    def waiting(self) -> int:
        return len(self.first) + (0 if self.agenda is None else len(self.agenda))

    @property
    def answered(self) -> bool:
        """Whether every order has been completed."""
        return self.waiting == self.in_flight == 0

    def next(self) -> Do | None:
        if self.first:
            return self.first.popleft()
        tile = None if self.agenda is None else self.agenda.take()
        return None if tile is None else Do(self.number, tile)


class Scheduler:
    """Shares abstract workers among runs."""

    def __init__(
        self,
        slots: Sequence[Slot],
        bounds: Bounds,
        *,
        cores: int,
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with one new worker in each slot.

        Lasting work may use those of `cores` whose workers are idle.
        """
        self.workers = [Worker(slot) for slot in slots]
        self.broken: Broken | None = None
        """Why there will be no more results."""
        self._has_lane = any(slot.urgent_only for slot in slots)
        self._has_gpus = any(slot.gpu is not None for slot in slots)
        self._bounds = bounds
        self._cores = cores
        self._observer = observer
        self._clock = clock
        self._numbers = itertools.count()
        self.runs: deque[Run] = deque()
        self._failed_starts = 0

    # --- Called for consumers --------------------------------------------------------------------

    def open(self, task: Task, agenda: Agenda | None, deliver: Callable[[Reply], None]) -> Run:
        """Add the tiles of `agenda` or, if there is none, the survey of `task`."""
        run = Run(next(self._numbers), task, agenda, deliver, self._clock())
        if agenda is None:
            run.first.append(Do(run.number, None))
        self.runs.append(run)
        return run

    def look(self, run: Run) -> list[tuple[Worker, Look]]:
        """If the user of `run` has moved to another slice, return the messages that report it."""
        k = None if run.agenda is None else run.agenda.slice
        at_it = [worker for worker in self.workers if run.number in worker.begun]
        if k is None or k == run.looked_at or not at_it:
            return []
        run.looked_at = k
        return [(worker, Look(run.number, k)) for worker in at_it]

    def close(self, run: Run) -> list[tuple[Worker, Forget]]:
        """Cancel the rest of `run`; return the messages to send."""
        self.runs.remove(run)
        messages = []
        for worker in self.workers:
            if run.number not in worker.begun:
                continue
            worker.begun.discard(run.number)
            messages.append((worker, Forget(run.number)))
            if worker.doing and worker.doing[0].run == run.number and run.may_not_stop:
                worker.given_up = self._clock()
            worker.doing = deque(
                order
                for place, order in enumerate(worker.doing)
                if place == 0 or order.run != run.number
            )
        return messages

    # --- Assigning work --------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        return any(worker.doing for worker in self.workers)

    def hand_out(self) -> list[tuple[Worker, ToWorker]]:
        """Assign a tile to each idle worker and, while many wait, a second one; return messages."""
        messages = list[tuple[Worker, ToWorker]]()
        # small regions go to workers that have not served clicks, if possible
        for worker in sorted(self.workers, key=lambda each: bool(each.images)):
            if not worker.doing:
                messages += self._hand_one(worker)
        if sum(run.waiting for run in self.runs) >= len(self.workers):
            for worker in self.workers:
                if len(worker.doing) == 1 and not worker.slot.urgent_only:
                    messages += self._hand_one(worker)
        return messages

    def _hand_one(self, worker: Worker) -> Iterator[tuple[Worker, ToWorker]]:
        while (run := self._most_deserving(worker)) is not None:
            order = run.next()
            if order is None:
                continue  # cancelled in between
            self.runs.remove(run)
            self.runs.append(run)  # among equals, another run is next
            if run.task.lasting:
                order = replace(order, threads=self._free_cores())
            if not worker.doing:
                worker.since = self._clock()
            worker.doing.append(order)
            run.in_flight += 1
            if run.task.interactive:
                if run.task.fingerprint in worker.images:
                    worker.images.remove(run.task.fingerprint)
                worker.images.append(run.task.fingerprint)
            if run.number not in worker.begun:
                worker.begun.add(run.number)
                yield worker, Begin(run.number, run.task)
                if run.looked_at is not None:
                    yield worker, Look(run.number, run.looked_at)
            yield worker, order
            return

    def _free_cores(self) -> int:
        """Return the number of cores for lasting work: those whose workers are idle."""
        busy = sum(worker.slot.is_general and bool(worker.doing) for worker in self.workers)
        return max(1, self._cores - busy)

    def _most_deserving(self, worker: Worker) -> Run | None:
        """Return the run whose turn it is on `worker`."""
        candidates = [
            run
            for run in self.runs
            if run.waiting
            and self._may_take(worker, run)
            # a task may be large, and a busy worker would read it only after its tile
            and (run.number in worker.begun or not worker.doing)
        ]
        in_flight: Counter[str] = Counter()
        for run in self.runs:
            in_flight[run.owner] += run.in_flight

        def rank(run: Run) -> tuple[bool, bool, bool, int]:
            survey = run.agenda is None
            return not run.task.interactive, not survey, not run.urgent, in_flight[run.owner]

        return min(candidates, key=rank, default=None)

    def _may_take(self, worker: Worker, run: Run) -> bool:
        """Return whether `worker` may take `run`; without reserved workers, all take clicks."""
        slot, on_gpu = worker.slot, worker.slot.gpu is not None
        if self._has_gpus and run.task.on_gpu != on_gpu:
            return False
        if not run.task.interactive or not (on_gpu or self._has_lane):
            return on_gpu or run.urgent or not slot.urgent_only
        if not on_gpu and not slot.urgent_only:
            return False
        alike = (each for each in self.workers if (each.slot.gpu is not None) == on_gpu)
        home = next((each for each in alike if run.task.fingerprint in each.images), worker)
        return home is worker or self._clock() - run.since > AWAY_SECONDS

    # --- Messages from workers -------------------------------------------------------------------

    def started(self, worker: Worker) -> None:
        """Record that `worker` has finished importing and compiling."""
        worker.ready, worker.since = True, self._clock()
        self._failed_starts = 0

    def found(self, worker: Worker, order: Do, part: Result) -> None:
        """Deliver an intermediate result of `worker`."""
        worker.since = self._clock()
        if (run := self._run_of(order)) is not None:
            run.deliver(part)

    def answered(self, worker: Worker, order: Do, result: Result) -> None:
        """Deliver the final result of `order`."""
        self._observer.computed(result)
        if (run := self._ended(worker, order)) is not None:
            run.deliver(result)

    def refused(self, worker: Worker, order: Do, refusal: Refusal) -> None:
        """Report that `order` failed, or retry it in quarters if memory was short."""
        run = self._ended(worker, order)
        if run is None:
            return
        if refusal.of_memory and not order.again and run.task.divisible:
            run.first.append(Do(order.run, order.tile, again=True, in_quarters=True))
        else:
            self._report(run, order, refusal)

    def dropped(self, worker: Worker, order: Do) -> None:
        """Record that `worker` has not begun an `order` whose run was closed, and never will."""
        if order not in worker.doing:
            return
        if worker.doing[0] == order:
            worker.since, worker.given_up = self._clock(), None
        worker.doing.remove(order)

    def _ended(self, worker: Worker, order: Do) -> Run | None:
        """Return the run that waits for `order`, which `worker` has completed; None if none
        does."""
        worker.since, worker.given_up = self._clock(), None
        if order in worker.doing:  # it is absent if its run was closed in the meantime
            worker.doing.remove(order)
        run = self._run_of(order)
        if run is not None:
            run.in_flight -= 1
        return run

    def _run_of(self, order: Do) -> Run | None:
        return next((run for run in self.runs if run.number == order.run), None)

    def _report(self, run: Run, order: Do, refusal: Refusal) -> None:
        if order.tile is None:
            run.deliver(refusal)
        else:
            self._observer.tile_failed()
            message = without_folders(str(refusal.error))
            run.deliver(TileFailed(order.tile, refusal.error.code, message))

    # --- Replacing workers -----------------------------------------------------------------------

    def condemn(self, memory_mib: Callable[[Worker], float]) -> list[Worker]:
        """Return the workers to kill now; each of them has a `verdict` from now on.

        `memory_mib` measures the resident memory of a worker; it is called only if that is limited.
        """
        condemned = []
        for worker in self.workers:
            if worker.ready and worker.doing and worker.verdict is None:
                worker.verdict = self._judge(worker, memory_mib)
                if worker.verdict is not None:
                    condemned.append(worker)
        return condemned

    def _judge(self, worker: Worker, memory_mib: Callable[[Worker], float]) -> CauseOfDeath | None:
        now, bounds = self._clock(), self._bounds
        if worker.given_up is not None and now - worker.given_up > STOP_SECONDS:
            return GIVEN_UP
        limit = bounds.tile_seconds * (SURVEY_FACTOR if worker.doing[0].tile is None else 1)
        if limit and now - worker.since > limit:
            return CauseOfDeath(f"no result within {limit:g} s")
        if bounds.memory_mib and memory_mib(worker) > bounds.memory_mib:
            return CauseOfDeath(f"more than {bounds.memory_mib} MiB of memory", of_memory=True)
        return None

    def died(self, worker: Worker, exited: CauseOfDeath) -> Worker | None:
        """Return the worker to start in place of one that has died; None if that is pointless.

        `exited` is how it ended, which matters unless the scheduler condemned it.
        """
        verdict = worker.verdict or exited
        if verdict.is_failure:
            self._observer.worker_died()
        if not worker.ready:
            self._failed_starts += 1
        place = self.workers.index(worker)
        if self._failed_starts >= STARTS:  # the next one would fail too
            del self.workers[place]
            self.broken = Broken(
                "worker processes cannot start", "see the server's log for the reason"
            )
            return None
        self.workers[place] = Worker(worker.slot)
        for number, order in enumerate(worker.doing):
            if (run := self._run_of(order)) is not None:
                run.in_flight -= 1
                self._try_again(run, order, verdict, begun=worker.ready and number == 0)
        return self.workers[place]

    def _try_again(self, run: Run, order: Do, verdict: CauseOfDeath, *, begun: bool) -> None:
        if not begun:
            run.first.append(order)
        elif order.again:
            error = Broken(f"two workers died computing this: {verdict.reason}")
            self._report(run, order, Refusal(error))
        else:
            in_quarters = verdict.of_memory and run.task.divisible
            run.first.append(Do(order.run, order.tile, again=True, in_quarters=in_quarters))
