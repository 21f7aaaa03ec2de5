"""Kinds of work: what each answers for, from the request to its events.

A kind is a class registered in the entry-point group `isoline.kinds`. It says which requests are
its own, finds every mistake in them, and makes a plan; a plan says in which lane it waits and what
its job tells. Jobs, engines and HTTP know this interface and no kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import ClassVar, TypeVar

from isoline.config.settings import Limits
from isoline.domain.batch import Batch
from isoline.domain.events import Scope, Started
from isoline.domain.request import SegmentRequest, Value
from isoline.engines.engine import Agenda, Engine
from isoline.errors import NotSupported
from isoline.exports.encoder import Encoder
from isoline.geometry.grid import XY, Box
from isoline.geometry.tiling import Lattice, Tile
from isoline.geometry.volume_grid import SliceName
from isoline.images.catalog import Found
from isoline.inference.task import TaskHead
from isoline.models.model import Model, ModelSpec
from isoline.pipeline.surveys import Surveys
from isoline.plugins import Plugins

P = TypeVar("P", bound="Plan")


class Lane(IntEnum):
    """Where a job waits: those of a lane start before those of the next."""

    INTERACTIVE = 0
    """Somebody has clicked and waits for the one answer."""
    SMALL = 1
    """A few tiles: somebody sits there and waits."""
    LARGE = 2

    @property
    def urgent(self) -> bool:
        """Whether it goes before large work wherever both could go."""
        return self is not Lane.LARGE


@dataclass(frozen=True)
class Context:
    """A request, and what it names."""

    request: SegmentRequest
    model: type[Model]
    parameters: Mapping[str, Value]
    """Checked, defaults filled in."""
    found: Found
    limits: Limits
    surveys: Surveys

    @property
    def spec(self) -> ModelSpec:
        return self.model.spec

    def task_head(self, scope: Scope) -> TaskHead:
        """Return what the task of this request says like every other; results depend on `scope`."""
        info = self.found.info
        return TaskHead(
            path=self.found.path,
            reader=info.reader,
            fingerprint=info.fingerprint,
            model=self.request.model,
            spec=self.spec,
            parameters=self.parameters,
            scope=scope,
        )


@dataclass(frozen=True, kw_only=True)
class Plan(ABC):
    """A request in which nothing is wrong."""

    started: Started
    """The first event of its job."""
    format: str

    transient: ClassVar[bool] = False
    """Whether its answer is given from memory, and kept only where the request says so."""

    @property
    @abstractmethod
    def lane(self) -> Lane:
        """Where its job waits."""

    @property
    @abstractmethod
    def tile_count(self) -> int:
        """How many tiles it begins with."""

    @abstractmethod
    def agenda(self, owner: str = "") -> Agenda:
        """Return the tiles of a job of `owner`, none of them taken yet."""

    @abstractmethod
    def look(self, agenda: Agenda, at: XY | SliceName | int) -> None:
        """Have `agenda` look at a point, in image coordinates, or at a slice from now on.

        Raises NotSupported or BadRegion for what the image does not have.
        """

    @abstractmethod
    def events(
        self,
        engine: Engine,
        agenda: Agenda,
        replay: Iterable[Batch] = (),
        turn: AbstractContextManager[object] = nullcontext(),  # noqa: B008  it has no state
    ) -> Iterator[Batch]:
        """Run the plan and yield what it gives, a batch at a time, numbered without gaps.

        `agenda` holds its tiles; others may move its focus or cancel it meanwhile. `replay` is what
        an earlier run of the same job gave before it was cut off: the batches go on where it
        ended, and nothing is computed again that need not be. What takes the interpreter for long
        is done within `turn`: a lock of all who do that in one process.
        """

    def named(self: P, job: str) -> P:
        """Return the plan of the job with this id."""
        return replace(self, started=replace(self.started, job=job))


@dataclass(frozen=True, kw_only=True)
class OneTilePlan(Plan):
    """A request whose work is one tile: the whole image."""

    @property
    def lattice(self) -> Lattice:
        grid = self.started.grid
        return Lattice(grid, max(grid.size), 0)

    @property
    def tiles(self) -> tuple[Tile, ...]:
        return (self.lattice.tile(0, 0),)

    @property
    def tile_count(self) -> int:
        return 1

    def agenda(self, owner: str = "") -> Agenda:
        return Agenda(self.lattice, self.tiles, None, urgent=self.lane.urgent, owner=owner)


class Kind(ABC):
    """One kind of work."""

    @classmethod
    @abstractmethod
    def accepts(cls, request: SegmentRequest, model: type[Model]) -> bool:
        """Return whether `request` is of this kind; of all kinds exactly one says so."""

    @classmethod
    @abstractmethod
    def plan(cls, context: Context, encoder: type[Encoder]) -> Plan:
        """Find every mistake in a request; nothing is computed yet. Raises a RequestError."""

    @classmethod
    def footprint(cls, context: Context) -> Box:
        """Return the image pixels that the results of a request depend on.

        Raises NotSupported where the image cannot be uploaded for it, and what `plan` raises.
        """
        raise NotSupported(
            f"{context.spec.name} takes no uploaded pixels", "name an image that the server sees"
        )


KINDS: Plugins[Kind] = Plugins("kind")
"""The kinds of work that are installed."""
