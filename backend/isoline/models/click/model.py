"""A promptable model without weights: points, strokes, boxes and lassos, in pictures and
volumes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import numpy as np

from isoline.domain.events import Label
from isoline.domain.prompts import KINDS, Prompt
from isoline.models.base import Choice, ModelSpec
from isoline.models.click import enclosing, growth, outlines, refining
from isoline.models.click.features import Space
from isoline.models.click.gestures import Area, Stroke, gesture_of
from isoline.models.click.level_sets import Turn
from isoline.models.click.selection import Bool, Selection, cropped
from isoline.models.promptable import (
    ImageView,
    Places,
    PromptableModel,
    PromptedObject,
    Question,
    Window,
)

OUTSIDE = "the prompts lie outside the image"
NO_BORDER = "the image shows no border around the prompts; draw a box or a lasso instead"
NOTHING_LEFT = "what is excluded leaves nothing of the object"
ONLY_EXCLUDED = "nothing is included; click on the object itself"


class Click(PromptableModel):
    """Random walkers at many scales; the image determines the scale of the object."""

    spec: ClassVar[ModelSpec] = ModelSpec(
        name="click",
        title="Click",
        description="Outlines what a point, a stroke, a box or a lasso indicates: nuclei, glands,"
        " lesions, organs. Needs no weights and knows no anatomy: it follows borders.",
        version="1",
        labels=(Label("Object", (255, 193, 7)),),
        prompt_dimensions=(2, 3),
        channels=(1, 3),
        prompts=KINDS,
        parameters=(
            Choice(
                "extent",
                "volume",
                ("volume", "slice"),
                "In a volume: the whole object, or only the slice of the first prompt.",
            ),
        ),
        cite="Grady, Random walks for image segmentation, IEEE PAMI 28:1768 (2006)",
    )

    def answer(self, scene: ImageView, question: Question) -> PromptedObject:
        only = _only_slice(scene, question)
        space = Space(scene, only)
        gestures = _in_order(question.prompts, scene, space, only)
        areas = [each for each in gestures if isinstance(each, Area)]
        strokes = [each for each in gestures if isinstance(each, Stroke)]
        selection = _initial(question, space, only)
        key = hashlib.sha256(repr(only).encode() + _fingerprint(selection))
        for area in areas:
            _note(key, area.corners, area.is_box, area.include)
        is_started = bool(selection.mask.any())
        if not is_started and any(area.include for area in areas):
            make = partial(enclosing.enclose, space, areas)
            selection = scene.keep(("selection", key.hexdigest()), make)
        turns: list[Turn] = []
        for stroke in strokes:
            _note(key, stroke.places, stroke.include)
            if stroke.known is not None:
                key.update(_fingerprint(stroke.known.found))
            turns = [*turns, Turn(stroke, selection)]
            make = partial(_grown, space, turns, areas)
            selection = scene.keep(("selection", key.hexdigest()), make)
        selection = refining.without(space, selection, areas)
        if not selection.mask.any():
            return PromptedObject(*_whole(selection, scene, only), _why(gestures, is_started))
        return PromptedObject(*_whole(selection, scene, only))


def _only_slice(scene: ImageView, question: Question) -> int | None:
    """Return the slice k to which the result is restricted: that of the first prompt."""
    if len(scene.spacing) == 2 or question.parameters.get("extent") != "slice":
        return None
    if question.prompts:
        first = question.prompts[0].points
        k = int(np.floor(sum(point[0] for point in first) / len(first)))
    else:
        assert question.initial is not None
        window, mask = question.initial
        k = window.low[0] + int(mask.sum(axis=(1, 2)).argmax())
    return min(max(k, 0), scene.size(0)[0] - 1)


def _in_order(
    prompts: Sequence[Prompt], scene: ImageView, space: Space, only: int | None
) -> list[Stroke | Area]:
    """Return the gestures of `prompts` that lie on the image, in their order."""
    gestures = [
        _outlined(prompt, scene, space) or gesture_of(prompt, space, only) for prompt in prompts
    ]
    return [
        on
        for gesture in gestures
        if gesture is not None and (on := gesture.inside(space)) is not None
    ]


def _outlined(prompt: Prompt, scene: ImageView, space: Space) -> Stroke | None:
    """Return the object in a flat box or lasso in a volume, None for any other prompt."""
    if space.is_flat or not prompt.include or prompt.kind not in ("box", "polygon"):
        return None
    corners = np.array(prompt.points, np.float64)
    across = outlines.thin_axis(corners)
    if across is None:
        return None
    return outlines.stroke_of(scene, corners, across, prompt.kind == "box")


def _grown(space: Space, turns: list[Turn], areas: list[Area]) -> Selection:
    grown = growth.grow(space, turns, areas)
    stroke, before = turns[-1].stroke, turns[-1].before
    return grown if stroke.known is None else outlines.settle(space, stroke.known, before, grown)


def _initial(question: Question, space: Space, only: int | None) -> Selection:
    empty = Selection(Window(0, (0, 0, 0), (1, 1, 1)), np.zeros((1, 1, 1), np.bool_))
    if question.initial is None or not question.initial[1].size:
        return empty
    window, mask = question.initial
    if len(window.low) == 2:
        window, mask = Window(0, (0, *window.low), (1, *window.high)), mask[None]
    elif only is not None:
        if not window.low[0] <= only < window.high[0]:
            return empty
        mask = mask[only - window.low[0]][None]
        window = Window(0, (0, *window.low[1:]), (1, *window.high[1:]))
    cut = Window(0, (0, 0, 0), space.size(0))
    return cropped(Selection(window, mask), cut) or empty


def _fingerprint(selection: Selection) -> bytes:
    return repr(selection.window).encode() + np.packbits(selection.mask).tobytes()


def _note(key: hashlib._Hash, places: Places, *said: bool) -> None:
    key.update(repr((places.shape, said)).encode() + places.tobytes())


def _whole(selection: Selection, scene: ImageView, only: int | None) -> tuple[Window, Bool]:
    """Return the window and mask of `selection` in the axes of `scene`."""
    window, mask = selection.window, selection.mask
    if only is not None:
        low, high = (only, *window.low[1:]), (only + 1, *window.high[1:])
        return Window(window.level, low, high), mask
    if len(scene.spacing) == 2:
        return Window(window.level, window.low[1:], window.high[1:]), mask[0]
    return window, mask


def _why(gestures: list[Stroke | Area], is_started: bool) -> str:
    if is_started:
        return NOTHING_LEFT
    if not gestures:
        return OUTSIDE
    return NO_BORDER if any(gesture.include for gesture in gestures) else ONLY_EXCLUDED
