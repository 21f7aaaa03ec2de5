"""Independent views of polygons, and label images that are hard to trace."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import shapely
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from isoline.geometry.polygons import Polygons

Ring = tuple[tuple[int, int], ...]


def parts(polygons: Polygons, k: int) -> list[list[Ring]]:
    """Return the rings of each part of object k, one corner at a time."""
    return [
        [
            tuple(
                (int(x), int(y))
                for x, y in polygons.corners[slice(*polygons.ring_start[r : r + 2])]
            )
            for r in range(polygons.part_start[p], polygons.part_start[p + 1])
        ]
        for p in range(polygons.object_start[k], polygons.object_start[k + 1])
    ]


def to_shapely(polygons: Polygons, k: int) -> BaseGeometry:
    """Return object k as one multipolygon, exactly as its rings say."""
    return shapely.MultiPolygon([(shell, holes) for shell, *holes in parts(polygons, k)])


def pixels_to_shapely(mask: NDArray[np.bool_], x0: int = 0, y0: int = 0) -> BaseGeometry:
    """Return the union of the unit squares of `mask`: the slow, obvious way."""
    y, x = np.nonzero(mask)
    return shapely.union_all(shapely.box(x0 + x, y0 + y, x0 + x + 1, y0 + y + 1))


def assert_canonical(polygons: Polygons) -> None:
    """Check everything that the docstring of `Polygons` promises about order and direction."""
    for k in range(len(polygons)):
        shells = [part[0] for part in parts(polygons, k)]
        assert shells == sorted(shells, key=_raster)
        for shell, *holes in parts(polygons, k):
            assert _area2(shell) > 0
            assert all(_area2(hole) < 0 for hole in holes)
            assert holes == sorted(holes, key=_raster)
            for ring in (shell, *holes):
                assert ring[0] == min(ring, key=lambda corner: corner[::-1])
                assert len(set(ring)) == len(ring)
                for a, b, c in zip(ring, ring[1:] + ring[:1], ring[2:] + ring[:2], strict=True):
                    # edges run along the axes in turn
                    assert (a[0] == b[0]) != (a[1] == b[1])
                    assert (a[0] == b[0]) != (b[0] == c[0])


def pixel_anchor(mask: NDArray[np.bool_], x0: int = 0, y0: int = 0) -> tuple[int, int]:
    """Return the pixel of `mask` nearest to the centre of its bounding box, by looking at all."""
    y, x = np.nonzero(mask)
    distance = (2 * x - x.min() - x.max()) ** 2 + (2 * y - y.min() - y.max()) ** 2
    nearest = min(zip(distance.tolist(), y.tolist(), x.tolist(), strict=True))
    return x0 + nearest[2], y0 + nearest[1]


@st.composite
def label_images(draw: st.DrawFn, side: int = 14) -> NDArray[np.int32]:
    """Draw salt and pepper of any density, or one of the shapes that make rings meet."""
    height, width = draw(st.integers(1, side)), draw(st.integers(1, side))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y, x = np.indices((height, width))
    kind = draw(st.sampled_from(["noise", "diagonals", "rings", "spiral", "grid", "checks"]))
    shape = {
        "noise": rng.random((height, width)) < rng.random(),
        "diagonals": (x + y) % draw(st.integers(2, 5)) == 0,
        "rings": np.maximum(abs(x - width // 2), abs(y - height // 2)) % 2 == 0,
        "spiral": spiral(height, width),
        "grid": (x % draw(st.integers(2, 5)) == 0) | (y % draw(st.integers(2, 5)) == 0),
        "checks": (x // 2 + y // 2) % 2 == 0,
    }[kind]
    speckle = rng.random((height, width)) < draw(st.sampled_from([0, 0.05, 0.2]))
    values = rng.integers(1, 1 + draw(st.integers(1, 3)), (height, width))
    labels: NDArray[np.int32] = np.where(shape ^ speckle, values, 0).astype(np.int32)
    return labels


def spiral(height: int, width: int) -> NDArray[np.bool_]:
    """Return a corridor one pixel wide that winds inwards: one component, no hole."""
    mask = np.zeros((height, width), np.bool_)
    y, x, dy, dx = 0, 0, 0, 1
    mask[0, 0] = True
    for _ in range(2 * (height + width)):
        while _is_free(mask, y + dy, x + dx) and _is_free(mask, y + 2 * dy, x + 2 * dx, True):
            y, x = y + dy, x + dx
            mask[y, x] = True
        dy, dx = dx, -dy
    return mask


def _is_free(mask: NDArray[np.bool_], y: int, x: int, outside: bool = False) -> bool:
    if not (0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]):
        return outside
    return not mask[y, x]


def _raster(ring: Ring) -> tuple[int, int]:
    return ring[0][1], ring[0][0]


def _area2(ring: Ring) -> int:
    return sum(xa * yb - xb * ya for (xa, ya), (xb, yb) in pairwise((*ring, ring[0])))
