"""Requests with prompts, prepared and answered in this process, by the models for tests too."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoline.domain import mask_rle
from isoline.domain.events import Mask, Objects
from isoline.domain.prompts import Prompt, PromptKind
from isoline.domain.request import SegmentRequest
from isoline.images.catalog import Images
from isoline.inference.prompts import PromptResult
from isoline.inference.resources import Resources
from isoline.inference.task import Attention
from isoline.plugins import entry_points
from tests.planning import prompt_plan
from tests.running import shapes
from tests.serving import PLUGINS


@contextlib.contextmanager
def models_for_tests() -> Iterator[None]:
    """Have the models for tests installed here, as they are in servers that tests start."""
    sys.path.insert(0, str(PLUGINS))
    entry_points.cache_clear()
    try:
        yield
    finally:
        sys.path.remove(str(PLUGINS))
        entry_points.cache_clear()


def point(*at: float, include: bool = True) -> Prompt:
    return Prompt("point", (at,), include)


def drawn(kind: PromptKind, *points: tuple[float, ...], include: bool = True) -> Prompt:
    return Prompt(kind, points, include)


def asking(image: str, *prompts: Prompt, **changes: Any) -> SegmentRequest:
    return SegmentRequest(**{"image": image, "model": "flood", "prompts": prompts, **changes})


def answer(request: SegmentRequest, images: Images, bench: Resources) -> PromptResult:
    prepared = prompt_plan(request, images, Path("no weights"))
    (tile,) = prepared.tiles
    (result,) = prepared.task.compute(bench, tile, Attention())
    assert isinstance(result, PromptResult)
    return result


def outline(answered: PromptResult) -> Any:
    """Return the one shape of an answer, in level-0 pixels."""
    assert isinstance(answered.found, Objects)
    (shape,) = shapes(answered.found)
    assert answered.found.area_px.tolist() == [shape.area]
    return shape


def labelmap(answered: PromptResult, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return (k, j, i) of an answer; what is not in its slices is 0."""
    assert isinstance(answered.found, Mask)
    drawn = np.zeros(shape, np.uint8)
    mask_rle.draw(answered.found, drawn)
    assert np.flatnonzero(drawn.any(axis=(1, 2))).tolist() == answered.found.slices.tolist()
    return drawn
