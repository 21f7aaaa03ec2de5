"""Segment Anything (SAM, SAM 2, MobileSAM) with an ONNX encoder and decoder that the user provides.

The encoder sees a square of the image, resampled to 1024 x 1024 pixels, and its embedding is
cached: further prompts on the same object run only the small decoder. Squares lie on a lattice with
a pitch of a quarter of their side, so neighbouring objects can share them.

Kirillov et al., Segment Anything (2023); Ravi et al., SAM 2 (2024).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from isoline.domain.events import Label
from isoline.domain.prompts import KINDS, Prompt
from isoline.errors import WeightsMissing
from isoline.models.model import ModelSpec, Number, OwnFile
from isoline.models.promptable import ImageView, PromptableModel, PromptedObject, Question, Window

Tensors: TypeAlias = Mapping[str, NDArray[np.float32]]

SIDE = 1024
_LOW = 256
"""Side of the decoder's low-resolution masks."""
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
_EXCLUDE, _INCLUDE, _CORNER, _OTHER_CORNER, _PADDING = 0, 1, 2, 3, -1
"""Point labels of the prompt encoder."""
_PLACES = 8
"""Largest number of positions taken from a scribble."""
_SURE = 10.0
"""The logit given to the pixels of an initial mask."""
_ENCODER, _DECODER = "sam/encoder.onnx", "sam/decoder.onnx"
_SOURCE = (
    "export SAM, SAM 2 or MobileSAM, for example with `samexporter`, and put both files under the"
    " server's data directory: weights/sam/encoder.onnx and weights/sam/decoder.onnx"
)
_TYPES = {"tensor(float16)": np.float16, "tensor(int32)": np.int32, "tensor(int64)": np.int64}
"""Types of a decoder's inputs other than float32: exports differ in this."""
_EMBEDDINGS = ("image_embeddings", "image_embed")
_PROMPTS = ("point_coords", "point_labels", "mask_input", "has_mask_input")


class Sam(PromptableModel):
    """Runs the encoder once per square and the decoder once per prompt."""

    spec: ClassVar[ModelSpec] = ModelSpec(
        name="sam",
        title="Segment Anything",
        description="SAM, SAM 2 or MobileSAM, from ONNX files that you provide.",
        version="1",
        labels=(Label("Object", (0, 158, 115)),),
        prompt_dimensions=(2,),
        channels=(1, 3),
        prompts=KINDS,
        parameters=(
            Number(
                "view_px",
                512,
                64,
                8192,
                "Side of the square that the network sees, in image pixels; it grows with the"
                " prompts.",
                integer=True,
            ),
        ),
        own_files=(OwnFile(_ENCODER, _SOURCE), OwnFile(_DECODER, _SOURCE)),
        cite="Kirillov et al., Segment Anything (2023); Ravi et al., SAM 2 (2024)",
    )

    def __init__(self, weights: Mapping[str, Path], device: str) -> None:
        """Load both graphs; raise WeightsMissing if they do not fit together."""
        from isoline.models.onnx import session  # here, so that listing models loads no runtime

        self._encoder = session(weights[_ENCODER], device)
        self._decoder = session(weights[_DECODER], device)
        inputs = [each.name for each in self._decoder.get_inputs()]
        outputs = [each.name for each in self._encoder.get_outputs()]
        given = set(outputs) | set(_PROMPTS) | {"orig_im_size"}
        wrong = sorted({*inputs} - given) or sorted({*_PROMPTS[:2]} - {*inputs})
        if wrong or len(self._encoder.get_inputs()) != 1 or not {*_EMBEDDINGS} & {*outputs}:
            raise WeightsMissing(
                f"sam/encoder.onnx outputs {', '.join(outputs)} and sam/decoder.onnx takes"
                f" {', '.join(inputs)}: the two do not fit together",
                _SOURCE,
            )
        self._inputs = {
            each.name: _TYPES.get(each.type, np.float32) for each in self._decoder.get_inputs()
        }

    def answer(self, scene: ImageView, question: Question) -> PromptedObject:
        window = _square(scene, question)
        embedding = scene.keep(("embedding", window), partial(self._embed, scene, window))
        mask = _start(question, window, scene)
        key = hashlib.sha256(repr((window, mask is not None)).encode())
        if mask is not None:
            key.update(mask.tobytes())
        logits: NDArray[np.float32] | None = None
        for n, prompt in enumerate(question.prompts, 1):
            key.update(repr(prompt).encode())
            tokens = list(_tokens(question.prompts[:n], window, scene))
            if not any(label in (_INCLUDE, _CORNER) for _, label in tokens) and mask is None:
                continue
            make = partial(self._decode, embedding, tokens, mask)
            logits, mask = scene.keep(("decoded", key.hexdigest()), make)
        if logits is None and mask is not None:
            logits = mask
        if logits is None:
            nothing = np.zeros(window.shape, np.bool_)
            return PromptedObject(
                window, nothing, "nothing is included; click on the object itself"
            )
        found = _in_window(logits, window)
        reason = "" if found.any() else "the network sees no object there; draw a box around it"
        return PromptedObject(window, found, reason)

    def _embed(self, scene: ImageView, window: Window) -> Tensors:
        (entry,) = self._encoder.get_inputs()
        pixels = _rgb(scene, window)
        if len(entry.shape) == 3:  # the graph itself scales, pads and normalises
            image = pixels
        else:
            image = ((pixels - _MEAN) / _DEVIATION).transpose(2, 0, 1)[None]
        names = [each.name for each in self._encoder.get_outputs()]
        values = self._encoder.run(names, {entry.name: np.ascontiguousarray(image)})
        return dict(zip(names, values, strict=True))

    def _decode(
        self,
        embedding: Tensors,
        tokens: Sequence[tuple[tuple[float, float], int]],
        mask: NDArray[np.float32] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the logits of the best mask, at the decoder's output size and at (256, 256)."""
        if not any(label == _CORNER for _, label in tokens):
            tokens = [*tokens, ((0.0, 0.0), _PADDING)]
        before = np.zeros((_LOW, _LOW), np.float32) if mask is None else mask
        feed = {
            **embedding,
            "point_coords": np.array([[place for place, _ in tokens]], np.float32),
            "point_labels": np.array([[label for _, label in tokens]], np.float32),
            "mask_input": before[None, None],
            "has_mask_input": np.array([mask is not None], np.float32),
            "orig_im_size": np.array([SIDE, SIDE], np.float32),
        }
        names = [each.name for each in self._decoder.get_outputs()]
        values = self._decoder.run(
            names,
            {name: feed[name].astype(kind, copy=False) for name, kind in self._inputs.items()},
        )
        given = dict(zip(names, values, strict=True))
        scores = given.get("iou_predictions")
        best = 0 if scores is None else int(np.asarray(scores)[0].argmax())
        logits = np.ascontiguousarray(given["masks"][0, best], np.float32)
        low = given.get("low_res_masks")
        if low is not None:
            return logits, np.ascontiguousarray(low[0, best], np.float32)
        return logits, np.asarray(cv2.resize(logits, (_LOW, _LOW)), np.float32)


def _square(scene: ImageView, question: Question) -> Window:
    """Return the part of the image that the network sees.

    It is centred on the first including prompt, or on the mask, and at least twice as long as the
    extent of all prompts.
    """
    places = [place for prompt in question.prompts for place in prompt.points]
    first = next((p.points for p in question.prompts if p.include), None)
    if question.initial is not None and question.initial[1].any():
        window, mask = question.initial
        drawn = np.argwhere(mask)[:, :2] + window.low
        corners = [drawn.min(axis=0), drawn.max(axis=0) + 1]
        first = first or tuple(map(tuple, corners))
        places += list(map(tuple, corners))
    centre = np.mean(first or places, axis=0)
    span = 2 * float(np.abs(np.array(places) - centre).max()) if places else 0.0
    side = float(question.parameters.get("view_px", 512))
    while side < 2 * span:
        side *= 2
    seen = min(side, max(scene.size(0)))
    level = max(
        each for each in range(scene.levels) if each == 0 or max(scene.factor(each)) * SIDE <= seen
    )
    factor, size = np.array(scene.factor(level)), np.array(scene.size(level))
    length = max(1, round(side / max(factor)))
    step = max(1, length // 4)
    low = np.rint((centre / factor - length / 2) / step).astype(int) * step
    low = np.clip(low, 0, np.maximum(size - length, 0))
    high = np.minimum(low + length, size)
    return Window(level, tuple(map(int, low)), tuple(map(int, high)))


def _rgb(scene: ImageView, window: Window) -> NDArray[np.float32]:
    """Return (y, x, 3) pixels, 0 .. 255, scaled so that the longer side is `SIDE` pixels.

    Padded below and at the right with the mean, which becomes 0 when normalised.
    """
    read = scene.read(window)
    pixels = read.astype(np.float32)
    if read.dtype != np.uint8:
        low, high = np.percentile(pixels, [0.5, 99.5])
        pixels = (pixels - low) * (255 / max(high - low, 1e-6))
    pixels = np.repeat(pixels, 3, axis=0) if len(pixels) == 1 else pixels
    scale = SIDE / max(pixels.shape[1:])
    size = round(pixels.shape[2] * scale), round(pixels.shape[1] * scale)
    image = cv2.resize(pixels.clip(0, 255).transpose(1, 2, 0), size)
    padded = np.tile(_MEAN, (SIDE, SIDE, 1))
    padded[: size[1], : size[0]] = image
    return padded


def _tokens(
    prompts: Sequence[Prompt], window: Window, scene: ImageView
) -> Iterable[tuple[tuple[float, float], int]]:
    """Yield x, y in the network's frame and a label for each point that represents `prompts`.

    An including lasso becomes its bounding box, an excluding one its centre; a scribble becomes a
    selection of its positions.
    """
    scale = SIDE / max(window.shape)
    factor = np.array(scene.factor(window.level))

    def frame(place: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
        y, x = (np.asarray(place, float) / factor - window.low) * scale
        return float(x), float(y)

    boxes = [np.array(p.points) for p in prompts if p.include and p.kind in ("box", "polygon")]
    for prompt in prompts:
        label = _INCLUDE if prompt.include else _EXCLUDE
        if prompt.kind in ("point", "scribble"):
            picked = np.linspace(0, len(prompt.points) - 1, min(_PLACES, len(prompt.points)))
            for n in np.rint(picked).astype(int):
                yield frame(prompt.points[n]), label
        elif not prompt.include:
            yield frame(np.mean(prompt.points, axis=0)), label
    if boxes:
        corners = np.concatenate(boxes)
        yield frame(corners.min(axis=0)), _CORNER
        yield frame(corners.max(axis=0)), _OTHER_CORNER


def _start(question: Question, window: Window, scene: ImageView) -> NDArray[np.float32] | None:
    """Return the initial mask as (256, 256) logits in the network's frame."""
    if question.initial is None or not question.initial[1].any():
        return None
    where, mask = question.initial
    scale = _LOW / max(window.shape)
    factor = np.array(scene.factor(window.level))
    (y, x), each = (np.array(where.low) / factor - window.low) * scale, scale / factor
    moved = cv2.warpAffine(
        mask.astype(np.float32),
        np.array([[each[1], 0, x], [0, each[0], y]], np.float32),
        (_LOW, _LOW),
        flags=cv2.INTER_AREA if max(each) < 1 else cv2.INTER_LINEAR,
    )
    return np.asarray((2 * moved - 1) * _SURE, np.float32)


def _in_window(logits: NDArray[np.float32], window: Window) -> NDArray[np.bool_]:
    """Return the pixels of `window` where `logits`, given for the whole frame, are above 0."""
    longest = max(window.shape)
    whole = cv2.resize(logits, (longest, longest), interpolation=cv2.INTER_LINEAR)
    rows, columns = window.shape
    found: NDArray[np.bool_] = whole[:rows, :columns] > 0
    return found
