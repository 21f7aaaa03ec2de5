"""Object ids that depend only on the object, never on how it was found.

The id of an object is a UUID of version 5 (RFC 9562, section 5.5) whose namespace is the scope of
its result and whose name is its label and its outline in grid pixels. The same nucleus has the same
id regardless of the tiles, their order, the workers or the requested region.
"""

from __future__ import annotations

import json
import uuid
from hashlib import sha1

import numpy as np
from numpy.typing import NDArray

from isoline.domain.events import Scope
from isoline.geometry.polygons import Polygons

NAMESPACE = uuid.UUID("d22d8eb8-e1fd-473b-bdc6-9dec6d8b98b4")
"""A random UUID, the root of all scopes; changing it would change every existing id."""


def scope_key(scope: Scope) -> bytes:
    """Return 16 bytes that identify `scope`: equal if and only if the scopes are equal."""
    facts = [scope.image, scope.model, scope.version, scope.parameters]
    return uuid.uuid5(NAMESPACE, json.dumps(facts)).bytes


def identify(key: bytes, label: NDArray[np.integer], polygons: Polygons) -> NDArray[np.uint8]:
    """Return the (n, 16) ids of the objects `polygons` of class `label` (n,) under a scope's `key`.

    The polygons must be the exact ones in grid pixels, before any simplification.
    """
    rows, start = polygons.records()
    outlines = memoryview(rows.astype("<i4").tobytes())
    labels = label.astype("<u4").tobytes()
    ends = (8 * start).tolist()
    digests = b"".join(
        sha1(
            key + labels[4 * k : 4 * k + 4] + outlines[ends[k] : ends[k + 1]],
            usedforsecurity=False,
        ).digest()[:16]
        for k in range(len(polygons))
    )
    ids: NDArray[np.uint8] = np.frombuffer(digests, np.uint8).reshape(-1, 16).copy()
    ids[:, 6] = ids[:, 6] & 0x0F | 0x50  # version 5
    ids[:, 8] = ids[:, 8] & 0x3F | 0x80  # variant of RFC 9562
    return ids
