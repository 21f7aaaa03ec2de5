"""The judgement of the request that a viewer makes for a gesture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace

import numpy as np
import orjson
from numpy.typing import NDArray

from isoline.domain.prompts import Prompt
from isoline.domain.request import SegmentRequest
from isoline.errors import IsolineError
from isoline.geometry.region import Region
from isoline.geometry.volume_grid import VolumeGrid
from isoline.protocol.requests import prompt_json, request_json, request_of
from isoline.testing.conformance.cases import ConformanceCase, Replaceable

MILLIMETRES = 1e-3
"""The tolerance of positions in a volume; 32-bit floats up to a metre are precise to 0.00006."""
CORNERS = 4
"""Of a box in a volume that is sent with its plane."""


def judge_request(said: object, case: ConformanceCase) -> str | None:
    """Return what is wrong with the request body that a driver printed, None if it is correct."""
    expected = request_of(case.expected)
    try:
        request = request_of(said)
    except IsolineError as error:
        return f"the server would refuse it: {error}"
    return (
        _wrong_values(request, expected)
        or _wrong_prompts(request, expected, case)
        or _wrong_region(request.region, expected.region)
        or _wrong_replaces(request.replaces, case.replaceable)
    )


def _wrong_values(request: SegmentRequest, expected: SegmentRequest) -> str | None:
    # as JSON text, in which false is not 0
    got, wanted = (request_json(replace(each, region=None)) for each in (request, expected))
    for key in ("image", "model", "focus", "parameters", "spacing_um", "slice", "initial"):
        if orjson.dumps(got.get(key)) != orjson.dumps(wanted.get(key)):
            off = _off(request.focus, expected.focus) if key == "focus" else ""
            return f"{key}: expected {wanted.get(key)}, got {got.get(key)}{off}"
    return None


# --- Prompts -----------------------------------------------------------------------------------


def _wrong_prompts(
    request: SegmentRequest, expected: SegmentRequest, case: ConformanceCase
) -> str | None:
    got, wanted = request.prompts, expected.prompts
    if len(got) != len(wanted):
        return f"prompts: expected {len(wanted)}, got {len(got)}"
    if request.frame_of_reference not in (None, expected.frame_of_reference):
        right = expected.frame_of_reference
        return f"frame_of_reference: expected {right}, got {request.frame_of_reference}"
    for number, (one, other) in enumerate(zip(got, wanted, strict=True)):
        said, meant = prompt_json(one), prompt_json(other)
        where = f"prompts[{number}]: expected {meant}, got {said}"
        is_plane = _is_plane(one) and case.volume is not None
        count = CORNERS if is_plane else len(other.points)
        if (one.kind, one.include, len(one.points)) != (other.kind, other.include, count):
            return where
        if case.volume is None:
            if _same_way_round(one) != _same_way_round(other):
                return where + _off(sum(one.points, ()), sum(other.points, ()))
        elif hint := _off_in_volume(request, expected, number, case.volume.grid):
            return where + hint
    return None


def _same_way_round(prompt: Prompt) -> Prompt:
    """Return a box with its lowest corner first; any two opposite corners may be sent."""
    if prompt.kind != "box":
        return prompt
    corners = list(zip(*prompt.points, strict=True))
    return replace(prompt, points=(tuple(map(min, corners)), tuple(map(max, corners))))


def _off_in_volume(
    request: SegmentRequest, expected: SegmentRequest, number: int, grid: VolumeGrid
) -> str:
    """Return how positions differ, '' if they do not; either LPS or voxel indices are accepted."""
    if any(len(point) != 3 for point in request.prompts[number].points):
        return " (a position in a volume has three numbers)"
    if _is_plane(request.prompts[number]):
        return _off_in_plane(request, expected.prompts[number], number)
    got, wanted = (_indices(each, number, grid) for each in (request, expected))
    distance = np.abs(got - wanted).max(axis=0)
    if (distance * grid.spacing_mm <= MILLIMETRES).all():
        return ""
    if request.frame_of_reference is None and expected.frame_of_reference is not None:
        return " (without frame_of_reference these are voxel indices)"
    if np.isclose(distance, 0.5, atol=0.01).any():
        return " (half a voxel off: the centre of voxel n is n)"
    return " (a different position)"


def _is_plane(prompt: Prompt) -> bool:
    return prompt.kind == "box" and len(prompt.points) == CORNERS


def _off_in_plane(request: SegmentRequest, expected: Prompt, number: int) -> str:
    """Return what is wrong with the four corners of a box, '' if they are a rectangle that has the
    two expected corners, in LPS millimetres, as opposite corners; its plane is the viewer's."""
    if request.frame_of_reference is None:
        return " (four corners of a box are in millimetres: name their frame_of_reference)"
    corners, opposite = np.array(request.prompts[number].points), np.array(expected.points)
    distance = np.linalg.norm(corners[:, None] - opposite, axis=2)
    if (distance.min(axis=0) > MILLIMETRES).any():
        return " (a different position)"
    others = np.delete(corners, distance.argmin(axis=0), axis=0)
    is_centred = np.abs(others.sum(axis=0) - opposite.sum(axis=0)).max() <= 2 * MILLIMETRES
    diagonals = [np.linalg.norm(one - other) for one, other in (others, opposite)]
    is_distinct = (distance > MILLIMETRES).sum() == distance.size - 2
    if is_distinct and is_centred and abs(diagonals[0] - diagonals[1]) <= 2 * MILLIMETRES:
        return ""
    return " (not the four corners of a rectangle)"


def _indices(request: SegmentRequest, number: int, grid: VolumeGrid) -> NDArray[np.float64]:
    """Return the voxel indices i, j, k of a prompt, (n, 3); of a box, its two extreme corners."""
    prompt = request.prompts[number]
    points = np.array(prompt.points, np.float64)
    indices = points if request.frame_of_reference is None else grid.to_index(points)
    if prompt.kind != "box":
        return indices
    return np.array([indices.min(axis=0), indices.max(axis=0)])


# --- Regions -----------------------------------------------------------------------------------


def _wrong_region(got: Region | None, wanted: Region | None) -> str | None:
    if got is None or wanted is None:
        return None if got is wanted else f"region: expected {_where(wanted)}, got {_where(got)}"
    if _edges(got) == _edges(wanted):
        return None
    if got.bounds == wanted.bounds:
        return "region: its bounds are right, but its outline is not"
    off = _off(astuple(got.bounds), astuple(wanted.bounds))
    return f"region: expected {_where(wanted)}, got {_where(got)}{off}"


def _edges(region: Region) -> frozenset[frozenset[tuple[float, ...]]]:
    """Return the edges of all rings; they do not depend on the direction or start of a ring."""
    rings = [np.round(ring, 6).tolist() for polygon in region.polygons for ring in polygon]
    return frozenset(
        frozenset((tuple(a), tuple(b)))
        for ring in rings
        for a, b in zip(ring, [*ring[1:], ring[0]], strict=True)
    )


def _off(got: Sequence[float] | None, wanted: Sequence[float] | None) -> str:
    """Return a hint if coordinates have one of the usual errors, otherwise an empty string."""
    distances = {abs(a - b) for a, b in zip(got or (), wanted or (), strict=False)}
    if 0.5 in distances:
        return " (half a pixel off: pixel n spans [n, n + 1), its centre is n + 0.5)"
    if 1 in distances:
        return " (one pixel off: the last pixel n ends at n + 1)"
    return ""


def _where(region: Region | None) -> str:
    return "none" if region is None else "[{:g}, {:g}, {:g}, {:g}]".format(*astuple(region.bounds))


# --- What it replaces --------------------------------------------------------------------------


def _wrong_replaces(named: str | tuple[str, ...], replaceable: Replaceable | None) -> str | None:
    shown: frozenset[str] = frozenset() if replaceable is None else replaceable.ids
    is_needed = replaceable is not None and replaceable.is_needed
    if isinstance(named, str):
        is_shown = replaceable is not None and named == replaceable.job
        return None if is_shown else f"replaces: nothing of the job {named} is shown"
    if stale := [name for name in named if name not in shown]:
        return f"replaces: it names features that are not shown: {', '.join(stale)}"
    if is_needed and not named:
        return "replaces: expected the id of the earlier job, or the ids of its features"
    if is_needed and (missing := sorted(shown - {*named})):
        return f"replaces: it leaves out {', '.join(missing)}"
    return None
