"""What a request asks with its prompts: checked, and put in the coordinates of the scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from isoline.domain import mask_rle
from isoline.domain.prompts import DrawnSlice, Prompt, check
from isoline.domain.request import SegmentRequest
from isoline.errors import BadPrompt
from isoline.geometry.region import Region
from isoline.geometry.volume_grid import VolumeInfo
from isoline.images.catalog import Found
from isoline.inference.prompt_task import Asked, _whole
from isoline.models.base import ModelSpec
from isoline.models.promptable import Index

MAX_INITIAL_PX = 1 << 26
"""The box around an outline to start from has at most so many pixels: 8192 x 8192."""
_FLAT = 0.5
"""How far the corners of a lasso may lie from one plane, in voxels."""


def asked_of(request: SegmentRequest, spec: ModelSpec, found: Found) -> Asked | None:
    """Return what `request` asks of `found` with its prompts; None for a model without any.

    Raises BadPrompt, naming the prompt, where they do not say what is meant.
    """
    if not spec.prompts:
        for key in ("prompts", "frame_of_reference", "initial"):
            if getattr(request, key):
                raise BadPrompt(
                    f"{key}: {spec.name} takes no prompts",
                    "leave it out, or choose a model whose `prompts` are not empty",
                )
        return None
    _check_kinds(request, spec)
    volume = found.info.volume
    if volume is None:
        return _of_picture(request, found)
    return _of_volume(request, found.name, volume)


def _check_kinds(request: SegmentRequest, spec: ModelSpec) -> None:
    if not request.prompts:
        raise BadPrompt(
            f"{spec.name} needs prompts: it segments what they point at",
            f"give some of {', '.join(spec.prompts)}, or choose a model that takes none",
        )
    for key in ("region", "tile", "at_um"):
        if getattr(request, key) is not None:
            raise BadPrompt(
                f"{key} does not go with prompts, which say where the object is", "leave it out"
            )
    for number, prompt in enumerate(request.prompts):
        if prompt.kind not in spec.prompts:
            raise BadPrompt(
                f"prompts[{number}]: {spec.name} does not understand a {prompt.kind}",
                f"it understands {', '.join(spec.prompts)}",
            )
    if not request.initial and not any(prompt.include for prompt in request.prompts):
        raise BadPrompt(
            "every prompt excludes and there is nothing to exclude it from",
            "include something, or send the result to correct as initial",
        )


def _of_picture(request: SegmentRequest, found: Found) -> Asked:
    check(request.prompts, 2)
    name, size, covered = found.name, found.info.size, found.info.covered
    shown = "{} has {} x {} pixels".format(name, *size)
    if request.frame_of_reference is not None:
        raise BadPrompt(
            f"{name} is a picture and lies in no frame of reference",
            "leave frame_of_reference out and give prompts in image pixels",
        )
    initial = request.initial
    if isinstance(initial, tuple):
        raise BadPrompt(
            f"initial: slices of a volume, and {name} is a picture",
            "give GeoJSON or [x0, y0, x1, y1] in image pixels",
        )
    if initial is not None:
        area = _whole(size).cover(initial.bounds).intersect(_whole(size).bounds)
        if area.empty:
            raise BadPrompt("initial lies outside the image", shown)
        if area.area > MAX_INITIAL_PX:
            raise BadPrompt(
                f"initial: the box around it has {area.area / 1e6:.0f} million pixels,"
                f" {MAX_INITIAL_PX / 1e6:.0f} million are allowed",
                "correct a smaller object",
            )
    places = [np.array(prompt.points)[:, ::-1] for prompt in request.prompts]
    asked = Asked(_placed(request.prompts, places, size[::-1], shown), initial)
    if covered is not None and not covered.meets(asked.area()):
        raise BadPrompt(
            f"{name} has no pixels where the prompts point",
            "upload those around them: announce the upload with this request",
        )
    return asked


def _of_volume(request: SegmentRequest, name: str, volume: VolumeInfo) -> Asked:
    check(request.prompts, 3)
    given, grid = [np.array(prompt.points) for prompt in request.prompts], volume.grid
    frame = request.frame_of_reference
    if frame is not None:
        if frame != grid.frame_of_reference:
            raise BadPrompt(
                f"the prompts lie in the frame of reference {frame} and {name} in"
                f" {grid.frame_of_reference or 'none'}",
                "draw them on this series, or leave frame_of_reference out and give voxel indices",
            )
        given = [grid.to_index(points) for points in given]
    # an index names the centre of a voxel, a place in a scene is counted from its corner
    places = [points[:, ::-1] + 0.5 for points in given]
    shown = "{} has {} x {} x {} voxels".format(name, *grid.size)
    for number, (prompt, at) in enumerate(zip(request.prompts, places, strict=True)):
        if prompt.kind == "polygon" and _unevenness(at) > _FLAT:
            raise BadPrompt(
                f"prompts[{number}]: the corners of a polygon lie in one plane, not these",
                "draw it in one slice",
            )
    prompts = _placed(request.prompts, places, grid.shape, shown)
    return Asked(prompts, _slices(request.initial, name, volume))


def _placed(
    prompts: Sequence[Prompt], places: Sequence[NDArray[np.float64]], size: Index, shown: str
) -> tuple[Prompt, ...]:
    """Return `prompts` at `places`, (n, axes) in array order each, none of them far outside."""
    seen: dict[tuple[int, ...], int] = {}
    for number, (prompt, at) in enumerate(zip(prompts, places, strict=True)):
        where = f"prompts[{number}]"
        low, high = at.min(axis=0), at.max(axis=0)
        # half-open as the image is, but a line along its border still touches it
        if (high < 0).any() or (low >= size).any():
            raise BadPrompt(f"{where} lies outside the image", shown)
        if prompt.kind != "point":
            continue
        if (low < 0).any():
            raise BadPrompt(f"{where} lies outside the image", shown)
        pixel = tuple(np.floor(at[0]).astype(int).tolist())
        other = seen.setdefault(pixel, number)
        if prompts[other].include != prompt.include:
            includes, excludes = (number, other) if prompt.include else (other, number)
            raise BadPrompt(
                f"prompts[{includes}] includes and prompts[{excludes}] excludes the same"
                f" {'pixel' if len(pixel) == 2 else 'voxel'},"
                f" {', '.join(map(str, reversed(pixel)))}",
                "remove one of them",
            )
    reach = np.array(size)
    return tuple(
        replace(prompt, points=tuple(map(tuple, at.clip(-reach, 2 * reach).tolist())))
        for prompt, at in zip(prompts, places, strict=True)
    )


def _unevenness(points: NDArray[np.float64]) -> float:
    """Return how far (n, 3) points lie from the plane that fits them best, at most."""
    centred = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    return float(np.abs(centred @ axes[-1]).max())


def _slices(
    initial: Region | tuple[DrawnSlice, ...] | None, name: str, volume: VolumeInfo
) -> tuple[DrawnSlice, ...] | None:
    """Return the slices of `initial` named by k."""
    if initial is None:
        return None
    if isinstance(initial, Region):
        raise BadPrompt(
            f"initial: an outline, and {name} is a volume", 'give {"slices": [...]}, a mask'
        )
    columns, rows, _ = volume.grid.size
    checked = []
    for number, drawn in enumerate(initial):
        where, (i0, j0, i1, j1) = f"initial.slices[{number}]", drawn.box
        if not (0 <= i0 < i1 <= columns and 0 <= j0 < j1 <= rows):
            raise BadPrompt(
                f"{where}.box: {[*drawn.box]} is not a box in a slice",
                f"give i0 < i1 <= {columns} and j0 < j1 <= {rows}",
            )
        try:
            mask_rle.lengths(drawn.runs, (i1 - i0) * (j1 - j0))
        except ValueError as error:
            raise BadPrompt(f"{where}.runs: {error}", "see docs/protocol.md, mask") from None
        checked.append(replace(drawn, slice=volume.k_of(drawn.slice, name)))
    return tuple(checked)
