"""A lock between processes that is released when its holder exits."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from isoline.errors import Conflict

_PAUSE_SECONDS = 0.1


class Exclusive:
    """A file that one process at a time may hold."""

    def __init__(self, path: Path, wait_seconds: float = 10.0) -> None:
        """Lock `path`, waiting for another process to release it.

        Raises Conflict after `wait_seconds`.
        """
        # a worker of a killed server may take a moment to notice and exit
        self._file = path.open("ab")
        deadline = time.monotonic() + wait_seconds
        while not _locked(self._file.fileno()):
            if time.monotonic() > deadline:
                self._file.close()
                raise Conflict(
                    f"another server is using {path.parent}", "stop it, or configure another `data`"
                )
            time.sleep(_PAUSE_SECONDS)

    def close(self) -> None:
        self._file.close()


if sys.platform == "win32":
    import msvcrt

    def _locked(descriptor: int) -> bool:
        try:
            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _locked(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
