"""Series in a DICOMweb archive (PS3.18), called `dicomweb:SOURCE/STUDY/SERIES`."""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from requests.adapters import HTTPAdapter

from isoline.config import Settings
from isoline.errors import UnknownImage, Unreadable
from isoline.extras import radiology
from isoline.images import Caller, Found
from isoline.sources.base import ImageInfo, Remote
from isoline.sources.dicom_series import DicomSource, Series, Slice, decoded, plain, stored_frame
from isoline.sources.volume import check_size
from isoline.volume_cache import VolumeCache

log = logging.getLogger(__name__)

PARALLEL = 8
"""Frames asked for at once."""
_CHUNK = 1 << 20
"""How much of an answer is read at a time."""
_RAW = (("application/octet-stream", "1.2.840.10008.1.2.1"),)
_WHOLE = (("application/dicom", "*"),)
_INSTANCES = "00201209"
"""Number of Series Related Instances, which a search tells (PS3.18, 10.6.3)."""
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
        with radiology():
            from dicomweb_client.api import DICOMwebClient
        session = requests.Session()
        session.max_redirects = 0  # its headers are for this archive alone
        # an archive that packs pixels on the way takes ten times as long over them
        session.headers["Accept-Encoding"] = "identity"
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=self.parallel))
        silence = (min(self.timeout_seconds, 5.0), self.timeout_seconds)
        client = DICOMwebClient(
            self.url,
            session=session,
            headers=dict(self.headers),
            timeout=silence,
            chunk_size=_CHUNK,
        )
        client.set_http_retry_params(retry=True, max_attempts=3, wait_exponential_multiplier=100)
        return client


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
        return DicomWebSource(self)

    def instances(self) -> int | None:
        """Return how many instances the archive says there are, None where it does not say.

        Raises Unreadable or UnknownImage.
        """
        try:
            found = self.archive.client().search_for_series(
                self.study, search_filters={"SeriesInstanceUID": self.series}
            )
            (count,) = {int(each[_INSTANCES]["Value"][0]) for each in found}
        except requests.HTTPError as error:
            raise _refused(self.name, error) from error
        except requests.RequestException as error:
            raise _silent(self.name, error) from error
        except (KeyError, ValueError, TypeError):
            return None
        return count


class DicomWebSource(DicomSource):
    """The slices of one series, fetched all in one answer where the archive gives that."""

    def __init__(self, remote: DicomWebSeries) -> None:
        """Fetch the metadata. Raises Unreadable, UnknownImage or BadSeries."""
        self._remote = remote
        self._client = remote.archive.client()
        headers = self._metadata()
        self.instances = len(headers)
        super().__init__(Series.of(headers))
        check_size(remote.name, self.volume.grid, remote.archive.volume_mib)

    def _metadata(self) -> list[Dataset]:
        remote = self._remote
        try:
            found = self._client.retrieve_series_metadata(remote.study, remote.series)
            headers = [Dataset.from_json(each) for each in found]
        except requests.HTTPError as error:
            raise _refused(remote.name, error) from error
        except (requests.RequestException, ValueError) as error:
            raise _silent(remote.name, error) from error
        if not headers:
            raise UnknownImage(f"the archive has no {remote.name}", "check study and series")
        return headers

    @property
    def memory_bytes(self) -> int:
        return 0  # its voxels are mapped from the cache

    def _read(self) -> NDArray[np.generic]:
        shape, dtype = self.volume.grid.shape, self.info.dtype
        return self._remote.cache.get(self.info.fingerprint, shape, dtype, self._fetch)

    def _fetch(self, voxels: NDArray[np.generic]) -> None:
        """Fill `voxels` from the archive: in one answer, and by frames what that does not give."""
        missing = set(range(len(voxels)))
        for k, stored in self._whole():
            voxels[k] = self.series.rescale(k, stored)
            missing.discard(k)
        self._fetch_frames(voxels, sorted(missing))

    def _whole(self) -> Iterator[tuple[int, NDArray[np.generic]]]:
        """Yield slices, (rows, columns) as stored, as one request for the whole series gives them.

        It ends early where the archive does not answer it: frames are asked for one by one then,
        and what is wrong is said there.
        """
        remote = self._remote
        slices: dict[str, list[int]] = {}
        for k, each in enumerate(self.series.slices):
            slices.setdefault(each.plane.name.instance, []).append(k)
        try:
            for instance in self._client.iter_series(
                remote.study, remote.series, media_types=_WHOLE
            ):
                for k in slices.pop(str(instance.SOPInstanceUID), ()):
                    each = replace(self.series.slices[k], header=instance)
                    try:
                        yield k, stored_frame(each)
                    except Unreadable as error:  # the archive may be able to decode it
                        log.info("%s", error)
        except (requests.RequestException, ValueError) as error:
            log.warning("%s does not come as a whole: %s", remote.name, type(error).__name__)

    def _fetch_frames(self, voxels: NDArray[np.generic], slices: Sequence[int]) -> None:
        """Fill these `slices` of `voxels` frame by frame, several at once."""

        def fetch(k: int) -> None:
            voxels[k] = self.series.rescale(k, self._frame(self.series.slices[k]))

        with ThreadPoolExecutor(self._remote.archive.parallel) as threads:
            pending = [threads.submit(fetch, k) for k in slices]
            try:
                for each in pending:
                    each.result()
            except BaseException:
                for each in pending:
                    each.cancel()
                raise

    def _frame(self, each: Slice) -> NDArray[np.generic]:
        """Return (rows, columns) as stored."""
        remote, name, header = self._remote, each.plane.name, each.header
        try:
            (raw,) = self._client.retrieve_instance_frames(
                remote.study, remote.series, name.instance, [name.frame], media_types=_RAW
            )
            if (pixels := plain(raw, header)) is not None:
                return pixels
        except requests.HTTPError as error:
            # 406: the archive gives the frame only as it is stored, which the instance explains
            if error.response is None or error.response.status_code not in (400, 406, 415):
                raise _refused(remote.name, error) from error
        except (requests.RequestException, ValueError) as error:
            raise _silent(remote.name, error) from error
        frame: NDArray[np.generic] = self._decoded(each)[each.frame]
        return frame

    def _decoded(self, each: Slice) -> NDArray[np.generic]:
        """Return the frames of the instance, decoded here: the archive does not decode it."""
        remote = self._remote
        try:
            instance = self._client.retrieve_instance(
                remote.study, remote.series, each.plane.name.instance, media_types=_WHOLE
            )
        except requests.RequestException as error:
            raise _silent(remote.name, error) from error
        return decoded(replace(each, header=instance))


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
        for name, archive in self._archives.items():
            try:
                found = archive.client().search_for_series(
                    search_filters={"SeriesInstanceUID": series}
                )
            except requests.RequestException as error:
                raise _silent(series, error) from error
            for each in found:
                if (study := Dataset.from_json(each).get("StudyInstanceUID")) is not None:
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


def _refused(name: str, error: requests.HTTPError) -> Unreadable | UnknownImage:
    status = error.response.status_code if error.response is not None else 0
    if status == 404:
        return UnknownImage(f"the archive has no {name}", "check study and series")
    if status in (401, 403):
        return Unreadable(
            f"the archive refused {name}: {status}", "set its headers in [dicomweb] of isoline.toml"
        )
    return Unreadable(f"the archive answered {status} for {name}", "see the log of the archive")


def _silent(name: str, error: Exception) -> Unreadable:
    return Unreadable(
        f"the archive did not give {name}: {type(error).__name__}", "see that it is up, try again"
    )
