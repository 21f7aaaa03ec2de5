"""What a job can say, in the order in which it says it.

    Started  (Contours | Mask | Warned | Progress)*  (Done | Failed | Cancelled)

Events are values of this process; `protocol` turns them into JSON in the dialect of an encoder.
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
    """One class of a model's output: what it is called and how a viewer draws it."""

    name: str
    color: tuple[int, int, int]
    """Red, green, blue, 0 to 255."""
    anatomy: tuple[str, str] | None = None
    """What it is in SNOMED CT, code and meaning, as DICOM wants to know."""


@dataclass(frozen=True)
class Scope:
    """What a result was made from: the same scope gives the same objects with the same ids."""

    image: str
    """Content fingerprint of the image, never its name."""
    model: str
    version: str
    """Version of the model, with the sha256 of its weights where it has any."""
    parameters: tuple[tuple[str, float | int | bool | str], ...]
    """Those that change results, sorted by name; the working spacing is among them."""


@dataclass(frozen=True)
class Objects:
    """n results of one tile or one union, as columns."""

    polygons: Polygons
    """In grid pixels; `Started.grid` turns them into image coordinates."""
    ids: NDArray[np.uint8]
    """(n, 16) bytes of a UUIDv5 over the scope, the label and the geometry."""
    label: NDArray[np.uint16]
    """(n,) index into `Started.labels`."""
    area_px: NDArray[np.int64]
    """(n,) grid pixels, holes left out."""
    anchor: NDArray[np.int32]
    """(n, 2) x, y of each object's anchor pixel, in the grid."""
    incomplete: NDArray[np.bool_]
    """(n,) whether a failed, skipped or cancelled tile may have cut the object."""
    measurements: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """(n,) each, by name."""
    nuclei: Polygons | None = None
    """The nucleus of each object, where objects are cells; without parts where a cell has none."""

    def __len__(self) -> int:
        return len(self.polygons)

    def select(self, which: NDArray[np.bool_]) -> Objects:
        """Return the objects of a mask (n,)."""
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
    """The request was understood; tiles are on their way."""

    job: str
    image: str
    """The name under which the image was asked for."""
    scope: Scope
    labels: tuple[Label, ...]
    grid: Grid
    tiles: int
    spacing_um: XY | None
    """Micrometres per image pixel, None where neither the file nor the request says."""
    kind: Literal["objects", "regions", "mask"]
    """Things to count, areas, or slices of labels: what a viewer makes of a result."""
    z: int = 0
    """The plane that was read."""
    pointed: bool = False
    """Whether the result is the one object that prompts point at."""
    volume: VolumeInfo | None = None
    """Of a mask: where its voxels lie, and what its slices are called."""


@dataclass(frozen=True)
class Contours:
    """Objects that are final, or pieces that a later union will replace."""

    objects: Objects
    provisional: bool = False
    """Pieces of a region whose seams are still open: shown, never stored."""
    replaces: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 16), np.uint8))
    """(m, 16) ids of provisional pieces that these objects take the place of."""


@dataclass(frozen=True)
class Mask:
    """The labels of some slices of a volume, each slice whole; `masks` codes and decodes them."""

    slices: NDArray[np.int32]
    """(n,) k of each."""
    layers: NDArray[np.int32]
    """(m, 6) of each label in each slice: index into `slices`, label 1 .. , i0, j0, i1, j1."""
    code: NDArray[np.uint8]
    """The runs of all layers, one after the other."""
    start: NDArray[np.int64]
    """(m + 1,) where the code of each layer begins."""
    provisional: bool = False
    """Shown until a final mask of the same slice comes, never stored."""


class Layer(NamedTuple):
    """One label in one slice."""

    label: int
    """1 .. n: index into `Started.labels`, plus 1."""
    box: tuple[int, int, int, int]
    """[i0, i1) x [j0, j1) as i0, j0, i1, j1."""
    code: bytes
    """Its runs, as `masks` codes them."""


@dataclass(frozen=True)
class Progress:
    """How far the job is."""

    tiles_done: int
    tiles: int
    seconds_left: float | None
    """None until the first tile has been timed."""


@dataclass(frozen=True)
class Warned:
    """Something went wrong and the job goes on."""

    code: str
    message: str
    area: Rect | None = None
    """Where, in image coordinates."""


@dataclass(frozen=True)
class Done:
    """The last event of a job that ran to its end."""

    objects: int
    tiles: int
    tiles_failed: int
    tiles_skipped: int
    """Tiles without tissue, which were not computed."""
    seconds: float


@dataclass(frozen=True)
class Failed:
    """The last event of a job that could not go on."""

    code: str
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class Cancelled:
    """The last event of a job that someone stopped."""

    tiles_done: int
    tiles: int


Event: TypeAlias = Started | Contours | Mask | Progress | Warned | Done | Failed | Cancelled
End: TypeAlias = Done | Failed | Cancelled
