"""Annotation elements of the Digital Slide Archive (girder's large_image_annotation).

An element is one closed polyline with holes; an object of several parts is as many elements, whose
`user.object` is the id of the object. Ids are 24 hex digits, as MongoDB has them.
"""

from __future__ import annotations

import hashlib

import orjson
from orjson import Fragment

from isoline.encoders.base import Encoder, RingStyle, items, join, outcome, scope_key
from isoline.events import End, Label, Objects, Started


class DSA(Encoder):
    """Polyline elements, grouped by label; a file is one annotation document."""

    name = "dsa"
    suffix = ".json"
    media_type = "application/json"

    def id_text(self, raw: bytes) -> str:
        return raw.hex()[:24]

    def features(self, objects: Objects, started: Started, provisional: bool) -> bytes:
        styles = [_style(label) for label in started.labels]
        scope = scope_key(started.scope)
        elements: list[dict[str, object]] = []
        for item in items(objects, started, RingStyle.OPEN_3D):
            user: dict[str, object] = {**item.measurements, "scope": scope}
            if item.area_um2 is not None:
                user["area_um2"] = item.area_um2
            if item.incomplete:
                user["incomplete"] = True
            if provisional:
                user["provisional"] = True
            if len(item.parts) > 1:
                user["object"] = self.id_text(item.id)
            for k, part in enumerate(item.parts):
                shell, *holes = part
                elements.append(
                    {
                        "id": self.id_text(_part_id(item.id, k)),
                        "type": "polyline",
                        "closed": True,
                        "points": shell,
                        "holes": holes,
                        **styles[item.label],
                        "user": user,
                    }
                )
        return join(elements)

    def header(self, started: Started) -> bytes:
        scope = started.scope
        head = {
            "name": f"{scope.model} {scope.version}",
            "display": {"visible": "new"},
            "attributes": {
                "fingerprint": scope.image,
                "parameters": dict(scope.parameters),
                "scope": scope_key(scope),
            },
        }
        return orjson.dumps(head)[:-1] + b',"elements":[\n'

    def footer(self, started: Started, end: End | None) -> bytes:
        said = f"isoline, {started.scope.model} on {started.image}: {outcome(end)}"
        return b'\n],"description":%b}\n' % orjson.dumps(said)


def _style(label: Label) -> dict[str, object]:
    red, green, blue = label.color
    return {
        "label": Fragment(orjson.dumps({"value": label.name})),
        "group": label.name,
        "lineColor": f"rgb({red}, {green}, {blue})",
        "lineWidth": 2,
        "fillColor": f"rgba({red}, {green}, {blue}, 0.2)",
    }


def _part_id(raw: bytes, part: int) -> bytes:
    """Return the id of part 0, 1, ... of an object: the object's own, then hashes of it."""
    return hashlib.sha256(raw + part.to_bytes(4, "big")).digest() if part else raw
