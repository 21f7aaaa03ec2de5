"""Runs: users' requests in the database, and the threads that store their results.

A run outlives the browser and the Girder process: it has the id of a job of the isoline server and
the number of the last event that was stored. If the process that follows it dies, the next request
for the run resumes it; batches that were already stored are recognised by their elements' ids.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from bson import ObjectId
from girder.constants import AccessType
from girder.exceptions import ValidationException
from girder.models.item import Item
from girder.models.model_base import Model
from girder.models.user import User
from pymongo.errors import PyMongoError

from isoline_client import Client, ClientError, Json, events
from isoline_dsa import annotations, images, settings
from isoline_dsa.elements import MAX_ELEMENTS, parts
from isoline_dsa.server import NO_ANSWER, ServerError, explained

log = logging.getLogger(__name__)

RUNNING, STOPPED = "running", "stopped"
BEAT_SECONDS = 2.0
"""The interval at which a follower records that it is alive."""
DEAD_SECONDS = 10.0
"""A run without a sign of life for this long may be taken over."""

_PROCESS = uuid.uuid4().hex


class Run(Model):  # type: ignore[misc]
    """The collection `isoline_run`."""

    def initialize(self) -> None:
        """Set the collection's name, its indices, and the fields that users may see."""
        self.name = "isoline_run"
        self.ensureIndices(["itemId", "annotations", "state", ("job", {"unique": True})])
        self.exposeFields(
            AccessType.READ,
            (
                *("_id", "itemId", "creatorId", "created", "model", "title", "state", "message"),
                *("open", "annotations", "elements", "objects", "tiles", "tilesDone", "warnings"),
            ),
        )

    def validate(self, doc: Any) -> Any:
        """Accept every document, since only this module creates them."""
        return doc

    def begin(
        self, item: Any, user: Any, request: dict[str, Any], title: str, key: str = ""
    ) -> Any:
        """Send `request` to the isoline server and follow its job. Raises ServerError.

        `title` is the name of the run and its annotations for users. Beginning a run again with
        the same `key` returns the existing one.
        """
        job = settings.server().submit(
            images.segmenting(item, request), key or uuid.uuid4().hex, images.read_token(user)
        )
        try:
            run = self._create(item, user, request["model"], title, job)
        except ValidationException:  # Girder's error for a duplicate, from an earlier attempt
            earlier = self.findOne({"job": job})
            if earlier is None:
                raise
            return self.revived(earlier)
        _follow_in_thread(run)
        return run

    def _create(self, item: Any, user: Any, model: str, title: str, job: str) -> Any:
        return self.save(
            {
                "itemId": item["_id"],
                "creatorId": user["_id"],
                "created": _now(),
                "job": job,
                "model": model,
                "title": title,
                "scope": None,
                "state": RUNNING,
                "message": "",
                "open": True,
                "annotations": [],
                "elements": 0,
                "objects": 0,
                "tiles": 0,
                "tilesDone": 0,
                "warnings": [],
                "seq": -1,
                "process": _PROCESS,
                "beat": _now(),
            }
        )

    def open_runs(self, item: Any) -> list[Any]:
        """Return the runs of `item` that have not been accepted or discarded, newest first."""
        runs = list(self.find({"itemId": item["_id"], "open": True}, sort=[("created", -1)]))
        return [self.revived(run) for run in runs]

    def revived(self, run: Any) -> Any:
        """Resume `run` if its process has died, and return its current state."""
        if _is_followed_here(run):
            return run  # its last batch may take long
        stale = _now() - datetime.timedelta(seconds=DEAD_SECONDS)
        taken = self.collection.find_one_and_update(
            {"_id": run["_id"], "state": RUNNING, "beat": {"$lt": stale}},
            {"$set": {"process": _PROCESS, "beat": _now()}},
            return_document=True,
        )
        if taken is None:
            return run
        log.info("run %s resumes after event %d", taken["_id"], taken["seq"])
        _follow_in_thread(taken)
        return taken

    def is_growing(self, annotation_id: str) -> bool:
        """Return whether a live process is adding to the annotation."""
        if not ObjectId.is_valid(annotation_id):
            return False
        growing = {"annotations": ObjectId(annotation_id), "state": RUNNING}
        run = self.collection.find_one(growing, {"_id": 1})
        if run is None or _is_followed_here(run):
            return run is not None
        stale = _now() - datetime.timedelta(seconds=DEAD_SECONDS)
        return (
            self.collection.find_one({**growing, "beat": {"$gte": stale}}, {"_id": 1}) is not None
        )

    def stop(self, run: Any) -> None:
        """Cancel the job. If the server does not respond, end the run without it.

        Raises ServerError if the server refuses.
        """
        try:
            settings.server().cancel(run["job"])
        except ServerError as error:
            if error.status != NO_ANSWER:
                raise
            self.set(run, stopping=True)  # its follower checks for this

    def accept(self, run: Any) -> Any:
        """Turn the results into ordinary annotations, which replace earlier ones of their scope."""
        if run["scope"] and run["annotations"]:
            annotations.replace_earlier(run["itemId"], run["scope"], run["annotations"])
        for place, annotation_id in enumerate(run["annotations"]):
            annotations.finish(annotation_id, _name(run, place), _summary(run))
        return self._close(run, "accepted")

    def discard(self, run: Any) -> Any:
        """Remove the results."""
        for annotation_id in run["annotations"]:
            annotations.remove(annotation_id)
        return self._close(run, "discarded")

    def set(self, run: Any, **changes: Any) -> None:
        """Write `changes` to the database and to `run`."""
        run.update(changes)
        self.collection.update_one({"_id": run["_id"]}, {"$set": changes})

    def _close(self, run: Any, verdict: str) -> Any:
        self.set(run, open=False, verdict=verdict)
        return run


class Follower:
    """Stores the results of one run as they arrive."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self._runs = Run()
        client = Client(settings.url(), settings.token(), headers=self._headers)
        self._job = client.job(run["job"])
        self._stopped = threading.Event()
        """Set when a user has stopped the run but the server does not respond."""
        self._known: set[str] = set()
        self._ours = {"_id": run["_id"], "process": _PROCESS}
        """A query for the run that fails if another process has taken it over."""

    def follow(self) -> None:
        """Store all results until the run ends."""
        with self._shown_alive():
            self._follow()

    def _follow(self) -> None:
        try:
            for annotation_id in self._run["annotations"]:
                self._known |= annotations.recount(annotation_id)
            self._run["elements"] = len(self._known)
            for event in self._job.events(self._run["seq"], format="dsa", stop=self._stopped):
                if not isinstance(event, events.Progress) and not self._is_ours():
                    return
                self._take(event)
            if self._stopped.is_set():
                self._end(
                    STOPPED,
                    "The isoline server did not respond, so it may still be running the job.",
                )
                self._job.cancel()
        except ClientError as error:
            self._end(STOPPED, str(explained(error, settings.url())))
        except Exception as error:
            log.exception("run %s", self._run["_id"])
            self._end("failed", f"Girder could not store the results: {error}")

    def _headers(self) -> dict[str, str]:
        return {"Girder-Token": images.read_token(self._creator())}

    def _take(self, event: events.Event) -> None:
        run = self._run
        run["seq"] = event.seq
        match event:
            case events.Started():
                self._runs.set(run, scope=event.scope, tiles=event.tiles, started=asdict(event))
            case events.Contours():
                if not event.provisional:
                    self._store(event.features)
                self._runs.set(run, seq=event.seq, elements=run["elements"])
            case events.Progress():
                run.update(tilesDone=event.tiles_done, tiles=event.tiles)
            case events.Warned():
                self._runs.set(run, warnings=[*run["warnings"], event.message][-20:])
            case events.Done():
                run["objects"] = event.objects
                self._end("done", "")
            case events.Failed():
                self._end("failed", event.message)
            case events.Cancelled():
                self._end("cancelled", "")

    def _store(self, features: Sequence[Json]) -> None:
        """Append to the last part, and to further ones if it is full."""
        run = self._run
        new = [each for each in features if each["id"] not in self._known]
        self._known.clear()  # only elements stored before a crash can arrive again
        if not new:
            return
        taken = annotations.count(run["annotations"][-1]) if run["annotations"] else None
        room = 0 if taken is None else max(0, MAX_ELEMENTS - taken)
        for place, part in enumerate(parts(new, room)):
            if place > 0:
                self._add_annotation()
            if part:
                annotations.append(run["annotations"][-1], part)
        run["elements"] += len(new)

    def _add_annotation(self) -> None:
        run, started = self._run, self._run["started"]
        item = Item().load(run["itemId"], force=True, exc=True)
        user = self._creator()
        keys = ("scope", "model", "version", "parameters", "fingerprint")
        provenance = {"run": str(run["_id"]), **{key: started[key] for key in keys}}
        place = len(run["annotations"])
        created = annotations.create(item, user, _name(run, place), {**provenance, "part": place})
        self._runs.set(run, annotations=[*run["annotations"], created])

    def _creator(self) -> Any:
        return User().load(self._run["creatorId"], force=True, exc=True)

    def _is_ours(self) -> bool:
        return self._runs.collection.find_one(self._ours, {"_id": 1}) is not None

    def _end(self, state: str, message: str) -> None:
        run = self._run
        if run["state"] != RUNNING or not self._is_ours():
            return
        for place, annotation_id in enumerate(run["annotations"]):
            name = f"{_name(run, place)} (to accept)"
            annotations.finish(annotation_id, name, "Accept or discard it in the Isoline panel.")
        self._runs.set(
            run,
            state=state,
            message=message,
            seq=run["seq"],
            tilesDone=run["tilesDone"],
            elements=run["elements"],
            objects=run["objects"],
        )

    @contextlib.contextmanager
    def _shown_alive(self) -> Iterator[None]:
        """Record regularly, even during a long batch, that this process is alive."""
        run, ended = self._run, threading.Event()

        def beat() -> None:
            while not ended.wait(BEAT_SECONDS):
                alive = {"beat": _now(), "tilesDone": run["tilesDone"]}
                with contextlib.suppress(PyMongoError):  # the follower has it too, and reports it
                    now = self._runs.collection.find_one_and_update(
                        self._ours, {"$set": alive}, {"stopping": 1}
                    )
                    if now and now.get("stopping"):
                        self._stopped.set()

        threading.Thread(target=beat, daemon=True).start()
        try:
            yield
        finally:
            ended.set()


def _follow_in_thread(run: Any) -> None:
    name = _thread_name(run)
    threading.Thread(target=Follower(dict(run)).follow, name=name, daemon=True).start()


def _is_followed_here(run: Any) -> bool:
    """Return whether a thread of this process follows the run; two would store results twice."""
    return any(each.name == _thread_name(run) for each in threading.enumerate())


def _thread_name(run: Any) -> str:
    return f"isoline-{run['_id']}"


def _name(run: Any, place: int) -> str:
    part = f", part {place + 1}" if place or len(run["annotations"]) > 1 else ""
    return f"{run['title']}{part}"


def _summary(run: Any) -> str:
    started = run.get("started") or {}
    return f"isoline, {run['model']} {started.get('version', '')}".strip()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
