"""What a model of volumes is: a generator that gives labels as they come, coarse before fine.

Between two steps the worker looks whether anybody still waits: a model yields often, at least
twice a second, and is simply closed when the job was stopped.
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
"""How many slices a step gives at most."""


@dataclass
class Gaze:
    """The slice that the user looks at now; it moves while a model works."""

    k: int


@dataclass(frozen=True)
class Scan:
    """One volume, and what was asked of it."""

    voxels: NDArray[np.generic]
    """(k, j, i) in the units of the modality; read-only."""
    grid: VolumeGrid
    modality: str
    """CT, MR, ...; empty where unknown."""
    parameters: Mapping[str, Value]
    focus: int
    """The slice k that the user looked at when they asked."""
    gaze: Gaze | None = None
    """Where they look now, None where they cannot say."""
    have: frozenset[int] = frozenset()
    """Slices that were given before a restart; the work for them alone can be left out."""
    threads: int = 1
    """How many cores the model may use at once."""

    @property
    def look(self) -> int:
        """The slice that the user looks at now."""
        return self.focus if self.gaze is None else self.gaze.k

    @property
    def missing(self) -> tuple[int, ...]:
        """The slices that have to be given, ascending."""
        return tuple(k for k in range(len(self.voxels)) if k not in self.have)


@dataclass(frozen=True)
class Step:
    """How far a model is, and what it found since the last step."""

    done: float
    """Share of the whole work, 0 to 1."""
    slices: tuple[int, ...] = ()
    """The k of each slice in `labels`; a slice may come again and then replaces itself."""
    labels: NDArray[np.uint8] | None = None
    """(n, j, i), 0 is nothing, l is the spec's label l - 1."""
    provisional: bool = False
    """A first impression; final labels of the same slices follow."""


class VolumeModel(Model):
    """A spec whose output is `Voxels`, and `segment`."""

    @abstractmethod
    def segment(self, scan: Scan) -> Iterator[Step]:
        """Yield steps until every missing slice has been given once with `provisional` False.

        The labels do not depend on `scan.look`, only the order in which they come; nor on
        `scan.have`, `scan.threads`.
        """

    def infer(self, patch: Patch) -> Prediction:
        raise Broken(f"{self.spec.name} works on volumes, not on patches")


def outward(slices: int, focus: int) -> Iterator[tuple[int, ...]]:
    """Yield all of 0 .. slices - 1 in slabs, those nearest to `focus` first."""
    order = sorted(range(slices), key=lambda k: (abs(k - focus), k))
    for first in range(0, slices, SLAB):
        yield tuple(sorted(order[first : first + SLAB]))


def give(
    labels: NDArray[np.uint8], focus: int, *, provisional: bool, done: float
) -> Iterator[Step]:
    """Yield the slices of whole `labels` (k, j, i) from `focus` outward."""
    for slices in outward(len(labels), focus):
        yield Step(done, slices, labels[list(slices)], provisional)
