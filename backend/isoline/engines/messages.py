"""What an engine and its worker processes say to each other over a pipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from isoline.errors import IsolineError
from isoline.geometry.tiling import Tile
from isoline.inference.task import Result, Task


@dataclass(frozen=True)
class Begin:
    """Orders of this run are about to follow."""

    run: int
    task: Task


@dataclass(frozen=True)
class Do:
    """Compute one tile, or survey the image where there is none."""

    run: int
    tile: Tile | None
    again: bool = False
    """Whether a worker has died of it before."""
    in_quarters: bool = False
    """Compute the tile in four parts, one after the other, to need less memory."""
    threads: int = 1
    """How many cores it may use."""


@dataclass(frozen=True)
class Look:
    """The user looks at this slice of the run's volume now."""

    run: int
    slice: int


@dataclass(frozen=True)
class Forget:
    """The run has ended: drop its task and the orders of it that wait."""

    run: int


ToWorker: TypeAlias = Begin | Do | Look | Forget


@dataclass(frozen=True)
class Refusal:
    """What a worker raised, in words for the user."""

    error: IsolineError
    of_memory: bool = False


@dataclass(frozen=True)
class Ready:
    """The worker has imported and compiled what it needs."""


Reply: TypeAlias = Result | Refusal


@dataclass(frozen=True)
class Completed:
    """What became of an order; nothing follows it."""

    order: Do
    result: Reply


@dataclass(frozen=True)
class Part:
    """What was found on the way to an answer."""

    order: Do
    result: Result


FromWorker: TypeAlias = Ready | Part | Completed
