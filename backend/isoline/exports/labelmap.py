"""What every file of a segmented volume is made from, and the formats by name."""

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

from isoline.domain.events import Started
from isoline.domain.segments import Algorithm, Segment
from isoline.errors import NotSupported
from isoline.geometry.volume_grid import VolumeInfo

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID


@dataclass(frozen=True)
class Segmented:
    """A whole result, with what it was made from."""

    labels: NDArray[np.uint8]
    """(k, j, i), 0 is nothing, l is `segments[l - 1]`."""
    segments: tuple[Segment, ...]
    volume: VolumeInfo
    image: str
    """What the source is called."""
    description: str
    headers: tuple[Dataset, ...] = ()
    """Of the source's instances, in the order of k; empty where it is no DICOM series."""

    @classmethod
    def found(
        cls, labels: NDArray[np.uint8], started: Started, headers: tuple[Dataset, ...] = ()
    ) -> Segmented:
        """Return what the job `started` found, untouched."""
        scope = started.scope
        algorithm = Algorithm(scope.model, scope.version, scope.parameters)
        segments = tuple(Segment(label, algorithm) for label in started.labels)
        assert started.volume is not None
        title = f"isoline {scope.model}"
        return cls(labels, segments, started.volume, started.image, title, headers)

    def uid(self, of: str) -> UID:
        """Return the UID of the part `of` what is made from this: the same for the same content."""
        from pydicom.uid import generate_uid  # a server needs it when it writes a file

        return generate_uid(entropy_srcs=[self._content, of])

    @cached_property
    def _content(self) -> str:
        """A SHA-256 over all that a file says; an instance never changes under its UID."""
        digest = hashlib.sha256(np.ascontiguousarray(self.labels).data)
        slices = [[*name] for name in self.volume.slices]
        said = [self.description, slices, [asdict(each) for each in self.segments]]
        digest.update(orjson.dumps(said))
        return digest.hexdigest()

    def need_headers(self, format_: str) -> tuple[Dataset, ...]:
        """Return the headers. Raises NotSupported where there are none."""
        if not self.headers:
            raise NotSupported(
                f"{format_} needs a DICOM series, and {self.image} is none",
                "write nifti instead",
            )
        return self.headers

    def need_voxels(self, format_: str) -> None:
        """Raise NotSupported where nothing was found."""
        if not self.labels.any():
            raise NotSupported(f"nothing was found, and {format_} needs a segment", "write nifti")


Writer: TypeAlias = Callable[[Segmented, Path], None]
Maker: TypeAlias = "Callable[[Segmented], Dataset]"

FORMATS: Mapping[str, str] = {
    "nifti": "isoline.exports.nifti:write",
    "dicomseg": "isoline.exports.dicomseg:write",
    "dicomseg-labelmap": "isoline.exports.dicomseg:write_labelmap",
    "rtstruct": "isoline.exports.rtstruct:write",
}
"""What a volume's result can be written as."""

DICOM: Mapping[str, str] = {
    "dicomseg": "isoline.exports.dicomseg:binary",
    "dicomseg-labelmap": "isoline.exports.dicomseg:labelmap",
    "rtstruct": "isoline.exports.rtstruct:dataset",
}
"""What it can be kept as in an archive."""


def writer(format_: str) -> Writer:
    """Return what writes `format_`, one of `FORMATS`."""
    return cast(Writer, _loaded(FORMATS[format_]))


def maker(format_: str) -> Maker:
    """Return what makes the dataset of `format_`, one of `DICOM`."""
    return cast(Maker, _loaded(DICOM[format_]))


def _loaded(name: str) -> object:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
