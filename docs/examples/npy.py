"""A source in forty lines: RGB pictures that `numpy.save` wrote, as (y, x, 3) of uint8."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isoline.errors import Unreadable
from isoline.geometry.grid import XY, Box
from isoline.sources.fingerprint import fingerprint
from isoline.sources.source import ImageInfo, Level, Source


class NpySource(Source):
    """A memory-mapped array: nothing is read before it is needed."""

    name = "npy"

    def __init__(self, path: Path) -> None:
        try:
            self._pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise Unreadable(f"{path.name}: {error}") from error
        if self._pixels.dtype != np.uint8 or self._pixels.shape[2:] != (3,):
            raise Unreadable(f"{path.name}: not (y, x, 3) of uint8", "convert it to RGB")
        height, width, _ = self._pixels.shape
        self.info = ImageInfo(
            reader=self.name,
            fingerprint=fingerprint(path),
            kind="image",
            levels=(Level((width, height), XY(1.0, 1.0)),),
            spacing_um=None,  # the file does not say; the user may
            channels=("red", "green", "blue"),
            dtype=self._pixels.dtype,
            background=(255, 255, 255),
        )

    @classmethod
    def open(cls, path: Path) -> "NpySource":
        return cls(path)

    def read_level(self, level: int, box: Box, z: int = 0) -> NDArray[np.generic]:
        if self._pixels is None:
            raise ValueError("read from a closed image")
        pixels = self._pixels[box.y0 : box.y1, box.x0 : box.x1]
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def close(self) -> None:
        self._pixels = None
