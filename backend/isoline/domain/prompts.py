"""Prompts, which users draw to indicate one object: points, boxes, scribbles and lassos.

On a slide or a picture, the coordinates are x, y in image pixels, with the origin at the corner of
the first pixel, as for a region. In a volume they are x, y, z in LPS millimetres if the request
names a frame of reference, else voxel indices i, j, k with voxel centres at integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from isoline.errors import BadPrompt
from isoline.geometry.region import MAX_COORDINATE
from isoline.geometry.volume_grid import SliceName

PromptKind: TypeAlias = Literal["point", "box", "scribble", "polygon"]
KINDS: tuple[PromptKind, ...] = get_args(PromptKind)

MAX_PROMPTS = 1000
MAX_POINTS = 20_000
"""Total over all prompts of a request."""
_FEWEST = {"point": 1, "box": 2, "scribble": 1, "polygon": 3}
_MOST = {"point": 1, "box": 2}
_CORNERS = 4
"""Of a box in a volume that brings its plane with it."""
_FORMS = {
    "point": "a point is one position",
    "box": "a box is two opposite corners, or in a volume all four of a plane",
    "scribble": "a scribble is one position or more",
    "polygon": "a polygon is three corners or more",
}


@dataclass(frozen=True)
class Prompt:
    """One prompt."""

    kind: PromptKind
    points: tuple[tuple[float, ...], ...]
    """A point's position, two opposite corners of a box, the path of a scribble, or the corners of
    a polygon without repeating the first. In a volume, a box may be flat or have all four corners
    of a plane, and a polygon lies in one plane."""
    include: bool = True
    """Whether it marks the object or, if False, something that does not belong to it."""


@dataclass(frozen=True)
class DrawnSlice:
    """One slice of an existing mask to start from."""

    slice: SliceName | int
    """Its name, or its k if slices have no names."""
    box: tuple[int, int, int, int]
    """[i0, i1) x [j0, j1) as i0, j0, i1, j1, in voxels."""
    runs: bytes
    """The encoded runs of a layer: see `mask_rle`."""


def check(prompts: Sequence[Prompt], dimensions: int) -> None:
    """Raise BadPrompt, naming the prompt, unless `prompts` fit an image of `dimensions` (2 or
    3)."""
    if len(prompts) > MAX_PROMPTS:
        raise BadPrompt(f"the request has {len(prompts)} prompts", f"send at most {MAX_PROMPTS}")
    if sum(len(prompt.points) for prompt in prompts) > MAX_POINTS:
        raise BadPrompt(
            f"the prompts have more than {MAX_POINTS} points", "draw shorter or simplified lines"
        )
    for number, prompt in enumerate(prompts):
        where, count = f"prompts[{number}]", len(prompt.points)
        is_plane = prompt.kind == "box" and count == _CORNERS and dimensions == 3
        if not is_plane and not _FEWEST[prompt.kind] <= count <= _MOST.get(prompt.kind, count):
            raise BadPrompt(f"{where}: {_FORMS[prompt.kind]}, not {count}", "correct its points")
        for point in prompt.points:
            if len(point) != dimensions:
                raise BadPrompt(
                    f"{where}: a position has {len(point)} numbers, but the image has {dimensions}"
                    " dimensions",
                    "use x, y on a slide or a picture, and x, y, z or i, j, k in a volume",
                )
            if not all(abs(value) <= MAX_COORDINATE for value in point):  # also rejects NaN
                raise BadPrompt(
                    f"{where}: a number is not finite or far too large", "correct its points"
                )
