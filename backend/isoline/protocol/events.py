"""The events of a job as JSON: a type for each, and the encoder of one event as one line."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from isoline.domain.events import (
    Cancelled,
    Contours,
    Done,
    Event,
    Failed,
    Mask,
    Progress,
    Started,
    Warned,
)
from isoline.domain.request import Value
from isoline.exports.encoder import Encoder, scope_key
from isoline.models.model import ResultKind
from isoline.protocol.responses import LabelJson, VolumeJson, label_json, volume_json
from isoline.protocol.values import Color, Corners, Pair, Positive, Size, VoxelBox, Whole

Seq = Annotated[int, Field(ge=0, description="The number of the event: from 0, without gaps.")]


class StartedJson(TypedDict):
    """The job has started: its image, model and working grid."""

    event: Literal["started"]
    seq: Seq
    job: str
    image: str
    image_size: Size
    spacing_um: Annotated[Pair | None, Field(description="Micrometres per image pixel.")]
    z: Whole
    model: str
    version: Annotated[str, Field(description="The version of the model, including its weights.")]
    parameters: dict[str, Value]
    fingerprint: Annotated[str, Field(description="A digest of the image's content.")]
    scope: Annotated[
        str, Field(description="Equal for runs that give the same object the same id.")
    ]
    kind: ResultKind
    labels: Annotated[list[LabelJson], Field(min_length=1)]
    scale: Annotated[
        tuple[Positive, Positive], Field(description="Image pixels per working pixel, x and y.")
    ]
    tiles: Whole
    format: str
    volume: NotRequired[VolumeJson]


class ContoursJson(TypedDict):
    """Objects that are final, or pieces that a later union will replace."""

    event: Literal["contours"]
    seq: Seq
    provisional: Annotated[
        bool,
        Field(
            description="Whether these are pieces cut at the edge of a tile whose neighbour is "
            "still missing: show them, never store them."
        ),
    ]
    replaces: Annotated[
        list[str],
        Field(description="The ids to remove: of provisional pieces or earlier results."),
    ]
    features: Annotated[
        list[dict[str, Any]],
        Field(description="In the dialect given by `format`; see GeoJSONFeature."),
    ]


class LayerJson(TypedDict):
    """The voxels of one label in one slice."""

    label: Annotated[int, Field(ge=1)]
    box: VoxelBox
    runs: Annotated[
        str,
        Field(
            description="Run lengths over `box`, row by row, as base64 of LEB128; the first run is "
            "of voxels without the label."
        ),
    ]


class MaskSliceJson(TypedDict):
    """All labels of one slice; they replace those sent before."""

    instance: str | None
    frame: Whole | None
    k: Whole
    layers: list[LayerJson]


class MaskJson(TypedDict):
    """The labels of some slices of a volume."""

    event: Literal["mask"]
    seq: Seq
    provisional: Annotated[
        bool, Field(description="Whether this is a preview: show it, never store it.")
    ]
    whole: Annotated[bool, Field(description="Whether all slices that are not listed are empty.")]
    slices: list[MaskSliceJson]


class ProgressJson(TypedDict):
    """The progress of the job."""

    event: Literal["progress"]
    seq: Seq
    tiles_done: Whole
    tiles: Whole
    seconds_left: float | None


class WarnedJson(TypedDict):
    """Something went wrong, but the job continues."""

    event: Literal["warned"]
    seq: Seq
    code: str
    message: str
    area: Annotated[
        Corners | None,
        Field(description="The part of the image concerned; null if it is not about a part."),
    ]


class DoneJson(TypedDict):
    """The job has finished."""

    event: Literal["done"]
    seq: Seq
    objects: Whole
    tiles: Whole
    tiles_failed: Whole
    tiles_skipped: Annotated[Whole, Field(description="Tiles of empty glass, not computed.")]
    seconds: float


class FailedJson(TypedDict):
    """The job could not continue."""

    event: Literal["failed"]
    seq: Seq
    code: str
    message: str
    remedy: str


class CancelledJson(TypedDict):
    """The job was cancelled."""

    event: Literal["cancelled"]
    seq: Seq
    tiles_done: Whole
    tiles: Whole


EventJson: TypeAlias = Annotated[
    StartedJson
    | ContoursJson
    | MaskJson
    | ProgressJson
    | WarnedJson
    | DoneJson
    | FailedJson
    | CancelledJson,
    Field(discriminator="event"),
]


# --- A feature in the dialect `geojson` --------------------------------------------------------

Ring = Annotated[list[Pair], Field(min_length=4)]
Rings = Annotated[list[Ring], Field(min_length=1)]


class PolygonJson(TypedDict):
    """One outline, then its holes."""

    type: Literal["Polygon"]
    coordinates: Rings


class MultiPolygonJson(TypedDict):
    """Several parts."""

    type: Literal["MultiPolygon"]
    coordinates: Annotated[list[Rings], Field(min_length=2)]


class FeaturePropertiesJson(TypedDict):
    """The properties of an object."""

    label: str
    color: Color
    model: str
    incomplete: Annotated[
        bool, Field(description="Whether a failed, skipped or cancelled tile may have cut it.")
    ]
    area_um2: NotRequired[float]
    measurements: NotRequired[dict[str, float]]


class GeoJSONFeatureJson(TypedDict):
    """One object or area."""

    type: Literal["Feature"]
    id: str
    geometry: Annotated[
        PolygonJson | MultiPolygonJson,
        Field(description="In image pixels, with the origin at the corner of the first one."),
    ]
    nucleusGeometry: Annotated[  # the key is QuPath's
        NotRequired[PolygonJson | MultiPolygonJson],
        Field(description="The nucleus, for a cell that has one."),
    ]
    properties: FeaturePropertiesJson


# --- From the types of `domain` ----------------------------------------------------------------


def encode_event(seq: int, event: Event, started: Started | None, encoder: Encoder) -> bytes:
    """Return `event` as one JSON object in UTF-8, without line breaks, in the encoder's dialect.

    `seq` is the number of the event in its job. `started` is the first event of the same job;
    only contours and masks need it.
    """
    match event:
        case Contours(objects, provisional, replaces):
            assert started is not None, "contours come after the first event"
            said: ContoursJson = {
                "event": "contours",
                "seq": seq,
                "provisional": provisional,
                "replaces": _names(replaces, encoder),
                "features": [],
            }
            return _with_items(said, encoder.features(objects, started, provisional))
        case Mask(provisional=provisional, whole=whole):
            assert started is not None, "masks come after the first event"
            mask: MaskJson = {
                "event": "mask",
                "seq": seq,
                "provisional": provisional,
                "whole": whole,
                "slices": [],
            }
            return _with_items(mask, encoder.mask(event, started))
        case _:
            return orjson.dumps(_event(seq, event, encoder))


def _event(
    seq: int, event: Started | Progress | Warned | Done | Failed | Cancelled, encoder: Encoder
) -> EventJson:
    match event:
        case Started():
            return _started(seq, event, encoder)
        case Progress(done, tiles, seconds_left):
            return {
                "event": "progress",
                "seq": seq,
                "tiles_done": done,
                "tiles": tiles,
                "seconds_left": seconds_left,
            }
        case Warned(code, message, area):
            return {
                "event": "warned",
                "seq": seq,
                "code": code,
                "message": message,
                "area": None if area is None else (area.x0, area.y0, area.x1, area.y1),
            }
        case Done(objects, tiles, failed, skipped, seconds):
            return {
                "event": "done",
                "seq": seq,
                "objects": objects,
                "tiles": tiles,
                "tiles_failed": failed,
                "tiles_skipped": skipped,
                "seconds": seconds,
            }
        case Failed(code, message, remedy):
            return {
                "event": "failed",
                "seq": seq,
                "code": code,
                "message": message,
                "remedy": remedy,
            }
        case Cancelled(done, tiles):
            return {"event": "cancelled", "seq": seq, "tiles_done": done, "tiles": tiles}


def _started(seq: int, started: Started, encoder: Encoder) -> StartedJson:
    scope, spacing, scale = started.scope, started.spacing_um, started.grid.scale
    said: StartedJson = {
        "event": "started",
        "seq": seq,
        "job": started.job,
        "image": started.image,
        "image_size": started.grid.image_size,
        "spacing_um": None if spacing is None else (spacing.x, spacing.y),
        "z": started.z,
        "model": scope.model,
        "version": scope.version,
        "parameters": dict(scope.parameters),
        "fingerprint": scope.image,
        "scope": scope_key(scope),
        "kind": started.kind,
        "labels": [label_json(label) for label in started.labels],
        "scale": (scale.x, scale.y),
        "tiles": started.tiles,
        "format": encoder.name,
    }
    if started.volume:
        said["volume"] = volume_json(started.volume)
    return said


def _with_items(said: ContoursJson | MaskJson, items: bytes) -> bytes:
    """Return `said` as JSON, with the JSON `items` inserted into the empty list at its end.

    The items are long, so they are not parsed and serialised again.
    """
    return b"%b%b]}" % (orjson.dumps(said)[: -len("]}")], items)


def _names(ids: NDArray[np.uint8], encoder: Encoder) -> list[str]:
    return [encoder.id_text(raw.tobytes()) for raw in ids]
