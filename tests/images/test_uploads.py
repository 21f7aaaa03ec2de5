"""Pixels that a viewer uploads: what is refused, and that the result is the same as from a file."""

from __future__ import annotations

import dataclasses
import io
import os
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from isoline.config.settings import Limits
from isoline.domain.events import Warned
from isoline.domain.request import SegmentRequest
from isoline.errors import (
    BadRegion,
    Busy,
    Malformed,
    NotSupported,
    TooLarge,
    UnknownImage,
    UnknownModel,
    Unreadable,
    UploadState,
)
from isoline.geometry.grid import XY, Box
from isoline.geometry.region import Region
from isoline.images.catalog import ANYONE, Images
from isoline.images.uploads import TILE_PX, Uploads
from isoline.models.catalogue import ModelCatalogue
from isoline.sources.upload import Manifest, UploadRequest, UploadSource
from isoline.testing.contracts import SourceContract
from tests import running
from tests.planning import footprint

pytestmark = pytest.mark.slow

MODELS = ModelCatalogue(Path())
LIMITS = Limits(uploads=3)


def noise(width: int, height: int, seed: int = 1, count: int = 3) -> NDArray[np.uint8]:
    """Return (y, x, c) of blobs with some texture."""
    random = np.random.default_rng(seed)
    small = random.integers(60, 255, (height // 16 + 1, width // 16 + 1, count), dtype=np.uint8)
    large = small.repeat(16, 0).repeat(16, 1)[:height, :width]
    return np.ascontiguousarray(large - random.integers(0, 40, large.shape, dtype=np.uint8))


def png(pixels: NDArray[np.generic], **options: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", **options)
    return stream.getvalue()


def shrunk(pixels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return every `factor`-th pixel: an overview of ceil(size / factor)."""
    return pixels[::factor, ::factor]


def send(uploads: Uploads, upload: str, manifest: Manifest, pixels: NDArray[np.uint8]) -> int:
    """Send every tile that is wanted of an RGB image; return how many bytes that were."""
    sent = 0
    for level, column, row in manifest.tiles:
        box = manifest.tile(level, column, row)
        layer = shrunk(pixels, manifest.layers[level].downsample)
        tile = png(layer[box.y0 : box.y1, box.x0 : box.x1])
        uploads.put(upload, (level, column, row), tile)
        sent += len(tile)
    return sent


def asked(
    pixels: NDArray[np.uint8], region: Region | None = None, model: str = "threshold"
) -> UploadRequest:
    request = SegmentRequest("upload:", model, region)
    return UploadRequest(pixels.shape[1::-1], request, XY(0.5, 0.5))


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads", LIMITS)


def uploaded(uploads: Uploads, pixels: NDArray[np.uint8], request: UploadRequest) -> str:
    upload, manifest = uploads.create(request, footprint(request))
    send(uploads, upload, manifest, pixels)
    return f"upload:{upload}"


class TestUploadSource(SourceContract):
    source = UploadSource

    @pytest.fixture
    def path(self, uploads: Uploads) -> Path:
        pixels = noise(1201, 907)
        request = asked(pixels, Region.rectangle(300, 200, 1100, 907))
        path = uploads.find(uploaded(uploads, pixels, request), ANYONE).path
        assert isinstance(path, Path)
        return path

    @pytest.fixture
    def damaged(self, path: Path) -> Path:
        for tile in path.parent.glob("0-*.png"):
            tile.write_bytes(tile.read_bytes()[:-200])
        return path


def test_outside_the_area_is_background_and_inside_are_the_pixels(uploads: Uploads) -> None:
    pixels = noise(1201, 907)
    request = asked(pixels, Region.rectangle(300.5, 200, 700, 640))
    area = footprint(request)
    found = uploads.find(uploaded(uploads, pixels, request), ANYONE)
    assert isinstance(found.path, Path)
    read = UploadSource.open(found.path).read_level(0, Box(0, 0, 1201, 907))
    expected = np.full_like(pixels, 255)
    here = (slice(area.y0, area.y1), slice(area.x0, area.x1))
    expected[here] = pixels[here]
    np.testing.assert_array_equal(np.moveaxis(read, 0, 2), expected)
    assert found.info.covered == area


@pytest.mark.parametrize(
    ("model", "region"),
    [
        pytest.param("nuclei", None, marks=pytest.mark.slow),
        ("threshold", None),
        ("threshold", Region.rectangle(700, 300, 1200, 1100)),
    ],
)
def test_the_result_is_that_of_a_file_with_the_same_pixels(
    uploads: Uploads, tmp_path: Path, model: str, region: Region | None
) -> None:
    """Two sources, one result; only the fingerprints, and with them the ids, differ."""
    pixels = noise(1423, 1201)
    request = asked(pixels, region, model)
    upload, manifest = uploads.create(request, footprint(request))
    send(uploads, upload, manifest, pixels)
    images = Images({"": tmp_path}, {"upload": uploads})
    overview = shrunk(pixels, manifest.layers[1].downsample)
    write_slide(tmp_path / "slide.tif", pixels, overview)

    engine = running.SerialEngine(tmp_path)
    parameters = {"output": "mask"} if region else {}
    asking = dataclasses.replace(request.request, spacing_um=XY(0.5, 0.5), parameters=parameters)
    outcomes = [
        running.run(dataclasses.replace(asking, image=name), images, engine, tmp_path / name[:5])
        for name in (f"upload:{upload}", "slide.tif")
    ]
    engine.close()
    assert outcomes[0].count == outcomes[1].count > 3
    assert shapes(outcomes[0]) == shapes(outcomes[1])


def test_an_object_that_goes_on_where_nothing_was_uploaded_is_incomplete(
    uploads: Uploads, tmp_path: Path
) -> None:
    pixels = np.full((600, 4000, 3), 255, np.uint8)
    pixels[100:120, 300:3600] = 60  # leaves the region by more than a tile on both sides
    pixels[200:220, 1900:2300] = 60  # leaves it, and is whole in what is uploaded
    pixels[0:30, 1950:2050] = 60  # ends at the border of the image
    request = asked(pixels, Region.rectangle(1900, 0, 2100, 600))
    name = uploaded(uploads, pixels, request)
    engine = running.SerialEngine(tmp_path)
    parameters = {"below": 150}
    asking = dataclasses.replace(request.request, image=name, parameters=parameters)
    asking = dataclasses.replace(asking, spacing_um=XY(0.5, 0.5))
    outcome = running.run(asking, Images({}, {"upload": uploads}), engine, tmp_path / "job")
    engine.close()
    top_and_flag = {
        (int(top), bool(flag))
        for objects in outcome.final
        for top, flag in zip(objects.polygons.boxes()[:, 1], objects.incomplete, strict=True)
    }
    assert top_and_flag == {(0, False), (100, True), (200, False)}
    assert [event.code for event in outcome.events if isinstance(event, Warned)] == ["CutOff"]


def write_slide(path: Path, pixels: NDArray[np.uint8], overview: NDArray[np.uint8]) -> None:
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "zlib", "metadata": None}
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, **options)
        file.write(overview, subfiletype=1, **options)


def shapes(outcome: running.Outcome) -> list[str]:
    return sorted(shape.wkt for objects in outcome.final for shape in running.shapes(objects))


def test_it_costs_little_more_than_the_pixels_as_one_png(uploads: Uploads) -> None:
    pixels = noise(3000, 2000)
    request = asked(pixels, Region.rectangle(500, 500, 2500, 1500))
    area = footprint(request)
    upload, manifest = uploads.create(request, area)
    sent = send(uploads, upload, manifest, pixels)
    assert sent <= 1.3 * len(png(pixels[area.y0 : area.y1, area.x0 : area.x1]))


def test_the_fingerprint_is_of_the_pixels_and_not_of_the_sending(uploads: Uploads) -> None:
    pixels = noise(700, 600)
    first = uploads.find(uploaded(uploads, pixels, asked(pixels)), ANYONE).info.fingerprint
    again = uploads.find(uploaded(uploads, pixels, asked(pixels)), ANYONE).info.fingerprint
    pixels[599, 699, 2] ^= 1
    other = uploads.find(uploaded(uploads, pixels, asked(pixels)), ANYONE).info.fingerprint
    assert first == again != other


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_channels_lie_below_each_other(uploads: Uploads, dtype: type[np.unsignedinteger]) -> None:
    pixels = noise(600, 520, count=2).astype(dtype) * (200 if dtype is np.uint16 else 1)
    request = dataclasses.replace(
        asked(pixels[..., 0]),
        request=SegmentRequest("upload:", "threshold", channel=("DAPI",)),
        channels=("DAPI", "CD3"),
        dtype="uint16" if dtype is np.uint16 else "uint8",
    )
    upload, manifest = uploads.create(request, footprint(request))
    for level, column, row in manifest.tiles:
        box = manifest.tile(level, column, row)
        step = manifest.layers[level].downsample
        part = pixels[::step, ::step][box.y0 : box.y1, box.x0 : box.x1]
        uploads.put(upload, (level, column, row), png(np.concatenate([part[..., 0], part[..., 1]])))
    found = uploads.find(f"upload:{upload}", ANYONE)
    assert isinstance(found.path, Path)
    read = UploadSource.open(found.path).read_level(0, Box(0, 0, 600, 520))
    np.testing.assert_array_equal(np.moveaxis(read, 0, 2), pixels)


class TestRefused:
    """What must not be believed."""

    def test_colours_of_more_than_8_bits(self, uploads: Uploads) -> None:
        request = dataclasses.replace(asked(noise(30, 20)), dtype="uint16")
        with pytest.raises(NotSupported, match="send 8-bit colours"):
            uploads.create(request, footprint(request))

    @pytest.fixture
    def upload(self, uploads: Uploads) -> str:
        pixels = noise(700, 600)
        return uploads.create(asked(pixels), Box(0, 0, 700, 600))[0]

    @pytest.mark.parametrize(
        "tile",
        [
            b"",
            b"no image",
            png(noise(512, 511)),
            png(noise(512, 512)[..., 0]),
            png(np.zeros((512, 512, 4), np.uint8)),
            png(noise(512, 512))[:-100],
        ],
        ids=["empty", "text", "size", "grey", "alpha", "cut off"],
    )
    def test_a_tile_that_is_not_wanted(self, uploads: Uploads, upload: str, tile: bytes) -> None:
        with pytest.raises(Malformed):
            uploads.put(upload, (0, 0, 0), tile)

    def test_another_format(self, uploads: Uploads, upload: str) -> None:
        stream = io.BytesIO()
        Image.fromarray(noise(512, 512)).save(stream, "TIFF")
        with pytest.raises(Malformed):
            uploads.put(upload, (0, 0, 0), stream.getvalue())

    def test_a_bomb_is_refused_before_it_is_decoded(self, uploads: Uploads, upload: str) -> None:
        tile = bomb(60_000)
        began = time.monotonic()
        with pytest.raises(Malformed):
            uploads.put(upload, (0, 0, 0), tile)
        assert time.monotonic() - began < 0.5

    @pytest.mark.parametrize("place", [(0, 2, 0), (0, 0, 2), (2, 0, 0), (1, 9, 9)])
    def test_a_place_that_is_not_wanted(
        self, uploads: Uploads, upload: str, place: tuple[int, int, int]
    ) -> None:
        with pytest.raises(Malformed, match="has no tile"):
            uploads.put(upload, place, png(noise(512, 512)))

    def test_use_before_it_is_whole(self, uploads: Uploads, upload: str) -> None:
        uploads.put(upload, (0, 0, 0), png(noise(512, 512)))
        with pytest.raises(UploadState, match=r"tiles .* are missing"):
            uploads.find(f"upload:{upload}", ANYONE)

    def test_a_change_after_use(self, uploads: Uploads) -> None:
        pixels = noise(300, 200)
        name = uploaded(uploads, pixels, asked(pixels))
        uploads.find(name, ANYONE)
        with pytest.raises(UploadState, match="in use"):
            uploads.put(name.partition(":")[2], (0, 0, 0), png(pixels))

    @pytest.mark.parametrize("name", ["", "0" * 24, "../jobs", "a/b", "\0" * 24, "A" * 24])
    def test_an_upload_that_never_was(self, uploads: Uploads, name: str) -> None:
        for call in (
            lambda: uploads.find(f"upload:{name}", ANYONE),
            lambda: uploads.put(name, (0, 0, 0), b""),
            lambda: uploads.delete(name),
        ):
            with pytest.raises(UnknownImage):
                call()

    def test_too_many_pixels_are_refused_with_the_way_out(self, tmp_path: Path) -> None:
        small = Uploads(tmp_path / "uploads", dataclasses.replace(LIMITS, upload_pixels=400_000))
        pixels = noise(700, 600)
        with pytest.raises(TooLarge, match="file_uris"):
            small.create(asked(pixels), Box(0, 0, 700, 600))

    def test_too_many_uploads(self, uploads: Uploads) -> None:
        pixels = noise(300, 200)
        for _ in range(LIMITS.uploads):
            upload, _ = uploads.create(asked(pixels), Box(0, 0, 300, 200))
        with pytest.raises(Busy):
            uploads.create(asked(pixels), Box(0, 0, 300, 200))
        uploads.delete(upload)
        uploads.create(asked(pixels), Box(0, 0, 300, 200))

    def test_a_request_that_would_be_refused_later(self) -> None:
        pixels = noise(300, 200)
        with pytest.raises(UnknownModel):
            footprint(asked(pixels, model="nothing"))
        with pytest.raises(BadRegion):
            footprint(asked(pixels, Region.rectangle(400, 300, 500, 400)))


def bomb(side: int) -> bytes:
    """Return a small PNG that says it is `side` pixels square."""
    whole = png(np.zeros((1, 1, 3), np.uint8))
    header = b"IHDR" + side.to_bytes(4, "big") * 2 + whole[24:29]
    return whole[:12] + header + zlib.crc32(header).to_bytes(4, "big") + whole[33:]


def test_an_upload_outlives_a_restart_and_half_of_one_does_not(
    uploads: Uploads, tmp_path: Path
) -> None:
    pixels = noise(300, 200)
    whole = uploaded(uploads, pixels, asked(pixels))
    before = uploads.find(whole, ANYONE).info
    half, _ = uploads.create(asked(pixels), Box(0, 0, 300, 200))
    restarted = Uploads(tmp_path / "uploads", LIMITS)
    assert restarted.find(whole, ANYONE).info == before
    with pytest.raises(UnknownImage):
        restarted.find(f"upload:{half}", ANYONE)


def test_what_nobody_uses_is_forgotten(uploads: Uploads, tmp_path: Path) -> None:
    pixels = noise(300, 200)
    name = uploaded(uploads, pixels, asked(pixels))
    uploads.find(name, ANYONE)
    long_ago = time.time() - 3600 * (LIMITS.upload_hours + 1)
    os.utime(tmp_path / "uploads" / name.partition(":")[2], (long_ago, long_ago))
    uploads.create(asked(pixels), Box(0, 0, 300, 200))
    with pytest.raises(UnknownImage):
        uploads.find(name, ANYONE)


def test_the_halo_of_the_model_is_uploaded_too() -> None:
    pixels = noise(3000, 2000)
    region = Region.rectangle(1000, 800, 1100, 900)
    area = footprint(asked(pixels, region, "nuclei"))
    assert area.x0 < 950
    assert area.y1 > 950
    assert Box(0, 0, 3000, 2000).contains(area)
    assert footprint(asked(pixels, None, "nuclei")) == Box(0, 0, 3000, 2000)
    assert TILE_PX == 512


def test_a_manifest_that_is_not_one_is_unreadable(tmp_path: Path) -> None:
    for text in ("", "{}", "[1]", '{"size": 3}'):
        (tmp_path / "upload.json").write_text(text)
        with pytest.raises(Unreadable):
            UploadSource.open(tmp_path / "upload.json")
