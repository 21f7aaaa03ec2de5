"""What is known of an image, and its pixels as arrays that read when they are indexed."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray

from isoline.client import Client, ClientError, Json, Level, Volume
from isoline.geometry.grid import XY, Grid, Rect
from tests.client.stub import Handler, Server, answer

WIDTH, HEIGHT = 2503, 1001
SPACING = [0.25, 0.5]
VOLUME: Json = {
    "size": [4, 3, 2],
    "origin_mm": [-10.0, 20.0, 5.0],
    "step_i_mm": [0.5, 0.0, 0.0],
    "step_j_mm": [0.0, 0.6, 0.8],
    "step_k_mm": [0.0, -2.0, 1.0],
    "frame_of_reference": "1.2.3",
    "modality": "CT",
    "slices": [{"instance": "1.2.3.1", "frame": 1}, {"instance": "1.2.3.2", "frame": 1}],
}


def info(channels: list[str], dtype: str, **more: object) -> Json:
    levels = [(WIDTH, HEIGHT), (625, 250), (156, 62)]
    return {
        "name": "slides/a b#.svs",
        "kind": "slide",
        "reader": "openslide",
        "fingerprint": "f1",
        "size": [WIDTH, HEIGHT],
        "spacing_um": SPACING,
        "levels": [{"size": [w, h], "downsample": [WIDTH / w, HEIGHT / h]} for w, h in levels],
        "channels": channels,
        "dtype": dtype,
        "z_planes": 1,
        "problems": [],
        **more,
    }


@lru_cache
def planes(count: int, dtype: str) -> NDArray[Any]:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x + (3 + n) * y for n in range(count)]).astype(dtype)


class Slide:
    """Answers for regions as the server does: whole pixels of a grid of the scale asked for."""

    def __init__(self, channels: list[str], dtype: str) -> None:
        self.channels = channels
        self.pixels = planes(len(channels), dtype)
        self.sizes: list[int] = []

    def __call__(self, handler: Handler) -> None:
        asked = {k: v[0] for k, v in parse_qs(urlsplit(handler.path).query).items()}
        rect = Rect(*map(float, asked["box"].split(",")))
        self.sizes.append(size := int(asked["size"]))
        scale = max(rect.x1 - rect.x0, rect.y1 - rect.y0) / size
        grid = Grid((WIDTH, HEIGHT), XY(scale, scale))
        box = grid.cover(rect)
        chosen = range(len(self.channels))
        if "channel" in asked:
            chosen = [  # type: ignore[assignment]
                self.channels.index(each) if each in self.channels else int(each)
                for each in asked["channel"].split(",")
            ]
        pixels = self.pixels[[*chosen]][:, self.at(box.y0, box.y1, scale, HEIGHT)]
        pixels = pixels[:, :, self.at(box.x0, box.x1, scale, WIDTH)]
        covered = grid.rect(box)
        answer(
            pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(),
            X_Isoline_Box=f"{covered.x0},{covered.y0},{covered.x1},{covered.y1}",
            X_Isoline_Shape=",".join(map(str, pixels.shape)),
            X_Isoline_Dtype=pixels.dtype.name,
        )(handler)

    @staticmethod
    def at(first: int, last: int, scale: float, length: int) -> NDArray[np.int64]:
        """Return the image pixels at the middle of those of the grid."""
        middles: NDArray[np.int64] = np.floor((np.arange(first, last) + 0.5) * scale)
        return np.clip(middles, 0, length - 1).astype(np.int64)


NAME = "slides/a b#.svs"
PATH = "/v1/images/slides/a%20b%23.svs"


def served(server: Server, channels: list[str], dtype: str) -> Slide:
    slide = Slide(channels, dtype)
    server.scripts[f"{PATH}/region"] = [slide]
    server.scripts[PATH] = [answer(info(channels, dtype))]
    return slide


RGB = ["red", "green", "blue"]


def test_what_is_known_of_a_slide(server: Server) -> None:
    served(server, RGB, "uint8")
    slide = Client(server.url, "secret", headers=lambda: {"Girder-Token": "g"}).image(NAME)
    assert (slide.kind, slide.size, slide.spacing_um) == ("slide", (WIDTH, HEIGHT), (0.25, 0.5))
    assert slide.levels[1] == Level((625, 250), (WIDTH / 625, HEIGHT / 250))
    assert (slide.is_rgb, slide.volume, slide.dtype) == (True, None, "uint8")
    (call,) = server.calls
    assert call.path == PATH
    assert (call.headers["Authorization"], call.headers["Girder-Token"]) == ("Bearer secret", "g")


def test_where_the_voxels_of_a_volume_lie(server: Server) -> None:
    said = info(["value"], "int16", kind="volume", volume=VOLUME, spacing_um=None)
    server.scripts[PATH] = [answer(said)]
    head = Client(server.url).image(NAME)
    volume = head.volume
    assert volume == Volume.of_json(VOLUME)
    assert volume is not None
    assert (head.spacing_um, head.is_rgb) == (None, False)
    assert (volume.size, volume.shape) == ((4, 3, 2), (2, 3, 4))
    assert volume.spacing_mm == pytest.approx((0.5, 1.0, math.sqrt(5)))
    assert volume.position_mm(2, 1, 1) == pytest.approx((-9.0, 18.6, 6.8))
    assert volume.slices[1]["instance"] == "1.2.3.2"


def test_the_pixels_of_a_box(server: Server) -> None:
    slide = served(server, ["DAPI", "CD3"], "uint16")
    client = Client(server.url)
    full = client.read(NAME, (100, 50, 132, 61))
    assert (full.dtype, full.flags.writeable) == (np.dtype("uint16"), True)
    assert (full == slide.pixels[:, 50:61, 100:132]).all()
    small = client.read(NAME, [0, 0, 1600, 800], 50, channel="CD3", z=2)
    assert (small[0] == slide.pixels[1, 16:800:32, 16:1600:32]).all()
    several = client.region(NAME, (10.5, 20, 12, 21), channel=["CD3", 0])
    assert several.box == (10.0, 20.0, 12.0, 21.0)
    assert (several.pixels == slide.pixels[::-1, 20:21, 10:12]).all()
    queries = [parse_qs(urlsplit(call.path).query) for call in server.calls]
    assert queries[0] == {"box": ["100,50,132,61"], "size": ["32"], "format": ["raw"]}
    assert (queries[1]["channel"], queries[1]["z"]) == (["CD3"], ["2"])
    assert queries[2]["channel"] == ["CD3,0"]


def test_a_volume_is_read_slice_by_slice(server: Server) -> None:
    planes = np.arange(24, dtype=np.int16).reshape(2, 1, 3, 4)
    server.scripts[PATH] = [answer(info(["value"], "int16", kind="volume", volume=VOLUME))]
    server.scripts[f"{PATH}/region"] = [
        answer(
            plane.tobytes(),
            X_Isoline_Box="0,0,4,3",
            X_Isoline_Shape="1,3,4",
            X_Isoline_Dtype="int16",
        )
        for plane in planes
    ]
    assert (Client(server.url).read_volume(NAME) == planes[:, 0]).all()
    asked = f"{PATH}/region?box=0,0,4,3&size=4&format=raw"
    assert [call.path for call in server.calls[1:]] == [f"{asked}&z=0", f"{asked}&z=1"]
    server.scripts[PATH] = [answer(info(RGB, "uint8"))]
    with pytest.raises(ValueError, match=r"is not a volume; call read\(\)"):
        Client(server.url).read_volume(NAME)


def test_a_picture_of_a_box(server: Server) -> None:
    server.scripts[f"{PATH}/region"] = [answer(b"\x89PNG", Content_Type="image/png")]
    assert Client(server.url).picture(NAME, (0, 0, 64, 32), 16) == b"\x89PNG"
    assert server.calls[0].path == f"{PATH}/region?box=0.0,0.0,64.0,32.0&size=16&format=png"


def test_an_older_server_is_told_from_raw_pixels(server: Server) -> None:
    server.scripts[f"{PATH}/region"] = [answer(b"\x89PNG", X_Isoline_Box="0,0,8,8")]
    with pytest.raises(ClientError, match="update isoline"):
        Client(server.url).read(NAME, (0, 0, 8, 8))


def test_levels_of_a_colour_slide_have_their_colours_last(server: Server) -> None:
    slide = served(server, RGB, "uint8")
    fine, _, coarse = Client(server.url).slide_levels(NAME)
    assert (fine.shape, fine.ndim, fine.dtype) == ((HEIGHT, WIDTH, 3), 3, np.dtype("uint8"))
    assert coarse.shape == (62, 156, 3)
    assert (len(coarse), coarse.size) == (62, 62 * 156 * 3)
    assert slide.sizes == []
    whole = np.moveaxis(slide.pixels, 0, 2)
    assert (fine[5:9, 11:30] == whole[5:9, 11:30]).all()
    assert slide.sizes == [19]
    assert (np.asarray(coarse)[::8, ::8] == coarse[::8, ::8]).all()
    assert np.asarray(coarse, np.float32).dtype == np.float32


@pytest.mark.parametrize(
    "key",
    [
        (slice(100, 110), slice(20, 60, 7)),
        (slice(110, 100, -3), slice(-30, None)),
        (7, slice(3, 9)),
        (slice(3, 9), -1),
        (np.int64(4), 5, 2),
        (..., slice(2490, None), 1),
        (slice(40, 44), slice(0, 8), slice(None, None, -1)),
        (slice(3, 3), slice(0, 9)),
        (slice(995, 9999), slice(-4, 9999)),
        1000,
    ],
    ids=str,
)
def test_a_level_is_indexed_like_an_array(server: Server, key: Any) -> None:
    slide = served(server, RGB, "uint8")
    fine = Client(server.url).slide_levels(NAME)[0]
    expected = np.moveaxis(slide.pixels, 0, 2)[key]
    assert fine[key].shape == expected.shape
    assert (fine[key] == expected).all()


def test_levels_with_other_channels_have_them_first(server: Server) -> None:
    slide = served(server, ["DAPI", "CD3", "CD8"], "uint16")
    client = Client(server.url)
    fine = client.slide_levels(NAME)[0]
    assert fine.shape == (3, HEIGHT, WIDTH)
    assert (fine[1:, 4, 6:9] == slide.pixels[1:, 4, 6:9]).all()
    one = client.slide_levels(NAME, "CD8", z=3)[0]
    assert one.shape == (HEIGHT, WIDTH)
    assert (one[40:44, 6:9] == slide.pixels[2, 40:44, 6:9]).all()
    assert "channel=CD8&z=3" in server.calls[-1].path


@pytest.mark.parametrize("number", [1, 2])
def test_a_coarse_level_lies_where_it_should_whatever_is_read_of_it(
    server: Server, number: int
) -> None:
    """The sides of the levels are no whole multiples: a part is at most a pixel off."""
    served(server, ["DAPI"], "uint16")
    level = Client(server.url).slide_levels(NAME)[number]
    whole = level[0].astype(int)
    height, width = whole.shape
    corner = level[0, height - 20 :, width - 50 :].astype(int)
    part = level[0, 13:47, 41:133].astype(int)
    assert corner.shape == (20, 50)
    a_pixel = (1 + 3) * HEIGHT / height
    assert np.abs(corner - whole[height - 20 :, width - 50 :]).max() <= a_pixel
    assert np.abs(part - whole[13:47, 41:133]).max() <= a_pixel


def test_a_large_part_is_read_in_pieces(server: Server) -> None:
    slide = served(server, ["DAPI"], "uint8")
    fine = Client(server.url).slide_levels(NAME, 0)[0]
    assert (fine[100:900, 200:2400] == slide.pixels[0, 100:900, 200:2400]).all()
    assert slide.sizes == [2048, 800]


@pytest.mark.parametrize("key", [1001, (0, -2504), (0, 0, 0, 0), (0, 0, 3)])
def test_what_lies_outside_is_an_index_error(server: Server, key: Any) -> None:
    served(server, RGB, "uint8")
    with pytest.raises(IndexError):
        Client(server.url).slide_levels(NAME)[0][key]
