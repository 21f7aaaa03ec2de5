"""Shared by all kinds of work on a flat image: request checks, plane, scope and first event."""

from __future__ import annotations

from isoline.domain.events import Scope, Started
from isoline.domain.request import SegmentRequest, Value
from isoline.errors import BadPrompt, NotSupported, WrongImage
from isoline.exports.encoder import Encoder
from isoline.exports.registry import check_kind
from isoline.geometry.grid import XY, Box, Grid, Rect
from isoline.inference.results import WorkingPlane
from isoline.inference.sampling import choose
from isoline.models.model import ModelSpec, ResultKind
from isoline.pipeline.kinds import Context
from isoline.pipeline.resolution import image_spacing, working_grid


def check_flat(context: Context, encoder: type[Encoder], kind: ResultKind) -> None:
    """Check everything in a request on a flat image except its region and prompts."""
    request, found = context.request, context.found
    if found.info.volume is not None:
        raise NotSupported(
            f"{context.spec.name} works on slides and pictures, and {request.image} is a volume",
            "choose a model for volumes",
        )
    check_kind(encoder, kind)
    if request.slice is not None:
        raise NotSupported("slice does not apply to a picture", "leave it out")
    shown = request.image_size
    if shown is not None and shown != found.info.size:
        raise WrongImage(
            "{} is {} x {} pixels here, and {} x {} in the viewer".format(
                found.name, *found.info.size, *shown
            ),
            "it is another file or another series in it: correct [file_uris], or upload the pixels",
        )


def refuse_prompt_keys(request: SegmentRequest, spec: ModelSpec) -> None:
    """Raise BadPrompt for keys that are valid only with prompts."""
    what, remedy = f"{spec.name} takes no prompts", "leave it out"
    if spec.prompts:
        what = "it is valid only with prompts, and there are none"
    else:
        remedy += ", or choose a model whose `prompts` are not empty"
    for key in ("frame_of_reference", "initial"):
        if getattr(request, key):
            raise BadPrompt(f"{key}: {what}", remedy)


def plane_of(context: Context, grid: Grid | None = None) -> tuple[WorkingPlane, XY | None]:
    """Return the plane that the model works on, and the size of an image pixel in micrometres.

    `grid` defaults to that of the model's own spacing. Raises BadSpacing or BadParameter.
    """
    request, spec, found = context.request, context.spec, context.found
    selection = choose(found.info, spec.channels, request.channel, request.z)
    stated = image_spacing(
        found.name, found.info, request.spacing_um, override=request.override_spacing
    )
    if grid is None:
        grid = working_grid(found.name, found.info, spec, stated, request.at_um)
    spacing = None if stated is None else XY(stated.x * grid.scale.x, stated.y * grid.scale.y)
    covered = None if found.info.covered is None else _covered(grid, found.info.covered)
    return WorkingPlane(selection, grid, spacing, covered, request.simplify_px), stated


def scope_of(context: Context, plane: WorkingPlane) -> Scope:
    """Return the scope of results on `plane`."""
    grid, spec = plane.grid, context.spec
    chosen: dict[str, Value] = {
        **context.parameters,
        "scale_x": grid.scale.x,
        "scale_y": grid.scale.y,
        "channels": ",".join(map(str, plane.selection.channels)),
        "z": plane.selection.z,
    }
    recorded = context.found.info.spacing_um
    if context.request.override_spacing and context.request.spacing_um is not None:
        chosen["stated_spacing_um"] = "{:g},{:g}".format(*context.request.spacing_um)
        chosen["recorded_spacing_um"] = "{:g},{:g}".format(*recorded) if recorded else "none"
    if plane.simplify_px:
        chosen["simplify_px"] = plane.simplify_px
    fingerprint = context.found.info.fingerprint
    return Scope(fingerprint, spec.name, spec.full_version, tuple(sorted(chosen.items())))


def flat_started(
    context: Context,
    scope: Scope,
    grid: Grid,
    spacing_um: XY | None,
    kind: ResultKind,
    tiles: int,
    *,
    prompted: bool = False,
) -> Started:
    """Return the first event of a job on a flat image."""
    return Started(
        job="",
        image=context.request.image,
        scope=scope,
        labels=context.spec.labels,
        grid=grid,
        tiles=tiles,
        spacing_um=spacing_um,
        kind=kind,
        z=context.request.z or 0,
        pointed=prompted,
    )


def _covered(grid: Grid, area: Box) -> Box:
    return grid.cover(Rect(area.x0, area.y0, area.x1, area.y1)).intersect(grid.bounds)
