"""What a worker has open: images and models by name, and what interactive work has read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

from isoline.errors import Unreadable
from isoline.models.base import Model
from isoline.models.catalogue import ModelCatalogue
from isoline.sources.base import Remote, Source
from isoline.sources.byte_cache import ByteCache
from isoline.sources.registry import open_image

SOURCES = 4
SOURCES_MIB = 1024
"""How many images a worker keeps open, and how much of volumes: the one in use in any case."""
MODELS = 4
"""How many models a worker keeps loaded."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Recent(Generic[K, V]):
    """The last few values made by `make`, given up oldest first through `drop`."""

    def __init__(
        self,
        most: int,
        drop: Callable[[V], None] = lambda _: None,
        *,
        weigh: Callable[[V], int] = lambda _: 0,
        most_bytes: int = 0,
    ) -> None:
        """Keep `most` values, and no more than `most_bytes` by `weigh`; the newest in any case."""
        self._most = most
        self._drop = drop
        self._weigh = weigh
        self._most_bytes = most_bytes
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K, make: Callable[[], V]) -> V:
        if key not in self._values:
            self._values[key] = make()
            while len(self._values) > 1 and self._is_full():
                self._drop(self._values.popitem(last=False)[1])
        self._values.move_to_end(key)
        return self._values[key]

    def _is_full(self) -> bool:
        held = sum(map(self._weigh, self._values.values()))
        return len(self._values) > self._most or held > self._most_bytes

    def clear(self) -> None:
        while self._values:
            self._drop(self._values.popitem()[1])


class Resources:
    """The open images and loaded models of one worker, by name."""

    def __init__(self, models: ModelCatalogue, device: str, seen_mib: int = 512) -> None:
        """Find models in `models`; keep up to `seen_mib` of what interactive work looked at."""
        self.catalogue = models
        self.seen = ByteCache(seen_mib << 20)
        self._device = device
        self._sources: _Recent[tuple[Path | Remote, str], Source] = _Recent(
            SOURCES,
            lambda old: old.close(),
            weigh=lambda source: source.memory_bytes,
            most_bytes=SOURCES_MIB << 20,
        )
        self._models: _Recent[tuple[str, str], Model] = _Recent(MODELS)

    def close(self) -> None:
        self._sources.clear()

    def source(self, path: Path | Remote, reader: str, fingerprint: str) -> Source:
        """Return an image, open. Raises Unreadable, also where its content is another."""
        key = (path, reader)
        source = self._sources.get(key, lambda: open_image(*key))
        if source.info.fingerprint != fingerprint:
            raise Unreadable(
                f"{path.name} changed after the job was accepted", "submit the job again"
            )
        return source

    def model(self, name: str, version: str) -> Model:
        """Return a model of that version, its weights loaded."""

        def load() -> Model:
            kind = self.catalogue.get(name)
            return kind(self.catalogue.files(kind.spec), self._device)

        return self._models.get((name, version), load)
