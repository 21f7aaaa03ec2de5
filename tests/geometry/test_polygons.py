from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
import uuid
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isoline.domain.events import Scope
from isoline.domain.object_ids import identify, scope_key
from isoline.geometry.polygons import Polygons, anchors, simplify, trace, trace_components
from tests.polygons import (
    assert_canonical,
    label_images,
    parts,
    pixel_anchor,
    pixels_to_shapely,
    spiral,
    to_shapely,
)

Labels = NDArray[np.int32]


def image(*rows: str) -> Labels:
    return np.array([[int(c, 36) for c in row.replace(".", "0")] for row in rows], np.int32)


def rings_of(labels: Labels) -> list[list[list[tuple[int, int]]]]:
    polygons = trace(labels).polygons
    return [
        [list(ring) for part in parts(polygons, k) for ring in part] for k in range(len(polygons))
    ]


def test_one_pixel_spans_its_corners() -> None:
    labels = np.zeros((9, 7), np.int32)
    labels[5, 3] = 8
    traced = trace(labels)
    assert parts(traced.polygons, 0) == [[((3, 5), (4, 5), (4, 6), (3, 6))]]
    assert traced.label.tolist() == [8]
    assert traced.area_px.tolist() == [1]
    assert trace(labels, (100, -20)).polygons.corners[0].tolist() == [103, -15]


def test_ring_around_a_pinch_goes_round_the_hole_by_itself() -> None:
    ring = image("111", "1.1", "11.")
    assert rings_of(ring) == [
        [
            [(0, 0), (3, 0), (3, 2), (2, 2), (2, 3), (0, 3)],
            [(1, 1), (1, 2), (2, 2), (2, 1)],
        ]
    ]
    assert to_shapely(trace(ring).polygons, 0).is_valid


def test_pixels_that_touch_at_a_corner_are_parts() -> None:
    traced = trace(image("2.1", ".2.", "1.1"))
    assert traced.label.tolist() == [1, 2]
    assert [len(parts(traced.polygons, k)) for k in (0, 1)] == [3, 2]
    assert traced.area_px.tolist() == [3, 2]


def test_nothing_gives_nothing() -> None:
    for labels in (np.zeros((4, 5), np.int32), np.full((4, 5), -1, np.int32)):
        traced = trace(labels)
        assert len(traced.polygons) == len(traced.label) == len(traced.area_px) == 0
        assert anchors(traced.polygons).shape == (0, 2)
        assert identify(b"", traced.label, traced.polygons).shape == (0, 16)
        assert len(simplify(traced.polygons, 1)) == 0


@settings(max_examples=150, deadline=None)
@given(label_images())
@example(image("1111", "1.11", "11.1", "1111"))
@example(image("11111", "1.1.1", "11.11", "1.1.1", "11111"))
def test_trace_is_the_union_of_the_pixels(labels: Labels) -> None:
    traced = trace(labels, (-3, 40))
    assert traced.label.tolist() == sorted(set(labels[labels > 0].tolist()))
    assert_canonical(traced.polygons)
    for k, label in enumerate(traced.label):
        seen = to_shapely(traced.polygons, k)
        assert seen.is_valid, shapely.is_valid_reason(seen)
        assert seen.equals(pixels_to_shapely(labels == label, -3, 40))
        assert seen.area == traced.area_px[k] == np.count_nonzero(labels == label)
    assert traced.polygons.areas2().tolist() == (2 * traced.area_px).tolist()


@settings(max_examples=100, deadline=None)
@given(label_images())
def test_components_are_the_parts(labels: Labels) -> None:
    pieces, whole = trace_components(labels), trace(labels).polygons
    assert (np.diff(pieces.polygons.object_start) == 1).all()
    firsts = [parts(pieces.polygons, k)[0][0][0][::-1] for k in range(len(pieces.label))]
    assert firsts == sorted(firsts)
    assert sorted(parts(pieces.polygons, k)[0] for k in range(len(firsts))) == sorted(
        part for k in range(len(whole)) for part in parts(whole, k)
    )


@settings(max_examples=50, deadline=None)
@given(label_images())
def test_neighbours_share_their_edges(labels: Labels) -> None:
    """Every unit edge between two labels is in both outlines, once each way."""
    polygons = trace(labels + 1).polygons  # the background is an object, too
    edges: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for k in range(len(polygons)):
        for ring in (ring for part in parts(polygons, k) for ring in part):
            for (xa, ya), (xb, yb) in zip(ring, ring[1:] + ring[:1], strict=True):
                n = abs(xb - xa) + abs(yb - ya)
                dx, dy = (xb - xa) // n, (yb - ya) // n
                steps = [(xa + i * dx, ya + i * dy) for i in range(n + 1)]
                edges += pairwise(steps)
    assert len(set(edges)) == len(edges)
    height, width = labels.shape
    lonely = set(edges) - {(b, a) for a, b in edges}
    assert all(a[0] == b[0] in (0, width) or a[1] == b[1] in (0, height) for a, b in lonely)
    assert len(lonely) == 2 * (height + width)


@settings(max_examples=150, deadline=None)
@given(label_images())
@example(image("11", "11"))
@example(image("1.1", "...", "1.1"))
@example(image("1111", "1..1", "1..1", "1111"))
def test_anchor_is_the_pixel_nearest_to_the_centre(labels: Labels) -> None:
    traced = trace(labels, (7, -9))
    expected = [list(pixel_anchor(labels == label, 7, -9)) for label in traced.label]
    assert anchors(traced.polygons).tolist() == expected


@settings(max_examples=50, deadline=None)
@given(label_images(), st.randoms())
def test_select_and_concatenate_keep_every_object(labels: Labels, random: object) -> None:
    polygons = trace_components(labels).polygons
    order = np.random.default_rng(len(polygons)).permutation(len(polygons))
    shuffled = polygons.select(order)
    halves = Polygons.concatenate([shuffled.select(order < 2), shuffled.select(order >= 2)])
    expected = [k for k in order if k < 2] + [k for k in order if k >= 2]
    assert [parts(halves, k) for k in range(len(halves))] == [parts(polygons, k) for k in expected]
    assert len(Polygons.concatenate([])) == 0
    moved = polygons.shift(5, -6).shift(-5, 6)
    np.testing.assert_array_equal(moved.corners, polygons.corners)


SCOPE = Scope("fingerprint", "nuclei", "1", (("spacing_um", 0.5), ("threshold", 3)))


def test_ids_are_uuids_of_version_5() -> None:
    """By the letter of RFC 9562: what is stored under an id today is found under it tomorrow."""
    polygons = trace(image("...", "..1")).polygons
    namespace = scope_key(SCOPE)
    assert uuid.UUID(bytes=namespace) == uuid.UUID("e8cab096-1633-50df-91cd-da10c241cfa9")
    name = struct.pack("<I", 7) + struct.pack("<10i", 4, 1, *(2, 1), *(3, 1), *(3, 2), *(2, 2))
    (ours,) = identify(namespace, np.array([7]), polygons)
    digest = hashlib.sha1(namespace + name).digest()
    assert uuid.UUID(bytes=ours.tobytes()) == uuid.UUID(bytes=digest[:16], version=5)


@pytest.mark.parametrize(
    "other",
    [
        replace(SCOPE, image="another"),
        replace(SCOPE, model="cells"),
        replace(SCOPE, version="2"),
        replace(SCOPE, parameters=(("spacing_um", 0.5), ("threshold", 4))),
    ],
)
def test_ids_depend_on_all_of_the_scope(other: Scope) -> None:
    polygons = trace(image("1")).polygons
    ids = [identify(scope_key(scope), np.zeros(1, np.uint16), polygons) for scope in (SCOPE, other)]
    assert ids[0].tobytes() != ids[1].tobytes()


def test_ids_depend_on_label_and_outline_and_nothing_else() -> None:
    labels = image("111.2", "1.1.2", "11133")
    polygons = trace(labels).polygons
    ids = identify(b"key", np.array([4, 5, 6]), polygons)
    backwards = identify(b"key", np.array([6, 5, 4]), polygons.select(np.array([2, 1, 0])))
    np.testing.assert_array_equal(ids, backwards[::-1])
    elsewhere = identify(b"key", np.array([4, 5, 6]), trace(labels, (1, 0)).polygons)
    relabelled = identify(b"key", np.array([5, 6, 4]), polygons)
    assert not (ids == elsewhere).all(axis=1).any()
    assert not (ids == relabelled).all(axis=1).any()


@settings(max_examples=100, deadline=None)
@given(label_images(), label_images())
def test_records_tell_objects_apart(one: Labels, other: Labels) -> None:
    def records(labels: Labels) -> set[bytes]:
        polygons = trace(labels).polygons
        rows, start = polygons.records()
        return {rows[start[k] : start[k + 1]].tobytes() for k in range(len(polygons))}

    def shapes(labels: Labels) -> set[tuple[tuple[int, int], ...]]:
        found = (
            np.argwhere(labels == label).tolist() for label in set(labels[labels > 0].tolist())
        )
        return {tuple((y, x) for y, x in pixels) for pixels in found}

    assert len(records(one) | records(other)) == len(shapes(one) | shapes(other))


@settings(max_examples=100, deadline=None)
@given(label_images(side=24), st.floats(0, 6))
def test_simplified_objects_stay_valid(labels: Labels, tolerance: float) -> None:
    exact = trace(labels).polygons
    loose = simplify(exact, tolerance)
    np.testing.assert_array_equal(loose.part_start, exact.part_start)
    np.testing.assert_array_equal(loose.object_start, exact.object_start)
    for k in range(len(exact)):
        before, after = to_shapely(exact, k), to_shapely(loose, k)
        assert after.is_valid
        assert before.hausdorff_distance(after) <= tolerance + 1e-9
        for shell, *holes in parts(loose, k):
            for ring in (shell, *holes):
                assert ring[0] == min(ring, key=lambda corner: corner[::-1])
            assert shapely.LinearRing(shell).is_ccw  # with y up, that is
            assert not any(shapely.LinearRing(hole).is_ccw for hole in holes)


def test_simplifying_takes_corners_away() -> None:
    y, x = np.indices((80, 80))
    exact = trace(((x - 40) ** 2 + (y - 40) ** 2 < 900).astype(np.int32)).polygons
    loose = simplify(exact, 1)
    assert len(loose.corners) < len(exact.corners) / 3
    assert abs(loose.areas2()[0] - exact.areas2()[0]) < 0.03 * exact.areas2()[0]
    np.testing.assert_array_equal(simplify(exact, 0).corners, exact.corners)


def test_a_ring_is_simplified_to_four_corners_and_to_no_fewer() -> None:
    notched = np.ones((10, 20), np.int32)
    notched[0, 8:10] = 0
    exact = trace(notched).polygons
    assert len(exact.corners) == 8
    (ring,) = parts(simplify(exact, 1.5), 0)[0]
    assert ring == ((0, 0), (20, 0), (20, 10), (0, 10))
    small = trace(np.ones((1, 2), np.int32)).polygons
    np.testing.assert_array_equal(simplify(small, 5).corners, small.corners)


def test_a_spiral_is_one_ring() -> None:
    traced = trace(spiral(61, 47).astype(np.int32))
    assert len(traced.polygons.ring_start) - 1 == 1
    assert traced.area_px.tolist() == [np.count_nonzero(spiral(61, 47))]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_any_integer_labels(dtype: type[np.integer]) -> None:
    labels = image("1.2", "122")
    np.testing.assert_array_equal(
        trace(labels.astype(dtype)).polygons.corners, trace(labels).polygons.corners
    )
    strided = np.repeat(np.repeat(labels, 2, axis=0), 3, axis=1)[::2, ::3]
    np.testing.assert_array_equal(trace(strided).polygons.corners, trace(labels).polygons.corners)


def test_importing_compiles_nothing() -> None:
    heavy = "{'numba', 'cc3d', 'cv2', 'shapely'} & set(sys.modules)"
    light = "isoline.geometry.seams, isoline.domain.object_ids"
    code = f"import sys, {light}; sys.exit(str({heavy} or 0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "0"
