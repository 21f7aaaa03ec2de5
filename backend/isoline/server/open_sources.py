"""The images read last, kept open: opening a slide takes longer than reading a part of it."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

from isoline.sources.source import Source

MOST_OPEN = 8


@dataclass
class _Open:
    source: Source
    readers: int = 0


class OpenSources:
    """Up to `most` open images. Safe for use by several threads."""

    def __init__(self, most: int = MOST_OPEN) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._open: OrderedDict[Hashable, _Open] = OrderedDict()
        """The most recently used last."""

    @contextlib.contextmanager
    def reading(self, key: Hashable, opening: Callable[[], Source]) -> Iterator[Source]:
        """Yield the image `key`, which `opening` opens; it stays open at least that long."""
        with self._lock:
            known = self._open.get(key)
            if known is not None:
                known.readers += 1
        if known is None:
            known = self._add(key, opening())
        try:
            yield known.source
        finally:
            with self._lock:
                known.readers -= 1
                self._open.move_to_end(key)
                self._close_oldest()

    def _add(self, key: Hashable, source: Source) -> _Open:
        with self._lock:
            known = self._open.setdefault(key, _Open(source))
            known.readers += 1
        if known.source is not source:
            source.close()  # another thread was faster
        return known

    def _close_oldest(self) -> None:
        idle = [key for key, known in self._open.items() if not known.readers]
        for key in idle[: max(0, len(self._open) - self._most)]:
            self._open.pop(key).source.close()
