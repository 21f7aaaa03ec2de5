"""How well `nuclei` does on labelled nuclei, as they are and after shifts that scanners cause.

    python -m tests.benchmarks.quality

prints F1 at IoU 0.5, panoptic quality and the aggregated Jaccard index on one labelled patch of
256 x 256 pixels with 20 nuclei: enough to see a model break, not to rank models.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import io

from isoline.geometry.grid import XY
from isoline.models import downloads, stain
from isoline.models.nuclei import Nuclei
from isoline.testing.contracts import patches
from tests.conftest import PATCH1_IMAGE, PATCH1_MASK

SPACING_UM = 0.25


class Score(NamedTuple):
    """Agreement of two label images."""

    f1: float
    """At intersection over union above 0.5."""
    pq: float
    """Panoptic quality (Kirillov et al., 2019)."""
    aji: float
    """Aggregated Jaccard index (Kumar et al., 2017)."""


class Row(NamedTuple):
    """One line of the table."""

    name: str
    score: Score
    found: int


def score(found: NDArray[np.int32], truth: NDArray[np.int32]) -> Score:
    """Compare two label images (y, x) whose labels may have any numbers; 0 is background."""
    _, a = np.unique(np.append(0, found), return_inverse=True)
    _, b = np.unique(np.append(0, truth), return_inverse=True)
    overlap = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(overlap, (a[1:], b[1:]), 1)
    area_a, area_b = overlap.sum(axis=1)[1:], overlap.sum(axis=0)[1:]
    shared = overlap[1:, 1:]
    union = area_a[:, None] + area_b - shared
    iou = shared / union
    pairs = iou[iou > 0.5]
    halves = (len(area_a) + len(area_b)) / 2
    used: set[int] = set()
    common = total = 0.0
    for k in range(len(area_b)):
        best = int(iou[:, k].argmax()) if len(area_a) else 0
        if len(area_a) and iou[best, k] > 0:
            common += shared[best, k]
            total += union[best, k]
            used.add(best)
        else:
            total += area_b[k]
    total += sum(area for k, area in enumerate(area_a) if k not in used)
    return Score(len(pairs) / halves, float(pairs.sum()) / halves, common / total)


def shifted(rgb: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield `rgb` (y, x, 3) as other stainings and scanners might have shown it."""
    yield "as it is", rgb
    density = -np.log(np.maximum(rgb, 1) / 255)
    for factor in (0.8, 1.25):
        yield f"both stains x {factor}", _light(density * factor)
    vectors = np.stack([v / np.linalg.norm(v) for v in (stain.HEMATOXYLIN, stain.EOSIN)])
    amounts = density @ np.linalg.pinv(vectors)
    rest = density - amounts @ vectors
    for factors in ((0.8, 1.25), (1.25, 0.8)):
        name = f"hematoxylin x {factors[0]}, eosin x {factors[1]}"
        yield name, _light((amounts * factors) @ vectors + rest)
    for degrees in (-8.0, 8.0):
        yield f"hue turned by {degrees:.0f} degrees", _light(density @ _about_grey(degrees).T)
    for factor in (0.85, 1.1):
        yield f"brightness x {factor}", _bytes(np.multiply(rgb, factor))
    for gamma in (0.8, 1.25):
        yield f"gamma {gamma}", _bytes(255 * (rgb / 255) ** gamma)


def rows(rgb: NDArray[np.uint8], truth: NDArray[np.int32]) -> Iterator[Row]:
    """Yield the score of `nuclei` on each shift of `rgb` (y, x, 3), and at half resolution."""
    for name, image in shifted(rgb):
        found = segment(image, SPACING_UM)
        yield Row(name, score(found, truth), int(found.max()))
    height, width = (side // 2 for side in truth.shape)
    small = np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    found = segment(small, 2 * SPACING_UM)
    yield Row("0.5 um per pixel", score(found, truth[1::2, 1::2]), int(found.max()))


def segment(rgb: NDArray[np.uint8], um: float) -> NDArray[np.int32]:
    """Return the nuclei of `rgb` (y, x, 3), statistics from itself, as a label image."""
    model = Nuclei({}, "cpu")
    pixels = np.ascontiguousarray(rgb.transpose(2, 0, 1))
    bare = patches.Picture(pixels, XY(um, um), patches.defaults(Nuclei))
    statistics = model.statistics([bare.patch(bare.bounds)])
    picture = patches.Picture(pixels, bare.spacing_um, bare.parameters, statistics=statistics)
    around = picture.bounds.grow(1)
    return model.infer(picture.patch(around)).labels[1:-1, 1:-1]


def labelled() -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Fetch the patch: rgb (y, x, 3) and its nuclei (y, x)."""
    rgb = np.asarray(Image.open(downloads.fetch(PATCH1_IMAGE)).convert("RGB"))
    return rgb, np.asarray(io.loadmat(downloads.fetch(PATCH1_MASK))["inst_map"], np.int32)


def _light(density: NDArray[np.float64]) -> NDArray[np.uint8]:
    return _bytes(255 * np.exp(-np.maximum(density, 0)))


def _bytes(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _about_grey(degrees: float) -> NDArray[np.float64]:
    """Return the rotation about the grey axis, which turns every hue by as much."""
    angle = np.deg2rad(degrees)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    turn: NDArray[np.float64] = (
        np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    )
    return turn


def main() -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    rgb, truth = labelled()
    print(f"{len(np.unique(truth)) - 1} nuclei")
    print(f"{'':34} found    F1    PQ   AJI")
    for name, (f1, pq, aji), found in rows(rgb, truth):
        print(f"{name:34} {found:5} {f1:5.2f} {pq:5.2f} {aji:5.2f}")


if __name__ == "__main__":
    main()
