from __future__ import annotations

import pickle
from collections.abc import Iterable

import cc3d
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isoline.geometry.grid import XY, Box, Grid
from isoline.geometry.polygons import simplify, trace, trace_components
from isoline.geometry.seams import Closed, Owned, Pieces, TilePlace, Union, cut, own, owned_nuclei
from isoline.geometry.tiling import Lattice
from tests.polygons import assert_canonical, label_images, parts, pixel_anchor, spiral

Classes = NDArray[np.uint8]
Region = tuple[int, int, bytes]


def lattice_of(image: NDArray[np.generic], tile_px: int, halo_px: int = 0) -> Lattice:
    height, width = image.shape
    return Lattice(Grid((width, height), XY(1, 1)), tile_px, halo_px)


def places_of(lattice: Lattice) -> list[TilePlace]:
    columns, rows = lattice.shape
    return [(column, row) for row in range(rows) for column in range(columns)]


# Bounded instances


@given(seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_a_nucleus_stays_with_its_cell_and_may_be_missing(seed: int) -> None:
    cells = scattered(60, 14, seed)
    lost = np.random.default_rng(seed).random(cells.max() + 1) < 0.3
    image = Box(0, 0, 67, 60)
    nuclei = np.where(lost[cells], 0, cells)
    nuclei[::2] = 0
    owned = own(cells, image, Box(20, 10, 50, 40), image)
    traced = owned_nuclei(nuclei, owned, image, image)
    assert len(traced) == len(owned.number)
    sizes = [int((nuclei == number).sum()) for number in owned.number]
    assert (traced.areas2() // 2).tolist() == sizes
    loose = simplify(traced, 1.0)
    assert (np.diff(loose.object_start) > 0).tolist() == [size > 0 for size in sizes]
    for k, number in enumerate(owned.number):
        alone = trace((nuclei == number).astype(np.int32)).polygons
        assert parts(traced, k) == (parts(alone, 0) if len(alone) else [])


def scattered(side: int, extent: int, seed: int) -> NDArray[np.int32]:
    """Return instances of any shape, scattered ones among them, that fit into `extent` pixels."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side + 7), np.int32)
    for label in range(1, side * side // (2 * extent)):
        y, x = rng.integers(0, (side - extent, side + 7 - extent))
        window = labels[y : y + extent, x : x + extent]
        window[(rng.random(window.shape) < rng.random()) & (window == 0)] = label
    return labels


def own_tiled(labels: NDArray[np.int32], tile_px: int, halo_px: int, seed: int) -> set[Region]:
    """Return what all tiles own, each of them with numbers of its own."""
    rng = np.random.default_rng(seed)
    lattice = lattice_of(labels, tile_px, halo_px)
    image = lattice.grid.bounds
    found: list[Region] = []
    for place in places_of(lattice):
        tile = lattice.tile(*place)
        seen = np.zeros((tile.read.height, tile.read.width), np.int32)
        common = tile.read.intersect(image)
        seen[tile.read.slices_of(common)] = labels[image.slices_of(common)]
        renumbered = np.append(0, 1 + rng.permutation(labels.max()))
        owned = own(renumbered[seen], tile.read, tile.write, image)
        originals = np.argsort(renumbered)[owned.number]
        assert owned.area_px.tolist() == [np.count_nonzero(seen == k) for k in originals]
        found += regions(owned, originals)
    assert len(found) == len(set(found))
    return set(found)


def regions(found: Owned | Closed, label: NDArray[np.integer] | None = None) -> list[Region]:
    """Return label, area and canonical bytes of each object."""
    rows, start = found.polygons.records()
    labels = found.label if isinstance(found, Closed) else label
    assert labels is not None
    return [
        (int(labels[k]), int(found.area_px[k]), rows[start[k] : start[k + 1]].tobytes())
        for k in range(len(found.polygons))
    ]


@settings(max_examples=25, deadline=None)
@given(st.integers(12, 40), st.integers(1, 6), st.integers(3, 50), st.integers(0, 2**32))
def test_every_instance_has_one_owner(side: int, extent: int, tile_px: int, seed: int) -> None:
    labels = scattered(side, extent, seed)
    whole = Box(0, 0, side + 7, side)
    everything = own(labels, whole, whole, whole)
    assert sorted(everything.number.tolist()) == np.unique(labels[labels > 0]).tolist()
    expected = set(regions(everything, everything.number))
    assert own_tiled(labels, tile_px, extent, seed) == expected


def test_too_small_a_halo_loses_instances() -> None:
    labels = scattered(40, 6, 1)
    assert own_tiled(labels, 16, 6, 1) != own_tiled(labels, 16, 2, 1)


def test_owned_instances_come_in_raster_order_with_their_anchors() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[2:5, 10:13] = 9
    labels[3, 1:8] = 4
    labels[2:9, 3] = 7
    box = Box(100, 50, 120, 70)
    owned = own(labels, box, box, box)
    assert owned.number.tolist() == [7, 9, 4]
    assert owned.area_px.tolist() == [7, 9, 6]
    expected = [list(pixel_anchor(labels == k, 100, 50)) for k in (7, 9, 4)]
    assert owned.anchor.tolist() == expected


@pytest.mark.parametrize("side", range(4))
def test_only_a_cut_side_makes_an_instance_ineligible(side: int) -> None:
    labels = np.rot90(np.eye(1, 25, 2, np.int32).reshape(5, 5), side)  # one pixel on one side
    read = Box(10, 10, 15, 15)
    assert len(own(labels, read, read, read).number) == 1
    for grown in range(4):
        larger = [10, 10, 15, 15]
        larger[grown] += (-1, -1, 1, 1)[grown]
        image = Box(*larger)
        ((y, x),) = np.argwhere(labels)
        is_cut = (x == 0, y == 0, x == 4, y == 4)[grown]
        assert len(own(labels, read, read, image).number) == (not is_cut)


def test_an_anchor_on_a_seam_belongs_to_the_tile_after_it() -> None:
    labels = np.zeros((8, 8), np.int32)
    labels[3, 4] = 1
    box = Box(0, 0, 8, 8)
    assert len(own(labels, box, Box(0, 0, 4, 8), box).number) == 0
    assert len(own(labels, box, Box(4, 0, 8, 8), box).number) == 1


def test_padding_belongs_to_nothing() -> None:
    labels = np.ones((8, 8), np.int32)
    image = Box(3, 2, 6, 9)
    owned = own(labels, Box(0, 0, 8, 8), Box(0, 0, 8, 8), Box(3, 2, 6, 8))
    assert owned.area_px.tolist() == [18]
    assert len(own(labels, Box(0, 0, 8, 8), Box(0, 0, 8, 8), image).number) == 0  # cut below


# Unbounded regions


@st.composite
def tilings(draw: st.DrawFn) -> tuple[Classes, int, list[TilePlace]]:
    """Draw a class image, a tile size and an order of its tiles."""
    classes = draw(label_images(side=16)).astype(np.uint8)
    tile_px = draw(st.integers(1, 9))
    places = places_of(lattice_of(classes, tile_px))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    order = draw(st.sampled_from(["raster", "backwards", "shuffled"]))
    if order == "shuffled":
        return classes, tile_px, [places[k] for k in rng.permutation(len(places))]
    return classes, tile_px, places[:: 1 if order == "raster" else -1]


def pieces_at(classes: Classes, lattice: Lattice, place: TilePlace) -> Pieces:
    write = lattice.tile(*place).write
    return cut(classes[lattice.grid.bounds.slices_of(write)], write)


def whole(classes: Classes) -> list[Region]:
    traced = trace_components(classes)
    rows, start = traced.polygons.records()
    return sorted(
        (int(traced.label[k]), int(traced.area_px[k]), rows[start[k] : start[k + 1]].tobytes())
        for k in range(len(traced.label))
    )


def unite(classes: Classes, tile_px: int, places: Iterable[TilePlace]) -> tuple[Closed, Union]:
    lattice = lattice_of(classes, tile_px)
    union = Union(lattice)
    closed = [union.finish()]
    closed += [union.add(place, pieces_at(classes, lattice, place)) for place in places]
    return Closed.concatenate(closed), union


SADDLE = np.array([[1, 0], [0, 1]], np.uint8)


@settings(max_examples=120, deadline=None)
@given(tilings())
@example(
    (
        np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], np.uint8),
        1,
        places_of(Lattice(Grid((3, 3), XY(1, 1)), 1, 0)),
    )
)
@example((np.kron(SADDLE, np.ones((2, 2), np.uint8)), 2, [(1, 1), (0, 0), (0, 1), (1, 0)]))
def test_united_is_the_whole_image(tiling: tuple[Classes, int, list[TilePlace]]) -> None:
    closed, union = unite(*tiling)
    assert sorted(regions(closed)) == whole(tiling[0])
    assert_canonical(closed.polygons)
    assert not closed.incomplete.any()
    assert union.wanted() == []
    assert union.held_corners == 0


@settings(max_examples=100, deadline=None)
@given(tilings())
def test_regions_know_their_anchor_and_their_pieces(
    tiling: tuple[Classes, int, list[TilePlace]],
) -> None:
    classes, tile_px, places = tiling
    closed, _ = unite(*tiling)
    component = cc3d.connected_components(classes, connectivity=4)
    lattice = lattice_of(classes, tile_px)
    pieces = {place: pieces_at(classes, lattice, place) for place in places}
    for k in range(len(closed)):
        x, y = closed.polygons.corners[closed.polygons.object_corner[k]]
        mask = component == component[y, x]
        assert tuple(closed.anchor[k].tolist()) == pixel_anchor(mask)
        members = closed.piece[closed.piece_start[k] : closed.piece_start[k + 1]].tolist()
        assert members == sorted(members)
        areas = [pieces[column, row].area_px[number] for column, row, number in members]
        assert sum(areas) == np.count_nonzero(mask)
    assert len(set(map(tuple, closed.piece.tolist()))) == len(closed.piece)
    assert len(closed.piece) == sum(map(len, pieces.values()))


def needed(classes: Classes, lattice: Lattice) -> dict[Region, set[TilePlace]]:
    """Return the tiles that each region waits for: its own, and those beside its pixels."""
    component = np.pad(cc3d.connected_components(classes, connectivity=4), 1)
    traced = trace_components(classes)
    rows, start = traced.polygons.records()
    answer = {}
    for k in range(len(traced.label)):
        x, y = traced.polygons.corners[traced.polygons.object_corner[k]]
        mask = component == component[y + 1, x + 1]
        beside = mask.copy()
        for axis in (0, 1):
            beside |= np.roll(mask, 1, axis) | np.roll(mask, -1, axis)
        beside = beside[1:-1, 1:-1]
        key = (
            int(traced.label[k]),
            int(traced.area_px[k]),
            rows[start[k] : start[k + 1]].tobytes(),
        )
        answer[key] = {
            (int(x) // lattice.tile_px, int(y) // lattice.tile_px) for y, x in np.argwhere(beside)
        }
    return answer


@settings(max_examples=100, deadline=None)
@given(tilings())
def test_a_region_closes_with_its_last_open_side(
    tiling: tuple[Classes, int, list[TilePlace]],
) -> None:
    classes, tile_px, places = tiling
    lattice = lattice_of(classes, tile_px)
    union = Union(lattice)
    open_regions = needed(classes, lattice)
    pieces: dict[tuple[int, int, int], int] = {}
    came: set[TilePlace] = set()
    for place in places:
        added = pieces_at(classes, lattice, place)
        corners = np.diff(added.polygons.object_corner).tolist()
        pieces |= {(*place, number): corners[number] for number in range(len(added))}
        closed = union.add(place, added)
        came.add(place)
        assert set(regions(closed)) == {key for key, tiles in open_regions.items() if tiles <= came}
        for key in regions(closed):
            del open_regions[key]
        for piece in closed.piece.tolist():
            del pieces[tuple(piece)]
        begun = [tiles - came for tiles in open_regions.values()]
        touched = {wanted for tiles in begun for wanted in tiles}
        assert set(union.wanted()) <= touched
        assert bool(union.wanted()) == bool(pieces)
        # no more than twice the boundary of what is open
        assert union.held_corners <= 2 * sum(pieces.values())
    assert open_regions == {}
    assert union.held_corners == 0


@settings(max_examples=100, deadline=None)
@given(tilings(), st.data())
def test_missing_tiles_are_empty_and_flag_what_they_may_have_cut(
    tiling: tuple[Classes, int, list[TilePlace]], data: st.DataObject
) -> None:
    classes, tile_px, places = tiling
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    drawn = rng.choice(["add", "add", "glass", "fail", "never"], len(places))
    fates = dict(zip(places, drawn.tolist(), strict=True))
    lattice = lattice_of(classes, tile_px)
    union = Union(lattice)
    closed = []
    for place, fate in fates.items():
        if fate == "add":
            closed.append(union.add(place, pieces_at(classes, lattice, place)))
        elif fate != "never":
            closed.append(union.close(place, complete=fate == "glass"))
    never = {place for place, fate in fates.items() if fate == "never"}
    assert set(union.wanted()) <= never
    closed.append(union.finish())
    united = Closed.concatenate(closed)

    seen, cutting = classes.copy(), np.zeros_like(classes)
    for place, fate in fates.items():
        if fate != "add":
            cells = lattice.grid.bounds.slices_of(lattice.tile(*place).write)
            seen[cells] = 0
            cutting[cells] = fate != "glass"
    assert sorted(regions(united)) == whole(seen)
    component = cc3d.connected_components(seen, connectivity=4)
    padded = np.pad(cutting, 1)
    beside = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    for k in range(len(united)):
        x, y = united.polygons.corners[united.polygons.object_corner[k]]
        assert united.incomplete[k] == beside[component == component[y, x]].any()
    assert union.wanted() == []
    assert union.held_corners == 0


def test_wanted_leads_to_the_rest_of_an_object() -> None:
    classes = spiral(23, 31).astype(np.uint8)
    lattice = lattice_of(classes, 5)
    union = Union(lattice)
    closed = [union.add((0, 0), pieces_at(classes, lattice, (0, 0)))]
    while wanted := union.wanted():
        closed += [union.add(place, pieces_at(classes, lattice, place)) for place in wanted]
    united = Closed.concatenate(closed)
    assert sorted(regions(united)) == whole(classes)
    assert not united.incomplete.any()


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("order", [1, -1])
def test_one_long_run_meets_several_short_ones(turns: int, order: int) -> None:
    """A bar on one side of a seam, the teeth of a comb on the other, some of them joined again."""
    bar = np.ones((8, 8), np.uint8)
    teeth = np.zeros((8, 8), np.uint8)
    teeth[:, ::2] = 1
    teeth[5, 2:5] = 1
    classes = np.ascontiguousarray(np.rot90(np.concatenate([bar, teeth]), turns))
    closed, _ = unite(classes, 8, places_of(lattice_of(classes, 8))[::order])
    assert regions(closed) == whole(classes)
    assert len(closed) == 1


def test_seams_between_classes_stay() -> None:
    classes = np.array([[1, 2], [1, 2]], np.uint8)
    closed, _ = unite(classes, 1, [(0, 0), (1, 0), (1, 1), (0, 1)])
    order = np.argsort(closed.label)
    assert closed.label[order].tolist() == [1, 2]
    assert [parts(closed.polygons, k) for k in order] == [
        [[((0, 0), (1, 0), (1, 2), (0, 2))]],
        [[((1, 0), (2, 0), (2, 2), (1, 2))]],
    ]


@pytest.mark.parametrize("tile_px", [64, 100, 128])
def test_a_large_tangle(tile_px: int) -> None:
    """Noise near the percolation threshold, under a grid that touches every tile."""
    rng = np.random.default_rng(tile_px)
    height, width = 397, 611
    classes = (rng.random((height, width)) < 0.58).astype(np.uint8)
    classes[rng.random((height, width)) < 0.1] = 2
    classes[::32] = classes[:, ::32] = 1
    places = places_of(lattice_of(classes, tile_px))
    closed, union = unite(classes, tile_px, [places[k] for k in rng.permutation(len(places))])
    assert sorted(regions(closed)) == whole(classes)
    assert union.held_corners == 0


def test_a_tile_comes_once_and_lies_in_the_lattice() -> None:
    classes = np.ones((4, 4), np.uint8)
    lattice = lattice_of(classes, 2)
    union = Union(lattice)
    union.add((0, 0), pieces_at(classes, lattice, (0, 0)))
    union.close((1, 1))
    for place in ((0, 0), (1, 1)):
        with pytest.raises(ValueError, match="before"):
            union.close(place)
        with pytest.raises(ValueError, match="before"):
            union.add(place, pieces_at(classes, lattice, place))
    with pytest.raises(ValueError, match="no tile"):
        union.close((2, 0))


def test_pieces_travel_between_processes() -> None:
    classes = np.random.default_rng(5).integers(0, 3, (40, 50)).astype(np.uint8)
    lattice = lattice_of(classes, 16)
    union = Union(lattice)
    closed = []
    for place in places_of(lattice):
        pieces = pickle.loads(pickle.dumps(pieces_at(classes, lattice, place)))
        for array in (pieces.polygons.corners, pieces.label, pieces.area_px):
            array.flags.writeable = False  # as when they come out of a journal
        closed.append(union.add(place, pieces))
    assert sorted(regions(Closed.concatenate(closed))) == whole(classes)


def test_one_part_each() -> None:
    """What `Union` gives out is connected; what `trace` gives out need not be."""
    labels = np.array([[1, 0], [0, 1]], np.int32)
    assert len(trace(labels).polygons) == 1
    assert len(unite(labels.astype(np.uint8), 1, [(0, 0), (1, 0), (0, 1), (1, 1)])[0]) == 2
