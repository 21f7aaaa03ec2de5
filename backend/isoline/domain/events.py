"""The events of a job, in their order.

    Started  (Contours | Mask | Warned | Progress)*  (Done | Failed | Cancelled)

These are values within the process; `protocol` converts them to JSON in the dialect of an encoder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from isoline.geometry.grid import XY, Grid, Rect
from isoline.geometry.polygons import Polygons
from isoline.geometry.volume_grid import VolumeInfo


@dataclass(frozen=True)
class Label:
    """One class of a model's output: its name and how a viewer draws it."""

    name: str
    color: tuple[int, int, int]
    """Red, green, blue, 0 to 255."""
    anatomy: tuple[str, str] | None = None
    """Its SNOMED CT code and meaning, which DICOM requires."""


@dataclass(frozen=True)
class Scope:
    """Everything a result depends on: equal scopes give equal objects with equal ids."""

    image: str
    """Content fingerprint of the image, never its name."""
    model: str
    version: str
    """Version of the model, with the sha256 of its weights if it has any."""
    parameters: tuple[tuple[str, float | int | bool | str], ...]
    """Those that affect results, sorted by name, including the working spacing."""


@dataclass(frozen=True)
class Objects:
    """n results of one tile or one union, as columns."""

    polygons: Polygons
    """In grid pixels; `Started.grid` converts them to image coordinates."""
    ids: NDArray[np.uint8]
    """(n, 16) bytes of a UUIDv5 over the scope, the label and the geometry."""
    label: NDArray[np.uint16]
    """(n,) index into `Started.labels`."""
    area_px: NDArray[np.int64]
    """(n,) area in grid pixels, without holes."""
    anchor: NDArray[np.int32]
    """(n, 2) x, y of each object's anchor, in grid pixels."""
    incomplete: NDArray[np.bool_]
    """(n,) whether a failed, skipped or cancelled tile may have cut the object."""
    measurements: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Arrays of shape (n,) by name."""
    nuclei: Polygons | None = None
    """The nucleus of each object if objects are cells; without parts for a cell without nucleus."""

    @classmethod
    def none(cls) -> Objects:
        """Return no objects, for an event that only replaces."""
        return cls(
            Polygons.concatenate([]),
            np.empty((0, 16), np.uint8),
            np.empty(0, np.uint16),
            np.empty(0, np.int64),
            np.empty((0, 2), np.int32),
            np.empty(0, np.bool_),
        )

    def __len__(self) -> int:
        return len(self.polygons)

    def select(self, which: NDArray[np.bool_]) -> Objects:
        """Return the objects selected by a mask (n,)."""
        return Objects(
            self.polygons.select(which),
            self.ids[which],
            self.label[which],
            self.area_px[which],
            self.anchor[which],
            self.incomplete[which],
            {name: column[which] for name, column in self.measurements.items()},
            None if self.nuclei is None else self.nuclei.select(which),
        )


@dataclass(frozen=True)
class Started:
    """The request is valid, and the job has started."""

    job: str
    image: str
    """The name of the image in the request."""
    scope: Scope
    labels: tuple[Label, ...]
    grid: Grid
    tiles: int
    spacing_um: XY | None
    """Micrometres per image pixel, None if neither the file nor the request specifies it."""
    kind: Literal["objects", "regions", "mask"]
    """Countable objects, areas, or slices of a label map: how a viewer displays a result."""
    z: int = 0
    """The plane that was read."""
    pointed: bool = False
    """Whether the result is the one object that prompts indicate."""
    volume: VolumeInfo | None = None
    """For a mask: the positions of its voxels, and the names of its slices."""


@dataclass(frozen=True)
class Contours:
    """Final objects, or pieces that a later union will replace."""

    objects: Objects
    provisional: bool = False
    """Whether these are pieces of a region with open seams: displayed, never stored."""
    replaces: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 16), np.uint8))
    """(m, 16) ids that these objects replace: of provisional pieces, or of an earlier run."""


@dataclass(frozen=True)
class Mask:
    """The labels of complete slices of a volume; `mask_rle` encodes and decodes them."""

    slices: NDArray[np.int32]
    """(n,) k of each slice."""
    layers: NDArray[np.int32]
    """(m, 6) for each label in each slice: index into `slices`, label from 1, i0, j0, i1, j1."""
    code: NDArray[np.uint8]
    """The encoded runs of all layers, concatenated."""
    start: NDArray[np.int64]
    """(m + 1,) where the code of each layer starts."""
    provisional: bool = False
    """Displayed until a final mask of the same slice arrives, never stored."""
    whole: bool = False
    """Whether all other slices are empty."""


class Layer(NamedTuple):
    """One label in one slice."""

    label: int
    """1 .. n: index into `Started.labels`, plus 1."""
    box: tuple[int, int, int, int]
    """[i0, i1) x [j0, j1) as i0, j0, i1, j1."""
    code: bytes
    """The encoded runs: see `mask_rle`."""


@dataclass(frozen=True)
class Progress:
    """The progress of the job."""

    tiles_done: int
    tiles: int
    seconds_left: float | None
    """None until the first tile has been timed."""


@dataclass(frozen=True)
class Warned:
    """Something went wrong, but the job continues."""

    code: str
    message: str
    area: Rect | None = None
    """The affected area, in image coordinates."""


@dataclass(frozen=True)
class Done:
    """The last event of a job that ran to completion."""

    objects: int
    tiles: int
    tiles_failed: int
    tiles_skipped: int
    """Tiles without tissue, which were not computed."""
    seconds: float


@dataclass(frozen=True)
class Failed:
    """The last event of a job that could not continue."""

    code: str
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class Cancelled:
    """The last event of a job that was cancelled."""

    tiles_done: int
    tiles: int


Event: TypeAlias = Started | Contours | Mask | Progress | Warned | Done | Failed | Cancelled
End: TypeAlias = Done | Failed | Cancelled
