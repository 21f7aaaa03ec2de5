"""Run in Girder's own Python: append batches to an annotation and print, as JSON, their seconds.

python inside_append.py ITEM
"""

from __future__ import annotations

import json
import sys
import time

from girder.models.item import Item
from girder.models.user import User
from girder.plugin import getPlugin
from isoline_dsa.annotations import append, count, create

BATCH, BATCHES, FULL = 50, 15, 9500


def batch(first: int) -> list[dict[str, object]]:
    """Return elements of some 30 corners each, as nuclei have."""
    return [
        {
            "id": f"{k:024x}",
            "type": "polyline",
            "closed": True,
            "points": [[k % 30000 + j % 6, j // 6, 0] for j in range(30)],
            "group": "nucleus",
            "user": {"scope": "benchmark"},
        }
        for k in range(first, first + BATCH)
    ]


def main() -> None:
    getPlugin("large_image_annotation")
    item = Item().load(sys.argv[1], force=True)
    user = User().findOne({"login": "admin"})
    grown = create(item, user, "benchmark", {})
    seconds = []
    for done in range(0, FULL + BATCH * BATCHES, BATCH):
        began = time.perf_counter()
        append(grown, batch(done))
        seconds.append(time.perf_counter() - began)
    assert count(grown) == len(seconds) * BATCH
    at = FULL // BATCH
    print(json.dumps({"first": seconds[:BATCHES], "full": seconds[at : at + BATCHES]}))


if __name__ == "__main__":
    main()
