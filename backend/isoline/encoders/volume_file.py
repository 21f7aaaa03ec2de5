"""What every file of a segmented volume is made from, and the formats by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from isoline.errors import NotSupported
from isoline.events import Started
from isoline.volume_geometry import VolumeInfo


@dataclass(frozen=True)
class Segmented:
    """A whole result, with what it was made from."""

    labels: NDArray[np.uint8]
    """(k, j, i), 0 is nothing, l is `started.labels[l - 1]`."""
    started: Started
    headers: tuple[Dataset, ...] = ()
    """Of the source's instances, in the order of k; empty where it is no DICOM series."""
    is_edited: bool = False
    """Whether a person changed it: then it is marked SEMIAUTOMATIC."""

    @property
    def volume(self) -> VolumeInfo:
        assert self.started.volume is not None
        return self.started.volume

    @property
    def algorithm_type(self) -> str:
        """As DICOM says it (PS3.3 C.8.20.2 and C.8.8.5)."""
        return "SEMIAUTOMATIC" if self.is_edited else "AUTOMATIC"

    def need_headers(self, format_: str) -> tuple[Dataset, ...]:
        """Return the headers. Raises NotSupported where there are none."""
        if not self.headers:
            raise NotSupported(
                f"{format_} needs a DICOM series, and {self.started.image} is none",
                "write nifti instead",
            )
        return self.headers


Writer: TypeAlias = Callable[[Segmented, Path], None]

FORMATS: Mapping[str, str] = {
    "nifti": "isoline.encoders.nifti:write",
    "dicomseg": "isoline.encoders.dicomseg:write",
    "dicomseg-labelmap": "isoline.encoders.dicomseg:write_labelmap",
    "rtstruct": "isoline.encoders.rtstruct:write",
}
"""What a volume's result can be written as."""


def writer(format_: str) -> Writer:
    """Return what writes `format_`, one of `FORMATS`."""
    module, _, name = FORMATS[format_].partition(":")
    return cast(Writer, getattr(import_module(module), name))
