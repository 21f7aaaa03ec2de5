"""The interface of an engine, which runs the tiles of a task and returns results in any order."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from isoline.geometry.grid import XY
from isoline.geometry.tiling import Lattice, Tile
from isoline.inference.task import Result, Task


@dataclass(frozen=True)
class Bounds:
    """Resource limits of one worker."""

    tile_seconds: float = 0.0
    """Longest time for one tile; 0 means no limit."""
    memory_mib: int = 0
    """Largest resident memory of one worker; 0 means no limit."""
    seen_mib: int = 512
    """Size of one worker's cache for prompt work."""


class Observer:
    """Receives notifications from any thread of an engine. This base class ignores them."""

    def computed(self, result: Result) -> None:
        """Called when a worker has computed a result."""

    def tile_failed(self) -> None:
        """Called when a tile is reported as failed."""

    def worker_died(self) -> None:
        """Called when a worker has died or exceeded its limits, and was replaced."""


class Agenda:
    """The pending tiles of a job, nearest to the focus first.

    Shared by the pipeline, which adds tiles; the engine, which takes them; and the HTTP threads,
    which move the focus or cancel.
    """

    def __init__(
        self,
        lattice: Lattice,
        tiles: Iterable[Tile],
        focus: XY | None,
        *,
        urgent: bool = False,
        owner: str = "",
    ) -> None:
        """Hold `tiles`; urgent agendas take precedence, and owners share the workers evenly."""
        self.urgent = urgent
        self.owner = owner
        self._lattice = lattice
        self._focus = focus
        self._lock = threading.Lock()
        self._cancelled = False
        self.slice: int | None = None
        """In a volume, the slice k that the user has moved to, None if they have not."""
        self._waiting = sorted(tiles, key=lattice.order(focus), reverse=True)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def take(self) -> Tile | None:
        """Remove and return the tile nearest to the focus; None if none is left."""
        with self._lock:
            return self._waiting.pop() if self._waiting else None

    def add(self, tiles: Iterable[Tile]) -> None:
        with self._lock:
            if not self._cancelled:
                self._waiting += tiles
                self._sort()

    def drop(self, unwanted: Callable[[Tile], bool]) -> None:
        """Drop the tiles that need not be computed after all."""
        with self._lock:
            self._waiting = [tile for tile in self._waiting if not unwanted(tile)]

    def focus(self, focus: XY) -> None:
        """Move the focus to `focus`, in grid pixels."""
        with self._lock:
            self._focus = focus
            self._sort()

    def cancel(self) -> None:
        """Drop every pending tile and accept no more."""
        with self._lock:
            self._cancelled = True
            self._waiting.clear()

    def _sort(self) -> None:
        self._waiting.sort(key=self._lattice.order(self._focus), reverse=True)


class Engine(ABC):
    """Runs tiles; code that uses this interface does not know where."""

    @abstractmethod
    def survey(self, task: Task, agenda: Agenda) -> Result | None:
        """Survey the whole image: run `Task.survey` in a worker.

        Returns None if `agenda`, which waits for it, is cancelled meanwhile.
        Raises whatever the source or the model raises.
        """

    @abstractmethod
    def run(self, task: Task, agenda: Agenda) -> Iterator[Result]:
        """Yield the result of every tile of `agenda`, in any order, until it is empty.

        A tile may produce several results; the last of them completes it.

        Tiles may be added to the agenda while this runs, by the consumer between two results.
        Closing the iterator cancels tiles in flight.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop every worker."""
