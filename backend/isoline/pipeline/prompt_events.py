"""The way of one request with prompts: one question, one answer, no tiles.

What the prompts ask is checked in `asked`; here is what a job then says.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from isoline.domain.batch import Batch
from isoline.domain.events import Cancelled, Contours, Done, Event, Failed, Objects, Started, Warned
from isoline.engines.base import Agenda, Engine
from isoline.inference.results import cut_off
from isoline.inference.task import Answered, Task, TileFailed

NOTHING_FOUND = "NothingFound"


def events(
    task: Task, started: Started, engine: Engine, agenda: Agenda, replay: Iterable[Batch] = ()
) -> Iterator[Batch]:
    """Run `task` and yield what it gives, numbered without gaps.

    After a restart the question is asked again: `replay` only says which number comes next.
    """
    began = time.monotonic()
    seq = max((earlier.last_seq for earlier in replay), default=-1) + 1
    if seq == 0:
        yield Batch(0, None, (started,))
        seq = 1
    told: tuple[Event, ...] = (Cancelled(0, 1),)
    for result in engine.run(task, agenda):
        if isinstance(result, TileFailed):
            told = (Failed(result.code, result.message),)
        else:
            assert isinstance(result, Answered)
            told = (*_told(result), Done(_count(result), 1, 0, 0, time.monotonic() - began))
    yield Batch(seq, None, told)


def _told(answered: Answered) -> tuple[Event, ...]:
    if answered.found is None:
        return (Warned(NOTHING_FOUND, answered.reason),)
    if isinstance(answered.found, Objects):
        cut = int(answered.found.incomplete.sum())
        return (Contours(answered.found), *cut_off(cut))
    return (answered.found,)


def _count(answered: Answered) -> int:
    return int(answered.found is not None)
