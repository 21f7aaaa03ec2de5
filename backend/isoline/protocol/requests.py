"""Strict JSON to types, and events to JSON: what travels between a viewer and isoline.

Reading refuses what it does not know and names the place: a misspelt key that is silently ignored
would be a wrong result. `docs/protocol.md` is this file in prose; its examples are run as tests.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from difflib import get_close_matches
from typing import TypeAlias, TypeVar

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
    Layer,
    Mask,
    Progress,
    Started,
    Warned,
)
from isoline.domain.prompts import KINDS, MAX_PROMPTS, DrawnSlice, Prompt
from isoline.domain.request import SegmentRequest, Value
from isoline.domain.segments import Algorithm, LabelledSlice, Saved, SaveRequest, Segment
from isoline.errors import IsolineError, Malformed, TooLarge
from isoline.exports.base import Encoder, scope_key
from isoline.geometry.grid import XY, Rect
from isoline.geometry.region import Region, brief
from isoline.geometry.volume_grid import SliceName, VolumeInfo
from isoline.models.base import (
    Choice,
    ModelSpec,
    Number,
    Parameter,
    Switch,
)
from isoline.protocol.problems import http_status
from isoline.sources.base import ImageInfo
from isoline.sources.upload import Manifest, UploadRequest

MAX_BODY_BYTES = 16 << 20
MAX_TEXT = 4096
MAX_SIDE = 1 << 24
MAX_CHANNELS = 64

Json: TypeAlias = Mapping[str, object]
T = TypeVar("T")

REQUEST_KEYS = (
    "image", "model", "region", "focus", "parameters", "tile", "spacing_um", "at_um", "channel",
    "z", "slice", "prompts", "frame_of_reference", "initial", "image_size", "format", "simplify_px",
    "keep",
)  # fmt: skip
_SAVE_KEYS = ("image", "segments", "slices", "format", "description")
_SEGMENT_KEYS = ("label", "name", "color", "anatomy", "algorithm", "edited")
_UPLOAD_KEYS = ("size", "spacing_um", "channels", "dtype", "is_slide", "request")


# Requests


def parse_request(body: bytes) -> SegmentRequest:
    """Return the request that `body` spells in JSON.

    Raises TooLarge, Malformed with the place in the body, or BadRegion.
    """
    return request_of(_object_in(body))


def request_of(value: object) -> SegmentRequest:
    """Return the request that parsed JSON says. Raises Malformed or BadRegion."""
    given = _object(value, "the request", REQUEST_KEYS)
    for key in ("image", "model"):
        if key not in given:
            raise Malformed(f"the request has no {key!r}", f'add "{key}": "NAME"')

    def maybe(key: str, read: Callable[[object, str], T]) -> T | None:
        return None if given.get(key) is None else read(given[key], key)

    return SegmentRequest(
        image=_text(given["image"], "image"),
        model=_text(given["model"], "model"),
        region=maybe("region", region_of),
        focus=maybe("focus", _pair),
        parameters=maybe("parameters", _parameters) or {},
        tile=maybe("tile", _whole),
        spacing_um=maybe("spacing_um", _spacing),
        at_um=maybe("at_um", _positive),
        channel=maybe("channel", _channels),
        z=maybe("z", _whole),
        slice=maybe("slice", _slice),
        prompts=maybe("prompts", prompts_of) or (),
        frame_of_reference=maybe("frame_of_reference", _text),
        initial=maybe("initial", _initial),
        image_size=maybe("image_size", _size),
        format=maybe("format", _text) or "geojson",
        simplify_px=maybe("simplify_px", _not_negative),
        keep=maybe("keep", _flag) or False,
    )


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
        "image_size": request.image_size and [*request.image_size],
        "format": request.format,
        "simplify_px": request.simplify_px,
        "keep": request.keep or None,
    }
    return {key: value for key, value in everything.items() if value is not None}


def parse_upload(body: bytes) -> UploadRequest:
    """Return the upload that `body` announces. Raises TooLarge, Malformed or BadRegion."""
    given = _object(_object_in(body), "the upload", _UPLOAD_KEYS)
    for key in ("size", "request"):
        if key not in given:
            raise Malformed(f"the upload has no {key!r}", f"known keys: {', '.join(_UPLOAD_KEYS)}")
    wanted = _object(given["request"], "request", REQUEST_KEYS)
    spacing = given.get("spacing_um")
    channels = given.get("channels", ["red", "green", "blue"])
    if not isinstance(channels, list) or not 0 < len(channels) <= MAX_CHANNELS:
        raise _wrong("channels", f"a list of 1 to {MAX_CHANNELS} names", channels)
    names = tuple(_text(name, f"channels[{k}]") for k, name in enumerate(channels))
    if len(set(names)) < len(names):
        raise _wrong("channels", "names that differ", channels)
    dtype = given.get("dtype", "uint8")
    if dtype not in ("uint8", "uint16"):
        raise _wrong("dtype", '"uint8" or "uint16"', dtype)
    is_slide = given.get("is_slide", True)
    if not isinstance(is_slide, bool):
        raise _wrong("is_slide", "true or false", is_slide)
    return UploadRequest(
        size=_size(given["size"], "size"),
        request=request_of({"image": "upload:", **wanted}),
        spacing_um=None if spacing is None else _spacing(spacing, "spacing_um"),
        channels=names,
        dtype="uint16" if dtype == "uint16" else "uint8",
        is_slide=is_slide,
    )


def parse_save(body: bytes) -> SaveRequest:
    """Return the labelmap that `body` asks to keep. Raises TooLarge or Malformed."""
    given = _object(_object_in(body), "the body", _SAVE_KEYS)
    for key in ("image", "segments", "slices"):
        if key not in given:
            raise Malformed(f"the body has no {key!r}", f"known keys: {', '.join(_SAVE_KEYS)}")
    segments, slices = given["segments"], given["slices"]
    if not isinstance(segments, list) or not segments:
        raise _wrong("segments", "a list of segments", segments)
    if not isinstance(slices, list):
        raise _wrong("slices", "a list of slices", slices)
    return SaveRequest(
        image=_text(given["image"], "image"),
        segments=tuple(_segment(each, f"segments[{k}]") for k, each in enumerate(segments)),
        slices=tuple(_labelled(each, f"slices[{k}]") for k, each in enumerate(slices)),
        format=_text(given.get("format") or "dicomseg", "format"),
        description=_text(given.get("description") or "isoline", "description"),
    )


def saved_json(saved: Saved) -> Json:
    """Return what a viewer needs to find a kept labelmap again."""
    return {
        "study": saved.study,
        "series": saved.series,
        "instance": saved.instance,
        "new": saved.is_new,
    }


def upload_json(upload: str, manifest: Manifest) -> Json:
    """Return what a viewer needs to send the pixels that are wanted."""
    return {
        "upload": upload,
        "image": f"upload:{upload}",
        "tile_px": manifest.tile_px,
        "levels": [
            {"downsample": layer.downsample, "area": list(layer.area)} for layer in manifest.layers
        ],
        "pixels": sum(layer.area.area for layer in manifest.layers),
    }


def parse_focus(body: bytes) -> XY | SliceName | int:
    """Return the image point in `{"focus": [x, y]}`, or the slice in `{"slice": ...}`.

    Raises TooLarge or Malformed.
    """
    given = _object(_object_in(body), "the body", ("focus", "slice"))
    if len(given) != 1:
        raise Malformed(
            "the body has to have either 'focus' or 'slice'",
            'send {"focus": [x, y]}, in image pixels, or {"slice": k} for a volume',
        )
    return _pair(given["focus"], "focus") if "focus" in given else _slice(given["slice"], "slice")


def parse_key(text: str) -> str:
    """Return an Idempotency-Key, empty where there is none. Raises Malformed."""
    if text and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text) is None:
        raise _wrong("Idempotency-Key", "up to 64 letters, digits, '-' and '_'", text[:80])
    return text


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


def region_of(value: object, where: str = "region") -> Region:
    """Return the region that parsed JSON says: [x0, y0, x1, y1] or GeoJSON.

    Raises Malformed or BadRegion.
    """
    if not isinstance(value, list):
        return Region.from_geojson(value, where)
    if len(value) != 4:
        raise _wrong(where, "[x0, y0, x1, y1] or a GeoJSON geometry", value)
    x0, y0, x1, y1 = (_number(value[k], f"{where}[{k}]") for k in range(4))
    return Region.rectangle(x0, y0, x1, y1)


def prompts_of(value: object, where: str = "prompts") -> tuple[Prompt, ...]:
    """Return the prompts that a list of parsed JSON says. Raises Malformed."""
    if not isinstance(value, list):
        raise _wrong(where, "a list of prompts", value)
    if len(value) > MAX_PROMPTS:
        raise TooLarge(f"{where} has {len(value)} prompts", f"send at most {MAX_PROMPTS}")
    return tuple(_prompt(prompt, f"{where}[{k}]") for k, prompt in enumerate(value))


def prompt_json(prompt: Prompt) -> Json:
    """Return what `prompts_of` turns back into `prompt`."""
    points = [[*point] for point in prompt.points]
    return {"kind": prompt.kind, "points": points, "include": prompt.include}


# Answers


def encode_event(seq: int, event: Event, started: Started | None, encoder: Encoder) -> bytes:
    """Return `event` as one JSON object without line breaks, in the dialect of `encoder`.

    `started` is the first event of the same job, which contours and masks need; `seq` is the
    number of the event in it.
    """
    match event:
        case Started():
            return _event(seq, "started", _started(event, encoder))
        case Contours(objects, provisional, replaces):
            assert started is not None, "contours come after the first event"
            keys = {"provisional": provisional, "replaces": _names(replaces, encoder)}
            # the encoder's text is long: it is set in before the last brace, never parsed again
            head = _event(seq, "contours", keys)[:-1]
            features = encoder.features(objects, started, provisional)
            return b'%b,"features":[%b]}' % (head, features)
        case Mask(provisional=provisional):
            assert started is not None, "masks come after the first event"
            head = _event(seq, "mask", {"provisional": provisional})[:-1]
            return b'%b,"slices":[%b]}' % (head, encoder.mask(event, started))
        case Warned(code, message, area):
            corners = area and [area.x0, area.y0, area.x1, area.y1]
            return _event(seq, "warned", {"code": code, "message": message, "area": corners})
        case Progress() | Done() | Failed() | Cancelled():
            return _event(seq, type(event).__name__.lower(), asdict(event))


def problem(error: IsolineError, status: int | None = None) -> bytes:
    """Return the body of an `application/problem+json` answer (RFC 9457)."""
    return orjson.dumps(
        {
            "type": f"urn:isoline:problem:{error.code}",
            "title": re.sub(r"(?<=[a-z])(?=[A-Z])", " ", error.code).capitalize(),
            "status": http_status(error) if status is None else status,
            "detail": error.what,
            "code": error.code,
            "remedy": error.remedy,
        }
    )


def model_json(spec: ModelSpec, problem: str | None = None) -> Json:
    """Return what a viewer needs to offer a model; `problem`: why it cannot run here and now."""
    return {
        "name": spec.name,
        "title": spec.title,
        "description": spec.description,
        "version": spec.version,
        "kind": spec.kind,
        "labels": [_label(label) for label in spec.labels],
        "spacings_um": spec.spacings_um,
        "channels": spec.channels,
        "dimensions": spec.dimensions,
        "tile_px": spec.tile_px,
        "fixed_tile": spec.fixed_tile,
        "prompts": spec.prompts,
        "automatic": spec.output is not None,
        "parameters": [_parameter(parameter) for parameter in spec.parameters],
        "licence": spec.licence,
        "cite": spec.cite,
        "problem": problem,
    }


def image_json(name: str, info: ImageInfo) -> Json:
    """Return what a viewer needs to know of an image."""
    return {
        "name": name,
        "kind": info.kind,
        "reader": info.reader,
        "fingerprint": info.fingerprint,
        "size": info.size,
        "spacing_um": info.spacing_um and [*info.spacing_um],
        "levels": [
            {"size": level.size, "downsample": [*level.downsample]} for level in info.levels
        ],
        "channels": info.channels,
        "dtype": info.dtype.name,
        "z_planes": info.z_planes,
        "problems": info.problems,
        **({"volume": volume_json(info.volume)} if info.volume else {}),
    }


def volume_json(volume: VolumeInfo) -> Json:
    """Return where the voxels of a volume lie, in LPS millimetres, and its slices' names."""
    grid = volume.grid
    return {
        "size": [*grid.size],
        "origin_mm": [*grid.origin_mm],
        "step_i_mm": [*grid.step_i_mm],
        "step_j_mm": [*grid.step_j_mm],
        "step_k_mm": [*grid.step_k_mm],
        "frame_of_reference": grid.frame_of_reference,
        "modality": volume.modality,
        "slices": [name._asdict() for name in volume.slices],
    }


def _event(seq: int, name: str, keys: Json) -> bytes:
    return orjson.dumps({"event": name, "seq": seq, **keys})


def _started(started: Started, encoder: Encoder) -> Json:
    scope, spacing = started.scope, started.spacing_um
    return {
        "job": started.job,
        "image": started.image,
        "image_size": started.grid.image_size,
        "spacing_um": None if spacing is None else [*spacing],
        "z": started.z,
        "model": scope.model,
        "version": scope.version,
        "parameters": dict(scope.parameters),
        "fingerprint": scope.image,
        "scope": scope_key(scope),
        "kind": started.kind,
        "labels": [_label(label) for label in started.labels],
        "scale": [*started.grid.scale],
        "tiles": started.tiles,
        "format": encoder.name,
        **({"volume": volume_json(started.volume)} if started.volume else {}),
    }


def _label(label: Label) -> Json:
    named = {"name": label.name, "color": label.color}
    if label.anatomy is None:
        return named
    code, meaning = label.anatomy
    return {**named, "anatomy": {"code": code, "meaning": meaning}}


def _names(ids: NDArray[np.uint8], encoder: Encoder) -> list[str]:
    return [encoder.id_text(raw.tobytes()) for raw in ids]


def _parameter(parameter: Parameter) -> Json:
    kinds = {Number: "number", Choice: "choice", Switch: "switch"}
    return {"kind": kinds[type(parameter)], **asdict(parameter)}


# Strict reading, a type at a time


def _object_in(body: bytes) -> object:
    if len(body) > MAX_BODY_BYTES:
        raise TooLarge(
            f"the body has {len(body)} bytes", f"send at most {MAX_BODY_BYTES}: simplify the region"
        )
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error}", "send one JSON object in UTF-8") from None


def _object(value: object, where: str, keys: Collection[str]) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise _wrong(where, "a JSON object", value)
    for key in value:
        if key not in keys:
            near = get_close_matches(str(key), keys, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(keys)}"
            raise Malformed(f"{where} has an unknown key {brief(key)}", hint)
    return value


def _parameters(value: object, where: str) -> Mapping[str, Value]:
    if not isinstance(value, dict):
        raise _wrong(where, "a JSON object", value)
    for name, given in value.items():
        if not isinstance(given, float | int | bool | str):
            raise _wrong(f"{where}.{name}", "a number, a text, true or false", given)
    return value


def _channels(value: object, where: str) -> tuple[str | int, ...]:
    if not isinstance(value, list) or not value:
        raise _wrong(where, "a list of channel names or indices", value)
    return tuple(
        _text(channel, f"{where}[{k}]")
        if isinstance(channel, str)
        else _whole(channel, f"{where}[{k}]")
        for k, channel in enumerate(value)
    )


def _prompt(value: object, where: str) -> Prompt:
    given = _object(value, where, ("kind", "points", "include"))
    kind, points = given.get("kind"), given.get("points")
    known = next((each for each in KINDS if each == kind), None)
    if known is None:
        raise _wrong(f"{where}.kind", " or ".join(f'"{each}"' for each in KINDS), kind)
    if not isinstance(points, list):
        raise _wrong(f"{where}.points", "a list of positions", points)
    include = given.get("include", True)
    if not isinstance(include, bool):
        raise _wrong(f"{where}.include", "true or false", include)
    at = tuple(_position(point, f"{where}.points[{k}]") for k, point in enumerate(points))
    return Prompt(known, at, include)


def _position(value: object, where: str) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) not in (2, 3):
        raise _wrong(where, "[x, y], or [x, y, z] in a volume", value)
    return tuple(_number(number, f"{where}[{k}]") for k, number in enumerate(value))


def _segment(value: object, where: str) -> tuple[int, Segment]:
    given = _object(value, where, _SEGMENT_KEYS)
    color, is_edited = given.get("color"), given.get("edited", False)
    if not isinstance(color, list) or len(color) != 3:
        raise _wrong(f"{where}.color", "[red, green, blue]", color)
    red, green, blue = (_below(each, 256, f"{where}.color[{k}]") for k, each in enumerate(color))
    if not isinstance(is_edited, bool):
        raise _wrong(f"{where}.edited", "true or false", is_edited)
    anatomy, algorithm = given.get("anatomy"), given.get("algorithm")
    label = Label(
        _text(given.get("name"), f"{where}.name"),
        (red, green, blue),
        None if anatomy is None else _texts(anatomy, f"{where}.anatomy", "code", "meaning"),
    )
    by = None if algorithm is None else _texts(algorithm, f"{where}.algorithm", "model", "version")
    return _label_of(given, where), Segment(label, by and Algorithm(*by), is_edited)


def _labelled(value: object, where: str) -> LabelledSlice:
    given = _object(value, where, ("instance", "frame", "k", "layers"))
    name = _slice({key: given[key] for key in ("instance", "frame") if key in given}, where)
    layers = given.get("layers")
    if not isinstance(layers, list):
        raise _wrong(f"{where}.layers", "a list of layers", layers)
    assert isinstance(name, SliceName)
    return LabelledSlice(
        name, tuple(_layer(each, f"{where}.layers[{k}]") for k, each in enumerate(layers))
    )


def _layer(value: object, where: str) -> Layer:
    given = _object(value, where, ("label", "box", "runs"))
    return Layer(_label_of(given, where), *_box_and_runs(given, where))


def _label_of(given: Mapping[str, object], where: str) -> int:
    label = _below(given.get("label"), 256, f"{where}.label")
    if not label:
        raise _wrong(f"{where}.label", "a whole number from 1 to 255", label)
    return label


def _texts(value: object, where: str, first: str, second: str) -> tuple[str, str]:
    given = _object(value, where, (first, second))
    return _text(given.get(first), f"{where}.{first}"), _text(
        given.get(second), f"{where}.{second}"
    )


def _initial(value: object, where: str) -> Region | tuple[DrawnSlice, ...]:
    if not isinstance(value, Mapping) or "slices" not in value:
        return region_of(value, where)
    slices = _object(value, where, ("slices",))["slices"]
    if not isinstance(slices, list):
        raise _wrong(f"{where}.slices", "a list of slices", slices)
    return tuple(_drawn(drawn, f"{where}.slices[{k}]") for k, drawn in enumerate(slices))


def _drawn(value: object, where: str) -> DrawnSlice:
    given = _object(value, where, ("slice", "box", "runs"))
    return DrawnSlice(_slice(given.get("slice"), f"{where}.slice"), *_box_and_runs(given, where))


def _box_and_runs(
    given: Mapping[str, object], where: str
) -> tuple[tuple[int, int, int, int], bytes]:
    box, runs = given.get("box"), given.get("runs")
    if not isinstance(box, list) or len(box) != 4:
        raise _wrong(f"{where}.box", "[i0, j0, i1, j1] in voxels", box)
    i0, j0, i1, j1 = (_whole(side, f"{where}.box[{k}]") for k, side in enumerate(box))
    try:
        code = b64decode(runs if isinstance(runs, str) else "?", validate=True)
    except ValueError:
        raise _wrong(f"{where}.runs", "runs in base64", runs) from None
    return (i0, j0, i1, j1), code


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


def _slice(value: object, where: str) -> SliceName | int:
    if not isinstance(value, dict):
        return _whole(value, where)
    given = _object(value, where, ("instance", "frame"))
    instance = _text(given.get("instance"), f"{where}.instance")
    frame = _whole(given.get("frame", 1), f"{where}.frame")
    return SliceName(instance, frame)


def _slice_json(name: SliceName | int | None) -> object:
    return name._asdict() if isinstance(name, SliceName) else name


def _spacing(value: object, where: str) -> XY:
    if isinstance(value, list):
        x, y = _pair(value, where)
        return XY(_positive(x, f"{where}[0]"), _positive(y, f"{where}[1]"))
    both = _positive(value, where)
    return XY(both, both)


def _pair(value: object, where: str) -> XY:
    if not isinstance(value, list) or len(value) != 2:
        raise _wrong(where, "[x, y]", value)
    return XY(_number(value[0], f"{where}[0]"), _number(value[1], f"{where}[1]"))


def _size(value: object, where: str) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise _wrong(where, "[width, height]", value)
    width, height = (_whole(value[k], f"{where}[{k}]") for k in range(2))
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise _wrong(where, f"two whole numbers from 1 to {MAX_SIDE}", value)
    return width, height


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        raise _wrong(where, "a text", value)
    return value


def _whole(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _wrong(where, "a whole number from 0", value)
    return value


def _below(value: object, limit: int, where: str) -> int:
    number = _whole(value, where)
    if number >= limit:
        raise _wrong(where, f"a whole number from 0 to {limit - 1}", value)
    return number


def _positive(value: object, where: str) -> float:
    number = _number(value, where)
    if number <= 0:
        raise _wrong(where, "a number above 0", value)
    return number


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(where, "true or false", value)
    return value


def _not_negative(value: object, where: str) -> float:
    number = _number(value, where)
    if number < 0:
        raise _wrong(where, "a number from 0", value)
    return number


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise _wrong(where, "a number", value)
    return float(value)


def _wrong(where: str, expected: str, value: object) -> Malformed:
    return Malformed(f"{where}: expected {expected}, got {brief(value)}")
