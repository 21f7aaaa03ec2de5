"""A volume from request to slices of labels: plan, worker, journal, protocol, HTTP."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from isoline import client
from isoline.domain import mask_rle
from isoline.domain.batch import Batch
from isoline.domain.events import Cancelled, Done, Event, Failed, Mask, Progress, Started
from isoline.domain.request import SegmentRequest
from isoline.engines.local import LocalEngine
from isoline.errors import BadParameter, BadRegion, IsolineError, NotSupported
from isoline.exports.geojson import GeoJSON
from isoline.exports.ohif import OHIF
from isoline.geometry.volume_grid import SliceName
from isoline.images.catalog import Images
from isoline.inference import resources
from isoline.inference.task import Attention
from isoline.jobs import journal
from isoline.jobs.journal import JournalReader, JournalWriter
from isoline.models.catalogue import ModelCatalogue
from isoline.models.threshold3d import Threshold3D
from isoline.models.volumetric import Scan, outward
from isoline.pipeline.volumes import VolumePlan
from isoline.protocol import requests
from isoline.protocol.events import encode_event
from isoline.sources.volume import VolumeSource
from isoline.testing.contracts import MaskEncoderContract, VolumeModelContract
from tests import volumes
from tests.conftest import SharedServer
from tests.planning import volume_plan

WHERE = volumes.grid(size=(40, 30, 37), axes=volumes.turned(0.4, -0.3, 1.2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volumes")
    files = np.random.default_rng(2).permutation(37).tolist()
    volumes.write_classic(folder / "ct", WHERE, volumes.ramp(WHERE.shape), files)
    ras = np.diag([-1, -1, 1, 1.0]) @ WHERE.affine
    nibabel.save(nibabel.Nifti1Image(volumes.ramp(WHERE.shape).T, ras), folder / "ct.nii.gz")
    return folder


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    engine = LocalEngine(1, ModelCatalogue(tmp_path_factory.mktemp("weights")))
    yield engine
    engine.close()


def request(image: str = "ct", **changes: Any) -> SegmentRequest:
    return SegmentRequest(**{"image": image, "model": "threshold3d", "format": "ohif", **changes})


def prepared(folder: Path, asked: SegmentRequest) -> VolumePlan:
    return volume_plan(asked, Images({"": folder}), folder)


def batches(
    folder: Path, engine: LocalEngine, asked: SegmentRequest, stop_after: int | None = None
) -> list[Batch]:
    ready = prepared(folder, asked)
    agenda = ready.agenda()
    told = []
    for batch in ready.events(engine, agenda):
        told.append(batch)
        if len(told) == stop_after:
            agenda.cancel()
    return told


def events(told: list[Batch]) -> list[Event]:
    return [event for batch in told for event in batch.events]


def expected(above: float) -> NDArray[np.uint8]:
    return (volumes.ramp(WHERE.shape) >= above).astype(np.uint8)


@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 200), st.integers(0, 4), st.randoms())
def test_masks_come_back(n: int, height: int, width: int, labels: int, random: Any) -> None:
    rng = np.random.default_rng(random.randrange(1 << 30))
    given_ = rng.integers(0, labels + 1, (n, height, width)).astype(np.uint8)
    given_[rng.random(n) < 0.3] = 0
    given_ *= rng.random((n, height, 1)) < 0.7
    slices = rng.permutation(9)[:n].tolist()
    drawn = np.full((9, height, width), 77, np.uint8)
    mask_rle.draw(mask_rle.encode(given_, slices), drawn)
    np.testing.assert_array_equal(drawn[slices], given_)
    assert (np.delete(drawn, slices, axis=0) == 77).all()


def test_runs_are_as_the_page_says() -> None:
    plane = np.zeros((1, 4, 300), np.uint8)
    plane[0, 1, 5:7] = 2
    plane[0, 2, 5:205] = 2
    ((k, (layer,)),) = mask_rle.layers(mask_rle.encode(plane, [3]))
    assert (k, layer.label, layer.box) == (3, 2, (5, 1, 205, 3))
    # 0 not, 2 it, 198 not, 200 it; 198 = 0x46 + 0x80, 1
    assert layer.code == bytes([0, 2, 0xC6, 1, 0xC8, 1])


def test_slices_come_from_the_focus_outward() -> None:
    assert [each for slab in outward(5, 4) for each in slab] == [0, 1, 2, 3, 4]
    slabs = list(outward(100, 60))
    assert slabs[0] == tuple(range(52, 68))
    assert sorted(k for slab in slabs for k in slab) == list(range(100))


def test_the_focus_changes_only_the_order() -> None:
    voxels = volumes.ramp(WHERE.shape)
    found = []
    for focus in (0, 36, 12):
        labelmap = np.full(voxels.shape, 9, np.uint8)
        parameters = {"above": 3000.0, "below": 9000.0}
        for step in Threshold3D({}, "cpu").segment(Scan(voxels, WHERE, "CT", parameters, focus)):
            assert step.labels is not None
            labelmap[list(step.slices)] = step.labels
        found.append(labelmap)
    np.testing.assert_array_equal(found[0], (voxels >= 3000) & (voxels <= 9000))
    assert all((each == found[0]).all() for each in found)


@pytest.mark.parametrize("image", ["ct", "ct.nii.gz"])
@pytest.mark.slow
def test_every_slice_comes_once(folder: Path, engine: LocalEngine, image: str) -> None:
    asked = request(image, parameters={"above": 4000})
    told = events(batches(folder, engine, asked))
    started, done = told[0], told[-1]
    assert isinstance(started, Started)
    assert isinstance(done, Done)
    assert done.objects == 1
    labelmap = np.full(WHERE.shape, 9, np.uint8)
    slices = []
    for event in told:
        if isinstance(event, Mask):
            slices += event.slices.tolist()
            mask_rle.draw(event, labelmap)
    assert sorted(slices) == list(range(37))
    np.testing.assert_array_equal(labelmap, expected(4000))
    progress = [event.tiles_done for event in told if isinstance(event, Progress)]
    assert progress == sorted(set(progress))
    assert progress[-1] == 100


def test_the_slice_that_is_looked_at_comes_first(folder: Path, engine: LocalEngine) -> None:
    name = SliceName(f"{volumes.SERIES}.31")
    told = events(batches(folder, engine, request(slice=name)))
    first = next(event for event in told if isinstance(event, Mask))
    assert 30 in first.slices
    assert 0 not in first.slices


@pytest.mark.parametrize(("most_bytes", "is_kept"), [(1, False), (266_399, False), (266_400, True)])
def test_a_worker_keeps_so_many_bytes_of_volumes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int, is_kept: bool
) -> None:
    monkeypatch.setattr(resources, "SOURCES_BYTES", most_bytes)
    bench = resources.Resources(ModelCatalogue(folder), "cpu")
    first = VolumeSource.voxels
    read: list[VolumeSource] = []

    def counted(source: VolumeSource) -> NDArray[np.generic]:
        read.append(source)
        return first(source)

    monkeypatch.setattr(VolumeSource, "voxels", counted)
    for image in ("ct", "ct.nii.gz", "ct"):
        ready = prepared(folder, request(image))
        assert list(ready.task.compute(bench, ready.tiles[0], Attention()))
    assert (read[0] is read[2]) == is_kept
    bench.close()


def test_the_journal_gives_back_what_it_took(
    folder: Path, engine: LocalEngine, tmp_path: Path
) -> None:
    told = batches(folder, engine, request())
    writer = JournalWriter(tmp_path / "journal")
    for batch in told:
        writer.append(batch)
    writer.close()
    read = list(JournalReader(tmp_path / "journal").batches())
    assert [journal._frame(batch) for batch in read] == [journal._frame(batch) for batch in told]
    started = read[0].events[0]
    assert isinstance(started, Started)
    assert started == told[0].events[0]


def test_on_the_wire_slices_have_their_names(folder: Path, engine: LocalEngine) -> None:
    told = events(batches(folder, engine, request(parameters={"above": 4000})))
    started = told[0]
    assert isinstance(started, Started)
    lines = [encode_event(seq, event, started, OHIF()) for seq, event in enumerate(told)]
    heard = [client.decode_event(line) for line in lines]
    first = heard[0]
    assert isinstance(first, client.Started)
    assert first.volume is not None
    assert first.volume["size"] == [40, 30, 37]
    assert first.volume["frame_of_reference"] == volumes.FRAME
    origin = WHERE.to_lps(np.array([0, 0, 0]))
    np.testing.assert_allclose(first.volume["origin_mm"], origin, atol=1e-6)
    truth = expected(4000)
    for event in heard:
        if not isinstance(event, client.Mask):
            continue
        for each in event.slices:
            assert first.volume["slices"][each["k"]] == {
                "instance": each["instance"],
                "frame": each["frame"],
            }
            k = int(each["instance"].rpartition(".")[2]) - 1
            assert decoded(each, (30, 40)) == truth[k].tolist()


def decoded(said: dict[str, Any], shape: tuple[int, int]) -> list[list[int]]:
    """Decode a slice as a viewer would: in plain loops."""
    plane = [[0] * shape[1] for _ in range(shape[0])]
    for layer in said["layers"]:
        i0, j0, i1, _ = layer["box"]
        place = on = length = shift = 0
        for byte in base64.b64decode(layer["runs"]):
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                for at in range(place, place + length) if on else ():
                    plane[j0 + at // (i1 - i0)][i0 + at % (i1 - i0)] = layer["label"]
                place, on, length, shift = place + length, 1 - on, 0, 0
    return plane


def test_mistakes_are_found_before_anything_runs(folder: Path) -> None:
    wrong: list[tuple[type[IsolineError], dict[str, Any]]] = [
        (NotSupported, {"format": "geojson"}),
        (NotSupported, {"model": "threshold"}),
        (NotSupported, {"z": 3}),
        (NotSupported, {"at_um": 3.0}),
        (BadRegion, {"slice": 37}),
        (BadRegion, {"slice": SliceName("1.2.3")}),
        (BadParameter, {"parameters": {"abvoe": 1}}),
    ]
    for kind, changes in wrong:
        with pytest.raises(kind):
            prepared(folder, request(**changes))
    with pytest.raises(NotSupported, match="does not support masks"):
        GeoJSON().mask(mask_rle.encode(np.zeros((0, 1, 1), np.uint8), []), Any)  # type: ignore[arg-type]


def test_a_picture_is_no_volume(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (9, 9)).save(tmp_path / "p.png")
    with pytest.raises(NotSupported, match="works on volumes"):
        prepared(tmp_path, request("p.png"))
    with pytest.raises(NotSupported, match="supports masks"):
        prepared(tmp_path, request("p.png", model="threshold", spacing_um=None))


def test_a_stopped_job_stops(folder: Path, engine: LocalEngine) -> None:
    told = events(batches(folder, engine, request(), stop_after=1))
    assert isinstance(told[-1], Cancelled)
    assert isinstance(events(batches(folder, engine, request()))[-1], Done)


def test_a_volume_that_goes_away_fails_the_job(
    folder: Path, engine: LocalEngine, tmp_path: Path
) -> None:
    path = tmp_path / "v.nii.gz"
    noise = np.random.default_rng(0).integers(0, 999, (30, 30, 30)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:20000])
    last = events(batches(tmp_path, engine, request("v.nii.gz")))[-1]
    assert isinstance(last, Failed)
    assert last.code == "Unreadable"
    assert "v.nii.gz is damaged" in last.message


@pytest.mark.parametrize("said", [3, {"instance": "1.2.3", "frame": 4}, {"instance": "1.2"}])
def test_slices_of_requests(said: Any) -> None:
    asked = requests.request_of({"image": "a", "model": "brain", "slice": said})
    assert requests.request_of(orjson.loads(orjson.dumps(requests.request_json(asked)))) == asked


def test_over_http(folder: Path, shared_server: SharedServer) -> None:
    shutil.copytree(folder / "ct", shared_server.images / "ct")
    server = client.Client(shared_server.url)
    names = {each["name"]: each for each in server.models()}
    assert names["threshold3d"]["kind"] == "mask"
    job = server.submit("slides/ct", "threshold3d", slice=3)
    told = list(job.events())
    assert isinstance(told[-1], client.Done)
    found = [s for event in told if isinstance(event, client.Mask) for s in event.slices]
    assert sorted(each["k"] for each in found) == list(range(37))
    with pytest.raises(client.ClientError, match="focus does not apply to a volume"):
        job.focus(3, 4)
    with pytest.raises(client.ClientError, match="cannot say what this job finds"):
        list(job.events(format="geojson"))


class TestThreshold3D(VolumeModelContract):
    kind = Threshold3D

    @pytest.fixture
    def scan(self) -> Scan:
        parameters = {"above": 3000.0, "below": 9000.0}
        return Scan(volumes.ramp(WHERE.shape), WHERE, "CT", parameters, 4)


class TestOHIF(MaskEncoderContract):
    encoder = OHIF()

    def draw(self, slices: list[Any], plane: NDArray[np.uint8], k: int) -> None:
        (said,) = (each for each in slices if each["k"] == k)
        plane[:] = decoded(said, (plane.shape[0], plane.shape[1]))
