"""Boxes drawn in patient space, as boxes of voxels or as the outlines that they are in the image.

Two opposite corners determine a box only together with its directions. Those are the voxels' own if
the corners are voxel indices, and the patient's if they are in millimetres; four corners bring
their own plane, whatever the directions of the image.

      b ---- c        four corners, in any order: a and c are opposite if a + c = b + d
     /      /
    a ---- d
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from isoline.domain.prompts import Prompt
from isoline.errors import BadPrompt
from isoline.geometry.volume_grid import VolumeGrid

_FLAT_MM = 1e-3
"""A box thinner than this lies in a plane."""
_NEAR = 0.5
"""Within half a voxel, a side runs along an axis of the voxels, and corners are in one slice."""
_SQUARE = 0.02
"""How far four corners may be from a parallelogram, as a share of its diagonal."""
_ALIGNED = 1e-3


def box_in_voxels(prompt: Prompt, where: str, grid: VolumeGrid) -> Prompt:
    """Return a box in LPS millimetres in voxel indices (i, j, k).

    It is still a box, with two opposite corners, if its sides run along the axes of the voxels, and
    otherwise the polygon of its four corners. `where` names the prompt in messages.

    Raises BadPrompt if the corners do not determine a box.
    """
    corners = np.array(prompt.points)
    if len(corners) == 4:
        return _placed(prompt, grid.to_index(_ring(corners, where)))
    size = np.abs(corners[1] - corners[0])
    if _is_along_patient(grid):
        return _two(prompt, grid.to_index(corners))
    if size.min() < _FLAT_MM:
        return _placed(prompt, grid.to_index(_ring_of_flat(corners)))
    index = grid.to_index(corners)
    if np.abs(index[1] - index[0]).min() < _NEAR:
        raise BadPrompt(
            f"{where}: two opposite corners do not determine a box in a plane of an oblique image",
            "send all four corners, or voxel indices without frame_of_reference",
        )
    every = np.array(list(product(*corners.T)))
    index = grid.to_index(every)
    return _two(prompt, np.stack([index.min(axis=0), index.max(axis=0)]))


def _is_along_patient(grid: VolumeGrid) -> bool:
    """Return whether the voxels run along the patient's axes, in any order and direction."""
    steps = grid.affine[:3, :3] / np.array(grid.spacing_mm)
    return bool((np.sort(np.abs(steps), axis=0)[:2] < _ALIGNED).all())


def _ring(corners: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    """Return four corners, given in any order, around the box."""
    first, *others = range(4)
    off = [
        float(np.linalg.norm(corners[first] + corners[each] - corners[rest].sum(axis=0)))
        for each in others
        for rest in [[n for n in others if n != each]]
    ]
    opposite = others[int(np.argmin(off))]
    longest = float(np.linalg.norm(corners[:, None] - corners, axis=-1).max())
    if min(off) > _SQUARE * longest:
        raise BadPrompt(
            f"{where}: the four corners are not those of a rectangle",
            "send the corners of the box, or draw a polygon",
        )
    beside = [n for n in others if n != opposite]
    return corners[[first, beside[0], opposite, beside[1]]]


def _ring_of_flat(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the four corners of a box along the patient's axes, which is flat in one of them."""
    thin = int(np.abs(corners[1] - corners[0]).argmin())
    u, v = (axis for axis in range(3) if axis != thin)
    ring = np.repeat(corners[:1], 4, axis=0)
    ring[1:3, u], ring[2:, v] = corners[1, u], corners[1, v]
    return ring


def _placed(prompt: Prompt, ring: NDArray[np.float64]) -> Prompt:
    """Return the prompt whose four corners in voxels are `ring`."""
    sides = np.abs(np.diff(ring[:3], axis=0))
    if ((sides > _NEAR).sum(axis=1) <= 1).all():
        return _two(prompt, ring[[0, 2]])
    return Prompt("polygon", tuple(map(tuple, ring.tolist())), prompt.include)


def _two(prompt: Prompt, corners: NDArray[np.float64]) -> Prompt:
    return Prompt(prompt.kind, tuple(map(tuple, corners.tolist())), prompt.include)
