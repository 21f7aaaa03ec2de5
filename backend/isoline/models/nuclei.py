"""Cell nuclei in H&E and IHC, without weights, with results independent of tiling.

    pixels -> amount of hematoxylin, scaled by the image's own statistics, 8 bit
           -> blur -> max-tree: every dark spot, and how the spots nest
           -> score each by the sharpness of its edge and by how well an ellipse fits it
           -> keep the best that do not overlap -> fill holes, smooth, split at necks
           -> optionally, grow each into a cell

Every step works in integers or depends on the object alone, and looks no further than `reach_px`
beyond the largest nucleus, so the tile borders leave no trace.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from isoline.domain.events import Label
from isoline.domain.request import Value
from isoline.errors import BadSpacing
from isoline.kernels import expand, maxtree, shape
from isoline.models import stain
from isoline.models.model import Bounded, Instances, Model, ModelSpec, Number, Patch, Statistics
from isoline.models.tissue_mask import otsu

MAX_EXTENT_UM = 25.0
BLUR_UM = 0.375
SMOOTHING_UM = 0.5
"""Radius of the disc that smooths an outline."""
NECK_UM = 0.3
NECK_PERCENT = 12
"""How much narrower than the two parts the neck between them must be, in per cent of radius."""
USUAL_AREA_UM2 = 12.0
"""Area at which the penalty for small objects halves the merit."""
FAIR_MERIT = 500
"""The merit that gives a score of 0.5."""

_PALE, _DARK = 40, 140
"""Levels that the mean cytoplasm and the mean nucleus of an image get in the hematoxylin
channel."""
_FLOOR = 60
"""Level below which nothing counts as a nucleus."""
_LEAST_CONTRAST = 0.3
"""Difference in optical density between nuclei and cytoplasm; a smaller one is noise within one."""
_LEAST_NUCLEUS = 0.5
"""Optical density from which tissue of a single kind is taken for nuclei."""
_REACH_PX = 8
_ONE = 16
"""The value 1 in the fixed-point hematoxylin table."""


class Nuclei(Model):
    """Nuclei as dark, round spots of hematoxylin with sharp edges."""

    spec: ClassVar[ModelSpec] = ModelSpec(
        name="nuclei",
        title="Nuclei",
        description="Cell nuclei in H&E or IHC with a hematoxylin counterstain; needs no weights.",
        version="1",
        labels=(Label("Nucleus", (0, 200, 83)), Label("Cell", (0, 150, 255))),
        output=Bounded(MAX_EXTENT_UM),
        spacings_um=(0.25, 0.5),
        reach_px=_REACH_PX,
        skips_glass=True,
        has_statistics=True,
        parameters=(
            Number(
                "min_score",
                0.5,
                0.05,
                0.95,
                "Minimum score, from sharpness, shape and size: higher finds fewer, surer nuclei.",
            ),
            Number("min_area_um2", 10, 1, 400, "Minimum area of a nucleus."),
            Number("max_area_um2", 300, 1, 600, "Maximum area of a nucleus."),
            Number(
                "cell_expansion_um",
                0,
                0,
                20,
                "How far to grow each nucleus into a cell, without overlaps; 0: nuclei only.",
            ),
        ),
        cite="Salembier et al., IEEE Trans. Image Process. 7:555 (1998); Macenko et al., ISBI 2009",
    )

    @classmethod
    def output(cls, parameters: Mapping[str, Value]) -> Bounded:
        grown = float(parameters["cell_expansion_um"])
        if not grown:
            return Bounded(MAX_EXTENT_UM)
        # a cell can lose pixels to any nucleus within its expansion, and that nucleus must be seen
        # whole, together with every candidate that it was preferred to
        return Bounded(MAX_EXTENT_UM + 2 * grown, reach_um=grown + MAX_EXTENT_UM)

    def statistics(self, samples: Sequence[Patch]) -> Statistics:
        """Return `table` (3, 256), which maps pixels to hematoxylin levels, and `scale` (2,).

        The optical density of hematoxylin is scale[0] * level + scale[1].
        """
        pixels = stain.sampled(samples).pixels
        stains = stain.estimate(pixels)
        density = stain.tissue_densities(pixels, stains.white)
        pale, dark = _cytoplasm_and_nuclei(stains.unmixing[0] @ density)
        per_level = (dark - pale) / (_DARK - _PALE)
        offset = pale - _PALE * per_level
        table = stains.unmixing[0][:, None] * stains.density
        return {
            "table": np.rint((table - offset / 3) / per_level * _ONE).astype(np.int32),
            "scale": np.array([per_level, offset]),
        }

    def remarks(self, samples: Sequence[Patch]) -> tuple[str, ...]:
        return stain.sampled(samples).remarks()

    def infer(self, patch: Patch) -> Instances:
        if patch.spacing_um is None:
            raise BadSpacing("nuclei needs the pixel size of the image", "pass spacing_um")
        um = math.sqrt(patch.spacing_um.x * patch.spacing_um.y)
        box = patch.image
        # pixels beyond the image never take part, so its border looks the same in every tile
        level = hematoxylin(patch.pixels[:, box.y0 : box.y1, box.x0 : box.x1], patch.statistics)
        smooth = _blurred(level, BLUR_UM / um)
        tree = maxtree.build(smooth, _FLOOR)
        attributes = maxtree.measure(smooth, tree)
        rules = _Rules.of(patch, um)
        scores = score(tree.is_node, attributes, rules)
        keep = maxtree.select(tree, attributes.area, scores)
        spots = np.zeros(level.shape, np.int32)
        maxtree.paint(tree, keep, spots)
        labels, origin = shape.tidy(
            spots,
            int(np.count_nonzero(keep)),
            radius=max(1, round(SMOOTHING_UM / um)),
            neck=max(shape.STEP, round(NECK_UM / um * shape.STEP)),
            neck_percent=NECK_PERCENT,
            min_area=rules.min_area,
        )
        found = np.zeros(patch.pixels.shape[1:], np.int32)
        found[box.y0 : box.y1, box.x0 : box.x1] = labels
        merit = scores[keep][origin].astype(np.float32)
        per_level, offset = patch.statistics["scale"]
        mean, roundness = describe(labels, level, len(origin))
        measurements = {
            "score": merit / (merit + FAIR_MERIT),
            "hematoxylin_od": np.float32(per_level) * mean + np.float32(offset),
            "circularity": roundness,
        }
        grown = float(patch.parameters["cell_expansion_um"])
        if not grown:
            return Instances(found, measurements=measurements)
        cells = np.zeros_like(found)
        cells[box.y0 : box.y1, box.x0 : box.x1] = expand.expand(
            labels, len(origin), math.floor((grown / um) ** 2)
        )
        return Instances(cells, np.ones(len(origin), np.uint16), measurements, nuclei=found)


class _Rules(NamedTuple):
    """Conditions on a candidate, in pixels of one patch cropped to the image."""

    edge: tuple[int, int, int, int]
    """x0, y0, x1, y1, inclusive: a candidate that reaches one of these is cut off."""
    max_extent: int
    min_area: int
    max_area: int
    usual_area: int
    levels_per_quarter_um: float
    """A gradient of one level per pixel, in levels per 0.25 um."""
    min_merit: int

    @classmethod
    def of(cls, patch: Patch, um: float) -> _Rules:
        """Return the rules for `patch`, whose pixels are `um` micrometres wide."""
        assert patch.spacing_um is not None
        height, width = patch.pixels.shape[1:]
        box, far = patch.image, 2**30
        min_score = float(patch.parameters["min_score"])
        return cls(
            edge=(
                0 if box.x0 == 0 else -far,
                0 if box.y0 == 0 else -far,
                box.width - 1 if box.x1 == width else far,
                box.height - 1 if box.y1 == height else far,
            ),
            max_extent=math.floor(MAX_EXTENT_UM / max(patch.spacing_um)),
            min_area=round(float(patch.parameters["min_area_um2"]) / um**2),
            max_area=min(round(float(patch.parameters["max_area_um2"]) / um**2), 2**15 - 1),
            usual_area=round(USUAL_AREA_UM2 / um**2),
            levels_per_quarter_um=0.25 / um,
            min_merit=round(FAIR_MERIT * min_score / (1 - min_score)),
        )


@numba.njit(cache=True, nogil=True)
def score(
    is_node: NDArray[np.bool_], attributes: maxtree.Attributes, rules: _Rules
) -> NDArray[np.int32]:
    """Return (n,) the merit of each node as a nucleus, 0 if it cannot be one.

    merit = 100 * edge * fit**4 * area / (area + usual area), where `edge` is the mean gradient
    along the outline and `fit` the ratio of the area to that of the ellipse with the same moments.
    """
    area, box, moments, perimeter, drop = attributes
    x0, y0, x1, y1 = rules.edge
    merits = np.zeros(area.size, np.int32)
    for k in range(area.size):
        if (
            not is_node[k]
            or not rules.min_area <= area[k] <= rules.max_area
            or max(box[k, 2] - box[k, 0], box[k, 3] - box[k, 1]) >= rules.max_extent
            or box[k, 0] <= x0
            or box[k, 1] <= y0
            or box[k, 2] >= x1
            or box[k, 3] >= y1
        ):
            continue
        # central moments times area**2, in integers, so that they do not depend on the position
        n = np.int64(area[k])
        x, y = moments[k, 0], moments[k, 1]
        xx = np.float64(n * moments[k, 2] - x * x)
        yy = np.float64(n * moments[k, 3] - y * y)
        xy = np.float64(n * moments[k, 4] - x * y)
        determinant = xx * yy - xy * xy
        if determinant <= 0 or perimeter[k] <= 0:
            continue
        fit = min(1.0, np.float64(n * n * n) / (4 * math.pi * math.sqrt(determinant)))
        # the staircase of pixel sides is 4 / pi times as long as a smooth outline
        edge = drop[k] / (perimeter[k] * math.pi / 4) * rules.levels_per_quarter_um
        merit = np.int32(100 * edge * fit * fit * fit * fit * n / (n + rules.usual_area))
        if merit >= rules.min_merit:
            merits[k] = min(merit, 2**16 - 1)
    return merits


def hematoxylin(pixels: NDArray[np.generic], statistics: Statistics) -> NDArray[np.uint8]:
    """Return (y, x) hematoxylin levels of `pixels` (3, y, x)."""
    rgb = np.ascontiguousarray(pixels, np.uint8)
    return _looked_up(rgb, np.asarray(statistics["table"], np.int32))


@numba.njit(cache=True, nogil=True)
def _looked_up(rgb: NDArray[np.uint8], table: NDArray[np.int32]) -> NDArray[np.uint8]:
    _, height, width = rgb.shape
    level = np.empty((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            total = table[0, rgb[0, y, x]] + table[1, rgb[1, y, x]] + table[2, rgb[2, y, x]]
            level[y, x] = min(max((total + _ONE // 2) // _ONE, 0), 255)
    return level


def _blurred(level: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    # OpenCV filters 8-bit planes in fixed point, so a pixel does not depend on where the plane
    # starts
    side = 2 * min(math.ceil(3 * sigma), _REACH_PX - 1) + 1
    return np.asarray(cv2.GaussianBlur(level, (side, side), sigma), np.uint8)


@numba.njit(cache=True, nogil=True)
def describe(
    labels: NDArray[np.int32], level: NDArray[np.uint8], n: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return, for objects 1 .. n, the mean level and 4 pi area / perimeter**2, at most 1."""
    height, width = labels.shape
    area, total, sides = np.zeros((3, n + 1), np.int64)
    for y in range(height):
        for x in range(width):
            k = labels[y, x]
            if k > 0:
                area[k] += 1
                total[k] += level[y, x]
                sides[k] += (
                    (x == 0 or labels[y, x - 1] != k)
                    + (x == width - 1 or labels[y, x + 1] != k)
                    + (y == 0 or labels[y - 1, x] != k)
                    + (y == height - 1 or labels[y + 1, x] != k)
                )
    mean = (total[1:] / area[1:]).astype(np.float32)
    # the staircase of pixel sides is 4 / pi times as long as a smooth outline
    outline = sides[1:] * (math.pi / 4)
    roundness = np.minimum(4 * math.pi * area[1:] / outline**2, 1).astype(np.float32)
    return mean, roundness


def _cytoplasm_and_nuclei(density: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean of `density` (n,) in cytoplasm and in nuclei, split by Otsu (1979)."""
    if density.size == 0:
        return 0.0, _LEAST_CONTRAST
    low, high = np.percentile(density, (0.1, 99.9))
    bins = np.clip((density - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    upper = bins >= otsu(np.bincount(bins, minlength=256))
    mean = float(density.mean())
    pale = float(density[~upper].mean()) if not upper.all() else mean
    dark = float(density[upper].mean()) if upper.any() else mean
    if dark - pale >= _LEAST_CONTRAST:
        return pale, dark
    return (0.0, mean) if mean >= _LEAST_NUCLEUS else (mean, mean + _LEAST_CONTRAST)
