"""Tasks, which are sent to a worker, and the results that come back; all are picklable.

A kind of work is a subclass of `Task` in its own module: it defines what a worker does with a tile
and how the engine may schedule it. Engines and jobs know only this interface, not the kinds.
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
    """A worker's result; each kind of work has its own type."""

    @property
    def stage_seconds(self) -> Mapping[str, float]:
        """The duration of each stage, for metrics."""
        return {}


@dataclass(frozen=True)
class TileFailed(Result):
    """A tile that could not be read, whose model raised an error, or whose worker died twice."""

    tile: Tile
    code: str
    message: str


@dataclass
class Attention:
    """Information that a worker receives while it computes a tile."""

    slice: int | None = None
    """In a volume, the slice k that the user has moved to, None if they have not."""
    threads: int = 1
    """Number of cores that it may use."""


class TaskHead(TypedDict):
    """The fields of every task, as keyword arguments."""

    path: Path | Remote
    reader: str
    fingerprint: str
    model: str
    spec: ModelSpec
    parameters: Mapping[str, Value]
    scope: Scope


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """Everything needed to compute any tile of one job."""

    path: Path | Remote
    reader: str
    fingerprint: str
    """Identifies the image's content, whatever its name."""
    model: str
    """The model's name in the catalogue."""
    spec: ModelSpec
    parameters: Mapping[str, Value]
    scope: Scope

    interactive: ClassVar[bool] = False
    """Whether a user is waiting for its single result."""
    lasting: ClassVar[bool] = False
    """Whether a tile is one long computation, which can use idle cores but may not stop
    promptly."""

    @property
    def divisible(self) -> bool:
        """Whether the result of a tile can be computed from its quarters."""
        return False

    @property
    def on_gpu(self) -> bool:
        """Whether its model uses a GPU if there is one."""
        return self.spec.on_gpu

    def source(self, resources: Resources) -> Source:
        """Return its open image. Raises Unreadable, including if it has changed since the plan."""
        return resources.source(self.path, self.reader, self.fingerprint)

    def load_model(self, resources: Resources) -> Model:
        """Return its model, with weights loaded."""
        return resources.model(self.model, self.scope.version)

    @abstractmethod
    def compute(self, resources: Resources, tile: Tile, attention: Attention) -> Iterator[Result]:
        """Yield the results for `tile` as they are found; the last one completes it.

        Closing the iterator stops the work; `attention` may change meanwhile. Raises Unreadable if
        the image is damaged, and whatever the model raises.
        """

    def compute_in_quarters(self, resources: Resources, tile: Tile) -> Result:
        """Return the result of a divisible `tile`, computed in four parts to use less memory."""
        raise Broken(f"{self.model} cannot compute a tile in parts")

    def survey(self, resources: Resources) -> Result:
        """Survey the whole image, if the kind of work needs that before its first tile."""
        raise Broken(f"{self.model} does not need a survey")
