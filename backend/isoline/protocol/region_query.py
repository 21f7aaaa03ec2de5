"""The query of `GET /v1/images/NAME/region`: the part of the image, and the format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isoline.errors import Malformed
from isoline.geometry.grid import Rect
from isoline.geometry.region import brief
from isoline.protocol.requests import parse_box, parse_integer

KEYS = ("box", "size", "channel", "z", "series", "format")
FORMATS = ("png", "raw")
MAX_SIZE = 8192
MAX_PLANE = 1 << 24


@dataclass(frozen=True)
class RegionQuery:
    """The part of an image that a viewer requests."""

    box: Rect
    """In image coordinates."""
    size: int | None = None
    """The longer side of the result in pixels; None for the default."""
    channels: tuple[str, ...] = ()
    """Names or indices of channels; empty for the default."""
    z: int | None = None
    """Plane of a stack, or slice k of a volume; None for the middle."""
    series: str | None = None
    """Which image of a file that contains several, by name or index."""
    is_raw: bool = False
    """Whether raw pixels are requested instead of a picture."""


def parse_region(query: Mapping[str, Sequence[str]]) -> RegionQuery:
    """Parse a query, which maps each key to all its values. Raises Malformed."""
    for key, values in query.items():
        if key not in KEYS:
            raise Malformed(f"unknown key {brief(key)}", f"known keys: {', '.join(KEYS)}")
        if len(values) > 1:
            raise Malformed(f"{key} is given {len(values)} times", "give it once")
    given = {key: values[0] for key, values in query.items()}
    format_ = given.get("format", "png")
    if format_ not in FORMATS:
        raise Malformed(f"format: expected png or raw, got {brief(format_)}")
    channels = tuple(given["channel"].split(",")) if "channel" in given else ()
    if "" in channels:
        raise Malformed(
            f"channel: expected names or indices separated by commas, got {given['channel']!r}"
        )
    return RegionQuery(
        box=parse_box(given.get("box")),
        size=_integer(given, "size", 1, MAX_SIZE),
        channels=channels,
        z=_integer(given, "z", 0, MAX_PLANE),
        series=given.get("series"),
        is_raw=format_ == "raw",
    )


def _integer(given: Mapping[str, str], key: str, low: int, high: int) -> int | None:
    return parse_integer(given[key], key, low, high) if key in given else None
