"""Reorienting volumes so that their axes run towards given sides of the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from isoline.geometry.volume_grid import VolumeGrid

T = TypeVar("T")

SIDES = {
    "L": (1, 0, 0),
    "R": (-1, 0, 0),
    "P": (0, 1, 0),
    "A": (0, -1, 0),
    "S": (0, 0, 1),
    "I": (0, 0, -1),
}
"""Left, right, posterior, anterior, superior, inferior, in LPS."""


@dataclass(frozen=True)
class Orientation:
    """The orientation of a (k, j, i) array relative to three sides of the patient.

    It is the nearest one if the array is oblique.
    """

    axes: tuple[int, int, int]
    """The array axes that run along the first, the second and the third side."""
    flips: tuple[bool, bool, bool]
    """Which of these three run in the opposite direction."""

    @classmethod
    def towards(cls, sides: str, grid: VolumeGrid) -> Orientation:
        """Return the orientation of arrays on `grid` relative to `sides`, such as "RAS"."""
        steps = np.array([grid.step_k_mm, grid.step_j_mm, grid.step_i_mm])
        steps = steps / np.linalg.norm(steps, axis=1)[:, None]
        along = np.array([SIDES[side] for side in sides]) @ steps.T
        chosen: list[int] = [-1, -1, -1]
        strength = np.abs(along)
        for _ in range(3):
            side, axis = np.unravel_index(np.argmax(strength), (3, 3))
            chosen[int(side)] = int(axis)
            strength[side, :] = strength[:, axis] = -1
        first, second, third = (bool(along[n, chosen[n]] < 0) for n in range(3))
        return cls((chosen[0], chosen[1], chosen[2]), (first, second, third))

    @property
    def flipped_axes(self) -> tuple[int, ...]:
        """The array axes that run in the opposite direction."""
        return tuple(axis for axis, flip in zip(self.axes, self.flips, strict=True) if flip)

    def turn(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of a (k, j, i) `array` with its axes along the sides."""
        turned: NDArray[Any] = np.flip(array.transpose(self.axes), self._flipped)
        return turned

    def back(self, turned: NDArray[Any]) -> NDArray[Any]:
        """Undo `turn`."""
        array: NDArray[Any] = np.flip(turned, self._flipped).transpose(np.argsort(self.axes))
        return array

    @property
    def _flipped(self) -> tuple[int, ...]:
        return tuple(n for n in range(3) if self.flips[n])

    def of_array(self, by_side: Sequence[T]) -> tuple[T, T, T]:
        """Return values given for each side in the order of the array's axes."""
        k, j, i = (by_side[self.axes.index(axis)] for axis in range(3))
        return k, j, i
