"""Run in Girder's own Python: runs whose results are too many for one annotation.

python inside_parts.py '{"item": ID, "request": REQUEST, "most": ELEMENTS_OF_A_PART}'

Prints, as JSON, what the item has after each of: a run that is accepted, one that is discarded, and
another that is accepted.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from girder.models.item import Item
from girder.models.user import User
from girder.plugin import getPlugin
from girder_large_image_annotation.models.annotation import Annotation
from isoline_dsa import elements, runs


def main() -> None:
    told = json.loads(sys.argv[1])
    getPlugin("large_image_annotation")
    elements.MAX_ELEMENTS = runs.MAX_ELEMENTS = told["most"]
    item = Item().load(told["item"], force=True)
    after = []
    for verdict in ("accept", "discard", "accept"):
        run = _ended(item, told["request"])
        after.append({"ended": _annotations(item)})
        getattr(runs.Run(), verdict)(run)
        after[-1][verdict] = _annotations(item)
    print(json.dumps(after))


def _ended(item: Any, request: Any) -> Any:
    user = User().findOne({"login": "admin"})
    run = runs.Run().begin(item, user, request, "Specks")
    while run["state"] == runs.RUNNING:
        time.sleep(0.1)
        run = runs.Run().load(run["_id"])
    assert run["state"] == "done", run["message"]
    return run


def _annotations(item: Any) -> list[Any]:
    query = {"itemId": item["_id"], "_active": {"$ne": False}}
    return [
        {
            "name": each["annotation"]["name"],
            "ours": {k: str(v) for k, v in each["annotation"]["attributes"]["isoline"].items()},
            "count": each["_elementCount"],
            "ids": [element["id"] for element in each["annotation"]["elements"]],
        }
        for found in list(Annotation().collection.find(query, {"_id": 1}, sort=[("_id", 1)]))
        for each in [Annotation().load(found["_id"], force=True)]
    ]


if __name__ == "__main__":
    main()
