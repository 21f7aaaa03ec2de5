"""Annotation elements: grouping them, and detecting changes by a user. Independent of Girder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

MAX_ELEMENTS = 10_000
"""The most elements of one annotation, above which HistomicsUI becomes slow. More are split into
parts."""
MARK = "isoline"
"""The plugin's key in an annotation's attributes and in an element's user data."""

Element = dict[str, Any]
"""An element as in large_image_annotation's schema."""


def marked(element: Element) -> Element:
    """Return `element` with a digest of its current shape and class."""
    return {**element, "user": {**(element.get("user") or {}), MARK: _digest(element)}}


def is_touched(element: Element) -> bool:
    """Return whether the shape or the class of `element` has changed since it was stored."""
    return bool((element.get("user") or {}).get(MARK) != _digest(element))


def parts(elements: Iterable[Element], room: int) -> Iterator[list[Element]]:
    """Split `elements` into lists, the first of at most `room` and the others of MAX_ELEMENTS.

    The polygons of one object stay together, even if that makes a list too long. The first list is
    empty if nothing fits into `room`.
    """
    current: list[Element] = []
    for whole in _objects(elements):
        if len(current) + len(whole) > room and (current or room < MAX_ELEMENTS):
            yield current
            current, room = [], MAX_ELEMENTS
        current += whole
    yield current


def _objects(elements: Iterable[Element]) -> Iterator[list[Element]]:
    """Group consecutive elements that are polygons of one object."""
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
    """Return a digest of the shape and the class of `element`."""

    def ring(points: Any) -> list[list[float]]:
        return [[round(float(x), 3), round(float(y), 3)] for x, y, *_ in points]

    shape = [ring(element.get("points") or []), *map(ring, element.get("holes") or [])]
    label = (element.get("label") or {}).get("value")
    text = json.dumps([shape, element.get("type"), element.get("group"), label])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
