"""Values that are dear to make, kept up to so many bytes."""

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
    """The least recently used values are thrown out beyond `limit` bytes. Thread-safe.

    Values of different types may share one cache, as long as a key always names the same type.
    """

    def __init__(self, limit: int) -> None:
        self._kept: LRUCache[Hashable, object] = LRUCache(limit, _bytes)
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value under `key`, made now if it isn't here. Not to be written to."""
        with self._lock:
            if key in self._kept:
                return cast(T, self._kept[key])
        # outside the lock: two threads may make the same value, none waits for another's
        value = make()
        with self._lock, suppress(ValueError):  # larger than all that may be kept
            self._kept[key] = value
        return value

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()


def _bytes(value: object) -> int:
    """Return what `value` takes, the arrays in it above all."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(map(_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_bytes, value))
    if dataclasses.is_dataclass(value):
        return sum(_bytes(getattr(value, field.name)) for field in dataclasses.fields(value))
    return sys.getsizeof(value)
