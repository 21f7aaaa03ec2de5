"""Converting the clicks and scribbles of MONAI Label's clients to prompts.

    foreground, background      lists of positions: click-based models for radiology and pathology
    NAME                        a list of positions on the label with that name: deepedit
    points, point_labels        positions, with 1 or 0 for each: VISTA
    a file `label`              a volume of scribbles: 3 on the object, 2 off it

Positions are voxel indices in a volume and level-0 pixels on a plane, as in isoline.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from werkzeug.datastructures import FileStorage

from isoline.domain.prompts import MAX_POINTS, Prompt
from isoline.errors import Malformed, NotSupported
from isoline.geometry.volume_grid import VolumeGrid
from isoline.models.model import ModelSpec
from isoline.server.monailabel.files import check_readable, split
from isoline.sources.registry import open_image
from isoline.sources.volume import VolumeSource

MOST_OBJECTS = 100
"""Largest number of objects in one request on a plane."""
_NEAR = 1e-2
"""Up to this far from a voxel, a scribble is on it."""
SCRIBBLED_BESIDE, SCRIBBLED_ON = 2, 3
"""Values in the scribbles of MONAI Label's 3D Slicer module."""


def prompts(params: Mapping[str, object], spec: ModelSpec, dimensions: int) -> tuple[Prompt, ...]:
    """Return the points in `params` for a model with `spec`, each with `dimensions` numbers.

    Raises Malformed.
    """
    if not spec.prompts:
        return ()  # clients send points even to models that do not use them
    return tuple(
        Prompt("point", (position[:dimensions],), include)
        for position, include in _positions(params, spec, dimensions)
    )


def _positions(
    params: Mapping[str, object], spec: ModelSpec, dimensions: int
) -> Iterator[tuple[tuple[float, ...], bool]]:
    names = [label.name for label in spec.labels]
    for key in dict.fromkeys(("foreground", *names, *_named(params.get("label_info")))):
        if key != "background":
            yield from ((each, True) for each in _list(params.get(key), key, dimensions))
    yield from ((each, False) for each in _list(params.get("background"), "background", dimensions))
    points = _list(params.get("points"), "points", dimensions)
    signs = params.get("point_labels")
    signs = signs if isinstance(signs, list) else [1] * len(points)
    if len(signs) != len(points):
        raise Malformed(
            f"there are {len(points)} points and {len(signs)} point_labels",
            "send one label per point",
        )
    yield from ((each, bool(sign)) for each, sign in zip(points, signs, strict=True))


def _named(label_info: object) -> list[str]:
    """Return the label names in a client's `[{"name": ...}, ...]`."""
    infos = label_info if isinstance(label_info, list) else []
    return [str(info["name"]) for info in infos if isinstance(info, dict) and "name" in info]


def _list(value: object, key: str, dimensions: int) -> list[tuple[float, ...]]:
    if not isinstance(value, list):
        return []
    single = bool(value) and not isinstance(value[0], list)
    positions = [value] if single else value
    for position in positions:
        is_one = isinstance(position, list) and len(position) >= dimensions
        if not is_one or not all(isinstance(n, int | float) for n in position):
            raise Malformed(
                f"{key}: expected positions of {dimensions} numbers, got {position!r}"[:200],
                "send [[x, y, z], ...], or [[x, y], ...] on a plane",
            )
    return [tuple(map(float, position)) for position in positions]


def one_by_one(prompts: tuple[Prompt, ...]) -> list[tuple[Prompt, ...]]:
    """Return the prompts of each object if every including point indicates its own object.

    This is what pathology clients mean: a click on each nucleus. Raises Malformed.
    """
    excluding = tuple(prompt for prompt in prompts if not prompt.include)
    on = [prompt for prompt in prompts if prompt.include]
    if len(on) > MOST_OBJECTS:
        raise Malformed(
            f"there are {len(on)} foreground points", f"send at most {MOST_OBJECTS} at once"
        )
    return [(prompt, *excluding) for prompt in on]


def scribbles(file: FileStorage, grid: VolumeGrid, scratch: Path) -> tuple[Prompt, ...]:
    """Return the scribbles in a label volume, in voxel indices of the image, which has `grid`.

    They count where they lie in the patient: the voxels of the two may run in other directions.

    Raises NotSupported or Malformed.
    """
    suffix = split(file.filename or "")[1].lower()
    if suffix not in (".nii", ".nii.gz"):
        raise NotSupported(f"scribbles in {suffix!r} are not supported", "send .nii or .nii.gz")
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path = Path(folder) / f"label{suffix}"
        file.save(path)
        check_readable(path)
        source = open_image(path)
        try:
            assert isinstance(source, VolumeSource)
            drawn, own = source.voxels(), source.volume.grid
        finally:
            source.close()
    return tuple(
        Prompt("scribble", tuple(map(tuple, _thinned(where).tolist())), value == SCRIBBLED_ON)
        for value in (SCRIBBLED_ON, SCRIBBLED_BESIDE)
        if len(where := _on_image(np.argwhere(drawn == value)[:, ::-1], own, grid))
    )


def _on_image(index: NDArray[np.intp], own: VolumeGrid, grid: VolumeGrid) -> NDArray[np.float64]:
    """Return the voxels `index` (n, 3) of a volume on `own` in indices of `grid`.

    Raises Malformed if one lies outside.
    """
    placed = grid.to_index(own.to_lps(index))
    nearest = np.rint(placed)
    # an affine in a file has single precision
    placed = np.where(np.abs(placed - nearest) < _NEAR, nearest, placed)
    if ((placed < -0.5) | (placed > np.array(grid.size) - 0.5)).any():
        raise Malformed(
            "the scribbles lie outside the image", "send a label volume with the image's affine"
        )
    return placed


def _thinned(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    step = -(-len(positions) // (MAX_POINTS // 2))
    return positions[:: max(1, step)]
