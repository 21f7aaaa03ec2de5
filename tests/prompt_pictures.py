"""Draw the pictures of docs/prompts.md anew: what the answers look like, to be looked at.

    python -m tests.prompt_pictures [FOLDER]

The slide is the sample slide, the head is ch2 of Debian's mricron-data.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from isoline.demo.slide import SAMPLE_SLIDE
from isoline.domain.events import Objects
from isoline.domain.prompts import Prompt
from isoline.geometry.grid import Box
from isoline.geometry.region import Region
from isoline.images.catalog import Images
from isoline.inference.resources import Resources
from isoline.models import downloads
from isoline.models.catalogue import ModelCatalogue
from isoline.sources.registry import open_image
from isoline.sources.volume import VolumeSource
from tests.prompting import answer, asking, drawn, labelmap, point
from tests.running import shapes

HEAD = Path("/usr/share/mricron/templates/ch2.nii.gz")
DOCS = Path(__file__).parents[1] / "docs" / "images"
ZOOM, GAP = 4, 12
YES, NO, FOUND, BEGUN = (0, 170, 60), (220, 30, 30), (255, 225, 0), (0, 160, 255)

Picture = NDArray[np.uint8]
"""(y, x, 3)"""
Line = NDArray[np.floating]
"""(n, 2) x, y."""


@dataclass(frozen=True)
class Panel:
    """Prompts on a part of the slide."""

    area: Box
    prompts: tuple[Prompt, ...]
    initial: Region | None = None


TWO, LONG = Box(6150, 7520, 6250, 7595), Box(6145, 7470, 6245, 7545)
CLUSTER = Box(5920, 7625, 6020, 7700)
LASSO = (5934, 7648), (5958, 7636), (6000, 7652), (6002, 7672), (5982, 7690), (5934, 7672)
KINDS = (
    Panel(TWO, (point(6183, 7562),)),
    Panel(TWO, (drawn("box", (6189, 7533), (6226, 7562)),)),
    Panel(LONG, (drawn("scribble", (6178, 7507), (6190, 7503), (6207, 7499)),)),
    Panel(CLUSTER, (drawn("polygon", *LASSO),)),
)
ALONG = drawn("scribble", (5955, 7675), (5975, 7677), (5986, 7663))
CORRECTED = (
    Panel(CLUSTER, (point(5950, 7660),)),
    Panel(CLUSTER, (point(5950, 7660), ALONG)),
    Panel(CLUSTER, (drawn("polygon", *LASSO), point(5950, 7660, include=False))),
    Panel(TWO, (point(6205, 7548),), Region.rectangle(6173, 7548, 6193, 7576)),
)


def main(folder: Path) -> None:
    slide = downloads.fetch(SAMPLE_SLIDE)
    with tempfile.TemporaryDirectory() as nothing:
        bench = Resources(ModelCatalogue(Path(nothing)), "cpu")
        save(folder / "prompts-kinds.png", (on_slide(slide, each, bench) for each in KINDS))
        save(folder / "prompts-corrected.png", (on_slide(slide, each, bench) for each in CORRECTED))
        save(folder / "prompts-volume.png", in_head(HEAD, point(85, 134, 88), bench))
        bench.close()


def save(path: Path, panels: Iterable[Picture]) -> None:
    """Write `panels` beside each other."""
    row: list[Picture] = []
    for panel in panels:
        row += [panel, np.full((len(panel), GAP, 3), 255, np.uint8)]
    tallest = max(map(len, row))
    padded = [
        np.pad(each, ((0, tallest - len(each)), (0, 0), (0, 0)), constant_values=255)
        for each in row[:-1]
    ]
    cv2.imwrite(str(path), np.concatenate(padded, axis=1)[..., ::-1])
    print(path)


def on_slide(slide: Path, panel: Panel, bench: Resources) -> Picture:
    """Return the part of the slide with prompts and what they point at."""
    area = panel.area
    source = open_image(slide)
    picture = enlarged(np.moveaxis(source.read_level(0, area), 0, 2))
    source.close()
    request = asking(slide.name, *panel.prompts, model="click", initial=panel.initial)
    found = answer(request, Images.of_file(slide), bench).found
    origin = np.array([area.x0, area.y0])
    if panel.initial is not None:
        for polygon in panel.initial.polygons:
            outline(picture, [ring - origin for ring in polygon], BEGUN)
    if isinstance(found, Objects):
        (shape,) = shapes(found)
        rings = [ring for part in shape.geoms for ring in (part.exterior, *part.interiors)]
        outline(picture, [np.array(ring.coords) - origin for ring in rings], FOUND)
    for prompt in panel.prompts:
        mark(picture, prompt, origin)
    return picture


def in_head(head: Path, prompt: Prompt, bench: Resources) -> Iterable[Picture]:
    """Yield the three planes through a point, with what it points at in all of the volume."""
    source = open_image(head)
    assert isinstance(source, VolumeSource)
    voxels = source.voxels().astype(np.float32)
    grey = np.clip(voxels / np.percentile(voxels, 99.5) * 255, 0, 255).astype(np.uint8)
    request = asking(head.name, prompt, model="click", format="ohif")
    found = labelmap(answer(request, Images.of_file(head), bench), source.volume.grid.shape)
    (index,) = prompt.points
    places = tuple(map(round, reversed(index)))
    for axis in (0, 1, 2):
        plane, cut = (np.take(each, places[axis], axis) for each in (grey, found))
        plane, cut = plane[::-1], cut[::-1]  # the face or the top of the head above
        picture = enlarged(np.repeat(plane[..., None], 3, axis=2), 3)
        rings, _ = cv2.findContours(
            enlarged(cut[..., None], 3), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(picture, rings, -1, FOUND, 1, cv2.LINE_AA)
        y, x = [place for other, place in enumerate(places) if other != axis]
        cross(picture, 3 * (np.array([x, len(plane) - 1 - y]) + 0.5), YES)
        yield picture
    source.close()


def enlarged(picture: NDArray[np.generic], zoom: int = ZOOM) -> Picture:
    return np.ascontiguousarray(picture.repeat(zoom, 0).repeat(zoom, 1)).astype(np.uint8)


def outline(picture: Picture, rings: Sequence[Line], color: tuple[int, int, int]) -> None:
    lines = [np.rint(ZOOM * ring).astype(np.int32) for ring in rings]
    cv2.polylines(picture, lines, True, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.polylines(picture, lines, True, color, 2, cv2.LINE_AA)


def mark(picture: Picture, prompt: Prompt, origin: NDArray[np.generic]) -> None:
    """Draw what the user drew: green on the object, red where it is not."""
    color = YES if prompt.include else NO
    at = ZOOM * (np.array(prompt.points) - origin)
    if prompt.kind == "point":
        cross(picture, at[0], color)
    elif prompt.kind == "box":
        first, last = np.rint(at).astype(int).tolist()
        cv2.rectangle(picture, first, last, color, 2)
    else:
        line = np.rint(at).astype(np.int32)
        cv2.polylines(picture, [line], prompt.kind == "polygon", color, 3, cv2.LINE_AA)


def cross(picture: Picture, at: NDArray[np.floating], color: tuple[int, int, int]) -> None:
    """Draw a plus where a point includes, a minus where it excludes."""
    x, y = np.rint(at).astype(int).tolist()
    for size, shade in ((6, (255, 255, 255)), (3, color)):
        cv2.line(picture, (x - 9, y), (x + 9, y), shade, size)
        if color == YES:
            cv2.line(picture, (x, y - 9), (x, y + 9), shade, size)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS)
