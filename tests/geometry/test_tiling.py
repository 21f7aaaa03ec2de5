"""The lattice: anchored at the image's origin, covering it once, near things first."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from isoline.engines.base import Agenda
from isoline.geometry.grid import XY, Box, Grid, Overlap
from isoline.geometry.tiling import Lattice, Tile


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
