"""Models that misbehave as real ones do; on the path of test servers only."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import cc3d
import cv2
import numpy as np
from numpy.typing import NDArray

from isoline.domain.events import Label
from isoline.models.model import (
    Bounded,
    Choice,
    Classes,
    Instances,
    Model,
    ModelSpec,
    Number,
    Patch,
    Regions,
    Statistics,
    Voxels,
)
from isoline.models.promptable import ImageView, PromptableModel, PromptedObject, Question, Window
from isoline.models.volumetric import Scan, Step, VolumeModel, give, outward


class Slow(Model):
    """Takes its time over every tile and finds its middle."""

    spec = ModelSpec(
        name="slow",
        title="Slow",
        description="Waits, then marks the left half of what it sees.",
        version="1",
        labels=(Label("half", (200, 100, 0)),),
        output=Regions(),
        tile_px=256,
        parameters=(Number("seconds", 0.3, 0.0, 60.0, "How long a tile takes."),),
    )

    def infer(self, patch: Patch) -> Classes:
        time.sleep(float(patch.parameters["seconds"]))
        _, height, width = patch.pixels.shape
        classes = np.zeros((height, width), np.uint8)
        classes[8:-8, 8 : width // 2] = 1
        return Classes(classes)


class Specks(Model):
    """Finds a great many small things, without looking."""

    spec = ModelSpec(
        name="specks",
        title="Specks",
        description="Marks 256 small crosses in every tile.",
        version="1",
        labels=(Label("speck", (120, 0, 160)),),
        output=Regions(),
        tile_px=256,
    )

    def infer(self, patch: Patch) -> Classes:
        cell = np.zeros((16, 16), np.uint8)
        cell[4:12, 7:9] = cell[7:9, 4:12] = 1
        _, height, width = patch.pixels.shape
        return Classes(np.tile(cell, (height // 16 + 1, width // 16 + 1))[:height, :width])


class Thorough(Slow):
    """Takes its time over the whole image, before the first tile."""

    spec = replace(
        Slow.spec,
        name="thorough",
        title="Thorough",
        spacings_um=(1.0,),
        has_statistics=True,
        parameters=(Number("seconds", 0.0, 0.0, 60.0, "How long the look takes."),),
    )

    def statistics(self, samples: Sequence[Patch]) -> Statistics:
        time.sleep(float(samples[0].parameters["seconds"]))
        return {}


class Halves(VolumeModel):
    """Takes its time over every slab of a volume."""

    spec = ModelSpec(
        name="halves",
        title="Halves",
        description="Everything at first, then the two halves of each slice, slab by slab.",
        version="1",
        labels=(Label("low", (200, 100, 0)), Label("high", (0, 100, 200))),
        output=Voxels(),
        parameters=(Number("seconds", 0.2, 0.0, 60.0, "How long a slab takes."),),
    )

    def segment(self, scan: Scan) -> Iterator[Step]:
        whole: NDArray[np.uint8] = np.ones(scan.voxels.shape, np.uint8)
        yield from give(whole, scan.focus, provisional=True, done=0.1)
        whole[:, :, whole.shape[2] // 2 :] = 2
        for n, slices in enumerate(outward(len(whole), scan.focus), 1):
            seconds = float(scan.parameters["seconds"])
            while seconds > 0:
                time.sleep(min(seconds, 0.2))
                seconds -= 0.2
                yield Step(0.1)
            yield Step(min(1.0, 0.1 + n * len(slices) / len(whole)), slices, whole[list(slices)])


class Faulty(Model):
    """Fails on tiles whose middle pixel is dark."""

    spec = ModelSpec(
        name="faulty",
        title="Faulty",
        description="Raises, or takes its process down, where the middle of a tile is dark.",
        version="1",
        labels=(Label("tile", (0, 0, 200)),),
        output=Regions(),
        tile_px=256,
        parameters=(Choice("how", "raise", ("raise", "die"), "What it does there."),),
    )

    def infer(self, patch: Patch) -> Classes:
        _, height, width = patch.pixels.shape
        if patch.pixels[:, height // 2, width // 2].mean() < 150:
            if patch.parameters["how"] == "die":
                os._exit(9)
            raise ArithmeticError("the middle is dark")
        return Classes(np.ones((height, width), np.uint8))


class Greedy(Model):
    """Finds dark things, and cannot do it on tiles that are large."""

    spec = ModelSpec(
        name="greedy",
        title="Greedy",
        description="Hangs, or takes more memory than there is, on tiles wider than a limit.",
        version="1",
        labels=(Label("dark", (0, 0, 0)),),
        output=Bounded(10.0),
        tile_px=256,
        parameters=(
            Choice("how", "raise", ("raise", "grow", "hang"), "What it does there."),
            Number("widest", 256.0, 0.0, 4096.0, "Largest tile, halo included, that it can do."),
            Number("seconds", 0.0, 0.0, 60.0, "How long a tile takes besides."),
        ),
    )

    def infer(self, patch: Patch) -> Instances:
        time.sleep(float(patch.parameters["seconds"]))
        if patch.pixels.shape[2] > float(patch.parameters["widest"]):
            if patch.parameters["how"] == "hang":
                time.sleep(600)
            if patch.parameters["how"] == "raise":
                raise MemoryError
            taken = [np.ones(1 << 24) for _ in range(40)]  # 5 GiB if nobody stops it
            time.sleep(len(taken))
        dark = (patch.pixels.mean(axis=0) < 180).astype(np.uint8)
        _, labels = cv2.connectedComponents(dark, connectivity=4)
        return Instances(labels.astype(np.int32))


class Flood(PromptableModel):
    """Finds the dark things under points, exactly: what comes out is known beforehand."""

    spec = ModelSpec(
        name="flood",
        title="Flood",
        description="The dark things under points, less those under points that exclude.",
        version="1",
        labels=(Label("thing", (0, 120, 200)),),
        prompt_dimensions=(2, 3),
        channels=(1, 3),
        prompts=("point", "scribble", "polygon"),
        parameters=(
            Number("level", 0, 0, 20, "Where it works.", integer=True),
            Number("below", 128.0, -1e4, 1e4, "What is dark."),
            Number("seconds", 0.0, 0.0, 60.0, "How long it takes besides."),
        ),
    )

    def answer(self, scene: ImageView, question: Question) -> PromptedObject:
        time.sleep(float(question.parameters["seconds"]))
        level = min(int(question.parameters["level"]), scene.levels - 1)
        labels = scene.keep(
            (level, question.parameters["below"]),
            lambda: _things(scene, level, float(question.parameters["below"])),
        )
        mask = np.zeros(labels.shape, np.bool_)
        if question.initial is not None and level == 0:
            window, start = question.initial
            mask[tuple(map(slice, window.low, window.high))] = start
        for prompt in question.prompts:
            at = np.floor_divide(prompt.points, scene.factor(level)).astype(int)
            at = at.clip(0, np.array(labels.shape) - 1)
            for label in np.unique(labels[tuple(at.T)]):
                mask[(labels == label) & (label > 0)] = prompt.include
        found = np.array(mask.nonzero())
        low = found.min(axis=1, initial=max(mask.shape))
        high = np.maximum(found.max(axis=1, initial=-1) + 1, low)
        # a border of nothing, beyond the image too
        window = Window(level, tuple((low - 3).tolist()), tuple((high + 3).tolist()))
        inside = tuple(map(slice, low.tolist(), high.tolist()))
        return PromptedObject(
            window, np.pad(mask[inside], 3), "" if mask.any() else "it is bright there"
        )


def _things(scene: ImageView, level: int, below: float) -> NDArray[np.unsignedinteger]:
    size = scene.size(level)
    pixels = scene.read(Window(level, (0,) * len(size), size))
    dark = pixels.mean(axis=0) < below
    return cc3d.connected_components(
        dark, connectivity=4 if len(size) == 2 else 6, out_dtype=np.uint32
    )


class Twofold(Flood, VolumeModel):
    """Labels a volume by itself, and the thing under points better: as DeepEdit does."""

    spec = replace(
        Flood.spec,
        name="twofold",
        title="Twofold",
        description="Everything dark without points, the dark thing under them with points.",
        output=Voxels(),
        prompt_dimensions=(3,),
        channels=(1,),
    )

    def segment(self, scan: Scan) -> Iterator[Step]:
        dark = scan.voxels.astype(np.float64) < float(scan.parameters["below"])
        yield from give(dark.astype(np.uint8), scan.focus, provisional=False, done=1.0)
