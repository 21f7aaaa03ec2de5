"""The entry point of a worker process, which makes it exit when its server dies.

A worker's imports take seconds, and a server that is killed meanwhile must not leave processes
behind. Therefore this module imports almost nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from multiprocessing.connection import Connection, wait


def serve(pipe: Connection, models: bytes, device: str, seen_mib: int, niceness: int) -> None:
    """Run `worker.serve` while the server lives, with `niceness` below its priority.

    `models` is a pickled ModelCatalogue: unpickling imports modules, and the server must be watched
    before anything is imported.
    """
    threading.Thread(target=_die_with_parent, daemon=True).start()

    if hasattr(os, "nice"):  # not on Windows
        os.nice(niceness)  # before the imports, so that the server stays responsive meanwhile

    from isoline.engines import worker

    worker.serve(pipe, pickle.loads(models), device, seen_mib)


def _die_with_parent() -> None:
    """Exit this process when the server is killed, even in the middle of a tile."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
