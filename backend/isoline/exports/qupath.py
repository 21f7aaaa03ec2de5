"""QuPath's GeoJSON, strict where QuPath is: one bad feature fails its whole batch.

What QuPath's own classes (0.6 and 0.7) refuse: a null `id`, `name`, `properties` or `geometry`,
measurements that are no numbers, colours that are no integers, rings that are open or cross
themselves. What they silently drop: an id that is no UUID, metadata that is no text, null
measurements. Metadata is shared by all plugins: ours begins with `isoline.`.
"""

from __future__ import annotations

from orjson import Fragment, dumps

from isoline.domain.events import End, Objects, Started
from isoline.exports.base import Encoder, RingStyle, items, join, scope_key
from isoline.exports.geojson import geometry

AREA, NUCLEUS_SHARE = "Area µm^2", "Nucleus/Cell area ratio"
"""The names that QuPath itself gives to these measurements; `Cell: ` or `Nucleus: ` stands before
the area of a part of a cell."""


class QuPath(Encoder):
    """Detections or cells for objects, annotations for regions and for what prompts point at.

    Read by `PathIO.readObjectsFromGeoJSON`.
    """

    name = "qupath"
    suffix = ".geojson"
    media_type = "application/geo+json"

    def features(self, objects: Objects, started: Started, provisional: bool) -> bytes:
        # what many features share is put into text once
        # QuPath lets only annotations be edited, and what one points at is there to be corrected
        counted = started.kind == "objects" and not started.pointed
        kind = "detection" if counted else "annotation"
        if objects.nuclei is not None:
            kind = "cell"
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
