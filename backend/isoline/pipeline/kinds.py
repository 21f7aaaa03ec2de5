"""Kinds of work: the interface that each implements, from the request to its events.

A kind is a class registered in the entry-point group `isoline.kinds`. It recognises its requests,
validates them and makes plans; a plan determines the lane of its job and produces its events. Jobs,
engines and HTTP know only this interface, not the kinds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

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
    """The queue of a job: jobs in a lane start before those in the next."""

    INTERACTIVE = 0
    """A user has clicked and is waiting for the result."""
    SMALL = 1
    """A few tiles: a user is waiting."""
    LARGE = 2

    @property
    def urgent(self) -> bool:
        """Whether it takes precedence over large work."""
        return self is not Lane.LARGE


@dataclass(frozen=True)
class Context:
    """A request, and everything that it refers to."""

    request: SegmentRequest
    model: type[Model]
    parameters: Mapping[str, Value]
    """Validated, with defaults filled in."""
    found: Found
    limits: Limits
    surveys: Surveys

    @property
    def spec(self) -> ModelSpec:
        return self.model.spec

    def task_head(self, scope: Scope) -> TaskHead:
        """Return the common part of this request's task, whose results have `scope`."""
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
    """A valid request, ready to run."""

    started: Started
    """The first event of the job."""
    format: str
    replaces: tuple[bytes, ...] = ()
    """Ids of 16 bytes of features that the result replaces."""

    transient: ClassVar[bool] = False
    """Whether its result is returned from memory and stored only if the request says so."""

    @property
    @abstractmethod
    def lane(self) -> Lane:
        """The lane of its job."""

    @property
    @abstractmethod
    def tile_count(self) -> int:
        """The number of tiles that it starts with."""

    @abstractmethod
    def agenda(self, owner: str = "") -> Agenda:
        """Return the agenda of a job of `owner`, with all its tiles."""

    @abstractmethod
    def look(self, agenda: Agenda, at: XY | SliceName | int) -> None:
        """Move the focus of `agenda` to a point, in image coordinates, or to a slice.

        Raises NotSupported or BadRegion if the image does not have it.
        """

    @property
    def settles_by_tile(self) -> bool:
        """Whether the results in a tile are final once that tile has been computed."""
        return False

    def tiles_of(self, points: NDArray[np.float64]) -> NDArray[np.int32]:
        """Return the (n, 2) column, row of the tile that computes the results at each point.

        `points` are (n, 2) x, y in image coordinates. -1, -1 is a point outside the region. A plan
        that is one tile computes everything.
        """
        return np.zeros((len(points), 2), np.int32)

    @abstractmethod
    def events(
        self,
        engine: Engine,
        agenda: Agenda,
        replay: Iterable[Batch] = (),
        turn: AbstractContextManager[object] = nullcontext(),  # noqa: B008  it has no state
    ) -> Iterator[Batch]:
        """Run the plan and yield its events in batches, numbered without gaps.

        `agenda` holds its tiles; others may move its focus or cancel it meanwhile. `replay` is the
        output of an earlier, interrupted run of the same job: the batches continue where it ended,
        and nothing is computed again unnecessarily. Work that holds the interpreter for long is
        done within `turn`, a lock shared by all such work in the process.
        """

    def named(self: P, job: str) -> P:
        """Return the plan for the job with this id."""
        return replace(self, started=replace(self.started, job=job))


@dataclass(frozen=True, kw_only=True)
class OneTilePlan(Plan):
    """A plan with a single tile: the whole image."""

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
        """Return whether `request` is of this kind; exactly one kind must accept each request."""

    @classmethod
    @abstractmethod
    def plan(cls, context: Context, encoder: type[Encoder]) -> Plan:
        """Validate a request and return its plan, without computing. Raises a RequestError."""

    @classmethod
    def footprint(cls, context: Context) -> Box:
        """Return the image pixels that the results of a request depend on.

        Raises NotSupported if the kind does not support uploads, and what `plan` raises.
        """
        raise NotSupported(
            f"{context.spec.name} does not support uploaded pixels",
            "use an image that the server can see",
        )


KINDS: Plugins[Kind] = Plugins("kind")
"""The installed kinds of work."""
