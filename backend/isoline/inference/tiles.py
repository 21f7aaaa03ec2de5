"""Tiled work in a worker: reading, inference, contours, and ownership of objects."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from isoline.domain.events import Objects
from isoline.errors import Broken
from isoline.geometry import seams
from isoline.geometry.grid import XY, Box, Grid
from isoline.geometry.region import Region
from isoline.geometry.seams import Pieces
from isoline.geometry.tiling import Tile, quarters
from isoline.inference import results
from isoline.inference.resources import Resources
from isoline.inference.results import WorkingPlane
from isoline.inference.sampling import Sampler
from isoline.inference.task import Attention, Result, Task
from isoline.models.model import (  # fmt: skip
    Bounded,
    Classes,
    Instances,
    Output,
    Patch,
    Prediction,
    Regions,
    Statistics,
)

TISSUE_CELL_UM = 16.0
"""Side of a cell of the tissue mask."""
SAMPLES = 24
SAMPLE_PX = 512
"""The samples for a model's statistics: number and side of windows, at its working spacing."""


@dataclass(frozen=True)
class TissueMap:
    """A generous tissue mask of a slide: (y, x) cells of `cell` image pixels a side."""

    mask: NDArray[np.bool_]
    cell: XY

    def at(self, points: NDArray[np.generic]) -> NDArray[np.bool_]:
        """Return (n,) whether image points (n, 2) x, y lie on tissue."""
        cells = np.floor(np.divide(points, self.cell, dtype=np.float64)).astype(np.int64)
        height, width = self.mask.shape
        x, y = np.clip(cells[:, 0], 0, width - 1), np.clip(cells[:, 1], 0, height - 1)
        on: NDArray[np.bool_] = self.mask[y, x]
        return on

    def pixels(self, grid: Grid, box: Box) -> NDArray[np.bool_]:
        """Return (y, x) which grid pixels of `box` have their centre on tissue."""
        rows, columns = self._cells(grid, np.arange(box.x0, box.x1), np.arange(box.y0, box.y1))
        on: NDArray[np.bool_] = self.mask[np.ix_(rows, columns)]
        return on

    def meets(self, grid: Grid, box: Box) -> bool:
        """Return whether any cell between the first and the last pixel of `box` is tissue."""
        rows, columns = self._cells(
            grid, np.array([box.x0, box.x1 - 1]), np.array([box.y0, box.y1 - 1])
        )
        return bool(self.mask[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1].any())

    def _cells(
        self, grid: Grid, x: NDArray[np.int64], y: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows and columns of the cells that contain the centres of grid pixels y and
        x."""
        height, width = self.mask.shape
        columns = ((x + 0.5) * grid.scale.x // self.cell.x).astype(np.int64)
        rows = ((y + 0.5) * grid.scale.y // self.cell.y).astype(np.int64)
        return rows.clip(0, height - 1), columns.clip(0, width - 1)


@dataclass(frozen=True)
class Survey(Result):
    """Information about the whole image, collected before its first tile."""

    tissue: TissueMap | None
    """None for a plain image or a model that does not skip glass."""
    statistics: Statistics = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    """Doubts about the statistics, a sentence each."""


@dataclass(frozen=True)
class Stages:
    """Seconds per stage of one tile."""

    read: float
    infer: float
    contour: float


@dataclass(frozen=True)
class TileResult(Result):
    """The result of one tile: final objects, or pieces to merge across seams."""

    tile: Tile
    found: Objects | Pieces
    stages: Stages

    @property
    def stage_seconds(self) -> Mapping[str, float]:
        return vars(self.stages)


@dataclass(frozen=True, kw_only=True)
class TiledTask(Task):
    """A task for tiles of a flat image, each with the objects or pieces that it owns."""

    plane: WorkingPlane
    output: Output
    region: Region | None
    is_slide: bool = False
    surveyed: Survey | None = None
    """None until the survey has been made."""

    @property
    def divisible(self) -> bool:
        return isinstance(self.output, Bounded) and not self.spec.fixed_tile

    def with_survey(self, survey: Survey) -> TiledTask:
        return replace(self, surveyed=survey)

    @property
    def tissue(self) -> TissueMap | None:
        """The tissue mask of the slide; None if it is not needed."""
        return None if self.surveyed is None else self.surveyed.tissue

    def compute(self, resources: Resources, tile: Tile, attention: Attention) -> Iterator[Result]:
        yield self.compute_tile(resources, tile)

    def compute_tile(self, resources: Resources, tile: Tile) -> TileResult:
        """Return the objects or pieces of `tile`."""
        began = time.perf_counter()
        patch = self.patch(resources, tile.read)
        read = time.perf_counter()
        prediction = self.load_model(resources).infer(patch)
        inferred = time.perf_counter()
        found = self.found(tile, prediction)
        ended = time.perf_counter()
        return TileResult(tile, found, Stages(read - began, inferred - read, ended - inferred))

    def compute_in_quarters(self, resources: Resources, tile: Tile) -> Result:
        # an object belongs to the quarter that contains its anchor
        parts = [self.compute_tile(resources, quarter) for quarter in quarters(tile)]
        stages = Stages(
            sum(part.stages.read for part in parts),
            sum(part.stages.infer for part in parts),
            sum(part.stages.contour for part in parts),
        )
        objects = [part.found for part in parts if isinstance(part.found, Objects)]
        return TileResult(tile, results.concatenate(objects), stages)

    def survey(self, resources: Resources) -> Survey:
        """Detect the tissue of a slide and let the model estimate its statistics."""
        tissue, stained = self._find_tissue(resources) if self.is_slide else (None, None)
        kept = tissue if self.spec.skips_glass else None
        if not self.spec.has_statistics:
            return Survey(kept)
        grid, covered = self.plane.grid, self.plane.covered
        bounds = grid.bounds if covered is None else covered
        samples = [self.patch(resources, box) for box in _windows(grid, stained, bounds)]
        model = self.load_model(resources)
        return Survey(kept, model.statistics(samples), model.remarks(samples))

    def patch(self, resources: Resources, box: Box) -> Patch:
        """Read `box`, in grid pixels, for the model."""
        grid = self.plane.grid
        sampler = Sampler(self.source(resources), grid, self.plane.selection)
        return Patch(
            pixels=sampler.read(box),
            image=grid.bounds.intersect(box).shift(-box.x0, -box.y0),
            spacing_um=self.plane.spacing_um,
            parameters=self.parameters,
            statistics=self.surveyed.statistics if self.surveyed else {},
        )

    def found(self, tile: Tile, prediction: Prediction) -> Objects | Pieces:
        """Return the objects or pieces of a prediction that `tile` owns."""
        if isinstance(self.output, Bounded):
            if not isinstance(prediction, Instances):
                raise Broken(f"{self.model} declares bounded instances but returned classes")
            return self._owned_objects(tile, prediction)
        if not isinstance(prediction, Classes):
            raise Broken(f"{self.model} declares classes but returned instances")
        classes = np.array(prediction.classes[tile.read.slices_of(tile.write)])
        if self.tissue is not None:
            classes[~self.tissue.pixels(self.plane.grid, tile.write)] = 0
        if isinstance(self.output, Regions) and self.region is not None:
            classes[~self.region.mask(self.plane.grid, tile.write)] = 0
        return seams.cut(classes, tile.write)

    def inside(self, anchor: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return (n,) whether objects with these anchors lie in the region and on tissue."""
        centres = self.plane.grid.to_image(anchor + 0.5)
        keep = np.ones(len(anchor), np.bool_)
        if self.region is not None:
            keep &= self.region.contains(centres)
        if self.tissue is not None:
            keep &= self.tissue.at(centres)
        return keep

    def _owned_objects(self, tile: Tile, instances: Instances) -> Objects:
        """Return the instances whose anchor lies in `tile.write`, in the region and on tissue."""
        bounds = self.plane.grid.bounds
        owned = seams.own(instances.labels, tile.read, tile.write, bounds)
        which = owned.number - 1
        nuclei, classes = instances.nuclei, instances.classes
        objects = results.build(
            self.scope,
            self.plane,
            owned.polygons,
            np.zeros(len(which), np.uint16) if classes is None else classes[which],
            owned.area_px,
            owned.anchor,
            measurements={name: column[which] for name, column in instances.measurements.items()},
            nuclei=None if nuclei is None else seams.owned_nuclei(nuclei, owned, tile.read, bounds),
        )
        return objects.select(self.inside(owned.anchor))

    def _find_tissue(self, resources: Resources) -> tuple[TissueMap, TissueMap]:
        """Return the tissue, and the part of it without felt pen and black, to sample."""
        from isoline.models.tissue_mask import foreign, tissue_mask  # OpenCV: in workers alone

        grid, spacing = self.plane.grid, self.plane.spacing_um
        if spacing is None:
            raise Broken(f"{self.model} needs the pixel size of the image to detect tissue")
        cell = XY(
            TISSUE_CELL_UM * grid.scale.x / spacing.x, TISSUE_CELL_UM * grid.scale.y / spacing.y
        )
        overview = Grid(grid.image_size, cell)
        sampler = Sampler(self.source(resources), overview, self.plane.selection)
        rgb = sampler.read(overview.bounds).astype(np.uint8, copy=False)
        mask = tissue_mask(rgb)
        stained = mask & ~foreign(rgb)
        return TissueMap(mask, cell), TissueMap(stained if stained.any() else mask, cell)


def _windows(grid: Grid, tissue: TissueMap | None, bounds: Box) -> list[Box]:
    """Return the windows in `bounds`, grid pixels, from which to estimate model statistics."""
    from isoline.models.tissue_mask import sample_windows

    if tissue is None:
        mask, cell = np.ones((1, 1), np.bool_), XY(*grid.size)
    else:
        mask = tissue.mask
        cell = XY(tissue.cell.x / grid.scale.x, tissue.cell.y / grid.scale.y)
    return sample_windows(mask, cell, bounds, count=SAMPLES, side=SAMPLE_PX)
