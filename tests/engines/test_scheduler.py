"""The policy of engines, driven by a clock that stands still and workers that are only names.

Runs are called a, b, c; a run's tiles lie in a row, a0, a1, a2. What the scheduler has workers told
reads "0 does a1": the worker in slot 0 computes the second tile of run a.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from isoline.engines.engine import Agenda, Bounds, Observer
from isoline.engines.messages import Begin, Do, Forget, Look, Refusal, Reply, ToWorker
from isoline.engines.scheduler import GIVEN_UP, CauseOfDeath, Run, Scheduler, Slot, Worker
from isoline.errors import Broken, Unreadable
from isoline.geometry.grid import XY, Grid, Overlap
from isoline.geometry.tiling import Lattice, Tile
from isoline.inference.task import Result, Task, TileFailed

TILE_PX = 10
ANY, CLICKS, GPU = Slot(), Slot(urgent_only=True), Slot(gpu="cuda:0")
CRASHED = CauseOfDeath("exit code 1")
NO_MEMORY = CauseOfDeath("exit code -9", of_memory=True)


@dataclass(frozen=True)
class Work:
    """What a scheduler asks, answered."""

    interactive: bool = False
    lasting: bool = False
    divisible: bool = True
    on_gpu: bool = False
    fingerprint: str = "slide"
    name: str = ""


CLICK = Work(interactive=True)
VOLUME = Work(lasting=True, divisible=False)


@dataclass(frozen=True)
class Found(Result):
    """What a worker gave for a tile."""

    tile: Tile | None


class Counts(Observer):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.computed_ = self.failed = self.died = 0

    def computed(self, result: Result) -> None:
        self.computed_ += 1

    def tile_failed(self) -> None:
        self.failed += 1

    def worker_died(self) -> None:
        self.died += 1


@dataclass
class Consumer:
    """A run, and what it was given."""

    name: str
    run: Run
    agenda: Agenda | None
    given: list[Reply]

    @property
    def results(self) -> list[str]:
        return [self._told(reply) for reply in self.given]

    def _told(self, reply: Reply) -> str:
        match reply:
            case Found(tile):
                return _called(self.name, tile)
            case TileFailed(tile, code, message):
                return f"{_called(self.name, tile)} failed: {code}: {message}"
            case Refusal(error):
                return f"{self.name} refused: {error}"
        raise AssertionError(reply)


def _called(name: str, tile: Tile | None) -> str:
    return name if tile is None else f"{name}{tile.column}"


@dataclass
class Stage:
    """A scheduler, its workers by their slots, and its runs by their names."""

    slots: list[Slot]
    bounds: Bounds = Bounds()  # noqa: RUF009  it is frozen
    cores: int = 1
    now: float = 1000.0
    counts: Counts = field(default_factory=Counts)
    consumers: dict[int, Consumer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(
            self.slots,
            self.bounds,
            cores=self.cores,
            observer=self.counts,
            clock=lambda: self.now,
        )
        for worker in self.scheduler.workers:
            self.scheduler.started(worker)

    def open(
        self, name: str, tiles: int = 4, work: Work = Work(), owner: str = "", urgent: bool = False
    ) -> Consumer:
        lattice = Lattice(Grid((tiles * TILE_PX, TILE_PX), XY(1.0, 1.0)), TILE_PX, 0)
        row = lattice.tiles(lattice.grid.bounds, lambda _: Overlap.ALL)
        return self._open(name, work, Agenda(lattice, row, None, urgent=urgent, owner=owner))

    def click(self, name: str, image: str) -> Consumer:
        return self.open(name, 1, Work(interactive=True, fingerprint=image), urgent=True)

    def survey(self, name: str, work: Work = Work()) -> Consumer:
        return self._open(name, work, None)

    def _open(self, name: str, work: Work, agenda: Agenda | None) -> Consumer:
        given = list[Reply]()
        run = self.scheduler.open(cast(Task, replace(work, name=name)), agenda, given.append)
        self.consumers[run.number] = Consumer(name, run, agenda, given)
        return self.consumers[run.number]

    def worker(self, place: int) -> Worker:
        return self.scheduler.workers[place]

    def next(self, *, begins: bool = False) -> list[str]:
        """Have work handed out; leave out who is told of a run unless `begins`."""
        told = self.told(self.scheduler.hand_out())
        return [line for line in told if begins or " begins " not in line]

    def told(self, told: Iterable[tuple[Worker, ToWorker]]) -> list[str]:
        return [
            f"{self.scheduler.workers.index(worker)} {self._line(message)}"
            for worker, message in told
        ]

    def _line(self, message: ToWorker) -> str:
        match message:
            case Begin(run, task):
                name = self.consumers[run].name
                assert cast(Any, task).name == name
                return f"begins {name}"
            case Do(run, None, again):
                return f"surveys {self.consumers[run].name}" + " again" * again
            case Do(run, tile, again, in_quarters, threads):
                does = f"does {_called(self.consumers[run].name, tile)}" + " again" * again
                does += " in quarters" * in_quarters
                return does if threads == 1 else f"{does} on {threads} cores"
            case Look(run, k):
                return f"looks at {self.consumers[run].name} {k}"
            case Forget(run):
                return f"forgets {self.consumers[run].name}"

    def answer(self, place: int) -> None:
        """Let a worker end what it is at."""
        order = self.worker(place).doing[0]
        self.scheduler.answered(self.worker(place), order, Found(order.tile))

    def refuse(self, place: int, error: Refusal) -> None:
        self.scheduler.refused(self.worker(place), self.worker(place).doing[0], error)

    def die(self, place: int, exited: CauseOfDeath = CRASHED) -> bool:
        """Let a worker die and its successor start; return whether there is one."""
        successor = self.scheduler.died(self.worker(place), exited)
        if successor is not None:
            assert self.worker(place) is successor
            self.scheduler.started(successor)
        return successor is not None

    def condemned(self, *mib: float) -> list[int]:
        """Return the places of those to kill now, where workers use `mib` of memory."""
        measured = dict(zip(self.scheduler.workers, mib, strict=False))
        killed = self.scheduler.condemn(lambda worker: measured[worker])
        return [self.scheduler.workers.index(worker) for worker in killed]


# --- Order -------------------------------------------------------------------------------------


def test_a_worker_holds_one_tile_and_the_next() -> None:
    stage = Stage([ANY])
    run = stage.open("a", 4)
    assert stage.next(begins=True) == ["0 begins a", "0 does a0", "0 does a1"]
    assert stage.next() == []
    stage.answer(0)
    assert stage.next(begins=True) == ["0 does a2"]
    for _ in range(3):
        assert not run.run.answered
        stage.answer(0)
        stage.next()
    assert run.run.answered
    assert run.results == ["a0", "a1", "a2", "a3"]
    assert stage.counts.computed_ == 4
    assert not stage.scheduler.busy


def test_the_last_tiles_go_to_whoever_is_idle_first() -> None:
    stage = Stage([ANY, ANY])
    stage.open("a", 3)
    assert stage.next() == ["0 does a0", "1 does a1"]  # a2 waits: fewer are left than workers
    stage.answer(1)
    assert stage.next() == ["1 does a2"]


def test_the_tile_nearest_to_the_focus_is_next() -> None:
    stage = Stage([ANY])
    run = stage.open("a", 9)
    assert stage.next() == ["0 does a0", "0 does a1"]
    assert run.agenda is not None
    run.agenda.focus(XY(72.0, 5.0))
    stage.answer(0)
    assert stage.next() == ["0 does a7"]
    stage.answer(0)
    assert stage.next() == ["0 does a6"]


def test_who_goes_first() -> None:
    """Clicks, then surveys, then urgent tiles, then the others, whenever each came."""
    stage = Stage([ANY])
    stage.open("large", 1)
    stage.open("small", 1, urgent=True)
    stage.survey("overview")
    stage.open("click", 1, CLICK, urgent=True)
    order = []
    while told := stage.next():
        order += told
        stage.answer(0)
    assert order == ["0 does click0", "0 surveys overview", "0 does small0", "0 does large0"]


def test_a_busy_worker_takes_a_second_tile_only_of_runs_that_it_knows() -> None:
    """Their tasks may be long, and it reads no pipe meanwhile."""
    stage = Stage([ANY])
    stage.open("a", 4)
    assert stage.next() == ["0 does a0", "0 does a1"]
    stage.open("b", 4, urgent=True)
    stage.answer(0)
    assert stage.next() == ["0 does a2"]
    stage.answer(0)
    stage.answer(0)
    assert stage.next(begins=True) == ["0 begins b", "0 does b0", "0 does b1"]


def test_owners_share_the_workers_evenly() -> None:
    stage = Stage([ANY] * 4)
    for name in ("a", "b", "c"):
        stage.open(name, 1, owner="ann")
    stage.open("z", 1, owner="zoe")
    assert stage.next() == ["0 does a0", "1 does z0", "2 does b0", "3 does c0"]


def test_who_has_least_under_way_is_next() -> None:
    stage = Stage([ANY] * 3)
    stage.open("a", 9, owner="ann")
    stage.open("z", 2, owner="zoe")
    assert stage.next() == [
        "0 does a0",
        "1 does z0",
        "2 does a1",
        "0 does a2",
        "1 does z1",
        "2 does a3",
    ]


def test_runs_of_an_owner_take_turns() -> None:
    stage = Stage([ANY])
    for name in ("a", "b", "c"):
        stage.open(name, 2, owner="ann")
    order = []
    while told := stage.next():
        order += told
        while stage.scheduler.busy:
            stage.answer(0)
    assert order == ["0 does a0", "0 does a1", "0 does b0", "0 does b1", "0 does c0", "0 does c1"]
    stage = Stage([ANY] * 5)
    for name in ("a", "b", "c"):
        stage.open(name, 2, owner="ann")
    assert stage.next() == [
        f"{place} does {tile}" for place, tile in enumerate(["a0", "b0", "c0", "a1", "b1"])
    ]


# --- Who is for what ---------------------------------------------------------------------------


def test_a_slide_leaves_the_urgent_worker_free() -> None:
    stage = Stage([CLICKS, ANY])
    stage.open("a", 5)
    stage.survey("overview")
    assert stage.next() == ["1 surveys overview"]
    stage.open("small", 5, urgent=True)
    assert stage.next() == ["0 does small0"]  # and never two at once
    stage.answer(1)
    assert stage.next() == ["1 does small1", "1 does small2"]


def test_a_click_waits_for_the_urgent_worker() -> None:
    stage = Stage([CLICKS, ANY])
    stage.open("small", 1, urgent=True)
    assert stage.next() == ["0 does small0"]
    stage.click("click", "slide")
    assert stage.next() == []
    stage.answer(0)
    assert stage.next() == ["0 does click0"]


@pytest.mark.slow
def test_clicks_go_to_the_worker_that_knows_the_image() -> None:
    stage = Stage([CLICKS, CLICKS, ANY])
    told = []
    for name, image in (("a", "one"), ("b", "two"), ("c", "one"), ("d", "two"), ("e", "three")):
        stage.click(name, image)
        told += stage.next()
        stage.answer(int(told[-1][0]))
    assert told == ["0 does a0", "1 does b0", "0 does c0", "1 does d0", "0 does e0"]


def test_a_small_region_avoids_the_worker_of_clicks() -> None:
    stage = Stage([CLICKS, CLICKS, ANY])
    stage.click("click", "one")
    assert stage.next() == ["0 does click0"]
    stage.answer(0)
    stage.open("small", 2, urgent=True)
    assert stage.next() == ["1 does small0", "2 does small1"]


def test_a_click_does_not_wait_long_for_the_worker_that_knows_the_image() -> None:
    stage = Stage([CLICKS, CLICKS])
    stage.click("a", "one")
    assert stage.next() == ["0 does a0"]
    stage.click("b", "one")
    assert stage.next() == []
    stage.now += 0.25
    assert stage.next() == []
    stage.now += 0.01
    assert stage.next() == ["1 does b0"]


def test_only_the_last_images_are_remembered() -> None:
    stage = Stage([CLICKS, CLICKS])
    told = list[str]()
    for n in range(65):
        stage.worker(1).images.append("elsewhere")  # of two that know something, 0 comes first
        stage.click(f"n{n}.", f"image {n}")
        told += stage.next()
        stage.answer(0)
    assert told == [f"0 does n{n}.0" for n in range(65)]
    assert list(stage.worker(0).images) == [f"image {n}" for n in range(1, 65)]


def test_an_image_that_was_just_looked_at_is_remembered_longest() -> None:
    stage = Stage([CLICKS])
    for image in ("one", "two", "one"):
        stage.click("click", image)
        assert stage.next() == ["0 does click0"]
        stage.answer(0)
    assert list(stage.worker(0).images) == ["two", "one"]


def test_only_clicks_make_an_image_known() -> None:
    stage = Stage([CLICKS, CLICKS])
    stage.open("small", 1, Work(fingerprint="one"), urgent=True)
    assert stage.next() == ["0 does small0"]
    stage.click("click", "one")
    assert stage.next() == ["1 does click0"]


def test_where_there_are_gpus_networks_run_on_them_alone() -> None:
    stage = Stage([CLICKS, ANY, GPU])
    stage.open("network", 4, Work(on_gpu=True))
    stage.open("plain", 4)
    assert stage.next() == [
        "1 does plain0",
        "2 does network0",
        "1 does plain1",
        "2 does network1",
    ]


def test_without_gpus_networks_run_anywhere() -> None:
    stage = Stage([ANY, ANY])
    stage.open("network", 2, Work(on_gpu=True))
    assert stage.next() == ["0 does network0", "1 does network1"]


@pytest.mark.slow
def test_of_several_gpus_one_knows_the_image() -> None:
    stage = Stage([CLICKS, GPU, GPU])
    told = []
    for name, on_gpu in (("a", False), ("b", True), ("c", True), ("d", False)):
        stage.open(name, 1, Work(interactive=True, on_gpu=on_gpu), urgent=True)
        told += stage.next()
        stage.answer(int(told[-1][0]))
    assert told == ["0 does a0", "1 does b0", "1 does c0", "0 does d0"]


def test_lasting_work_uses_the_cores_of_idle_workers() -> None:
    stage = Stage([CLICKS, ANY, ANY, ANY], cores=3)
    stage.open("a", 1)
    assert stage.next() == ["1 does a0"]
    stage.open("v", 1, VOLUME)
    stage.open("w", 1, VOLUME)
    assert stage.next() == ["2 does v0 on 2 cores", "3 does w0"]


def test_workers_of_clicks_and_gpus_use_no_core_of_others() -> None:
    stage = Stage([CLICKS, ANY, GPU], cores=2)
    stage.open("click", 1, CLICK, urgent=True)
    stage.open("network", 1, Work(on_gpu=True))
    assert stage.next() == ["0 does click0", "2 does network0"]
    stage.open("v", 1, VOLUME)
    assert stage.next() == ["1 does v0 on 2 cores"]


# --- When a worker dies ------------------------------------------------------------------------


def test_the_tile_of_a_dead_worker_is_tried_once_more() -> None:
    stage = Stage([ANY])
    run = stage.open("a", 3)
    assert stage.next() == ["0 does a0", "0 does a1"]
    assert stage.die(0)
    # a1 had not begun: nothing speaks against it
    assert stage.next(begins=True) == ["0 begins a", "0 does a0 again", "0 does a1"]
    assert stage.die(0)
    assert run.results == ["a0 failed: Broken: two workers died computing this: exit code 1"]
    assert stage.next() == ["0 does a1", "0 does a2"]
    stage.answer(0)
    stage.answer(0)
    assert run.results[1:] == ["a1", "a2"]
    assert run.run.answered
    assert (stage.counts.died, stage.counts.failed, stage.counts.computed_) == (2, 1, 2)


@pytest.mark.parametrize(("divisible", "how"), [(True, " in quarters"), (False, "")])
def test_when_memory_was_short_a_tile_is_divided(divisible: bool, how: str) -> None:
    stage = Stage([ANY])
    stage.open("a", 1, Work(divisible=divisible))
    assert stage.next() == ["0 does a0"]
    stage.die(0, NO_MEMORY)
    assert stage.next() == [f"0 does a0 again{how}"]


OUT_OF_MEMORY = Refusal(Broken("out of memory"), of_memory=True)


def test_a_refusal_for_want_of_memory_is_tried_in_quarters() -> None:
    stage = Stage([ANY])
    run = stage.open("a", 1)
    assert stage.next() == ["0 does a0"]
    stage.refuse(0, OUT_OF_MEMORY)
    assert not run.run.answered
    assert stage.next() == ["0 does a0 again in quarters"]
    stage.refuse(0, OUT_OF_MEMORY)
    assert run.results == ["a0 failed: Broken: out of memory"]
    assert run.run.answered


@pytest.mark.parametrize(
    ("refusal", "divisible", "said"),
    [
        (Refusal(Unreadable("a strip is damaged")), True, "Unreadable: a strip is damaged"),
        (OUT_OF_MEMORY, False, "Broken: out of memory"),
    ],
)
def test_a_refusal_is_final_where_quarters_do_not_help(
    refusal: Refusal, divisible: bool, said: str
) -> None:
    stage = Stage([ANY])
    run = stage.open("a", 2, Work(divisible=divisible))
    assert stage.next() == ["0 does a0", "0 does a1"]
    stage.refuse(0, refusal)
    assert run.results == [f"a0 failed: {said}"]
    assert stage.next() == []
    assert stage.counts.failed == 1


def test_a_survey_that_fails_is_refused() -> None:
    stage = Stage([ANY])
    run = stage.survey("a")
    assert stage.next() == ["0 surveys a"]
    stage.die(0)
    assert stage.next() == ["0 surveys a again"]
    stage.die(0)
    assert run.results == ["a refused: two workers died computing this: exit code 1"]
    assert run.run.answered
    assert stage.counts.failed == 0  # no tile did


def test_engines_give_up_when_workers_do_not_start() -> None:
    stage = Stage([ANY, ANY])
    stage.open("a", 1)
    assert stage.next() == ["0 does a0"]
    kept = stage.worker(1)
    first = stage.scheduler.died(stage.worker(0), CRASHED)
    assert first is not None
    assert stage.next() == ["0 does a0 again"]
    second = stage.scheduler.died(first, CRASHED)
    assert second is not None
    assert stage.next() == ["0 does a0 again"]  # the second had not begun with it
    third = stage.scheduler.died(second, CRASHED)
    assert third is not None
    assert stage.scheduler.broken is None
    assert stage.scheduler.died(third, CRASHED) is None
    assert str(stage.scheduler.broken).startswith("worker processes cannot start")
    assert stage.scheduler.workers == [kept]


def test_the_first_workers_may_fail_to_start() -> None:
    counts = Counts()
    scheduler = Scheduler([ANY] * 3, Bounds(), cores=3, observer=counts)
    first, second, third = scheduler.workers
    assert scheduler.died(first, CRASHED) is not None
    assert scheduler.died(second, CRASHED) is not None
    assert scheduler.broken is None
    assert scheduler.died(third, CRASHED) is None
    assert str(scheduler.broken).startswith("worker processes cannot start")
    assert counts.died == 3


def test_a_worker_that_starts_proves_that_workers_start() -> None:
    stage = Stage([ANY, ANY])
    for _ in range(3):
        dead = stage.scheduler.died(stage.worker(0), CRASHED)
        assert dead is not None
        for _ in range(2):
            dead = stage.scheduler.died(dead, CRASHED)
            assert dead is not None
        stage.scheduler.started(dead)
    assert stage.scheduler.broken is None
    assert stage.counts.died == 9


# --- What a worker may take --------------------------------------------------------------------


def test_a_tile_that_takes_too_long_costs_its_worker() -> None:
    stage = Stage([ANY, ANY], Bounds(tile_seconds=10))
    run = stage.open("a", 1)
    assert stage.next() == ["0 does a0"]
    stage.now += 10
    assert stage.condemned() == []
    stage.now += 0.1
    assert stage.condemned() == [0]
    assert stage.condemned() == []  # once is enough
    stage.die(0, NO_MEMORY)  # that is how a killed process looks
    assert stage.next() == ["0 does a0 again"]
    stage.now += 10.1
    assert stage.condemned() == [0]
    stage.die(0)
    assert run.results == [
        "a0 failed: Broken: two workers died computing this: no result within 10 s"
    ]


def test_each_tile_has_its_own_time() -> None:
    stage = Stage([ANY], Bounds(tile_seconds=10))
    stage.open("a", 2)
    stage.next()
    stage.now += 9
    stage.answer(0)
    stage.now += 9
    assert stage.condemned() == []
    stage.now += 1.1
    assert stage.condemned() == [0]


def test_time_runs_from_when_the_tile_was_begun() -> None:
    stage = Stage([ANY], Bounds(tile_seconds=10))
    stage.now += 60
    run = stage.open("a", 1)
    assert stage.next() == ["0 does a0"]
    assert stage.condemned() == []
    stage.now += 9
    tile = stage.worker(0).doing[0].tile
    assert tile is not None
    assert run.agenda is not None
    run.agenda.add([tile])
    assert stage.next() == ["0 does a0"]  # which gives the first no more time
    stage.now += 1.1
    assert stage.condemned() == [0]


def test_a_survey_may_take_longer() -> None:
    stage = Stage([ANY], Bounds(tile_seconds=10))
    stage.survey("a")
    stage.next()
    stage.now += 50
    assert stage.condemned() == []
    stage.now += 0.1
    assert stage.condemned() == [0]


def test_each_part_of_an_answer_gives_more_time() -> None:
    stage = Stage([ANY], Bounds(tile_seconds=10))
    run = stage.open("v", 1, VOLUME)
    stage.next()
    order = stage.worker(0).doing[0]
    stage.now += 9
    stage.scheduler.found(stage.worker(0), order, Found(order.tile))
    stage.now += 9
    assert stage.condemned() == []
    assert run.results == ["v0"]
    assert not run.run.answered
    stage.now += 1.1
    assert stage.condemned() == [0]


def test_a_worker_may_take_its_time_to_start() -> None:
    stage = Stage([ANY], Bounds(tile_seconds=10))
    successor = stage.scheduler.died(stage.worker(0), CRASHED)
    assert successor is not None
    stage.open("a", 1)
    assert stage.next() == ["0 does a0"]
    stage.now += 60
    assert stage.condemned() == []
    stage.scheduler.started(successor)
    assert stage.condemned() == []
    stage.now += 10.1
    assert stage.condemned() == [0]


def test_a_worker_that_grows_too_large_is_replaced() -> None:
    stage = Stage([ANY, ANY, ANY], Bounds(memory_mib=500))
    stage.open("a", 2)
    assert stage.next() == ["0 does a0", "1 does a1"]
    assert stage.condemned(500, 501, 9000) == [1]  # 2 has nothing to do
    assert stage.worker(1).verdict == CauseOfDeath("more than 500 MiB of memory", of_memory=True)
    stage.die(1)
    assert stage.next() == ["1 does a1 again in quarters"]


def test_memory_is_not_measured_without_a_limit() -> None:
    stage = Stage([ANY])
    stage.open("a", 1)
    stage.next()
    stage.now += 1e6
    assert stage.condemned() == []


# --- Giving up, and where the user looks -------------------------------------------------------


def test_a_cancelled_run_gets_no_more_tiles() -> None:
    stage = Stage([ANY])
    run = stage.open("a", 9)
    assert stage.next() == ["0 does a0", "0 does a1"]
    assert run.agenda is not None
    run.agenda.cancel()
    stage.answer(0)
    assert stage.next() == []
    stage.answer(0)
    assert run.run.answered
    assert run.results == ["a0", "a1"]


def test_who_leaves_takes_what_has_not_begun_along() -> None:
    stage = Stage([ANY, ANY])
    a, b = stage.open("a", 4), stage.open("b", 4)
    assert stage.next() == ["0 does a0", "1 does b0", "0 does a1", "1 does b1"]
    assert stage.told(stage.scheduler.close(a.run)) == ["0 forgets a"]
    assert [order.tile and order.tile.column for order in stage.worker(0).doing] == [0]
    stage.answer(0)
    assert a.results == []
    assert stage.next() == ["0 does b2"]
    assert stage.counts.computed_ == 1
    stage.answer(1)
    assert b.results == ["b0"]
    assert stage.condemned() == []


def test_a_tile_that_was_not_begun_when_its_run_was_closed_holds_up_nobody() -> None:
    """The worker hears of the end after its last reply and before it has begun the next tile."""
    stage = Stage([ANY])
    a = stage.open("a", 2)
    assert stage.next() == ["0 does a0", "0 does a1"]
    b = stage.open("b", 1)
    _, second = stage.worker(0).doing
    stage.answer(0)
    stage.scheduler.close(a.run)
    assert stage.next() == []
    stage.scheduler.dropped(stage.worker(0), second)
    assert stage.next() == ["0 does b0"]
    stage.scheduler.dropped(stage.worker(0), second)
    stage.answer(0)
    assert b.results == ["b0"]


def test_a_run_may_be_cancelled_while_its_next_tile_is_taken() -> None:
    class Hasty(Agenda):
        def take(self) -> Tile | None:
            self.cancel()
            return super().take()

    stage = Stage([ANY])
    run = stage.open("a", 4)
    assert run.agenda is not None
    run.agenda.__class__ = Hasty
    stage.open("b", 1)
    assert stage.next(begins=True) == ["0 begins b", "0 does b0"]
    assert run.run.answered


def test_what_comes_after_its_consumer_has_left_is_dropped() -> None:
    stage = Stage([ANY])
    a = stage.open("a", 2)
    assert stage.next() == ["0 does a0", "0 does a1"]
    stage.open("b", 3)
    first, second = stage.worker(0).doing
    stage.scheduler.close(a.run)
    stage.scheduler.refused(stage.worker(0), first, OUT_OF_MEMORY)
    # the worker had begun with it when it heard that nobody waits
    stage.scheduler.answered(stage.worker(0), second, Found(second.tile))
    assert a.results == []
    assert stage.next() == ["0 does b0", "0 does b1"]


def test_a_tile_that_was_given_up_may_end() -> None:
    stage = Stage([ANY])
    a = stage.open("a", 1)
    stage.next()
    stage.scheduler.close(a.run)
    stage.now += 60
    assert stage.condemned() == []
    stage.die(0)
    assert stage.next() == []  # and is not tried again


@pytest.mark.parametrize("survey", [True, False])
def test_long_work_that_was_given_up_and_goes_on_costs_its_worker(survey: bool) -> None:
    stage = Stage([ANY, ANY])
    a = stage.survey("a") if survey else stage.open("a", 1, VOLUME)
    stage.open("b", 1)
    assert len(stage.next()) == 2
    assert stage.told(stage.scheduler.close(a.run)) == ["0 forgets a"]
    stage.now += 0.69
    assert stage.condemned() == []
    stage.now += 0.02
    assert stage.condemned() == [0]
    assert stage.worker(0).verdict is GIVEN_UP
    assert stage.die(0, NO_MEMORY)
    assert stage.counts.died == 0  # nothing went wrong
    assert stage.next() == []


def test_long_work_that_stops_when_told_keeps_its_worker() -> None:
    stage = Stage([ANY])
    a = stage.open("a", 1, VOLUME)
    stage.next()
    stage.scheduler.close(a.run)
    stage.now += 0.5
    stage.answer(0)
    stage.open("b", 1)
    assert stage.next() == ["0 does b0"]
    stage.now += 60
    assert stage.condemned() == []


def test_the_worker_at_a_volume_hears_where_the_user_looks() -> None:
    stage = Stage([ANY, ANY])
    run = stage.open("v", 1, VOLUME)
    assert run.agenda is not None
    run.agenda.slice = 5
    assert stage.told(stage.scheduler.look(run.run)) == []  # nobody is at it yet
    assert stage.next(begins=True) == ["0 begins v", "0 does v0"]
    assert stage.told(stage.scheduler.look(run.run)) == ["0 looks at v 5"]
    assert stage.told(stage.scheduler.look(run.run)) == []
    run.agenda.slice = 7
    assert stage.told(stage.scheduler.look(run.run)) == ["0 looks at v 7"]
    stage.die(0)
    assert stage.next(begins=True) == ["0 begins v", "0 looks at v 7", "0 does v0 again"]
    assert stage.told(stage.scheduler.look(run.run)) == []
