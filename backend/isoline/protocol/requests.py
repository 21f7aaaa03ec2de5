"""What viewers send, from strict JSON to the types of `domain` and back.

Reading refuses what it does not know and names the place: a misspelt key that is silently ignored
would be a wrong result. `docs/protocol.md` is this file in prose; its examples are run as tests.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

import orjson
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from isoline.domain.events import Label, Layer
from isoline.domain.prompts import KINDS, MAX_PROMPTS, DrawnSlice, Kind, Prompt
from isoline.domain.request import SegmentRequest
from isoline.domain.segments import Algorithm, LabelledSlice, SaveRequest, Segment
from isoline.errors import Malformed, TooLarge
from isoline.geometry.grid import XY, Rect
from isoline.geometry.region import Region, brief
from isoline.geometry.volume_grid import SliceName
from isoline.protocol.strict import Expected, StrictModel, expected, read, tag, tagged
from isoline.sources.upload import UploadRequest

MAX_BODY_BYTES = 16 << 20
MAX_TEXT = 4096
MAX_SIDE = 1 << 24
MAX_CHANNELS = 64
MAX_PARAMETERS = 1000
_FAR = 1e300
"""No number is larger: sums and products of a few stay finite."""

Json: TypeAlias = Mapping[str, object]


# --- Values ------------------------------------------------------------------------------------


Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT), Expected("a text")]
Switch = Annotated[bool, Expected("true or false")]
Whole = Annotated[int, Field(ge=0), Expected("a whole number from 0")]
Shade = Annotated[int, Field(ge=0, le=255), Expected("a whole number from 0 to 255")]
LabelNumber = Annotated[int, Field(ge=1, le=255), Expected("a whole number from 1 to 255")]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE), Expected(f"a whole number from 1 to {MAX_SIDE}")]
Number = Annotated[float, Field(gt=-_FAR, lt=_FAR), Expected("a number")]
Positive = Annotated[float, Field(gt=0, lt=_FAR), Expected("a number above 0")]
NotNegative = Annotated[float, Field(ge=0, lt=_FAR), Expected("a number from 0")]

Pair = Annotated[tuple[Number, Number], Expected("[x, y]")]
Size = Annotated[
    tuple[Side, Side], Expected("[width, height]"), Field(description="Width, height in pixels.")
]
Position = Annotated[
    tuple[Number, ...],
    Field(min_length=2, max_length=3),
    Expected("[x, y], or [x, y, z] in a volume"),
]
VoxelBox = Annotated[
    tuple[Whole, Whole, Whole, Whole],
    Expected("[i0, j0, i1, j1] in voxels"),
    Field(description="i0, j0, i1, j1, half-open."),
]
Color = Annotated[
    tuple[Shade, Shade, Shade],
    Expected("[red, green, blue]"),
    Field(description="Red, green, blue."),
]
Spacing = Annotated[
    Annotated[Positive, tag("number")]
    | Annotated[Annotated[tuple[Positive, Positive], Expected("[x, y]")], tag("pair")],
    Discriminator(tagged(lambda value: "pair" if isinstance(value, list) else "number")),
]
Channel = Annotated[
    Annotated[Text, tag("name")] | Annotated[Whole, tag("index")],
    Discriminator(tagged(lambda value: "name" if isinstance(value, str) else "index")),
]
ParameterValue = Annotated[
    bool | int | float | str, Expected("a number, a text, true or false")
]  # fmt: skip


def _at_most(count: int, what: str) -> BeforeValidator:
    """Return the check that a list or an object is not too long. Raises TooLarge."""

    def check(value: object) -> object:
        if isinstance(value, list | dict) and len(value) > count:
            raise TooLarge(f"{what} has {len(value)} {what}", f"send at most {count}")
        return value

    return BeforeValidator(check)


Parameters = Annotated[
    dict[str, ParameterValue],
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
            "description": "Base64 of LEB128 lengths, beginning with a run of voxels without it.",
        }
    ),
]

Corners = Annotated[
    tuple[Number, Number, Number, Number],
    Expected("[x0, y0, x1, y1] or a GeoJSON geometry"),
    Field(description="x0, y0, x1, y1 in image pixels."),
]


def _outline(value: object, info: ValidationInfo) -> Region:
    return Region.from_geojson(value, info.field_name or "region")


Outline = Annotated[
    Region,
    PlainValidator(_outline),
    WithJsonSchema({"type": "object", "description": "GeoJSON with polygons, in image pixels."}),
]


# --- Objects -----------------------------------------------------------------------------------


class SliceReferenceJson(StrictModel):
    """A slice of a volume by its name."""

    instance: Text = Field(description="SOPInstanceUID.")
    frame: Whole = Field(1, description="From 1.")

    def to_domain(self) -> SliceName:
        return SliceName(self.instance, self.frame)


SliceReference = Annotated[
    Annotated[SliceReferenceJson, tag("name")] | Annotated[Whole, tag("number")],
    Discriminator(tagged(lambda value: "name" if isinstance(value, dict) else "number")),
]


class PromptJson(StrictModel):
    """One gesture."""

    kind: Annotated[Kind, Expected(" or ".join(f'"{kind}"' for kind in KINDS))]
    points: Annotated[list[Position], Expected("a list of positions")] = Field(
        description="One position, two corners of a box, a way, or corners.",
        json_schema_extra={"minItems": 1},
    )
    include: Switch = Field(True, description="Whether it is on the object.")

    def to_domain(self) -> Prompt:
        return Prompt(self.kind, tuple(self.points), self.include)


Prompts = Annotated[
    list[PromptJson],
    Expected("a list of prompts"),
    _at_most(MAX_PROMPTS, "prompts"),
    Field(json_schema_extra={"maxItems": MAX_PROMPTS}),
]


class DrawnSliceJson(StrictModel):
    """One slice of a mask to start from."""

    slice: SliceReference
    box: VoxelBox
    runs: Runs

    def to_domain(self) -> DrawnSlice:
        return DrawnSlice(_slice(self.slice), self.box, self.runs)


class DrawnSlicesJson(StrictModel):
    """A mask of a volume to start from."""

    slices: Annotated[list[DrawnSliceJson], Expected("a list of slices")]


def _initial_kind(value: object) -> str:
    if isinstance(value, dict) and "slices" in value:
        return "slices"
    return "corners" if isinstance(value, list) else "outline"


RegionOrCorners = Annotated[
    Annotated[Corners, tag("corners")] | Annotated[Outline, tag("outline")],
    Discriminator(tagged(lambda value: "corners" if isinstance(value, list) else "outline")),
]
Initial = Annotated[
    Annotated[Corners, tag("corners")]
    | Annotated[Outline, tag("outline")]
    | Annotated[DrawnSlicesJson, tag("slices")],
    Discriminator(tagged(_initial_kind)),
]


class SegmentRequestJson(StrictModel):
    """What `POST /v1/jobs` and `POST /v1/segment` take."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
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
        }
    )

    image: Text = Field(description="As `/v1/images` lists it.")
    model: Text = Field(description="As `/v1/models` lists it.")
    region: RegionOrCorners | None = Field(None, description="Null: the whole image.")
    focus: Pair | None = Field(None, description="Where the user looks: tiles near it run first.")
    parameters: Parameters | None = Field(
        None, description="Of the model; what is left out has its default."
    )
    tile: Whole | None = Field(None, description="Side of a tile in working pixels.")
    spacing_um: Spacing | None = Field(
        None, description="Micrometres per pixel, where the file does not say."
    )
    at_um: Positive | None = Field(None, description="Working resolution in micrometres per pixel.")
    channel: (
        Annotated[
            list[Channel], Field(min_length=1), Expected("a list of channel names or indices")
        ]
        | None
    ) = Field(None, description="Channels by name or index.")
    z: Whole | None = Field(None, description="Plane of a stack.")
    slice: SliceReference | None = Field(None, description="Where the user looks in a volume.")
    prompts: Prompts | None = Field(None, description="What points at the one object.")
    frame_of_reference: Text | None = Field(
        None, description="Of prompts in LPS millimetres; null: they are in voxels or pixels."
    )
    initial: Initial | None = Field(
        None, description="What prompts correct: as region, or slices of a volume."
    )
    keep: Switch | None = Field(
        None,
        description="Whether the answer to prompts by `/v1/segment` is kept as a job; by default "
        "it is not. Jobs are always kept.",
    )
    image_size: Size | None = Field(
        None, description="What the viewer shows: a file of another size is refused as WrongImage."
    )
    format: Text | None = Field(
        None, description='The dialect of the features; "geojson" by default.'
    )
    simplify_px: NotNegative | None = Field(
        None, description="How far outlines may stray; null: not at all."
    )

    def to_domain(self) -> SegmentRequest:
        """Return what is asked for. Raises BadRegion."""
        return SegmentRequest(
            image=self.image,
            model=self.model,
            region=_region(self.region),
            focus=None if self.focus is None else XY(*self.focus),
            parameters=self.parameters or {},
            tile=self.tile,
            spacing_um=_spacing(self.spacing_um),
            at_um=self.at_um,
            channel=None if self.channel is None else tuple(self.channel),
            z=self.z,
            slice=None if self.slice is None else _slice(self.slice),
            prompts=tuple(prompt.to_domain() for prompt in self.prompts or ()),
            frame_of_reference=self.frame_of_reference,
            initial=_initial(self.initial),
            keep=bool(self.keep),
            image_size=self.image_size,
            format=self.format or "geojson",
            simplify_px=self.simplify_px,
        )


REQUEST_KEYS = tuple(SegmentRequestJson.model_fields)


class UploadPurposeJson(SegmentRequestJson):
    """What an upload is for."""

    model_config = ConfigDict(json_schema_extra={})

    image: Text = Field("upload:", description="Not looked at: it is what is uploaded.")


def _different(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise expected("names that differ")
    return names


class UploadRequestJson(StrictModel):
    """What `POST /v1/uploads` takes."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "size": [31872, 13835],
                    "spacing_um": [0.2457, 0.2457],
                    "request": {"model": "nuclei", "region": [4000, 5000, 6048, 7048]},
                }
            ]
        }
    )

    size: Size
    spacing_um: Spacing | None = Field(None, description="Micrometres per pixel.")
    channels: Annotated[
        list[Text],
        Field(min_length=1, max_length=MAX_CHANNELS, json_schema_extra={"uniqueItems": True}),
        Expected(f"a list of 1 to {MAX_CHANNELS} names"),
        AfterValidator(_different),
    ] = Field(["red", "green", "blue"])
    dtype: Annotated[Literal["uint8", "uint16"], Expected('"uint8" or "uint16"')] = "uint8"
    is_slide: Switch = Field(True, description="Whether there is glass around the tissue.")
    request: UploadPurposeJson

    def to_domain(self) -> UploadRequest:
        """Return what is announced. Raises BadRegion."""
        return UploadRequest(
            size=self.size,
            request=self.request.to_domain(),
            spacing_um=_spacing(self.spacing_um),
            channels=tuple(self.channels),
            dtype=self.dtype,
            is_slide=self.is_slide,
        )


class AnatomyCodeJson(StrictModel):
    """What a segment is in SNOMED CT."""

    code: Text
    meaning: Text


class AlgorithmJson(StrictModel):
    """What found a segment, as `started` says it."""

    model: Text
    version: Text


class SegmentJson(StrictModel):
    """One label of a labelmap and how it came about."""

    label: LabelNumber
    name: Text
    color: Color
    anatomy: AnatomyCodeJson | None = None
    algorithm: AlgorithmJson | None = Field(None, description="Without one a person drew it.")
    edited: Switch = Field(False, description="Whether a person changed what the algorithm found.")

    def to_domain(self) -> tuple[int, Segment]:
        by, what = self.algorithm, self.anatomy
        anatomy = None if what is None else (what.code, what.meaning)
        algorithm = None if by is None else Algorithm(by.model, by.version)
        return self.label, Segment(Label(self.name, self.color, anatomy), algorithm, self.edited)


class LabelledLayerJson(StrictModel):
    """One label in one slice."""

    label: LabelNumber
    box: VoxelBox
    runs: Runs

    def to_domain(self) -> Layer:
        return Layer(self.label, self.box, self.runs)


class LabelledSliceJson(StrictModel):
    """What is on one slice, as in a mask event."""

    instance: Text = Field(description="SOPInstanceUID.")
    frame: Whole = Field(1, description="From 1.")
    k: object = Field(None, description="Not looked at.")
    layers: Annotated[list[LabelledLayerJson], Expected("a list of layers")]

    def to_domain(self) -> LabelledSlice:
        layers = tuple(layer.to_domain() for layer in self.layers)
        return LabelledSlice(SliceName(self.instance, self.frame), layers)


class SaveRequestJson(StrictModel):
    """What `POST /v1/segmentations` takes."""

    image: Text = Field(description="`dicomweb:SOURCE/STUDY/SERIES`")
    segments: Annotated[list[SegmentJson], Field(min_length=1), Expected("a list of segments")]
    slices: Annotated[list[LabelledSliceJson], Expected("a list of slices")] = Field(
        description="Those that are not given are empty."
    )
    format: Text | None = Field(
        None, description="`dicomseg` (the default), `dicomseg-labelmap` or `rtstruct`."
    )
    description: Text | None = Field(None, description='SeriesDescription; "isoline" by default.')

    def to_domain(self) -> SaveRequest:
        return SaveRequest(
            image=self.image,
            segments=tuple(segment.to_domain() for segment in self.segments),
            slices=tuple(each.to_domain() for each in self.slices),
            format=self.format or "dicomseg",
            description=self.description or "isoline",
        )


class FocusJson(StrictModel):
    """Where the user looks now: a point of the image, or a slice of a volume."""

    model_config = ConfigDict(
        json_schema_extra={
            "minProperties": 1,
            "maxProperties": 1,
            "examples": [{"focus": [12000, 9000]}, {"slice": 91}],
        }
    )

    focus: Pair | SkipJsonSchema[None] = None
    slice: SliceReference | SkipJsonSchema[None] = None

    @model_validator(mode="after")
    def _say_one(self) -> FocusJson:
        if len(self.model_fields_set) != 1 or (self.focus is None and self.slice is None):
            raise Malformed(
                "the body has to have either 'focus' or 'slice'",
                'send {"focus": [x, y]}, in image pixels, or {"slice": k} for a volume',
            )
        return self


def _region(given: tuple[float, float, float, float] | Region | None) -> Region | None:
    return Region.rectangle(*given) if isinstance(given, tuple) else given


def _initial(
    given: tuple[float, float, float, float] | Region | DrawnSlicesJson | None,
) -> Region | tuple[DrawnSlice, ...] | None:
    if isinstance(given, DrawnSlicesJson):
        return tuple(drawn.to_domain() for drawn in given.slices)
    return _region(given)


def _slice(given: SliceReferenceJson | int) -> SliceName | int:
    return given if isinstance(given, int) else given.to_domain()


def _spacing(given: float | tuple[float, float] | None) -> XY | None:
    if given is None:
        return None
    return XY(*given) if isinstance(given, tuple) else XY(given, given)


# --- Reading -----------------------------------------------------------------------------------


def parse_request(body: bytes) -> SegmentRequest:
    """Return the request that `body` spells in JSON.

    Raises TooLarge, Malformed with the place in the body, or BadRegion.
    """
    return request_of(_json_in(body))


def request_of(value: object) -> SegmentRequest:
    """Return the request that parsed JSON says. Raises TooLarge, Malformed or BadRegion."""
    return read(SegmentRequestJson, value, "the request").to_domain()


def parse_upload(body: bytes) -> UploadRequest:
    """Return the upload that `body` announces. Raises TooLarge, Malformed or BadRegion."""
    return read(UploadRequestJson, _json_in(body), "the upload").to_domain()


def parse_save(body: bytes) -> SaveRequest:
    """Return the labelmap that `body` asks to keep. Raises TooLarge or Malformed."""
    return read(SaveRequestJson, _json_in(body), "the body").to_domain()


def parse_focus(body: bytes) -> XY | SliceName | int:
    """Return the image point in `{"focus": [x, y]}`, or the slice in `{"slice": ...}`.

    Raises TooLarge or Malformed.
    """
    given = read(FocusJson, _json_in(body), "the body")
    if given.focus is not None:
        return XY(*given.focus)
    assert given.slice is not None, "FocusJson has one of the two"
    return _slice(given.slice)


def parse_box(text: str | None) -> Rect:
    """Return the image rectangle in a query's `X0,Y0,X1,Y1`. Raises Malformed."""
    numbers = re.fullmatch(r"{0},{0},{0},{0}".format(r"(-?\d{1,9}(?:\.\d{1,9})?)"), text or "")
    if numbers is None:
        raise _wrong("box", "X0,Y0,X1,Y1 in image pixels", text)
    return Rect(*map(float, numbers.groups()))


def parse_integer(text: str, where: str, low: int, high: int) -> int:
    """Return the whole number in a query's value `text`. Raises Malformed outside its bounds."""
    if re.fullmatch(r"-?[0-9]{1,18}", text) is None or not low <= int(text) <= high:
        raise _wrong(where, f"a whole number from {low} to {high}", text)
    return int(text)


def _json_in(body: bytes) -> object:
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


# --- And back ----------------------------------------------------------------------------------


def request_json(request: SegmentRequest) -> Json:
    """Return what `request_of` turns back into `request`."""
    everything = {
        "image": request.image,
        "model": request.model,
        "region": request.region and request.region.to_geojson(),
        "focus": request.focus and [*request.focus],
        "parameters": dict(request.parameters) or None,
        "tile": request.tile,
        "spacing_um": request.spacing_um and [*request.spacing_um],
        "at_um": request.at_um,
        "channel": request.channel and [*request.channel],
        "z": request.z,
        "slice": _slice_json(request.slice),
        "prompts": [prompt_json(prompt) for prompt in request.prompts] or None,
        "frame_of_reference": request.frame_of_reference,
        "initial": _initial_json(request.initial),
        "keep": request.keep or None,
        "image_size": request.image_size and [*request.image_size],
        "format": request.format,
        "simplify_px": request.simplify_px,
    }
    return {key: value for key, value in everything.items() if value is not None}


def prompt_json(prompt: Prompt) -> Json:
    """Return what `PromptJson` turns back into `prompt`."""
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
