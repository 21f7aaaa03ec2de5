"""What travels to a worker and back: a task of some kind, and its results. All of it is picklable.

A kind of work is a subclass of `Task` in a file of its own: it says what a worker does with a tile
and how the engine may schedule it. Engines and jobs know this interface and no kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypedDict

from isoline.domain.events import Scope
from isoline.domain.request import Value
from isoline.errors import Broken
from isoline.geometry.tiling import Tile
from isoline.inference.resources import Resources
from isoline.models.model import Model, ModelSpec
from isoline.sources.source import Remote, Source


class Result:
    """What a worker found out; each kind of work has its own."""

    @property
    def stage_seconds(self) -> Mapping[str, float]:
        """How long each stage took, for those who measure."""
        return {}


@dataclass(frozen=True)
class TileFailed(Result):
    """A tile that could not be read, whose model raised, or whose worker died twice."""

    tile: Tile
    code: str
    message: str


@dataclass
class Attention:
    """What a worker is told while it computes a tile."""

    slice: int | None = None
    """Of a volume: the slice k that the user has turned to, None where they have not."""
    threads: int = 1
    """How many cores it may use."""


class TaskHead(TypedDict):
    """What every task says, as keyword arguments."""

    path: Path | Remote
    reader: str
    fingerprint: str
    model: str
    spec: ModelSpec
    parameters: Mapping[str, Value]
    scope: Scope


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """What every kind of work needs to know to compute any tile of one job."""

    path: Path | Remote
    reader: str
    fingerprint: str
    """What identifies the content of the image, by whatever name it was opened."""
    model: str
    """Its name in the catalogue."""
    spec: ModelSpec
    parameters: Mapping[str, Value]
    scope: Scope

    interactive: ClassVar[bool] = False
    """Whether somebody waits for its one answer."""
    lasting: ClassVar[bool] = False
    """Whether a tile is one long computation: idle cores help it, and it may not stop when told."""

    @property
    def divisible(self) -> bool:
        """Whether the quarters of a tile together give its result."""
        return False

    @property
    def on_gpu(self) -> bool:
        """Whether its model computes on a GPU where there is one."""
        return self.spec.on_gpu

    def source(self, resources: Resources) -> Source:
        """Return its image, open. Raises Unreadable, also where it changed since the plan."""
        return resources.source(self.path, self.reader, self.fingerprint)

    def load_model(self, resources: Resources) -> Model:
        """Return its model, the weights loaded."""
        return resources.model(self.model, self.scope.version)

    @abstractmethod
    def compute(self, resources: Resources, tile: Tile, attention: Attention) -> Iterator[Result]:
        """Yield what is found in `tile` as it is found; the last result completes it.

        Closing the iterator stops the work; `attention` may change meanwhile. Raises Unreadable
        where the image is damaged, and whatever the model raises.
        """

    def compute_in_quarters(self, resources: Resources, tile: Tile) -> Result:
        """Return the result of a divisible `tile`, computed in four parts to need less memory."""
        raise Broken(f"{self.model} does not work in parts of a tile")

    def survey(self, resources: Resources) -> Result:
        """Look at the whole image once, where the kind of work needs that before its first tile."""
        raise Broken(f"{self.model} needs no survey")
