"""The working resolution of a model on an image."""

from __future__ import annotations

from isoline.errors import BadSpacing
from isoline.geometry.grid import XY, Grid
from isoline.models.model import ModelSpec
from isoline.sources.source import ImageInfo

CONTRADICTION = 0.05
"""How far a stated pixel size may differ from the file's, as a share."""
TOLERANCE = 0.25
"""How far a working spacing may differ from one that the model was made for, as a share."""
LEAST_UM = 1e-6
"""Smaller pixel sizes are rejected as errors."""
MOST_ENLARGED = 16
"""Largest number of working pixels per image pixel along each axis."""


def image_spacing(
    name: str, info: ImageInfo, stated_um: XY | None, *, override: bool = False
) -> XY | None:
    """Return micrometres per image pixel: the file's, or else the caller's, or else None.

    With `override`, the caller's comes first. Raises BadSpacing if the two contradict each other,
    or for pixels smaller than an atom.
    """
    if override and stated_um is None:
        raise BadSpacing("override_spacing: no spacing_um is stated", "state spacing_um too")
    spacing = (stated_um if override else None) or info.spacing_um or stated_um
    if spacing is not None and min(spacing) < LEAST_UM:
        raise BadSpacing(
            f"{name}: no image has {min(spacing):g} um per pixel",
            f"state at least {LEAST_UM:g}, or correct the file",
        )
    if override or stated_um is None or info.spacing_um is None:
        return spacing
    for own, stated in zip(info.spacing_um, stated_um, strict=True):
        if abs(stated / own - 1) > CONTRADICTION:
            raise BadSpacing(
                f"{name} has {own:.4g} um per pixel and the request states {stated:.4g}",
                "leave spacing_um out, or add override_spacing if the file is wrong",
            )
    return info.spacing_um


def working_grid(
    name: str, info: ImageInfo, spec: ModelSpec, spacing_um: XY | None, at_um: float | None
) -> Grid:
    """Return the grid that the model works on.

    With `at_um`, it has exactly that spacing. Otherwise it has the model's own spacing, rounded to
    the nearest whole number of image pixels if the model tolerates that: its pixels are then means
    of whole pixels, or those of a pyramid level.
    """
    if at_um is None and not spec.spacings_um:
        return Grid(info.size, XY(1.0, 1.0))
    if spacing_um is None:
        raise BadSpacing(f"{name} has no pixel size", "pass spacing_um, in micrometres per pixel")
    if at_um is None:
        return Grid(info.size, _suitable_scale(name, spec, spacing_um))
    wrong = spec.spacings_um and not (
        spec.spacings_um[0] * (1 - TOLERANCE) <= at_um <= spec.spacings_um[-1] * (1 + TOLERANCE)
    )
    if wrong:
        raise BadSpacing(f"{spec.name} cannot work at {at_um:g} um", _range(spec))
    if at_um * MOST_ENLARGED < min(spacing_um):
        raise BadSpacing(
            f"{name} has {min(spacing_um):.3g} um per pixel, far coarser than at_um, {at_um:g}",
            f"use at least {min(spacing_um) / MOST_ENLARGED:.3g}, or leave at_um out",
        )
    return Grid(info.size, XY(at_um / spacing_um.x, at_um / spacing_um.y))


def _suitable_scale(name: str, spec: ModelSpec, spacing_um: XY) -> XY:
    coarsest = max(spacing_um)
    for nominal in spec.spacings_um:
        if coarsest <= nominal * (1 + TOLERANCE):
            return XY(_whole(nominal / spacing_um.x), _whole(nominal / spacing_um.y))
    raise BadSpacing(f"{name} has {coarsest:.3g} um per pixel, too coarse", _range(spec))


def _whole(scale: float) -> float:
    nearest = round(scale)  # never 0, since the tolerance keeps the scale above 1 / 1.25
    return float(nearest) if abs(nearest / scale - 1) <= TOLERANCE else scale


def _range(spec: ModelSpec) -> str:
    finest, coarsest = spec.spacings_um[0], spec.spacings_um[-1]
    return f"{spec.name} works at {finest * (1 - TOLERANCE):.3g} to " + (
        f"{coarsest * (1 + TOLERANCE):.3g} um per pixel"
    )
