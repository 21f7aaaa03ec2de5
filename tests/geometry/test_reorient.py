"""Volumes turned towards sides of the patient and sampled between their voxels."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from isoline.geometry import resampling
from isoline.geometry.reorient import Orientation
from isoline.geometry.volume_grid import LPS, VolumeGrid

OF_SIDE = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
"""Axis of LPS, and whether the side lies up or down it."""
CODES = [
    "".join(code)
    for code in permutations("LRPASI", 3)
    if len({OF_SIDE[side][0] for side in code}) == 3
]


def grid_towards(sides: str, lean: float = 0.0) -> VolumeGrid:
    """Return a grid whose axes (k, j, i) run towards `sides`, or nearly, with unequal steps."""
    steps = []
    for length, side in zip((2.5, 1.25, 0.5), sides, strict=True):
        step = np.full(3, lean)
        step[OF_SIDE[side][0]] = OF_SIDE[side][1]
        steps.append(LPS(*(length * step).tolist()))
    k, j, i = steps
    return VolumeGrid((4, 3, 2), LPS(5.0, -7.0, 11.0), i, j, k)


@pytest.mark.parametrize("lies", ["SPL", "IAR", "LSP", "ASR"])
@pytest.mark.parametrize("lean", [0.0, 0.2, -0.2])
def test_turned_arrays_run_towards_the_sides(lies: str, lean: float) -> None:
    grid = grid_towards(lies, lean)
    k, j, i = np.indices(grid.shape)
    where = grid.to_lps(np.stack([i, j, k], axis=-1))
    assert len(CODES) == 48
    for sides in CODES:
        found = Orientation.towards(sides, grid)
        for axis, side in enumerate(sides):
            along, sign = OF_SIDE[side]
            turned = found.turn(where[..., along])
            assert (sign * np.diff(turned, axis=axis) > 0).all()


@pytest.mark.parametrize("sides", ["RAS", "LPS", "SLA", "AIR"])
@pytest.mark.parametrize("lies", ["SPL", "IAR", "LSP", "ASR"])
def test_what_is_turned_can_be_turned_back(sides: str, lies: str) -> None:
    grid = grid_towards(lies)
    found = Orientation.towards(sides, grid)
    whole = np.arange(24).reshape(grid.shape)
    np.testing.assert_array_equal(found.back(found.turn(whole)), whole)
    unflipped = whole.transpose(found.axes)
    np.testing.assert_array_equal(found.turn(np.flip(whole, found.flipped_axes)), unflipped)
    assert found.of_array([f"axis {axis}" for axis in found.axes]) == ("axis 0", "axis 1", "axis 2")


@given(st.integers(0, 10**6))
def test_the_axis_nearest_to_a_side_runs_along_it(seed: int) -> None:
    turned = Rotation.random(random_state=seed).as_matrix()
    i, j, k = (LPS(*step) for step in (turned * (0.5, 1.25, 2.5)).T.tolist())
    grid = VolumeGrid((4, 3, 2), LPS(0.0, 0.0, 0.0), i, j, k)
    for sides in ("LPS", "RAS", "SAL", "IRP"):
        found = Orientation.towards(sides, grid)
        of_k_j_i = turned[:, ::-1]
        cosines = np.array([OF_SIDE[s][1] * of_k_j_i[OF_SIDE[s][0]] for s in sides])
        side, axis = np.unravel_index(np.abs(cosines).argmax(), (3, 3))
        assert found.axes[side] == axis
        assert found.flips[side] == (cosines[side, axis] < 0)
        assert sorted(found.axes) == [0, 1, 2]


def test_a_scan_of_known_orientation() -> None:
    """Slices upwards, rows to the back, columns to the left: RAS turns two of the three round."""
    found = Orientation.towards("RAS", grid_towards("SPL"))
    assert found == Orientation((2, 1, 0), (True, True, False))
    assert found.flipped_axes == (2, 1)
    assert found.of_array((0.5, 1.25, 2.5)) == (2.5, 1.25, 0.5)


places = st.lists(st.floats(-2, 7), min_size=1, max_size=4).map(np.array)


def noise(seed: int, dtype: str = "int16") -> NDArray[np.generic]:
    return np.random.default_rng(seed).integers(-900, 900, (5, 4, 6)).astype(dtype)


@given(places, st.sampled_from([0, 1, 2, -1, -3]), st.integers(0, 99))
def test_sampling_along_an_axis_is_linear(at: NDArray[np.float64], axis: int, seed: int) -> None:
    values = noise(seed)
    found = resampling.linear(values, axis, at)
    expected = np.apply_along_axis(
        lambda line: np.interp(at, np.arange(len(line)), line), axis, values.astype(float)
    )
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-2)


@given(places, places, places, st.integers(0, 99))
def test_sampling_a_volume_is_linear_along_each_axis(
    k: NDArray[np.float64], j: NDArray[np.float64], i: NDArray[np.float64], seed: int
) -> None:
    values = noise(seed)
    found = resampling.volume(values, (k, j, i))
    at = np.stack(np.meshgrid(k, j, i, indexing="ij"))
    expected = map_coordinates(values.astype(float), at, order=1, mode="nearest")
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-2)


def test_whole_indices_take_voxels_as_they_are() -> None:
    values = noise(1, "float32")
    taken = resampling.linear(values, 1, np.array([3.0, 0.0]))
    np.testing.assert_array_equal(taken, values[:, [3, 0]])
    assert resampling.linear(noise(1), 0, np.array([4.0])).dtype == np.float32
