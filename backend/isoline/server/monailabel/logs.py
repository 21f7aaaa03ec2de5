"""The last lines of the log, for /logs/."""

from __future__ import annotations

import logging
from collections import deque


class Recent(logging.Handler):
    """Keeps the last lines of isoline's log."""

    def __init__(self, lines: int = 1000) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=lines)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))

    def tail(self, lines: int) -> str:
        """Return the last `lines` lines."""
        kept = list(self._lines)
        return "".join(f"{line}\n" for line in kept[max(0, len(kept) - lines) :])
