"""The output of one tile: events for viewers, and the state that merging across seams needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import NDArray

from isoline.domain.events import (
    End,
    Event,
)

Arrays: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Batch:
    """The output of one step of a job; its events are numbered from `seq`, without gaps."""

    seq: int
    """The number of the first event or, if there is none, of the next one to come."""
    tile: tuple[int, int] | None
    """(column, row) of the tile that it comes from, None if it comes from no tile."""
    events: tuple[Event, ...]
    carry: Arrays | None = None
    """The state that merging across seams needs."""

    @property
    def last_seq(self) -> int:
        return self.seq + len(self.events) - 1

    @property
    def ends(self) -> bool:
        """Whether it contains the last event of the job."""
        return bool(self.events) and isinstance(self.events[-1], End)

    def numbered(self, after: int = -1) -> Iterator[tuple[int, Event]]:
        """Yield (number, event) of the events after number `after`."""
        for seq, event in enumerate(self.events, self.seq):
            if seq > after:
                yield seq, event
