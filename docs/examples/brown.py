"""A model in thirty lines: brown stain (DAB) as connected areas."""

import numpy as np

from isoline.domain.events import Label
from isoline.models.model import Classes, Model, ModelSpec, Number, Patch, Unbounded


class Brown(Model):
    """Every pixel that is redder than it is blue."""

    spec = ModelSpec(
        name="brown",
        title="Brown (DAB)",
        description="Connected areas of brown stain.",
        version="1",
        labels=(Label("Positive", (150, 75, 0)),),
        output=Unbounded(),  # objects of any size: isoline merges them across tiles
        spacings_um=(0.5, 1.0),  # pixels of this size are what infer() gets
        parameters=(Number("margin", 40, 1, 255, "How much redder than blue.", integer=True),),
    )

    def infer(self, patch: Patch) -> Classes:
        red, _, blue = patch.pixels.astype(np.int16)
        brown = red - blue > int(patch.parameters["margin"])
        return Classes(brown.astype(np.uint8))  # 0 is background, 1 the first label
