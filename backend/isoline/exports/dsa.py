"""Annotation elements of the Digital Slide Archive (girder's large_image_annotation).

An element is one closed polyline with holes. An object of several parts, or a cell with its
nucleus, becomes several elements whose `user.object` is the id of the object. Ids are 24 hex
digits, as in MongoDB.
"""

from __future__ import annotations

import hashlib

import orjson
from orjson import Fragment

from isoline.domain.events import End, Label, Objects, Started
from isoline.exports.base import Encoder, RingStyle, items, join, outcome, scope_key


class DSA(Encoder):
    """Polyline elements, grouped by label; a file is one annotation document."""

    name = "dsa"
    suffix = ".json"
    media_type = "application/json"

    def id_text(self, raw: bytes) -> str:
        return raw.hex()[:24]

    def features(self, objects: Objects, started: Started, provisional: bool) -> bytes:
        styles = [_style(label) for label in started.labels]
        nucleus_styles = [
            _style(Label(f"{label.name} nucleus", label.color)) for label in started.labels
        ]
        scope = scope_key(started.scope)
        elements: list[dict[str, object]] = []
        for item in items(objects, started, RingStyle.OPEN_3D):
            shared: dict[str, object] = {"scope": scope}
            if item.incomplete:
                shared["incomplete"] = True
            if provisional:
                shared["provisional"] = True
            if len(item.parts) + len(item.nucleus) > 1:
                shared["object"] = self.id_text(item.id)
            user: dict[str, object] = {**item.measurements, **shared}
            if item.area_um2 is not None:
                user["area_um2"] = item.area_um2
            for k, part in enumerate(item.parts):
                raw = _derived_id(item.id, k) if k else item.id
                elements.append(self._element(raw, part, styles[item.label], user))
            for k, part in enumerate(item.nucleus):
                raw = _derived_id(item.id, k, b"nucleus")
                elements.append(self._element(raw, part, nucleus_styles[item.label], shared))
        return join(elements)

    def _element(
        self,
        raw: bytes,
        part: list[Fragment],
        style: dict[str, object],
        user: dict[str, object],
    ) -> dict[str, object]:
        shell, *holes = part
        return {
            "id": self.id_text(raw),
            "type": "polyline",
            "closed": True,
            "points": shell,
            "holes": holes,
            **style,
            "user": user,
        }

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
        description = f"isoline, {started.scope.model} on {started.image}: {outcome(end)}"
        return b'\n],"description":%b}\n' % orjson.dumps(description)


def _style(label: Label) -> dict[str, object]:
    red, green, blue = label.color
    return {
        "label": Fragment(orjson.dumps({"value": label.name})),
        "group": label.name,
        "lineColor": f"rgb({red}, {green}, {blue})",
        "lineWidth": 2,
        "fillColor": f"rgba({red}, {green}, {blue}, 0.2)",
    }


def _derived_id(raw: bytes, part: int, role: bytes = b"") -> bytes:
    """Return an id for a part of the object `raw` or, with a role, for something inside it."""
    return hashlib.sha256(raw + part.to_bytes(4, "big") + role).digest()
