"""Running every kernel once on a small image, so that no user waits for the compiler.

numba caches compiled code next to the source, so only the first start after installation is slow.
Of several processes, one compiles and the others wait for its cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isoline import kernels
from isoline.config.data_directory import default_directory
from isoline.config.file_lock import Exclusive
from isoline.domain.events import Scope
from isoline.domain.prompts import Prompt
from isoline.errors import Conflict
from isoline.geometry import polygons, seams
from isoline.geometry.grid import XY, Box, Grid
from isoline.geometry.tiling import Lattice
from isoline.geometry.volume_grid import LPS, VolumeGrid, VolumeInfo
from isoline.inference.image_views import FlatView, VolumeView
from isoline.inference.prompts import FlatPromptTask, VolumePromptTask
from isoline.inference.results import WorkingPlane
from isoline.inference.sampling import ChannelSelection, Sampler
from isoline.inference.task import TaskHead
from isoline.kernels import expand
from isoline.models.catalogue import MODELS
from isoline.models.model import Model, Patch
from isoline.models.parameters import check_parameters
from isoline.models.promptable import PromptableModel
from isoline.sources.byte_cache import ByteCache
from isoline.sources.registry import open_image
from isoline.sources.source import Source
from isoline.sources.volume import VolumeSource, volume_image

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 120.0
SIDE = 96
_SCRAP = Box(0, 0, SIDE, SIDE)


def tiles() -> None:
    """Warm up a worker: reading, inference with the models that need no weights, and contours."""
    with _turn("tiles"):
        _tiles(_scrap())


def assembly() -> None:
    """Warm up the server itself: merging regions and rendering pictures."""
    with _turn("assembly"):
        _assembly(_scrap())


@contextlib.contextmanager
def _turn(what: str) -> Iterator[None]:
    """Wait for other processes that are compiling, until one of them has filled the cache."""
    directory = default_directory() / "warm"
    done = directory / f"{what}-{_stamp()}"
    if done.exists():
        yield
        return
    lock = None
    # compiling twice is only slower, and the directory may be read-only
    with contextlib.suppress(Conflict, OSError):
        directory.mkdir(parents=True, exist_ok=True)
        lock = Exclusive(directory / "lock", PATIENCE_SECONDS)
    try:
        yield
        with contextlib.suppress(OSError):
            done.touch()
    finally:
        if lock is not None:
            lock.close()


def _stamp() -> str:
    """Return a hash that changes whenever numba has to compile again."""
    sources = sorted(Path(kernels.__path__[0]).glob("*.py"))
    basis = [numba.__version__, sys.version, *((str(p), p.stat().st_mtime_ns) for p in sources)]
    return hashlib.blake2b(repr(basis).encode(), digest_size=8).hexdigest()


def _tiles(pixels: NDArray[np.uint8]) -> None:
    _resample(pixels)
    for name, kind in MODELS.load_all().working.items():
        if kind.spec.weights or kind.spec.own_files:
            continue
        if issubclass(kind, PromptableModel):
            _answer(name, kind, pixels)
        else:
            _infer(name, kind, pixels)
    labels = (pixels[1] < 128).astype(np.int32)
    owned = seams.own(labels, _SCRAP, _SCRAP, _SCRAP)
    expand.expand(labels, 1, 9)
    polygons.simplify(owned.polygons, 1.0)


def _assembly(pixels: NDArray[np.uint8]) -> None:
    _resample(pixels)
    classes = (pixels[1] < 128).astype(np.uint8)
    lattice = Lattice(Grid((2 * SIDE, SIDE), XY(1.0, 1.0)), SIDE, 0)
    union = seams.Union(lattice)
    for column in (0, 1):
        write = lattice.tile(column, 0).write
        union.add((column, 0), seams.cut(classes, write))


def _scrap() -> NDArray[np.uint8]:
    """Return (3, y, x) of blobs on glass, some of them across the border."""
    y, x = np.mgrid[:SIDE, :SIDE]
    blobs = (np.hypot(y % 32 - 16, x % 30 - 12) < 10).astype(np.uint8)
    glass, stain = np.array([[240, 238, 241], [90, 50, 140]], np.uint8)
    scrap: NDArray[np.uint8] = np.where(blobs, stain[:, None, None], glass[:, None, None])
    return scrap


def _resample(pixels: NDArray[np.uint8]) -> None:
    with _picture(pixels) as source:
        grid = Grid((SIDE, SIDE), XY(1.5, 1.5))
        Sampler(source, grid).read(grid.bounds)


@contextlib.contextmanager
def _picture(pixels: NDArray[np.uint8]) -> Iterator[Source]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scrap.png"
        Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(path)
        source = open_image(path)
        yield source
        source.close()


class _Volume(VolumeSource):
    """The small image as a volume of equal slices."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        axes = LPS(1, 0, 0), LPS(0, 1, 0), LPS(0, 0, 1)
        grid = VolumeGrid((SIDE, SIDE, SIDE), LPS(0, 0, 0), *axes)
        super().__init__(volume_image("scrap", "", VolumeInfo(grid), np.dtype(np.int16)))
        self._slice = pixels[0].astype(np.int16)

    def _read(self) -> NDArray[np.generic]:
        return np.repeat(self._slice[np.newaxis], SIDE, axis=0)


def _answer(name: str, kind: type[PromptableModel], pixels: NDArray[np.uint8]) -> None:
    try:
        model = kind({}, "cpu")
        head = TaskHead(
            path=Path(),
            reader="",
            fingerprint="",
            model=name,
            spec=kind.spec,
            parameters=check_parameters(kind.spec, {}),
            scope=Scope("", name, "", ()),
        )
        if 2 in kind.spec.prompt_dimensions:
            _point_at_picture(model, head, pixels)
        if 3 in kind.spec.prompt_dimensions:
            _point_at_volume(model, head, pixels)
    except Exception as error:  # a third-party model may reject this input; jobs report its errors
        log.info("%s was not warmed: %s", name, error)


def _point_at_picture(model: PromptableModel, head: TaskHead, pixels: NDArray[np.uint8]) -> None:
    with _picture(pixels) as source:
        selection = ChannelSelection(tuple(range(len(source.info.channels))), 0)
        plane = WorkingPlane(selection, Grid(source.info.size, XY(1.0, 1.0)), None)
        prompts = (Prompt("point", ((16.5, 12.5),)),)
        task = FlatPromptTask(**head, prompts=prompts, plane=plane, initial=None)
        view = FlatView("", head["model"], plane, lambda: source, ByteCache(1 << 26))
        task.found(view, model.answer(view, task.question(view.size(0))))


def _point_at_volume(model: PromptableModel, head: TaskHead, pixels: NDArray[np.uint8]) -> None:
    prompts = (Prompt("point", ((48.5, 16.5, 12.5),)),)
    task = VolumePromptTask(**head, prompts=prompts, initial=None)
    view = VolumeView("", head["model"], _Volume(pixels), ByteCache(1 << 26))
    task.found(view, model.answer(view, task.question(view.size(0))))


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
    except Exception as error:  # a third-party model may reject this input; jobs report its errors
        log.info("%s was not warmed: %s", name, error)
