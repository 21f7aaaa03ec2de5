"""Where a worker process begins: it ends with its server, whatever it is at.

What a worker needs takes seconds to import; a server that is killed meanwhile shall leave nothing
behind. So this imports next to nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from multiprocessing.connection import Connection, wait


def serve(pipe: Connection, models: bytes, device: str, seen_mib: int, niceness: int) -> None:
    """Do what `worker.serve` does while the server lives, `niceness` below its priority.

    `models` is a pickled ModelCatalogue: unpickling imports, and nothing may be imported before the
    server is watched.
    """
    threading.Thread(target=_die_with_parent, daemon=True).start()

    if hasattr(os, "nice"):  # not on Windows
        os.nice(niceness)  # before the imports: meanwhile the server answers

    from isoline.engines import worker

    worker.serve(pipe, pickle.loads(models), device, seen_mib)


def _die_with_parent() -> None:
    """End this process when the server is killed, also in the middle of a tile."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
