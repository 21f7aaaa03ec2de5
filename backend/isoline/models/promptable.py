"""What a model is that takes prompts: it is shown a scene and says where the one object lies.

The scene gives pixels at any resolution, a box at a time, and remembers what is dear. A request
carries all prompts of its object, so a model keeps nothing of an earlier one but what a scene
keeps; the same request always gives the same answer.
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
"""(n, 3) positions k, j, i in voxels of level 0."""
Index: TypeAlias = tuple[int, ...]
"""Of a pixel: (y, x) in a picture, (k, j, i) in a volume."""


@dataclass(frozen=True)
class Window:
    """The pixels [low, high) of one resolution."""

    level: int
    low: Index
    high: Index

    @property
    def shape(self) -> Index:
        return tuple(high - low for low, high in zip(self.low, self.high, strict=True))


class ImageView(ABC):
    """An image as a promptable model sees it: two or three axes, several resolutions.

    Level 0 is the image's own pixels. At each further level pixels are twice as long along every
    axis but those along which they are twice as long as along the shortest already, so they come
    to be nearly cubes. All places are in array order, (y, x) or (k, j, i), the origin at the
    corner of the first pixel, whose centre is 0.5.
    """

    levels: int
    spacing: tuple[float, ...]
    """Length of a level-0 pixel along each axis, in any one unit: what counts is their ratio."""

    @abstractmethod
    def size(self, level: int) -> Index:
        """Return how many pixels there are along each axis."""

    @abstractmethod
    def factor(self, level: int) -> Index:
        """Return how many pixels of level 0 make one of `level` along each axis."""

    @abstractmethod
    def read(self, window: Window) -> NDArray[np.generic]:
        """Return (c, y, x) or (c, k, j, i) pixels; outside the image the nearest are repeated.

        They are not to be written to.
        """

    @abstractmethod
    def keep(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` gave for `key` on this image and model before, else make it now."""


@dataclass(frozen=True)
class Question:
    """What was asked of a scene."""

    prompts: tuple[Prompt, ...]
    """In pixels of level 0 and in array order, as all places in a scene."""
    parameters: Mapping[str, Value]
    initial: tuple[Window, NDArray[np.bool_]] | None = None
    """A mask of level 0 to start from, and where it lies."""


@dataclass(frozen=True)
class PromptedObject:
    """Where the object is."""

    window: Window
    mask: NDArray[np.bool_]
    """Of the pixels of `window`; empty where nothing was found."""
    reason: str = ""
    """Why nothing was found, a sentence for the user."""


class PromptableModel(Model):
    """A spec whose output is `Pointed`, and `answer`."""

    @abstractmethod
    def answer(self, scene: ImageView, question: Question) -> PromptedObject:
        """Return the object that the prompts point at.

        At least one prompt includes something or there is an initial mask; every position lies
        within the image or somewhat beyond its border.
        """

    def infer(self, patch: Patch) -> Prediction:
        raise Broken(f"{self.spec.name} answers prompts and works on no tiles")


def along(corners: Places) -> Places:
    """Return places at most a voxel apart on the way through `corners`."""
    parts = [corners[:1]]
    for start, end in pairwise(corners):
        n = ceil(float(np.abs(end - start).max()))
        parts.append(start + (end - start) * np.linspace(0, 1, n + 1)[1:, None])
    return thinned(np.concatenate(parts))


def overlap(window: Window, other: Window) -> tuple[slice, ...]:
    """Return the slices, in voxels of `window`, of what it shares with `other`."""
    axes = zip(window.low, window.high, other.low, other.high, strict=True)
    return tuple(
        slice(max(low, others) - low, max(min(high, its), low) - low)
        for low, high, others, its in axes
    )


MOST_PLACES = 4000
"""Of one stroke."""


def thinned(places: Places) -> Places:
    """Return so many of `places` as a stroke may have."""
    return places[:: -(-len(places) // MOST_PLACES)]
