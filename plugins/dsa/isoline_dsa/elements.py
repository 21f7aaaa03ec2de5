"""Annotation elements: which belong together, and which a user has changed. No Girder in here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

MAX_ELEMENTS = 10_000
"""Of one annotation: HistomicsUI becomes slow beyond. More are split into parts."""
MARK = "isoline"
"""The key of what we note: in an annotation's attributes, and in an element's user data."""

Element = dict[str, Any]
"""As large_image_annotation's schema has it."""


def marked(element: Element) -> Element:
    """Return `element` with a note of its shape and class as they are now."""
    return {**element, "user": {**(element.get("user") or {}), MARK: _digest(element)}}


def is_touched(element: Element) -> bool:
    """Return whether someone changed the shape or the class of `element` since it was stored."""
    return bool((element.get("user") or {}).get(MARK) != _digest(element))


def parts(elements: Iterable[Element], room: int) -> Iterator[list[Element]]:
    """Split `elements` into lists of at most `room`, then at most MAX_ELEMENTS each.

    The polygons of one object stay together, even where that makes a list too long. The first
    list is empty where nothing fits into `room`.
    """
    current: list[Element] = []
    for whole in _objects(elements):
        if len(current) + len(whole) > room and (current or room < MAX_ELEMENTS):
            yield current
            current, room = [], MAX_ELEMENTS
        current += whole
    yield current


def _objects(elements: Iterable[Element]) -> Iterator[list[Element]]:
    """Group the neighbours that are polygons of one object."""
    group: list[Element] = []
    for element in elements:
        key = (element.get("user") or {}).get("object")
        if group and (key is None or key != (group[0].get("user") or {}).get("object")):
            yield group
            group = []
        group.append(element)
    if group:
        yield group


def _digest(element: Element) -> str:
    """Return what stays the same until a user changes the shape or the class."""

    def ring(points: Any) -> list[list[float]]:
        return [[round(float(x), 3), round(float(y), 3)] for x, y, *_ in points]

    shape = [ring(element.get("points") or []), *map(ring, element.get("holes") or [])]
    label = (element.get("label") or {}).get("value")
    text = json.dumps([shape, element.get("type"), element.get("group"), label])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
