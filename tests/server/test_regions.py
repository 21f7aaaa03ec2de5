"""Pixels of parts of images, as a viewer asks for them over HTTP."""

from __future__ import annotations

import io
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import pytest
import tifffile
from flask.testing import FlaskClient
from numpy.typing import NDArray
from PIL import Image
from werkzeug.test import TestResponse

from isoline.config.settings import Limits, Settings
from isoline.geometry.grid import Box
from isoline.geometry.volume_grid import swap_ras
from isoline.images.catalog import Images
from isoline.pipeline.planner import Planner
from isoline.server.access import Access
from isoline.server.app import create_app
from isoline.server.metrics import Metrics
from isoline.server.open_sources import OpenSources
from isoline.server.services import Services
from isoline.sources.cached_volume import CachedVolume
from isoline.sources.plain import PlainSource
from tests import volumes
from tests.slides import CHANNELS, fluorescence

GRID = volumes.grid((24, 20, 9))


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.uint16]]:
    path = tmp_path_factory.mktemp("images") / "if.ome.tiff"
    return path.parent, fluorescence(path)


@pytest.fixture(scope="module")
def server(
    cells: tuple[Path, NDArray[np.uint16]], tmp_path_factory: pytest.TempPathFactory
) -> FlaskClient:
    folder, _ = cells
    volumes.write_classic(folder / "ct", GRID, volumes.ramp(GRID.shape), BitsStored=12, HighBit=11)
    sloped = nib.Nifti1Image(
        np.arange(7 * 5 * 3, dtype=np.int16).reshape(7, 5, 3), swap_ras(GRID.affine)
    )
    sloped.header.set_slope_inter(0.5, -3)
    nib.save(sloped, folder / "mr.nii.gz")
    colours = np.random.default_rng(1).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(colours).save(folder / "colour.png")
    return client(folder, tmp_path_factory.mktemp("data"))


def client(folder: Path, data: Path, limits: Limits | None = None) -> FlaskClient:
    """Return a client of a server that has images and nothing else."""
    nothing = cast(Any, None)
    parts: dict[str, Any] = dict.fromkeys((each.name for each in fields(Services)), nothing)
    settings = Settings(data=data, limits=limits or Limits())
    images = Images({"": folder})
    planner = Planner(images, nothing, nothing, settings.limits)
    known = {"settings": settings, "images": images, "planner": planner, "metrics": Metrics()}
    return create_app(Services(**{**parts, **known, "access": Access(settings)})).test_client()


def said_by(answer: TestResponse) -> dict[str, Any]:
    said: dict[str, Any] = answer.get_json()
    return said


def raw(answer: TestResponse) -> NDArray[np.generic]:
    """Return (c, y, x) of a raw answer, as any client reads it."""
    assert answer.status_code == 200, answer.text
    shape = tuple(map(int, answer.headers["X-Isoline-Shape"].split(",")))
    dtype = np.dtype(answer.headers["X-Isoline-Dtype"]).newbyteorder("<")
    return np.frombuffer(answer.data, dtype).reshape(shape)


def picture(answer: TestResponse) -> NDArray[np.uint8]:
    assert answer.status_code == 200, answer.text
    assert answer.content_type == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.data)))


def test_raw_pixels_of_chosen_channels_in_a_plane(
    server: FlaskClient, cells: tuple[Path, NDArray[np.uint16]]
) -> None:
    answer = server.get(
        "/v1/images/if.ome.tiff/region?box=31,17,95,60&channel=panck,0&z=1&format=raw"
    )
    assert answer.headers["X-Isoline-Dtype"] == "uint16"
    assert answer.headers["X-Isoline-Box"] == "31.0,17.0,95.0,60.0"
    np.testing.assert_array_equal(raw(answer), cells[1][1, [2, 0], 17:60, 31:95])


def test_raw_pixels_of_everything_by_default(
    server: FlaskClient, cells: tuple[Path, NDArray[np.uint16]]
) -> None:
    answer = server.get("/v1/images/if.ome.tiff/region?box=0,0,701,523&format=raw")
    np.testing.assert_array_equal(raw(answer), cells[1][1])  # the middle of two planes


def test_the_pixels_of_a_level_are_its_own(
    server: FlaskClient, cells: tuple[Path, NDArray[np.uint16]]
) -> None:
    level = said_by(server.get("/v1/images/if.ome.tiff"))["levels"][1]
    (width, height), (dx, dy) = level["size"], level["downsample"]
    box = f"{3 * dx!r},{5 * dy!r},{width * dx!r},{height * dy!r}"
    answer = server.get(f"/v1/images/if.ome.tiff/region?box={box}&size={width - 3}&z=0&format=raw")
    np.testing.assert_array_equal(raw(answer), cells[1][0, :, 10:522:2, 6:700:2])


def test_a_channel_with_a_number_for_a_name(tmp_path: Path) -> None:
    """A name wins over an index."""
    pixels = np.stack([np.full((8, 9), value, np.uint8) for value in (10, 20)])
    tifffile.imwrite(
        tmp_path / "odd.ome.tiff",
        pixels,
        metadata={"axes": "CYX", "Channel": {"Name": ["1", "0"]}},
        tile=(16, 16),
        photometric="minisblack",
    )
    odd = client(tmp_path, tmp_path / "data")
    first = raw(odd.get("/v1/images/odd.ome.tiff/region?box=0,0,9,8&channel=1&format=raw"))
    assert (first == 10).all()
    assert first.shape == (1, 8, 9)


def test_raw_voxels_are_in_hounsfield_units(server: FlaskClient) -> None:
    answer = server.get("/v1/images/ct/region?box=4,3,15,19&z=7&format=raw")
    assert answer.headers["X-Isoline-Dtype"] == "int16"
    np.testing.assert_array_equal(raw(answer)[0], volumes.ramp(GRID.shape)[7, 3:19, 4:15])
    middle = raw(server.get("/v1/images/ct/region?box=0,0,24,20&format=raw"))
    np.testing.assert_array_equal(middle[0], volumes.ramp(GRID.shape)[4])


def test_raw_voxels_of_nifti_are_scaled(server: FlaskClient) -> None:
    answer = server.get("/v1/images/mr.nii.gz/region?box=0,0,7,5&z=2&format=raw")
    stored = np.arange(7 * 5 * 3).reshape(7, 5, 3)[:, :, 2].T
    assert answer.headers["X-Isoline-Dtype"] == "float32"
    np.testing.assert_allclose(raw(answer)[0], stored * 0.5 - 3)


def test_a_slice_shrinks_to_means(server: FlaskClient) -> None:
    answer = server.get("/v1/images/ct/region?box=0,0,24,20&z=1&size=12&format=raw")
    full = volumes.ramp(GRID.shape)[1].astype(float).reshape(10, 2, 12, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(raw(answer)[0], np.rint(full))


def test_a_slice_costs_no_volume(server: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it has been read, a volume is not read again."""
    before = raw(server.get("/v1/images/ct/region?box=0,0,24,20&z=3&format=raw"))

    def read_again(*_: object) -> None:
        raise AssertionError("the volume is read again")

    monkeypatch.setattr(CachedVolume, "_fill", read_again)
    after = raw(server.get("/v1/images/ct/region?box=0,0,24,20&z=4&format=raw"))
    assert after.shape == before.shape
    assert (after != before).any()


def test_a_ct_is_shown_in_a_soft_tissue_window(server: FlaskClient) -> None:
    shown = picture(server.get("/v1/images/ct/region?box=0,0,24,20&z=2&size=24"))
    hounsfield = volumes.ramp(GRID.shape)[2]
    expected = np.rint((hounsfield.astype(float) + 160).clip(0, 400) / 400 * 255)
    np.testing.assert_array_equal(shown, expected)


def test_a_volume_without_modality_is_not_flat(server: FlaskClient) -> None:
    shown = picture(server.get("/v1/images/mr.nii.gz/region?box=0,0,7,5&z=1&size=7"))
    assert shown.shape == (5, 7)
    assert shown.min() < 100 < shown.max()


def test_one_window_for_all_parts_of_an_image(server: FlaskClient) -> None:
    """Neighbouring pictures match."""
    whole = picture(server.get("/v1/images/if.ome.tiff/region?box=0,0,64,64&size=64&channel=CD3"))
    part = picture(server.get("/v1/images/if.ome.tiff/region?box=16,8,48,40&size=32&channel=CD3"))
    np.testing.assert_array_equal(part, whole[8:40, 16:48])
    assert whole.std() > 40


def test_fluorescence_has_a_colour_for_each_channel(
    server: FlaskClient, cells: tuple[Path, NDArray[np.uint16]]
) -> None:
    url = "/v1/images/if.ome.tiff/region?box=0,0,64,64&size=64"
    blended = picture(server.get(url))
    alone = [picture(server.get(f"{url}&channel={name}")) for name in CHANNELS]
    np.testing.assert_array_equal(blended, np.stack(alone[::-1], axis=-1))  # blue, green, red


def test_colours_are_shown_as_they_are(server: FlaskClient, cells: tuple[Path, Any]) -> None:
    shown = picture(server.get("/v1/images/colour.png/region?box=0,0,60,40&size=60"))
    np.testing.assert_array_equal(shown, np.asarray(Image.open(cells[0] / "colour.png")))


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        ("", "Malformed", "box"),
        ("box=0,0,9,9&format=tiff", "Malformed", "format: expected png or raw, got 'tiff'"),
        ("box=0,0,9,9&channels=0", "Malformed", "unknown key 'channels'"),
        ("box=0,0,9,9&z=1&z=2", "Malformed", "z is given 2 times"),
        ("box=0,0,9,9&channel=CD3,", "Malformed", "channel"),
        ("box=0,0,9,9&channel=CD4", "NotSupported", "no channel 'CD4'"),
        ("box=0,0,9,9&channel=3", "NotSupported", "no channel 3"),
        ("box=0,0,9,9&z=2", "NotSupported", "no plane 2"),
        ("box=0,0,9,9&channel=0,1,2,0,1,2,0,1", "NotSupported", "cannot show 8 channels"),
        ("box=800,0,900,9&format=raw", "BadRegion", "does not overlap"),
        ("box=5,5,5,9", "BadRegion", "does not overlap"),
    ],
)
def test_what_is_refused(server: FlaskClient, query: str, code: str, said: str) -> None:
    problem = said_by(server.get(f"/v1/images/if.ome.tiff/region?{query}"))
    assert problem["code"] == code
    assert said in problem["detail"]


def test_too_many_values_are_refused(cells: tuple[Path, Any], tmp_path: Path) -> None:
    small = client(cells[0], tmp_path, Limits(region_pixels=10_000))
    url = "/v1/images/if.ome.tiff/region?box=0,0,100,100&format=raw"
    assert small.get(f"{url}&channel=0,1,2").status_code == 200
    assert said_by(small.get(f"{url}&channel=0,1,2,0"))["code"] == "TooLarge"
    assert (
        said_by(small.get(f"{url}&channel=0".replace("100,100", "100,101")))["code"] == "TooLarge"
    )


def test_images_stay_open_but_not_all_of_them(server: FlaskClient, cells: tuple[Path, Any]) -> None:
    """Opening a slide takes a hundred times as long as reading a tile of it."""
    opened: list[str] = []
    closed: list[str] = []

    class Counted(PlainSource):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self.path = path
            opened.append(path.name)

        def close(self) -> None:
            super().close()
            closed.append(self.path.name)

    pool = OpenSources(most=2)
    image = cells[0] / "colour.png"
    box = Box(0, 0, 4, 4)
    with pool.reading(1, partial(Counted, image)) as first:
        with pool.reading(1, partial(Counted, image)) as same:
            assert same is first
        for key in (2, 3, 4):
            with pool.reading(key, partial(Counted, image)):
                pass
        assert first.read_level(0, box).shape == (3, 4, 4)  # it is in use, so it is not closed
    assert (len(opened), len(closed)) == (4, 2)
    with pool.reading(4, partial(Counted, image)):
        assert len(opened) == 4
    with pool.reading(2, partial(Counted, image)):
        assert len(opened) == 5
