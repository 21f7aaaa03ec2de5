"""Every dialect, read back by a reader of that dialect."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import replace
from itertools import chain
from typing import Any

import geojson  # type: ignore[import-untyped]
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry.base import BaseGeometry

from isoline.domain.events import Objects, Started
from isoline.exports.dsa import DSA
from isoline.exports.encoder import scope_key
from isoline.exports.geojson import GeoJSON
from isoline.exports.qupath import QuPath
from isoline.geometry.grid import XY
from isoline.testing.contracts import EncoderContract, Seen, results

SCALES = st.sampled_from([XY(1.0, 1.0), XY(4.0004, 16.006), XY(0.5, 2.0)])
NUCLEUS = [[results.rectangle(0, 0, 9, 9), results.hole(2, 2, 4, 4)]]
TWO_PARTS = [[results.rectangle(0, 20, 3, 23)], [results.rectangle(3, 23, 6, 26)]]


def shape_of(geometry: Any) -> BaseGeometry | None:
    return None if geometry is None else shapely.geometry.shape(geometry)


class TestGeoJSON(EncoderContract):
    encoder = GeoJSON()
    draws_nuclei = True

    def see(self, features: list[Any]) -> list[Seen]:
        return [
            Seen(
                feature["id"],
                feature["properties"]["label"],
                shapely.geometry.shape(feature["geometry"]),
                feature["properties"]["incomplete"],
                shape_of(feature.get("nucleusGeometry")),
            )
            for feature in features
        ]

    def features_in(self, document: Any) -> list[Any]:
        collection = geojson.loads(json.dumps(document))
        assert isinstance(collection, geojson.FeatureCollection)
        assert collection.is_valid, collection.errors()
        return list(document["features"])

    def test_a_file_says_what_it_was_made_from(self) -> None:
        text = GeoJSON().header(results.STARTED) + GeoJSON().footer(results.STARTED, None)
        made = json.loads(text)["isoline"]
        assert made["model"] == "nuclei"
        assert made["parameters"] == {"sensitivity": 0.5, "spacing_um": 0.25}
        assert made["outcome"] == "cancelled"

    def test_shells_are_counterclockwise_and_holes_clockwise_as_rfc_7946_counts(self) -> None:
        (feature,) = self.encoded(results.objects_of([NUCLEUS]), results.STARTED)
        shell, hole = map(shapely.LinearRing, feature["geometry"]["coordinates"])
        assert shell.is_ccw
        assert not hole.is_ccw

    def test_areas_are_in_micrometres(self) -> None:
        started = results.started(XY(2.0, 2.0), spacing_um=XY(0.25, 0.5))
        (feature,) = self.encoded(results.objects_of([NUCLEUS]), started)
        assert feature["properties"]["area_um2"] == (81 - 4) * 4 * 0.25 * 0.5


class TestQuPath(EncoderContract):
    encoder = QuPath()
    draws_nuclei = True

    def see(self, features: list[Any]) -> list[Seen]:
        from qubalab.objects import ImageFeature

        seen = []
        for feature in geojson.loads(json.dumps(features)):
            object_ = ImageFeature.create_from_feature(feature)
            assert object_.is_detection or object_.is_cell
            shape = shapely.geometry.shape(object_.geometry)
            incomplete = "isoline.incomplete" in object_["properties"]["metadata"]
            nucleus = shape_of(object_.nucleus_geometry)
            seen.append(
                Seen(object_.id, object_.classification.names[0], shape, incomplete, nucleus)
            )
        return seen

    def features_in(self, document: Any) -> list[Any]:
        assert document.keys() == {"type", "features"}
        return list(document["features"])

    @settings(max_examples=60)
    @given(objects=results.batches(), scale=SCALES, provisional=st.booleans())
    def test_every_rule_of_the_dialect(
        self, objects: Objects, scale: XY, provisional: bool
    ) -> None:
        started = results.started(scale, kind="regions" if provisional else "objects", z=2)
        kind = "annotation" if provisional else "detection"
        if objects.nuclei is not None:
            kind = "cell"
        features = self.encoded(objects, started, provisional)
        assert len(features) == len(objects)
        for feature in features:
            required = {"type", "id", "geometry", "properties"}
            assert required <= feature.keys() <= required | {"nucleusGeometry"}
            assert feature["type"] == "Feature"
            assert str(uuid.UUID(feature["id"])) == feature["id"]
            self.check_geometry(feature["geometry"])
            if "nucleusGeometry" in feature:
                assert kind == "cell"
                self.check_geometry(feature["nucleusGeometry"])
            self.check_properties(feature["properties"], kind)

    @staticmethod
    def check_geometry(geometry: Any) -> None:
        assert geometry["type"] in ("Polygon", "MultiPolygon")
        assert geometry["plane"] == {"c": -1, "z": 2, "t": 0}
        polygons = geometry["coordinates"]
        for ring in chain(*(polygons if geometry["type"] == "MultiPolygon" else [polygons])):
            assert ring[0] == ring[-1]
            assert len(ring) >= 5
            assert all(round(v, 3) == v for corner in ring for v in corner)
            assert shapely.LinearRing(ring).is_simple
        shape = shapely.geometry.shape(geometry)
        assert shape.is_valid
        kept = shapely.set_precision(shape, 0.01)  # what QuPath rounds to when it reads
        assert len(shapely.get_parts(kept)) == len(shapely.get_parts(shape))

    @staticmethod
    def check_properties(properties: Any, object_type: str) -> None:
        assert properties["objectType"] == object_type
        assert None not in properties.values()
        classification = properties["classification"]
        assert classification["name"] in [label.name for label in results.LABELS]
        assert all(type(v) is int and 0 <= v <= 255 for v in classification["color"])
        assert len(classification["color"]) == 3
        for value in properties["measurements"].values():
            assert isinstance(value, float)
            assert np.isfinite(value)
        assert all(isinstance(value, str) for value in properties["metadata"].values())
        assert properties["metadata"]["isoline.scope"] == scope_key(results.SCOPE)

    def test_cells_are_measured_under_the_names_of_qupath(self) -> None:
        started = results.started(XY(2.0, 2.0), spacing_um=XY(0.25, 0.5))
        small = [[results.rectangle(0, 0, 4, 3)]]
        objects = results.objects_of([NUCLEUS, NUCLEUS], nuclei=[small, []])
        whole, bare = self.encoded(objects, started)
        cell_um2, nucleus_um2 = (81 - 4) * 4 * 0.125, 12 * 4 * 0.125
        assert whole["properties"]["measurements"] == {
            "Cell: Area µm^2": cell_um2,
            "Nucleus: Area µm^2": nucleus_um2,
            "Nucleus/Cell area ratio": nucleus_um2 / cell_um2,
        }
        assert bare["properties"]["measurements"] == {"Cell: Area µm^2": cell_um2}

    def test_what_prompts_point_at_can_be_edited(self) -> None:
        started = replace(results.STARTED, pointed=True)
        (feature,) = self.encoded(results.objects_of([NUCLEUS]), started)
        assert feature["properties"]["objectType"] == "annotation"

    def test_measurements_come_back_to_the_last_digit_of_float32(self) -> None:
        numbers = {"contrast": [0.1], "tiny": [1e-30]}
        (feature,) = self.encoded(
            results.objects_of([NUCLEUS], measurements=numbers), results.STARTED
        )
        measured = feature["properties"]["measurements"]
        assert measured == {"contrast": 0.1, "tiny": 1e-30, "Area µm^2": 77 * 0.0625}

    def test_pieces_say_that_they_are_provisional(self) -> None:
        pieces = self.encoded(results.objects_of([NUCLEUS]), results.STARTED, provisional=True)
        assert pieces[0]["properties"]["metadata"]["isoline.provisional"] == "true"


COLOR = re.compile(r"rgb\(\d+, \d+, \d+\)|rgba\(\d+, \d+, \d+, 0?\.\d+\)")


class TestDSA(EncoderContract):
    encoder = DSA()
    draws_nuclei = True

    def see(self, features: list[Any]) -> list[Seen]:
        objects: dict[str, tuple[list[Any], list[Any]]] = {}
        for element in features:
            outlines, nuclei = objects.setdefault(
                element["user"].get("object", element["id"]), ([], [])
            )
            is_nucleus = element["group"].endswith(" nucleus")
            (nuclei if is_nucleus else outlines).append(element)
        return [
            Seen(
                object_id,
                outlines[0]["label"]["value"],
                shapely.MultiPolygon(map(self.polygon, outlines)),
                outlines[0]["user"].get("incomplete", False),
                shapely.MultiPolygon(map(self.polygon, nuclei)) if nuclei else None,
            )
            for object_id, (outlines, nuclei) in objects.items()
        ]

    @staticmethod
    def polygon(element: Any) -> shapely.Polygon:
        assert all(z == 0 for ring in (element["points"], *element["holes"]) for _, _, z in ring)
        shell, *holes = (
            [(x, y) for x, y, _ in ring] for ring in (element["points"], *element["holes"])
        )
        return shapely.Polygon(shell, holes)

    def features_in(self, document: Any) -> list[Any]:
        assert document.keys() == {"name", "description", "display", "attributes", "elements"}
        assert document["name"]
        assert document["display"] == {"visible": "new"}
        return list(document["elements"])

    @settings(max_examples=60)
    @given(objects=results.batches(), scale=SCALES)
    def test_every_rule_of_the_dialect(self, objects: Objects, scale: XY) -> None:
        elements = self.encoded(objects, results.started(scale))
        ids = [element["id"] for element in elements]
        assert len(set(ids)) == len(ids)
        for element in elements:
            assert re.fullmatch("[0-9a-f]{24}", element["id"])
            assert element["type"] == "polyline"
            assert element["closed"] is True
            assert element["points"][0] != element["points"][-1]
            assert all(len(ring) >= 4 for ring in (element["points"], *element["holes"]))
            assert element["label"].keys() == {"value"}
            assert element["group"] == element["label"]["value"]
            assert COLOR.fullmatch(element["lineColor"])
            assert COLOR.fullmatch(element["fillColor"])
            assert element.keys() <= {
                "id", "type", "closed", "points", "holes", "label", "group", "user",
                "lineColor", "lineWidth", "fillColor",
            }  # fmt: skip

    def test_a_nucleus_knows_its_cell(self) -> None:
        objects = results.objects_of([NUCLEUS], nuclei=[TWO_PARTS])
        cell, *nuclei = self.encoded(objects, results.STARTED)
        assert [element["group"] for element in nuclei] == ["nucleus nucleus"] * 2
        assert {element["user"]["object"] for element in (cell, *nuclei)} == {cell["id"]}
        assert "area_um2" in cell["user"]
        assert "area_um2" not in nuclei[0]["user"]
        parts = self.encoded(results.objects_of([TWO_PARTS]), results.STARTED)
        assert len({element["id"] for element in (cell, *nuclei, *parts)}) == 4

    def test_parts_of_an_object_know_each_other(self) -> None:
        objects = results.objects_of([NUCLEUS, TWO_PARTS])
        first, *parts = self.encoded(objects, results.STARTED)
        assert "object" not in first["user"]
        object_id = bytes(objects.ids[1]).hex()[:24]
        assert [part["user"]["object"] for part in parts] == [object_id, object_id]
        assert parts[0]["id"] == object_id != parts[1]["id"]
        assert self.encoded(objects, results.STARTED)[2]["id"] == parts[1]["id"]


@pytest.mark.parametrize("encoder", [GeoJSON(), QuPath(), DSA()])
def test_neighbours_share_their_edges_exactly_at_any_scale(encoder: GeoJSON | QuPath | DSA) -> None:
    shapes = [[[results.rectangle(x, 7, x + 1, 8)]] for x in range(5000, 5040)]
    started = results.started(XY(4.0004, 16.006))
    text = encoder.features(results.objects_of(shapes), started, False)
    numbers = [float(n) for n in re.findall(rb"\[(\d+\.\d+),", text)]
    assert len(set(numbers)) == 41


def test_the_key_of_a_scope_tells_scopes_apart() -> None:
    def key(started: Started) -> str:
        return scope_key(started.scope)

    assert re.fullmatch("[0-9a-f]{16}", key(results.STARTED))
    assert key(results.started(XY(2.0, 2.0), z=1)) == key(results.STARTED)
    other = results.SCOPE.__class__("f1" * 16, "nuclei", "1.0", (("sensitivity", 0.6),))
    assert scope_key(other) != scope_key(results.SCOPE)
