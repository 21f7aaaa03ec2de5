"""The open resources of a worker: images, models, and the cache of interactive work."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from cachetools import LRUCache

from isoline.errors import ImageChanged
from isoline.models.catalogue import ModelCatalogue
from isoline.models.model import Model
from isoline.sources.byte_cache import ByteCache
from isoline.sources.fingerprint import state_of
from isoline.sources.registry import open_image
from isoline.sources.source import Remote, Source

SOURCES = 4
SOURCES_BYTES = 1 << 30
"""Most images that a worker keeps open, and most memory for volumes; always the one in use."""
MODELS = 4
"""Most models that a worker keeps loaded."""

_Key: TypeAlias = tuple[Path | Remote, str]
"""An image and the reader that opens it."""


class _OpenSources(LRUCache[_Key, Source]):
    """The most recently used images, opened on demand and closed when evicted."""

    def __init__(self) -> None:
        super().__init__(SOURCES_BYTES, _weight)
        self._states: dict[_Key, tuple[int, ...] | None] = {}

    def __missing__(self, key: _Key) -> Source:
        self._states[key] = _state(key)
        self[key] = source = open_image(*key)
        if len(self) > SOURCES:
            self.popitem()
        return source

    def is_current(self, key: _Key) -> bool:
        """Return whether the open image `key` has not changed in its file since it was opened."""
        return self._states.get(key) == _state(key)

    def drop(self, key: _Key) -> None:
        """Close the image `key`, if it is open."""
        source = self.pop(key, None)
        if source is not None:
            source.close()

    def popitem(self) -> tuple[_Key, Source]:
        key, source = super().popitem()
        self._states.pop(key, None)
        source.close()
        return key, source

    def clear(self) -> None:
        while self:
            self.popitem()


def _state(key: _Key) -> tuple[int, ...] | None:
    """Return what changes when a local file does, None if it is gone or somewhere else."""
    path = key[0]
    local = getattr(path, "path", path)  # a part of a local file
    try:
        return state_of(local) if isinstance(local, Path) else None
    except OSError:
        return None


def _weight(source: Source) -> int:
    """Return the share of `SOURCES_BYTES` that a source uses: all of it if it needs more."""
    # at least one byte, so that nothing else fits if one source uses all of it
    return min(max(source.memory_bytes, 1), SOURCES_BYTES)


class Resources:
    """The open images and loaded models of one worker, by name."""

    def __init__(self, models: ModelCatalogue, device: str, seen_mib: int = 512) -> None:
        """Look up models in `models`; cache up to `seen_mib` of data for interactive work."""
        self.catalogue = models
        self.seen = ByteCache(seen_mib << 20)
        self._device = device
        self._sources = _OpenSources()
        self._model = lru_cache(MODELS)(self._load)

    def close(self) -> None:
        self._sources.clear()

    def source(self, path: Path | Remote, reader: str, fingerprint: str) -> Source:
        """Return an open image. Raises ImageChanged if its content is no longer that, or
        Unreadable."""
        key = path, reader
        source = self._sources[key]
        if not self._sources.is_current(key) or source.info.fingerprint != fingerprint:
            # what is open may be what the file was before
            self._sources.drop(key)
            source = self._sources[key]
        if source.info.fingerprint != fingerprint:
            raise ImageChanged(
                f"{path.name} changed after the job was accepted", "submit the job again"
            )
        return source

    def model(self, name: str, version: str) -> Model:
        """Return a model with that version, with its weights loaded."""
        return self._model(name, version)

    def _load(self, name: str, version: str) -> Model:
        kind = self.catalogue.get(name)
        return kind(self.catalogue.files(kind.spec), self._device)
