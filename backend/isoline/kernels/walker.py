"""The random walker: the probability that a walk from a voxel reaches the object's seeds first.

Grady (IEEE PAMI 28:1768, 2006). A walk prefers steps between similar voxels, so the probabilities
fall steeply across borders. Pictures are volumes of one slice.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

FREE, OBJECT, OTHER = 0, 1, 2
"""Values of a seed array: undecided, object, background."""


@numba.njit(cache=True, nogil=True)
def conductances(
    features: NDArray[np.float32], beta: float, least: float, steps: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return (3, k, j, i) the conductance from each voxel to the next along each axis.

    It is exp(-beta d^2 / mean d^2) + least for a difference d of `features` (c, k, j, i), divided
    by the square of the voxel length along the axis, `steps`; 0 where there is no next voxel.
    """
    channels, slices, rows, columns = features.shape
    paths = np.zeros((3, slices, rows, columns), np.float32)
    total, count = 0.0, 0
    for axis in range(3):
        dk, dj, di = int(axis == 0), int(axis == 1), int(axis == 2)
        for k in range(slices - dk):
            for j in range(rows - dj):
                for i in range(columns - di):
                    square = np.float32(0)
                    for c in range(channels):
                        one = features[c, k, j, i] - features[c, k + dk, j + dj, i + di]
                        square += one * one
                    paths[axis, k, j, i] = square
                    total += square
                    count += 1
    scale = np.float32(-beta * count / total) if total > 0 else np.float32(0)
    for axis in range(3):
        dk, dj, di = int(axis == 0), int(axis == 1), int(axis == 2)
        closer = np.float32(1) / (steps[axis] * steps[axis])
        for k in range(slices - dk):
            for j in range(rows - dj):
                for i in range(columns - di):
                    alike = np.exp(scale * paths[axis, k, j, i]) + np.float32(least)
                    paths[axis, k, j, i] = closer * alike
    return paths


@numba.njit(cache=True, nogil=True)
def potentials(
    paths: NDArray[np.float32],
    seeds: NDArray[np.uint8],
    start: NDArray[np.float32],
    tolerance: float,
    rounds: int,
) -> NDArray[np.float32]:
    """Return (k, j, i) probabilities that a walk along `paths` reaches OBJECT before OTHER seeds.

    Uses conjugate gradients with a diagonal preconditioner, from `start`, until the residual has
    fallen to `tolerance` times the first one, for at most `rounds` iterations.
    """
    solution: NDArray[np.float32] = start.copy()
    is_free, diagonal = _system(paths, seeds, solution)
    direction, image = np.zeros_like(solution), np.zeros_like(solution)
    _apply(paths, diagonal, is_free, solution, image)
    x, p, y = solution.reshape(-1), direction.reshape(-1), image.reshape(-1)
    free, weight = is_free.reshape(-1), diagonal.reshape(-1)
    r = -y
    rz = 0.0
    for n in range(x.size):
        if free[n]:
            p[n] = r[n] / weight[n]
            rz += r[n] * p[n]
    enough = tolerance * tolerance * rz
    for _ in range(rounds):
        if rz <= enough or rz < 1e-20:
            break
        _apply(paths, diagonal, is_free, direction, image)
        py = 0.0
        for n in range(x.size):
            py += p[n] * y[n]
        alpha = np.float32(rz / py)
        before, rz = rz, 0.0
        for n in range(x.size):
            if free[n]:
                x[n] += alpha * p[n]
                r[n] -= alpha * y[n]
                rz += r[n] * r[n] / weight[n]
        ratio = np.float32(rz / before)
        for n in range(x.size):
            if free[n]:
                p[n] = r[n] / weight[n] + ratio * p[n]
    return solution


@numba.njit(cache=True, nogil=True)
def _system(
    paths: NDArray[np.float32], seeds: NDArray[np.uint8], x: NDArray[np.float32]
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Return the free voxels and the sum of each voxel's conductances; set `x` at the seeds."""
    _, slices, rows, columns = paths.shape
    free = np.zeros((slices, rows, columns), np.bool_)
    diagonal = np.zeros((slices, rows, columns), np.float32)
    for k in range(slices):
        for j in range(rows):
            for i in range(columns):
                total = paths[0, k, j, i] + paths[1, k, j, i] + paths[2, k, j, i]
                if k > 0:
                    total += paths[0, k - 1, j, i]
                if j > 0:
                    total += paths[1, k, j - 1, i]
                if i > 0:
                    total += paths[2, k, j, i - 1]
                diagonal[k, j, i] = total
                seed = seeds[k, j, i]
                free[k, j, i] = seed == FREE and total > 0
                if seed != FREE:
                    x[k, j, i] = seed == OBJECT
    return free, diagonal


@numba.njit(cache=True, nogil=True)
def _apply(
    paths: NDArray[np.float32],
    diagonal: NDArray[np.float32],
    free: NDArray[np.bool_],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
) -> None:
    """Write the Laplacian of `x` to `y` at free voxels."""
    _, slices, rows, columns = paths.shape
    for k in range(slices):
        for j in range(rows):
            for i in range(columns):
                if not free[k, j, i]:
                    continue
                value = diagonal[k, j, i] * x[k, j, i]
                if i + 1 < columns:
                    value -= paths[2, k, j, i] * x[k, j, i + 1]
                if i > 0:
                    value -= paths[2, k, j, i - 1] * x[k, j, i - 1]
                if j + 1 < rows:
                    value -= paths[1, k, j, i] * x[k, j + 1, i]
                if j > 0:
                    value -= paths[1, k, j - 1, i] * x[k, j - 1, i]
                if k + 1 < slices:
                    value -= paths[0, k, j, i] * x[k + 1, j, i]
                if k > 0:
                    value -= paths[0, k - 1, j, i] * x[k - 1, j, i]
                y[k, j, i] = value
