"""The region of interest: one rule for points, masks and tiles."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from isoline.errors import BadRegion
from isoline.geometry.grid import XY, Box, Grid, Overlap, Rect
from isoline.geometry.region import MAX_VERTICES, Region, brief
from isoline.geometry.tiling import Lattice

Corner = tuple[float, float]

coordinate = st.one_of(
    st.integers(-4, 44).map(float),
    st.integers(-8, 88).map(lambda n: n / 2),  # on pixel centres
    st.floats(-5, 45, allow_nan=False, width=32),
)
length = st.one_of(st.integers(1, 90).map(lambda n: n / 2), st.floats(1e-3, 45))
"""Of a side of a rectangle: one of 1e-38 encloses no area that is worth the name."""
lasso = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=12)
grids = st.sampled_from(
    [XY(1.0, 1.0), XY(4.0004, 3.9996), XY(0.7, 1.3), XY(2.0, 2.0), XY(16.006, 16.006)]
).map(lambda scale: Grid((40, 37), scale))


def polygon(*rings: Sequence[Corner]) -> dict[str, object]:
    closed = [[*map(list, ring), list(ring[0])] for ring in rings]
    return {"type": "Polygon", "coordinates": closed}


def polygons(*several: Sequence[Sequence[Corner]]) -> dict[str, object]:
    coordinates = [polygon(*rings)["coordinates"] for rings in several]
    return {"type": "MultiPolygon", "coordinates": coordinates}


def region_of(*rings: Sequence[Corner]) -> Region | None:
    try:
        return Region.from_geojson(polygon(*rings))
    except BadRegion:
        return None


def winding(ring: Sequence[Corner], x: float, y: float) -> int:
    """The same formula for one point at a time: the slow twin."""
    count = 0
    for (ax, ay), (bx, by) in zip(ring, [*ring[1:], ring[0]], strict=True):
        turn = 1 if ay < by else -1
        (x0, y0), (x1, y1) = ((ax, ay), (bx, by)) if ay < by else ((bx, by), (ax, ay))
        if y0 <= y < y1:
            crossing = x0 + (y - y0) * ((x1 - x0) / (y1 - y0))
            crossing = min(max(crossing, min(x0, x1)), max(x0, x1))
            count += turn if x < crossing else 0
    return count


def centres(grid: Grid, box: Box) -> NDArray[np.float64]:
    x, y = np.meshgrid(np.arange(box.x0, box.x1), np.arange(box.y0, box.y1))
    return grid.to_image(np.stack([x, y], axis=-1) + 0.5).reshape(-1, 2)


@given(shell=lasso, hole=lasso, grid=grids)
def test_masks_points_and_the_slow_twin_agree(
    shell: list[Corner], hole: list[Corner], grid: Grid
) -> None:
    region = region_of(shell, hole)
    if region is None:
        return
    box = grid.bounds.grow(2)
    points = centres(grid, box)
    mask = region.mask(grid, box)
    truth = [winding(shell, *xy) != 0 and winding(hole, *xy) == 0 for xy in points.tolist()]
    assert mask.ravel().tolist() == truth
    assert region.contains(points).tolist() == truth


@given(shell=lasso, grid=grids, cut=st.tuples(*[st.integers(-2, 41)] * 4))
def test_a_part_of_a_mask_is_the_mask_of_the_part(
    shell: list[Corner], grid: Grid, cut: tuple[int, int, int, int]
) -> None:
    region = region_of(shell)
    if region is None:
        return
    whole = grid.bounds.grow(3)
    part = Box(*cut).intersect(whole)
    if not part.empty:
        expected = region.mask(grid, whole)[whole.slices_of(part)]
        assert np.array_equal(region.mask(grid, part), expected)


@given(
    shell=lasso, hole=lasso, grid=grids, corner=st.tuples(st.integers(0, 36), st.integers(0, 36))
)
def test_the_overlap_of_a_box_is_that_of_its_pixels(
    shell: list[Corner], hole: list[Corner], grid: Grid, corner: tuple[int, int]
) -> None:
    region = region_of(shell, hole)
    box = Box(*corner, corner[0] + 3, corner[1] + 2)
    if region is None:
        return
    mask, overlap = region.mask(grid, box), region.overlap(grid.rect(box))
    assert not (overlap is Overlap.NONE and mask.any())
    assert not (overlap is Overlap.ALL and not mask.all())


@given(shell=lasso, hole=lasso, grid=grids)
def test_tiles_are_chosen_as_one_by_one(
    shell: list[Corner], hole: list[Corner], grid: Grid
) -> None:
    region = region_of(shell, hole)
    if region is None:
        return
    lattice = Lattice(grid, 3, 1)
    every = lattice.tiles(grid.bounds, lambda _: Overlap.ALL)
    chosen = lattice.tiles(grid.bounds, lambda block: region.overlap(grid.rect(block)))
    one_by_one = [region.overlap(grid.rect(tile.write)) is not Overlap.NONE for tile in every]
    assert chosen == [tile for tile, met in zip(every, one_by_one, strict=True) if met]


@given(grid=grids, x0=coordinate, y0=coordinate, size=st.tuples(length, length))
def test_a_rectangle_meets_every_tile_of_its_area(
    grid: Grid, x0: float, y0: float, size: tuple[float, float]
) -> None:
    region, lattice = Region.rectangle(x0, y0, x0 + size[0], y0 + size[1]), Lattice(grid, 3, 1)
    assert region.is_rectangle
    area = grid.cover(region.bounds).intersect(grid.bounds)
    every = lattice.tiles(area, lambda _: Overlap.ALL)
    assert every == lattice.tiles(area, lambda block: region.overlap(grid.rect(block)))


@given(grid=grids, box=st.tuples(*[st.floats(-3, 44, allow_nan=False)] * 4))
def test_a_rectangle_is_half_open(grid: Grid, box: tuple[float, float, float, float]) -> None:
    x0, x1 = sorted(box[::2])
    y0, y1 = sorted(box[1::2])
    if x1 - x0 < 1e-3 or y1 - y0 < 1e-3:
        return
    region = Region.rectangle(x0, y0, x1, y1)
    points = np.concatenate([centres(grid, grid.bounds), [[x0, y0], [x1, y0], [x0, y1], [x1, y1]]])
    x, y = points.T
    assert np.array_equal(region.contains(points), (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1))
    assert region.bounds == Rect(x0, y0, x1, y1)
    assert region.warnings == ()


def test_the_mask_of_a_circle_has_its_area() -> None:
    angle = np.linspace(0, 2 * np.pi, 50_000, endpoint=False)
    ring = np.stack([2000 + 900 * np.cos(angle), 1500 + 900 * np.sin(angle)], axis=1)
    region = Region(((ring,),))
    grid = Grid((4001, 3003), XY(2.0002, 2.0))
    area = region.mask(grid, grid.bounds).sum() * grid.pixel_area
    assert area == pytest.approx(np.pi * 900**2, rel=1e-3)


def test_tiles_far_from_a_thin_diagonal_are_not_met() -> None:
    region = Region.from_geojson(polygon([(0, 0), (10_000, 10_000), (10_000, 9_990)]))
    tiles = [
        Rect(x, y, x + 100.0, y + 100.0)
        for x in range(0, 10_000, 100)
        for y in range(0, 10_000, 100)
    ]
    met = sum(region.overlap(tile) is not Overlap.NONE for tile in tiles)
    assert 100 <= met <= 300


def test_a_figure_of_eight_is_filled_and_warned_about() -> None:
    region = Region.from_geojson(polygon([(0, 0), (10, 10), (10, 0), (0, 10)]))
    assert region.contains(np.array([(1, 4), (9, 6), (5, 1), (5, 9)])).tolist() == [
        True,
        True,
        False,
        False,
    ]
    assert "crosses" in region.warnings[0]


def test_a_doubly_wound_middle_is_inside() -> None:
    star = [
        (50 + 50 * np.sin(k * 0.8 * np.pi), 50 - 50 * np.cos(k * 0.8 * np.pi)) for k in range(5)
    ]
    region = Region.from_geojson(polygon(star))
    assert region.contains(np.array([(50.0, 50.0)])).all()


def test_a_hole_and_an_island_in_it() -> None:
    def square(a: float, b: float) -> list[Corner]:
        return [(a, a), (b, a), (b, b), (a, b)]

    island = polygon(square(13, 17))["coordinates"]
    collection = {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "geometry": polygon(square(0, 30), square(10, 20))},
            {"type": "Feature", "geometry": {"type": "MultiPolygon", "coordinates": [island]}},
        ],
    }
    region = Region.from_geojson(json.loads(json.dumps(collection)))
    grid = Grid((30, 30), XY(1.0, 1.0))
    mask = region.mask(grid, grid.bounds)
    assert mask.sum() == 900 - 100 + 16
    assert region.overlap(Rect(14, 14, 15, 15)) is Overlap.ALL
    assert region.overlap(Rect(11, 11, 12, 12)) is Overlap.NONE
    again = Region.from_geojson(region.to_geojson())
    assert np.array_equal(again.mask(grid, grid.bounds), mask)
    carried: Region = pickle.loads(pickle.dumps(region))
    assert np.array_equal(carried.mask(grid, grid.bounds), mask)


@given(shell=lasso)
def test_what_has_an_area_is_not_refused(shell: list[Corner]) -> None:
    valid = shapely.make_valid(shapely.Polygon(shell))
    if valid.area > 1e-3:  # by the even-odd rule, so no more than by the non-zero rule
        assert region_of(shell) is not None


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"type": "Polygon", "coordinates": []}, "has no outline"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0]]]}, "2 corners"),
        ({"type": "MultiPolygon", "coordinates": []}, "encloses no area"),
        ({"type": "FeatureCollection", "features": []}, "encloses no area"),
        ({"type": "Point", "coordinates": [1, 2]}, "got a Point"),
        ({"type": "Feature", "geometry": None}, "region.geometry"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, "a"], [0, 1]]]}, "coordinates[0][1]"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, True], [0, 1]]]}, "coordinates[0][1]"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, float("nan")], [0, 1]]]}, "[0][1]"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 10**400], [0, 1]]]}, "[0][1]"),
        (polygon([(0, 0), (5, 5), (9, 9)]), "encloses no area"),
        (polygon([(0, 0), (0.1, 0.3), (0.2, 0.6), (0.7, 2.1)]), "encloses no area"),
        (polygon([(0, 0), (5, 0), (5, 5), (5, 0)]), "encloses no area"),
        (7, "expected GeoJSON"),
        ([0, 0, 5, 5], "expected GeoJSON"),
    ],
)
def test_what_is_no_area_is_refused_with_its_place(value: object, told: str) -> None:
    with pytest.raises(BadRegion, match=r".") as caught:
        Region.from_geojson(value)
    assert told in caught.value.what
    assert caught.value.remedy


@pytest.mark.parametrize("box", [(5, 0, 5, 9), (9, 0, 5, 9), (0, 0, float("nan"), 5)])
def test_an_empty_rectangle_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(BadRegion):
        Region.rectangle(*box)


@pytest.mark.parametrize("width", [1e-38, 0.9e-8])
def test_a_sliver_is_refused(width: float) -> None:
    """Its sides are told apart, but it is a thousand million times as long as it is wide."""
    with pytest.raises(BadRegion, match="encloses no area") as upright:
        Region.rectangle(0, 0, width, 10)
    with pytest.raises(BadRegion, match="encloses no area") as lying:
        Region.rectangle(0, 0, 10, width)
    assert str(upright.value) == str(lying.value)


def test_what_is_a_little_wider_than_a_sliver_is_not() -> None:
    assert Region.rectangle(0, 0, 1.1e-8, 10).bounds == Rect(0, 0, 1.1e-8, 10)
    assert Region.rectangle(0, 0, 10, 1.1e-8).bounds == Rect(0, 0, 10, 1.1e-8)
    assert region_of([(0, 0), (2e-8, 10), (0, 10), (2e-8, 0)]) is not None  # a figure of eight
    assert region_of([(0, 0), (1.5e-8, 10), (0, 10), (1.5e-8, 0)]) is None


def test_a_rectangle_with_a_hole_is_no_rectangle() -> None:
    square = [(0, 0), (30, 0), (30, 30), (0, 30)]
    region = region_of(square, [(10, 10), (20, 10), (20, 20), (10, 20)])
    assert region is not None
    assert not region.is_rectangle
    assert region.overlap(Rect(12, 12, 18, 18)) is Overlap.NONE
    assert region.overlap(Rect(2, 2, 8, 8)) is Overlap.ALL
    assert region.overlap(Rect(8, 8, 12, 12)) is Overlap.SOME
    assert not Region.from_geojson(polygons([square], [square])).is_rectangle
    assert not Region.from_geojson(polygon([(0, 0), (30, 0), (30, 31), (0, 30)])).is_rectangle
    assert Region.from_geojson(polygon(square)).is_rectangle


def test_rectangles_overlap_as_their_sides_say() -> None:
    region = Region.rectangle(10, 20, 30, 50)
    for box in ((11, 21, 29, 49), (10.5, 20.5, 29.5, 49.5)):
        assert region.overlap(Rect(*box)) is Overlap.ALL
    for box in ((10, 21, 29, 49), (11, 20, 29, 49), (11, 21, 30, 49), (11, 21, 29, 50)):
        assert region.overlap(Rect(*box)) is Overlap.SOME  # the edge is in it
    for box in ((5, 21, 10, 49), (30, 21, 35, 49), (11, 15, 29, 20), (11, 50, 29, 55)):
        assert region.overlap(Rect(*box)) is Overlap.SOME  # it may be, on the edge
    for box in ((5, 21, 9, 49), (31, 21, 35, 49), (11, 15, 29, 19), (11, 51, 29, 55)):
        assert region.overlap(Rect(*box)) is Overlap.NONE


def test_an_edge_in_a_box_or_on_its_side_is_some_overlap() -> None:
    """As shapely sees it, on whole numbers, where both are exact."""
    rng = np.random.default_rng(7)
    seen: Counter[Overlap] = Counter()
    for corners in rng.integers(0, 24, (60, 5, 2)).astype(float):
        region = region_of([(x, y) for x, y in corners.tolist()])
        if region is None:
            continue
        outline = shapely.LinearRing(corners)
        for x, y in rng.integers(0, 22, (20, 2)).tolist():
            touched = outline.intersects(shapely.box(x, y, x + 3, y + 2))
            found = region.overlap(Rect(x, y, x + 3, y + 2))
            assert (found is Overlap.SOME) == touched, (corners, x, y)
            if not touched:
                inside = region.contains(np.array([(x + 1.5, y + 1)]))[0]
                assert found is (Overlap.ALL if inside else Overlap.NONE)
            seen[found] += 1
    assert min(seen[overlap] for overlap in Overlap) > 10


def test_masks_of_rectangles_are_half_open_at_pixel_centres() -> None:
    grid = Grid((12, 9), XY(2.0, 1.0))
    for box, columns, rows in (
        ((3, 1.5, 7, 4.5), (1, 3), (1, 4)),
        ((2.9, 1.5, 7.1, 4.5), (1, 4), (1, 4)),
        ((2.9, 1.4, 7.1, 4.6), (1, 4), (1, 5)),
        ((3.1, 1.6, 6.9, 4.4), (2, 3), (2, 4)),
    ):
        expected = np.zeros((9, 6), np.bool_)
        expected[slice(*rows), slice(*columns)] = True
        mask = Region.rectangle(*box).mask(grid, grid.bounds)
        np.testing.assert_array_equal(mask, expected)


def test_the_bounds_are_those_of_all_polygons() -> None:
    far, near = [(50, 60), (70, 65), (55, 80)], [(5, 6), (7, 65), (9, 20)]
    region = Region.from_geojson(polygons([near], [far]))
    assert region.bounds == Rect(5, 6, 70, 80)
    inside = region.contains(np.array([(57, 70), (7, 30), (30, 40)]))
    assert inside.tolist() == [True, True, False]


def test_one_outline_of_several_that_crosses_itself_is_warned_about() -> None:
    eight = [(0, 0), (10, 10), (10, 0), (0, 10)]
    square = [(20, 0), (30, 0), (30, 10), (20, 10)]
    for one, other in ((eight, square), (square, eight)):
        region = Region.from_geojson(polygons([one], [other]))
        (warning,) = region.warnings
        assert "crosses" in warning


@given(shell=lasso, grid=grids)
def test_crossings_may_be_counted_in_chunks(shell: list[Corner], grid: Grid) -> None:
    region = region_of(shell)
    if region is None:
        return
    box = grid.bounds.grow(2)
    points, mask = centres(grid, box), region.mask(grid, box)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("isoline.geometry.region._PAIRS_AT_ONCE", 3)
        assert np.array_equal(region.mask(grid, box), mask)
        assert np.array_equal(region.contains(points), mask.ravel())


def test_a_region_is_written_as_geojson_with_closed_rings() -> None:
    square, hole = [(0, 0), (30, 0), (30, 30), (0, 30)], [(10, 10), (20, 10), (20, 20)]
    region = region_of(square, hole)
    assert region is not None
    rings = [[list(corner) for corner in (*ring, ring[0])] for ring in (square, hole)]
    assert region.to_geojson() == {"type": "MultiPolygon", "coordinates": [rings]}
    open_ring = {"type": "Polygon", "coordinates": [rings[0][:-1]]}
    assert Region.from_geojson(open_ring).bounds == region.bounds


def test_a_height_is_passed_over_and_a_coordinate_has_a_bound() -> None:
    deep = [[0, 0, 7], [1e9, 0, 8], [0, 1e9, 9]]
    region = Region.from_geojson({"type": "Polygon", "coordinates": [deep]})
    assert region.bounds == Rect(0, 0, 1e9, 1e9)
    with pytest.raises(BadRegion, match=r"region\.coordinates\[0\]\[1\]: expected two numbers"):
        Region.from_geojson(polygon([(0, 0), (1.01e9, 0), (0, 1)]))
    with pytest.raises(BadRegion, match="far too large"):
        Region.rectangle(0, 0, 1.01e9, 1)
    with pytest.raises(BadRegion, match=r"coordinates\[0\]\[1\]: expected two numbers"):
        Region.from_geojson({"type": "Polygon", "coordinates": [[[0, 0], [1], [0, 1]]]})


def test_a_mistake_in_a_collection_is_refused_with_its_place() -> None:
    good = polygon([(0, 0), (5, 0), (5, 5)])
    bad = polygon([(0, 0), (5, 0), (5, "x")])  # type: ignore[list-item]
    features = [{"type": "Feature", "geometry": each} for each in (good, bad)]
    with pytest.raises(BadRegion) as caught:
        Region.from_geojson({"type": "FeatureCollection", "features": features}, "initial")
    assert caught.value.what.startswith("initial.features[1].geometry.coordinates[0][2]: expected")
    several = {"type": "MultiPolygon", "coordinates": [good["coordinates"], bad["coordinates"]]}
    with pytest.raises(BadRegion, match=r"region\.coordinates\[1\]\[0\]\[2\]: expected"):
        Region.from_geojson(several)
    with pytest.raises(BadRegion, match=r"region\.features: expected a list, got None"):
        Region.from_geojson({"type": "FeatureCollection"})


@pytest.mark.parametrize(("length", "shown"), [(38, 40), (39, 40)])
def test_a_value_is_quoted_in_forty_letters_at_most(length: int, shown: int) -> None:
    text = brief("x" * length)
    assert len(text) == shown
    assert text.endswith("..." if length == 39 else "'")


def test_an_outline_of_too_many_corners_is_refused() -> None:
    angle = np.linspace(0, 6, MAX_VERTICES)
    Region(((np.stack([np.cos(angle), np.sin(angle)], axis=1),),))
    angle = np.linspace(0, 6, MAX_VERTICES + 1)
    with pytest.raises(BadRegion, match="vertices"):
        Region(((np.stack([np.cos(angle), np.sin(angle)], axis=1),),))


def test_an_edge_along_a_row_meets_the_tiles_that_it_passes() -> None:
    """Neither a corner of the region nor the centre of the tile lies in the other."""
    region = Region.rectangle(1000.0, 1000.0, 2300.0, 1999.0)
    assert region.overlap(Rect(1024, 768, 1280, 1024)) is not Overlap.NONE
    assert region.overlap(Rect(1024, 512, 1280, 768)) is Overlap.NONE
