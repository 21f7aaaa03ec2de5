"""Boxes and the two frames of a slide, on grids that are neither square nor whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoline.geometry.grid import XY, Box, Grid, Rect

GRID = Grid((100, 90), XY(4.0004, 2.5))
sides = st.integers(-9, 9)
boxes = st.builds(Box, sides, sides, sides, sides)


def pixels(box: Box) -> set[tuple[int, int]]:
    """The slow twin of a box."""
    return {(x, y) for x in range(box.x0, box.x1) for y in range(box.y0, box.y1)}


@given(boxes, boxes)
def test_a_box_is_the_set_of_its_pixels(one: Box, other: Box) -> None:
    assert one.area == one.width * one.height == len(pixels(one))
    assert one.empty is (len(pixels(one)) == 0)
    assert pixels(one.intersect(other)) == pixels(one) & pixels(other)
    assert one.meets(other) is bool(pixels(one) & pixels(other))
    if not other.empty:
        assert one.contains(other) is (pixels(other) <= pixels(one))


def test_sides_of_a_box() -> None:
    box = Box(2, 3, 9, 5)
    assert (box.width, box.height, box.area) == (7, 2, 14)
    assert Box(4, 4, 4, 9).empty
    assert (Box(9, 3, 2, 5).width, Box(2, 5, 9, 3).height) == (0, 0)
    assert box.grow(4) == Box(-2, -1, 13, 9)
    assert box.shift(10, -20) == Box(12, -17, 19, -15)
    assert box.slices_of(Box(3, 4, 9, 5)) == (slice(1, 2), slice(1, 7))


def test_the_grid_lies_wholly_on_the_image() -> None:
    assert GRID.size == (24, 36)
    assert GRID.bounds == Box(0, 0, 24, 36)
    assert GRID.pixel_area == pytest.approx(10.001)
    assert Grid((100, 90), XY(50.0, 30.0)).size == (2, 3)


def test_points_go_to_the_image_and_back() -> None:
    corners = np.array([[0, 0], [10, 4]])
    assert GRID.to_image(corners).tolist() == pytest.approx(np.array([[0, 0], [40.004, 10]]))
    assert GRID.point(XY(40.004, 10.0)) == pytest.approx((10.0, 4.0))
    assert GRID.rect(Box(1, 2, 10, 4)) == Rect(4.0004, 5.0, 40.004, 10.0)


def test_what_covers_a_rectangle_is_no_pixel_too_large() -> None:
    assert GRID.cover(GRID.rect(Box(1, 2, 10, 4))) == Box(1, 2, 10, 4)
    assert GRID.cover(Rect(4.1, 4.9, 4.2, 5.1)) == Box(1, 1, 2, 3)
    assert GRID.cover(Rect(-0.1, -0.1, 4.0005, 2.6)) == Box(-1, -1, 2, 2)
