"""Outlines as people have them: from QuPath, the Digital Slide Archive, isoline, and editors."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pytest

from isoline.cli.outline_files import outline_of
from isoline.errors import BadRegion, Malformed
from isoline.geometry.grid import Rect
from isoline.geometry.region import Region

SQUARE = {"type": "Polygon", "coordinates": [[[10, 20], [30, 20], [30, 50], [10, 50], [10, 20]]]}
AWAY = {"type": "Polygon", "coordinates": [[[100, 20], [130, 20], [130, 50], [100, 20]]]}
POINT = {"type": "Point", "coordinates": [5, 5]}


def feature(geometry: object) -> dict[str, object]:
    return {"type": "Feature", "geometry": geometry, "properties": {}}


def read(folder: Path, value: object, suffix: str = ".geojson") -> Region:
    path = folder / f"drawn{suffix}"
    content = json.dumps(value).encode()
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    return outline_of(path)


@pytest.mark.parametrize(
    "value",
    [
        [feature(SQUARE), feature(AWAY)],
        [SQUARE, AWAY],
        {"type": "GeometryCollection", "geometries": [SQUARE, AWAY]},
        feature({"type": "GeometryCollection", "geometries": [SQUARE, AWAY]}),
        {"type": "FeatureCollection", "features": [feature(SQUARE), feature(AWAY)], "isoline": {}},
    ],
)
@pytest.mark.parametrize("suffix", [".geojson", ".geojson.gz"])
def test_lists_and_collections(tmp_path: Path, value: object, suffix: str) -> None:
    region = read(tmp_path, value, suffix)
    assert (len(region.polygons), region.bounds) == (2, Rect(10, 20, 130, 50))
    assert region.warnings == ()


def test_other_shapes_beside_polygons_are_ignored_with_a_note(tmp_path: Path) -> None:
    features = [feature(POINT), feature(SQUARE), feature(None), feature(POINT)]
    region = read(tmp_path, {"type": "FeatureCollection", "features": features})
    assert region.bounds == Rect(10, 20, 30, 50)
    assert region.warnings == ("shapes that enclose no area are ignored: 2 x Point, 1 x null",)


@pytest.mark.parametrize("value", [[feature(POINT)], feature(None), [], POINT])
def test_no_polygon_at_all_is_an_error(tmp_path: Path, value: object) -> None:
    with pytest.raises(BadRegion, match=r"expected a Polygon.*got|encloses no area"):
        read(tmp_path, value)


def test_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "drawn.json"
    path.write_text(json.dumps(SQUARE), encoding="utf-8-sig")
    assert outline_of(path).bounds == Rect(10, 20, 30, 50)


def test_an_annotation_of_the_digital_slide_archive(tmp_path: Path) -> None:
    elements = [
        {
            "type": "polyline",
            "closed": True,
            "points": [[10, 20, 0], [30, 20, 0], [30, 50, 0], [10, 50, 0]],
            "holes": [[[12, 22, 0], [14, 22, 0], [14, 24, 0]]],
        },
        {"type": "point", "center": [1, 1, 0]},
    ]
    region = read(tmp_path, {"annotation": {"name": "a", "elements": elements}})
    assert region.bounds == Rect(10, 20, 30, 50)
    assert len(region.polygons[0]) == 2
    assert region.warnings == ("shapes that enclose no area are ignored: 1 x Point",)
    assert read(tmp_path, {"elements": elements[:1]}).bounds == Rect(10, 20, 30, 50)


def test_rectangles_and_ellipses_of_an_annotation(tmp_path: Path) -> None:
    box = {"type": "rectangle", "center": [50, 40, 0], "width": 20, "height": 10}
    assert read(tmp_path, {"elements": [box]}).bounds == Rect(40, 35, 60, 45)
    turned = read(tmp_path, {"elements": [{**box, "rotation": math.pi / 2}]}).bounds
    assert turned.x0 == pytest.approx(45)
    assert turned.y1 == pytest.approx(50)
    disc = {"type": "circle", "center": [50, 40, 0], "radius": 8}
    assert read(tmp_path, {"elements": [disc]}).bounds == Rect(42, 32, 58, 48)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="cannot read"):
        outline_of(tmp_path / "nothing.geojson")
    cut = tmp_path / "cut.geojson.gz"
    cut.write_bytes(gzip.compress(json.dumps(SQUARE).encode())[:-10])
    with pytest.raises(Malformed, match="ends before its last byte"):
        outline_of(cut)
    with pytest.raises(BadRegion, match="lacks 'height'"):
        read(tmp_path, {"elements": [{"type": "rectangle", "center": [1, 1], "width": 2}]})
