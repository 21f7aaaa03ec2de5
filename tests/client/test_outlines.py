"""Outlines painted: exactly the pixels that they enclose, at every level and in every part."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, mapping

from isoline.geometry.polygons import trace
from isoline_client.options import Json
from isoline_client.outlines import Outlines, rings
from tests.running import parts_of
from tests.slides import draw_shapes

SIZE = 701, 523
LABELS = draw_shapes(SIZE, 7)
WHOLE = 0, 0, *SIZE


@pytest.fixture(scope="module")
def drawn() -> Outlines:
    outlines = Outlines()
    traced = trace(LABELS)
    for label, parts in zip(traced.label.tolist(), parts_of(traced.polygons), strict=True):
        outlines.add(str(label), mapping(MultiPolygon(parts)), label)
    assert len(outlines.numbers) == LABELS.max() > 40
    return outlines


def square(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


def area(*corners: tuple[float, float, float, float]) -> Json:
    """Return a polygon: a square, and its holes."""
    return {"type": "Polygon", "coordinates": [square(*each) for each in corners]}


def painted(*geometries: Json) -> NDArray[np.int32]:
    outlines = Outlines()
    for number, geometry in enumerate(geometries, 1):
        outlines.add(str(number), geometry, number)
    return outlines.paint((0, 0, 9, 7))


def test_pixels_become_outlines_and_the_same_pixels(drawn: Outlines) -> None:
    np.testing.assert_array_equal(drawn.paint(WHOLE), LABELS)


@pytest.mark.parametrize(
    "box", [(100, 37, 333, 301), (0, 0, 1, 1), (600, 500, *SIZE), (5, 5, 5, 9)]
)
def test_a_part_is_that_part_of_the_whole(drawn: Outlines, box: tuple[int, ...]) -> None:
    x0, y0, x1, y1 = box
    np.testing.assert_array_equal(drawn.paint(box), LABELS[y0:y1, x0:x1])


def test_a_coarse_pixel_is_what_lies_at_its_centre(drawn: Outlines) -> None:
    """The centre of pixel n of a level of 3 x 5 image pixels lies in pixel 3 n + 1, 5 n + 2."""
    coarse = drawn.paint((0, 0, SIZE[0] // 3, SIZE[1] // 5), (3.0, 5.0))
    np.testing.assert_array_equal(coarse, LABELS[2::5, 1::3][: SIZE[1] // 5, : SIZE[0] // 3])


def test_a_level_is_an_array_that_is_painted_when_it_is_read(drawn: Outlines) -> None:
    level = drawn.level((SIZE[1], SIZE[0]), SIZE)
    np.testing.assert_array_equal(np.asarray(level), LABELS)
    np.testing.assert_array_equal(level[10:50, -300:], LABELS[10:50, -300:])
    assert (level.shape, level.size, level.dtype) == (LABELS.shape, LABELS.size, LABELS.dtype)
    # of an odd size, so that its pixels are 701 / 100 image pixels wide
    coarse = drawn.level((75, 100), SIZE)
    x, y = ((np.arange(n) + 0.5) * full / n for n, full in zip((100, 75), SIZE, strict=True))
    np.testing.assert_array_equal(coarse[:, :], LABELS[np.ix_(y.astype(int), x.astype(int))])


def test_a_level_shows_what_changes() -> None:
    outlines = Outlines()
    level = outlines.level((4, 4), (8, 8))
    assert not np.asarray(level).any()
    outlines.add("a", area((0, 0, 8, 4)), 5)
    assert level[:, 1:2].tolist() == [[5], [5], [0], [0]]


def test_holes_and_parts() -> None:
    geometry = {
        "type": "MultiPolygon",
        "coordinates": [
            [square(0, 0, 5, 5), square(1, 1, 4, 4)],
            [square(2, 2, 3, 3)],
            [square(7, 0, 8, 6)],
        ],
    }
    expected = np.zeros((7, 9), np.int32)
    expected[:5, :5], expected[1:4, 1:4], expected[2, 2], expected[:6, 7] = 1, 0, 1, 1
    np.testing.assert_array_equal(painted(geometry), expected)
    assert [len(ring) for ring in rings(geometry)] == [5] * 4


def test_slanted_edges_are_cut_at_the_centres_of_pixels() -> None:
    triangle = {"type": "Polygon", "coordinates": [[[0, 0], [6.2, 0], [0, 6.2], [0, 0]]]}
    assert painted(triangle).sum(axis=1).tolist() == [6, 5, 4, 3, 2, 1, 0]


def test_the_greatest_number_is_seen_where_outlines_overlap() -> None:
    seen = painted(area((0, 0, 4, 4)), area((2, 2, 9, 7)))
    assert (seen[3, 3], seen[0, 0], seen[6, 8], seen[0, 8]) == (2, 1, 2, 0)


def test_what_is_removed_or_replaced_is_not_seen() -> None:
    outlines = Outlines()
    outlines.add("a", area((0, 0, 2, 2)), 1)
    outlines.add("b", area((2, 0, 4, 2)), 2)
    assert outlines.paint((0, 0, 4, 1)).tolist() == [[1, 1, 2, 2]]
    outlines.remove("b")
    outlines.remove("b")
    outlines.add("a", area((1, 0, 3, 2)), 3)
    assert outlines.paint((0, 0, 4, 1)).tolist() == [[0, 3, 3, 0]]
    outlines.remove("a")
    assert not outlines.paint((0, 0, 4, 1)).any()


def test_outlines_are_added_to_others() -> None:
    outlines, more = Outlines(), Outlines()
    outlines.add("a", area((0, 0, 2, 2)), 1)
    outlines.add("b", area((2, 0, 4, 2)), 2)
    assert outlines.paint((0, 0, 5, 1)).tolist() == [[1, 1, 2, 2, 0]]
    more.add("b", area((3, 0, 4, 2)), 3)
    more.add("c", area((4, 0, 5, 2)), 4)
    outlines.update(more)
    assert outlines.paint((0, 0, 5, 1)).tolist() == [[1, 1, 0, 3, 4]]
    assert outlines.numbers == {"a": 1, "b": 3, "c": 4}


def test_what_lies_outside_is_cut_off() -> None:
    seen = painted(area((-5, -5, 3, 2)), area((8, 5, 40, 40)))
    assert seen[:2, :3].all()
    assert seen[5:, 8].all()
    assert np.count_nonzero(seen) == 6 + 2
