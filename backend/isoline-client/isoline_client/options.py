"""The optional keys of a request, and functions that return prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Protocol, TypeAlias, TypedDict

Json: TypeAlias = dict[str, Any]


class Geometry(Protocol):
    """A geometry that describes itself as GeoJSON, such as shapely's."""

    @property
    def __geo_interface__(self) -> Mapping[str, Any]: ...


class Options(TypedDict, total=False):
    """The optional keys of a request; the protocol has the meaning of each."""

    region: Sequence[float] | Mapping[str, Any] | Geometry | None
    """[x0, y0, x1, y1], a GeoJSON geometry or one of shapely's, in image pixels; None means the
    whole image."""
    focus: Sequence[float] | None
    parameters: Mapping[str, float | int | bool | str] | None
    tile: int | None
    spacing_um: float | Sequence[float] | None
    override_spacing: bool
    """Whether `spacing_um` counts even if the file gives another value."""
    at_um: float | None
    channel: Sequence[str | int] | None
    z: int | None
    series: str | int | None
    """Which image of a file that contains several."""
    slice: int | Mapping[str, str | int] | None
    """Where the user is looking in a volume: k, or {"instance": SOPInstanceUID, "frame": 1}."""
    prompts: Sequence[Mapping[str, Any]] | None
    """What the user drew to indicate one object: see `point`, `box`, `scribble` and `polygon`."""
    frame_of_reference: str | None
    """FrameOfReferenceUID of prompts in LPS millimetres; None if they are in pixels or voxels."""
    initial: Sequence[float] | Mapping[str, Any] | None
    """The result for the prompts to correct: as `region`, or {"slices": [...]} in a volume."""
    image_size: Sequence[int] | None
    """[width, height] of the image on the screen; the server refuses a file of another size."""
    format: str
    simplify_px: float | None
    replaces: str | Sequence[str] | None
    """The id of an earlier job, or the ids of features, that the results replace."""
    keep: bool
    """Whether the server keeps the answer to prompts as a job; it is sent once otherwise."""


def request_body(image: str | PurePath, model: str, options: Options) -> Json:
    """Return the JSON object to send; options that are None are omitted."""
    given = {key: plain(value) for key, value in options.items() if value is not None}
    return {"image": plain(image), "model": model, **given}


def plain(value: Any) -> Any:
    """Return `value` as JSON has it: numpy's numbers and arrays, geometries such as shapely's, and
    paths too."""
    if isinstance(value, PurePath):
        return value.as_posix()
    if hasattr(value, "__geo_interface__"):
        return plain(value.__geo_interface__)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value


def point(*at: float, include: bool = True) -> Json:
    """Return the prompt of a point at x, y or, in a volume, at x, y, z.

    Without `include`, the point is not on the object.
    """
    return _prompt("point", [at], include)


def box(first: Sequence[float], last: Sequence[float], include: bool = True) -> Json:
    """Return the prompt of a box with these opposite corners."""
    return _prompt("box", [first, last], include)


def scribble(way: Iterable[Sequence[float]], include: bool = True) -> Json:
    """Return the prompt of a line drawn on the object."""
    return _prompt("scribble", way, include)


def polygon(corners: Iterable[Sequence[float]], include: bool = True) -> Json:
    """Return the prompt of a lasso around the object; its first corner is not repeated."""
    return _prompt("polygon", corners, include)


def _prompt(kind: str, points: Iterable[Sequence[float]], include: bool) -> Json:
    return {"kind": kind, "points": [[*map(float, each)] for each in points], "include": include}
