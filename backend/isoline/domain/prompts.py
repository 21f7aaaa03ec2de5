"""What the user drew to point at one object: points, boxes, scribbles and lassos.

On a slide or a picture the coordinates are x, y in image pixels, the origin at the corner of the
first pixel, as for a region. In a volume they are x, y, z: LPS millimetres where the request names
a frame of reference, else voxel indices i, j, k whose centres are whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from isoline.errors import BadPrompt
from isoline.geometry.region import MAX_COORDINATE
from isoline.geometry.volume_grid import SliceName

Kind: TypeAlias = Literal["point", "box", "scribble", "polygon"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MAX_PROMPTS = 1000
MAX_POINTS = 20_000
"""In all prompts of a request together."""
_FEWEST = {"point": 1, "box": 2, "scribble": 1, "polygon": 3}
_MOST = {"point": 1, "box": 2}
_FORMS = {
    "point": "a point is one position",
    "box": "a box is two opposite corners",
    "scribble": "a scribble is one position or more",
    "polygon": "a polygon is three corners or more",
}


@dataclass(frozen=True)
class Prompt:
    """One gesture."""

    kind: Kind
    points: tuple[tuple[float, ...], ...]
    """Of a point its position, of a box two opposite corners, of a scribble its way, of a polygon
    its corners, the first not repeated. In a volume a box may be flat, and a polygon lies in one
    plane."""
    include: bool = True
    """Whether it lies on the object or says what the object is not."""


@dataclass(frozen=True)
class DrawnSlice:
    """One slice of a mask that the user has already, to start from."""

    slice: SliceName | int
    """Its name, or its k where slices have none."""
    box: tuple[int, int, int, int]
    """[i0, i1) x [j0, j1) as i0, j0, i1, j1, in voxels."""
    runs: bytes
    """What `masks` calls the code of a layer."""


def check(prompts: Sequence[Prompt], dimensions: int) -> None:
    """Raise BadPrompt, naming the prompt, where `prompts` are not ones of an image of so many."""
    if len(prompts) > MAX_PROMPTS:
        raise BadPrompt(f"{len(prompts)} prompts", f"send at most {MAX_PROMPTS}")
    if sum(len(prompt.points) for prompt in prompts) > MAX_POINTS:
        raise BadPrompt(
            f"the prompts have more than {MAX_POINTS} points", "draw shorter or simplified lines"
        )
    for number, prompt in enumerate(prompts):
        where, count = f"prompts[{number}]", len(prompt.points)
        if not _FEWEST[prompt.kind] <= count <= _MOST.get(prompt.kind, count):
            raise BadPrompt(f"{where}: {_FORMS[prompt.kind]}, not {count}", "correct its points")
        for point in prompt.points:
            if len(point) != dimensions:
                raise BadPrompt(
                    f"{where}: a position of {len(point)} numbers on an image of {dimensions}"
                    " dimensions",
                    "give x, y on a slide or a picture, and x, y, z or i, j, k in a volume",
                )
            if not all(abs(value) <= MAX_COORDINATE for value in point):  # also refuses NaN
                raise BadPrompt(f"{where}: a number that is not finite or far too large", "")
