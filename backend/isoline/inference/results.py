"""Geometry on a plane to results: ids, and whether an object may go on where no pixels are."""

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
    """A flat image as a model works on it."""

    selection: ChannelSelection
    grid: Grid
    spacing_um: XY | None
    """Micrometres per grid pixel."""
    covered: Box | None = None
    """Of an upload: the grid pixels that were sent, those around them being background."""
    simplify_px: float | None = None
    """How far outlines may stray once they are simplified, in grid pixels; None: not at all."""


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
    """Return `polygons` on `plane` as results of `scope`, with their ids.

    Ids come from the exact geometry, of a cell without its nucleus; only then are outlines
    simplified, where that was asked for.
    A provisional piece never shares an id with a final region, even of the same shape.
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
    """Return (n,) whether an object comes so near to the end of an upload that it may go on there.

    `reach_px` is how far beyond an object its model looks.
    """
    known, bounds = plane.covered, plane.grid.bounds
    if known is None:
        return np.zeros(len(polygons), np.bool_)
    margin = reach_px + 1  # the last pixel may be a mixture
    low = [-1 if at == 0 else at + margin for at in (known.x0, known.y0)]
    ends = ((known.x1, bounds.x1), (known.y1, bounds.y1))
    high = [end + 1 if at == end else at - margin for at, end in ends]
    boxes = polygons.boxes()
    cut: NDArray[np.bool_] = np.any((boxes[:, :2] <= low) | (boxes[:, 2:] >= high), axis=1)
    return cut


def cut_off(count: int) -> tuple[Warned, ...]:
    """Return what to tell the user of so many objects that `is_cut`."""
    if not count:
        return ()
    objects = "1 object is" if count == 1 else f"{count} objects are"
    return (
        Warned(
            "CutOff",
            f"{objects} incomplete: no pixels were uploaded of what lies beyond. A larger region"
            " helps, or a server that sees the file",
        ),
    )


def concatenate(several: Sequence[Objects]) -> Objects:
    """Return the objects of `several`, at least one, of one task."""
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
