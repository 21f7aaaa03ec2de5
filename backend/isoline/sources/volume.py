"""Volume sources: a grid in patient coordinates, and voxels that are read as a whole."""

from __future__ import annotations

import hashlib
import threading
from abc import abstractmethod
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from isoline.errors import BadSeries
from isoline.geometry.grid import XY, Box
from isoline.geometry.volume_grid import SliceName, VolumeGrid, VolumeInfo
from isoline.sources.source import ImageInfo, Level, Source

EXACT = 1 << 24
"""Whole numbers up to this are exact in float32."""


class VolumeSource(Source):
    """One volume. Its voxels are read on first use and kept while it is open."""

    def __init__(self, info: ImageInfo) -> None:
        self.info = info
        self._voxels: NDArray[np.generic] | None = None
        self._closed = False
        self._lock = threading.Lock()

    @property
    def volume(self) -> VolumeInfo:
        assert self.info.volume is not None
        return self.info.volume

    @property
    def memory_bytes(self) -> int:
        i, j, k = self.volume.grid.size
        return i * j * k * self.info.dtype.itemsize

    def voxels(self) -> NDArray[np.generic]:
        """Return (k, j, i) int16 or float32 in the units of the modality; read-only.

        Raises Unreadable if the file is damaged or the archive does not respond.
        """
        with self._lock:
            if self._closed:
                raise ValueError("the volume is closed")
            if self._voxels is None:
                self._voxels = self._read()
                self._voxels.flags.writeable = False
            voxels: NDArray[np.generic] = self._voxels
            return voxels

    @abstractmethod
    def _read(self) -> NDArray[np.generic]:
        """Return the voxels as a new array."""

    def read_level(self, level: int, box: Box, z: int = 0) -> NDArray[np.generic]:
        return np.array(self.voxels()[z : z + 1, box.y0 : box.y1, box.x0 : box.x1])

    def close(self) -> None:
        with self._lock:
            self._closed, self._voxels = True, None


def volume_image(
    reader: str,
    fingerprint: str,
    volume: VolumeInfo,
    dtype: np.dtype[np.generic],
    problems: tuple[str, ...] = (),
) -> ImageInfo:
    """Return the metadata of a volume: an image of grey slices, with a grid in patient
    coordinates."""
    columns, rows, slices = volume.grid.size
    di, dj, _ = volume.grid.spacing_mm
    return ImageInfo(
        reader=reader,
        fingerprint=fingerprint,
        kind="volume",
        levels=(Level((columns, rows), XY(1.0, 1.0)),),
        spacing_um=XY(1000 * di, 1000 * dj),
        channels=("intensity",),
        dtype=dtype,
        background=(0,),
        z_planes=slices,
        problems=problems,
        volume=volume,
    )


def series_fingerprint(slices: Iterable[SliceName], content: Iterable[bytes]) -> str:
    """Return a digest of a DICOM series: the names of its slices, and `content`.

    An instance must not change under its UID (PS3.5 section 9), but some do, so what is known of
    their content counts too.
    """
    digest = hashlib.sha256()
    for name in slices:
        digest.update(f"{name.instance}#{name.frame}\n".encode())
    for part in content:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def check_size(name: str, grid: VolumeGrid, most_mib: int) -> None:
    """Raise BadSeries if the voxels of `grid` as float32 would take more than `most_mib`."""
    mib = 4 * np.prod(np.array(grid.size, np.float64)) / 2**20
    if mib > most_mib:
        raise BadSeries(
            f"{name} has {grid.size[0]} x {grid.size[1]} x {grid.size[2]} voxels, {mib:.0f} MiB",
            f"the server accepts volumes of up to {most_mib} MiB (limits.volume_mib)",
        )
