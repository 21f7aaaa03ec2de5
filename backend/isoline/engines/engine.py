"""What an engine is: it runs the tiles of a task somewhere and gives the results in any order."""

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
    """What one worker may take."""

    tile_seconds: float = 0.0
    """Longest time for one tile; 0: as long as it likes."""
    memory_mib: int = 0
    """Largest resident memory of one worker; 0: as much as there is."""
    seen_mib: int = 512
    """What one worker keeps of what prompts made it read and compute."""


class Observer:
    """Is told what happens in an engine, by any of its threads. This one takes note of nothing."""

    def computed(self, result: Result) -> None:
        """A worker has answered."""

    def tile_failed(self) -> None:
        """A tile was reported as failed."""

    def worker_died(self) -> None:
        """A worker died or was killed for what it took, and was replaced."""


class Agenda:
    """The tiles of a job that nobody has taken yet, nearest to the focus first.

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
        """Hold `tiles`; urgent ones go before all others, and owners share the workers evenly."""
        self.urgent = urgent
        self.owner = owner
        self._lattice = lattice
        self._focus = focus
        self._lock = threading.Lock()
        self._cancelled = False
        self.slice: int | None = None
        """Of a volume: the slice k that the user has turned to, None where they have not."""
        self._waiting = sorted(tiles, key=lattice.order(focus), reverse=True)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def take(self) -> Tile | None:
        """Remove and return the tile nearest to the focus; None when there is none left."""
        with self._lock:
            return self._waiting.pop() if self._waiting else None

    def add(self, tiles: Iterable[Tile]) -> None:
        with self._lock:
            if not self._cancelled:
                self._waiting += tiles
                self._sort()

    def drop(self, unwanted: Callable[[Tile], bool]) -> None:
        """Forget the tiles that need not be computed after all."""
        with self._lock:
            self._waiting = [tile for tile in self._waiting if not unwanted(tile)]

    def focus(self, focus: XY) -> None:
        """Look at `focus`, in grid pixels, from now on."""
        with self._lock:
            self._focus = focus
            self._sort()

    def cancel(self) -> None:
        """Forget every tile that nobody has taken and accept no more."""
        with self._lock:
            self._cancelled = True
            self._waiting.clear()

    def _sort(self) -> None:
        self._waiting.sort(key=self._lattice.order(self._focus), reverse=True)


class Engine(ABC):
    """Runs tiles; nothing above this seam knows where."""

    @abstractmethod
    def survey(self, task: Task, agenda: Agenda) -> Result | None:
        """Look at the whole image once, as `Task.survey` does in a worker.

        Returns None when `agenda`, which waits for it, is cancelled meanwhile.
        Raises whatever the source or the model raises.
        """

    @abstractmethod
    def run(self, task: Task, agenda: Agenda) -> Iterator[Result]:
        """Yield the result of every tile of `agenda`, in any order, until it is empty.

        A tile may give many results; the last of them completes it.

        Tiles may be added to the agenda while this runs, by the consumer between two results.
        Closing the iterator gives up what is in flight.
        """

    @abstractmethod
    def close(self) -> None:
        """End every worker."""
