"""The interface of a volume model: a generator of labels, coarse before fine.

Between steps the worker checks for cancellation: a model must yield often, at least twice a second,
and its generator is simply closed if the job was cancelled.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoline.domain.request import Value
from isoline.errors import Broken
from isoline.geometry.volume_grid import VolumeGrid
from isoline.models.base import Model, Patch, Prediction

SLAB = 16
"""Largest number of slices in a step."""


@dataclass
class Gaze:
    """The slice that the user is looking at now; it moves while a model runs."""

    k: int


@dataclass(frozen=True)
class Scan:
    """One volume, and the request for it."""

    voxels: NDArray[np.generic]
    """(k, j, i) in the units of the modality; read-only."""
    grid: VolumeGrid
    modality: str
    """CT, MR, ...; empty if unknown."""
    parameters: Mapping[str, Value]
    focus: int
    """The slice k that the user was looking at when they sent the request."""
    gaze: Gaze | None = None
    """The slice that the user is looking at now; None if the client cannot report it."""
    have: frozenset[int] = frozenset()
    """Slices already delivered before a restart; work needed only for them can be skipped."""
    threads: int = 1
    """Number of cores that the model may use at once."""

    @property
    def look(self) -> int:
        """The slice that the user is looking at now."""
        return self.focus if self.gaze is None else self.gaze.k

    @property
    def missing(self) -> tuple[int, ...]:
        """The slices still to be delivered, ascending."""
        return tuple(k for k in range(len(self.voxels)) if k not in self.have)


@dataclass(frozen=True)
class Step:
    """A model's progress, and its results since the last step."""

    done: float
    """Share of all the work, 0 to 1."""
    slices: tuple[int, ...] = ()
    """The k of each slice in `labels`; a slice that comes again replaces its earlier version."""
    labels: NDArray[np.uint8] | None = None
    """(n, j, i); 0 is background, l is the spec's label l - 1."""
    provisional: bool = False
    """Whether this is a preview; final labels of the same slices follow."""


class VolumeModel(Model):
    """A spec whose output is `Voxels`, and `segment`."""

    @abstractmethod
    def segment(self, scan: Scan) -> Iterator[Step]:
        """Yield steps until every missing slice has been delivered once with `provisional` False.

        The labels must not depend on `scan.look`, which may only affect their order, nor on
        `scan.have` or `scan.threads`.
        """

    def infer(self, patch: Patch) -> Prediction:
        raise Broken(f"{self.spec.name} works on volumes, not on patches")


def outward(slices: int, focus: int) -> Iterator[tuple[int, ...]]:
    """Yield all of 0 .. slices - 1 in slabs, nearest to `focus` first."""
    order = sorted(range(slices), key=lambda k: (abs(k - focus), k))
    for first in range(0, slices, SLAB):
        yield tuple(sorted(order[first : first + SLAB]))


def give(
    labels: NDArray[np.uint8], focus: int, *, provisional: bool, done: float
) -> Iterator[Step]:
    """Yield all slices of `labels` (k, j, i) from `focus` outward."""
    for slices in outward(len(labels), focus):
        yield Step(done, slices, labels[list(slices)], provisional)
