"""A cache for expensive values, limited by their size in bytes."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from threading import Lock
from typing import TypeVar, cast

import numpy as np
from cachetools import LRUCache

T = TypeVar("T")


class ByteCache:
    """An LRU cache that evicts the least recently used values beyond `limit` bytes. Thread-safe.

    Values of different types may share one cache, as long as a key always has the same type of
    value.
    """

    def __init__(self, limit: int) -> None:
        self._kept: LRUCache[Hashable, object] = LRUCache(limit, _bytes)
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value of `key`, made now if it is not cached. Callers must not write to it."""
        with self._lock:
            if key in self._kept:
                return cast(T, self._kept[key])
        # outside the lock: two threads may make the same value, but neither waits for the other
        value = make()
        with self._lock, suppress(ValueError):  # larger than the whole cache
            self._kept[key] = value
        return value

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()


def _bytes(value: object) -> int:
    """Return the approximate size of `value`, which is mostly that of its arrays."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(map(_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_bytes, value))
    if dataclasses.is_dataclass(value):
        return sum(_bytes(getattr(value, field.name)) for field in dataclasses.fields(value))
    return sys.getsizeof(value)
