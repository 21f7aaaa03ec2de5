"""Outlines from files: GeoJSON as viewers write it, annotations of the Digital Slide Archive."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from isoline.errors import BadRegion, Malformed
from isoline.geometry.region import Region

Json: TypeAlias = Mapping[str, object]

_CORNERS = 64
"""The corners of the polygon that stands for an ellipse."""


def outline_of(path: Path) -> Region:
    """Return the union of the polygons in a file, compressed if it ends in .gz.

    It may contain GeoJSON, a list of features, as QuPath writes it, or an annotation of the
    Digital Slide Archive. Raises Malformed or BadRegion.
    """
    return Region.from_geojson(_geojson(read_json(path)), str(path))


def read_json(path: Path) -> object:
    """Return the JSON in a file, which may begin with a byte-order mark. Raises Malformed."""
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        return json.loads(content)
    except EOFError as error:
        raise Malformed(f"{path} ends before its last byte", "copy it again") from error
    except OSError as error:
        why = error.strerror or "it is not compressed as its first bytes say"
        raise Malformed(f"cannot read {path}: {why}", "check the path") from error
    except ValueError as error:
        raise Malformed(f"{path} is not JSON: {error}", "use a GeoJSON file") from error


def _geojson(value: object) -> object:
    """Return `value` as one GeoJSON object."""
    if isinstance(value, list):
        return {"type": "FeatureCollection", "features": [_geojson(each) for each in value]}
    if not isinstance(value, Mapping):
        return value
    annotation = value.get("annotation", value)
    if isinstance(annotation, Mapping) and isinstance(annotation.get("elements"), list):
        geometries = [_of_element(element) for element in annotation["elements"]]
        return {"type": "GeometryCollection", "geometries": geometries}
    return value


def _of_element(element: object) -> Json:
    """Return the geometry of an element of an annotation in large_image's schema."""
    if not isinstance(element, Mapping):
        raise BadRegion("an element of the annotation is not an object", "export it again")
    kind = element.get("type")
    try:
        if kind == "polyline" and element.get("closed"):
            rings = [element["points"], *element.get("holes", ())]
            return {"type": "Polygon", "coordinates": rings}
        if kind in ("rectangle", "rectanglegrid", "ellipse"):
            around = _CORNERS if kind == "ellipse" else 4
            wide, tall = float(element["width"]) / 2, float(element["height"]) / 2
            angle = float(element.get("rotation", 0))
        elif kind == "circle":
            around, angle = _CORNERS, 0.0
            wide = tall = float(element["radius"])
        else:
            return {"type": "Point" if kind == "point" else "LineString"}
        x, y = map(float, element["center"][:2])
    except (KeyError, TypeError, ValueError) as error:
        raise BadRegion(f"a {kind} of the annotation lacks {error}", "export it again") from error
    ring = [_turned(corner, angle) for corner in _around(around, wide, tall)]
    return {"type": "Polygon", "coordinates": [[[x + dx, y + dy] for dx, dy in ring]]}


def _around(count: int, wide: float, tall: float) -> Iterator[tuple[float, float]]:
    """Yield the corners of a rectangle, or of a polygon with `count` corners on an ellipse."""
    if count == 4:
        yield from ((-wide, -tall), (wide, -tall), (wide, tall), (-wide, tall))
        return
    for corner in range(count):
        angle = 2 * math.pi * corner / count
        yield wide * math.cos(angle), tall * math.sin(angle)


def _turned(point: tuple[float, float], angle: float) -> tuple[float, float]:
    x, y = point
    return x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
