"""The answer of a promptable model to results: an outline on a picture, slices in a volume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from isoline.domain import mask_rle
from isoline.domain.events import Mask, Objects
from isoline.geometry import polygons as contours
from isoline.inference import results
from isoline.inference.task import Task
from isoline.models.promptable import Answer, Index, Scene

NOTHING = "nothing was found where the prompts point"


def found_in(task: Task, scene: Scene, answer: Answer) -> tuple[Objects | Mask | None, str]:
    """Return the one object of `answer`, or None and the reason why there is none.

    It is exact in pixels of level 0, whatever the level of the answer: an outline in which parts
    that touch at a corner only, or not at all, are parts of one object, or a mask that holds the
    slices with the object and no other. What lies outside the image belongs to nothing.
    """
    low, mask = _on_image(scene, answer)
    if not mask.any():
        return None, answer.reason or NOTHING
    factor = scene.factor(answer.window.level)
    if len(factor) == 2:
        return _outline(task, mask, low, factor), ""
    return _slices(mask, low, factor, scene.size(0)), ""


def _on_image(scene: Scene, answer: Answer) -> tuple[Index, NDArray[np.bool_]]:
    """Return where the part of the answer's mask that lies on the image begins, and that part."""
    window, size = answer.window, scene.size(answer.window.level)
    if not answer.mask.size:
        return window.low, np.zeros((1,) * len(size), np.bool_)
    low = tuple(max(0, each) for each in window.low)
    part = tuple(
        slice(start - first, max(start, min(end, most)) - first)
        for start, first, end, most in zip(low, window.low, window.high, size, strict=True)
    )
    return low, answer.mask[part]


def _outline(task: Task, mask: NDArray[np.bool_], low: Index, factor: Index) -> Objects:
    traced = contours.trace(mask.astype(np.int32), (low[1], low[0]))
    # the last pixel of a coarse level may reach beyond the image: its far edge is moved back
    corners = np.minimum(traced.polygons.corners * factor[::-1], task.grid.size).astype(np.int32)
    polygons = replace(traced.polygons, corners=corners)
    label = np.zeros(1, np.uint16)
    return results.build(
        task,
        polygons,
        label,
        polygons.areas2() // 2,
        contours.anchors(polygons),
        incomplete=results.is_cut(task, polygons),
    )


def _slices(mask: NDArray[np.bool_], low: Index, factor: Index, size: Index) -> Mask:
    """Return the slices (k, j, i) of level 0 that hold something of `mask`."""
    k0, j0, i0 = (first * each for first, each in zip(low, factor, strict=True))
    holding = np.flatnonzero(mask.any(axis=(1, 2)))
    planes = mask[holding].repeat(factor[1], axis=1).repeat(factor[2], axis=2)
    planes = planes[:, : size[1] - j0, : size[2] - i0]
    k = (k0 + holding[:, None] * factor[0] + np.arange(factor[0])).ravel()
    inside = k < size[0]
    labels = planes.repeat(factor[0], axis=0)[inside].view(np.uint8)
    coded = mask_rle.encode(labels, k[inside].tolist())
    layers = coded.layers + np.array([0, 0, i0, j0, i0, j0], np.int32)
    return replace(coded, layers=layers)
