"""The requests of viewers: strict JSON to the types of `domain` and back.

Unknown keys are refused, and the error gives their location: silently ignoring a misspelt key would
change the result. `docs/protocol.md` describes the same requests in prose; its examples are tested.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import orjson
from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationInfo,
    WithJsonSchema,
)
from typing_extensions import NotRequired, TypedDict, get_type_hints

from isoline.domain.events import Label, Layer
from isoline.domain.prompts import KINDS, MAX_PROMPTS, DrawnSlice, Prompt, PromptKind
from isoline.domain.request import SegmentRequest
from isoline.domain.segments import Algorithm, LabelledSlice, SaveRequest, Segment
from isoline.errors import Malformed, TooLarge
from isoline.geometry.grid import XY, Rect
from isoline.geometry.region import Region, brief
from isoline.geometry.volume_grid import SliceName
from isoline.protocol.strict import Expected, Reads, expected, read, strict, tag, tagged
from isoline.protocol.values import (
    Color,
    Corners,
    Flag,
    LabelNumber,
    NotNegative,
    Pair,
    Position,
    Positive,
    Size,
    Text,
    VoxelBox,
    Whole,
)

MAX_BODY_BYTES = 16 << 20
MAX_PARAMETERS = 1000

Json: TypeAlias = Mapping[str, object]


# --- Values ------------------------------------------------------------------------------------


Point = Annotated[XY, Reads(Pair, lambda pair: XY(*pair))]
Spacing = Annotated[
    Annotated[XY, Reads(Positive, lambda both: XY(both, both)), tag("number")]
    | Annotated[
        XY,
        Reads(Annotated[tuple[Positive, Positive], Expected("[x, y]")], lambda pair: XY(*pair)),
        tag("pair"),
    ],
    Discriminator(tagged(lambda value: "pair" if isinstance(value, list) else "number")),
]
Channel = Annotated[
    Annotated[Text, tag("name")] | Annotated[Whole, tag("index")],
    Discriminator(tagged(lambda value: "name" if isinstance(value, str) else "index")),
]
Channels = Annotated[
    tuple[str | int, ...],
    Reads(
        Annotated[
            list[Channel], Field(min_length=1), Expected("a list of channel names or indices")
        ],
        tuple,
    ),
]


def _at_most(count: int, what: str) -> BeforeValidator:
    """Return the check that a list or an object is not too long; it raises TooLarge."""

    def check(value: object) -> object:
        if isinstance(value, list | dict) and len(value) > count:
            raise TooLarge(f"the request has {len(value)} {what}", f"send at most {count}")
        return value

    return BeforeValidator(check)


Parameters = Annotated[
    dict[
        str,
        Annotated[bool | int | float | str, Expected("a number, a string, true or false")],
    ],
    Expected("a JSON object"),
    _at_most(MAX_PARAMETERS, "parameters"),
]


def _decoded(value: object) -> bytes:
    try:
        return b64decode(value if isinstance(value, str) else "?", validate=True)
    except ValueError:
        raise expected("runs in base64") from None


Runs = Annotated[
    bytes,
    PlainValidator(_decoded),
    WithJsonSchema(
        {
            "type": "string",
            "contentEncoding": "base64",
            "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
            "description": "Run lengths over `box`, row by row, as base64 of LEB128; the first run "
            "is of voxels without the label.",
        }
    ),
]


def _outline(value: object, info: ValidationInfo) -> Region:
    return Region.from_geojson(value, info.field_name or "region")


Rectangle = Annotated[Region, Reads(Corners, lambda corners: Region.rectangle(*corners))]
Outline = Annotated[
    Region,
    PlainValidator(_outline),
    WithJsonSchema(
        {
            "type": "object",
            "description": "GeoJSON polygons in image pixels.",
            "properties": {
                "type": {
                    "enum": [
                        *("Polygon", "MultiPolygon", "GeometryCollection"),
                        *("Feature", "FeatureCollection"),
                    ]
                }
            },
            "required": ["type"],
            "additionalProperties": True,
        }
    ),
]
RegionOfInterest = Annotated[
    Annotated[Rectangle, tag("corners")] | Annotated[Outline, tag("outline")],
    Discriminator(tagged(lambda value: "corners" if isinstance(value, list) else "outline")),
]


# --- A request ---------------------------------------------------------------------------------


@strict()
class SliceReferenceJson(TypedDict):
    """A slice of a volume, by its name in DICOM."""

    instance: Annotated[Text, Field(description="SOPInstanceUID.")]
    frame: NotRequired[Annotated[Whole, Field(description="Frame number, from 1 (the default).")]]


def _slice_name(given: SliceReferenceJson) -> SliceName:
    return SliceName(given["instance"], given.get("frame", 1))


SliceReference = Annotated[
    Annotated[SliceName, Reads(SliceReferenceJson, _slice_name), tag("name")]
    | Annotated[Whole, tag("number")],
    Discriminator(tagged(lambda value: "name" if isinstance(value, dict) else "number")),
]


@strict()
class PromptJson(TypedDict):
    """One mark that the user drew to indicate the object."""

    kind: Annotated[PromptKind, Expected(" or ".join(f'"{kind}"' for kind in KINDS))]
    points: Annotated[
        list[Position],
        Expected("a list of positions"),
        Field(
            description="One position for a point, two opposite corners for a box (or all four of "
            "its plane in a volume), the positions along a scribble, or the corners of a polygon.",
            json_schema_extra={"minItems": 1},
        ),
    ]
    include: NotRequired[
        Annotated[Flag, Field(description="Whether it is on the object; true by default.")]
    ]


def _prompt(given: PromptJson) -> Prompt:
    return Prompt(given["kind"], tuple(given["points"]), given.get("include", True))


Prompts = Annotated[
    tuple[Prompt, ...],
    Reads(
        Annotated[
            list[Annotated[Prompt, Reads(PromptJson, _prompt)]], Expected("a list of prompts")
        ],
        tuple,
    ),
    _at_most(MAX_PROMPTS, "prompts"),
    Field(json_schema_extra={"maxItems": MAX_PROMPTS}),
]


@strict()
class DrawnSliceJson(TypedDict):
    """One slice of a mask to start from."""

    slice: SliceReference
    box: VoxelBox
    runs: Runs


def _drawn_slice(given: DrawnSliceJson) -> DrawnSlice:
    return DrawnSlice(given["slice"], given["box"], given["runs"])


@strict()
class DrawnSlicesJson(TypedDict):
    """A mask of a volume to start from."""

    slices: Annotated[
        list[Annotated[DrawnSlice, Reads(DrawnSliceJson, _drawn_slice)]],
        Expected("a list of slices"),
    ]


def _initial_kind(value: object) -> str:
    if isinstance(value, dict) and "slices" in value:
        return "slices"
    return "corners" if isinstance(value, list) else "outline"


Initial = Annotated[
    Annotated[Rectangle, tag("corners")]
    | Annotated[Outline, tag("outline")]
    | Annotated[
        tuple[DrawnSlice, ...],
        Reads(DrawnSlicesJson, lambda given: tuple(given["slices"])),
        tag("slices"),
    ],
    Discriminator(tagged(_initial_kind)),
]


MAX_REPLACED = 10_000

Replaces = Annotated[
    Annotated[Text, tag("job")]
    | Annotated[
        tuple[str, ...],
        Reads(
            Annotated[
                list[
                    Annotated[
                        str,
                        Field(pattern="^([0-9a-f]{24}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$"),
                        Expected("the id of a feature"),
                    ]
                ],
                Expected("a list of ids"),
            ],
            tuple,
        ),
        _at_most(MAX_REPLACED, "ids in replaces"),
        Field(json_schema_extra={"maxItems": MAX_REPLACED}),
        tag("features"),
    ],
    Discriminator(tagged(lambda value: "features" if isinstance(value, list) else "job")),
]


class OptionsJson(TypedDict, total=False):
    """The optional keys of a request; null is the same as omitting a key."""

    region: Annotated[
        RegionOfInterest | None, Field(description="In image pixels; the whole image by default.")
    ]
    focus: Annotated[
        Point | None,
        Field(description="Where the user is looking: the nearest tiles are computed first."),
    ]
    parameters: Annotated[
        Parameters | None,
        Field(description="Parameters of the model; those omitted have their defaults."),
    ]
    tile: Annotated[Whole | None, Field(description="Side of a tile in working pixels.")]
    spacing_um: Annotated[
        Spacing | None,
        Field(description="Micrometres per image pixel, if the file does not give it."),
    ]
    override_spacing: Annotated[
        Flag | None,
        Field(description="Whether `spacing_um` counts even if the file gives another value."),
    ]
    at_um: Annotated[
        Positive | None, Field(description="Working resolution in micrometres per pixel.")
    ]
    channel: Annotated[Channels | None, Field(description="Channels by name or index.")]
    z: Annotated[Whole | None, Field(description="Plane of a stack, from 0.")]
    series: Annotated[
        Channel | None,
        Field(description="Image of a file that contains several, by name or index from 0."),
    ]
    slice: Annotated[
        SliceReference | None, Field(description="Where the user is looking in a volume.")
    ]
    prompts: Annotated[
        Prompts | None, Field(description="What the user drew to indicate one object.")
    ]
    frame_of_reference: Annotated[
        Text | None,
        Field(
            description="FrameOfReferenceUID of prompts in LPS millimetres; without it they are in "
            "voxels or image pixels."
        ),
    ]
    initial: Annotated[
        Initial | None,
        Field(
            description="The result for the prompts to correct: an outline as in `region`, or "
            "slices of a volume."
        ),
    ]
    image_size: Annotated[
        Size | None,
        Field(
            description="The size of the image that the viewer shows; a file of another size is "
            "refused as WrongImage."
        ),
    ]
    format: Annotated[
        Text | None,
        Field(
            description='The dialect of results: by default "ohif" for a volume, else "geojson".'
        ),
    ]
    simplify_px: Annotated[
        NotNegative | None,
        Field(
            description="Maximum deviation of a simplified outline, in working pixels; outlines "
            "are exact by default."
        ),
    ]
    keep: Annotated[
        Flag | None,
        Field(
            description="Whether the response to prompts from `/v1/segment` is kept as a job; "
            "false by default. Jobs are always kept."
        ),
    ]
    replaces: Annotated[
        Replaces | None,
        Field(description="The earlier job, or the ids of features, that the results replace."),
    ]


class _Named(TypedDict):
    image: Annotated[Text, Field(description="As `/v1/images` lists it.")]
    model: Annotated[Text, Field(description="As `/v1/models` lists it.")]


@strict(
    examples=[
        {
            "image": "slides/a.svs",
            "model": "nuclei",
            "region": [4000, 5000, 8096, 9096],
            "focus": [6000, 7000],
        },
        {
            "image": "slides/a.svs",
            "model": "click",
            "prompts": [{"kind": "point", "points": [[4512.5, 5210.0]]}],
            "keep": True,
        },
    ]
)
class SegmentRequestJson(_Named, OptionsJson):
    """The body of `POST /v1/jobs` and `POST /v1/segment`."""


def _segment_request(given: Mapping[str, Any]) -> SegmentRequest:
    return SegmentRequest(**{key: value for key, value in given.items() if value is not None})


_SEGMENT_REQUEST = TypeAdapter[SegmentRequest](
    Annotated[SegmentRequest, Reads(SegmentRequestJson, _segment_request)]
)
REQUEST_KEYS = tuple(get_type_hints(SegmentRequestJson))


# --- The request of an upload -------------------------------------------------------------------


class _Wanted(TypedDict):
    model: Annotated[Text, Field(description="As `/v1/models` lists it.")]
    image: NotRequired[Annotated[Text, Field(description="Ignored: the image is the upload.")]]


@strict()
class UploadPurposeJson(_Wanted, OptionsJson):
    """The request that an upload is for."""


def _upload_purpose(given: Mapping[str, Any]) -> SegmentRequest:
    return _segment_request({"image": "upload:", **given})


UploadPurpose = Annotated[SegmentRequest, Reads(UploadPurposeJson, _upload_purpose)]


# --- A labelmap to keep ------------------------------------------------------------------------


@strict()
class AnatomyCodeJson(TypedDict):
    """The anatomical structure of a segment, as a code of SNOMED CT."""

    code: Text
    meaning: Text


@strict()
class AlgorithmJson(TypedDict):
    """The model that found a segment, as in the `started` event."""

    model: Text
    version: Text


def _algorithm(given: AlgorithmJson) -> Algorithm:
    return Algorithm(given["model"], given["version"])


@strict()
class SegmentJson(TypedDict):
    """One label of a labelmap, and its origin."""

    label: LabelNumber
    name: Text
    color: Color
    anatomy: NotRequired[
        Annotated[
            tuple[str, str],
            Reads(AnatomyCodeJson, lambda given: (given["code"], given["meaning"])),
        ]
        | None
    ]
    algorithm: NotRequired[
        Annotated[
            Annotated[Algorithm, Reads(AlgorithmJson, _algorithm)] | None,
            Field(description="The model that found it; without one, a person drew it."),
        ]
    ]
    edited: NotRequired[
        Annotated[Flag, Field(description="Whether a person changed what the algorithm found.")]
    ]


def _segment(given: SegmentJson) -> tuple[int, Segment]:
    label = Label(given["name"], given["color"], given.get("anatomy"))
    return given["label"], Segment(label, given.get("algorithm"), given.get("edited", False))


@strict()
class LabelledLayerJson(TypedDict):
    """The voxels of one label in one slice."""

    label: LabelNumber
    box: VoxelBox
    runs: Runs


def _layer(given: LabelledLayerJson) -> Layer:
    return Layer(given["label"], given["box"], given["runs"])


@strict()
class LabelledSliceJson(TypedDict):
    """The labels of one slice, as in a mask event."""

    instance: Annotated[Text, Field(description="SOPInstanceUID.")]
    frame: NotRequired[Annotated[Whole, Field(description="Frame number, from 1 (the default).")]]
    k: NotRequired[Annotated[object, Field(description="Ignored.")]]
    layers: Annotated[
        list[Annotated[Layer, Reads(LabelledLayerJson, _layer)]], Expected("a list of layers")
    ]


def _labelled_slice(given: LabelledSliceJson) -> LabelledSlice:
    name = SliceName(given["instance"], given.get("frame", 1))
    return LabelledSlice(name, tuple(given["layers"]))


@strict()
class SaveRequestJson(TypedDict):
    """The body of `POST /v1/segmentations`."""

    image: Annotated[Text, Field(description="`dicomweb:SOURCE/STUDY/SERIES`")]
    segments: Annotated[
        list[Annotated[tuple[int, Segment], Reads(SegmentJson, _segment)]],
        Field(min_length=1),
        Expected("a list of segments"),
    ]
    slices: Annotated[
        list[Annotated[LabelledSlice, Reads(LabelledSliceJson, _labelled_slice)]],
        Expected("a list of slices"),
        Field(description="Slices that are not listed are empty."),
    ]
    format: NotRequired[
        Annotated[
            Text | None,
            Field(description="`dicomseg` (the default), `dicomseg-labelmap` or `rtstruct`."),
        ]
    ]
    description: NotRequired[
        Annotated[Text | None, Field(description='SeriesDescription; "isoline" by default.')]
    ]


def _save_request(given: SaveRequestJson) -> SaveRequest:
    return SaveRequest(
        image=given["image"],
        segments=tuple(given["segments"]),
        slices=tuple(given["slices"]),
        format=given.get("format") or "dicomseg",
        description=given.get("description") or "isoline",
    )


_SAVE_REQUEST = TypeAdapter[SaveRequest](
    Annotated[SaveRequest, Reads(SaveRequestJson, _save_request)]
)


# --- The focus ---------------------------------------------------------------------------------


@strict(minProperties=1, maxProperties=1, examples=[{"focus": [12000, 9000]}, {"slice": 91}])
class FocusJson(TypedDict, total=False):
    """Where the user is looking now: a point of the image, or a slice of a volume."""

    focus: Point
    slice: SliceReference


def _focus(given: FocusJson) -> XY | SliceName | int:
    match given:
        case {"focus": focus, **rest} if not rest:
            return focus
        case {"slice": slice_, **rest} if not rest:
            return slice_
    raise Malformed(
        "the body must have either 'focus' or 'slice'",
        'send {"focus": [x, y]}, in image pixels, or {"slice": k} for a volume',
    )


_FOCUS = TypeAdapter[XY | SliceName | int](
    Annotated[XY | SliceName | int, Reads(FocusJson, _focus)]
)


# --- Parsing -----------------------------------------------------------------------------------


def parse_request(body: bytes) -> SegmentRequest:
    """Parse the body of a request.

    Raises TooLarge, Malformed, which gives the location in the body, or BadRegion.
    """
    return request_of(json_in(body))


def request_of(value: object) -> SegmentRequest:
    """Return the request in parsed JSON. Raises TooLarge, Malformed or BadRegion."""
    return read(_SEGMENT_REQUEST, value, "the request")


def parse_save(body: bytes) -> SaveRequest:
    """Parse the body that stores a labelmap. Raises TooLarge or Malformed."""
    return read(_SAVE_REQUEST, json_in(body), "the body")


def parse_focus(body: bytes) -> XY | SliceName | int:
    """Return the image point in `{"focus": [x, y]}`, or the slice in `{"slice": ...}`.

    Raises TooLarge or Malformed.
    """
    return read(_FOCUS, json_in(body), "the body")


def parse_key(text: str) -> str:
    """Validate and return an Idempotency-Key; empty means none. Raises Malformed."""
    if text and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text) is None:
        raise _wrong("Idempotency-Key", "up to 64 letters, digits, '-' and '_'", text[:80])
    return text


def parse_box(text: str | None) -> Rect:
    """Return the image rectangle in a query's `X0,Y0,X1,Y1`. Raises Malformed."""
    numbers = re.fullmatch(r"{0},{0},{0},{0}".format(r"(-?\d{1,9}(?:\.\d{1,20})?)"), text or "")
    if numbers is None:
        raise _wrong("box", "X0,Y0,X1,Y1 in image pixels", text)
    return Rect(*map(float, numbers.groups()))


def parse_integer(text: str, where: str, low: int, high: int) -> int:
    """Return the whole number in `text`, the value of the query parameter `where`.

    Raises Malformed if it is not a whole number from `low` to `high`.
    """
    if re.fullmatch(r"-?[0-9]{1,18}", text) is None or not low <= int(text) <= high:
        raise _wrong(where, f"a whole number from {low} to {high}", text)
    return int(text)


def json_in(body: bytes) -> object:
    """Return the parsed JSON of `body`. Raises TooLarge or Malformed."""
    if len(body) > MAX_BODY_BYTES:
        raise TooLarge(
            f"the body has {len(body)} bytes", f"send at most {MAX_BODY_BYTES}: simplify the region"
        )
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error}", "send one JSON object in UTF-8") from None


def _wrong(where: str, what: str, value: object) -> Malformed:
    return Malformed(f"{where}: expected {what}, got {brief(value)}")


# --- Serialising -------------------------------------------------------------------------------


def request_json(request: SegmentRequest) -> Json:
    """Return the JSON of `request`; the inverse of `request_of`."""
    everything = {
        "image": request.image,
        "model": request.model,
        "region": request.region and request.region.to_geojson(),
        "focus": request.focus and [*request.focus],
        "parameters": dict(request.parameters) or None,
        "tile": request.tile,
        "spacing_um": request.spacing_um and [*request.spacing_um],
        "override_spacing": request.override_spacing or None,
        "at_um": request.at_um,
        "channel": request.channel and [*request.channel],
        "z": request.z,
        "series": request.series,
        "slice": _slice_json(request.slice),
        "prompts": [prompt_json(prompt) for prompt in request.prompts] or None,
        "frame_of_reference": request.frame_of_reference,
        "initial": _initial_json(request.initial),
        "image_size": request.image_size and [*request.image_size],
        "format": request.format,
        "simplify_px": request.simplify_px,
        "keep": request.keep or None,
        "replaces": (
            request.replaces if isinstance(request.replaces, str) else [*request.replaces] or None
        ),
    }
    return {key: value for key, value in everything.items() if value is not None}


def prompt_json(prompt: Prompt) -> Json:
    """Return the JSON of `prompt`, as described by `PromptJson`."""
    points = [[*point] for point in prompt.points]
    return {"kind": prompt.kind, "points": points, "include": prompt.include}


def _initial_json(initial: Region | tuple[DrawnSlice, ...] | None) -> Json | None:
    if initial is None:
        return None
    if isinstance(initial, Region):
        return initial.to_geojson()
    slices = [
        {
            "slice": _slice_json(drawn.slice),
            "box": [*drawn.box],
            "runs": b64encode(drawn.runs).decode("ascii"),
        }
        for drawn in initial
    ]
    return {"slices": slices}


def _slice_json(name: SliceName | int | None) -> object:
    return name._asdict() if isinstance(name, SliceName) else name
