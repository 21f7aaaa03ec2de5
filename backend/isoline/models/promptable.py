"""The interface of a promptable model: from an image view and prompts, it segments one object.

The view reads pixels at any resolution, a window at a time, and caches expensive results. A request
carries all prompts of its object, so a model keeps no state between requests except in the view's
cache; the same request always gives the same result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from isoline.domain.prompts import Prompt
from isoline.domain.request import Value
from isoline.errors import Broken
from isoline.models.base import Model, Patch, Prediction

T = TypeVar("T")
Bool: TypeAlias = NDArray[np.bool_]
Places: TypeAlias = NDArray[np.float64]
"""(n, 3) positions (k, j, i) in voxels of level 0."""
Index: TypeAlias = tuple[int, ...]
"""Index of a pixel: (y, x) in a picture, (k, j, i) in a volume."""


@dataclass(frozen=True)
class Window:
    """The pixels [low, high) of one level."""

    level: int
    low: Index
    high: Index

    @property
    def shape(self) -> Index:
        return tuple(high - low for low, high in zip(self.low, self.high, strict=True))


class ImageView(ABC):
    """An image as a promptable model sees it: two or three axes, several levels.

    Level 0 holds the image's own pixels. Each further level doubles the pixel size along every
    axis, except along axes where pixels are already twice as long as along the shortest, so that
    pixels become nearly isotropic. All positions are in array order, (y, x) or (k, j, i), with the
    origin at the corner of the first pixel, whose centre is at 0.5.
    """

    levels: int
    spacing: tuple[float, ...]
    """Length of a level-0 pixel along each axis, in any common unit: only the ratios matter."""

    @abstractmethod
    def size(self, level: int) -> Index:
        """Return the number of pixels along each axis at `level`."""

    @abstractmethod
    def factor(self, level: int) -> Index:
        """Return how many pixels of level 0 make up one of `level` along each axis."""

    @abstractmethod
    def read(self, window: Window) -> NDArray[np.generic]:
        """Return (c, y, x) or (c, k, j, i) pixels; outside the image, the nearest pixel is
        repeated.

        The caller must not write to the array.
        """

    @abstractmethod
    def keep(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the cached result of `make` for `key`, this image and this model, or make it
        now."""


@dataclass(frozen=True)
class Question:
    """A request to a promptable model."""

    prompts: tuple[Prompt, ...]
    """In pixels of level 0 and in array order, like all positions in an image view."""
    parameters: Mapping[str, Value]
    initial: tuple[Window, NDArray[np.bool_]] | None = None
    """A level-0 mask to start from, and the window that it covers."""


@dataclass(frozen=True)
class PromptedObject:
    """The object that a promptable model found."""

    window: Window
    mask: NDArray[np.bool_]
    """The pixels of `window` in the object; all False if nothing was found."""
    reason: str = ""
    """Why nothing was found: a sentence for the user."""


class PromptableModel(Model):
    """A model that takes prompts: a spec with `prompts`, and `answer`."""

    @abstractmethod
    def answer(self, scene: ImageView, question: Question) -> PromptedObject:
        """Return the object that the prompts indicate.

        At least one prompt includes something or there is an initial mask. Positions may lie
        slightly outside the image.
        """

    def infer(self, patch: Patch) -> Prediction:
        raise Broken(f"{self.spec.name} takes prompts and does not work on tiles")


def along(corners: Places) -> Places:
    """Return positions at most a voxel apart on the path through `corners`."""
    parts = [corners[:1]]
    for start, end in pairwise(corners):
        n = ceil(float(np.abs(end - start).max()))
        parts.append(start + (end - start) * np.linspace(0, 1, n + 1)[1:, None])
    return thinned(np.concatenate(parts))


def overlap(window: Window, other: Window) -> tuple[slice, ...]:
    """Return the overlap of `window` with `other`, as slices of `window`."""
    axes = zip(window.low, window.high, other.low, other.high, strict=True)
    return tuple(
        slice(max(low, others) - low, max(min(high, its), low) - low)
        for low, high, others, its in axes
    )


MOST_PLACES = 4000
"""Largest number of positions in one stroke."""


def thinned(places: Places) -> Places:
    """Return an even selection of at most MOST_PLACES of `places`."""
    return places[:: -(-len(places) // MOST_PLACES)]
