"""Growing annotations, and the replacement of earlier results in them.

large_image_annotation stores an annotation and its elements in two collections, joined by
`annotationId` and `_version`. Saving through its REST API rewrites every element; appending here
adds rows at the annotation's current version and increments its counters, so that the cost of a
batch does not depend on the size of the annotation.

Saving a copy that was read before the annotation was complete would delete the rest. Each change by
this plugin is therefore numbered in the annotation's attributes, which are part of every copy: a
copy with another number is refused.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import Any

from bson import ObjectId
from girder import events
from girder.exceptions import RestException
from girder_large_image_annotation.models.annotation import Annotation
from girder_large_image_annotation.models.annotationelement import Annotationelement

from isoline_dsa.elements import MARK, Element, is_touched, marked


def create(item: Any, user: Any, name: str, provenance: dict[str, Any]) -> ObjectId:
    """Create an empty, growing annotation and return its id."""
    document = {
        "name": f"{name} (growing)",
        "description": "Isoline is still adding to it. It can be edited once the run has ended.",
        "display": {"visible": False},
        "attributes": {MARK: provenance},
        "elements": [],
    }
    created = Annotation().createAnnotation(item, user, document)
    return ObjectId(created["_id"])


def append(annotation_id: ObjectId, elements: Sequence[Element]) -> None:
    """Add `elements` at the annotation's current version; the cost depends only on their number."""
    annotation = Annotation().collection.find_one(
        {"_id": annotation_id}, {"_version": 1, "itemId": 1}
    )
    if annotation is None or not elements:
        return
    batch = {**annotation, "annotation": {"elements": [marked(each) for each in elements]}}
    count, details = Annotationelement().updateElements(batch)
    Annotation().collection.update_one(
        {"_id": annotation_id}, {"$inc": {"_elementCount": count, "_detailsCount": details}}
    )


def count(annotation_id: ObjectId) -> int:
    """Return the number of elements according to the annotation's counter."""
    found = Annotation().collection.find_one({"_id": annotation_id}, {"_elementCount": 1}) or {}
    return int(found.get("_elementCount", 0))


def recount(annotation_id: ObjectId) -> set[str]:
    """Correct the counters after a crash, and return the ids of the stored elements."""
    seen: set[str] = set()
    details = 0
    for row in _rows(annotation_id, {"element.id": 1, "bbox.details": 1}):
        if _id_of(row) in seen:  # stored twice, since a process died before it was recorded
            Annotationelement().collection.delete_one({"_id": row["_id"]})
            continue
        seen.add(_id_of(row))
        details += row["bbox"]["details"]
    Annotation().collection.update_one(
        {"_id": annotation_id}, {"$set": {"_elementCount": len(seen), "_detailsCount": details}}
    )
    return seen


def finish(annotation_id: ObjectId, name: str, description: str) -> None:
    """Name a complete annotation; copies that were read earlier can no longer be saved."""
    _change(
        annotation_id,
        {
            "annotation.name": name,
            "annotation.description": description,
            "annotation.display.visible": True,
        },
    )


def remove(annotation_id: ObjectId) -> None:
    """Remove the annotation if it still exists."""
    annotation = Annotation().load(annotation_id, force=True, getElements=False)
    if annotation is not None and annotation.get("_active", True):
        Annotation().remove(annotation)


def replace_earlier(item_id: ObjectId, scope: str, mine: Sequence[ObjectId]) -> None:
    """Replace earlier annotations of the same `scope` by the annotations `mine`.

    Elements that a user has changed, added or drawn are kept, and the elements of `mine` with the
    same ids are deleted. Unchanged elements that `mine` has too are deleted from the earlier ones.
    """
    new = {_id_of(row) for one in mine for row in _rows(one, {"element.id": 1})}
    earlier = Annotation().collection.find(
        {
            "itemId": item_id,
            "_active": {"$ne": False},
            f"annotation.attributes.{MARK}.scope": scope,
            "_id": {"$nin": list(mine)},
        },
        {"_id": 1},
    )
    for annotation in list(earlier):
        again: set[str] = set()
        touched: set[str] = set()
        kept = 0
        for row in _rows(annotation["_id"], {"element": 1}):
            if _id_of(row) in new and not is_touched(row["element"]):
                again.add(_id_of(row))
                continue
            kept += 1
            if _id_of(row) in new:
                touched.add(_id_of(row))
        if kept:
            _drop(annotation["_id"], again)
        else:
            remove(annotation["_id"])
        for one in mine:
            _drop(one, touched)
        new -= touched


def refuse_harmful_edits() -> None:
    """Have Girder refuse all changes that would lose results which a run has added or is adding."""
    events.bind("model.annotation.save", MARK, _refuse_if_outdated)
    for route in ("put.annotation/:id", "patch.annotation/:id", "delete.annotation/:id"):
        events.bind(f"rest.{route}.before", MARK, _refuse_if_growing)
    events.bind("rest.put.annotation/:id/history/revert.before", MARK, _refuse_if_growing)


def _refuse_if_growing(event: Any) -> None:
    from isoline_dsa.runs import Run  # the model needs the database, which is available by now

    if Run().is_growing(event.info["id"]):
        raise RestException(
            "Isoline is still adding to this annotation. Wait for the run to end, or stop it.", 423
        )


def _refuse_if_outdated(event: Any) -> None:
    saved = event.info
    ours = (saved["annotation"].get("attributes") or {}).get(MARK)
    if not saved.get("_id") or not isinstance(ours, dict):
        return
    field = f"annotation.attributes.{MARK}.change"
    if Annotation().collection.find_one({"_id": saved["_id"], field: {"$ne": ours.get("change")}}):
        raise RestException(
            "Isoline has changed this annotation since it was loaded. Reload the page before you "
            "edit it.",
            409,
        )


def _rows(annotation_id: ObjectId, fields: dict[str, int]) -> Iterator[Any]:
    """Yield the rows of the annotation's current elements."""
    annotation = Annotation().collection.find_one({"_id": annotation_id}, {"_version": 1})
    if annotation is not None:
        query = {"annotationId": annotation_id, "_version": annotation["_version"]}
        yield from Annotationelement().collection.find(query, fields)


def _id_of(row: Any) -> str:
    """Return the id of a row's element; if a user drew it, that of the row."""
    return str(row["element"].get("id", row["_id"]))


def _drop(annotation_id: ObjectId, ids: set[str]) -> None:
    """Delete the elements `ids` of the annotation."""
    chosen = [
        (row["_id"], row["bbox"]["details"])
        for row in _rows(annotation_id, {"element.id": 1, "bbox.details": 1})
        if _id_of(row) in ids
    ]
    if not chosen:
        return
    for k in range(0, len(chosen), 1000):
        some = [row_id for row_id, _ in chosen[k : k + 1000]]
        Annotationelement().collection.delete_many({"_id": {"$in": some}})
    lost = {"_elementCount": -len(chosen), "_detailsCount": -sum(d for _, d in chosen)}
    Annotation().collection.update_one({"_id": annotation_id}, {"$inc": lost})
    _renew(annotation_id)


def _renew(annotation_id: ObjectId) -> None:
    """Move the annotation and its elements to a new version, so that viewers load it again.

    The elements are moved first, so that none is lost.
    """
    annotation = Annotation().collection.find_one({"_id": annotation_id}, {"_version": 1})
    if annotation is None:
        return
    version = Annotationelement().getNextVersionValue()
    Annotationelement().collection.update_many(
        {"annotationId": annotation_id, "_version": annotation["_version"]},
        {"$set": {"_version": version}},
    )
    _change(annotation_id, {"_version": version})


def _change(annotation_id: ObjectId, changes: dict[str, Any]) -> None:
    """Set `changes` and number them; see `_refuse_if_outdated`."""
    changes = {
        **changes,
        "updated": datetime.datetime.now(datetime.timezone.utc),
        f"annotation.attributes.{MARK}.change": Annotationelement().getNextVersionValue(),
    }
    Annotation().collection.update_one({"_id": annotation_id}, {"$set": changes})
    annotation = Annotation().collection.find_one({"_id": annotation_id}, {"_version": 1})
    if annotation is not None:
        Annotation().injectAnnotationGroupSet(annotation)
