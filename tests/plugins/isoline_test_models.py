"""Models that misbehave as real ones do; on the path of test servers only."""

from __future__ import annotations

import os
import time

import numpy as np

from isoline.events import Label
from isoline.models.base import Choice, Classes, Model, ModelSpec, Number, Patch, Regions


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
