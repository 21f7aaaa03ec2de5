"""Prompts and initial masks in a volume: from patient space, or from voxels by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from isoline.domain import mask_rle
from isoline.domain.prompts import DrawnSlice, Prompt, check
from isoline.domain.request import SegmentRequest
from isoline.errors import BadPrompt
from isoline.geometry.region import Region
from isoline.geometry.volume_grid import VolumeGrid, VolumeInfo
from isoline.models.model import ModelSpec
from isoline.pipeline.prompt_places import placed
from isoline.pipeline.voxel_boxes import box_in_voxels

_FLAT = 0.5
"""How far the corners of a lasso may be from a common plane, in voxels."""


def place_in_volume(
    request: SegmentRequest, name: str, volume: VolumeInfo, spec: ModelSpec
) -> tuple[Prompt, ...]:
    """Return the prompts in (k, j, i) order. Raises BadPrompt."""
    check(request.prompts, 3)
    grid, frame, prompts = volume.grid, request.frame_of_reference, request.prompts
    if frame is not None and frame != grid.frame_of_reference:
        raise BadPrompt(
            f"the prompts are in the frame of reference {frame} and {name} in"
            f" {grid.frame_of_reference or 'none'}",
            "draw them on this series, or leave frame_of_reference out and send voxel indices",
        )
    if frame is not None:
        prompts = tuple(
            _from_patient(prompt, f"prompts[{number}]", grid, spec)
            for number, prompt in enumerate(prompts)
        )
    # an index refers to the centre of a voxel, a position in an image view to its corner
    places = [np.array(prompt.points)[:, ::-1] + 0.5 for prompt in prompts]
    shown = "{} has {} x {} x {} voxels".format(name, *grid.size)
    for number, (prompt, at) in enumerate(zip(prompts, places, strict=True)):
        if prompt.kind == "box" and len(at) == 4:
            raise BadPrompt(
                f"prompts[{number}]: four corners of a box are in millimetres",
                "name their frame_of_reference, or send two opposite corners in voxels",
            )
        if prompt.kind == "polygon" and _unevenness(at) > _FLAT:
            raise BadPrompt(
                f"prompts[{number}]: the corners of the polygon do not lie in one plane",
                "draw it in one slice",
            )
    return placed(prompts, places, grid.shape, shown)


def _from_patient(prompt: Prompt, where: str, grid: VolumeGrid, spec: ModelSpec) -> Prompt:
    """Return a prompt in LPS millimetres in voxel indices. Raises BadPrompt."""
    if prompt.kind == "box":
        placed = box_in_voxels(prompt, where, grid)
        if placed.kind not in spec.prompts:
            raise BadPrompt(
                f"{where}: the sides of the box do not run along the voxels of the image, and"
                f" {spec.name} supports no other",
                "draw it in a slice of the image, along its rows and columns",
            )
        return placed
    points = grid.to_index(np.array(prompt.points)).tolist()
    return replace(prompt, points=tuple(map(tuple, points)))


def _unevenness(points: NDArray[np.float64]) -> float:
    """Return the largest distance of (n, 3) points from their best-fitting plane."""
    centred = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    return float(np.abs(centred @ axes[-1]).max())


def drawn_slices(
    initial: Region | tuple[DrawnSlice, ...] | None, name: str, volume: VolumeInfo
) -> tuple[DrawnSlice, ...] | None:
    """Return the slices of `initial`, identified by k."""
    if initial is None:
        return None
    if isinstance(initial, Region):
        raise BadPrompt(
            f"initial: it is an outline, and {name} is a volume",
            'send a mask, {"slices": [...]}',
        )
    columns, rows, _ = volume.grid.size
    checked = []
    for number, drawn in enumerate(initial):
        where, (i0, j0, i1, j1) = f"initial.slices[{number}]", drawn.box
        if not (0 <= i0 < i1 <= columns and 0 <= j0 < j1 <= rows):
            raise BadPrompt(
                f"{where}.box: {[*drawn.box]} is not a box in a slice",
                f"use i0 < i1 <= {columns} and j0 < j1 <= {rows}",
            )
        try:
            mask_rle.lengths(drawn.runs, (i1 - i0) * (j1 - j0))
        except ValueError as error:
            raise BadPrompt(f"{where}.runs: {error}", "see docs/protocol.md, mask") from None
        checked.append(replace(drawn, slice=volume.k_of(drawn.slice, name)))
    return tuple(checked)
