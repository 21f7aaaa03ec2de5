"""The HTTP API as an OpenAPI 3.1 document: the routes of `app`, the JSON of `wire`.

Tests compare the paths with the routes, and the schemas with what a server really sends. Answers
leave room for more keys, since a client ignores what it does not know; requests do not, since the
server refuses what it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from isoline import __version__
from isoline.domain.prompts import KINDS, MAX_PROMPTS

Json: TypeAlias = Mapping[str, object]

JSON, PROBLEM = "application/json", "application/problem+json"
NDJSON, SSE = "application/x-ndjson", "text/event-stream"


def document() -> dict[str, object]:
    """Return the OpenAPI document of this version."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "isoline",
            "version": __version__,
            "summary": "Contours that stream in while the rest is still being computed.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"token": []}],
        "paths": {**_catalogue(), **_uploads(), **_jobs(), **_segmentations()},
        "components": {
            "schemas": {**_answers(), **_requests(), **_events(), **_volumes()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


# --- Routes ------------------------------------------------------------------------------------


def _catalogue() -> dict[str, Json]:
    name = _parameter("path", "name", {"type": "string"}, "Its slashes may be sent as they are.")
    box = _parameter(
        "query",
        "box",
        {"type": "string", "examples": ["4000,5000,5024,6024"]},
        "X0,Y0,X1,Y1 in image pixels; what lies outside the image is background.",
        required=True,
    )
    size = _parameter(
        "query",
        "size",
        {"type": "integer", "minimum": 1, "maximum": 8192, "default": 1024},
        "The longer side of the picture in pixels.",
    )
    html = {"text/html": {"schema": {"type": "string"}}}
    png = {"image/png": {"schema": {"type": "string", "contentMediaType": "image/png"}}}
    return {
        "/": {"get": _call("viewer", "A small viewer.", html, public=True)},
        "/v1/health/ready": {
            "get": _call(
                "ready",
                "Whether requests should be sent here; 503 while they should not.",
                _json("Readiness"),
                public=True,
            )
        },
        "/metrics": {
            "get": _call(
                "metrics",
                "Counters in the text format of Prometheus.",
                {"text/plain": {"schema": {"type": "string"}}},
            )
        },
        "/v1/health": {
            "get": _call("health", "Whether the workers are up.", _json("Health"), public=True)
        },
        "/v1/models": {"get": _call("models", "The installed models.", _json("Models"))},
        "/v1/images": {
            "get": _call("images", "The names of the images, and of the archives.", _json("Images"))
        },
        "/v1/images/{name}": {
            "get": _call("image", "One image.", _json("Image"), [name], errors=(403, 404, 422))
        },
        "/v1/images/{name}/region": {
            "get": _call(
                "region",
                "A picture of a part of an image.",
                png,
                [name, box, size],
                errors=(400, 403, 404, 413, 422),
                headers={
                    "X-Isoline-Box": _header("What it shows, moved to whole pixels of its own.")
                },
            )
        },
        "/v1/openapi.json": {
            "get": _call("openapi", "This document.", {JSON: {"schema": {"type": "object"}}})
        },
    }


def _uploads() -> dict[str, Json]:
    upload = _parameter("path", "upload", {"type": "string"}, "As `POST /v1/uploads` gave it.")
    place = [
        _parameter("path", name, {"type": "integer", "minimum": 0}, said)
        for name, said in (
            ("level", "Index into `levels`."),
            ("column", "x of its first pixel over `tile_px`, rounded down."),
            ("row", "y of its first pixel over `tile_px`, rounded down."),
        )
    ]
    png = {"image/png": {"schema": {"type": "string", "contentMediaType": "image/png"}}}
    put = _call("putTile", "Send one tile.", {}, place, status=204, errors=(400, 404, 409, 413))
    return {
        "/v1/uploads": {
            "post": _call(
                "createUpload",
                "Say which image is about to be uploaded and for what; hear which pixels to send.",
                _json("Upload"),
                status=201,
                links={
                    name: _link(name, "upload", "upload") for name in ("putTile", "deleteUpload")
                },
                body="UploadRequest",
                errors=(400, 404, 409, 413, 422, 429),
            )
        },
        "/v1/uploads/{upload}": {
            "parameters": [upload],
            "delete": _call("deleteUpload", "Forget it.", {}, status=204, errors=(404,)),
        },
        "/v1/uploads/{upload}/tiles/{level}/{column}/{row}": {
            "parameters": [upload],
            "put": {**put, "requestBody": {"required": True, "content": png}},
        },
    }


def _jobs() -> dict[str, Json]:
    job_id = _parameter("path", "job_id", {"type": "string"}, "As `POST /v1/jobs` gave it.")
    after = _parameter(
        "query",
        "after",
        {"type": "integer", "minimum": -1, "default": -1},
        "The `seq` of the last event that arrived: the stream goes on behind it.",
    )
    last_id = _parameter(
        "header", "Last-Event-ID", {"type": "integer"}, "`after`, as SSE sends it."
    )
    dialect = _parameter("query", "format", {"type": "string"}, "Instead of the request's.")
    ended = _parameter(
        "query",
        "ended",
        {"type": "integer", "minimum": 0, "maximum": 100_000, "default": 100},
        "How many of those that have ended.",
    )
    archive = _parameter(
        "header",
        "Girder-Token",
        {"type": "string"},
        "Of a user who may read the image, where a Digital Slide Archive keeps it.",
    )
    mistakes = (400, 403, 404, 409, 413, 422, 429)
    return {
        "/v1/jobs": {
            "get": _call(
                "jobs",
                "Your jobs that have not ended and the last of those that have, the oldest first.",
                _json("Jobs"),
                [ended],
                errors=(400,),
            ),
            "post": _call(
                "createJob",
                "Queue a job. Every mistake in the request is found here.",
                _json("CreatedJob"),
                [archive],
                status=201,
                links={
                    name: _link(name, "job_id", "job")
                    for name in ("job", "focus", "cancel", "events")
                },
                body="SegmentRequest",
                errors=mistakes,
            ),
        },
        "/v1/jobs/{job_id}": {
            "parameters": [job_id],
            "get": _call("job", "How far a job is.", _json("Job"), errors=(404,)),
            "patch": _call(
                "focus",
                "Compute what is near another point first.",
                _json("Job"),
                body="Focus",
                errors=(400, 404, 413),
            ),
            "delete": _call(
                "cancel",
                "Stop a job within one tile; what it has found stays.",
                _json("Job"),
                status=202,
                errors=(404,),
            ),
        },
        "/v1/jobs/{job_id}/events": {
            "get": _call(
                "events",
                "Everything a job has said and will say. Hanging up does not stop the job.",
                _STREAM,
                [job_id, after, last_id, dialect, archive],
                errors=(400, 403, 404, 422, 503),
            )
        },
        "/v1/segment": {
            "post": _call(
                "segment",
                "Create a job and stream its events; hanging up cancels it.",
                _STREAM,
                [archive],
                body="SegmentRequest",
                errors=(*mistakes, 503),
            )
        },
    }


def _segmentations() -> dict[str, Json]:
    save = _call(
        "saveSegmentation",
        "Store a labelmap in the archive of its series; what is there already is answered by 200.",
        _json("Saved"),
        status=201,
        body="SaveRequest",
        errors=(400, 403, 404, 413, 422, 502),
    )
    assert isinstance(save["responses"], dict)
    save["responses"]["200"] = {
        "description": "The archive has it already.",
        "content": _json("Saved"),
    }
    return {"/v1/segmentations": {"post": save}}


_STREAM: Json = {
    NDJSON: {"schema": {"$ref": "#/components/schemas/Event", "description": (
        "One event a line. An empty line each second is a heartbeat."
    )}},
    SSE: {"schema": {"$ref": "#/components/schemas/Event", "description": (
        "One event a message, its `seq` as the id. A comment each second is a heartbeat."
    )}},
}  # fmt: skip

_REASONS = {
    200: "Here it is.",
    201: "It is there now.",
    202: "The job will stop.",
    204: "Done; there is nothing to say.",
    400: "Not JSON, a wrong type or an unknown key.",
    401: "No token, or one that nobody knows.",
    403: "Not for this caller, or outside the configured roots.",
    404: "No such thing.",
    409: "Not in the state for this: weights are missing.",
    413: "Over a limit.",
    422: "Understood, but it cannot be done.",
    429: "The queue is full.",
    500: "The server's own fault.",
    502: "The archive is down, or refuses it.",
    503: "Every event stream is taken.",
}


def _call(
    name: str,
    summary: str,
    answer: Json,
    parameters: Sequence[Json] = (),
    *,
    status: int = 200,
    body: str | None = None,
    errors: Sequence[int] = (),
    headers: Json | None = None,
    links: Json | None = None,
    public: bool = False,
) -> dict[str, object]:
    """Return one operation; `body` names the schema of what is sent, `answer` is by media type."""
    problem = {PROBLEM: {"schema": _ref("Problem")}}
    if not public:
        errors = (401, *errors)
    responses: dict[str, Json] = {
        str(status): {
            "description": _REASONS[status],
            "content": answer,
            **({"headers": headers} if headers else {}),
            **({"links": links} if links else {}),
        },
        **{str(code): {"description": _REASONS[code], "content": problem} for code in errors},
        "default": {"description": "Any other problem.", "content": problem},
    }
    operation: dict[str, object] = {"operationId": name, "summary": summary}
    if parameters:
        operation["parameters"] = parameters
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _json(body)}
    if public:
        operation["security"] = [{}]
    return {**operation, "responses": responses}


def _link(operation: str, parameter: str, key: str) -> Json:
    """Return that `key` of an answer is the `parameter` of another operation."""
    return {"operationId": operation, "parameters": {parameter: f"$response.body#/{key}"}}


def _parameter(
    place: str, name: str, schema: Json, description: str, required: bool = False
) -> dict[str, object]:
    return {
        "name": name,
        "in": place,
        "required": required or place == "path",
        "description": description,
        "schema": schema,
    }


def _header(description: str) -> dict[str, object]:
    return {"description": description, "required": True, "schema": {"type": "string"}}


def _json(schema: str) -> dict[str, Json]:
    return {JSON: {"schema": _ref(schema)}}


# --- Schemas -----------------------------------------------------------------------------------


def _ref(name: str) -> dict[str, object]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(keys: Json, optional: Sequence[str] = (), **more: object) -> dict[str, object]:
    required = [key for key in keys if key not in optional]
    return {"type": "object", "properties": keys, "required": required, **more}


def _list(items: Json, **more: object) -> dict[str, object]:
    return {"type": "array", "items": items, **more}


def _maybe(schema: Json, description: str = "") -> dict[str, object]:
    return {"anyOf": [schema, {"type": "null"}], **_said(description)}


def _text(description: str = "") -> dict[str, object]:
    return {"type": "string", **_said(description)}


_NAME: Json = {"type": "string", "minLength": 1}


def _flag(description: str = "") -> dict[str, object]:
    return {"type": "boolean", **_said(description)}


def _count(description: str = "") -> dict[str, object]:
    return {"type": "integer", "minimum": 0, **_said(description)}


def _said(description: str) -> dict[str, object]:
    return {"description": description} if description else {}


_NUMBER: Json = {"type": "number"}
_POSITIVE: Json = {"type": "number", "exclusiveMinimum": 0}
_PAIR = _list(_NUMBER, minItems=2, maxItems=2, description="x, y.")
_KINDS = ["objects", "regions", "mask"]
_SIZE = _list(_count(), minItems=2, maxItems=2, description="Width, height in pixels.")
_BOX = _list(_NUMBER, minItems=4, maxItems=4, description="x0, y0, x1, y1 in image pixels.")
_COLOR = _list(
    {"type": "integer", "minimum": 0, "maximum": 255},
    minItems=3,
    maxItems=3,
    description="Red, green, blue.",
)
_RINGS = _list(_list(_PAIR, minItems=4), minItems=1)
_VALUES: Json = {
    "type": "object",
    "additionalProperties": {"type": ["number", "boolean", "string"]},
}


def _answers() -> dict[str, Json]:
    label = _object(
        {
            "name": _text(),
            "color": _COLOR,
            "anatomy": _ref("Anatomy"),
        },
        ("anatomy",),
    )
    job = {
        "job": _text("The id."),
        "state": {"enum": ["queued", "parked", "running", "done", "failed", "cancelled"]},
        "image": _text(),
        "model": _text(),
        "position": _count("How many jobs wait before it."),
        "urgent": _flag("A small region: it goes before all others."),
        "waits_for": _maybe(
            {"enum": ["a token", "a place", "tiles"]},
            "A token that may read its image, a place among the jobs that run, or tiles to be "
            "computed; null when it has ended.",
        ),
        "seconds_waiting": {"type": "number", "minimum": 0, **_said("Before it began.")},
        "tiles_done": _count(),
        "tiles": _count(),
        "seconds_left": _maybe(_NUMBER, "Null until the first tile has been timed."),
        "objects": _count("Final ones, so far."),
    }
    return {
        "Problem": _object(
            {
                "type": _text(),
                "title": _text(),
                "status": {"type": "integer"},
                "detail": _text("What is wrong, and where."),
                "code": _text("Stable across versions."),
                "remedy": _text("How to mend it."),
                "position": _count("Where it would stand in the queue, if that is full."),
            },
            optional=("position",),
            description="RFC 9457, with `code` and `remedy`.",
        ),
        "Health": _object(
            {
                "status": {"enum": ["starting", "ready", "closing", "broken"]},
                "version": _text(),
                "workers": _count("Processes that compute tiles."),
            }
        ),
        "Readiness": _object({"status": _text("As in Health.")}),
        "Images": _object(
            {
                "images": _list(_text()),
                "archives": _list(_text("SOURCE of `dicomweb:SOURCE/STUDY/SERIES`.")),
            }
        ),
        "Image": _object(_image(), ["volume"]),
        "Models": _object({"models": _list(_ref("Model"))}),
        "Model": _object(_model()),
        "Upload": _object(
            {
                "upload": _text("The id."),
                "image": _text("What a request calls this image."),
                "tile_px": _count("Side of a tile; at the edges of an area tiles are smaller."),
                "levels": _list(
                    _object({"downsample": _count("Image pixels per pixel."), "area": _BOX}),
                    minItems=1,
                    description="Full resolution, then the overview; `area` in pixels of each.",
                ),
                "pixels": _count("To be sent in all."),
            }
        ),
        "Label": label,
        "Parameter": _model_parameter(),
        "Job": _object(job),
        "CreatedJob": _object(
            {
                **job,
                "events": _text("The path of its event stream."),
                "share": _text("Others may use the job who send this as Isoline-Share."),
            }
        ),
        "Jobs": _object({"jobs": _list(_ref("Job"))}),
    }


def _image() -> dict[str, Json]:
    return {
        "name": _text(),
        "kind": {"enum": ["slide", "image", "volume"]},
        "reader": _text(),
        "fingerprint": _text("Of the content: copies of a file share it."),
        "size": _SIZE,
        "spacing_um": _maybe(_PAIR, "Micrometres per pixel, null where the file does not say."),
        "levels": _list(_object({"size": _SIZE, "downsample": _PAIR}), minItems=1),
        "channels": _list(_text()),
        "dtype": _text(),
        "z_planes": _count(),
        "problems": _list(_text("A sentence for the user.")),
        "volume": _ref("Volume"),
    }


def _model() -> dict[str, Json]:
    return {
        "name": _text(),
        "title": _text(),
        "description": _text(),
        "version": _text(),
        "kind": {"enum": _KINDS, "description": "Things to count, areas, or slices of labels."},
        "labels": _list(_ref("Label"), minItems=1),
        "spacings_um": _list(_POSITIVE, description="It was made for these; empty: for any."),
        "channels": _list(_count(), description="How many channels it takes."),
        "tile_px": _count("Default side of a tile."),
        "fixed_tile": _flag("Whether it refuses any other tile."),
        "dimensions": _list(
            {"enum": [2, 3]}, description="2: slides and pictures, 3: volumes; one or both."
        ),
        "prompts": _list(
            {"enum": [*KINDS]}, description="What it understands; empty: it takes no prompts."
        ),
        "parameters": _list(_ref("Parameter")),
        "licence": _text(),
        "cite": _text(),
        "problem": _maybe(_text(), "Why it cannot run here and now."),
    }


def _model_parameter() -> dict[str, object]:
    common = {"name": _text(), "help": _text()}
    number = {"minimum": _NUMBER, "maximum": _NUMBER, "integer": _flag("No fractions.")}
    return {
        "oneOf": [
            _object({"kind": {"const": "number"}, **common, "default": _NUMBER, **number}),
            _object(
                {
                    "kind": {"const": "choice"},
                    **common,
                    "default": _text(),
                    "choices": _list(_text()),
                }
            ),
            _object({"kind": {"const": "switch"}, **common, "default": _flag()}),
        ]
    }


def _requests() -> dict[str, Json]:
    keys = {
        "image": _text("As `/v1/images` lists it."),
        "model": _text("As `/v1/models` lists it."),
        "region": _maybe(
            {"anyOf": [_BOX, {"type": "object"}]},
            "[x0, y0, x1, y1], or GeoJSON with polygons, in image pixels; null: the whole image.",
        ),
        "focus": _maybe(_PAIR, "Where the user looks: tiles near it run first."),
        "parameters": _maybe(_VALUES, "Of the model; what is left out has its default."),
        "tile": _maybe(_count(), "Side of a tile in working pixels."),
        "spacing_um": _maybe(
            {"anyOf": [_POSITIVE, _PAIR]}, "Micrometres per pixel, where the file does not say."
        ),
        "at_um": _maybe(_POSITIVE, "Working resolution in micrometres per pixel."),
        "channel": _maybe(
            _list({"anyOf": [_NAME, _count()]}, minItems=1), "Channels by name or index."
        ),
        "z": _maybe(_count(), "Plane of a stack."),
        "slice": _maybe(
            {"anyOf": [_ref("SliceName"), _count()]}, "Where the user looks in a volume."
        ),
        "prompts": _maybe(
            _list(_ref("Prompt"), maxItems=MAX_PROMPTS), "What points at the one object."
        ),
        "frame_of_reference": _maybe(
            _text(), "Of prompts in LPS millimetres; null: they are in voxels or pixels."
        ),
        "initial": _maybe(
            {"anyOf": [_BOX, {"type": "object"}]},
            'What prompts correct: as region, or {"slices": [DrawnSlice]} in a volume.',
        ),
        "image_size": _maybe(
            _SIZE, "What the viewer shows: a file of another size is refused as WrongImage."
        ),
        "format": _maybe(_text(), 'The dialect of the features; "geojson" by default.'),
        "simplify_px": _maybe(
            {"type": "number", "minimum": 0}, "How far outlines may stray; null: not at all."
        ),
    }
    optional = [key for key in keys if key not in ("image", "model")]
    return {
        "SegmentRequest": _object(
            keys,
            optional,
            additionalProperties=False,
            examples=[
                {
                    "image": "slides/a.svs",
                    "model": "nuclei",
                    "region": [4000, 5000, 8096, 9096],
                    "focus": [6000, 7000],
                }
            ],
        ),
        "Prompt": _object(
            {
                "kind": {"enum": [*KINDS]},
                "points": _list(
                    _list(_NUMBER, minItems=2, maxItems=3),
                    minItems=1,
                    description="One position, two corners of a box, a way, or corners.",
                ),
                "include": _flag("Whether it is on the object; true by default."),
            },
            ["include"],
            additionalProperties=False,
        ),
        "DrawnSlice": _object(
            {
                "slice": {"anyOf": [_ref("SliceName"), _count()]},
                "box": _list(_count(), minItems=4, maxItems=4, description="i0, j0, i1, j1."),
                "runs": _text("Runs in base64, as in a mask's layers."),
            },
            additionalProperties=False,
        ),
        "UploadRequest": _object(
            {
                "size": _SIZE,
                "spacing_um": _maybe({"anyOf": [_POSITIVE, _PAIR]}, "Micrometres per pixel."),
                "channels": _list(_NAME, minItems=1, description="RGB by default."),
                "dtype": {"enum": ["uint8", "uint16"]},
                "is_slide": _flag("Whether there is glass around the tissue; true by default."),
                "request": {
                    "type": "object",
                    "description": "A SegmentRequest; its image may be left out.",
                },
            },
            ["spacing_um", "channels", "dtype", "is_slide"],
            additionalProperties=False,
            examples=[
                {
                    "size": [31872, 13835],
                    "spacing_um": [0.2457, 0.2457],
                    "request": {"model": "nuclei", "region": [4000, 5000, 6048, 7048]},
                }
            ],
        ),
        "Focus": _object(
            {"focus": _PAIR, "slice": {"anyOf": [_ref("SliceName"), _count()]}},
            ("focus", "slice"),
            additionalProperties=False,
            minProperties=1,
            maxProperties=1,
            examples=[{"focus": [12000, 9000]}, {"slice": 91}],
        ),
    }


# --- Events ------------------------------------------------------------------------------------


def _events() -> dict[str, Json]:
    kinds = {
        "Started": _event("started", _started(), ["volume"]),
        "Contours": _event(
            "contours",
            {
                "provisional": _flag("Pieces whose seams are still open: shown, never stored."),
                "replaces": _list(
                    _text(), description="Ids of pieces that these take the place of."
                ),
                "features": _list(
                    {"type": "object"},
                    description="In the dialect of `format`; see GeoJSONFeature.",
                ),
            },
        ),
        "Mask": _event(
            "mask",
            {
                "provisional": _flag("A first impression: shown, never stored."),
                "slices": _list(_ref("MaskSlice")),
            },
        ),
        "Progress": _event(
            "progress",
            {"tiles_done": _count(), "tiles": _count(), "seconds_left": _maybe(_NUMBER)},
        ),
        "Warned": _event(
            "warned", {"code": _text(), "message": _text(), "area": _maybe(_BOX, "Where.")}
        ),
        "Done": _event(
            "done",
            {
                "objects": _count(),
                "tiles": _count(),
                "tiles_failed": _count(),
                "tiles_skipped": _count("Glass, not computed."),
                "seconds": _NUMBER,
            },
        ),
        "Failed": _event("failed", {"code": _text(), "message": _text(), "remedy": _text()}),
        "Cancelled": _event("cancelled", {"tiles_done": _count(), "tiles": _count()}),
    }
    return {
        **kinds,
        "Event": {
            "oneOf": [_ref(name) for name in kinds],
            "description": (
                "`started` comes first, one of `done`, `failed` and `cancelled` last. "
                "Later versions may add kinds and keys: ignore what you do not know."
            ),
            "examples": _EVENT_EXAMPLES,
        },
        "GeoJSONFeature": _feature(),
    }


_EVENT_EXAMPLES: Sequence[Json] = [
    {"event": "progress", "seq": 1, "tiles_done": 1, "tiles": 16, "seconds_left": 3.5},
    {
        "event": "contours",
        "seq": 2,
        "provisional": False,
        "replaces": [],
        "features": [
            {
                "type": "Feature",
                "id": "0f3d2c1b-7a56-5e4d-9c8b-6a7f8e9d0c1b",
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [[[10, 20], [13, 20], [13, 21], [10, 21], [10, 20]]],
                },
                "properties": {
                    "label": "Nucleus",
                    "color": [228, 26, 28],
                    "model": "nuclei",
                    "incomplete": False,
                },
            }
        ],
    },
    {
        "event": "done",
        "seq": 3,
        "objects": 1,
        "tiles": 16,
        "tiles_failed": 0,
        "tiles_skipped": 4,
        "seconds": 3.8,
    },
]


def _event(kind: str, keys: Json, optional: Sequence[str] = ()) -> dict[str, object]:
    always = {"event": {"const": kind}, "seq": _count("Without gaps, from 0.")}
    return _object({**always, **keys}, optional)


def _volumes() -> dict[str, Json]:
    point = _list(_NUMBER, minItems=3, maxItems=3, description="LPS, millimetres.")
    box = _list(_count(), minItems=4, maxItems=4, description="i0, j0, i1, j1, half-open.")
    layer = {
        "label": {"type": "integer", "minimum": 1},
        "box": box,
        "runs": _text("Base64 of LEB128 lengths, beginning with a run of pixels without it."),
    }
    return {
        "SliceName": _object({"instance": _text("SOPInstanceUID."), "frame": _count("From 1.")}),
        "MaskSlice": _object(
            {
                "instance": _maybe(_text()),
                "frame": _maybe(_count()),
                "k": _count(),
                "layers": _list(_object(layer)),
            }
        ),
        "Anatomy": _object(
            {"code": _text("Of SNOMED CT."), "meaning": _text()}, additionalProperties=False
        ),
        "SaveRequest": _save_request(layer),
        "Saved": _object(
            {
                "study": _text("StudyInstanceUID, that of the source."),
                "series": _text("SeriesInstanceUID."),
                "instance": _text("SOPInstanceUID."),
                "new": _flag("False where the archive had it already."),
            }
        ),
        "Volume": _object(
            {
                "size": _list(_count(), minItems=3, maxItems=3, description="Along i, j, k."),
                "origin_mm": point,
                "step_i_mm": point,
                "step_j_mm": point,
                "step_k_mm": point,
                "frame_of_reference": _text("Empty where there is none."),
                "modality": _text("Empty where unknown."),
                "slices": _list(_ref("SliceName"), description="By k; empty without names."),
            }
        ),
    }


def _save_request(layer: Json) -> dict[str, object]:
    label: Json = {"type": "integer", "minimum": 1, "maximum": 255}
    segment = _object(
        {
            "label": label,
            "name": _NAME,
            "color": _COLOR,
            "anatomy": _maybe(_ref("Anatomy")),
            "algorithm": _maybe(
                _object({"model": _text(), "version": _text()}, additionalProperties=False),
                "As `started` says them; without one a person drew it.",
            ),
            "edited": _flag("Whether a person changed what the algorithm found."),
        },
        ("anatomy", "algorithm", "edited"),
        additionalProperties=False,
    )
    slice_ = _object(
        {
            "instance": _text("SOPInstanceUID."),
            "frame": _count("From 1."),
            "k": _count("Not looked at."),
            "layers": _list(_object({**layer, "label": label}, additionalProperties=False)),
        },
        ("frame", "k"),
        additionalProperties=False,
    )
    return _object(
        {
            "image": _text("`dicomweb:SOURCE/STUDY/SERIES`"),
            "segments": _list(segment, minItems=1),
            "slices": _list(slice_, description="Those that are not given are empty."),
            "format": {"enum": ["dicomseg", "dicomseg-labelmap", "rtstruct"]},
            "description": _text("SeriesDescription."),
        },
        ("format", "description"),
        additionalProperties=False,
    )


def _started() -> dict[str, Json]:
    return {
        "job": _text(),
        "image": _text(),
        "image_size": _SIZE,
        "spacing_um": _maybe(_PAIR, "Micrometres per image pixel."),
        "z": _count(),
        "model": _text(),
        "version": _text("Of the model, with its weights."),
        "parameters": _VALUES,
        "fingerprint": _text("Of the image's content."),
        "scope": _text("Equal for runs whose objects have the same ids."),
        "kind": {"enum": _KINDS},
        "labels": _list(_ref("Label"), minItems=1),
        "scale": _list(_POSITIVE, minItems=2, maxItems=2, description="Image per working pixel."),
        "tiles": _count(),
        "format": _text(),
        "volume": _ref("Volume"),
    }


def _feature() -> dict[str, object]:
    properties = {
        "label": _text(),
        "color": _COLOR,
        "model": _text(),
        "incomplete": _flag("A failed, skipped or cancelled tile may have cut it."),
        "area_um2": _NUMBER,
        "measurements": {"type": "object", "additionalProperties": _NUMBER},
    }
    geometry = {
        "oneOf": [
            _object({"type": {"const": "Polygon"}, "coordinates": _RINGS}),
            _object({"type": {"const": "MultiPolygon"}, "coordinates": _list(_RINGS, minItems=2)}),
        ],
        "description": "In image pixels, the origin at the corner of the first one.",
    }
    return _object(
        {
            "type": {"const": "Feature"},
            "id": _text(),
            "geometry": geometry,
            "nucleusGeometry": {**geometry, "description": "Of a cell that has a nucleus."},
            "properties": _object(properties, ("area_um2", "measurements")),
        },
        ("nucleusGeometry",),
    )
