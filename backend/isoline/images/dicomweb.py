"""Series of a DICOMweb archive: `dicomweb:SOURCE/STUDY/SERIES` to a volume."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cachetools import LRUCache

from isoline.config.settings import Settings
from isoline.errors import UnknownImage
from isoline.images.catalog import Caller, Found
from isoline.sources.archive import Archive
from isoline.sources.base import ImageInfo
from isoline.sources.volume_cache import VolumeCache

if TYPE_CHECKING:
    from isoline.sources.dicomweb import DicomWebSeries

_REMEMBERED = 256
_UID = re.compile(r"[0-9.]{1,64}")


class DicomWebImages:
    """Finds `dicomweb:SOURCE/STUDY/SERIES` in the archives that are configured."""

    @classmethod
    def configured(cls, settings: Settings) -> DicomWebImages:
        """Return those of [dicomweb], within [limits]."""
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
        self._known: LRUCache[DicomWebSeries, tuple[int, ImageInfo]] = LRUCache(_REMEMBERED)

    def find(self, name: str, caller: Caller) -> Found:
        """Ask the archive, each time, for the series.

        What it is made of is asked again only where the number of its instances has changed: an
        instance never changes under its UID (PS3.5 section 9).
        """
        remote = self.series(name)
        with self._lock:
            known = self._known.get(remote)
        if known is not None and remote.instances() == known[0]:
            return Found(name, remote, known[1])
        source = remote.open()
        info, instances = source.info, source.instances
        source.close()
        with self._lock:
            self._known[remote] = instances, info
        return Found(name, remote, info)

    def named(self, series: str) -> str | None:
        """Return the name of the series of that UID in the first archive that has it.

        Raises Unreadable where an archive does not answer.
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
        from isoline.sources.dicomweb import DicomWebSeries  # slow to import: on first use

        parts = name.partition(":")[2].split("/")
        if len(parts) != 3 or not all(map(_UID.fullmatch, parts[1:])):
            raise UnknownImage(f"{name!r} names no series", "write dicomweb:SOURCE/STUDY/SERIES")
        archive = self._archives.get(parts[0])
        if archive is None:
            known = ", ".join(sorted(self._archives)) or "none"
            raise UnknownImage(f"no archive is called {parts[0]!r}", f"there are: {known}")
        return DicomWebSeries(name, archive, parts[1], parts[2], self._cache)
