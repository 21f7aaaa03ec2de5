"""Archives that speak DICOMweb (PS3.18), and their series by name: `dicomweb:SOURCE/STUDY/SERIES`.

What talks to them is in `dicomweb` and is loaded when somebody names a series: a server without
archives never needs it.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from isoline.config.settings import Settings
from isoline.errors import UnknownImage
from isoline.images.catalog import Caller, Found
from isoline.sources.base import ImageInfo, Remote
from isoline.sources.volume_cache import VolumeCache

if TYPE_CHECKING:
    from isoline.sources.dicomweb import DicomWebSource

PARALLEL = 8
"""Frames asked for at once."""
_REMEMBERED = 256
_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True)
class Archive:
    """[dicomweb.NAME]: where an archive answers, and what it wants to hear first."""

    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Sent with every request; what grants access belongs here."""
    timeout_seconds: float = 30.0
    """Longest silence of the archive."""
    parallel: int = PARALLEL
    volume_mib: int = 4096
    """The largest volume that is fetched, as float32."""

    def client(self) -> Any:
        """Return a dicomweb-client of the archive. Raises Broken without the library."""
        from isoline.sources import dicomweb

        return dicomweb.client(self)


@dataclass(frozen=True)
class DicomWebSeries(Remote):
    """One series, with all that a worker needs to fetch it."""

    called: str
    archive: Archive
    study: str
    series: str
    cache: VolumeCache

    @property
    def name(self) -> str:
        return self.called

    def open(self) -> DicomWebSource:
        from isoline.sources.dicomweb import DicomWebSource

        return DicomWebSource(self)

    def instances(self) -> int | None:
        """Return how many instances the archive says there are, None where it does not say.

        Raises Unreadable or UnknownImage.
        """
        from isoline.sources import dicomweb

        return dicomweb.instances(self)


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
        self._known: OrderedDict[DicomWebSeries, tuple[int, ImageInfo]] = OrderedDict()

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
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
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
        parts = name.partition(":")[2].split("/")
        if len(parts) != 3 or not all(map(_UID.fullmatch, parts[1:])):
            raise UnknownImage(f"{name!r} names no series", "write dicomweb:SOURCE/STUDY/SERIES")
        archive = self._archives.get(parts[0])
        if archive is None:
            known = ", ".join(sorted(self._archives)) or "none"
            raise UnknownImage(f"no archive is called {parts[0]!r}", f"there are: {known}")
        return DicomWebSeries(name, archive, parts[1], parts[2], self._cache)
