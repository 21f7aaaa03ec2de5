"""Parsing prompts: a word on the command line, or GeoJSON drawn in a viewer.

    point:X,Y   box:X0,Y0,X1,Y1   scribble:X,Y,X,Y,...   polygon:X,Y,X,Y,X,Y,...

In a volume, voxel indices I,J,K replace X,Y. A prompt that ends in ",-" excludes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from isoline.cli.outline_files import read_json
from isoline.domain import mask_rle
from isoline.domain.prompts import KINDS, DrawnSlice, Prompt, PromptKind
from isoline.errors import BadPrompt, IsolineError, Malformed
from isoline.geometry.region import brief
from isoline.geometry.volume_grid import VolumeInfo
from isoline.sources.registry import open_image
from isoline.sources.volume import VolumeSource

_NEGATIVE = re.compile(r"negative|ignore|background|exclude", re.IGNORECASE)
_FORMS = "write point:X,Y, box:X0,Y0,X1,Y1, scribble:X,Y,..., polygon:X,Y,... or a GeoJSON file"


def prompts_of(given: str, dimensions: int) -> tuple[Prompt, ...]:
    """Return the prompts of one `--prompt` for an image with `dimensions` axes (2 or 3).

    Raises BadPrompt.
    """
    kind, colon, numbers = given.partition(":")
    known = next((each for each in KINDS if each == kind), None)
    if colon and known is not None:
        return (_spelt(known, numbers, given, dimensions),)
    path = Path(given)
    if not path.suffix:
        raise BadPrompt(f"--prompt {given} is neither a prompt nor a file", _FORMS)
    return tuple(_features(_read_json(path), given, dimensions))


def initial_mask(path: Path, volume: VolumeInfo) -> tuple[DrawnSlice, ...]:
    """Return the voxels above 0 in a NIfTI file on the grid of `volume`.

    Raises BadPrompt if the file is not a volume or is on another grid.
    """
    try:
        source = open_image(path)
    except IsolineError as error:
        raise BadPrompt(f"--initial {path}: {error.what}", "use a NIfTI mask") from error
    if not isinstance(source, VolumeSource):
        raise BadPrompt(f"--initial {path} is not a volume", "use a NIfTI mask")
    own, grid = source.volume.grid, volume.grid
    if own.size != grid.size or not np.allclose(own.affine, grid.affine, rtol=0, atol=1e-2):
        raise BadPrompt(
            "--initial {}: its {} x {} x {} voxels are not those of the image".format(
                path, *own.size
            ),
            "use a mask on the grid of the image, such as isoline writes",
        )
    labels = np.greater(source.voxels(), 0).view(np.uint8)
    return tuple(
        DrawnSlice(k, layer.box, layer.code)
        for k, layers in mask_rle.layers(mask_rle.encode(labels, range(len(labels))))
        for layer in layers
    )


def _spelt(kind: PromptKind, text: str, given: str, dimensions: int) -> Prompt:
    words = text.split(",")
    include = words[-1] != "-"
    try:
        numbers = [float(word) for word in (words if include else words[:-1])]
    except ValueError:
        raise BadPrompt(f"--prompt {given}: expected numbers", _FORMS) from None
    if not numbers or len(numbers) % dimensions:
        raise BadPrompt(
            f"--prompt {given}: {len(numbers)} numbers do not form positions of {dimensions} each",
            "write X,Y on a slide or a picture, and I,J,K in a volume",
        )
    points = tuple(zip(*[iter(numbers)] * dimensions, strict=True))
    return Prompt(kind, points, include)


def _read_json(path: Path) -> object:
    try:
        return read_json(path)
    except Malformed as error:
        raise BadPrompt(error.what, "use a GeoJSON file") from error


def _features(value: object, where: str, dimensions: int) -> Iterator[Prompt]:
    """Yield the prompts in the features of parsed GeoJSON."""
    match value:
        case {"type": "FeatureCollection", "features": list(features)}:
            for k, feature in enumerate(features):
                yield from _features(feature, f"{where}, features[{k}]", dimensions)
        case {"type": "Feature", "geometry": geometry, **members}:
            include = not _excludes(members.get("properties"))
            for kind, points in _drawn(geometry, where):
                yield Prompt(kind, _positions(points, where, dimensions), include)
        case list(features):  # the form in which QuPath writes several objects
            for k, feature in enumerate(features):
                yield from _features(feature, f"{where}[{k}]", dimensions)
        case _:
            for kind, points in _drawn(value, where):
                yield Prompt(kind, _positions(points, where, dimensions))


def _excludes(properties: object) -> bool:
    match properties:
        case {"include": bool(include)}:
            return not include
        case {"classification": {"name": str(name)}} | {"classification": str(name)}:
            return _NEGATIVE.search(name) is not None
    return False


def _drawn(geometry: object, where: str) -> Iterator[tuple[PromptKind, list[object]]]:
    match geometry:
        case {"type": "Point", "coordinates": list(position)}:
            yield "point", [position]
        case {"type": "MultiPoint", "coordinates": list(positions)}:
            for position in positions:
                yield "point", [position]
        case {"type": "LineString", "coordinates": list(positions)}:
            yield "scribble", positions
        case {"type": "Polygon", "coordinates": [list(ring), *_]}:
            # RFC 7946, 3.1.6: the first position is repeated; holes have no meaning in a prompt
            yield "polygon", ring[:-1] if len(ring) > 1 and ring[0] == ring[-1] else ring
        case _:
            raise BadPrompt(
                f"{where}: expected a Point, MultiPoint, LineString or Polygon,"
                f" got {brief(geometry)}",
                "use points, lines and polygons",
            )


def _positions(points: list[object], where: str, dimensions: int) -> tuple[tuple[float, ...], ...]:
    try:
        return tuple(
            tuple(float(number) for number in point[:dimensions])  # type: ignore[index]
            for point in points
        )
    except (TypeError, ValueError):
        raise BadPrompt(f"{where}: a position is not a list of numbers", "use [x, y]") from None
