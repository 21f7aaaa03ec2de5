"""A volume whose voxels are mapped from the disk cache, for readers of single slices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from isoline.errors import Unreadable
from isoline.sources.source import ImageInfo, Source
from isoline.sources.volume import VolumeSource
from isoline.sources.volume_cache import VolumeCache


class CachedVolume(VolumeSource):
    """A volume that is opened and read as a whole only if the cache does not have it."""

    name = "cached"

    def __init__(self, info: ImageInfo, cache: VolumeCache, opening: Callable[[], Source]) -> None:
        """Represent the volume with this `info`, which `opening` opens."""
        super().__init__(info)
        self._cache = cache
        self._opening = opening

    @property
    def memory_bytes(self) -> int:
        return 0  # the voxels are mapped from the cache

    def _read(self) -> NDArray[np.generic]:
        shape, dtype = self.volume.grid.shape, self.info.dtype
        return self._cache.get(self.info.fingerprint, shape, dtype, self._fill)

    def _fill(self, voxels: NDArray[np.generic]) -> None:
        """Fill `voxels` from the volume itself. Raises Unreadable if it has changed."""
        source = self._opening()
        try:
            if source.info.fingerprint != self.info.fingerprint:
                raise Unreadable("the volume has just changed", "send the request again")
            assert isinstance(source, VolumeSource)
            voxels[:] = source.voxels()
        finally:
            source.close()
