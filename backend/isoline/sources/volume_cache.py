"""Volumes that took long to fetch, on disk and mapped into memory, up to so many bytes.

One file per volume, named by its fingerprint; what is used often lies in the page cache, shared by
all workers. Who may see a volume is asked before anything here is looked at.
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
"""After so long nobody fetches an unfinished volume any more: its process has died."""


@dataclass(frozen=True)
class VolumeCache:
    """A directory of volumes. Safe to use from several processes."""

    directory: Path
    most_bytes: int = 8 << 30

    def get(
        self,
        fingerprint: str,
        shape: tuple[int, ...],
        dtype: np.dtype[np.generic],
        fill: Callable[[NDArray[np.generic]], None],
    ) -> NDArray[np.generic]:
        """Return the volume `fingerprint`; where it is not here yet, as `fill` makes it.

        It is read-only. A volume that `fill` could not finish leaves nothing behind.
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
        """Remove what was not used for longest until `size` more bytes fit."""
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
