"""Pixels and rights through a real Girder."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openslide
import pytest

from isoline.config.settings import Girder
from isoline.errors import NotAllowed, UnknownImage
from isoline.geometry.grid import XY, Box
from isoline.images.catalog import Caller, Descriptions
from isoline.images.girder import GirderImages
from isoline.sources.girder import GirderImage
from isoline.sources.source import Source
from tests.dsa.conftest import TOKEN, Archive


def images(archive: Archive, mapping: dict[str, Path] | None = None) -> GirderImages:
    server = Girder(archive.stack.url, mapping or {}, TOKEN)
    return GirderImages({"archive": server}, Descriptions().of)


def caller(archive: Archive) -> Caller:
    return Caller({"girder": archive.stack.guest.token})


def remote(archive: Archive) -> GirderImage:
    found = images(archive).find(f"girder:archive/{archive.item}", caller(archive))
    assert isinstance(found.path, GirderImage)
    return found.path


@pytest.fixture
def source(archive: Archive) -> Iterator[Source]:
    opened = pickle.loads(pickle.dumps(remote(archive))).open()  # as a worker gets it
    yield opened
    opened.close()


def test_the_slide_is_described(source: Source) -> None:
    info = source.info
    assert info.size == (31872, 13835)
    assert info.spacing_um == XY(0.2457, 0.2457)
    assert info.kind == "slide"
    assert [level.downsample.x for level in info.levels[:5]] == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    "box",
    [
        Box(6000, 6700, 6700, 7300),
        Box(6239, 6719, 6241, 6721),
        Box(31872 - 301, 13835 - 203, 31872, 13835),
    ],
    ids=["many tiles", "a corner of four", "the far corner"],
)
def test_pixels_are_those_of_the_file(source: Source, real_slide: Path, box: Box) -> None:
    with openslide.OpenSlide(real_slide) as slide:
        seen = slide.read_region((box.x0, box.y0), 0, (box.width, box.height)).convert("RGB")
    assert np.array_equal(np.moveaxis(source.read_level(0, box), 0, 2), np.asarray(seen))


def test_a_pixel_depends_only_on_its_place(source: Source) -> None:
    whole = source.read_level(3, Box(700, 800, 1400, 1300))
    part = source.read_level(3, Box(900, 870, 1111, 1200))
    assert np.array_equal(whole[:, 70:400, 200:411], part)


def test_rights_are_girders(archive: Archive) -> None:
    folder = archive.admin.call("GET", f"item/{archive.item}")["folderId"]
    finder, name = images(archive), f"girder:archive/{archive.item}"
    finder.find(name, caller(archive))
    archive.admin.call("PUT", f"folder/{folder}/access", access="{}", public=False)
    try:
        with pytest.raises(NotAllowed, match="403"):
            finder.find(name, caller(archive))
        with pytest.raises(NotAllowed):
            finder.find(name, Caller())
        with pytest.raises(NotAllowed):
            finder.find(name, Caller({"girder": "not a token"}))
        finder.find(name, Caller({"girder": archive.admin.token}))
    finally:
        archive.admin.call("PUT", f"folder/{folder}/access", access="{}", public=True)


@pytest.mark.parametrize(
    "name",
    [
        "girder:archive/000000000000000000000000",
        "girder:archive/..%2F..%2Fuser%2Fme",
        "girder:archive",
        "girder:elsewhere/000000000000000000000000",
        "girder:http://elsewhere.example/000000000000000000000000",
    ],
)
def test_what_is_not_there_is_unknown(archive: Archive, name: str) -> None:
    with pytest.raises(UnknownImage):
        images(archive).find(name, caller(archive))


def test_a_file_that_this_machine_sees_is_read_as_a_file(
    archive: Archive, real_slide: Path, tmp_path: Path
) -> None:
    there = f"{archive.stack.home}/slides"
    (tmp_path / "slide.svs").symlink_to(real_slide)
    (tmp_path / real_slide.name).symlink_to(real_slide)
    name = f"girder:archive/{archive.item}"
    seen = images(archive, {there: real_slide.parent}).find(name, caller(archive))
    assert seen.path == real_slide.resolve()
    # a link out of the folder, another size, a folder that is not there: tiles will do
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / real_slide.name).write_bytes(b"another file")
    for folder in (tmp_path, tmp_path / "empty", tmp_path / "nowhere"):
        found = images(archive, {there: folder}).find(name, caller(archive))
        assert isinstance(found.path, GirderImage), folder


def test_a_token_is_never_shown(archive: Archive) -> None:
    token = archive.stack.guest.token
    assert token not in repr(remote(archive))
    assert token not in repr(caller(archive))
