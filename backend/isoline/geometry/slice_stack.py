"""Slices that form one volume: their order, and whether anything is missing or doubled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoline.errors import BadSeries
from isoline.geometry.volume_grid import LPS, SliceName, VolumeGrid

TOLERANCE = 0.05
"""How far a slice may be from its expected position, as a share of a step or of a pixel."""
_EXACT = 0.01
"""The same share up to which the positions of the first and the last slice give the step."""
_ANGLE = 1e-3
"""How far unit vectors may deviate from being equal, or from right angles."""
ASSUMED_MM = 1.0
"""The thickness of a single slice whose file does not give it."""
_SAME_MM = 1e-3
"""Slices closer than this are at one position."""


@dataclass(frozen=True)
class Plane:
    """One slice as its file describes it."""

    name: SliceName
    number: int | None
    """InstanceNumber, used only in messages."""
    origin_mm: LPS
    """ImagePositionPatient: the centre of the first pixel."""
    along_i: LPS
    """Unit vector in which the column index increases: the first of ImageOrientationPatient."""
    along_j: LPS
    spacing_mm: tuple[float, float]
    """(between columns, between rows): PixelSpacing in reverse order."""
    size: tuple[int, int]
    """(columns, rows)."""
    frame_of_reference: str
    thickness_mm: float | None = None
    file: str = ""
    """Its file's name, used only in messages."""

    def __str__(self) -> str:
        return called(self.number, self.file, self.name)


def called(number: int | None, file: str, name: SliceName) -> str:
    """Return how messages call a slice: by its number and, if it has one, its file."""
    slice_ = "a slice" if number is None else f"slice {number}"
    where = [file, name.instance or "no UID", f"frame {name.frame}"]
    return f"{slice_} ({', '.join(each for each in where if each)})"


@dataclass(frozen=True)
class Stack:
    """Planes that form one volume."""

    grid: VolumeGrid
    order: tuple[int, ...]
    """For k = 0, 1, ...: the index of the plane at that position."""
    is_tilted: bool
    """Whether slices are shifted relative to each other, as by a gantry tilt."""
    worst_mm: float
    """The largest distance of a slice from where even spacing would have it."""


def stack(planes: Sequence[Plane]) -> Stack:
    """Assemble `planes`, given in any order, into one volume.

    Raises BadSeries, naming the slice, if they do not form one regular volume.
    """
    if not planes:
        raise BadSeries("the series has no image slice", "choose a series of images")
    _check_alike(planes)
    first = planes[0]
    normal = np.cross(first.along_i, first.along_j)
    height = np.array([plane.origin_mm for plane in planes]) @ normal
    order = np.argsort(height, kind="stable")
    ordered = [planes[n] for n in order]
    _check_gaps(ordered, np.diff(height[order]))
    origin, step, worst = _line(ordered, normal)
    grid = VolumeGrid(
        (*first.size, len(planes)),
        origin,
        _times(first.along_i, first.spacing_mm[0]),
        _times(first.along_j, first.spacing_mm[1]),
        step,
        first.frame_of_reference,
    )
    sideways = np.linalg.norm(np.array(step) - np.dot(step, normal) * normal)
    is_tilted = bool(sideways * (len(planes) - 1) > TOLERANCE * min(first.spacing_mm) + worst)
    return Stack(grid, tuple(order.tolist()), is_tilted, worst)


def _check_alike(planes: Sequence[Plane]) -> None:
    first = planes[0]
    _check_axes(first)
    for plane in planes[1:]:
        if plane.size != first.size:
            raise BadSeries(
                "{} has {} x {} pixels and {} has {} x {}".format(
                    plane, *plane.size, first, *first.size
                ),
                "choose a series whose slices have the same size",
            )
        turned = np.abs(np.subtract(plane.along_i, first.along_i)).max()
        turned = max(turned, np.abs(np.subtract(plane.along_j, first.along_j)).max())
        if turned > _ANGLE:
            raise BadSeries(
                f"{plane} has another orientation than {first}",
                "localizers and radial series are not volumes: choose another series",
            )
        if not np.allclose(plane.spacing_mm, first.spacing_mm, rtol=1e-3):
            raise BadSeries(
                f"{plane} has pixels of {plane.spacing_mm} mm and {first} of {first.spacing_mm}",
                "choose a series with a single pixel size",
            )
        if plane.frame_of_reference != first.frame_of_reference:
            raise BadSeries(
                f"{plane} and {first} have different frames of reference",
                "the patient was repositioned in between: choose a series from one position",
            )


def _check_axes(plane: Plane) -> None:
    i, j = np.array(plane.along_i), np.array(plane.along_j)
    wrong = max(abs(i @ i - 1), abs(j @ j - 1), abs(i @ j))
    if not wrong <= 10 * _ANGLE:  # also catches NaN
        raise BadSeries(
            f"{plane}: its ImageOrientationPatient is not two unit vectors at right angles",
            "have the series corrected where it was made",
        )
    if not min(plane.spacing_mm) > 0:
        raise BadSeries(
            f"{plane} has no PixelSpacing above 0", "have the series corrected where it was made"
        )


def _check_gaps(ordered: Sequence[Plane], gaps: NDArray[np.float64]) -> None:
    """Reject duplicate or missing slices and mixed spacing; `gaps` in mm, ascending."""
    apart = gaps[gaps > _SAME_MM]
    if len(ordered) > 1 and not len(apart):
        raise BadSeries(
            f"all {len(ordered)} images are at the same position: they are moments of one slice"
            " (a cine), not a volume",
            "choose a series with several slices",
        )
    if not len(apart):
        return
    step = float(np.median(apart))
    doubled = gaps < max(_SAME_MM, TOLERANCE * step)
    if doubled.any():
        raise _doubled(ordered, ~doubled)
    if len(mixed := _runs(gaps)) > 1:
        listed = ", then ".join(f"{count} of {gap:.2f} mm" for gap, count in mixed)
        raise BadSeries(
            f"the series has two spacings or more: distances between slices are {listed}",
            "choose a reconstruction with even spacing",
        )
    if (gaps > 1.5 * step).any():
        at = int(np.argmax(gaps))
        count = max(1, round(float(gaps[at]) / step) - 1)
        raise BadSeries(
            f"{count} {'slice is' if count == 1 else 'slices are'} missing between {ordered[at]}"
            f" and {ordered[at + 1]}: they are {gaps[at]:.2f} mm apart, the others {step:.2f} mm",
            "send the whole series to the archive again",
        )


def _doubled(ordered: Sequence[Plane], is_next: NDArray[np.bool_]) -> BadSeries:
    """Return the error for a series with several slices at a position.

    `is_next` (n - 1) tells whether a slice is at another position than the one before it.
    """
    starts = np.flatnonzero(np.concatenate([[True], is_next]))
    counts = np.diff([*starts, len(ordered)])
    usual = int(np.median(counts))
    if usual == 1:
        at = int(starts[np.argmax(counts > 1)])
        return BadSeries(
            f"{ordered[at]} and {ordered[at + 1]} are at the same position",
            "remove the one that does not belong to the volume",
        )
    what = f"{usual} volumes of {len(counts)} slices (times, echoes or phases)"
    if (counts == usual).all():
        return BadSeries(
            f"{ordered[0]} and {ordered[1]} are at the same position, as others are: the series has"
            f" {what}",
            "split it into one series per volume",
        )
    at = int(np.argmax(counts != usual))
    return BadSeries(
        f"slices are at the same position: the series has {what}, but {counts[at]} instead of"
        f" {usual} where {ordered[starts[at]]} is",
        "send the whole series again, or split it into one series per volume",
    )


def _runs(gaps: NDArray[np.float64]) -> list[tuple[float, int]]:
    """Return the spacings, in mm, that three gaps or more in a row have, and how many."""
    runs: list[list[float]] = []
    for gap in gaps.tolist():
        if runs and abs(gap - runs[-1][0]) <= 4 * TOLERANCE * runs[-1][0]:
            runs[-1].append(gap)
        else:
            runs.append([gap])
    lengths = [(float(np.mean(run)), len(run)) for run in runs if len(run) >= 3]
    # runs of the same spacing on both sides of a gap are one
    joined: list[tuple[float, int]] = []
    for gap, count in lengths:
        if joined and abs(gap - joined[-1][0]) <= 4 * TOLERANCE * gap:
            joined[-1] = (joined[-1][0], joined[-1][1] + count)
        else:
            joined.append((gap, count))
    return joined


def _line(ordered: Sequence[Plane], normal: NDArray[np.float64]) -> tuple[LPS, LPS, float]:
    """Return the position of the first slice, the step between slices, and the largest distance
    in mm of a slice from that line.

    Raises BadSeries if a slice is too far off.
    """
    origins = np.array([plane.origin_mm for plane in ordered])
    if len(ordered) == 1:
        given = ordered[0].thickness_mm or 0.0
        thickness = given if given > 0 else ASSUMED_MM
        return ordered[0].origin_mm, LPS(*(thickness * normal).tolist()), 0.0
    places = np.arange(len(ordered))[:, None]
    start, step = origins[0], (origins[-1] - origins[0]) / (len(ordered) - 1)
    finest = min(*ordered[0].spacing_mm, float(np.linalg.norm(step)))
    off = origins - start - places * step
    _check_line(ordered, off, normal, float(np.linalg.norm(step)), finest)
    if np.linalg.norm(off, axis=1).max() > _EXACT * finest:
        # the first and the last are off as well: the best line through all of them
        centred = places - places.mean()
        step = (centred * origins).sum(axis=0) / (centred**2).sum()
        start = origins.mean(axis=0) - places.mean() * step
        off = origins - start - places * step
    worst = float(np.linalg.norm(off, axis=1).max())
    return LPS(*start.tolist()), LPS(*step.tolist()), worst


def _check_line(
    ordered: Sequence[Plane],
    off: NDArray[np.float64],
    normal: NDArray[np.float64],
    step: float,
    finest: float,
) -> None:
    """Raise BadSeries for a slice that is too far off; `off` (n, 3) in mm from a line of `step`."""
    rounding = _rounding(np.array([plane.origin_mm for plane in ordered]))
    along = off @ normal
    gaps = step + np.diff(along)
    uneven = np.abs(gaps - np.median(gaps))
    if uneven.max() > max(3 * TOLERANCE * step, 2 * rounding):
        at = int(uneven.argmax())
        raise BadSeries(
            f"the spacing varies: {ordered[at]} and {ordered[at + 1]} are {gaps[at]:.3f} mm apart,"
            f" others {np.median(gaps):.3f} mm",
            "choose a reconstruction with even spacing",
        )
    if np.abs(along).max() > max(2 * TOLERANCE * step, 2 * rounding):
        at = int(np.abs(along).argmax())
        raise BadSeries(
            f"the spacing varies: {ordered[at]} is {along[at]:.3f} mm from where even spacing would"
            f" have it; distances between slices are {gaps.min():.3f} to {gaps.max():.3f} mm",
            "choose a reconstruction with even spacing",
        )
    aside = np.linalg.norm(off - np.outer(along, normal), axis=1)
    if aside.max() > max(2 * TOLERANCE * finest, 2 * rounding):
        raise BadSeries(
            f"{ordered[int(aside.argmax())]} is {aside.max():.2f} mm off the line of the others",
            "have the series corrected where it was made",
        )


def _rounding(origins: NDArray[np.float64]) -> float:
    """Return how far a position may be off because all are rounded to 0.1 mm; else 0."""
    is_rounded = np.allclose(origins * 10, np.rint(origins * 10), atol=1e-6)
    return 0.05 * np.sqrt(3) if is_rounded else 0.0


def _times(vector: LPS, length: float) -> LPS:
    return LPS(*(length * each for each in vector))
