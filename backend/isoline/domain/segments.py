"""Segments of a volume to be stored: what they are, what found them, and where they are."""

from __future__ import annotations

from dataclasses import dataclass

from isoline.domain.events import Label, Layer
from isoline.geometry.volume_grid import SliceName


@dataclass(frozen=True)
class Algorithm:
    """The algorithm that found a segment."""

    name: str
    version: str
    """With the sha256 of its weights if it has any."""
    parameters: tuple[tuple[str, float | int | bool | str], ...] = ()


@dataclass(frozen=True)
class Segment:
    """One label of a result, and its origin."""

    label: Label
    algorithm: Algorithm | None = None
    """None if a person drew it."""
    is_edited: bool = False
    """Whether a person edited the algorithm's result."""

    @property
    def algorithm_type(self) -> str:
        """The DICOM value (PS3.3 C.8.20.2 and C.8.8.5)."""
        if self.algorithm is None:
            return "MANUAL"
        return "SEMIAUTOMATIC" if self.is_edited else "AUTOMATIC"


@dataclass(frozen=True)
class LabelledSlice:
    """The labels in one slice; slices that are not given are empty."""

    name: SliceName
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class SaveRequest:
    """A label map to store in the archive of its series; types are correct, nothing else
    validated."""

    image: str
    """`dicomweb:SOURCE/STUDY/SERIES`."""
    segments: tuple[tuple[int, Segment], ...]
    """Each with its label, 1 to 255, in the layers."""
    slices: tuple[LabelledSlice, ...]
    format: str = "dicomseg"
    description: str = "isoline"
    """SeriesDescription, which lists of series show."""


@dataclass(frozen=True)
class Saved:
    """An instance stored in the archive."""

    study: str
    """StudyInstanceUID of the source."""
    series: str
    """SeriesInstanceUID of the new series."""
    instance: str
    """SOPInstanceUID."""
    is_new: bool
    """False if the archive already had it."""
