"""What a user pointed at, as MONAI Label's clients say it, as prompts.

    foreground, background      lists of positions: click-based models of radiology and pathology
    NAME                        a list of positions on the label of that name: deepedit
    points, point_labels        positions, and 1 or 0 for each: VISTA
    a file `label`              a volume of scribbles: 3 on the object, 2 beside it

Positions are voxel indices in a volume and level-0 pixels on a plane, as isoline's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from werkzeug.datastructures import FileStorage

from isoline.domain.prompts import MAX_POINTS, Prompt
from isoline.errors import Malformed, NotSupported
from isoline.geometry.volume_grid import VolumeGrid
from isoline.models.base import ModelSpec
from isoline.server.monailabel.files import check_readable, split
from isoline.sources.registry import open_image
from isoline.sources.volume import VolumeSource

MOST_OBJECTS = 100
"""So many objects may be pointed at in one request on a plane."""
SCRIBBLED_BESIDE, SCRIBBLED_ON = 2, 3
"""As MONAI Label's 3D Slicer module paints them."""


def prompts(params: Mapping[str, object], spec: ModelSpec, dimensions: int) -> tuple[Prompt, ...]:
    """Return the points in `params` for a model of `spec`, each of `dimensions` numbers.

    Raises Malformed.
    """
    if not spec.prompts:
        return ()  # clients send what they have to models that do not look at it
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
        raise Malformed(f"{len(points)} points and {len(signs)} point_labels", "send one for each")
    yield from ((each, bool(sign)) for each, sign in zip(points, signs, strict=True))


def _named(label_info: object) -> list[str]:
    """Return the names of labels that a client knows: `[{"name": ...}, ...]`."""
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
    """Return the prompts of each object where every point that includes is one of its own.

    So clients of pathology mean them: a click on each nucleus. Raises Malformed.
    """
    beside = tuple(prompt for prompt in prompts if not prompt.include)
    on = [prompt for prompt in prompts if prompt.include]
    if len(on) > MOST_OBJECTS:
        raise Malformed(f"{len(on)} points of foreground", f"send at most {MOST_OBJECTS} at once")
    return [(prompt, *beside) for prompt in on]


def scribbles(file: FileStorage, grid: VolumeGrid, scratch: Path) -> tuple[Prompt, ...]:
    """Return the scribbles in a volume of labels on the grid of the image.

    Raises NotSupported or Malformed.
    """
    suffix = split(file.filename or "")[1].lower()
    if suffix not in (".nii", ".nii.gz"):
        raise NotSupported(f"scribbles in {suffix!r} are not read", "send .nii or .nii.gz")
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path = Path(folder) / f"label{suffix}"
        file.save(path)
        check_readable(path)
        source = open_image(path)
        try:
            assert isinstance(source, VolumeSource)
            if source.volume.grid.size != grid.size:
                raise Malformed("the scribbles have another size than the image", "resample them")
            drawn = source.voxels()
        finally:
            source.close()
    return tuple(
        Prompt("scribble", tuple(map(tuple, where.tolist())), value == SCRIBBLED_ON)
        for value in (SCRIBBLED_ON, SCRIBBLED_BESIDE)
        if len(where := _thinned(np.argwhere(drawn == value)[:, ::-1].astype(float)))
    )


def _thinned(
    positions: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    step = -(-len(positions) // (MAX_POINTS // 2))
    return positions[:: max(1, step)]
