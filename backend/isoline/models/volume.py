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

from isoline.errors import Broken
from isoline.models.base import Model, Patch, Prediction, Value
from isoline.volume_geometry import VolumeGrid

SLAB = 16
"""How many slices a step gives at most."""


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
    """The slice k that the user looks at."""


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
        """Yield steps until every slice has been given once with `provisional` False.

        The labels do not depend on `scan.focus`, only the order in which they come.
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
