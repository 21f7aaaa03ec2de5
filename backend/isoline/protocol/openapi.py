"""The HTTP API as an OpenAPI 3.1 document: a table of the routes, and the types of `protocol`.

Tests compare the paths with the routes, and the responses of a server with the schemas. The schemas
of responses allow further keys, since clients ignore unknown ones; those of requests do not, since
the server refuses unknown ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from isoline import __version__
from isoline.protocol.events import EventJson, GeoJSONFeatureJson
from isoline.protocol.problems import PROBLEM, ProblemJson
from isoline.protocol.region_query import FORMATS, MAX_PLANE, MAX_SIZE
from isoline.protocol.requests import (
    FocusJson,
    SaveRequestJson,
    SegmentRequestJson,
)
from isoline.protocol.responses import (
    CreatedJobJson,
    HealthJson,
    ImageJson,
    ImagesJson,
    JobJson,
    JobsJson,
    ModelsJson,
    ReadinessJson,
    SavedJson,
    UploadJson,
    VolumeUploadJson,
)
from isoline.protocol.upload_requests import UploadRequestJson, VolumeUploadRequestJson

Json: TypeAlias = Mapping[str, object]

JSON = "application/json"
NDJSON, SSE = "application/x-ndjson", "text/event-stream"

TYPES: Sequence[Any] = (
    ProblemJson,
    HealthJson,
    ReadinessJson,
    ModelsJson,
    ImagesJson,
    ImageJson,
    UploadRequestJson,
    UploadJson,
    VolumeUploadRequestJson,
    VolumeUploadJson,
    SegmentRequestJson,
    FocusJson,
    CreatedJobJson,
    JobJson,
    JobsJson,
    SaveRequestJson,
    SavedJson,
    GeoJSONFeatureJson,
)
"""The bodies of requests and responses; the types that they contain are added automatically."""


@cache
def document() -> dict[str, object]:
    """Return the OpenAPI document of this version."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "isoline",
            "version": __version__,
            "summary": "Streams contours to viewers while the rest is still being computed.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"token": []}],
        "paths": {**_catalogue(), **_uploads(), **_jobs(), **_segmentations()},
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


# --- Schemas -----------------------------------------------------------------------------------


class _Schemas(GenerateJsonSchema):
    """Schemas named without the suffix "Json", without titles and null defaults."""

    def normalize_name(self, name: str) -> str:
        return super().normalize_name(name).removesuffix("Json")

    def field_title_should_be_set(self, schema: object) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        said = super().default_schema(schema)
        if said.get("default", ...) is None:
            del said["default"]  # null is the same as omitting the key
        return said

    def tuple_schema(self, schema: core_schema.TupleSchema) -> JsonSchemaValue:
        said = super().tuple_schema(schema)
        items = said.pop("prefixItems", None)
        if items is not None:
            assert all(item == items[0] for item in items), "numbers of one kind"
            said["items"] = items[0]
        return said

    def chain_schema(self, schema: core_schema.ChainSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["steps"][-1])  # the step before is a check of `Expected`

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        said = super().tagged_union_schema(schema)
        if "discriminator" not in said:
            said["anyOf"] = said.pop("oneOf")
        return said


def _schemas() -> dict[str, JsonSchemaValue]:
    """Return all schemas by name."""
    inputs: list[tuple[str, Literal["validation"], TypeAdapter[Any]]] = [
        (name_of(kind), "validation", TypeAdapter(kind)) for kind in TYPES
    ]
    inputs.append(("Event", "validation", TypeAdapter(EventJson)))
    roots, collected = TypeAdapter.json_schemas(
        inputs, ref_template="#/components/schemas/{model}", schema_generator=_Schemas
    )
    schemas: dict[str, JsonSchemaValue] = collected["$defs"]
    for schema in schemas.values():
        schema.pop("title", None)
    event = {
        **roots["Event", "validation"],
        "description": (
            "`started` is the first; one of `done`, `failed` and `cancelled` is the last. "
            "Later versions may add events and keys: ignore unknown ones."
        ),
        "examples": _EVENT_EXAMPLES,
    }
    return {**schemas, "Event": event}


def name_of(kind: type) -> str:
    """Return the name of the schema of a type."""
    return kind.__name__.removesuffix("Json")


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


# --- Routes ------------------------------------------------------------------------------------


def _catalogue() -> dict[str, Json]:
    name = _parameter(
        "path", "name", {"type": "string"}, "The name; its slashes need not be escaped."
    )
    box = _parameter(
        "query",
        "box",
        {"type": "string", "examples": ["4000,5000,5024,6024"]},
        "X0,Y0,X1,Y1 in image pixels; anything outside the image is background.",
        required=True,
    )
    size = _parameter(
        "query",
        "size",
        {"type": "integer", "minimum": 1, "maximum": MAX_SIZE},
        "The longer side in pixels: by default 1024 for a picture, full resolution for raw.",
    )
    channel = _parameter(
        "query",
        "channel",
        {"type": "string", "examples": ["DAPI,CD3", "0"]},
        "Names or indices, separated by commas; by default all, but at most seven for a picture.",
    )
    z = _parameter(
        "query",
        "z",
        {"type": "integer", "minimum": 0, "maximum": MAX_PLANE},
        "Plane of a stack, or slice k of a volume; by default the middle one.",
    )
    series = _parameter(
        "query",
        "series",
        {"type": "string"},
        "Image of a file that contains several, by name or index from 0.",
    )
    form = _parameter(
        "query",
        "format",
        {"type": "string", "enum": [*FORMATS], "default": "png"},
        "A picture, or raw pixels, (c, y, x) in little-endian order.",
    )
    html = {"text/html": {"schema": {"type": "string"}}}
    png = {"image/png": {"schema": {"type": "string", "contentMediaType": "image/png"}}}
    return {
        "/": {"get": _call("viewer", "A small viewer.", html, public=True)},
        "/v1/health/ready": {
            "get": _call(
                "ready",
                "Whether the server accepts requests; 503 while it does not.",
                _json(ReadinessJson),
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
            "get": _call("health", "Whether the workers are up.", _json(HealthJson), public=True)
        },
        "/v1/models": {"get": _call("models", "The installed models.", _json(ModelsJson))},
        "/v1/images": {
            "get": _call("images", "The names of the images and the archives.", _json(ImagesJson))
        },
        "/v1/images/{name}": {
            "get": _call("image", "One image.", _json(ImageJson), [name], errors=(403, 404, 422))
        },
        "/v1/images/{name}/region": {
            "get": _call(
                "region",
                "The pixels of a part of an image, or a picture of them.",
                {**png, **_BYTES},
                [name, box, size, channel, z, series, form],
                errors=(400, 403, 404, 413, 422),
                headers={
                    "X-Isoline-Box": _header(
                        "The part that it shows: the box, moved to whole pixels of the picture."
                    ),
                    "X-Isoline-Shape": _header("The shape of raw pixels: c,y,x.", required=False),
                    "X-Isoline-Dtype": _header(
                        "The numpy data type of raw pixels.", required=False
                    ),
                },
            )
        },
        "/v1/openapi.json": {
            "get": _call("openapi", "This document.", {JSON: {"schema": {"type": "object"}}})
        },
    }


def _uploads() -> dict[str, Json]:
    upload = _parameter(
        "path", "upload", {"type": "string"}, "The id that `POST /v1/uploads` returned."
    )
    place = [
        _parameter("path", name, {"type": "integer", "minimum": 0}, said)
        for name, said in (
            ("level", "An index into `levels`."),
            ("column", "The x of its first pixel divided by `tile_px`, rounded down."),
            ("row", "The y of its first pixel divided by `tile_px`, rounded down."),
        )
    ]
    png = {"image/png": {"schema": {"type": "string", "contentMediaType": "image/png"}}}
    put = _call("putTile", "Send one tile.", {}, place, status=204, errors=(400, 404, 409, 413))
    k = _parameter("path", "k", {"type": "integer", "minimum": 0}, "The index of the slice.")
    put_slice = _call(
        "putSlice",
        "Send the values of one slice of a volume, row by row, in little-endian order.",
        {},
        [k],
        status=204,
        errors=(400, 404, 409, 413),
    )
    return {
        "/v1/uploads": {
            "post": _call(
                "createUpload",
                "Announce the upload of an image for a request; returns which pixels to send.",
                _json(UploadJson, VolumeUploadJson),
                status=201,
                links={
                    name: _link(name, "upload", "upload")
                    for name in ("putTile", "putSlice", "deleteUpload")
                },
                body=(UploadRequestJson, VolumeUploadRequestJson),
                errors=(400, 404, 409, 413, 422, 429),
            )
        },
        "/v1/uploads/{upload}": {
            "parameters": [upload],
            "delete": _call("deleteUpload", "Delete an upload.", {}, status=204, errors=(404,)),
        },
        "/v1/uploads/{upload}/tiles/{level}/{column}/{row}": {
            "parameters": [upload],
            "put": {**put, "requestBody": {"required": True, "content": png}},
        },
        "/v1/uploads/{upload}/slices/{k}": {
            "parameters": [upload],
            "put": {**put_slice, "requestBody": {"required": True, "content": _BYTES}},
        },
    }


def _jobs() -> dict[str, Json]:
    job_id = _parameter(
        "path", "job_id", {"type": "string"}, "The id that `POST /v1/jobs` returned."
    )
    after = _parameter(
        "query",
        "after",
        {"type": "integer", "minimum": -1, "default": -1},
        "The `seq` of the last event received: the stream continues after it.",
    )
    last_id = _parameter(
        "header",
        "Last-Event-ID",
        {"type": "integer"},
        "The same as `after`, as sent by SSE clients.",
    )
    dialect = _parameter(
        "query", "format", {"type": "string"}, "A dialect to use instead of the request's."
    )
    ended = _parameter(
        "query",
        "ended",
        {"type": "integer", "minimum": 0, "maximum": 100_000, "default": 100},
        "The number of ended jobs to list.",
    )
    archive = _parameter(
        "header",
        "Girder-Token",
        {"type": "string"},
        "A token of a user who may read the image, for images in a Digital Slide Archive.",
    )
    key = _parameter(
        "header",
        "Idempotency-Key",
        {"type": "string", "pattern": "^[A-Za-z0-9_-]{0,64}$"},
        "Generated for each job and repeated with each attempt, so that a repeated request does "
        "not create a second job. Empty is the same as none.",
    )
    mistakes = (400, 403, 404, 409, 413, 422, 429)
    return {
        "/v1/jobs": {
            "get": _call(
                "jobs",
                "Your jobs that have not ended and the last of those that have, oldest first.",
                _json(JobsJson),
                [ended],
                errors=(400,),
            ),
            "post": _call(
                "createJob",
                "Queue a job. The request is validated completely before the response.",
                _json(CreatedJobJson),
                [archive, key],
                status=201,
                links={
                    name: _link(name, "job_id", "job")
                    for name in ("job", "focus", "cancel", "events")
                },
                body=SegmentRequestJson,
                errors=mistakes,
            ),
        },
        "/v1/jobs/{job_id}": {
            "parameters": [job_id],
            "get": _call("job", "The state and progress of a job.", _json(JobJson), errors=(404,)),
            "patch": _call(
                "focus",
                "Move the focus: tiles near it are computed first.",
                _json(JobJson),
                body=FocusJson,
                errors=(400, 404, 413, 422),
            ),
            "delete": _call(
                "cancel",
                "Cancel a job. It stops within one tile; the results so far are kept.",
                _json(JobJson),
                status=202,
                errors=(404,),
            ),
        },
        "/v1/jobs/{job_id}/events": {
            "get": _call(
                "events",
                "Stream all events of a job, past and future. Disconnecting does not stop the job.",
                _STREAM,
                [job_id, after, last_id, dialect, archive],
                errors=(400, 403, 404, 422, 503),
                also=(204,),
            )
        },
        "/v1/segment": {
            "post": _call(
                "segment",
                "Create a job and stream its events. Disconnecting cancels the job.",
                _STREAM,
                [archive],
                body=SegmentRequestJson,
                errors=(*mistakes, 503),
            )
        },
    }


def _segmentations() -> dict[str, Json]:
    save = _call(
        "saveSegmentation",
        "Store a labelmap in the archive of its series; 200 if it is already there.",
        _json(SavedJson),
        status=201,
        body=SaveRequestJson,
        errors=(400, 403, 404, 413, 422, 502),
    )
    assert isinstance(save["responses"], dict)
    save["responses"]["200"] = {
        "description": "The archive already has it.",
        "content": _json(SavedJson),
    }
    return {"/v1/segmentations": {"post": save}}


_STREAM: Json = {
    NDJSON: {"schema": {"$ref": "#/components/schemas/Event", "description": (
        "One event per line. An empty line each second is a heartbeat."
    )}},
    SSE: {"schema": {"$ref": "#/components/schemas/Event", "description": (
        "One event per message, with its `seq` as the id. A comment each second is a heartbeat."
    )}},
}  # fmt: skip

_BYTES: Json = {
    "application/octet-stream": {
        "schema": {"type": "string", "contentMediaType": "application/octet-stream"}
    }
}

_REASONS = {
    200: "Success.",
    201: "Created.",
    202: "Accepted: the job will stop.",
    204: "Success, without a body.",
    400: "Not JSON, a wrong type or an unknown key.",
    401: "No token, or one that is not valid.",
    403: "Not allowed for this caller, or outside the configured roots.",
    404: "Not found.",
    409: "The wrong state: weights are missing, or the key was used with another request.",
    413: "Over a limit.",
    422: "A valid request that this server, image or model cannot fulfil.",
    429: "The queue is full.",
    500: "An error in the server.",
    502: "The archive is down, or refused it.",
    503: "All event streams are in use.",
}


def _call(
    name: str,
    summary: str,
    answer: Json,
    parameters: Sequence[Json] = (),
    *,
    status: int = 200,
    body: type | tuple[type, ...] = (),
    errors: Sequence[int] = (),
    headers: Json | None = None,
    links: Json | None = None,
    public: bool = False,
    also: Sequence[int] = (),
) -> dict[str, object]:
    """Return one operation; `body` is the type or types of the request, `answer` is by media type.

    `status` is that of success, `also` are further statuses without a body.
    """
    problem = {PROBLEM: {"schema": _ref(name_of(ProblemJson))}}
    if not public:
        errors = (401, *errors)
    responses: dict[str, Json] = {
        str(status): {
            "description": _REASONS[status],
            "content": answer,
            **({"headers": headers} if headers else {}),
            **({"links": links} if links else {}),
        },
        **{str(code): {"description": _REASONS[code]} for code in also},
        **{str(code): {"description": _REASONS[code], "content": problem} for code in errors},
        "default": {"description": "Any other problem.", "content": problem},
    }
    operation: dict[str, object] = {"operationId": name, "summary": summary}
    if parameters:
        operation["parameters"] = parameters
    if bodies := body if isinstance(body, tuple) else (body,):
        operation["requestBody"] = {"required": True, "content": _json(*bodies)}
    if public:
        operation["security"] = [{}]
    return {**operation, "responses": responses}


def _link(operation: str, parameter: str, key: str) -> Json:
    """Return a link: `key` of the response is the `parameter` of another operation."""
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


def _header(description: str, *, required: bool = True) -> dict[str, object]:
    return {"description": description, "required": required, "schema": {"type": "string"}}


def _json(*kinds: type) -> dict[str, Json]:
    schemas = [_ref(name_of(kind)) for kind in kinds]
    return {JSON: {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}}


def _ref(name: str) -> dict[str, object]:
    return {"$ref": f"#/components/schemas/{name}"}
