"""The recorded cases: the input of a driver, and the output that is expected of it.

The recordings in `recordings/` are data: shapes, slices and the expected results, written by hand.
Nothing here computes a result, apart from the scale of coordinates and their tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import orjson

from isoline.exports.encoder import Encoder
from isoline.exports.registry import EXPORTS
from isoline.geometry.grid import XY
from isoline.geometry.volume_grid import VolumeInfo
from isoline.protocol.responses import volume_json
from isoline.testing.drivers import Capability
from isoline.testing.streams import SAME, Json, RecordedJob, Scene, recording

EARLIER_JOB = "a1" * 12
"""The id of the job that the user repeats, or whose answer to a click is shown."""
SINGLE = 2.0**-24
"""The relative error of rounding to a 32-bit float: half a unit in the last place."""
WRITTEN = 0.0005
"""The error of rounding to 3 decimal places, as encoders do, in image pixels."""


@dataclass(frozen=True)
class Replaceable:
    """The results that are shown when a request is made."""

    job: str
    ids: frozenset[str]
    is_needed: bool
    """Whether the request must name it."""


@dataclass(frozen=True)
class ConformanceCase:
    """One input for a driver, and the output that is expected of it."""

    name: str
    why: str
    """The rule that is tested."""
    mode: Literal["events", "rerun", "request"]
    needs: tuple[Capability, ...]
    """The capabilities that the driver must declare."""
    sent: bytes
    """The input of the driver."""
    expected: object
    """The expected output, as parsed JSON: features, the labels of all voxels, or a request. An
    equivalent request passes too."""
    volume: VolumeInfo | None = None
    """The volume that the case is about; None on a slide."""
    replaceable: Replaceable | None = None
    """What a request may name in `replaces`; None for nothing."""


def cases(format: str = "geojson") -> tuple[ConformanceCase, ...]:  # noqa: A002
    """Return all cases, with contours in the dialect `format`. Raises UnknownFormat."""
    encoder = EXPORTS.load(format)()
    scene = Scene.recorded()
    return (
        *(_request_case(each, scene, encoder) for each in recording("requests.json")),
        *(_event_case(each, scene, encoder) for each in recording("events.json")),
        *(_mask_case(each, scene, encoder) for each in recording("masks.json")),
        *(_rerun_case(each, scene, encoder) for each in recording("rerun.json")),
    )


# --- Requests ----------------------------------------------------------------------------------


def _request_case(recorded: Json, scene: Scene, encoder: Encoder) -> ConformanceCase:
    name = recorded.get("volume")
    job = scene.job(encoder, volume=name, job=EARLIER_JOB)
    named = {"image": job.started.image, "model": "nuclei"}
    gesture = {**named, **recorded["gesture"]}
    volume = None if name is None else scene.volumes[name]
    if volume is not None:
        gesture["volume"] = volume_json(volume)
    if "steps" in gesture:
        job = replace(job, started=replace(job.started, pointed=True))
        gesture["steps"] = [_step(step, job) for step in gesture["steps"]]
    if "again" in gesture:
        gesture["again"] = {"job": EARLIER_JOB, "ids": job.ids(gesture["again"])}
    replaceable = None
    if "shown" in recorded:
        ids = frozenset(job.ids(recorded["shown"]))
        replaceable = Replaceable(EARLIER_JOB, ids, recorded.get("replaces", False))
    return ConformanceCase(
        recorded["name"],
        recorded["why"],
        "request",
        tuple(recorded.get("needs", ["regions"])),
        orjson.dumps(gesture),
        {**named, **recorded["request"]},
        volume,
        replaceable,
    )


def _step(step: Json, job: RecordedJob) -> Json:
    """Return a user action with the events that answer it instead of what is found."""
    if "finds" not in step:
        return step
    found = step["finds"]
    answer = {"mask": found, "whole": True} if isinstance(found, dict) else {"shapes": found}
    rest = {key: value for key, value in step.items() if key != "finds"}
    return {**rest, "answer": job.events([answer, {"end": "done"}])}


# --- Events ------------------------------------------------------------------------------------


def _event_case(recorded: Json, scene: Scene, encoder: Encoder) -> ConformanceCase:
    scale = XY(*recorded.get("scale", SAME))
    job = scene.job(encoder, scale)
    return ConformanceCase(
        recorded["name"],
        recorded["why"],
        "events",
        ("contours",),
        b"".join(job.lines(recorded["stream"], recorded.get("unknown_keys"))),
        [_feature(name, job, scale) for name in recorded["shown"]],
    )


def _mask_case(recorded: Json, scene: Scene, encoder: Encoder) -> ConformanceCase:
    volume = recorded.get("volume", "ct")
    job = scene.job(encoder, volume=volume)
    return ConformanceCase(
        recorded["name"],
        recorded["why"],
        "events",
        ("volumes", "nifti") if volume == "nifti" else ("volumes",),
        b"".join(job.lines(recorded["stream"], recorded.get("unknown_keys"))),
        scene.labelmap(volume, recorded["shown"]).tolist(),
        scene.volumes[volume],
    )


def _rerun_case(recorded: Json, scene: Scene, encoder: Encoder) -> ConformanceCase:
    volume = recorded.get("volume")
    jobs = [
        (scene.job(encoder, volume=volume, job=f"{number:024x}"), steps)
        for number, steps in enumerate(recorded["runs"], 1)
    ]
    job, _ = jobs[0]
    sent = {
        "runs": [each.events(steps) for each, steps in jobs],
        "touched": job.ids(recorded.get("touched", ())),
    }
    name, why, text, shown = (
        recorded["name"],
        recorded["why"],
        orjson.dumps(sent),
        recorded["shown"],
    )
    if volume is None:
        features = [_feature(each, job, SAME) for each in shown]
        return ConformanceCase(name, why, "rerun", ("contours", "rerun"), text, features)
    labels, info = scene.labelmap(volume, shown).tolist(), scene.volumes[volume]
    return ConformanceCase(name, why, "rerun", ("volumes", "rerun"), text, labels, info)


def _feature(name: str, job: RecordedJob, scale: XY) -> Json:
    """Return the expected feature of a shape, with the tolerance of its area and bounds.

    A viewer may keep coordinates as 32-bit floats. Each corner, and so the bounds, may then be off
    by up to `off` along x and along y. By the shoelace formula, the area of n corners is then off
    by at most `off` times the length of all edges, measured along the axes, plus n `off` squared.
    """
    shape = job.scene.shapes[name]
    rings = [np.array(ring) * scale for part in shape["parts"] for ring in part]
    bounds = [edge * scale[k % 2] for k, edge in enumerate(shape["bounds"])]
    off = WRITTEN + SINGLE * max(bounds)
    around = sum(float(np.abs(np.roll(ring, -1, axis=0) - ring).sum()) for ring in rings)
    return {
        "id": job.ids([name])[0],
        "label": shape["label"],
        "area": shape["area"] * scale.x * scale.y,
        "bounds": bounds,
        "tolerance": {"area": off * around + off**2 * sum(map(len, rings)), "bounds": off},
    }
