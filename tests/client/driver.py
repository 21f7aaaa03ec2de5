"""isoline's own client as a driver of docs/conformance.md, in this process."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
from shapely.geometry import shape

from isoline.testing.driver import follow
from isoline.testing.drivers import CAPABILITIES
from isoline_client import (
    ClickSession,
    Client,
    Json,
    Run,
    Store,
    box,
    decode_event,
    paint,
    point,
    polygon,
    scribble,
)

_SECONDS = 10.0


def answer(mode: str, stream: BinaryIO) -> object:
    """Return what to print for what the suite sends."""
    match mode:
        case "capabilities":
            return [*CAPABILITIES]
        case "request":
            return request_for(json.load(stream))
        case "events":
            return shown([stream])
        case "rerun":
            told = json.load(stream)
            return shown([map(_line, run) for run in told["runs"]], told["touched"])
    return follow(json.load(stream))


def _line(event: Json) -> bytes:
    return json.dumps(event).encode() + b"\n"


# --- Events to what is shown -------------------------------------------------------------------


def shown(runs: Sequence[Iterable[bytes]], touched: Sequence[str] = ()) -> object:
    """Return what is shown after `runs`; before the last the user has changed what is `touched`."""
    store = Store()
    for number, lines in enumerate(runs, 1):
        store = Store(store)
        if number == len(runs):
            for each in touched:
                store.keep(each)
        whole = (line for line in lines if line.endswith(b"\n") and line.strip())
        store.take(*(event for event in map(decode_event, whole) if event is not None))
    if store.started is not None and store.started.volume is not None:
        columns, rows, slices = store.started.volume["size"]
        labels = np.zeros((slices, rows, columns), np.uint8)
        for k, layers in store.slices.items():
            paint(labels, k, layers)
        return labels.tolist()
    return [measured(feature) for feature in store.objects.values()]


def measured(feature: Json) -> Json:
    geometry = shape(feature["geometry"])
    return {
        "id": feature["id"],
        "label": feature["properties"]["label"],
        "area": geometry.area,
        "bounds": geometry.bounds,
    }


# --- Gestures to requests ----------------------------------------------------------------------


def request_for(gesture: Json) -> Json:
    """Return the body that the client sends for what the user did."""
    server = RecordedServer()
    client = Client("http://127.0.0.1")
    client._server.http = server  # type: ignore[assignment]
    options = dict(_options(gesture))
    if gesture["gesture"] == "clicks":
        return clicked(client, server, gesture, options)
    if gesture["gesture"] == "prompts":
        options["prompts"] = [prompt_for(mark) for mark in gesture["drawn"]]
    if "again" in gesture:
        server.jobs.append(gesture["again"]["job"])
    run = Run(client, gesture["image"], gesture["model"], **options)
    run.start()
    if "again" in gesture:
        run.again()
    return server.requests[-1]


def _options(gesture: Json) -> Iterator[tuple[str, Any]]:
    """Yield what the request says beside its image, its model and its prompts."""
    yield from ((key, gesture[key]) for key in ("parameters", "spacing_um") if key in gesture)
    match gesture:
        case {"gesture": "rectangle", "from": start, "to": end}:
            xs, ys = zip(start, end, strict=True)
            yield "region", [min(xs), min(ys), max(xs), max(ys)]
        case {"gesture": "pixels", "first": first, "last": last}:
            yield "region", [*first, *(n + 1 for n in last)]
        case {"gesture": "polygon", "points": points}:
            rings = [points, *gesture.get("holes", ())]
            coordinates = [[*ring, ring[0]] for ring in rings]
            yield "region", {"type": "Polygon", "coordinates": coordinates}
        case {"gesture": "prompts" | "clicks", "volume": {"frame_of_reference": str(frame)}}:
            yield "frame_of_reference", frame or None
    if "looking_at" in gesture:
        yield "focus", gesture["looking_at"]
    if "looking_at_pixel" in gesture:
        yield "focus", [n + 0.5 for n in gesture["looking_at_pixel"]]
    if "looking_at_slice" in gesture:
        k, names = gesture["looking_at_slice"], gesture["volume"]["slices"]
        yield "slice", names[k] if names else k


def prompt_for(mark: Json) -> Json:
    include = mark.get("include", True)
    match mark:
        case {"kind": "point", "pixel": pixel}:
            return point(*(n + 0.5 for n in pixel), include=include)
        case {"kind": "point"}:
            return point(*mark.get("voxel", mark.get("points", [[]])[0]), include=include)
        case {"kind": "box", "from": first, "to": last}:
            return box(first, last, include)
        case {"kind": "box"}:
            return box(mark["from_voxel"], mark["to_voxel"], include)
        case {"kind": "scribble", "points": way}:
            return scribble(way, include)
    corners = mark["points"]
    return polygon(corners[: -1 if corners[0] == corners[-1] else None], include)


def clicked(client: Client, server: RecordedServer, gesture: Json, options: Json) -> Json:
    """Do what a user does who points at objects, and return the last request."""
    answered = threading.Event()
    session = ClickSession(
        client,
        gesture["image"],
        gesture["model"],
        on_answer=lambda _: answered.set(),
        **options,
    )
    for step in gesture["steps"]:
        answered.clear()
        server.answers = [[*map(_line, step["answer"])]] if "answer" in step else []
        match step:
            case {"draw": mark}:
                session.add(prompt_for(mark))
                wait(answered if "answer" in step else server.unanswered)
            case {"undo": _}:
                session.undo()
                wait(answered)
            case _:
                assert session.accept()
    session.close()
    return server.requests[-1]


def wait(event: threading.Event) -> None:
    assert event.wait(_SECONDS)


class RecordedServer:
    """Answers a client in the place of its `Transport`."""

    def __init__(self) -> None:
        self.requests: list[Json] = []
        self.jobs: list[str] = []
        """The ids of the next jobs."""
        self.answers: list[list[bytes]] = []
        """To the next questions with prompts."""
        self.unanswered = threading.Event()
        """Set when there is a question and no answer."""

    def answer(self, method: str, path: str, body: Json | None = None, *_: object) -> Json:
        if body is not None:
            self.requests.append(body)
        return {"job": self.jobs.pop(0) if self.jobs else "a", "position": 0}

    def lines(
        self, method: str, path: str, body: Json | None = None, *_: object
    ) -> Generator[bytes, None, None]:
        if body is not None:
            self.requests.append(body)
            if self.answers:
                yield from self.answers.pop(0)
                return
            self.unanswered.set()
        threading.Event().wait(_SECONDS)
        yield b""
