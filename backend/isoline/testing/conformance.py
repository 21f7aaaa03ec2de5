"""A conformance suite that replays recorded gestures and event streams to a viewer's adapter.

An adapter is the part of a viewer that implements the protocol, in any language, as a command:

    COMMAND events     reads a job's events, an NDJSON stream, and prints what the viewer then
                       shows: [{"id": ..., "label": ..., "area": ..., "bounds": [x0, y0, x1, y1]}]
    COMMAND request    reads one gesture and prints the body that the viewer would POST

Areas and bounds are those of the drawn geometry, in image pixels. The recordings in `recordings/`
are data: shapes and the expected results, written by hand; the encoder of the adapter's dialect
turns them into the lines that a server would send.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from importlib import resources
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, TypeAlias
from uuid import UUID, uuid5

import numpy as np
import orjson
from numpy.typing import NDArray

from isoline.domain.events import (
    Cancelled,
    Contours,
    Done,
    Event,
    Failed,
    Label,
    Objects,
    Progress,
    Scope,
    Started,
    Warned,
)
from isoline.domain.prompts import Prompt
from isoline.domain.request import SegmentRequest
from isoline.errors import IsolineError, Malformed
from isoline.exports.encoder import Encoder
from isoline.exports.registry import EXPORTS
from isoline.geometry.grid import XY, Grid, Rect
from isoline.geometry.polygons import Polygons
from isoline.geometry.region import Region, brief
from isoline.protocol.events import encode_event
from isoline.protocol.requests import prompt_json, request_json, request_of
from isoline.testing.verdict import Verdict

Json: TypeAlias = Mapping[str, Any]

TIMEOUT_SECONDS = 30.0
PRECISION = 1e-3
"""Encoders write coordinates to 3 decimal places; an error of half a pixel is far larger."""


@dataclass(frozen=True)
class ConformanceCase:
    """One input for an adapter, and the output that is expected of it."""

    name: str
    why: str
    """The rule that is tested."""
    mode: Literal["events", "request"]
    sent: bytes
    """The input of the adapter."""
    expected: object
    """The expected output, as parsed JSON; an equivalent request passes too."""


def run(command: Sequence[str], format: str = "geojson") -> Iterator[Verdict]:  # noqa: A002
    """Replay every case to `command`, in the dialect `format`, and judge its output.

    Raises UnknownFormat, or Malformed if the command cannot be started.
    """
    for case in cases(format):
        try:
            done = subprocess.run(
                [*command, case.mode], input=case.sent, capture_output=True, timeout=TIMEOUT_SECONDS
            )
        except OSError as error:
            raise Malformed(
                f"cannot run {command[0]}: {error.strerror}", "give the adapter's command after --"
            ) from error
        except subprocess.TimeoutExpired:
            yield Verdict(case, f"it was still busy after {TIMEOUT_SECONDS:g} s")
            continue
        if done.returncode != 0:
            last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            yield Verdict(case, f"exit status {done.returncode}: {last}")
        else:
            yield Verdict(case, judge(case, done.stdout))


def save(directory: Path, format: str = "geojson") -> None:  # noqa: A002
    """Write the input and the expected output of each case into `directory`, for other test tools.

    Raises UnknownFormat.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for case in cases(format):
        stem = f"{case.mode}-{case.name.replace(',', '').replace(' ', '-')}"
        (directory / f"{stem}.sent").write_bytes(case.sent)
        (directory / f"{stem}.expected.json").write_bytes(orjson.dumps(case.expected))


def cases(format: str = "geojson") -> tuple[ConformanceCase, ...]:  # noqa: A002
    """Return all cases in the dialect `format`. Raises UnknownFormat."""
    encoder = EXPORTS.load(format)()
    recorded = _recording("events.json")
    streams = [_event_case(case, recorded, encoder) for case in recorded["cases"]]
    requests = [_request_case(case) for case in _recording("requests.json")]
    return (*requests, *streams)


def recorded_stream(name: str, format: str = "geojson") -> list[bytes]:  # noqa: A002
    """Return the lines of the stream in the recording `name`. Raises UnknownFormat."""
    shared = _recording("events.json")
    started = _started(shared, XY(1, 1))
    return list(_lines(_recording(name), shared["shapes"], started, EXPORTS.load(format)()))


def judge(case: ConformanceCase, printed: bytes) -> str | None:
    """Return what is wrong with the output of an adapter, None if it is correct."""
    try:
        said = orjson.loads(printed)
    except orjson.JSONDecodeError as error:
        return f"it did not print JSON: {error}"
    if case.mode == "request":
        return _judge_request(said, request_of(case.expected))
    return _judge_features(said, {each["id"]: each for each in _features(case.expected)})


def _recording(name: str) -> Any:
    return orjson.loads((resources.files("isoline.testing") / "recordings" / name).read_bytes())


# --- Requests ----------------------------------------------------------------------------------


def _request_case(recorded: Json) -> ConformanceCase:
    named = {"image": "slides/a.svs", "model": "nuclei"}
    return ConformanceCase(
        recorded["name"],
        recorded["why"],
        "request",
        orjson.dumps({**named, **recorded["gesture"]}),
        {**named, **recorded["request"]},
    )


def _judge_request(said: object, expected: SegmentRequest) -> str | None:
    try:
        request = request_of(said)
    except IsolineError as error:
        return f"the server would refuse it: {error}"
    # as JSON text, in which false is not 0
    got, wanted = (request_json(replace(each, region=None)) for each in (request, expected))
    for key in ("image", "model", "focus", "parameters", "spacing_um"):
        if orjson.dumps(got.get(key)) != orjson.dumps(wanted.get(key)):
            off = _off(request.focus, expected.focus) if key == "focus" else ""
            return f"{key}: expected {wanted.get(key)}, got {got.get(key)}{off}"
    return _judge_prompts(request.prompts, expected.prompts) or _judge_region(
        request.region, expected.region
    )


def _judge_prompts(got: Sequence[Prompt], wanted: Sequence[Prompt]) -> str | None:
    if len(got) != len(wanted):
        return f"prompts: expected {len(wanted)}, got {len(got)}"
    for number, (one, other) in enumerate(zip(got, wanted, strict=True)):
        if _same_way_round(one) != _same_way_round(other):
            off = _off(sum(one.points, ()), sum(other.points, ()))
            said, meant = prompt_json(one), prompt_json(other)
            return f"prompts[{number}]: expected {meant}, got {said}{off}"
    return None


def _same_way_round(prompt: Prompt) -> Prompt:
    """Return a box with its lowest corner first; any two opposite corners may be sent."""
    if prompt.kind != "box":
        return prompt
    corners = list(zip(*prompt.points, strict=True))
    return replace(prompt, points=(tuple(map(min, corners)), tuple(map(max, corners))))


def _judge_region(got: Region | None, wanted: Region | None) -> str | None:
    if got is None or wanted is None:
        return None if got is wanted else f"region: expected {_where(wanted)}, got {_where(got)}"
    if _edges(got) == _edges(wanted):
        return None
    if got.bounds == wanted.bounds:
        return "region: its bounds are right, but its outline is not"
    off = _off(astuple(got.bounds), astuple(wanted.bounds))
    return f"region: expected {_where(wanted)}, got {_where(got)}{off}"


def _edges(region: Region) -> frozenset[frozenset[tuple[float, ...]]]:
    """Return the edges of all rings; they do not depend on the direction or start of a ring."""
    rings = [np.round(ring, 6).tolist() for polygon in region.polygons for ring in polygon]
    return frozenset(
        frozenset((tuple(a), tuple(b)))
        for ring in rings
        for a, b in zip(ring, [*ring[1:], ring[0]], strict=True)
    )


def _off(got: Sequence[float] | None, wanted: Sequence[float] | None) -> str:
    """Return a hint if coordinates have one of the usual errors, otherwise an empty string."""
    distances = {abs(a - b) for a, b in zip(got or (), wanted or (), strict=False)}
    if 0.5 in distances:
        return " (half a pixel off: pixel n spans [n, n + 1), its centre is n + 0.5)"
    if 1 in distances:
        return " (one pixel off: the last pixel n ends at n + 1)"
    return ""


def _where(region: Region | None) -> str:
    return "none" if region is None else "[{:g}, {:g}, {:g}, {:g}]".format(*astuple(region.bounds))


# --- Events ------------------------------------------------------------------------------------


def _event_case(recorded: Json, shared: Json, encoder: Encoder) -> ConformanceCase:
    scale = XY(*recorded.get("scale", (1, 1)))
    started = _started(shared, scale)
    return ConformanceCase(
        recorded["name"],
        recorded["why"],
        "events",
        b"".join(_lines(recorded, shared["shapes"], started, encoder)),
        [_expected(name, shared["shapes"][name], scale, encoder) for name in recorded["shown"]],
    )


def _started(shared: Json, scale: XY) -> Started:
    labels = tuple(Label(each["name"], tuple(each["color"])) for each in shared["labels"])
    return replace(_STARTED, labels=labels, grid=replace(_STARTED.grid, scale=scale))


_STARTED = Started(
    job="0123456789abcdef01234567",
    image="slides/a.svs",
    scope=Scope("f1" * 20, "nuclei", "1", (("spacing_um", 0.25),)),
    labels=(),
    grid=Grid((1000, 500), XY(1, 1)),
    tiles=4,
    spacing_um=XY(0.25, 0.25),
    kind="objects",
)


def _lines(recorded: Json, shapes: Json, started: Started, encoder: Encoder) -> Iterator[bytes]:
    """Yield the lines that a server would send."""
    sent: list[bytes] = []
    steps = [{"started": True}, *recorded["stream"]]
    for step in steps:
        if "heartbeats" in step:
            yield b"\n" * step["heartbeats"]
        elif "again" in step:
            yield from (sent[seq] for seq in step["again"])
        else:
            seq = len(sent)
            if "unknown" in step:
                event = {"seq": seq, **step["unknown"]}
            else:
                text = encode_event(seq, _event(step, shapes, started), started, encoder)
                event = {**recorded.get("unknown_keys", {}), **orjson.loads(text)}
            sent.append(orjson.dumps(event) + b"\n")
            yield sent[-1]


def _event(step: Json, shapes: Json, started: Started) -> Event:
    match step:
        case {"started": _}:
            return started
        case {"shapes": names}:
            replaced = np.array([_id(name) for name in step.get("replaces", ())], np.uint8)
            objects = _objects([(name, shapes[name]) for name in names], started.labels)
            return Contours(objects, step.get("provisional", False), replaced.reshape(-1, 16))
        case {"progress": tiles}:
            return Progress(tiles, started.tiles, 1.5)
        case {"warning": box}:
            return Warned("Unreadable", "a tile cannot be read", Rect(*box) if box else None)
        case {"end": "done"}:
            return Done(1, started.tiles, 0, 0, 2.5)
        case {"end": "failed"}:
            return Failed("Broken", "the disk is full", "free some space")
        case {"end": "cancelled"}:
            return Cancelled(1, started.tiles)
    raise ValueError(f"no such step: {step}")


def _objects(shapes: Sequence[tuple[str, Json]], labels: Sequence[Label]) -> Objects:
    parts = [part for _, shape in shapes for part in shape["parts"]]
    rings = [ring for part in parts for ring in part]
    corners = np.array([corner for ring in rings for corner in ring], np.int32).reshape(-1, 2)
    names = [label.name for label in labels]
    return Objects(
        Polygons(
            corners,
            _starts(map(len, rings)),
            _starts(map(len, parts)),
            _starts(len(shape["parts"]) for _, shape in shapes),
        ),
        ids=np.array([_id(name) for name, _ in shapes], np.uint8).reshape(-1, 16),
        label=np.array([names.index(shape["label"]) for _, shape in shapes], np.uint16),
        area_px=np.array([shape["area"] for _, shape in shapes], np.int64),
        anchor=np.array([shape["bounds"][:2] for _, shape in shapes], np.int32).reshape(-1, 2),
        incomplete=np.zeros(len(shapes), np.bool_),
    )


def _starts(lengths: Iterable[int]) -> NDArray[np.int64]:
    return np.array([0, *accumulate(lengths)], np.int64)


def _id(name: str) -> list[int]:
    return list(uuid5(UUID(int=0), name).bytes)


def _expected(name: str, shape: Json, scale: XY, encoder: Encoder) -> Json:
    return {
        "id": encoder.id_text(bytes(_id(name))),
        "label": shape["label"],
        "area": shape["area"] * scale.x * scale.y,
        "bounds": [edge * scale[k % 2] for k, edge in enumerate(shape["bounds"])],
    }


def _judge_features(said: object, expected: Mapping[str, Json]) -> str | None:
    try:
        features = _features(said)
    except Malformed as error:
        return str(error)
    shown = [feature["id"] for feature in features]
    if repeated := [name for name in expected if shown.count(name) > 1]:
        return f"it shows twice: {_named(repeated, expected)}"
    if foreign := [name for name in shown if name not in expected]:
        return f"it should not show: {_named(foreign, {f['id']: f for f in features})}"
    if missing := [name for name in expected if name not in shown]:
        return f"it does not show: {_named(missing, expected)}"
    for feature in features:
        wanted = expected[feature["id"]]
        for key in ("label", "area", "bounds"):
            if not _close(feature[key], wanted[key]):
                return f"{key} of {feature['id']}: expected {wanted[key]}, got {feature[key]}"
    return None


def _named(names: Sequence[str], features: Mapping[str, Json]) -> str:
    return ", ".join(
        f"{name} ({features[name]['label']}, {features[name]['area']:g} px)" for name in names
    )


def _features(said: object) -> Sequence[Json]:
    """Return the features in the output of an adapter. Raises Malformed for any other output."""
    if not isinstance(said, list):
        raise Malformed("it should print a list of features")
    for feature in said:
        match feature:
            case {"id": str(), "label": str(), "area": int() | float(), "bounds": [_, _, _, _]}:
                pass
            case _:
                raise Malformed(f"not a feature with id, label, area and bounds: {brief(feature)}")
    return said


def _close(got: Any, wanted: Any) -> bool:
    if isinstance(wanted, str):
        return bool(got == wanted)
    return bool(np.allclose(got, wanted, rtol=PRECISION, atol=PRECISION))
