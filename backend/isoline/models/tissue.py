"""Tissue as opposed to glass, as regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from isoline.domain.events import Label
from isoline.models.base import (
    Classes,
    Model,
    ModelSpec,
    Patch,
    Regions,
    Statistics,
    Switch,
)
from isoline.models.tissue_mask import Glass, evidence, ink

_BLUR_PX = 2.0
_SMOOTHING_PX = 4.0
_RADII = (6, 12)
"""Radii of the two Gaussian filters: three times their sigma."""


class Tissue(Model):
    """Pixels that differ from the glass of the same slide, with a smooth outline."""

    spec: ClassVar[ModelSpec] = ModelSpec(
        name="tissue",
        title="Tissue",
        description="Tissue on a brightfield slide. Pen marks, dust and shadows are left out"
        " where colour distinguishes them.",
        version="1",
        labels=(Label("Tissue", (255, 200, 0)),),
        output=Regions(),
        spacings_um=(4.0,),
        reach_px=sum(_RADII),
        has_statistics=True,
        parameters=(Switch("leave_out_pens", True, "Leave out green, blue and black pen marks."),),
        cite="Otsu, IEEE Trans. Syst. Man Cybern. 9:62 (1979)",
    )

    def statistics(self, samples: Sequence[Patch]) -> Statistics:
        """Return the colour of glass, `white` (3,), and the tissue `threshold` (1,)."""
        pixels = [_smooth(_on_image(sample))[:, ::2, ::2].reshape(3, -1) for sample in samples]
        glass = Glass.of(np.concatenate(pixels, axis=1))
        return {"white": glass.white, "threshold": np.array([glass.threshold], np.uint8)}

    def infer(self, patch: Patch) -> Classes:
        smooth = _smooth(_on_image(patch))
        white = np.asarray(patch.statistics["white"], np.uint8)
        found = evidence(smooth, white) >= patch.statistics["threshold"][0]
        if patch.parameters["leave_out_pens"]:
            found &= ~ink(smooth)
        # the majority within a Gaussian window: no specks and no frayed outline
        share = _gaussian(found.astype(np.uint8) * 255, _SMOOTHING_PX, _RADII[1])
        classes = np.zeros(patch.pixels.shape[1:], np.uint8)
        box = patch.image
        classes[box.y0 : box.y1, box.x0 : box.x1] = share >= 128
        return Classes(classes)


def _on_image(patch: Patch) -> NDArray[np.uint8]:
    box = patch.image
    return patch.pixels[:, box.y0 : box.y1, box.x0 : box.x1].astype(np.uint8)


def _smooth(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([_gaussian(plane, _BLUR_PX, _RADII[0]) for plane in rgb])


def _gaussian(plane: NDArray[np.uint8], sigma: float, radius: int) -> NDArray[np.uint8]:
    # OpenCV filters 8-bit planes in fixed point, so a pixel does not depend on where the plane
    # starts
    side = 2 * radius + 1
    return np.asarray(cv2.GaussianBlur(plane, (side, side), sigma), np.uint8)
