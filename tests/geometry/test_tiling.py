"""The lattice: anchored at the image's origin, covering it once, near things first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoline.engines.engine import Agenda
from isoline.geometry.grid import XY, Box, Grid, Overlap
from isoline.geometry.tiling import Lattice, Tile, quarters


def lattice_of(width: int, height: int, tile: int, halo: int = 5) -> Lattice:
    return Lattice(Grid((width, height), XY(1.0, 1.0)), tile, halo)


def all_tiles(lattice: Lattice) -> list[Tile]:
    return lattice.tiles(lattice.grid.bounds, lambda _: Overlap.ALL)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40))
def test_write_boxes_cover_the_grid_exactly_once(width: int, height: int, tile: int) -> None:
    seen = np.zeros((height, width), int)
    for each in all_tiles(lattice_of(width, height, tile)):
        seen[Box(0, 0, width, height).slices_of(each.write)] += 1
    assert (seen == 1).all()


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40))
def test_a_lattice_has_the_tiles_that_it_lists(width: int, height: int, tile: int) -> None:
    lattice = lattice_of(width, height, tile)
    columns, rows = lattice.shape
    assert (columns - 1) * tile < width <= columns * tile
    assert (rows - 1) * tile < height <= rows * tile
    places = {(x, y) for x in range(-1, columns + 1) for y in range(-1, rows + 1)}
    listed = [each.place for each in all_tiles(lattice)]
    assert listed == sorted(listed, key=lambda place: place[::-1])
    assert {place for place in places if lattice.has(*place)} == set(listed)
    assert [lattice.tile(*place) for place in listed] == all_tiles(lattice)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_quarters_cover_a_tile_once_with_its_halo(width: int, height: int, halo: int) -> None:
    tile = lattice_of(100 + width, 200 + height, 100, halo).tile(1, 2)
    assert tile.write == Box(100, 200, 100 + width, 200 + height)
    seen = np.zeros((height, width), int)
    parts = quarters(tile)
    for part in parts:
        seen[tile.write.slices_of(part.write)] += 1
        assert part.read == part.write.grow(halo)
        assert part.place == (1, 2)
        assert abs(2 * part.write.width - width) <= 1 or width == 1
        assert abs(2 * part.write.height - height) <= 1 or height == 1
    assert (seen == 1).all()
    assert len(parts) == (1 if width == 1 else 2) * (1 if height == 1 else 2)


def test_nothing_is_chosen_where_there_is_no_image() -> None:
    lattice = lattice_of(100, 70, 32)
    for area in (Box(100, 0, 120, 70), Box(-9, 0, 0, 70), Box(0, 70, 100, 99), Box(5, 5, 5, 9)):
        assert lattice.tiles(area, lambda _: Overlap.ALL) == []
    assert lattice.tiles(Box(0, 0, 100, 70), lambda _: Overlap.NONE) == []
    assert [t.place for t in lattice.tiles(Box(31, 32, 33, 33), lambda _: Overlap.SOME)] == [
        (0, 1),
        (1, 1),
    ]


def test_blocks_that_lie_inside_as_a_whole_are_judged_once() -> None:
    lattice = lattice_of(640, 640, 64)
    asked: list[Box] = []

    def overlap(box: Box) -> Overlap:
        asked.append(box)
        return Overlap.ALL

    assert len(lattice.tiles(Box(0, 64, 640, 640), overlap)) == 90
    assert asked == [Box(0, 64, 640, 640)]


@pytest.mark.parametrize(
    ("focus", "first"),
    [
        (None, [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1)]),
        (XY(63.9, 64.0), [(0, 1), (0, 0), (1, 0), (1, 1), (0, 2)]),
        (XY(255.0, 191.9), [(3, 2), (2, 1), (3, 1), (2, 2), (2, 3)]),
        (XY(-500.0, 64.0), [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]),
    ],
)
def test_the_order_is_by_rings_and_by_rows_in_a_ring(
    focus: XY | None, first: list[tuple[int, int]]
) -> None:
    lattice = lattice_of(256, 256, 64)
    backwards = list(reversed(all_tiles(lattice)))
    order = lattice.order(focus)
    ordered = sorted(backwards, key=order)
    assert [tile.place for tile in ordered[:5]] == first
    assert order(ordered[0]) < order(ordered[1])


def test_read_is_never_clipped() -> None:
    first, *_, last = all_tiles(lattice_of(100, 70, 64, halo=9))
    assert first.read == Box(-9, -9, 73, 73)
    assert last.write == Box(64, 64, 100, 70)
    assert last.read == Box(55, 55, 137, 137)


@given(st.integers(0, 299), st.integers(0, 299), st.integers(1, 200), st.integers(1, 200))
def test_a_region_chooses_tiles_and_moves_none(x: int, y: int, width: int, height: int) -> None:
    lattice = lattice_of(300, 300, 64)
    area = Box(x, y, x + width, y + height)

    def overlap(box: Box) -> Overlap:
        if area.contains(box):
            return Overlap.ALL
        return Overlap.SOME if area.meets(box) else Overlap.NONE

    assert lattice.tiles(area, overlap) == [
        tile for tile in all_tiles(lattice) if tile.write.meets(area)
    ]


def test_tiles_come_in_rings_around_the_focus() -> None:
    lattice = lattice_of(640, 640, 64)
    agenda = Agenda(lattice, all_tiles(lattice), XY(330.0, 10.0))
    order = [tile.place for tile in iter(agenda.take, None)]
    assert order[0] == (5, 0)
    assert set(order[:6]) == {(4, 0), (5, 0), (6, 0), (4, 1), (5, 1), (6, 1)}
    assert len(order) == 100


def test_moving_the_focus_reorders_what_is_left() -> None:
    lattice = lattice_of(640, 640, 64)
    agenda = Agenda(lattice, all_tiles(lattice), None)
    first = agenda.take()
    assert first is not None
    assert first.place == (0, 0)
    agenda.focus(XY(639.0, 639.0))
    nearest = agenda.take()
    assert nearest is not None
    assert nearest.place == (9, 9)
    assert len(agenda) == 98


def test_a_cancelled_agenda_gives_and_takes_nothing() -> None:
    lattice = lattice_of(640, 640, 64)
    agenda = Agenda(lattice, all_tiles(lattice), None)
    agenda.cancel()
    agenda.add(all_tiles(lattice))
    assert agenda.take() is None
