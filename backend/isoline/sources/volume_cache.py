"""A disk cache of fetched volumes, mapped into memory and limited in bytes.

There is one file per volume, named by its fingerprint; volumes in frequent use stay in the page
cache, shared by all workers. Permissions are checked before this cache is consulted.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_UNFINISHED = ".volume-"
_GIVEN_UP_SECONDS = 3600.0
"""An unfinished volume older than this is abandoned: its process has died."""


@dataclass(frozen=True)
class VolumeCache:
    """A directory of volumes. Safe for use by several processes."""

    directory: Path
    most_bytes: int = 8 << 30

    def get(
        self,
        fingerprint: str,
        shape: tuple[int, ...],
        dtype: np.dtype[np.generic],
        fill: Callable[[NDArray[np.generic]], None],
    ) -> NDArray[np.generic]:
        """Return the volume `fingerprint`, read-only; if it is not cached, let `fill` write it.

        If `fill` fails, nothing is left behind.
        """
        path = self.directory / f"{fingerprint}-{'x'.join(map(str, shape))}-{dtype.name}"
        size = int(np.prod(shape)) * dtype.itemsize
        try:
            if path.stat().st_size == size:
                os.utime(path)
                return np.memmap(path, dtype, "r", shape=shape)
        except FileNotFoundError:
            pass
        self.directory.mkdir(parents=True, exist_ok=True)
        self._make_room(size)
        handle, scratch = tempfile.mkstemp(dir=self.directory, prefix=_UNFINISHED)
        os.close(handle)
        try:
            made = np.memmap(scratch, dtype, "w+", shape=shape)
            fill(made)
            made.flush()
            del made
            os.replace(scratch, path)  # noqa: PTH105
        except BaseException:
            with suppress(OSError):
                os.unlink(scratch)  # noqa: PTH108
            raise
        return np.memmap(path, dtype, "r", shape=shape)

    def _make_room(self, size: int) -> None:
        """Remove the least recently used volumes until `size` more bytes fit."""
        files: list[tuple[float, int, Path]] = []
        total = size
        for path in self.directory.iterdir():
            with suppress(FileNotFoundError):
                state = path.stat()
                total += state.st_size
                is_growing = time.time() - state.st_mtime < _GIVEN_UP_SECONDS
                if not (path.name.startswith(_UNFINISHED) and is_growing):
                    files.append((state.st_mtime, state.st_size, path))
        for _, freed, path in sorted(files):
            if total <= self.most_bytes:
                return
            path.unlink(missing_ok=True)
            total -= freed
