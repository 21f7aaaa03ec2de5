"""The common input of every file format for segmented volumes, and the formats by name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from isoline.domain.events import Label, Started
from isoline.domain.segments import Algorithm, Segment
from isoline.errors import Malformed, NotSupported
from isoline.geometry.volume_grid import VolumeInfo

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID


_EDITION = b"2"
"""Changes whenever the same content is written differently."""


@dataclass(frozen=True)
class Source:
    """The image that a result is of."""

    image: str
    volume: VolumeInfo
    headers: tuple[Dataset, ...] = ()
    """Headers of its instances, in the order of k; empty if it is not a DICOM series."""


@dataclass(frozen=True)
class Segmented:
    """A complete result, with its source."""

    labels: NDArray[np.uint8]
    """(k, j, i); 0 is background, l is `segments[l - 1]`."""
    segments: tuple[Segment, ...]
    volume: VolumeInfo
    image: str
    """The name of the source image."""
    description: str
    headers: tuple[Dataset, ...] = ()
    """Headers of the source's instances, in the order of k; empty if it is not a DICOM series."""

    @classmethod
    def found(
        cls, labels: NDArray[np.uint8], started: Started, headers: tuple[Dataset, ...] = ()
    ) -> Segmented:
        """Return the unedited result of the job `started`."""
        scope = started.scope
        algorithm = Algorithm(scope.model, scope.version, scope.parameters)
        segments = tuple(Segment(label, algorithm) for label in started.labels)
        assert started.volume is not None
        title = f"isoline {scope.model}"
        return cls(labels, segments, started.volume, started.image, title, headers)

    def uid(self, of: str) -> UID:
        """Return the UID of the part `of` the object made from this: equal for equal content."""
        from pydicom.uid import generate_uid  # imported only when a file is written

        return generate_uid(entropy_srcs=[self._content, of])

    @cached_property
    def _content(self) -> str:
        """A SHA-256 of everything in the file, since an instance must not change under its UID."""
        digest = hashlib.sha256(np.ascontiguousarray(self.labels).data)
        digest.update(_EDITION)
        slices = [[*name] for name in self.volume.slices]
        content = [self.description, slices, [asdict(each) for each in self.segments]]
        digest.update(orjson.dumps(content))
        return digest.hexdigest()

    def need_headers(self, format_: str) -> tuple[Dataset, ...]:
        """Return the headers. Raises NotSupported if there are none."""
        if not self.headers:
            raise NotSupported(
                f"{format_} needs a DICOM series, and {self.image} is not one",
                "use format nifti",
            )
        return self.headers

    def need_voxels(self, format_: str) -> None:
        """Raise NotSupported if nothing was found."""
        if not self.labels.any():
            raise NotSupported(
                f"nothing was found, and {format_} cannot be empty", "use format nifti"
            )


Writer: TypeAlias = Callable[[Segmented, Path], None]
Maker: TypeAlias = "Callable[[Segmented], Dataset]"

FORMATS: Mapping[str, str] = {
    "nifti": "isoline.exports.nifti:write",
    "dicomseg": "isoline.exports.dicomseg:write",
    "dicomseg-labelmap": "isoline.exports.dicomseg:write_labelmap",
    "rtstruct": "isoline.exports.rtstruct:write",
}
"""File formats for a volume's result."""

DICOM: Mapping[str, str] = {
    "dicomseg": "isoline.exports.dicomseg:binary",
    "dicomseg-labelmap": "isoline.exports.dicomseg:labelmap",
    "rtstruct": "isoline.exports.rtstruct:dataset",
}
"""Formats in which it can be stored in an archive."""


def rehearse(format_: str, labels: tuple[Label, ...], source: Source) -> None:
    """Check, before anything is computed, that a result on `source` can become `format_`.

    An object with a single voxel is made: whatever the headers of the source lack is then known.

    Raises NotSupported.
    """
    if format_ not in DICOM:
        return
    voxels = np.zeros(source.volume.grid.shape, np.uint8)
    voxels[0, 0, 0] = 1
    segments = tuple(map(Segment, labels))
    maker(format_)(
        Segmented(voxels, segments, source.volume, source.image, "isoline", source.headers)
    )


def check_path(format_: str, path: Path) -> None:
    """Raise Malformed if a file of `format_` cannot be called `path`."""
    if not path.absolute().parent.is_dir():
        raise Malformed(f"cannot write {path}: there is no such folder", "choose another --out")
    if path.is_dir():
        raise Malformed(f"cannot write {path}: it is a folder", "add a file name to --out")
    if format_ == "nifti" and not path.name.endswith((".nii", ".nii.gz")):
        raise Malformed(
            f"{path.name} is not the name of a NIfTI file", "end the name in .nii or .nii.gz"
        )


def writer(format_: str) -> Writer:
    """Return the function that writes `format_`, one of `FORMATS`."""
    return cast(Writer, _loaded(FORMATS[format_]))


def maker(format_: str) -> Maker:
    """Return the function that creates the dataset of `format_`, one of `DICOM`."""
    return cast(Maker, _loaded(DICOM[format_]))


def _loaded(name: str) -> object:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
