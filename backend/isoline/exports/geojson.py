"""GeoJSON as in RFC 7946, but with image coordinates instead of longitude and latitude."""

from __future__ import annotations

import orjson
from orjson import Fragment

from isoline.domain.events import End, Objects, Started
from isoline.exports.base import Encoder, RingStyle, items, join, outcome, scope_key


class GeoJSON(Encoder):
    """A FeatureCollection of Polygons and MultiPolygons."""

    name = "geojson"
    suffix = ".geojson"
    media_type = "application/geo+json"

    def features(self, objects: Objects, started: Started, provisional: bool) -> bytes:
        labels = [
            {"label": label.name, "color": label.color, "model": started.scope.model}
            for label in started.labels
        ]
        features: list[dict[str, object]] = []
        for item in items(objects, started, RingStyle.CLOSED):
            properties: dict[str, object] = {**labels[item.label], "incomplete": item.incomplete}
            if item.area_um2 is not None:
                properties["area_um2"] = item.area_um2
            if item.measurements:
                properties["measurements"] = item.measurements
            feature: dict[str, object] = {
                "type": "Feature",
                "id": self.id_text(item.id),
                "geometry": geometry(item.parts),
                "properties": properties,
            }
            if item.nucleus:  # a foreign member, with the name that QuPath uses
                feature["nucleusGeometry"] = geometry(item.nucleus)
            features.append(feature)
        return join(features)

    def header(self, started: Started) -> bytes:
        return b'{"type":"FeatureCollection","features":[\n'

    def footer(self, started: Started, end: End | None) -> bytes:
        made = {
            "image": started.image,
            "fingerprint": started.scope.image,
            "model": started.scope.model,
            "version": started.scope.version,
            "parameters": dict(started.scope.parameters),
            "scope": scope_key(started.scope),
            "spacing_um": started.spacing_um and [*started.spacing_um],
            "outcome": outcome(end),
        }
        # a foreign member, which a reader may ignore (RFC 7946, 6.1)
        return b'\n],"isoline":%b}\n' % orjson.dumps(made)


def geometry(parts: list[list[Fragment]]) -> dict[str, object]:
    """Return the Polygon or MultiPolygon with these parts, of which there is at least one."""
    if len(parts) == 1:
        return {"type": "Polygon", "coordinates": parts[0]}
    return {"type": "MultiPolygon", "coordinates": parts}
