"""Turning geometry on a plane into results: ids, and objects cut off at an upload's border."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoline.domain import object_ids
from isoline.domain.events import Objects, Scope, Warned
from isoline.geometry import polygons as contours
from isoline.geometry.grid import XY, Box, Grid
from isoline.geometry.polygons import Polygons
from isoline.inference.sampling import ChannelSelection


@dataclass(frozen=True)
class WorkingPlane:
    """A flat image at a model's working resolution."""

    selection: ChannelSelection
    grid: Grid
    spacing_um: XY | None
    """Micrometres per grid pixel."""
    covered: Box | None = None
    """For an upload: the grid pixels that were sent; the others are background."""
    simplify_px: float | None = None
    """Tolerance of simplified outlines in grid pixels; None for exact outlines."""


def build(
    scope: Scope,
    plane: WorkingPlane,
    polygons: Polygons,
    label: NDArray[np.integer],
    area_px: NDArray[np.int64],
    anchor: NDArray[np.int32],
    *,
    incomplete: NDArray[np.bool_] | None = None,
    measurements: Mapping[str, NDArray[np.float32]] | None = None,
    nuclei: Polygons | None = None,
    provisional: bool = False,
) -> Objects:
    """Return `polygons` on `plane` as results with `scope`, with their ids.

    Ids are computed from the exact geometry, for a cell without its nucleus; only afterwards are
    outlines simplified, if requested.

    A provisional piece never shares an id with a final region, even with the same shape.
    """
    classes: NDArray[np.uint16] = label.astype(np.uint16)
    key = object_ids.scope_key(scope) + (b"piece" if provisional else b"")
    identity = object_ids.identify(key, classes, polygons)
    if plane.simplify_px:
        polygons = contours.simplify(polygons, plane.simplify_px)
        nuclei = None if nuclei is None else contours.simplify(nuclei, plane.simplify_px)
    if incomplete is None:
        incomplete = np.zeros(len(label), np.bool_)
    measured = dict(measurements or {})
    return Objects(polygons, identity, classes, area_px, anchor, incomplete, measured, nuclei)


def is_cut(plane: WorkingPlane, polygons: Polygons, reach_px: int = 0) -> NDArray[np.bool_]:
    """Return (n,) whether an object is so near the border of an upload that it may continue there.

    `reach_px` is how far beyond an object its model looks.
    """
    known, bounds = plane.covered, plane.grid.bounds
    if known is None:
        return np.zeros(len(polygons), np.bool_)
    margin = reach_px + 1  # the last pixel may be mixed with background
    low = [-1 if at == 0 else at + margin for at in (known.x0, known.y0)]
    ends = ((known.x1, bounds.x1), (known.y1, bounds.y1))
    high = [end + 1 if at == end else at - margin for at, end in ends]
    boxes = polygons.boxes()
    cut: NDArray[np.bool_] = np.any((boxes[:, :2] <= low) | (boxes[:, 2:] >= high), axis=1)
    return cut


def cut_off(count: int) -> tuple[Warned, ...]:
    """Return the warning for `count` objects that `is_cut`."""
    if not count:
        return ()
    objects = "1 object is" if count == 1 else f"{count} objects are"
    return (
        Warned(
            "CutOff",
            f"{objects} incomplete at the border of the uploaded area. Choose a larger region, or"
            " make the file visible to the server",
        ),
    )


def concatenate(several: Sequence[Objects]) -> Objects:
    """Return the objects of `several` results of one task; there must be at least one."""
    nuclei = [each.nuclei for each in several if each.nuclei is not None]
    return Objects(
        Polygons.concatenate([each.polygons for each in several]),
        np.concatenate([each.ids for each in several]),
        np.concatenate([each.label for each in several]),
        np.concatenate([each.area_px for each in several]),
        np.concatenate([each.anchor for each in several]),
        np.concatenate([each.incomplete for each in several]),
        {
            name: np.concatenate([each.measurements[name] for each in several])
            for name in several[0].measurements
        },
        Polygons.concatenate(nuclei) if nuclei else None,
    )
