"""What a job says, as JSON: a type for each event, and the one line that travels."""

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

Seq = Annotated[int, Field(ge=0, description="Without gaps, from 0.")]


class StartedJson(TypedDict):
    """The request was understood."""

    event: Literal["started"]
    seq: Seq
    job: str
    image: str
    image_size: Size
    spacing_um: Annotated[Pair | None, Field(description="Micrometres per image pixel.")]
    z: Whole
    model: str
    version: Annotated[str, Field(description="Of the model, with its weights.")]
    parameters: dict[str, Value]
    fingerprint: Annotated[str, Field(description="Of the image's content.")]
    scope: Annotated[str, Field(description="Equal for runs whose objects have the same ids.")]
    kind: ResultKind
    labels: Annotated[list[LabelJson], Field(min_length=1)]
    scale: Annotated[tuple[Positive, Positive], Field(description="Image per working pixel.")]
    tiles: Whole
    format: str
    volume: NotRequired[VolumeJson]


class ContoursJson(TypedDict):
    """Objects that are final, or pieces that a later union will replace."""

    event: Literal["contours"]
    seq: Seq
    provisional: Annotated[
        bool, Field(description="Pieces whose seams are still open: shown, never stored.")
    ]
    replaces: Annotated[
        list[str],
        Field(description="Ids to remove: of provisional pieces, or of results of an earlier run."),
    ]
    features: Annotated[
        list[dict[str, Any]],
        Field(description="In the dialect of `format`; see GeoJSONFeature."),
    ]


class LayerJson(TypedDict):
    """One label in one slice."""

    label: Annotated[int, Field(ge=1)]
    box: VoxelBox
    runs: Annotated[
        str,
        Field(description="Base64 of LEB128 lengths, beginning with a run of pixels without it."),
    ]


class MaskSliceJson(TypedDict):
    """The labels of one slice, whole."""

    instance: str | None
    frame: Whole | None
    k: Whole
    layers: list[LayerJson]


class MaskJson(TypedDict):
    """The labels of some slices of a volume."""

    event: Literal["mask"]
    seq: Seq
    provisional: Annotated[bool, Field(description="A coarse first result: shown, never stored.")]
    whole: Annotated[bool, Field(description="Whether all slices that are not listed are empty.")]
    slices: list[MaskSliceJson]


class ProgressJson(TypedDict):
    """How far the job is."""

    event: Literal["progress"]
    seq: Seq
    tiles_done: Whole
    tiles: Whole
    seconds_left: float | None


class WarnedJson(TypedDict):
    """Something went wrong and the job goes on."""

    event: Literal["warned"]
    seq: Seq
    code: str
    message: str
    area: Annotated[Corners | None, Field(description="Where.")]


class DoneJson(TypedDict):
    """The job ran to its end."""

    event: Literal["done"]
    seq: Seq
    objects: Whole
    tiles: Whole
    tiles_failed: Whole
    tiles_skipped: Annotated[Whole, Field(description="Glass, not computed.")]
    seconds: float


class FailedJson(TypedDict):
    """The job could not go on."""

    event: Literal["failed"]
    seq: Seq
    code: str
    message: str
    remedy: str


class CancelledJson(TypedDict):
    """Someone stopped the job."""

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
    """One outline and its holes."""

    type: Literal["Polygon"]
    coordinates: Rings


class MultiPolygonJson(TypedDict):
    """Several parts."""

    type: Literal["MultiPolygon"]
    coordinates: Annotated[list[Rings], Field(min_length=2)]


class FeaturePropertiesJson(TypedDict):
    """What is known of an object."""

    label: str
    color: Color
    model: str
    incomplete: Annotated[
        bool, Field(description="A failed, skipped or cancelled tile may have cut it.")
    ]
    area_um2: NotRequired[float]
    measurements: NotRequired[dict[str, float]]


class GeoJSONFeatureJson(TypedDict):
    """One object or area."""

    type: Literal["Feature"]
    id: str
    geometry: Annotated[
        PolygonJson | MultiPolygonJson,
        Field(description="In image pixels, the origin at the corner of the first one."),
    ]
    nucleusGeometry: Annotated[  # the key is QuPath's
        NotRequired[PolygonJson | MultiPolygonJson],
        Field(description="Of a cell that has a nucleus."),
    ]
    properties: FeaturePropertiesJson


# --- From the types of `domain` ----------------------------------------------------------------


def encode_event(seq: int, event: Event, started: Started | None, encoder: Encoder) -> bytes:
    """Return `event` as one JSON object without line breaks, in the dialect of `encoder`.

    `started` is the first event of the same job, which contours and masks need; `seq` is the
    number of the event in it.
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
    """Return `said` with `items` in the empty list that it ends with.

    They are long and JSON already: they are set in, never parsed again.
    """
    return b"%b%b]}" % (orjson.dumps(said)[: -len("]}")], items)


def _names(ids: NDArray[np.uint8], encoder: Encoder) -> list[str]:
    return [encoder.id_text(raw.tobytes()) for raw in ids]
