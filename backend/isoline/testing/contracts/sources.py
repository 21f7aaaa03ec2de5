"""The contracts of sources of pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from isoline.errors import IsolineError, Unreadable
from isoline.geometry.grid import XY, Box
from isoline.sources.source import Level, Source
from isoline.sources.volume import VolumeSource


class SourceContract:
    """The contract of sources of images. Inherit it, and provide a good file and a damaged one.

    class TestMySource(SourceContract):
        source = MySource

        @pytest.fixture
        def path(self) -> Path: ...

        @pytest.fixture
        def damaged(self) -> Path: ...
    """

    source: ClassVar[type[Source]]

    @pytest.fixture
    def path(self) -> Path:
        """Return an image of at least two tiles, neither square nor a multiple of the tile size."""
        raise NotImplementedError

    @pytest.fixture
    def damaged(self) -> Path:
        """Return a file of the same kind that cannot be opened, or not read completely."""
        raise NotImplementedError

    def test_metadata_makes_sense(self, path: Path) -> None:
        info = self.source.open(path).info
        assert info.reader == self.source.name
        bytes.fromhex(info.fingerprint)
        assert info.levels[0] == Level(info.size, XY(1.0, 1.0))
        widths = [level.size[0] for level in info.levels]
        assert widths == sorted(widths, reverse=True)
        for level in info.levels:
            for whole, part, scale in zip(info.size, level.size, level.downsample, strict=True):
                assert abs(whole / scale - part) < 1
        assert len(set(info.channels)) == len(info.channels) == len(info.background)
        assert info.dtype in (np.uint8, np.uint16)
        assert info.z_planes >= 1
        assert info.spacing_um is None or min(info.spacing_um) > 0
        assert all(problem and problem[-1] != "." for problem in info.problems)

    def test_a_read_has_the_shape_of_its_box(self, path: Path) -> None:
        source = self.source.open(path)
        for index, level in enumerate(source.info.levels):
            width, height = level.size
            for box in (Box(0, 0, 1, 1), Box(width - 7, height - 3, width, height)):
                for z in range(source.info.z_planes):
                    pixels = source.read_level(index, box, z)
                    assert pixels.shape == (len(source.info.channels), box.height, box.width)
                    assert pixels.dtype == source.info.dtype

    def test_a_pixel_depends_only_on_its_place(self, path: Path) -> None:
        source = self.source.open(path)
        for index, level in enumerate(source.info.levels):
            whole = _corner(level, 700)
            expected = source.read_level(index, whole)
            for box in _boxes(whole):
                rows, columns = whole.slices_of(box)
                np.testing.assert_array_equal(
                    source.read_level(index, box), expected[:, rows, columns]
                )

    def test_what_is_read_is_the_callers(self, path: Path) -> None:
        source = self.source.open(path)
        box = Box(0, 0, 9, 5)
        first = source.read_level(0, box)
        kept = first.copy()
        first[:] = 17
        np.testing.assert_array_equal(source.read_level(0, box), kept)

    def test_eight_threads_read_what_one_reads(self, path: Path) -> None:
        alone, shared = self.source.open(path), self.source.open(path)
        jobs = [
            (index, box)
            for index, level in enumerate(alone.info.levels)
            for box in _boxes(_corner(level, 500))
        ]
        with ThreadPoolExecutor(8) as threads:
            together = list(threads.map(lambda job: shared.read_level(*job), jobs))
        for job, pixels in zip(jobs, together, strict=True):
            np.testing.assert_array_equal(pixels, alone.read_level(*job))

    def test_reading_after_close_is_an_error(self, path: Path) -> None:
        source = self.source.open(path)
        source.close()
        with pytest.raises(ValueError, match="closed"):
            source.read_level(0, Box(0, 0, 1, 1))

    def test_a_damaged_file_is_unreadable(self, damaged: Path) -> None:
        with pytest.raises(Unreadable, match=damaged.name.split(".")[0]):
            _read_everything(self.source.open(damaged))

    def test_a_file_that_is_not_there_is_unreadable(self, tmp_path: Path) -> None:
        with pytest.raises(Unreadable):
            self.source.open(tmp_path / "nothing.tif")

    def test_a_file_of_something_else_is_refused(self, tmp_path: Path) -> None:
        for content in (b"", b"II*\0", b"not an image at all" * 99, bytes(4096)):
            file = tmp_path / "other.tif"
            file.write_bytes(content)
            with pytest.raises(IsolineError):
                self.source.open(file)


def _corner(level: Level, side: int) -> Box:
    """Return the bottom right corner of the level, where tiles are clipped."""
    width, height = level.size
    return Box(max(0, width - side), max(0, height - side), width, height)


def _boxes(whole: Box) -> list[Box]:
    rng = np.random.default_rng(5)
    boxes = [Box(whole.x0, whole.y0, whole.x0 + 1, whole.y1)]
    for _ in range(6):
        x0, y0 = rng.integers(0, whole.width - 1), rng.integers(0, whole.height - 1)
        x1, y1 = rng.integers(x0 + 1, whole.width), rng.integers(y0 + 1, whole.height)
        boxes.append(Box(int(x0), int(y0), int(x1), int(y1)).shift(whole.x0, whole.y0))
    return boxes


def _read_everything(source: Source) -> None:
    for index, level in enumerate(source.info.levels):
        width, height = level.size
        for top in range(0, height, 512):
            source.read_level(index, Box(0, top, width, min(top + 512, height)))


class VolumeSourceContract(ABC):
    """The contract of sources of volumes. Inherit it, set `source`, and provide a file."""

    source: type[VolumeSource]

    @pytest.fixture
    @abstractmethod
    def path(self, tmp_path: Path) -> Path:
        """Return a volume of 24 x 20 x 9 voxels (i, j, k)."""

    def test_it_is_an_image_of_planes(self, path: Path) -> None:
        source = self.source.open(path)
        assert isinstance(source, VolumeSource)
        info, voxels = source.info, source.voxels()
        assert info.reader == self.source.name
        bytes.fromhex(info.fingerprint)
        assert (info.kind, info.size, info.z_planes) == ("volume", (24, 20), 9)
        assert voxels.shape == source.volume.grid.shape == (9, 20, 24)
        assert voxels.dtype == info.dtype
        assert len(source.volume.slices) in (0, 9)
        box = Box(3, 2, 9, 7)
        for z in (0, 8):
            plane = source.read_level(0, box, z)
            np.testing.assert_array_equal(plane[0], voxels[z, 2:7, 3:9])
            plane[:] = 0

    def test_reading_after_close_is_an_error(self, path: Path) -> None:
        source = self.source.open(path)
        source.close()
        with pytest.raises(ValueError, match="closed"):
            source.read_level(0, Box(0, 0, 1, 1))

    def test_a_file_that_is_not_there_is_unreadable(self, tmp_path: Path) -> None:
        with pytest.raises(Unreadable):
            self.source.open(tmp_path / "nothing.nii")
