"""QuPath's GeoJSON, as strict as QuPath is: one invalid feature makes a whole batch fail.

QuPath's own classes (0.6 and 0.7) reject a null `id`, `name`, `properties` or `geometry`,
measurements that are not numbers, colours that are not integers, and rings that are open or
self-intersecting. They silently drop an id that is not a UUID, metadata that is not text, and null
measurements. All plugins share the metadata: isoline's keys begin with `isoline.`.
"""

from __future__ import annotations

from orjson import Fragment, dumps

from isoline.domain.events import End, Objects, Started
from isoline.exports.base import Encoder, RingStyle, items, join, scope_key
from isoline.exports.geojson import geometry

AREA, NUCLEUS_SHARE = "Area µm^2", "Nucleus/Cell area ratio"
"""QuPath's own names for these measurements; `Cell: ` or `Nucleus: ` precedes the area of a part of
a cell."""


class QuPath(Encoder):
    """Detections or cells for objects; annotations for regions and for prompted objects.

    Read by `PathIO.readObjectsFromGeoJSON`.
    """

    name = "qupath"
    suffix = ".geojson"
    media_type = "application/geo+json"

    def features(self, objects: Objects, started: Started, provisional: bool) -> bytes:
        # QuPath can edit only annotations, and users correct prompted objects
        counted = started.kind == "objects" and not started.pointed
        kind = "detection" if counted else "annotation"
        if objects.nuclei is not None:
            kind = "cell"
        # text that many features share is encoded once
        classes = [
            Fragment(dumps({"name": label.name, "color": label.color})) for label in started.labels
        ]
        plane = Fragment(dumps({"c": -1, "z": started.z, "t": 0}))
        origin = {"isoline.model": started.scope.model, "isoline.scope": scope_key(started.scope)}
        if provisional:
            origin["isoline.provisional"] = "true"
        incomplete = {**origin, "isoline.incomplete": "true"}
        metadata = [Fragment(dumps(origin)), Fragment(dumps(incomplete))]

        features: list[dict[str, object]] = []
        for item in items(objects, started, RingStyle.CLOSED):
            numbers: dict[str, object] = {**item.measurements}
            if item.area_um2 is not None and kind != "cell":
                numbers[AREA] = item.area_um2
            elif item.area_um2 is not None:
                numbers[f"Cell: {AREA}"] = item.area_um2
                if item.nucleus_um2:
                    numbers[f"Nucleus: {AREA}"] = item.nucleus_um2
                    numbers[NUCLEUS_SHARE] = item.nucleus_um2 / item.area_um2
            feature: dict[str, object] = {
                "type": "Feature",
                "id": self.id_text(item.id),
                "geometry": {**geometry(item.parts), "plane": plane},
                "properties": {
                    "objectType": kind,
                    "classification": classes[item.label],
                    "measurements": numbers,
                    "metadata": metadata[item.incomplete],
                },
            }
            if item.nucleus:
                feature["nucleusGeometry"] = {**geometry(item.nucleus), "plane": plane}
            features.append(feature)
        return join(features)

    def header(self, started: Started) -> bytes:
        return b'{"type":"FeatureCollection","features":[\n'

    def footer(self, started: Started, end: End | None) -> bytes:
        return b"\n]}\n"
