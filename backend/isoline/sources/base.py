"""What a source of pixels is: metadata, and one primitive that reads native level pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isoline.errors import Unreadable
from isoline.geometry.grid import XY, Box
from isoline.geometry.volume_grid import VolumeInfo


@dataclass(frozen=True)
class Level:
    """One resolution of a pyramid."""

    size: tuple[int, int]
    """(width, height) in pixels of this level."""
    downsample: XY
    """Image (level-0) pixels per pixel of this level: pixel n spans [n * d, (n + 1) * d)."""


@dataclass(frozen=True)
class ImageInfo:
    """What isoline sees in a file."""

    reader: str
    """Name of the source that reads it."""
    fingerprint: str
    """Hex digest of the content; two copies of a file share it, whatever their names."""
    kind: Literal["slide", "image", "volume"]
    """A slide has glass around the tissue; a plain image is all subject; a volume has slices."""
    levels: tuple[Level, ...]
    """Finest first; the first is what image coordinates are counted in."""
    spacing_um: XY | None
    """Micrometres per level-0 pixel, None where the file does not say."""
    channels: tuple[str, ...]
    """("red", "green", "blue") in brightfield, else one name per fluorescence channel."""
    dtype: np.dtype[np.generic]
    background: tuple[int, ...]
    """What lies outside the image, one value per channel."""
    z_planes: int = 1
    covered: Box | None = None
    """The part of level 0 that has pixels of its own, None where all of it has."""
    problems: tuple[str, ...] = ()
    """What `isoline check` should tell the user, a sentence each."""
    volume: VolumeInfo | None = None
    """Of a volume alone: its slices are the planes z = k, seen along the normal."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) at level 0."""
        return self.levels[0].size

    @property
    def is_rgb(self) -> bool:
        return self.channels == ("red", "green", "blue")


class Source(ABC):
    """One open image. Safe to read from several threads at once."""

    name: str
    """The name of the reader, as registered."""
    info: ImageInfo

    @property
    def memory_bytes(self) -> int:
        """What it may keep in memory while it is open: a volume its voxels, a slide nearly nothing.

        What is mapped from a file is not counted: the system takes it back when memory is short.
        """
        return 0

    @classmethod
    def open(cls, path: Path) -> Source:
        """Open the image at `path`.

        Raises Unreadable with the reason when this reader cannot make sense of the file.
        """
        raise Unreadable(f"{path.name}: {cls.__name__} reads no files", "choose another reader")

    @abstractmethod
    def read_level(self, level: int, box: Box, z: int = 0) -> NDArray[np.generic]:
        """Return (c, y, x) native pixels of `box`, in pixels of `level` and wholly inside it.

        A pixel depends only on its place: read alone or in any box, its value is the same.
        Raises Unreadable when the file is damaged there.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back the file; reading afterwards is an error."""


class Remote(ABC):
    """An image that is no file here: all that a worker needs to open it, rights included.

    Picklable and hashable; two that are equal show the same pixels to the same user. Whatever
    grants access is left out of its repr.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call it."""

    @abstractmethod
    def open(self) -> Source:
        """Open the image. Raises Unreadable."""
