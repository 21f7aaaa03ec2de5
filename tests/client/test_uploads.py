"""Pixels and voxels of files that the server cannot see, read again by other readers."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from isoline.client import Client, ClientError, Contours, Job, Json, Volume
from tests.client.stub import Server, answer
from tests.client.test_client import FULL
from tests.conftest import SharedServer

UPLOAD = "0f3c5a9e1b2d4c6f8a7b9c0d"
WIDTH, HEIGHT, DOWNSAMPLE = 1130, 905, 4
AREA, OVERVIEW = [300, 500, 1100, 905], [0, 0, 283, 227]
WANTED: Json = {
    "upload": UPLOAD,
    "image": f"upload:{UPLOAD}",
    "tile_px": 512,
    "levels": [{"downsample": 1, "area": AREA}, {"downsample": DOWNSAMPLE, "area": OVERVIEW}],
    "pixels": 0,
}
TILE = re.compile(rf"/v1/uploads/{UPLOAD}/tiles/(\d)/(\d)/(\d)")


@pytest.fixture
def uploads(server: Server) -> Server:
    server.scripts["/v1/uploads"] = [answer(WANTED, 201)]
    server.scripts[f"/v1/uploads/{UPLOAD}"] = [answer(b"", 204)]
    return server


def assembled(server: Server, level: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return (y, x, ...) of a level as Pillow reads the tiles; 7 where nothing was sent."""
    whole = np.full(shape, 7, np.uint16)
    left, top, right, bottom = WANTED["levels"][level]["area"]
    for call in server.calls:
        found = TILE.fullmatch(call.path)
        if found and int(found[1]) == level:
            x, y = int(found[2]) * 512, int(found[3]) * 512
            rows = slice(max(y, top), min(y + 512, bottom))
            columns = slice(max(x, left), min(x + 512, right))
            whole[rows, columns] = np.asarray(Image.open(io.BytesIO(call.body)))
    return whole


def colours() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def test_an_array_is_sent_as_the_request_needs_it(uploads: Server) -> None:
    pixels = colours()
    name = Client(uploads.url).upload_array(
        pixels, "nuclei", region=AREA, spacing_um=0.25, is_slide=True, at_um=None
    )
    assert name == WANTED["image"]
    announced, *tiles = uploads.calls
    assert announced.body == {
        "size": [WIDTH, HEIGHT],
        "dtype": "uint8",
        "is_slide": True,
        "spacing_um": 0.25,
        "request": {"model": "nuclei", "region": AREA},
    }
    assert {call.headers["Content-Type"] for call in tiles} == {"image/png"}
    x0, y0, x1, y1 = AREA
    sent = assembled(uploads, 0, (HEIGHT, WIDTH, 3))
    assert (sent[y0:y1, x0:x1] == pixels[y0:y1, x0:x1]).all()
    assert (sent == 7).all(axis=2).sum() == HEIGHT * WIDTH - (y1 - y0) * (x1 - x0)


def test_an_overview_is_made_of_means(uploads: Server) -> None:
    pixels = colours()
    Client(uploads.url).upload_array(pixels, "nuclei")
    overview = assembled(uploads, 1, (OVERVIEW[3], OVERVIEW[2], 3))
    inner = pixels[: HEIGHT // 4 * 4, : WIDTH // 4 * 4].reshape(HEIGHT // 4, 4, WIDTH // 4, 4, 3)
    assert (overview[: HEIGHT // 4, : WIDTH // 4] == np.rint(inner.mean(axis=(1, 3)))).all()
    assert (overview[-1, -1] == np.rint(pixels[904:, 1128:].mean(axis=(0, 1)))).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2"])
def test_channels_are_sent_below_each_other(uploads: Server, dtype: str) -> None:
    names = ["DAPI", "CD3"]
    highest = np.iinfo(dtype).max
    pixels = np.random.default_rng(3).integers(0, highest, (2, HEIGHT, WIDTH)).astype(dtype)
    Client(uploads.url).upload_array(pixels, "threshold", channels=names, channel=["CD3"])
    announced, *tiles = uploads.calls
    kind = np.dtype(dtype).name
    assert (announced.body["channels"], announced.body["dtype"]) == (names, kind)
    assert announced.body["request"] == {"model": "threshold", "channel": ["CD3"]}
    first = next(call.body for call in tiles if call.path.endswith("/0/1/1"))
    image = Image.open(io.BytesIO(first))
    assert image.mode == {"uint8": "L", "uint16": "I;16"}[kind]
    stacked = np.asarray(image).reshape(2, 393, 512)
    assert (stacked == pixels[:, 512:905, 512:1024]).all()


def test_a_region_is_read_where_the_server_wants_it(uploads: Server) -> None:
    asked: list[object] = []

    def read(downsample: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        asked.append((downsample, box))
        return np.full((box[3] - box[1], box[2] - box[0], 3), downsample, np.uint8)

    Client(uploads.url).upload_region(read, (WIDTH, HEIGHT), "nuclei", region=AREA)
    assert asked == [
        (1, (300, 500, 512, 512)),
        (1, (512, 500, 1024, 512)),
        (1, (1024, 500, 1100, 512)),
        (1, (300, 512, 512, 905)),
        (1, (512, 512, 1024, 905)),
        (1, (1024, 512, 1100, 905)),
        (4, (0, 0, 283, 227)),
    ]
    assert (assembled(uploads, 1, (OVERVIEW[3], OVERVIEW[2], 3)) == 4).all()


def test_a_read_of_another_size_is_an_error(uploads: Server) -> None:
    def read(downsample: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        return np.zeros((box[2] - box[0], box[3] - box[1], 3), np.uint8)

    with pytest.raises(ValueError, match=r"\(300, 500, 512, 512\).* expected \(12, 212, 3\)"):
        Client(uploads.url).upload_region(read, (WIDTH, HEIGHT), "nuclei")


@pytest.mark.parametrize(
    ("pixels", "channels", "words"),
    [
        (np.zeros((9, 9), np.uint8), None, r"name the `channels` of \(c, y, x\)"),
        (np.zeros((9, 9, 4), np.uint8), None, r"are not in colour, \(y, x, 3\)"),
        (np.zeros((9, 9, 3), np.float32), None, "float32; convert them to uint8$"),
        (np.zeros((9, 9, 3), np.uint16), None, "uint16; convert them to uint8$"),
        (np.zeros((2, 9, 9), np.int32), ["a", "b"], "int32; convert them to uint8 or uint16"),
        (np.zeros((3, 9, 9), np.uint8), ["a", "b"], "one plane for each of the 2 channels"),
        (np.zeros((9, 9), np.uint8), ["a"], r"pass \(c, y, x\)"),
    ],
)
def test_pixels_that_are_none_are_refused_before_anything_is_sent(
    uploads: Server, pixels: NDArray[Any], channels: list[str] | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Client(uploads.url).upload_array(pixels, "nuclei", channels=channels)
    assert uploads.calls == []


def test_no_pixel_is_sent_for_what_the_server_refuses(uploads: Server) -> None:
    uploads.scripts["/v1/uploads"] = [answer({**FULL, "code": "NotSupported"}, 422)]
    with pytest.raises(ClientError, match="full"):
        Client(uploads.url).upload_array(colours(), "brain")
    assert len(uploads.calls) == 1


def test_a_tile_is_sent_again_where_the_server_is_busy(uploads: Server) -> None:
    scripts = uploads.scripts[f"/v1/uploads/{UPLOAD}"]
    scripts.insert(0, answer(FULL, 503))
    Client(uploads.url).upload_array(colours(), "nuclei")
    sent = [call.path for call in uploads.calls if call.method == "PUT"]
    assert (sent[0], len(sent), len({*sent})) == (sent[1], 8, 7)


VOLUME = Volume(
    size=(5, 4, 3),
    origin_mm=(-10.0, 20.0, 5.0),
    step_i_mm=(0.5, 0.0, 0.0),
    step_k_mm=(0.0, -2.0, 1.0),
    frame_of_reference="1.2.3",
    modality="CT",
    slices=[{"instance": f"1.2.3.{k}", "frame": 1} for k in range(3)],
)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", ">i2", "<f4"])
def test_a_volume_is_sent_slice_by_slice(server: Server, dtype: str) -> None:
    wanted = {"upload": UPLOAD, "image": f"upload:{UPLOAD}", "slices": 3, "bytes": 60}
    server.scripts["/v1/uploads"] = [answer(wanted, 201)]
    server.scripts[f"/v1/uploads/{UPLOAD}"] = [answer(b"", 204)]
    voxels = np.random.default_rng(3).integers(-100, 100, (3, 4, 5)).astype(dtype)
    turned = np.asfortranarray(voxels)
    name = Client(server.url).upload_volume(
        turned, VOLUME, "brain", slice=1, frame_of_reference="1"
    )
    assert name == f"upload:{UPLOAD}"
    announced, *slices = server.calls
    assert announced.body == {
        "volume": {
            "size": [5, 4, 3],
            "origin_mm": [-10.0, 20.0, 5.0],
            "step_i_mm": [0.5, 0.0, 0.0],
            "step_j_mm": [0.0, 1.0, 0.0],
            "step_k_mm": [0.0, -2.0, 1.0],
            "frame_of_reference": "1.2.3",
            "modality": "CT",
            "slices": [{"instance": f"1.2.3.{k}", "frame": 1} for k in range(3)],
        },
        "dtype": np.dtype(dtype).name,
        "request": {"model": "brain", "slice": 1, "frame_of_reference": "1"},
    }
    assert [call.path for call in slices] == [f"/v1/uploads/{UPLOAD}/slices/{k}" for k in range(3)]
    little = np.dtype(dtype).newbyteorder("<")
    sent = np.stack([np.frombuffer(call.body, little).reshape(4, 5) for call in slices])
    assert (sent == voxels).all()


@pytest.mark.parametrize(
    ("voxels", "words"),
    [
        (np.zeros((5, 4, 3), np.int16), r"\(5, 4, 3\), the volume has \(3, 4, 5\)"),
        (np.zeros((3, 4, 5)), "float64; convert them to uint8 or .* or float32"),
        (np.zeros((3, 4, 5), np.bool_), "voxels are bool"),
    ],
)
def test_voxels_that_do_not_fit_are_refused(
    server: Server, voxels: NDArray[Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Client(server.url).upload_volume(voxels, VOLUME, "brain")
    assert server.calls == []


def test_an_upload_is_deleted(uploads: Server) -> None:
    Client(uploads.url).delete_upload(f"upload:{UPLOAD}")
    (call,) = uploads.calls
    assert (call.method, call.path) == ("DELETE", f"/v1/uploads/{UPLOAD}")


def outlines(job: Job) -> list[Json]:
    contours = [event for event in job.events() if isinstance(event, Contours)]
    features = [feature for event in contours for feature in event.features]
    return sorted(feature["geometry"]["coordinates"] for feature in features)


@pytest.mark.slow
def test_an_uploaded_array_gives_what_the_file_gives(shared_server: SharedServer) -> None:
    pixels = np.full((900, 1200, 3), 230, np.uint8)
    pixels[100:120, 50:90] = pixels[600:603, 1000:1010] = 40
    Image.fromarray(pixels).save(shared_server.images / "upload.png")
    client = Client(shared_server.url)
    name = client.upload_array(pixels, "threshold", parameters={"below": 128})
    uploaded = outlines(client.submit(name, "threshold", parameters={"below": 128}))
    assert len(uploaded) == 2
    assert uploaded == outlines(
        client.submit("slides/upload.png", "threshold", parameters={"below": 128})
    )
