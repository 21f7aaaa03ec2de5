"""What happens to one tile inside a worker: read, infer, contour."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from isoline.domain import mask_rle
from isoline.domain.events import Objects
from isoline.errors import Broken, Unreadable
from isoline.geometry import seams
from isoline.geometry.grid import XY, Box, Grid
from isoline.geometry.seams import Pieces
from isoline.geometry.tiling import Tile
from isoline.inference import answers, image_views, results
from isoline.inference.sampling import Sampler
from isoline.inference.task import Answered, Computed, Masked, Stages, Survey, Task, Tissue
from isoline.models.base import (
    Bounded,
    Classes,
    Instances,
    Model,
    Patch,
    Prediction,
    Regions,
)
from isoline.models.catalogue import ModelCatalogue
from isoline.models.promptable import PointedModel
from isoline.models.tissue_mask import sample_windows, tissue_mask
from isoline.models.volumetric import Gaze, Scan, VolumeModel
from isoline.sources.base import Remote, Source
from isoline.sources.byte_cache import ByteCache
from isoline.sources.registry import open_image
from isoline.sources.volume import VolumeSource

TISSUE_CELL_UM = 16.0
"""Side of a cell of the tissue mask."""
SAMPLES = 24
SAMPLE_PX = 512
"""How much tissue a model's statistics see: this many windows of this side, at its own spacing."""

SOURCES = 4
SOURCES_MIB = 1024
"""How many images a worker keeps open, and how much of volumes: the one in use in any case."""

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class _Recent(Generic[_K, _V]):
    """The last few values made by `make`, given up oldest first through `drop`."""

    def __init__(
        self,
        most: int,
        drop: Callable[[_V], None] = lambda _: None,
        *,
        weigh: Callable[[_V], int] = lambda _: 0,
        most_bytes: int = 0,
    ) -> None:
        """Keep `most` values, and no more than `most_bytes` by `weigh`; the newest in any case."""
        self._most = most
        self._drop = drop
        self._weigh = weigh
        self._most_bytes = most_bytes
        self._values: OrderedDict[_K, _V] = OrderedDict()

    def get(self, key: _K, make: Callable[[], _V]) -> _V:
        if key not in self._values:
            self._values[key] = make()
            while len(self._values) > 1 and self._is_full():
                self._drop(self._values.popitem(last=False)[1])
        self._values.move_to_end(key)
        return self._values[key]

    def _is_full(self) -> bool:
        held = sum(map(self._weigh, self._values.values()))
        return len(self._values) > self._most or held > self._most_bytes

    def clear(self) -> None:
        while self._values:
            self._drop(self._values.popitem()[1])


class Workbench:
    """The open images and loaded models of one worker, by name."""

    def __init__(self, models: ModelCatalogue, device: str, seen_mib: int = 512) -> None:
        """Find models in `models`; keep up to `seen_mib` of what prompts looked at."""
        self._catalogue = models
        self._device = device
        self._seen = ByteCache(seen_mib << 20)
        self._sources: _Recent[tuple[Path | Remote, str], Source] = _Recent(
            SOURCES,
            lambda old: old.close(),
            weigh=lambda source: source.memory_bytes,
            most_bytes=SOURCES_MIB << 20,
        )
        self._models: _Recent[tuple[str, str], Model] = _Recent(4)

    def close(self) -> None:
        self._sources.clear()

    def compute(self, task: Task, tile: Tile) -> Computed:
        """Return the objects or pieces of `tile`.

        Raises Unreadable where the image is damaged, and whatever the model raises.
        """
        began = time.perf_counter()
        patch = self.patch(task, tile.read)
        read = time.perf_counter()
        prediction = self.model(task).infer(patch)
        inferred = time.perf_counter()
        answer = found(task, tile, prediction)
        ended = time.perf_counter()
        return Computed(tile, answer, Stages(read - began, inferred - read, ended - inferred))

    def segment(
        self, task: Task, tile: Tile, gaze: Gaze | None = None, threads: int = 1
    ) -> Iterator[Masked]:
        """Yield what is found in a volume as it is found; closing it stops the work.

        The user looks where `gaze` says. Raises Unreadable where the volume cannot be read, and
        whatever the model raises.
        """
        source, model = self._source(task), self.model(task)
        if not isinstance(source, VolumeSource) or not isinstance(model, VolumeModel):
            raise Broken(f"{task.model} declares voxels and is no model of volumes")
        volume = source.volume
        scan = Scan(
            source.voxels(),
            volume.grid,
            volume.modality,
            task.parameters,
            task.look or 0,
            gaze,
            task.have,
            threads,
        )
        for step in model.segment(scan):
            new = [n for n, k in enumerate(step.slices) if k not in task.have]
            mask = None
            if step.labels is not None and new:
                slices = [step.slices[n] for n in new]
                mask = mask_rle.encode(step.labels[new], slices, provisional=step.provisional)
            yield Masked(tile, step.done, mask)

    def answer(self, task: Task, tile: Tile) -> Answered:
        """Return what the prompts of `task` point at.

        Raises Unreadable where the image cannot be read, and whatever the model raises.
        """
        began = time.perf_counter()
        model = self.model(task)
        if not isinstance(model, PointedModel) or task.asked is None:
            raise Broken(f"{task.model} declares prompts and answers none")
        scene = image_views.scene_of(task, lambda: self._source(task), self._seen)
        answer = model.answer(scene, task.asked.question(scene.size(0), task.parameters))
        found, reason = answers.found_in(task, scene, answer)
        return Answered(tile, found, reason, time.perf_counter() - began)

    def survey(self, task: Task) -> Survey:
        """Find the tissue of a slide and let the model estimate its statistics from it."""
        spec = task.spec
        tissue = self._tissue(task) if task.is_slide else None
        if not spec.has_statistics:
            return Survey(tissue if spec.skips_glass else None)
        bounds = task.grid.bounds if task.covered is None else task.covered
        samples = [self.patch(task, box) for box in _windows(task.grid, tissue, bounds)]
        statistics = self.model(task).statistics(samples)
        return Survey(tissue if spec.skips_glass else None, statistics)

    def _source(self, task: Task) -> Source:
        key = (task.path, task.reader)
        source = self._sources.get(key, lambda: open_image(*key))
        if source.info.fingerprint != task.fingerprint:
            raise Unreadable(
                f"{task.path.name} changed after the job was accepted", "submit the job again"
            )
        return source

    def model(self, task: Task) -> Model:
        """Return the model of `task`, its weights loaded."""

        def load() -> Model:
            kind = self._catalogue.get(task.model)
            return kind(self._catalogue.files(kind.spec), self._device)

        return self._models.get((task.model, task.scope.version), load)

    def patch(self, task: Task, box: Box) -> Patch:
        """Read `box`, in grid pixels, for the model."""
        grid = task.grid
        sampler = Sampler(self._source(task), grid, task.selection)
        return Patch(
            pixels=sampler.read(box),
            image=grid.bounds.intersect(box).shift(-box.x0, -box.y0),
            spacing_um=task.spacing_um,
            parameters=task.parameters,
            statistics=task.survey.statistics if task.survey else {},
        )

    def _tissue(self, task: Task) -> Tissue:
        width, height = task.grid.image_size
        spacing = task.spacing_um
        if spacing is None:
            raise Broken(f"{task.model} looks for tissue on an image without a pixel size")
        cell = XY(
            TISSUE_CELL_UM * task.grid.scale.x / spacing.x,
            TISSUE_CELL_UM * task.grid.scale.y / spacing.y,
        )
        overview = Grid((width, height), cell)
        sampler = Sampler(self._source(task), overview, task.selection)
        rgb = sampler.read(overview.bounds).astype(np.uint8, copy=False)
        return Tissue(tissue_mask(rgb), cell)


def _windows(grid: Grid, tissue: Tissue | None, bounds: Box) -> list[Box]:
    """Return the windows in `bounds`, grid pixels, that a model's statistics are estimated from."""
    if tissue is None:
        mask, cell = np.ones((1, 1), np.bool_), XY(*grid.size)
    else:
        mask = tissue.mask
        cell = XY(tissue.cell.x / grid.scale.x, tissue.cell.y / grid.scale.y)
    return sample_windows(mask, cell, bounds, count=SAMPLES, side=SAMPLE_PX)


def found(task: Task, tile: Tile, prediction: Prediction) -> Objects | Pieces:
    """Turn a prediction into what this tile answers for."""
    if isinstance(task.output, Bounded):
        if not isinstance(prediction, Instances):
            raise Broken(f"{task.model} declares bounded instances and gave classes")
        return _owned_objects(task, tile, prediction)
    if not isinstance(prediction, Classes):
        raise Broken(f"{task.model} declares classes and gave instances")
    classes = np.array(prediction.classes[tile.read.slices_of(tile.write)])
    if task.survey is not None and task.survey.tissue is not None:
        classes[~task.survey.tissue.pixels(task.grid, tile.write)] = 0
    if isinstance(task.output, Regions) and task.region is not None:
        classes[~task.region.mask(task.grid, tile.write)] = 0
    return seams.cut(classes, tile.write)


def _owned_objects(task: Task, tile: Tile, instances: Instances) -> Objects:
    """Return the instances whose anchor lies in `tile.write`, in the region and on tissue."""
    owned = seams.own(instances.labels, tile.read, tile.write, task.grid.bounds)
    which = owned.number - 1
    nuclei = instances.nuclei
    objects = results.build(
        task,
        owned.polygons,
        np.zeros(len(which), np.uint16) if instances.classes is None else instances.classes[which],
        owned.area_px,
        owned.anchor,
        measurements={name: column[which] for name, column in instances.measurements.items()},
        nuclei=None
        if nuclei is None
        else seams.owned_nuclei(nuclei, owned, tile.read, task.grid.bounds),
    )
    return objects.select(results.inside(task, owned.anchor))
