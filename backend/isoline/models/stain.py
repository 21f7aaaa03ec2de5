"""Stain vectors in brightfield, estimated from the pixels of one image.

By the Beer-Lambert law, the optical density of a pixel is the sum of its stains' densities, each
along a fixed direction in (red, green, blue). Densities here are natural logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoline.models.model import Patch
from isoline.models.tissue_mask import Glass, foreign

HEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.07, 0.99, 0.11])
DAB = np.array([0.27, 0.57, 0.78])
"""Densities in (red, green, blue) as measured by Ruifrok and Johnston (2001)."""

_STRIDE = 3
"""Every third pixel of a sample along each axis is enough to estimate its stains."""
_FAINTEST = 0.15
"""Mean optical density below which a pixel counts as glass."""
_FEWEST = 1000
"""Number of tissue pixels below which nothing is estimated."""
_NOTABLE_SHARE = 0.2
"""Share of pixels left out from which the user is told."""


@dataclass(frozen=True)
class Stains:
    """Hematoxylin and one counterstain, on the glass of one image."""

    white: NDArray[np.uint8]
    """(3,) the colour of clear glass."""
    vectors: NDArray[np.float64]
    """(2, 3) unit vectors of optical density: hematoxylin, counterstain."""

    @property
    def density(self) -> NDArray[np.float64]:
        """(3, 256) optical density for each value of each channel."""
        levels = np.maximum(np.arange(256), 1)
        table: NDArray[np.float64] = np.log(self.white.astype(np.float64))[:, None] - np.log(levels)
        return np.maximum(table, 0)

    @property
    def unmixing(self) -> NDArray[np.float64]:
        """(2, 3): amounts of hematoxylin and counterstain = unmixing @ density."""
        inverse: NDArray[np.float64] = np.linalg.pinv(self.vectors).T
        return inverse


@dataclass(frozen=True)
class Sampled:
    """Pixels of one image from which to estimate its stains."""

    pixels: NDArray[np.uint8]
    """(3, n), without felt pen and black."""
    left_out: int
    """The number of pixels that are pen or black."""

    def remarks(self) -> tuple[str, ...]:
        """Return what a user should know of an estimate from these pixels."""
        share = self.left_out / max(self.left_out + self.pixels.shape[1], 1)
        tissue = tissue_densities(self.pixels, Glass.of(self.pixels).white).shape[1]
        found = []
        if share >= _NOTABLE_SHARE:
            found.append(f"{share:.0%} of the pixels looked at are black or felt pen")
        if tissue < _FEWEST:
            found.append(
                "there is too little tissue to estimate its stains; usual ones are assumed"
            )
        return tuple(found)


def sampled(samples: Sequence[Patch]) -> Sampled:
    """Sample pixels regularly from the part of each patch that is on the image."""
    kept, left_out = [np.empty((3, 0), np.uint8)], 0
    for sample in samples:
        box = sample.image
        part = sample.pixels[:, box.y0 : box.y1, box.x0 : box.x1].astype(np.uint8)
        usable = ~foreign(part)[::_STRIDE, ::_STRIDE]
        kept.append(part[:, ::_STRIDE, ::_STRIDE][:, usable])
        left_out += int(np.count_nonzero(~usable))
    return Sampled(np.concatenate(kept, axis=1), left_out)


def tissue_densities(pixels: NDArray[np.uint8], white: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (3, m) the optical densities of those of `pixels` (3, n) that are not glass."""
    table = Stains(white, np.stack([HEMATOXYLIN, EOSIN])).density
    density = np.stack([table[c][pixels[c]] for c in range(3)])
    return density[:, density.mean(axis=0) > _FAINTEST]


def estimate(pixels: NDArray[np.uint8], trust: float = 0.5) -> Stains:
    """Estimate the stains of an image from (3, n) of its pixels.

    `trust` weighs the result of Macenko's method against the known directions of hematoxylin and
    of eosin or DAB, whichever is nearer: the estimate follows the slide, and the priors stabilise
    it if the slide shows only one stain.
    """
    white = Glass.of(pixels).white
    density = tissue_densities(pixels, white)
    priors = np.stack([_unit(HEMATOXYLIN), _unit(EOSIN)])
    if density.shape[1] < _FEWEST:
        return Stains(white, priors)
    found = macenko(density)
    if found[1] @ _unit(DAB) > found[1] @ _unit(EOSIN):
        priors[1] = _unit(DAB)
    blended = trust * found + (1 - trust) * priors
    if _unit(blended[0]) @ _unit(blended[1]) > np.cos(np.deg2rad(10)):
        blended = priors  # only one stain: directions this close cannot be separated
    return Stains(white, np.stack([_unit(vector) for vector in blended]))


def macenko(density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (2, 3) unit stain vectors of densities (3, n), the more hematoxylin-like first.

    Macenko et al. (2009): the robust extremes of the angle in the plane of the two largest
    principal components.
    """
    _, components = np.linalg.eigh(np.cov(density))
    plane = components[:, :0:-1]  # (3, 2), the largest first
    plane = plane * np.where(plane.sum(axis=0) < 0, -1, 1)
    along, across = plane.T @ density
    angles = np.percentile(np.arctan2(across, along), (1, 99))
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane.T
    vectors = np.clip(vectors, 0.01, None)  # no stain adds light
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    # hematoxylin absorbs relatively the most red
    ordered: NDArray[np.float64] = vectors[np.argsort(-vectors[:, 0])]
    return ordered


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = vector / np.linalg.norm(vector)
    return unit
