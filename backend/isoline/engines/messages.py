"""The messages between an engine and its worker processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from isoline.errors import IsolineError
from isoline.geometry.tiling import Tile
from isoline.inference.task import Result, Task


@dataclass(frozen=True)
class Begin:
    """Announces a run whose orders follow."""

    run: int
    task: Task


@dataclass(frozen=True)
class Do:
    """An order to compute one tile or, if there is none, to survey the image."""

    run: int
    tile: Tile | None
    again: bool = False
    """Whether this is the second attempt."""
    in_quarters: bool = False
    """Whether to compute the tile in four parts, one after the other, to use less memory."""
    threads: int = 1
    """Number of cores that it may use."""


@dataclass(frozen=True)
class Look:
    """Reports that the user is now looking at this slice of the run's volume."""

    run: int
    slice: int


@dataclass(frozen=True)
class Forget:
    """Reports that the run has ended: drop its task and its pending orders, each with a reply."""

    run: int


ToWorker: TypeAlias = Begin | Do | Look | Forget


@dataclass(frozen=True)
class Refusal:
    """The error that a worker raised, with a message for the user."""

    error: IsolineError
    of_memory: bool = False


@dataclass(frozen=True)
class Ready:
    """Reports that the worker has finished importing and compiling."""


Reply: TypeAlias = Result | Refusal


@dataclass(frozen=True)
class Completed:
    """The final result of an order."""

    order: Do
    result: Reply


@dataclass(frozen=True)
class Part:
    """An intermediate result of an order."""

    order: Do
    result: Result


@dataclass(frozen=True)
class Dropped:
    """Reports that an order of a forgotten run was dropped before it was begun."""

    order: Do


FromWorker: TypeAlias = Ready | Part | Completed | Dropped
