"""Ending a forked process as soon as its parent dies, even if the parent is killed.

gunicorn's worker would notice only once it looks up from its streams, and hold the port meanwhile.
"""

from __future__ import annotations

import os
import threading


class Lifeline:
    """A pipe of which only the parent keeps the writing end: it closes when the parent dies."""

    def __init__(self) -> None:
        """Create the pipe in the parent, before it forks."""
        self._reading, self._writing = os.pipe()

    def hold(self) -> None:
        """Exit this process, a child, at once when its parent dies."""
        os.close(self._writing)
        threading.Thread(target=self._wait, name="lifeline", daemon=True).start()

    def _wait(self) -> None:
        os.read(self._reading, 1)
        os._exit(1)  # journals are written as if the machine could fail at any moment
