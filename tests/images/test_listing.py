"""Which names a server lists: each image once, and no link without a word."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from PIL import Image

from isoline.images.catalog import Images
from tests import volumes
from tests.slides import dicom_slide

GRID = volumes.grid((24, 20, 9))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 7)).save(path, "PNG")
    return path


def touched(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def names(root: Path) -> list[str]:
    """Return the names below `root`, all of which lead to something."""
    images = Images({"r": root})
    listed = list(images.names())
    assert all(images.path(name).exists() for name in listed)
    return listed


def test_files_of_all_kinds_in_order(root: Path) -> None:
    for name in ("b.svs", "a/z.NII.GZ", "a/y.nii", "a.png", "notes.txt", "a/deep/x.TIFF", "c.gz"):
        touched(root / name)
    assert names(root) == ["r/a/deep/x.TIFF", "r/a/y.nii", "r/a/z.NII.GZ", "r/a.png", "r/b.svs"]


def test_a_folder_of_one_series_is_one_image(root: Path) -> None:
    volumes.write_classic(root / "study" / "ct", GRID, volumes.ramp(GRID.shape))
    touched(root / "study" / "ct" / "DICOMDIR")
    assert names(root) == ["r/study/ct"]
    assert Images({"r": root}).find("r/study/ct").info.z_planes == 9


def test_slices_without_a_suffix(root: Path) -> None:
    for number, path in enumerate(
        volumes.write_classic(root / "ct", GRID, volumes.ramp(GRID.shape))
    ):
        path.rename(path.with_name(f"1.2.840.{number}"))
    assert names(root) == ["r/ct"]
    assert Images({"r": root}).find("r/ct").info.z_planes == 9


def test_a_folder_of_several_series_is_one_file_of_each(root: Path) -> None:
    first = volumes.write_classic(root / "mixed", GRID, volumes.ramp(GRID.shape))
    second = volumes.write_classic(root / "other", GRID, volumes.ramp(GRID.shape))
    volumes.as_series(second, f"{volumes.ROOT}7")
    for path in second:
        path.rename(root / "mixed" / f"z{path.name}")
    (root / "other").rmdir()
    assert names(root) == ["r/mixed/001.dcm", "r/mixed/z001.dcm"]
    found = [Images({"r": root}).find(name).info for name in names(root)]
    assert [info.z_planes for info in found] == [9, 9]
    assert found[0].fingerprint != found[1].fingerprint
    assert len(first) == 9


def test_a_series_beside_folders_or_in_the_root_itself(root: Path) -> None:
    """The folder's name would stand for several series, or would be empty."""
    volumes.write_classic(root, GRID, volumes.ramp(GRID.shape))
    volumes.write_classic(root / "a", GRID, volumes.ramp(GRID.shape))
    picture(root / "a" / "b" / "c.png")
    assert names(root) == ["r/001.dcm", "r/a/001.dcm", "r/a/b/c.png"]


def test_a_dicom_slide_is_not_a_series_of_slices(root: Path) -> None:
    dicom_slide(root / "wsi")
    assert names(root) == ["r/wsi/level1.dcm", "r/wsi/level4.dcm"]


def test_a_new_slice_of_another_series_is_noticed(root: Path) -> None:
    paths = volumes.write_classic(root / "ct", GRID, volumes.ramp(GRID.shape))
    images = Images({"r": root})
    assert list(images.names()) == ["r/ct"]
    volumes.as_series([paths[-1].rename(root / "ct" / "new.dcm")], f"{volumes.ROOT}7")
    os.utime(root / "ct", ns=(1, 1))
    assert list(images.names()) == ["r/ct/001.dcm", "r/ct/new.dcm"]


def test_links_that_stay_inside(root: Path) -> None:
    picture(root / "real" / "a.png")
    picture(root / "real" / "inner" / "b.png")
    (root / "a-link.png").symlink_to(root / "real" / "a.png")
    (root / "folder").symlink_to(root / "real")
    (root / "real" / "sideways").symlink_to(root / "real" / "inner")
    assert names(root) == [
        "r/a-link.png",
        "r/folder/a.png",
        "r/folder/inner/b.png",
        "r/real/a.png",
        "r/real/inner/b.png",
        "r/real/sideways/b.png",
    ]


def test_other_links_are_reported_once(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture(tmp_path / "elsewhere" / "a.png")
    (root / "out.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (root / "outside").symlink_to(tmp_path / "elsewhere")
    (root / "gone.svs").symlink_to(root / "nothing.svs")
    (root / "ring.svs").symlink_to(root / "ring.svs")
    picture(root / "sub" / "b.png")
    (root / "sub" / "up").symlink_to(root)
    images = Images({"r": root})
    with caplog.at_level(logging.WARNING):
        assert list(images.names()) == ["r/sub/b.png"]
        assert list(images.names()) == ["r/sub/b.png"]
    assert [record.getMessage() for record in caplog.records] == [
        "[images] r: links that lead out of it are not listed: out.png, outside; add their targets",
        "[images] r: links that lead nowhere are not listed: gone.svs, ring.svs",
        "[images] r: links to a directory that contains them are not followed: sub/up",
    ]


def test_links_that_lead_to_each_other_end(root: Path) -> None:
    for number in range(12):
        picture(root / f"d{number}" / "a.png")
    for number in range(12):
        for other in range(12):
            if other != number:
                (root / f"d{number}" / f"to{other}").symlink_to(root / f"d{other}")
    assert len(names(root)) == 12 + 12 * 11


def test_many_links_are_counted(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = picture(tmp_path / "a.png")
    for number in range(9):
        (root / f"{number}.png").symlink_to(target)
    list(Images({"r": root}).names())
    assert "not listed: 0.png, 1.png, 2.png and 6 more; add their targets" in caplog.text


def test_a_root_that_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert list(Images({"r": tmp_path / "nothing"}).names()) == []
    assert "directories that cannot be read" in caplog.text
