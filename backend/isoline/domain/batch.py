"""What one tile gives: the events that viewers hear, and what the stitcher needs to go on."""

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
    """What one step of a job gave; the events are numbered from `seq` on, without gaps."""

    seq: int
    """The number of the first event; of the next one to come when there are none."""
    tile: tuple[int, int] | None
    """(column, row) of the tile that gave it, None for what no tile gave."""
    events: tuple[Event, ...]
    carry: Arrays | None = None
    """What the stitcher needs to go on."""

    @property
    def last_seq(self) -> int:
        return self.seq + len(self.events) - 1

    @property
    def ends(self) -> bool:
        """Whether it holds the last event of the job."""
        return bool(self.events) and isinstance(self.events[-1], End)

    def numbered(self, after: int = -1) -> Iterator[tuple[int, Event]]:
        """Yield (number, event) of the events after number `after`."""
        for seq, event in enumerate(self.events, self.seq):
            if seq > after:
                yield seq, event
