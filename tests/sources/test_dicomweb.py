"""Series of a real archive: Orthanc with its DICOMweb plugin."""

from __future__ import annotations

import base64
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import requests
from pydicom.uid import UID

from isoline.errors import BadSeries, UnknownImage, Unreadable
from isoline.images import dicomweb as resolver
from isoline.images.catalog import ANYONE, Images
from isoline.images.dicomweb import DicomWebImages
from isoline.inference.resources import Resources
from isoline.models.catalogue import ModelCatalogue
from isoline.sources import dicomweb
from isoline.sources.archive import Archive
from isoline.sources.dicom_frames import Slice
from isoline.sources.dicomweb import DicomWebSeries, DicomWebSource
from isoline.sources.volume_cache import VolumeCache
from tests import volumes
from tests.orthanc import PASSWORD, USER, orthanc, store

WHERE = volumes.grid(size=(40, 30, 24), axes=volumes.turned(0.4, -0.3, 1.2))
VOXELS = volumes.ramp(WHERE.shape)
NAME = f"dicomweb:here/{volumes.STUDY}/{volumes.SERIES}"
ENHANCED = "1.2.3.900"
BROKEN = "1.2.3.901"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    order = np.random.default_rng(2).permutation(24).tolist()
    files = volumes.write_classic(folder / "classic", WHERE, VOXELS, order)
    frames = volumes.write_enhanced(folder / "enhanced.dcm", WHERE, VOXELS, order)
    volumes.as_series([frames], ENHANCED)
    broken = volumes.write_classic(folder / "broken", WHERE, VOXELS)
    del broken[7]
    volumes.as_series(broken, BROKEN)
    with orthanc(folder) as url:
        store(url, [*files, frames, *broken])
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        yield Archive(url, (("Authorization", f"Basic {login}"),))


def opened(archive: Archive, cache: Path, name: str = NAME) -> DicomWebSource:
    found = DicomWebImages({"here": archive}, VolumeCache(cache)).find(name, ANYONE)
    source = pickle.loads(pickle.dumps(found.path)).open()
    assert isinstance(source, DicomWebSource)
    return source


@pytest.mark.parametrize("name", [NAME, NAME.replace(volumes.SERIES, ENHANCED)])
def test_voxels_are_those_that_were_stored(archive: Archive, tmp_path: Path, name: str) -> None:
    source = opened(archive, tmp_path, name)
    grid = source.volume.grid
    for k in range(24):
        index = WHERE.to_index(grid.to_lps(np.array([0, 0, k])))
        np.testing.assert_allclose(index[:2], 0, atol=1e-4)
        np.testing.assert_array_equal(source.voxels()[k], VOXELS[round(index[2])])


def test_the_second_time_nothing_is_fetched(archive: Archive, tmp_path: Path) -> None:
    first = opened(archive, tmp_path).voxels()
    source = opened(archive, tmp_path)
    source._client = None
    np.testing.assert_array_equal(source.voxels(), first)


def test_it_is_an_image_by_name(archive: Archive, tmp_path: Path) -> None:
    images = Images({}, {"dicomweb": DicomWebImages({"here": archive}, VolumeCache(tmp_path))})
    found = images.find(NAME)
    assert found.info.volume is not None
    assert len(found.info.volume.slices) == 24
    assert "Basic" not in repr(found)


def test_what_is_not_there(archive: Archive, tmp_path: Path) -> None:
    for name in (
        NAME + ".7",
        "dicomweb:there/1.2/3.4",
        "dicomweb:here/1.2",
        "dicomweb:here/../studies",
        "dicomweb:here/1.2/3.4?x=1",
    ):
        with pytest.raises(UnknownImage):
            opened(archive, tmp_path, name)


def test_a_wrong_series_is_refused_by_name(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(BadSeries, match=rf"missing between .*{BROKEN}\.7,.* and .*{BROKEN}\.8,"):
        opened(archive, tmp_path, NAME.replace(volumes.SERIES, BROKEN))


def test_too_large_a_series_is_refused(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(BadSeries, match=r"40 x 30 x 24 voxels.*limits\.volume_mib"):
        opened(replace(archive, volume_mib=0), tmp_path)


def test_a_refusal_says_where_to_look(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"refused.*401"):
        opened(replace(archive, headers=()), tmp_path)


@pytest.mark.slow
def test_a_silent_archive_is_given_up(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/dicom-web"
        began = time.monotonic()
        with pytest.raises(Unreadable, match="did not deliver"):
            opened(Archive(url, timeout_seconds=0.5), tmp_path)
        assert time.monotonic() - began < 10
    assert threading.active_count() < 50
    with pytest.raises(Unreadable):
        opened(Archive(url, timeout_seconds=0.5), tmp_path)


def test_an_archive_that_sends_elsewhere_is_not_followed(tmp_path: Path) -> None:
    asked: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        url = f"http://127.0.0.1:{server.server_port}/dicom-web"
        with pytest.raises(Unreadable):
            opened(Archive(url, (("Authorization", "secret"),)), tmp_path)
        server.shutdown()
    assert asked
    assert "/elsewhere" not in asked


def test_what_a_series_is_made_of_is_asked_once(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A click on a series of many slices does not wait for all their headers again."""
    images = DicomWebImages({"here": archive}, VolumeCache(tmp_path))
    first = images.find(NAME, ANYONE)
    asked: list[str] = []
    metadata = DicomWebSource._metadata

    def counted(source: DicomWebSource) -> list[pydicom.Dataset]:
        asked.append(source._remote.name)
        return metadata(source)

    monkeypatch.setattr(DicomWebSource, "_metadata", counted)
    assert images.find(NAME, ANYONE).info is first.info
    assert asked == []
    # another slice has arrived, or the archive does not say how many there are
    for now in (frozenset({"1.2.3"}), None):
        monkeypatch.setattr(DicomWebSeries, "instances", lambda _, now=now: now)
        assert images.find(NAME, ANYONE).info.fingerprint == first.info.fingerprint
    assert len(asked) == 2


def test_whole_instances_are_fetched_once_to_compare(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive gives no frames, only the instance with all of them."""
    fetched: list[str] = []
    decoded = DicomWebSource._decoded

    def counted(source: DicomWebSource, each: Slice) -> Any:
        fetched.append(each.plane.name.instance)
        return decoded(source, each)

    expected = opened(archive, tmp_path, NAME.replace(volumes.SERIES, ENHANCED)).info.fingerprint
    monkeypatch.setattr(DicomWebSource, "_decoded", counted)
    monkeypatch.setattr(dicomweb, "plain", lambda *_: None)
    found = opened(archive, tmp_path / "b", NAME.replace(volumes.SERIES, ENHANCED))
    assert found.info.fingerprint == expected
    # by the server and by the worker
    assert len(fetched) == 2


@pytest.mark.parametrize("change", ["another slice", "other pixels", "other values", "moved"])
@pytest.mark.slow
def test_what_changes_in_the_archive_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """One worker and one cache, as on a running server."""
    where = volumes.grid(size=(10, 8, 14), axes=volumes.turned(0.4, -0.3, 1.2))
    before = np.zeros(where.shape, np.int16)
    after = before.copy()
    after[5] += 300
    with orthanc(tmp_path) as url:
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        archive = Archive(url, (("Authorization", f"Basic {login}"),))
        cache = VolumeCache(tmp_path / "cache")
        images = DicomWebImages({"here": archive}, cache)
        bench = Resources(ModelCatalogue(tmp_path), "cpu")
        store(url, volumes.write_classic(tmp_path / "a", where, before))

        def voxels() -> Any:
            found = images.find(NAME, ANYONE)
            source = bench.source(found.path, found.info.reader, found.info.fingerprint)
            assert isinstance(source, DicomWebSource)
            return source

        assert not voxels().voxels().any()
        if change != "another slice":
            # a slice under a new UID is noticed at once
            monkeypatch.setattr(resolver, "COMPARED_SECONDS", 0.0)
            images = DicomWebImages({"here": archive}, cache)
        moved = volumes.grid(size=(10, 8, 14), spacing=(0.8, 1.1, 3.0))
        changed = {
            "another slice": lambda: volumes.write_classic(tmp_path / "b", where, after),
            "other pixels": lambda: volumes.write_classic(tmp_path / "b", where, after),
            "other values": lambda: volumes.write_classic(
                tmp_path / "b", where, before, RescaleIntercept=-1000
            ),
            "moved": lambda: volumes.write_classic(tmp_path / "b", moved, before),
        }[change]()
        if change == "another slice":
            header = pydicom.dcmread(changed[5])
            header.SOPInstanceUID = "2.25.77"
            header.file_meta.MediaStorageSOPInstanceUID = UID("2.25.77")
            header.save_as(changed[5])
        forget(url)
        store(url, changed)
        source = voxels()
        if change == "moved":
            assert source.volume.grid.spacing_mm == pytest.approx((0.8, 1.1, 3.0))
        elif change == "other values":
            assert (source.voxels() == 24).all()
        else:
            assert (source.voxels() == 300).sum() == 80
        bench.close()


def forget(url: str) -> None:
    """Remove everything from the archive."""
    root = url.rsplit("/", 1)[0]
    for study in requests.get(f"{root}/studies", auth=(USER, PASSWORD), timeout=20).json():
        requests.delete(f"{root}/studies/{study}", auth=(USER, PASSWORD), timeout=20)


def test_what_the_series_does_not_give_comes_frame_by_frame(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer for the whole series breaks off after five instances."""
    source = opened(archive, tmp_path)
    whole = source._client.iter_series

    def broken(*args: object, **more: object) -> Iterator[pydicom.Dataset]:
        for _, instance in zip(range(5), whole(*args, **more), strict=False):
            yield instance
        raise requests.ConnectionError("gone")

    asked: list[str] = []
    frames = source._client.retrieve_instance_frames
    monkeypatch.setattr(source._client, "iter_series", broken)
    monkeypatch.setattr(
        source._client,
        "retrieve_instance_frames",
        lambda *args, **more: asked.append(args[2]) or frames(*args, **more),  # type: ignore[func-returns-value]
    )
    voxels = source.voxels()
    assert len(asked) == 19
    np.testing.assert_array_equal(voxels, opened(archive, tmp_path / "again").voxels())
