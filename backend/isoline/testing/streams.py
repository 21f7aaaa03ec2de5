"""Recorded event streams: hand-written shapes and slices become the lines that a server would send.

A recording is a list of steps, each an event or what happens between two events. The encoder of the
client's dialect writes the features, and the encoder `ohif` the slices of a mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from itertools import accumulate
from typing import Any, TypeAlias
from uuid import UUID, uuid5

import numpy as np
import orjson
from numpy.typing import NDArray

from isoline.domain import mask_rle
from isoline.domain.events import (
    Cancelled,
    Contours,
    Done,
    Event,
    Failed,
    Label,
    Mask,
    Objects,
    Progress,
    Scope,
    Started,
    Warned,
)
from isoline.exports.encoder import Encoder
from isoline.exports.registry import EXPORTS
from isoline.geometry.grid import XY, Grid, Rect
from isoline.geometry.polygons import Polygons
from isoline.geometry.volume_grid import LPS, SliceName, VolumeGrid, VolumeInfo
from isoline.protocol.events import encode_event

Json: TypeAlias = Mapping[str, Any]

SAME = XY(1, 1)
"""The scale of a model that works at full resolution."""


def recording(name: str) -> Any:
    """Return the recording `name`, parsed."""
    return orjson.loads((resources.files("isoline.testing") / "recordings" / name).read_bytes())


def recorded_stream(name: str, format: str = "geojson") -> list[bytes]:  # noqa: A002
    """Return the lines of the stream in the recording `name`. Raises UnknownFormat."""
    scene = Scene.recorded()
    return list(scene.job(EXPORTS.load(format)()).lines(recording(name)["stream"]))


@dataclass(frozen=True)
class Scene:
    """The contents of the recordings: shapes on a slide, and slices of two volumes."""

    labels: tuple[Label, ...]
    shapes: Json
    """Name -> `parts` (rings of corners in grid pixels), `label`, `area` and `bounds`."""
    slices: Json
    """Name -> `at` [i0, j0] and `rows` of digits: the label of each voxel, `.` for none."""
    volumes: Mapping[str, VolumeInfo]

    @classmethod
    def recorded(cls) -> Scene:
        """Return the scene in `recordings/scene.json`."""
        scene = recording("scene.json")
        labels = tuple(Label(each["name"], tuple(each["color"])) for each in scene["labels"])
        volumes = {name: _volume(each) for name, each in scene["volumes"].items()}
        return cls(labels, scene["shapes"], scene["slices"], volumes)

    def job(
        self, encoder: Encoder, scale: XY = SAME, volume: str | None = None, job: str = ""
    ) -> RecordedJob:
        """Return a job on the slide, at `scale` image pixels per working pixel, or on a volume."""
        started = replace(_STARTED, labels=self.labels, job=job or _STARTED.job)
        if volume is None:
            started = replace(started, grid=replace(started.grid, scale=scale))
            return RecordedJob(self, encoder, started, None)
        info = self.volumes[volume]
        grid = Grid(info.grid.size[:2], XY(1, 1))
        mask = replace(started, image="ct/head", kind="mask", spacing_um=None, grid=grid)
        return RecordedJob(self, EXPORTS.load("ohif")(), replace(mask, volume=info), volume)

    def labelmap(self, volume: str, shown: Mapping[str, str | None]) -> NDArray[np.uint8]:
        """Return (k, j, i) labels with the named slice at each k of `shown`; null is empty."""
        labels = np.zeros(self.volumes[volume].grid.shape, np.uint8)
        for k, name in shown.items():
            if name is not None:
                (i0, j0), rows = self.slices[name]["at"], self.slices[name]["rows"]
                box = np.array([[0 if each == "." else int(each) for each in row] for row in rows])
                labels[int(k), j0 : j0 + box.shape[0], i0 : i0 + box.shape[1]] = box
        return labels


_STARTED = Started(
    job="0123456789abcdef01234567",
    image="slides/a.svs",
    scope=Scope("f1" * 20, "nuclei", "1", (("spacing_um", 0.25),)),
    labels=(),
    grid=Grid((131_072, 65_536), XY(1, 1)),
    tiles=4,
    spacing_um=XY(0.25, 0.25),
    kind="objects",
)


def _volume(recorded: Json) -> VolumeInfo:
    i, j, k, origin = (
        LPS(*recorded[key]) for key in ("step_i_mm", "step_j_mm", "step_k_mm", "origin_mm")
    )
    size, frame_of_reference = tuple(recorded["size"]), recorded["frame_of_reference"]
    return VolumeInfo(
        VolumeGrid(size, origin, i, j, k, frame_of_reference),
        tuple(SliceName(each["instance"], each["frame"]) for each in recorded["slices"]),
        recorded["modality"],
    )


@dataclass(frozen=True)
class RecordedJob:
    """One job, which turns the steps of a recording into the lines of its stream."""

    scene: Scene
    encoder: Encoder
    started: Started
    volume: str | None

    def lines(self, steps: Sequence[Json], more_keys: Json | None = None) -> Iterator[bytes]:
        """Yield the lines that a server would send, each event with `more_keys`."""
        sent: list[bytes] = []
        for step in [{"started": True}, *steps]:
            match step:
                case {"heartbeats": count}:
                    yield b"\n" * count
                case {"again": numbers}:
                    yield from (sent[seq] for seq in numbers)
                case {"half": name}:
                    line = self._line(len(sent), {"shapes": [name]}, {})
                    yield line[: len(line) // 2]
                case _:
                    sent.append(self._line(len(sent), step, more_keys or {}))
                    yield sent[-1]

    def events(self, steps: Sequence[Json]) -> list[Json]:
        """Return the events of these steps as parsed JSON."""
        return [orjson.loads(line) for line in self.lines(steps) if line.strip()]

    def ids(self, names: Iterable[str]) -> list[str]:
        """Return the ids of shapes as text in the encoder's dialect."""
        return [self.encoder.id_text(bytes(_id(name))) for name in names]

    def _line(self, seq: int, step: Json, more_keys: Json) -> bytes:
        if "unknown" in step:
            return orjson.dumps({"seq": seq, **step["unknown"]}) + b"\n"
        event = encode_event(seq, self._event(step), self.started, self.encoder)
        return orjson.dumps({**more_keys, **orjson.loads(event)}) + b"\n"

    def _event(self, step: Json) -> Event:
        tiles = self.started.tiles
        match step:
            case {"started": _}:
                return self.started
            case {"shapes": names}:
                replaced = np.array([_id(name) for name in step.get("replaces", ())], np.uint8)
                return Contours(
                    self._objects(names), step.get("provisional", False), replaced.reshape(-1, 16)
                )
            case {"mask": slices}:
                mask = self._mask(slices, step.get("provisional", False))
                return replace(mask, whole=step.get("whole", False))
            case {"progress": done}:
                return Progress(done, tiles, 1.5)
            case {"warning": box}:
                return Warned("Unreadable", "cannot be read", Rect(*box) if box else None)
            case {"end": "done"}:
                return Done(1, tiles, 0, 0, 2.5)
            case {"end": "failed"}:
                return Failed("Broken", "the disk is full", "free some space")
            case {"end": "cancelled"}:
                return Cancelled(1, tiles)
        raise ValueError(f"no such step: {step}")

    def _mask(self, slices: Mapping[str, str | None], provisional: bool) -> Mask:
        assert self.volume is not None, "masks are of volumes"
        numbers = [int(k) for k in slices]
        labels = self.scene.labelmap(self.volume, slices)[numbers]
        return mask_rle.encode(labels, numbers, provisional=provisional)

    def _objects(self, names: Sequence[str]) -> Objects:
        shapes = [self.scene.shapes[name] for name in names]
        parts = [part for shape in shapes for part in shape["parts"]]
        rings = [ring for part in parts for ring in part]
        corners = np.array([corner for ring in rings for corner in ring], np.int32).reshape(-1, 2)
        labels = [label.name for label in self.scene.labels]
        return Objects(
            Polygons(
                corners,
                _starts(map(len, rings)),
                _starts(map(len, parts)),
                _starts(len(shape["parts"]) for shape in shapes),
            ),
            ids=np.array([_id(name) for name in names], np.uint8).reshape(-1, 16),
            label=np.array([labels.index(shape["label"]) for shape in shapes], np.uint16),
            area_px=np.array([shape["area"] for shape in shapes], np.int64),
            anchor=np.array([shape["bounds"][:2] for shape in shapes], np.int32).reshape(-1, 2),
            incomplete=np.zeros(len(shapes), np.bool_),
        )


def _starts(lengths: Iterable[int]) -> NDArray[np.int64]:
    return np.array([0, *accumulate(lengths)], np.int64)


def _id(name: str) -> list[int]:
    return list(uuid5(UUID(int=0), name).bytes)
