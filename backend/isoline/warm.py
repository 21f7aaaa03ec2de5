"""Run every kernel once on a scrap, so that no user waits for a compiler.

numba keeps what it compiled beside the code, so only the first start after an installation takes
its time; later ones load it. Of several processes one compiles and the others wait for what it
leaves.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isoline import contours, datasets, registry, stitch
from isoline.errors import Conflict
from isoline.exclusive import Exclusive
from isoline.geometry import XY, Box, Grid
from isoline.kernels import expand
from isoline.models.base import Model, Patch
from isoline.parameters import check_parameters
from isoline.pixels import Sampler
from isoline.plan import Lattice

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 120.0
SIDE = 96
_SCRAP = Box(0, 0, SIDE, SIDE)


def tiles() -> None:
    """Warm what a worker does: read, infer with the models that need no weights, and contour."""
    with _turn():
        _tiles(_scrap())


def assembly() -> None:
    """Warm what the server itself does: unite regions, render pictures."""
    with _turn():
        _assembly(_scrap())


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Wait for other processes that are at it."""
    directory = datasets.default_directory()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        lock = Exclusive(directory / "warm.lock", PATIENCE_SECONDS)
    except Conflict:
        lock = None  # compiling twice is slower, not wrong
    try:
        yield
    finally:
        if lock is not None:
            lock.close()


def _tiles(pixels: NDArray[np.uint8]) -> None:
    _resample(pixels)
    for name, kind in registry.models().working.items():
        if not kind.spec.weights:
            _infer(name, kind, pixels)
    labels = (pixels[1] < 128).astype(np.int32)
    owned = stitch.own(labels, _SCRAP, _SCRAP, _SCRAP)
    expand.expand(labels, 1, 9)
    contours.simplify(owned.polygons, 1.0)


def _assembly(pixels: NDArray[np.uint8]) -> None:
    _resample(pixels)
    classes = (pixels[1] < 128).astype(np.uint8)
    lattice = Lattice(Grid((2 * SIDE, SIDE), XY(1.0, 1.0)), SIDE, 0)
    union = stitch.Union(lattice)
    for column in (0, 1):
        write = lattice.tile(column, 0).write
        union.add((column, 0), stitch.cut(classes, write))


def _scrap() -> NDArray[np.uint8]:
    """Return (3, y, x) of blobs on glass, some of them across the sides."""
    y, x = np.mgrid[:SIDE, :SIDE]
    blobs = (np.hypot(y % 32 - 16, x % 30 - 12) < 10).astype(np.uint8)
    glass, stain = np.array([[240, 238, 241], [90, 50, 140]], np.uint8)
    scrap: NDArray[np.uint8] = np.where(blobs, stain[:, None, None], glass[:, None, None])
    return scrap


def _resample(pixels: NDArray[np.uint8]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scrap.png"
        Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(path)
        source = registry.open_image(path)
        grid = Grid((SIDE, SIDE), XY(1.5, 1.5))
        Sampler(source, grid).read(grid.bounds)
        source.close()


def _infer(name: str, kind: type[Model], pixels: NDArray[np.uint8]) -> None:
    spec = kind.spec
    spacing = spec.spacings_um[0] if spec.spacings_um else 1.0
    patch = Patch(
        pixels=pixels[: max(spec.channels)],
        image=_SCRAP,
        spacing_um=XY(spacing, spacing),
        parameters=check_parameters(spec, {}),
    )
    try:
        model = kind({}, "cpu")
        statistics = model.statistics([patch])
        model.infer(Patch(**{**vars(patch), "statistics": statistics}))
    except Exception as error:  # another's model may not care for scraps; it will say so in a job
        log.info("%s was not warmed: %s", name, error)
