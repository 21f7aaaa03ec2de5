"""Regions of slides: the client's request, and the three documents that it can get.

`location` is in level-0 pixels, `size` in pixels of `level`, every contour in level-0 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias
from xml.sax.saxutils import quoteattr

import numpy as np
import orjson
from numpy.typing import NDArray

from isoline.domain.events import Objects
from isoline.domain.prompts import Prompt
from isoline.domain.request import SegmentRequest, Value
from isoline.errors import BadRegion, Malformed
from isoline.exports.encoder import image_corners
from isoline.exports.registry import EXPORTS
from isoline.geometry.grid import XY
from isoline.geometry.region import Region
from isoline.models.model import ModelSpec
from isoline.pipeline.tiled import LARGEST_TILE, SMALLEST_TILE
from isoline.server.monailabel.runs import FinishedRun
from isoline.sources.source import ImageInfo

Corners: TypeAlias = NDArray[np.generic]
"""(n, 2) x, y in image coordinates; the first corner is not repeated."""

DEFAULT_SIZE = (2048.0, 2048.0)
DEFAULT_MIN_AREA = 80.0
"""MONAI Label's defaults."""


@dataclass(frozen=True)
class SlideRequest:
    """The client's request for a region, completed with MONAI Label's defaults."""

    level: int
    location: XY
    size: XY
    """0, 0 at location 0, 0 means the whole image."""
    tile_px: int | None
    min_area: float
    """In pixels of the working resolution, without holes."""
    params: Mapping[str, object]


@dataclass(frozen=True)
class SlideRegion:
    """The requested region on the image."""

    origin: XY
    """In image coordinates."""
    size: tuple[int, int]
    """(width, height) in pixels of the level."""
    downsample: XY
    is_whole: bool = False
    """Whether it is the whole image, including what a coarse level leaves out at the far edges."""

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 in image coordinates."""
        width, height = self.size
        x, y = self.origin
        return x, y, x + width * self.downsample.x, y + height * self.downsample.y


def parse(given: Mapping[str, object], size: tuple[float, float] = DEFAULT_SIZE) -> SlideRequest:
    """Parse `given`, ignoring unknown keys. Raises Malformed."""
    params = given.get("params") or {}
    if not isinstance(params, dict):
        raise Malformed(f"params: expected an object, got {params!r}", 'send {"params": {}}')
    tile = given.get("tile_size")
    return SlideRequest(
        level=round(_number(given.get("level") or 0, "level")),
        location=_pair(given.get("location") or (0, 0), "location"),
        size=_pair(given.get("size") or size, "size"),
        tile_px=None if not tile else round(max(_pair(tile, "tile_size"))),
        min_area=_number(given.get("min_poly_area", DEFAULT_MIN_AREA) or 0, "min_poly_area"),
        params=params,
    )


def place(asked: SlideRequest, name: str, info: ImageInfo) -> SlideRegion:
    """Return the requested region on the image, clipped to it. Raises BadRegion."""
    if not 0 <= asked.level < len(info.levels):
        raise BadRegion(
            f"{name} has no level {asked.level}", f"it has levels 0 to {len(info.levels) - 1}"
        )
    level = info.levels[asked.level]
    if asked.size == XY(0, 0) and asked.location == XY(0, 0):
        return SlideRegion(asked.location, level.size, level.downsample, is_whole=True)
    (x, y), scale = asked.location, level.downsample
    x0, y0 = max(x, 0.0), max(y, 0.0)
    x1 = min(x + asked.size.x * scale.x, info.size[0])
    y1 = min(y + asked.size.y * scale.y, info.size[1])
    # scales are seldom whole numbers: 256 pixels must not be rounded up to 257
    size = math.ceil((x1 - x0) / scale.x - 1e-6), math.ceil((y1 - y0) / scale.y - 1e-6)
    if min(size) <= 0:
        raise BadRegion(
            f"the region lies outside {name}", "the image has {} x {} pixels".format(*info.size)
        )
    return SlideRegion(XY(x0, y0), size, scale)


def request(
    asked: SlideRequest,
    where: SlideRegion,
    name: str,
    info: ImageInfo,
    model: str,
    spec: ModelSpec,
    assumed_um: float,
    prompts: tuple[Prompt, ...] = (),
) -> SegmentRequest:
    """Return the request for `model`, which has `spec`, on the region or for the prompted object.

    A model without its own resolution works at that of the level. `assumed_um` is the pixel size
    to assume if neither the file nor the client specifies it; 0 means none.
    """
    if spec.prompts:
        given = parameters(spec, asked.params)
        return SegmentRequest(image=name, model=model, parameters=given, prompts=prompts)
    stated = asked.params.get("spacing_um")
    if stated is None and info.spacing_um is None:
        stated = assumed_um or None
    spacing = None if stated is None else XY(*[_positive(stated, "params.spacing_um")] * 2)
    overridden = spacing if asked.params.get("override_spacing") is True else None
    known = overridden or info.spacing_um or spacing
    at_um = None
    if asked.level > 0 and not spec.spacings_um and known:
        at_um = min(known) * min(where.downsample)
    return SegmentRequest(
        image=name,
        model=model,
        region=None if where.is_whole else Region.rectangle(*where.corners),
        parameters=parameters(spec, asked.params),
        tile=_tile_px(spec, asked.tile_px),
        spacing_um=spacing,
        override_spacing=overridden is not None,
        at_um=at_um,
    )


def _tile_px(spec: ModelSpec, asked: int | None) -> int | None:
    if asked is None or spec.fixed_tile:
        return None
    return min(max(asked, SMALLEST_TILE), LARGEST_TILE)


def parameters(spec: ModelSpec, params: Mapping[str, object]) -> Mapping[str, Value]:
    """Return the model's parameters among `params`, which contain many other keys."""
    return {
        parameter.name: value
        for parameter in spec.parameters
        if isinstance(value := params.get(parameter.name), float | int | bool | str)
    }


# The documents


@dataclass(frozen=True)
class SlideInference:
    """One run and its request."""

    run: FinishedRun
    spec: ModelSpec
    asked: SlideRequest
    where: SlideRegion

    @property
    def name(self) -> str:
        x, y, width, height = (*self.location, *self.where.size)
        return f"{self.spec.title} at {x}, {y}, {width} x {height}"

    @property
    def location(self) -> list[int]:
        return [math.floor(self.where.origin.x), math.floor(self.where.origin.y)]

    @property
    def latencies(self) -> dict[str, float]:
        seconds = round(self.run.seconds, 3)
        return {"pre": 0.0, "infer": seconds, "post": 0.0, "total": seconds}

    def found(self) -> Iterator[Objects]:
        """Yield the results that are large enough to report."""
        for objects in self.run.found:
            yield objects.select(objects.area_px >= self.asked.min_area)

    def outlines(self) -> Iterator[tuple[int, Corners, Sequence[Corners]]]:
        """Yield the index of the label, the shell and the holes of every polygon."""
        for objects in self.found():
            polygons = objects.polygons
            corners = image_corners(polygons, self.run.started.grid)
            rings = [corners[a:b] for a, b in pairwise(polygons.ring_start.tolist())]
            labels = np.repeat(objects.label, np.diff(polygons.object_start)).tolist()
            for label, (a, b) in zip(labels, pairwise(polygons.part_start.tolist()), strict=True):
                yield label, rings[a], rings[a + 1 : b]


def as_json(answer: SlideInference) -> bytes:
    """Return the contours by label, with the holes of each."""
    labels = answer.spec.labels
    contours: list[list[Corners]] = [[] for _ in labels]
    holes: list[list[Sequence[Corners]]] = [[] for _ in labels]
    for label, shell, inner in answer.outlines():
        contours[label].append(shell)
        holes[label].append(inner)
    elements = [
        _element(label.name, shells, inner)
        for label, shells, inner in zip(answer.spec.labels, contours, holes, strict=True)
        if shells
    ]
    annotation = {
        "location": answer.location,
        "size": answer.where.size,
        "elements": elements,
        "labels": {label.name: label.color for label in labels},
    }
    document = {
        "annotations": [{"annotation": annotation, "latencies": answer.latencies}],
        "name": answer.name,
        "description": answer.spec.description,
        "model": answer.spec.name,
        "location": answer.location,
        "size": answer.where.size,
        "latencies": answer.latencies,
    }
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _element(
    label: str, shells: Sequence[Corners], holes: Sequence[Sequence[Corners]]
) -> dict[str, object]:
    element: dict[str, object] = {"label": label, "contours": shells}
    return {**element, "holes": holes} if any(holes) else element


def as_dsa(answer: SlideInference) -> bytes:
    """Return an annotation document for the Digital Slide Archive."""
    encoder = EXPORTS.load("dsa")()
    started = answer.run.started
    several = (encoder.features(each, started, False) for each in answer.found() if len(each))
    count = sum(len(each.polygons.part_start) - 1 for each in answer.found())
    described = {
        "model": answer.spec.name,
        "desc": answer.spec.description,
        "location": answer.location,
        "size": answer.where.size,
        "count": count,
        "latencies": answer.latencies,
    }
    return b'{"name":%b,"elements":[\n%b\n],"description":%b}\n' % (
        orjson.dumps(answer.name),
        b",\n".join(several),
        orjson.dumps(orjson.dumps(described).decode()),
    )


def as_asap(answer: SlideInference) -> bytes:
    """Return an ASAP annotation file, which QuPath reads too. The format has no holes."""
    (x, y), (width, height) = answer.location, answer.where.size
    head = (
        '<?xml version="1.0"?>\n<ASAP_Annotations>\n'
        f"<Annotations Name={quoteattr(answer.name)}"
        f" Description={quoteattr(answer.spec.description)} Model={quoteattr(answer.spec.name)}"
        f' X="{x}" Y="{y}" W="{width}" H="{height}">\n'
    )
    labels = [
        (quoteattr(label.name), "#{:02x}{:02x}{:02x}".format(*label.color))
        for label in answer.spec.labels
    ]
    body = []
    for index, shell, _ in answer.outlines():
        name, colour = labels[index]
        points = "".join(
            f'<Coordinate Order="{k}" X="{x}" Y="{y}"/>' for k, (x, y) in enumerate(shell.tolist())
        )
        body.append(
            f'<Annotation Name={name} Type="Polygon" PartOfGroup={name} Color="{colour}">'
            f"<Coordinates>{points}</Coordinates></Annotation>\n"
        )
    groups = "".join(
        f'<Group Name={name} PartOfGroup="None" Color="{colour}"><Attributes/></Group>\n'
        for name, colour in labels
    )
    tail = f"</Annotations>\n<AnnotationGroups>\n{groups}</AnnotationGroups>\n</ASAP_Annotations>\n"
    return "".join([head, *body, tail]).encode()


DOCUMENTS: Mapping[str, tuple[Callable[[SlideInference], bytes], str]] = {
    "json": (as_json, "application/json"),
    "dsa": (as_dsa, "application/json"),
    "asap": (as_asap, "application/xml"),
}
"""Output -> the function that writes it, and its media type."""


# Lenient parsing


def _pair(value: object, where: str) -> XY:
    if not isinstance(value, list | tuple) or len(value) < 2:
        raise Malformed(f"{where}: expected two numbers, got {value!r}", f"send {where}: [x, y]")
    return XY(_number(value[0], where), _number(value[1], where))


def _positive(value: object, where: str) -> float:
    number = _number(value, where)
    if number <= 0:
        raise Malformed(f"{where}: expected a number above 0, got {value!r}", "leave it out")
    return number


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise Malformed(f"{where}: expected a number, got {value!r}", "leave it out")
    return float(value)
