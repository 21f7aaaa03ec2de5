"""Images by name: links, and files that are no images."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from isoline.errors import NotSupported, UnknownImage
from isoline.geometry.grid import Box
from isoline.images.catalog import Images, file_name
from isoline.sources.registry import open_image
from tests.slides import dicom_slide


def picture(path: Path, size: tuple[int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((size[1], size[0]), np.uint8)).save(path, "PNG")
    return path


class TestLinks:
    @pytest.mark.parametrize("name", ["b.png", "c.png"])
    def test_a_link_is_its_target_whatever_lies_beside_the_target(
        self, tmp_path: Path, name: str
    ) -> None:
        target = picture(tmp_path / "store/a.png", (40, 30))
        picture(tmp_path / "store/b.png", (20, 10))
        link = tmp_path / name
        link.symlink_to(target)
        found = Images.of_file(link).find(name)
        assert (found.name, found.info.size) == (name, (40, 30))

    def test_a_link_into_a_store_that_drops_suffixes(self, tmp_path: Path) -> None:
        link = tmp_path / "slides/a.png"
        link.parent.mkdir()
        link.symlink_to(picture(tmp_path / "slides/.store/d41d8c", (40, 30)))
        assert Images.of_file(link).find("a.png").info.reader == "plain"
        assert Images({"slides": tmp_path / "slides"}).find("slides/a.png").info.reader == "plain"

    def test_a_link_to_itself_and_one_to_nothing_are_explained(self, tmp_path: Path) -> None:
        (tmp_path / "loop.png").symlink_to("loop.png")
        (tmp_path / "gone.png").symlink_to("nothing.png")
        for name in ("loop.png", "gone.png"):
            with pytest.raises(UnknownImage, match="broken link or a loop"):
                Images.of_file(tmp_path / name).find(name)
            with pytest.raises(UnknownImage, match=name):
                Images({"": tmp_path}).find(name)


class TestNames:
    def test_a_bad_file_hides_no_other(self, tmp_path: Path) -> None:
        picture(tmp_path / "a.png", (4, 4))
        (tmp_path / "loop.tif").symlink_to("loop.tif")
        (tmp_path / "gone.tif").symlink_to("nothing.tif")
        (tmp_path / "away.png").symlink_to(picture(tmp_path.parent / "away.png", (4, 4)))
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/Sch\xe4del.tif")).touch()
        assert [*Images({"r": tmp_path}).names()] == ["r/a.png"]

    def test_every_kind_of_slide_is_listed(self, tmp_path: Path) -> None:
        dicom_slide(tmp_path / "s")
        unnamed = (tmp_path / "s/level1.dcm").rename(tmp_path / "s/1.2.840.1")
        shutil.copy(unnamed, tmp_path / "s/slide")
        for name in ("a.qptiff", "b.btf", "notes.txt", "README", "2024.1"):
            (tmp_path / name).write_bytes(b"II*\0")
        listed = [*Images({"": tmp_path}).names()]
        assert listed == ["a.qptiff", "b.btf", "s/1.2.840.1", "s/level4.dcm", "s/slide"]

    def test_a_name_that_is_not_utf_8_can_be_printed(self, tmp_path: Path) -> None:
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/Sch\xe4del.png"))
        name = file_name(picture(path, (4, 4)))
        assert name == "Sch\N{REPLACEMENT CHARACTER}del.png"
        assert Images.of_file(path).find(name).info.size == (4, 4)


def test_metadata_follow_the_file(tmp_path: Path) -> None:
    images = Images({"": tmp_path})
    picture(tmp_path / "a.png", (40, 30))
    first = images.find("a.png").info
    picture(tmp_path / "a.png", (30, 40))
    second = images.find("a.png").info
    assert (first.size, second.size) == ((40, 30), (30, 40))
    assert first.fingerprint != second.fingerprint


def test_a_request_can_name_one_of_several_images(tmp_path: Path) -> None:
    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for name, side in (("first", 300), ("second", 200)):
            tiff.write(np.full((side, side), side // 2, np.uint8), metadata={"Name": name})
    found = Images.of_file(path).find("two.ome.tif")
    assert found.info.size == (300, 300)
    chosen = found.of_series("second")
    assert (chosen.name, chosen.info.size) == ("two.ome.tif", (200, 200))
    # a worker opens what it is sent
    with contextlib.closing(open_image(pickle.loads(pickle.dumps(chosen.path)))) as source:
        assert (source.read_level(0, Box(0, 0, 200, 200)) == 100).all()
    with pytest.raises(NotSupported, match="only one image"):
        Images.of_file(picture(tmp_path / "a.png", (4, 4))).find("a.png").of_series(0)
