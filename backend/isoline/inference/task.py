"""What travels between the pipeline and a worker, all of it picklable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isoline.domain.events import Mask, Objects, Scope
from isoline.domain.request import Value
from isoline.geometry.grid import XY, Box, Grid
from isoline.geometry.region import Region
from isoline.geometry.seams import Pieces
from isoline.geometry.tiling import Tile
from isoline.inference.prompt_task import Asked
from isoline.inference.sampling import Selection
from isoline.models.base import ModelSpec, Output, Statistics
from isoline.sources.base import Remote


@dataclass(frozen=True)
class Tissue:
    """Where a slide has tissue, generously: (y, x) cells of `cell` image pixels a side."""

    mask: NDArray[np.bool_]
    cell: XY

    def at(self, points: NDArray[np.generic]) -> NDArray[np.bool_]:
        """Return, for (n, 2) image points x, y, whether they lie on tissue."""
        cells = np.floor(np.divide(points, self.cell, dtype=np.float64)).astype(np.int64)
        height, width = self.mask.shape
        x, y = np.clip(cells[:, 0], 0, width - 1), np.clip(cells[:, 1], 0, height - 1)
        on: NDArray[np.bool_] = self.mask[y, x]
        return on

    def pixels(self, grid: Grid, box: Box) -> NDArray[np.bool_]:
        """Return (y, x): which grid pixels of `box` have their centre on tissue."""
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
        """Return the rows and columns of cells that hold the centres of grid pixels y and x."""
        height, width = self.mask.shape
        columns = ((x + 0.5) * grid.scale.x // self.cell.x).astype(np.int64)
        rows = ((y + 0.5) * grid.scale.y // self.cell.y).astype(np.int64)
        return rows.clip(0, height - 1), columns.clip(0, width - 1)


class Result:
    """What a worker found out; each kind of work has its own."""

    @property
    def stage_seconds(self) -> Mapping[str, float]:
        """How long each stage took, for those who measure."""
        return {}


@dataclass(frozen=True)
class Survey(Result):
    """What was learnt from the whole image before its first tile."""

    tissue: Tissue | None
    """None for a plain image and for a model that does not skip glass."""
    statistics: Statistics = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """Everything a worker needs to compute any tile of one job."""

    path: Path | Remote
    reader: str
    fingerprint: str
    selection: Selection
    grid: Grid
    spacing_um: XY | None
    """Micrometres per grid pixel."""
    model: str
    """Its name in the catalogue."""
    spec: ModelSpec
    output: Output
    parameters: Mapping[str, Value]
    scope: Scope
    region: Region | None
    simplify_px: float | None = None
    is_slide: bool = False
    look: int | None = None
    """Of a volume: the slice k that the user looks at."""
    asked: Asked | None = None
    """Of a model that takes prompts: what they ask."""
    on_gpu: bool = False
    """Whether its model computes on a GPU where there is one."""
    have: frozenset[int] = frozenset()
    """Of a volume: slices that were given before a restart."""
    covered: Box | None = None
    """Of an upload: the grid pixels that were sent, those around them being background."""
    survey: Survey | None = None
    """None until `Engine.survey` has answered."""

    def surveyed(self, survey: Survey) -> Task:
        return replace(self, survey=survey)


@dataclass(frozen=True)
class Stages:
    """Seconds that one tile took."""

    read: float
    infer: float
    contour: float


@dataclass(frozen=True)
class Computed(Result):
    """One tile's result: objects that are final, or pieces that the stitcher unites."""

    tile: Tile
    found: Objects | Pieces
    stages: Stages

    @property
    def stage_seconds(self) -> Mapping[str, float]:
        return vars(self.stages)


@dataclass(frozen=True)
class Masked(Result):
    """What was found in a volume since the last time, while its one tile is still computed."""

    tile: Tile
    done: float
    """Share of the work, 0 to 1."""
    mask: Mask | None = None


@dataclass(frozen=True)
class Answered(Result):
    """What prompts pointed at."""

    tile: Tile
    found: Objects | Mask | None
    """One object of a picture or the slices of a volume that hold it; None where there is none."""
    reason: str
    """Why nothing was found, a sentence."""
    seconds: float
    """What the answer took, reading included."""

    @property
    def stage_seconds(self) -> Mapping[str, float]:
        return {"answer": self.seconds}


@dataclass(frozen=True)
class TileFailed(Result):
    """A tile that could not be read, whose model raised, or whose worker died twice."""

    tile: Tile
    code: str
    message: str
