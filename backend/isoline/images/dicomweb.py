"""Series in DICOMweb archives: resolves `dicomweb:SOURCE/STUDY/SERIES` to a volume."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cachetools import LRUCache

from isoline.config.settings import Settings
from isoline.errors import UnknownImage
from isoline.images.catalog import Caller, Found
from isoline.sources.archive import Archive
from isoline.sources.source import ImageInfo
from isoline.sources.volume_cache import VolumeCache

if TYPE_CHECKING:
    from isoline.sources.dicomweb import DicomWebSeries

_REMEMBERED = 256
_UID = re.compile(r"[0-9.]{1,64}")


COMPARED_SECONDS = 60.0
"""How long clicks on a series do not wait for all of its headers again."""


@dataclass(frozen=True)
class _Known:
    """A series as it was when its content was last compared with the archive."""

    instances: frozenset[str]
    info: ImageInfo
    until: float
    """When it is compared again, in `time.monotonic`."""


class DicomWebImages:
    """Finds `dicomweb:SOURCE/STUDY/SERIES` in the configured archives."""

    @classmethod
    def configured(cls, settings: Settings) -> DicomWebImages:
        """Return the resolver for the archives of [dicomweb], within [limits]."""
        limits = settings.limits
        archives = {
            name: Archive(
                url=given.url,
                headers=tuple(sorted(given.headers.items())),
                timeout_seconds=given.timeout_seconds,
                volume_mib=limits.volume_mib,
            )
            for name, given in settings.dicomweb.items()
        }
        return cls(archives, VolumeCache(settings.volumes, limits.volume_cache_mib << 20))

    def __init__(self, archives: Mapping[str, Archive], cache: VolumeCache) -> None:
        self._archives = dict(archives)
        self._cache = cache
        self._lock = threading.Lock()
        self._known: LRUCache[DicomWebSeries, _Known] = LRUCache(_REMEMBERED)

    def find(self, name: str, caller: Caller) -> Found:
        """Return the series called `name`, checking with the archive each time.

        The list of its instances is compared each time. What they contain is compared when that
        was last done `COMPARED_SECONDS` ago: by their headers and the pixels of some slices.
        """
        remote = self.series(name)
        with self._lock:
            known = self._known.get(remote)
        is_fresh = known is not None and time.monotonic() < known.until
        if known is not None and is_fresh and remote.instances() == known.instances:
            return Found(name, remote, known.info)
        source = remote.open()
        source.close()
        found = _Known(source.instances, source.info, time.monotonic() + COMPARED_SECONDS)
        with self._lock:
            if known is not None and known.info.fingerprint == found.info.fingerprint:
                found = replace(found, info=known.info)
            self._known[remote] = found
        return Found(name, remote, found.info)

    def named(self, series: str) -> str | None:
        """Return the image name of the series with the UID `series` in the first archive that has
        it.

        Raises Unreadable if an archive does not respond.
        """
        if "." not in series or not _UID.fullmatch(series):
            return None
        from isoline.sources import dicomweb

        for name, archive in self._archives.items():
            if (study := dicomweb.study(archive, series)) is not None:
                return f"dicomweb:{name}/{study}/{series}"
        return None

    def series(self, name: str) -> DicomWebSeries:
        """Return the series called `name`, unopened. Raises UnknownImage."""
        from isoline.sources.dicomweb import DicomWebSeries  # slow to import, so on first use

        parts = name.partition(":")[2].split("/")
        if len(parts) != 3 or not all(map(_UID.fullmatch, parts[1:])):
            raise UnknownImage(f"{name!r} is not a series", "write dicomweb:SOURCE/STUDY/SERIES")
        archive = self._archives.get(parts[0])
        if archive is None:
            known = ", ".join(sorted(self._archives)) or "none"
            raise UnknownImage(f"there is no archive {parts[0]!r}", f"configured archives: {known}")
        return DicomWebSeries(name, archive, parts[1], parts[2], self._cache)
