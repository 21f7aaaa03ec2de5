from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isoline.errors import ChoiceNeeded, NotSupported
from isoline.geometry.grid import XY, Box, Grid
from isoline.inference import sampling
from isoline.inference.sampling import ChannelSelection, Sampler, choose
from isoline.sources.openslide import OpenSlideSource
from isoline.sources.pyramid import RGB, level
from isoline.sources.source import ImageInfo, Level, Source
from tests.slides import textured

SIZE = (211, 157)
GLASS = (250, 240, 230)


class ArraySource(Source):
    """Levels held in memory, each an array of its own so that a wrong choice of level shows."""

    name = "array"

    def __init__(
        self, levels: list[NDArray[np.generic]], channels: tuple[str, ...], z_planes: int = 1
    ) -> None:
        self.arrays = levels
        sizes = [array.shape[:0:-1] for array in levels]
        whole = (sizes[0][0], sizes[0][1])
        background = GLASS if channels == RGB else tuple(range(len(channels)))
        self.info = ImageInfo(
            reader=self.name,
            fingerprint="00",
            kind="slide",
            levels=tuple(level(whole, (width, height)) for width, height in sizes),
            spacing_um=None,
            channels=channels,
            dtype=levels[0].dtype,
            background=background,
            z_planes=z_planes,
        )
        self.largest_read = 0

    @classmethod
    def open(cls, path: Path) -> ArraySource:
        raise NotImplementedError

    def read_level(self, level: int, box: Box, z: int = 0) -> NDArray[np.generic]:
        assert Box(0, 0, *self.info.levels[level].size).contains(box)
        self.largest_read = max(self.largest_read, box.area)
        cut: NDArray[np.generic] = self.arrays[level][:, box.y0 : box.y1, box.x0 : box.x1]
        moved: NDArray[np.generic] = cut + cut.dtype.type(z)
        return moved

    def close(self) -> None:
        """Nothing to give back."""


def rgb_source() -> ArraySource:
    """Scales 1, 3 and 7.03 x 7.14, as interleaved as a file gives them."""
    sizes = (SIZE, (SIZE[0] // 3, SIZE[1] // 3), (30, 22))
    return ArraySource(
        [np.moveaxis(textured(size, seed), 2, 0) for seed, size in enumerate(sizes)], RGB
    )


def deep_source() -> ArraySource:
    rng = np.random.default_rng(2)
    return ArraySource(
        [rng.integers(0, 65536, (4, SIZE[1], SIZE[0]), np.uint16)], ("a", "b", "c", "d")
    )


SOURCES = (rgb_source(), deep_source())
scales = st.one_of(
    st.sampled_from([1.0, 2.0, 3.0, 0.5, 6.0, 7.0]),
    st.floats(0.3, 12.0, allow_nan=False, allow_infinity=False),
)


@st.composite
def windows(draw: st.DrawFn) -> tuple[Sampler, Box, Box]:
    """Return a sampler, a box that may reach beyond its grid, and a box within that one."""
    source = draw(st.sampled_from(SOURCES))
    grid = Grid(SIZE, XY(draw(scales), draw(scales)))
    width, height = grid.size
    x0, y0 = draw(st.integers(-9, width)), draw(st.integers(-9, height))
    outer = Box(x0, y0, x0 + draw(st.integers(1, 60)), y0 + draw(st.integers(1, 60)))
    x1 = draw(st.integers(outer.x0, outer.x1 - 1))
    y1 = draw(st.integers(outer.y0, outer.y1 - 1))
    inner = Box(x1, y1, draw(st.integers(x1 + 1, outer.x1)), draw(st.integers(y1 + 1, outer.y1)))
    return Sampler(source, grid), outer, inner


class TestPlace:
    @settings(max_examples=150, deadline=None)
    @given(windows())
    def test_a_pixel_is_the_same_in_every_window(self, drawn: tuple[Sampler, Box, Box]) -> None:
        sampler, outer, inner = drawn
        rows, columns = outer.slices_of(inner)
        np.testing.assert_array_equal(sampler.read(inner), sampler.read(outer)[:, rows, columns])

    @settings(max_examples=60, deadline=None)
    @given(windows())
    def test_resampling_agrees_with_the_slow_twin(self, drawn: tuple[Sampler, Box, Box]) -> None:
        sampler, _, inner = drawn
        expected = slow_read(sampler, inner)
        # the weights are rounded to 1/4096 at each edge of a pixel
        tolerance = 1 + 256**expected.dtype.itemsize / 512
        difference = np.abs(sampler.read(inner).astype(float) - expected.astype(float))
        assert difference.max() <= tolerance

    def test_native_pixels_come_straight_from_their_level(self) -> None:
        source = rgb_source()
        assert len(source.info.levels) == len(source.arrays) > 1
        for index, native in enumerate(source.info.levels):
            sampler = Sampler(source, Grid(SIZE, native.downsample))
            assert sampler.level == index
            box = Box(3, 2, 20, 19)
            np.testing.assert_array_equal(
                sampler.read(box), source.arrays[index][:, 2:19, 3:20], strict=True
            )

    def test_whole_reductions_are_rounded_means(self) -> None:
        source = rgb_source()
        read = Sampler(source, Grid(SIZE, XY(2.0, 2.0))).read(Box(5, 7, 55, 60))
        native = source.arrays[0][:, 14:120, 10:110].astype(float)
        means = native.reshape(3, 53, 2, 50, 2).mean(axis=(2, 4))
        np.testing.assert_array_equal(read, np.floor(means + 0.5))

    def test_a_flat_image_stays_flat(self) -> None:
        for value, dtype in ((255, np.uint8), (65535, np.uint16), (1, np.uint8)):
            source = ArraySource([np.full((1, 90, 70), value, dtype)], ("a",))
            for scale in (0.37, 1.3, 2.7, 9.99, 44.0):
                grid = Grid((70, 90), XY(scale, scale))
                assert np.unique(Sampler(source, grid).read(grid.bounds)).tolist() == [value]

    def test_outside_the_grid_is_background(self) -> None:
        sampler = Sampler(rgb_source(), Grid(SIZE, XY(2.0, 2.0)))
        width, height = sampler.grid.size
        read = sampler.read(Box(-3, -2, width + 4, height + 5))
        assert read.shape == (3, height + 7, width + 7)
        for strip in (read[:, :2], read[:, -5:], read[:, :, :3], read[:, :, -4:]):
            assert (strip == np.array(GLASS)[:, None, None]).all()
        np.testing.assert_array_equal(read[:, 2:-5, 3:-4], sampler.read(sampler.grid.bounds))
        assert (sampler.read(Box(-9, -9, -5, -5)) == np.array(GLASS)[:, None, None]).all()

    def test_channels_and_plane_are_those_selected(self) -> None:
        source = deep_source()
        read = Sampler(source, Grid(SIZE, XY(1.0, 1.0)), ChannelSelection((3, 1), 2)).read(
            Box(-1, 0, 9, 9)
        )
        np.testing.assert_array_equal(read[:, :, 1:], source.arrays[0][[3, 1], :9, :9] + 2)
        assert read[:, 0, 0].tolist() == [3, 1]

    def test_a_large_box_is_read_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        source = rgb_source()
        grid = Grid(SIZE, XY(1.7, 2.3))
        whole = Sampler(source, grid).read(grid.bounds)
        monkeypatch.setattr(sampling, "MAX_READ_BYTES", 3000)
        source.largest_read = 0
        np.testing.assert_array_equal(Sampler(source, grid).read(grid.bounds), whole)
        assert source.largest_read <= 1000

    def test_a_real_slide_at_two_spacings(self, real_slide: Path) -> None:
        source = OpenSlideSource.open(real_slide)
        for spacing_um, expected in ((0.3, 0), (1.0, 1)):
            scale = spacing_um / 0.2457
            sampler = Sampler(source, Grid(source.info.size, XY(scale, scale)))
            assert sampler.level == expected
            box = Box(3000, 2000, 3060, 2050)
            rows, columns = box.slices_of(Box(3010, 2020, 3050, 2030))
            whole = sampler.read(box)
            np.testing.assert_array_equal(
                sampler.read(Box(3010, 2020, 3050, 2030)), whole[:, rows, columns]
            )


def slow_read(sampler: Sampler, box: Box) -> NDArray[np.generic]:
    """Return what `sampler` should read, in floats, one grid pixel after the other."""
    source = sampler.source
    info, level = source.info, source.info.levels[sampler.level]
    native = source.read_level(sampler.level, Box(0, 0, *level.size)).astype(float)
    out = np.empty((len(info.channels), box.height, box.width))
    for y in range(box.height):
        for x in range(box.width):
            column, row = box.x0 + x, box.y0 + y
            if not Box(column, row, column + 1, row + 1).meets(sampler.grid.bounds):
                out[:, y, x] = info.background
                continue
            across = slow_weights(column, sampler.grid.scale.x / level.downsample.x, level.size[0])
            down = slow_weights(row, sampler.grid.scale.y / level.downsample.y, level.size[1])
            out[:, y, x] = np.einsum("cyx,y,x->c", native, down, across)
    return np.floor(out + 0.5).astype(info.dtype)


def slow_weights(index: int, ratio: float, length: int) -> NDArray[np.float64]:
    weights = np.zeros(length)
    if ratio >= 1:
        low, high = index * ratio, (index + 1) * ratio
        for pixel in range(math.floor(low), math.ceil(high)):
            overlap = min(pixel + 1, high) - max(pixel, low)
            weights[min(pixel, length - 1)] += overlap / ratio
        return weights
    centre = (index + 0.5) * ratio - 0.5
    left = math.floor(centre)
    for pixel, weight in ((left, left + 1 - centre), (left + 1, centre - left)):
        weights[min(max(pixel, 0), length - 1)] += weight
    return weights


def info_of(channels: tuple[str, ...], z_planes: int = 1) -> ImageInfo:
    return ArraySource([np.zeros((len(channels), 4, 4), np.uint8)], channels, z_planes).info


class TestLevels:
    @pytest.mark.parametrize(
        ("scale", "expected"), [(0.4, 0), (1, 0), (3.99, 0), (3.9999, 1), (4, 1), (15, 1), (99, 2)]
    )
    def test_the_coarsest_that_is_fine_enough(self, scale: float, expected: int) -> None:
        source = rgb_source()
        sizes = ((1600, 800), (400, 200), (100, 50))
        levels = tuple(Level(size, XY(1600 / size[0], 800 / size[1])) for size in sizes)
        object.__setattr__(source.info, "levels", levels)
        assert sampling.coarsest_level(source.info, Grid(sizes[0], XY(scale, scale))) == expected


class TestChoose:
    def test_no_choice_to_make(self) -> None:
        assert choose(info_of(RGB), (3,)) == ChannelSelection((0, 1, 2), 0)
        assert choose(info_of(("grey",)), (1, 3)) == ChannelSelection((0,), 0)

    def test_by_name_and_by_index_in_the_models_order(self) -> None:
        info = info_of(("DAPI", "CD3", "PanCK"), z_planes=3)
        assert choose(info, (1,), "dapi", 2) == ChannelSelection((0,), 2)
        assert choose(info, (2,), ("PanCK", 0), 0) == ChannelSelection((2, 0), 0)
        assert choose(info_of(RGB), (1, 3), "green") == ChannelSelection((1,), 0)

    @pytest.mark.parametrize("given", ["2", 2])
    def test_a_name_wins_over_an_index(self, given: str | int) -> None:
        assert choose(info_of(("1", "2", "3")), (1,), given).channels == (1,)
        assert choose(info_of(("DAPI", "CD3", "PanCK")), (1,), given).channels == (2,)

    @pytest.mark.parametrize("given", ["488", 488])
    def test_wavelengths_are_names(self, given: str | int) -> None:
        assert choose(info_of(("405", "488", "561")), (1,), given).channels == (1,)
        with pytest.raises(NotSupported, match="no channel"):
            choose(info_of(("DAPI", "CD3")), (1,), given)

    def test_a_choice_is_needed(self) -> None:
        with pytest.raises(ChoiceNeeded, match="DAPI, CD3, PanCK"):
            choose(info_of(("DAPI", "CD3", "PanCK")), (1,))
        with pytest.raises(ChoiceNeeded, match="DAPI, CD3, PanCK"):
            # three stains are not the three colours that the model knows
            choose(info_of(("DAPI", "CD3", "PanCK")), (3,))
        with pytest.raises(ChoiceNeeded, match="red, green, blue"):
            choose(info_of(RGB), (1,))
        with pytest.raises(ChoiceNeeded, match="planes 0 to 4"):
            choose(info_of(RGB, z_planes=5), (3,))

    def test_a_choice_that_is_not_there(self) -> None:
        info = info_of(("DAPI", "CD3"))
        with pytest.raises(NotSupported, match="no channel 'PanCK'; it has DAPI, CD3"):
            choose(info, (1,), "PanCK")
        with pytest.raises(NotSupported, match="no channel 2"):
            choose(info, (1,), 2)
        with pytest.raises(NotSupported, match="takes 1 channels, not 2"):
            choose(info, (1,), ("DAPI", "CD3"))
        with pytest.raises(NotSupported, match="takes 3 channels; the image has"):
            choose(info, (3,))
        with pytest.raises(NotSupported, match="no plane 1"):
            choose(info, (1,), 0, 1)
