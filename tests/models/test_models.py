"""The built-in models: their contract, exactness at any tiling, and how well they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import cc3d
import cv2
import numpy as np
import openslide
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from isoline.domain.request import Value
from isoline.errors import BadSpacing, NotSupported
from isoline.geometry.grid import XY, Box
from isoline.kernels import maxtree, shape
from isoline.kernels.expand import expand
from isoline.models import stain
from isoline.models.epithelium import READ_PX, Epithelium, decide
from isoline.models.model import Classes, Regions, Unbounded
from isoline.models.nuclei import MAX_EXTENT_UM, Nuclei
from isoline.models.threshold import Threshold, luminance
from isoline.models.tissue import Tissue
from isoline.models.tissue_mask import Glass, evidence, ink, sample_windows, tissue_mask
from isoline.testing.contracts import ModelContract, patches
from tests.benchmarks import quality
from tests.conftest import Labelled, fetched

cv2.setNumThreads(1)

UM = 0.2457
"""Pixel size of the real slide."""


def planar(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.moveaxis(rgb, 2, 0), np.uint8)


def opened(path: Path) -> NDArray[np.uint8]:
    """Return (3, y, x)."""
    return planar(np.asarray(Image.open(path).convert("RGB")))


def nuclei_picture(pixels: NDArray[np.uint8], um: float) -> patches.Picture:
    picture = patches.Picture(pixels, XY(um, um), patches.defaults(Nuclei))
    statistics = Nuclei({}, "cpu").statistics([picture.patch(picture.bounds)])
    return replace(picture, statistics=statistics)


@pytest.fixture(scope="module")
def slide_pixels(real_slide: Path) -> NDArray[np.uint8]:
    """(3, 2300, 2300) of the slide, dense tissue in it, at full resolution."""
    slide = openslide.OpenSlide(str(real_slide))
    region = np.asarray(slide.read_region((24000, 4500), 0, (2300, 2300)))[..., :3]
    slide.close()
    return planar(region)


@pytest.fixture(scope="module")
def mosaic() -> NDArray[np.uint8]:
    """(3, 620, 700) of blobs so dense that at most levels they percolate across the image."""
    noise = np.random.default_rng(5).normal(size=(620, 700)).astype(np.float32)
    rough = cv2.GaussianBlur(noise, (0, 0), 3.5)
    depth = np.clip(1.0 + 0.9 * rough / rough.std(), 0, 3)
    vectors = stain.HEMATOXYLIN[:, None, None] * depth + stain.EOSIN[:, None, None] * 0.3
    return np.asarray(np.rint(250 * np.exp(-vectors)), np.uint8)


class TestThresholdContract(ModelContract):
    kind = Threshold
    spacing_um = None

    @pytest.fixture
    def pixels(self) -> NDArray[np.generic]:
        return np.random.default_rng(1).integers(0, 65536, (1, 301, 407)).astype(np.uint16)


class TestTissueContract(ModelContract):
    kind = Tissue
    spacing_um = XY(4.0, 4.0)

    @pytest.fixture
    def pixels(self, mosaic: NDArray[np.uint8]) -> NDArray[np.generic]:
        # tissue with a ragged edge towards glass
        ragged = cv2.GaussianBlur(mosaic[1, :401, :503], (0, 0), 9) > 105
        return np.where(ragged, np.uint8(243), mosaic[:, :401, :503])


class TestNucleiContract(ModelContract):
    kind = Nuclei
    spacing_um = XY(0.5, 0.5)

    @pytest.fixture
    def pixels(self, histo: Path) -> NDArray[np.generic]:
        return opened(histo)


class TestCellsContract(TestNucleiContract):
    parameters: ClassVar[Mapping[str, Value]] = {"cell_expansion_um": 4.0}


@pytest.mark.slow
class TestEpitheliumContract(ModelContract):
    kind = Epithelium
    spacing_um = XY(1.0, 1.0)

    @pytest.fixture
    def pixels(self, patch1: Labelled) -> NDArray[np.generic]:
        small = cv2.resize(patch1[0], None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        return planar(np.asarray(small, np.uint8))

    @pytest.fixture
    def weights(self, shell: Mapping[str, Path]) -> Mapping[str, Path]:
        return shell


@pytest.fixture(scope="session")
def shell() -> Mapping[str, Path]:
    return {pinned.file: fetched(pinned) for pinned in Epithelium.spec.weights}


class TestThreshold:
    def test_luminance_is_rounded_luma(self) -> None:
        rgb = np.random.default_rng(0).integers(0, 256, (3, 50, 60)).astype(np.uint8)
        exact = np.tensordot([299, 587, 114], rgb.astype(np.int64), 1)
        assert np.array_equal(luminance(rgb), (exact + 500) // 1000)

    def test_the_high_byte_of_16_bits_counts(self) -> None:
        levels = np.array([[[0, 255, 256, 65535]]], np.uint16)
        assert luminance(levels).tolist() == [[0, 0, 1, 255]]

    def test_other_types_are_refused(self) -> None:
        with pytest.raises(NotSupported, match="float32"):
            luminance(np.zeros((1, 2, 2), np.float32))

    @pytest.mark.parametrize(
        ("below", "above", "expected"),
        [(100, 255, [1, 0, 0, 0]), (0, 200, [0, 0, 0, 1]), (100, 200, [1, 0, 0, 1])],
    )
    def test_both_sides_are_strict(self, below: int, above: int, expected: list[int]) -> None:
        picture = patches.Picture(
            np.array([[[99, 100, 200, 201]]], np.uint8),
            None,
            patches.defaults(Threshold, below=below, above=above),
        )
        found = Threshold({}, "cpu").infer(picture.patch(picture.bounds))
        assert found.classes.tolist() == [expected]

    def test_output_follows_the_parameter(self) -> None:
        assert isinstance(Threshold.output(patches.defaults(Threshold)), Unbounded)
        assert isinstance(Threshold.output(patches.defaults(Threshold, output="mask")), Regions)


class TestTissue:
    def test_it_finds_tissue_and_leaves_out_pens_and_dust(self) -> None:
        pixels = np.full((3, 300, 500), 243, np.uint8)
        marks = {  # x: colour; each 60 wide, the first two are tissue
            20: (215, 165, 200),
            100: (180, 130, 95),
            180: (40, 140, 70),
            260: (20, 20, 22),
            340: (226, 227, 225),
            420: (40, 50, 200),
        }
        for x, colour in marks.items():
            pixels[:, 100:200, x : x + 60] = np.reshape(colour, (3, 1, 1))
        picture = patches.Picture(pixels, XY(4.0, 4.0), patches.defaults(Tissue))
        model = Tissue({}, "cpu")
        picture = replace(picture, statistics=model.statistics([picture.patch(picture.bounds)]))
        prediction = model.infer(picture.patch(picture.bounds))
        found = [int(prediction.classes[150, x + 30]) for x in marks]
        assert found == [1, 1, 0, 0, 0, 0]
        assert prediction.classes[:60].max() == 0
        with_pens = replace(picture, parameters=patches.defaults(Tissue, leave_out_pens=False))
        found = [
            int(model.infer(with_pens.patch(picture.bounds)).classes[150, x + 30]) for x in marks
        ]
        assert found == [1, 1, 1, 1, 0, 1]

    def test_the_mask_of_the_real_slide_is_generous(self, real_slide: Path) -> None:
        slide = openslide.OpenSlide(str(real_slide))
        size = slide.level_dimensions[2]
        rgb = planar(np.asarray(slide.read_region((0, 0), 2, size))[..., :3])
        slide.close()
        mask = tissue_mask(rgb)
        assert mask.shape == size[::-1]
        assert 0.10 < mask.mean() < 0.20
        coloured = np.ptp(rgb.astype(np.int16), axis=0) > 40
        pieces, labels, stats, _ = cv2.connectedComponentsWithStats(coloured.astype(np.uint8))
        assert pieces > 2
        assert mask[np.isin(labels, np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] > 3) + 1)].all()
        assert not mask[:80].all(axis=1).any()

    def test_a_slide_of_tissue_alone_is_all_tissue(self, mosaic: NDArray[np.uint8]) -> None:
        assert tissue_mask(mosaic).mean() > 0.99

    @pytest.mark.parametrize(
        "glass", [(235, 225, 180), (190, 220, 190), (150, 150, 150), (120, 125, 118)]
    )
    def test_tinted_and_dark_glass_is_glass(self, glass: tuple[int, int, int]) -> None:
        pixels = np.empty((3, 300, 400), np.uint8)
        pixels[:] = np.reshape(glass, (3, 1, 1))
        pixels[:, 100:200, 100:300] = pixels[:, 100:200, 100:300] * np.reshape(
            (0.8, 0.5, 0.7), (3, 1, 1)
        )
        noise = np.random.default_rng(0).integers(-3, 4, pixels.shape)
        picture = patches.Picture(
            (pixels + noise).astype(np.uint8), XY(4, 4), patches.defaults(Tissue)
        )
        patch = picture.patch(picture.bounds)
        patch = replace(patch, statistics=Tissue({}, "cpu").statistics([patch]))
        found = Tissue({}, "cpu").infer(patch).classes
        assert abs(int(found.sum()) - 100 * 200) < 1000
        assert found[150, 200]
        assert not found[20, 20]

    def test_empty_glass_has_none(self) -> None:
        noise = np.random.default_rng(2).integers(236, 244, (3, 200, 300)).astype(np.uint8)
        assert not tissue_mask(noise).any()

    def test_grey_counts_half_and_ink_is_told_by_colour(self) -> None:
        white = np.full(3, 240, np.uint8)
        grey, pink = np.array([140, 140, 140], np.uint8), np.array([230, 170, 200], np.uint8)
        assert evidence(grey, white) == 50
        assert evidence(pink, white) == 60
        assert not ink(pink.reshape(3, 1)).any()
        assert Glass.of(np.repeat(white[:, None], 100, axis=1)).white.tolist() == [240, 240, 240]


class TestSampleWindows:
    @given(
        width=st.integers(1, 3000),
        height=st.integers(1, 3000),
        side=st.integers(64, 512),
        count=st.integers(1, 30),
        seed=st.integers(0, 9),
    )
    @settings(max_examples=60, deadline=None)
    def test_they_lie_inside_in_raster_order_and_are_one_size(
        self, width: int, height: int, side: int, count: int, seed: int
    ) -> None:
        mask = np.random.default_rng(seed).random((-(-height // 64), -(-width // 64))) < 0.3
        bounds = Box(0, 0, width, height)
        windows = sample_windows(mask, XY(64.0, 64.0), bounds, count=count, side=side)
        assert 1 <= len(windows) <= count
        assert all(bounds.contains(window) for window in windows)
        assert len({(window.width, window.height) for window in windows}) == 1
        order = [(window.y0, window.x0) for window in windows]
        assert order == sorted(set(order))
        assert windows == sample_windows(mask, XY(64.0, 64.0), bounds, count=count, side=side)

    def test_they_lie_on_tissue(self) -> None:
        mask = np.zeros((100, 200), np.bool_)
        mask[40:70, 50:160] = True
        windows = sample_windows(mask, XY(64.0, 64.0), Box(0, 0, 12800, 6400), count=24)
        assert len(windows) == 24
        share = [mask[w.y0 // 64 : w.y1 // 64, w.x0 // 64 : w.x1 // 64].mean() for w in windows]
        assert min(share) > 0.7


class TestMaxTree:
    def brute(self, value: NDArray[np.uint8], floor: int) -> set[tuple[int, ...]]:
        """Return the nodes: pixels, sides, drop, of each component of each level set."""
        import cc3d

        nodes = set()
        for level in range(max(floor, 1), 256):
            if not (value == level).any():
                continue
            parts = cc3d.connected_components((value >= level).astype(np.uint8), connectivity=4)
            for number in np.unique(parts[value == level]):
                inside = parts == number
                sides = drop = 0
                for axis in (0, 1):
                    a, b = (np.moveaxis(array, axis, 0) for array in (inside, value.astype(int)))
                    crossing = a[1:] != a[:-1]
                    sides += int(crossing.sum())
                    drop += int(np.abs(b[1:] - b[:-1])[crossing].sum())
                y, x = np.nonzero(inside)
                box = (x.min(), y.min(), x.max(), y.max())
                sums = (x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum())
                nodes.add((len(x), sides, drop, *map(int, box), *map(int, sums)))
        return nodes

    @given(seed=st.integers(0, 10**6), levels=st.sampled_from([2, 4, 40]), floor=st.integers(1, 3))
    @settings(max_examples=60, deadline=None)
    def test_its_nodes_are_the_components_of_all_level_sets(
        self, seed: int, levels: int, floor: int
    ) -> None:
        rng = np.random.default_rng(seed)
        value = rng.integers(0, levels, rng.integers(1, 12, 2)).astype(np.uint8)
        tree = maxtree.build(value, floor)
        sums = maxtree.measure(value, tree)
        nodes = [
            (int(a), int(p), int(d), *map(int, box), *map(int, moments))
            for is_node, a, p, d, box, moments in zip(
                tree.is_node, sums.area, sums.perimeter, sums.drop, sums.box, sums.moments,
                strict=True,
            )
            if is_node
        ]  # fmt: skip
        assert len(set(nodes)) == len(nodes)
        assert set(nodes) == self.brute(value, floor)

    def test_one_good_whole_beats_its_parts_and_two_good_parts_beat_a_poor_whole(self) -> None:
        value = np.array([[9, 5, 9, 0]], np.uint8)
        tree = maxtree.build(value, 1)
        area = maxtree.measure(value, tree).area
        for whole, expected in ((100, [1, 1, 1, 0]), (40, [1, 0, 2, 0])):
            score = np.where(area == 3, whole, 80).astype(np.int32)
            labels = np.zeros(value.shape, np.int32)
            maxtree.paint(tree, maxtree.select(tree, area, score), labels)
            assert labels[0].tolist() == expected


class TestShape:
    def tidy(self, mask: NDArray[np.bool_], min_area: int = 20) -> NDArray[np.int32]:
        labels, origin = shape.tidy(mask.astype(np.int32), 1, 2, 6, 12, min_area)
        assert len(origin) == labels.max()
        assert not origin.any()
        return labels

    def test_holes_are_filled_and_spurs_cut(self) -> None:
        y, x = np.mgrid[:60, :60]
        disc = np.hypot(x - 30, y - 30) < 15
        mask = disc & (np.hypot(x - 28, y - 33) > 4)
        mask[30, 40:58] = True
        tidied = self.tidy(mask) > 0
        assert (tidied & ~disc).sum() < 4
        assert (disc & ~tidied).sum() < 12

    def test_what_lies_in_a_hole_is_swallowed(self) -> None:
        y, x = np.mgrid[:60, :60]
        away = np.hypot(x - 30, y - 30)
        for outer, inner in ((1, 2), (2, 1)):
            labels = np.where(away < 6, inner, np.where((away > 10) & (away < 20), outer, 0))
            tidied, origin = shape.tidy(labels.astype(np.int32), 2, 2, 6, 12, 20)
            assert origin.tolist() == [outer - 1]
            assert (tidied > 0).sum() > 0.98 * (away < 20).sum()

    def test_a_pair_is_parted_at_its_neck_and_an_ellipse_is_not(self) -> None:
        y, x = np.mgrid[:60, :90]
        pair = (np.hypot(x - 30, y - 30) < 14) | (np.hypot(x - 54, y - 30) < 14)
        parted = self.tidy(pair)
        assert parted.max() == 2
        assert len(np.unique(parted[:, :41])) == len(np.unique(parted[:, 44:])) == 2
        ellipse = np.hypot((x - 45) / 35, (y - 30) / 12) < 1
        assert self.tidy(ellipse).max() == 1

    @given(seed=st.integers(0, 10**6))
    @settings(max_examples=40, deadline=None)
    def test_it_does_not_matter_where_an_object_lies(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        blob = cv2.GaussianBlur(rng.normal(size=(40, 50)).astype(np.float32), (0, 0), 3) > 0
        canvas = np.zeros((90, 100), np.bool_)
        here, there = canvas.copy(), canvas.copy()
        here[:40, :50] = there[31:71, 17:67] = blob
        assert np.array_equal(self.tidy(here)[:40, :50], self.tidy(there)[31:71, 17:67])


class TestExpand:
    def brute(self, labels: NDArray[np.int32], limit: int) -> NDArray[np.int32]:
        """Compare every pixel with every pixel of every object."""
        y, x = np.nonzero(labels)
        number = labels[y, x]
        _, first, inverse = np.unique(number, return_index=True, return_inverse=True)
        near = np.zeros_like(labels)
        for v, u in np.ndindex(labels.shape):
            square = (y - v) ** 2 + (x - u) ** 2
            nearest = np.lexsort((first[inverse], square))[:1]
            if (square[nearest] <= limit).all():
                near[v, u] = number[nearest].sum()
        pieces = cc3d.connected_components(near, connectivity=4)
        return np.where(np.isin(pieces, pieces[labels > 0]), near, 0)

    @given(
        seed=st.integers(0, 10**6),
        density=st.sampled_from([0, 0.02, 0.1, 0.4]),
        limit=st.sampled_from([0, 1, 2, 5, 17, 100]),
    )
    @settings(max_examples=150, deadline=None)
    def test_a_pixel_belongs_to_the_object_nearest_to_it(
        self, seed: int, density: float, limit: int
    ) -> None:
        rng = np.random.default_rng(seed)
        shape = rng.integers(1, 20, 2)
        labels = np.where(rng.random(shape) < density, rng.integers(1, 6, shape), 0)
        grown = expand(labels.astype(np.int32), 5, limit)
        assert np.array_equal(grown, self.brute(labels.astype(np.int32), limit))
        assert np.array_equal(grown[labels > 0], labels[labels > 0])

    def test_a_tie_goes_to_the_object_that_begins_first(self) -> None:
        row = np.array([[2, 0, 1]], np.int32)
        assert expand(row, 2, 1).tolist() == [[2, 2, 1]]
        later = np.array([[0, 0, 1], [2, 0, 1]], np.int32)
        assert expand(later, 2, 1)[1].tolist() == [2, 1, 1]

    def test_what_is_cut_off_from_its_object_is_no_ones(self) -> None:
        labels = np.zeros((9, 9), np.int32)
        labels[4, 3], labels[3, 3:6], labels[5, 4] = 1, 2, 3
        assert np.array_equal(expand(labels, 3, 50), self.brute(labels, 50))


class TestStains:
    @given(
        first=st.floats(-6, 6),
        second=st.floats(-6, 6),
        white=st.tuples(*[st.integers(225, 250)] * 3),
    )
    @settings(max_examples=20, deadline=None)
    def test_known_stains_are_found(
        self, first: float, second: float, white: tuple[int, int, int]
    ) -> None:
        """Two stains a few degrees off the book, mixed at random, on tinted glass."""
        true = np.stack([_turned(stain.HEMATOXYLIN, first), _turned(stain.EOSIN, second)])
        amounts = np.random.default_rng(3).gamma(1.5, 0.5, (2, 20_000))
        amounts[:, :4000] = 0
        light = np.reshape(white, (3, 1)) * np.exp(-true.T @ amounts)
        stains = stain.estimate(np.rint(light).astype(np.uint8), trust=1)
        assert np.abs(stains.white.astype(int) - white).max() <= 1
        angles = np.rad2deg(np.arccos(np.clip((stains.vectors * true).sum(axis=1), -1, 1)))
        assert angles.max() < 6

    @pytest.mark.parametrize(
        "spoil",
        [
            "black rows",
            "white rows",
            "black specks",
            "turned",
            "black pen",
            "green pen",
            "blue pen",
        ],
    )
    def test_what_is_no_tissue_does_not_count(
        self, slide_pixels: NDArray[np.uint8], spoil: str
    ) -> None:
        """A picture that was cut, turned or drawn on has the scale of hematoxylin that it had."""
        clean = np.ascontiguousarray(slide_pixels[:, :1000, :1000])
        spoilt = _spoilt(clean, spoil)
        assert (spoilt != clean).mean() > 0.002
        wanted, found = (
            nuclei_picture(pixels, UM).statistics["scale"].astype(float)
            for pixels in (clean, spoilt)
        )
        assert np.abs(found / wanted - 1).max() < 0.06

    def test_little_tissue_and_much_ink_are_told(self, slide_pixels: NDArray[np.uint8]) -> None:
        model = Nuclei({}, "cpu")

        def remarks(pixels: NDArray[np.uint8]) -> tuple[str, ...]:
            picture = patches.Picture(pixels, XY(UM, UM), patches.defaults(Nuclei))
            return model.remarks([picture.patch(picture.bounds)])

        clean = np.ascontiguousarray(slide_pixels[:, :500, :500])
        assert remarks(clean) == ()
        half = clean.copy()
        half[:, 250:] = 0
        (said,) = remarks(half)
        assert "black or felt pen" in said
        (said,) = remarks(np.full((3, 500, 500), 240, np.uint8))
        assert "too little tissue" in said

    def test_dab_is_recognised(self, ihc: Path) -> None:
        counterstain = stain.estimate(opened(ihc).reshape(3, -1)).vectors[1]
        assert counterstain[2] > counterstain[1] > counterstain[0]

    def test_glass_alone_gives_the_priors(self) -> None:
        stains = stain.estimate(np.full((3, 5000), 240, np.uint8))
        assert np.allclose(stains.vectors[0], stain.HEMATOXYLIN, atol=0.01)


def _spoilt(pixels: NDArray[np.uint8], how: str) -> NDArray[np.uint8]:
    """Return `pixels` (3, y, x) with an artefact."""
    out: NDArray[Any] = np.ascontiguousarray(np.moveaxis(pixels, 0, 2))
    pens = {"black pen": (20, 20, 25), "green pen": (20, 130, 60), "blue pen": (20, 40, 200)}
    match how:
        case "black rows":
            out[:20] = 0
        case "white rows":
            out[:200] = 255
        case "black specks":
            out[np.random.default_rng(0).random(out.shape[:2]) < 0.003] = 0
        case "turned":
            out = cv2.warpAffine(out, cv2.getRotationMatrix2D((500, 500), 7, 1), (1000, 1000))
        case _:
            out = cv2.line(out, (0, 100), (1000, 700), pens[how], 60, cv2.LINE_AA)
    return planar(out)


class TestNuclei:
    @pytest.mark.parametrize("side", [256, 512, 1024])
    @pytest.mark.slow
    def test_tiles_equal_the_whole_on_a_real_slide(
        self, slide_pixels: NDArray[np.uint8], side: int
    ) -> None:
        picture = nuclei_picture(slide_pixels, UM)
        model, halo = Nuclei({}, "cpu"), patches.halo_of(Nuclei, picture)
        area = Box(126, 126, 2174, 2174)  # 2048 pixels, off the lattice, every read cut
        whole = patches.objects_by_tile(model, picture, area, 4096, halo)
        assert len(whole) > 200
        assert patches.objects_by_tile(model, picture, area, side, halo) == whole

    @pytest.mark.parametrize("side", [128, 200, 333])
    def test_tiles_equal_the_whole_where_everything_touches(
        self, mosaic: NDArray[np.uint8], side: int
    ) -> None:
        picture = nuclei_picture(mosaic, 0.5)
        model, halo = Nuclei({}, "cpu"), patches.halo_of(Nuclei, picture)
        whole = patches.objects_by_tile(model, picture, picture.bounds, 1024, halo)
        assert len(whole) > 100
        assert patches.objects_by_tile(model, picture, picture.bounds, side, halo) == whole

    def test_a_short_halo_shows(self, mosaic: NDArray[np.uint8]) -> None:
        """The tests above can fail."""
        picture = nuclei_picture(mosaic, 0.5)
        model = Nuclei({}, "cpu")
        whole = patches.objects_by_tile(model, picture, picture.bounds, 1024, 60)
        assert patches.objects_by_tile(model, picture, picture.bounds, 128, 12) != whole

    def test_no_nucleus_is_larger_than_the_bound(self, mosaic: NDArray[np.uint8]) -> None:
        picture = nuclei_picture(mosaic, 0.5)
        found = patches.objects_by_tile(Nuclei({}, "cpu"), picture, picture.bounds, 1024, 60)
        assert max(pixels[0] for _, _, pixels in found) * 0.5 <= MAX_EXTENT_UM

    def test_a_nucleus_at_the_true_border_counts_and_at_a_cut_does_not(self) -> None:
        y, x = np.mgrid[:80, :80]
        pixels = np.full((3, 80, 80), 225, np.uint8)
        pixels[:, np.hypot(x - 2, y - 40) < 14] = np.array([[70], [50], [130]])
        picture = nuclei_picture(pixels, 0.25)
        model = Nuclei({}, "cpu")
        assert model.infer(picture.patch(Box(-1, -1, 81, 81))).labels.max() == 1
        assert model.infer(picture.patch(Box(0, -1, 81, 81))).labels.max() == 0

    def test_it_does_as_well_as_it_should_on_labelled_nuclei(self, patch1: Labelled) -> None:
        """F1 at IoU 0.5, as is and under stain and brightness shifts and at half resolution."""
        f1 = {row.name: row.score.f1 for row in quality.rows(*patch1)}
        assert f1["as it is"] >= 0.6
        assert min(f1.values()) >= f1["as it is"] - 0.1, f1

    def test_measurements_mean_what_they_say(self, histo: Path) -> None:
        picture = nuclei_picture(opened(histo), 0.5)
        measured = Nuclei({}, "cpu").infer(picture.patch(picture.bounds.grow(60))).measurements
        assert set(measured) == {"score", "hematoxylin_od", "circularity"}
        assert 0.5 <= measured["score"].min() <= measured["score"].max() <= 1
        assert 0.2 < measured["hematoxylin_od"].min() < measured["hematoxylin_od"].max() < 5
        assert 0.2 < measured["circularity"].min() <= measured["circularity"].max() <= 1

    def test_a_higher_score_finds_fewer(self, histo: Path) -> None:
        picture = nuclei_picture(opened(histo), 0.5)
        counts = []
        for least in (0.3, 0.5, 0.65):
            asked = replace(picture, parameters=patches.defaults(Nuclei, min_score=least))
            found = Nuclei({}, "cpu").infer(asked.patch(picture.bounds.grow(60)))
            counts.append(int(found.labels.max()))
        assert counts == sorted(counts, reverse=True)
        assert counts[0] > counts[2] > 20

    def test_glass_has_no_nuclei_and_no_spacing_is_an_error(self) -> None:
        noise = np.random.default_rng(4).integers(234, 245, (3, 200, 300)).astype(np.uint8)
        picture = nuclei_picture(noise, 0.25)
        model = Nuclei({}, "cpu")
        assert model.infer(picture.patch(picture.bounds)).labels.max() == 0
        with pytest.raises(BadSpacing, match="spacing_um"):
            model.infer(replace(picture, spacing_um=None).patch(picture.bounds))


def cells_picture(pixels: NDArray[np.uint8], um: float, expansion: float) -> patches.Picture:
    asked = patches.defaults(Nuclei, cell_expansion_um=expansion)
    return replace(nuclei_picture(pixels, um), parameters=asked)


class TestCells:
    @pytest.mark.parametrize("side", [256, 512])
    @pytest.mark.slow
    def test_tiles_equal_the_whole_on_a_real_slide(
        self, slide_pixels: NDArray[np.uint8], side: int
    ) -> None:
        picture = cells_picture(slide_pixels[:, :1500, :1500], UM, 5.0)
        model, halo = Nuclei({}, "cpu"), patches.halo_of(Nuclei, picture)
        area = Box(126, 126, 1150, 1150)
        whole = patches.objects_by_tile(model, picture, area, 4096, halo)
        assert len(whole) > 50
        assert patches.objects_by_tile(model, picture, area, side, halo) == whole

    @pytest.mark.parametrize(("side", "expansion"), [(128, 3.0), (200, 20.0), (333, 6.5)])
    def test_tiles_equal_the_whole_where_everything_touches(
        self, mosaic: NDArray[np.uint8], side: int, expansion: float
    ) -> None:
        picture = cells_picture(mosaic, 0.5, expansion)
        model, halo = Nuclei({}, "cpu"), patches.halo_of(Nuclei, picture)
        whole = patches.objects_by_tile(model, picture, picture.bounds, 1024, halo)
        assert len(whole) > 100
        assert patches.objects_by_tile(model, picture, picture.bounds, side, halo) == whole

    def test_a_short_halo_shows(self, mosaic: NDArray[np.uint8]) -> None:
        """The tests above can fail: the halo of nuclei is none for cells."""
        picture = cells_picture(mosaic, 0.5, 20.0)
        model, halo = Nuclei({}, "cpu"), patches.halo_of(Nuclei, nuclei_picture(mosaic, 0.5))
        whole = patches.objects_by_tile(model, picture, picture.bounds, 1024, halo)
        assert patches.objects_by_tile(model, picture, picture.bounds, 64, halo) != whole

    def test_a_cell_is_its_nucleus_and_what_is_near(self, histo: Path) -> None:
        pixels, model = opened(histo), Nuclei({}, "cpu")
        nuclei = model.infer((small := nuclei_picture(pixels, 0.5)).patch(small.bounds.grow(60)))
        cells = model.infer(cells_picture(pixels, 0.5, 5.0).patch(small.bounds.grow(60)))
        assert nuclei.nuclei is None
        assert nuclei.classes is None
        assert cells.nuclei is not None
        assert np.array_equal(cells.nuclei, nuclei.labels)
        assert cells.classes is not None
        assert {Nuclei.spec.labels[k].name for k in cells.classes} == {"Cell"}
        away = cv2.distanceTransform(
            np.uint8(nuclei.labels == 0), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
        )
        assert 9.9 < away[cells.labels > 0].max() <= 10.001
        assert (cells.labels > 0).sum() > 1.5 * (nuclei.labels > 0).sum()
        assert {*cells.measurements} == {*nuclei.measurements}


@pytest.mark.slow
class TestEpithelium:
    def test_it_tells_the_gland_from_its_lumen(
        self,
        shell: Mapping[str, Path],
        patch1: Labelled,
    ) -> None:
        """patch1 is a gland: lumen across its upper half, a crypt below, stroma at its foot."""
        small = cv2.resize(patch1[0], None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        asked = patches.defaults(Epithelium, lumen=True)
        picture = patches.Picture(planar(np.asarray(small, np.uint8)), XY(1.0, 1.0), asked)
        model = Epithelium(shell, "cpu")
        picture = replace(picture, statistics=model.statistics([picture.patch(picture.bounds)]))
        offset = (READ_PX - 64) // 2
        read = Box(-offset, -offset, READ_PX - offset, READ_PX - offset)
        prediction = model.infer(picture.patch(read))
        assert isinstance(prediction, Classes)
        found = prediction.classes[offset : offset + 64, offset : offset + 64]
        assert (found[34:50, 20:40] == 1).mean() > 0.8
        assert (found[26:34, 0:10] == 2).mean() > 0.8
        assert (found[52:62, 40:60] == 0).mean() > 0.8

        picture = replace(picture, parameters=patches.defaults(Epithelium))
        alone = model.infer(picture.patch(read))
        assert isinstance(alone, Classes)
        assert np.array_equal(alone.classes, np.where(prediction.classes == 1, 1, 0))

    def test_the_strongest_logit_wins_above_even_odds(self) -> None:
        logits = np.array([[[-1, 2, 1, 1]], [[-2, 1, 2, 1]], [[-3, 0, 0, 3]]], np.float32)
        assert decide(logits).tolist() == [[0, 2, 1, 0]]


def _turned(vector: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """Return the unit vector turned in its plane with blue."""
    unit = vector / np.linalg.norm(vector)
    aside = np.array([0.0, 0.0, 1.0]) - unit[2] * unit
    aside /= np.linalg.norm(aside)
    angle = np.deg2rad(degrees)
    turned: NDArray[np.float64] = np.cos(angle) * unit + np.sin(angle) * aside
    return turned
