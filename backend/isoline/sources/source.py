"""The interface of an image source: metadata, and one primitive that reads a level's own pixels."""

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
class ImageInFile:
    """One of several images in a file."""

    name: str
    """Empty if the file does not name it."""
    size: tuple[int, int]
    """(width, height) in pixels."""


@dataclass(frozen=True)
class ImageInfo:
    """The metadata of an image as isoline understands it."""

    reader: str
    """Name of the source that reads it."""
    fingerprint: str
    """Hex digest of the content; two copies of a file share it, whatever their names."""
    kind: Literal["slide", "image", "volume"]
    """A slide has glass around the tissue, a plain image only its subject, a volume has slices."""
    levels: tuple[Level, ...]
    """Finest first; image coordinates are pixels of the first."""
    spacing_um: XY | None
    """Micrometres per level-0 pixel, None if the file does not record it."""
    channels: tuple[str, ...]
    """("red", "green", "blue") in brightfield, else one name per fluorescence channel."""
    dtype: np.dtype[np.generic]
    background: tuple[int, ...]
    """Colour outside the image, one value per channel."""
    z_planes: int = 1
    covered: Box | None = None
    """The part of level 0 with full-resolution pixels, None if that is all of it."""
    bounds: Box | None = None
    """The scanned part of level 0, if the file names it: some viewers show only that."""
    problems: tuple[str, ...] = ()
    """Warnings for `isoline check` to print, a sentence each."""
    series: tuple[ImageInFile, ...] = ()
    """The images in the file, one of which this is; empty if its format holds only one."""
    taken: int = 0
    """The index in `series` of this image."""
    volume: VolumeInfo | None = None
    """For volumes only; the slices are the planes z = k, seen along the normal."""

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
        """Memory that it may hold while open: the voxels of a volume, nearly nothing for a slide.

        Mapped files do not count: the system reclaims them when memory is short.
        """
        return 0

    @classmethod
    def open(cls, path: Path) -> Source:
        """Open the image at `path`.

        Raises Unreadable with the reason if this reader does not understand the file.
        """
        raise Unreadable(
            f"{path.name}: {cls.__name__} does not read files", "choose another reader"
        )

    @abstractmethod
    def read_level(self, level: int, box: Box, z: int = 0) -> NDArray[np.generic]:
        """Return the level's own (c, y, x) pixels in `box`, which lies entirely inside `level`.

        A pixel depends only on its position: its value is the same in whatever box it is read.
        Raises Unreadable if the file is damaged there.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file; reading afterwards is an error."""


class Remote(ABC):
    """An image that is not simply a local file: all that a worker needs to open it, including
    credentials.

    Picklable and hashable; equal ones show the same pixels to the same user. Credentials are left
    out of its repr.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The image's name in messages."""

    @abstractmethod
    def open(self) -> Source:
        """Open the image. Raises Unreadable."""
