"""A client for a DICOMweb archive (PS3.18): searches, and the voxels of a series."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from requests.adapters import HTTPAdapter

from isoline.errors import UnknownImage, Unreadable
from isoline.extras import radiology
from isoline.sources.archive import Archive
from isoline.sources.dicom_frames import Slice
from isoline.sources.dicom_pixels import decoded, plain, stored_frame
from isoline.sources.dicom_series import DicomSource, Series
from isoline.sources.source import Remote
from isoline.sources.volume import check_size
from isoline.sources.volume_cache import VolumeCache

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
"""How much of a response is read at a time."""
_RAW = (("application/octet-stream", "1.2.840.10008.1.2.1"),)
_WHOLE = (("application/dicom", "*"),)
_INSTANCE = "00080018"
"""SOPInstanceUID in DICOM JSON."""
_SAMPLES = 16
"""Slices whose pixels are compared with what was read earlier, spread evenly over the series."""
_SEEN = ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "Modality")


def client(archive: Archive) -> Any:
    """Return a dicomweb-client for the archive. Raises Broken if the library is not installed."""
    with radiology():
        from dicomweb_client.api import DICOMwebClient
    session = requests.Session()
    session.max_redirects = 0  # the headers are meant for this archive only
    # an archive that compresses pixels in transit takes ten times as long
    session.headers["Accept-Encoding"] = "identity"
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=archive.parallel))
    silence = (min(archive.timeout_seconds, 5.0), archive.timeout_seconds)
    client = DICOMwebClient(
        archive.url,
        session=session,
        headers=dict(archive.headers),
        timeout=silence,
        chunk_size=_CHUNK,
    )
    client.set_http_retry_params(retry=True, max_attempts=3, wait_exponential_multiplier=100)
    return client


def instances(remote: DicomWebSeries) -> frozenset[str] | None:
    """Return the SOPInstanceUIDs of the series in the archive now, None if it does not tell.

    Raises Unreadable or UnknownImage.
    """
    try:
        found = client(remote.archive).search_for_instances(remote.study, remote.series)
        return frozenset(str(each[_INSTANCE]["Value"][0]) for each in found) or None
    except requests.HTTPError as error:
        raise _refused(remote.name, error) from error
    except requests.RequestException as error:
        raise _silent(remote.name, error) from error
    except (KeyError, ValueError, TypeError, IndexError):
        return None


def study(archive: Archive, series: str) -> str | None:
    """Return the UID of the study that contains `series`, None if the archive does not have it.

    Raises Unreadable if the archive does not respond.
    """
    try:
        found = client(archive).search_for_series(search_filters={"SeriesInstanceUID": series})
    except requests.RequestException as error:
        raise _silent(series, error) from error
    studies = (Dataset.from_json(each).get("StudyInstanceUID") for each in found)
    return next((str(each) for each in studies if each is not None), None)


class DicomWebSource(DicomSource):
    """The slices of one series, fetched in a single response if the archive supports it."""

    def __init__(self, remote: DicomWebSeries) -> None:
        """Fetch the metadata. Raises Unreadable, UnknownImage or BadSeries."""
        self._remote = remote
        self._client = client(remote.archive)
        headers = self._metadata()
        self.instances = frozenset(str(header.get("SOPInstanceUID", "")) for header in headers)
        series = Series.of(headers)
        check_size(remote.name, series.stack.grid, remote.archive.volume_mib)
        super().__init__(series, self._content(series))

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
            raise UnknownImage(
                f"the archive does not have {remote.name}", "check the study and series UIDs"
            )
        return headers

    def _content(self, series: Series) -> Iterator[bytes]:
        """Yield what the archive has under the UIDs of `series` now: where every slice lies, what
        its values mean, and the pixels of some slices."""
        for each in series.slices:
            stored = [each.header.get(keyword) for keyword in _SEEN]
            yield repr((each.plane, each.slope, each.intercept, stored)).encode()
        count = len(series.slices)
        places = np.unique(np.linspace(0, count - 1, min(count, _SAMPLES)).round().astype(int))
        with ThreadPoolExecutor(self._remote.archive.parallel) as threads:
            for frame in threads.map(self._frame, [series.slices[k] for k in places.tolist()]):
                yield frame.tobytes()

    @property
    def memory_bytes(self) -> int:
        return 0  # the voxels are mapped from the cache

    def _read(self) -> NDArray[np.generic]:
        shape, dtype = self.volume.grid.shape, self.info.dtype
        return self._remote.cache.get(self.info.fingerprint, shape, dtype, self._fetch)

    def _fetch(self, voxels: NDArray[np.generic]) -> None:
        """Fill `voxels` from the archive: in one response, then frame by frame for missing
        slices."""
        missing = set(range(len(voxels)))
        for k, stored in self._whole():
            voxels[k] = self.series.rescale(k, stored)
            missing.discard(k)
        self._fetch_frames(voxels, sorted(missing))

    def _whole(self) -> Iterator[tuple[int, NDArray[np.generic]]]:
        """Yield slices, as stored (rows, columns), from one request for the whole series.

        Ends early if that request fails: frames are then requested one by one, which reports what
        is wrong.
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
                    except Unreadable as error:  # the archive itself may be able to decode it
                        log.info("%s", error)
        except (requests.RequestException, ValueError) as error:
            log.warning(
                "%s cannot be retrieved in one response: %s", remote.name, type(error).__name__
            )

    def _fetch_frames(self, voxels: NDArray[np.generic], slices: Sequence[int]) -> None:
        """Fill these `slices` of `voxels` frame by frame, in parallel."""

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
        """Return the stored values (rows, columns)."""
        remote, name, header = self._remote, each.plane.name, each.header
        try:
            (raw,) = self._client.retrieve_instance_frames(
                remote.study, remote.series, name.instance, [name.frame], media_types=_RAW
            )
            if (pixels := plain(raw, header)) is not None:
                return pixels
        except requests.HTTPError as error:
            # 406: the archive returns the frame only as stored; the instance tells how to decode it
            if error.response is None or error.response.status_code not in (400, 406, 415):
                raise _refused(remote.name, error) from error
        except (requests.RequestException, ValueError) as error:
            raise _silent(remote.name, error) from error
        frame: NDArray[np.generic] = self._decoded(each)[each.frame]
        return frame

    def _decoded(self, each: Slice) -> NDArray[np.generic]:
        """Return the frames of the instance, decoded here because the archive does not decode
        them."""
        remote = self._remote
        try:
            instance = self._client.retrieve_instance(
                remote.study, remote.series, each.plane.name.instance, media_types=_WHOLE
            )
        except requests.RequestException as error:
            raise _silent(remote.name, error) from error
        return decoded(replace(each, header=instance))


def _refused(name: str, error: requests.HTTPError) -> Unreadable | UnknownImage:
    status = error.response.status_code if error.response is not None else 0
    if status == 404:
        return UnknownImage(f"the archive does not have {name}", "check the study and series UIDs")
    if status in (401, 403):
        return Unreadable(
            f"the archive refused access to {name} (status {status})",
            "set its headers under [dicomweb] in isoline.toml",
        )
    return Unreadable(
        f"the archive responded with status {status} for {name}", "see the archive's log"
    )


def _silent(name: str, error: Exception) -> Unreadable:
    return Unreadable(
        f"the archive did not deliver {name}: {type(error).__name__}",
        "check that it is running, then try again",
    )


@dataclass(frozen=True)
class DicomWebSeries(Remote):
    """One series, with everything that a worker needs to fetch it."""

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

    def instances(self) -> frozenset[str] | None:
        """Return the SOPInstanceUIDs of the series in the archive now, None if it does not tell.

        Raises Unreadable or UnknownImage.
        """
        return instances(self)
