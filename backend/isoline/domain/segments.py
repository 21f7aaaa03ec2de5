"""Segments of a volume as somebody keeps them: what they are, who found them, where they are."""

from __future__ import annotations

from dataclasses import dataclass

from isoline.domain.events import Label, Layer
from isoline.geometry.volume_grid import SliceName


@dataclass(frozen=True)
class Algorithm:
    """What found a segment."""

    name: str
    version: str
    """With the sha256 of its weights where it has any."""
    parameters: tuple[tuple[str, float | int | bool | str], ...] = ()


@dataclass(frozen=True)
class Segment:
    """One label of a result and how it came about."""

    label: Label
    algorithm: Algorithm | None = None
    """None: a person drew it."""
    is_edited: bool = False
    """Whether a person changed what the algorithm found."""

    @property
    def algorithm_type(self) -> str:
        """As DICOM says it (PS3.3 C.8.20.2 and C.8.8.5)."""
        if self.algorithm is None:
            return "MANUAL"
        return "SEMIAUTOMATIC" if self.is_edited else "AUTOMATIC"


@dataclass(frozen=True)
class LabelledSlice:
    """What is on one slice; slices that are not given are empty."""

    name: SliceName
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class SaveRequest:
    """A labelmap to keep in the archive that its series comes from: types right, nothing else."""

    image: str
    """`dicomweb:SOURCE/STUDY/SERIES`."""
    segments: tuple[tuple[int, Segment], ...]
    """Each with the label, 1 to 255, that stands for it in the layers."""
    slices: tuple[LabelledSlice, ...]
    format: str = "dicomseg"
    description: str = "isoline"
    """SeriesDescription: what lists of series show."""


@dataclass(frozen=True)
class Saved:
    """An instance that is in the archive."""

    study: str
    """StudyInstanceUID, that of the source."""
    series: str
    """SeriesInstanceUID, of its own."""
    instance: str
    """SOPInstanceUID."""
    is_new: bool
    """False where the archive had it already."""
