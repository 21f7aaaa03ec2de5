"""Epithelium and lumen in H&E: the SHELL network (LaViolette Lab, MIT), run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from isoline.domain.events import Label
from isoline.errors import BadSpacing
from isoline.models import stain
from isoline.models.model import (
    Classes,
    Model,
    ModelSpec,
    Patch,
    Regions,
    Statistics,
    Switch,
    Weights,
)
from isoline.models.onnx import session

_REQUIREMENT = "lavlab-shell==0.9.1"
_WHEEL = "fdb2acb832afccfebe908a2a04d0d081081b96b9fa07e3a416f708fbaff1a417"
_GRAPH = "model_v1.onnx"
"""The graph refers to its tensor file, `model_v1.onnx.data`, which must be in the same folder."""

_TILE_PX = 448
_HALO_PX = 32
READ_PX = _TILE_PX + 2 * _HALO_PX


class Epithelium(Model):
    """SHELL, a SegResNet trained on prostate; its group normalisation sees the whole input."""

    spec: ClassVar[ModelSpec] = ModelSpec(
        name="epithelium",
        title="Epithelium and lumen (SHELL)",
        description="Glandular epithelium and the lumen inside it, in H&E at 1 um per pixel."
        " Trained on prostate: interpret results on other tissue with care.",
        version="0.9.1",
        labels=(Label("Epithelium", (152, 78, 163)), Label("Lumen", (77, 175, 255))),
        output=Regions(),
        spacings_um=(1.0,),
        tile_px=_TILE_PX,
        reach_px=_HALO_PX,
        fixed_tile=True,
        skips_glass=True,
        on_gpu=True,
        has_statistics=True,
        parameters=(
            Switch("lumen", False, "Outline lumens too; glass beside tissue can look like one."),
        ),
        weights=(
            Weights(
                file=_GRAPH,
                sha256="eb2cff4a9dd2155202a7adfc34ce883ad538b13edbe3b7b78e9b96817f6ab8c4",
                requirement=_REQUIREMENT,
                archive_sha256=_WHEEL,
                member=f"shell/weights/{_GRAPH}",
                binary=True,
            ),
            Weights(
                file=f"{_GRAPH}.data",
                sha256="4aaf2db842c87e6591f262934d5c68d8f3559e3cfe0c2a444d2e5290ad02f742",
                requirement=_REQUIREMENT,
                archive_sha256=_WHEEL,
                member=f"shell/weights/{_GRAPH}.data",
                binary=True,
            ),
        ),
        licence="MIT",
        cite="https://github.com/laviolette-lab/shell",
    )

    def __init__(self, weights: Mapping[str, Path], device: str) -> None:
        """Load the graph onto `device`: "cpu", with one thread, or "cuda:N"."""
        self._session = session(weights[_GRAPH], device)

    def statistics(self, samples: Sequence[Patch]) -> Statistics:
        """Return `tables` (3, 3, 256); the network's inputs are sums of look-ups over the channels.

        The inputs are eosin, hematoxylin and mean optical density after a Macenko fit, each from 0
        on clear glass to 1 at the 98th percentile of the tissue.
        """
        pixels = stain.sampled(samples).pixels
        stains = stain.estimate(pixels)
        hematoxylin, eosin = stains.unmixing
        mixing = np.stack([eosin, hematoxylin, np.full(3, 1 / 3)])
        density = stain.tissue_densities(pixels, stains.white)
        top = np.ones(3)
        if density.size:
            top = np.maximum(np.percentile(mixing @ density, 98, axis=1), 0.05)
        tables = (mixing / top[:, None])[:, :, None] * stains.density
        return {"tables": tables.astype(np.float32)}

    def remarks(self, samples: Sequence[Patch]) -> tuple[str, ...]:
        return stain.sampled(samples).remarks()

    def infer(self, patch: Patch) -> Classes:
        if patch.pixels.shape[1:] != (READ_PX, READ_PX):
            raise BadSpacing(
                f"epithelium reads {READ_PX} x {READ_PX} pixels, not {patch.pixels.shape[1:]}",
                f"use tiles of {_TILE_PX} pixels",
            )
        (logits,) = self._session.run(None, {"input": network_input(patch)[None]})
        classes = decide(logits[0])
        if not patch.parameters["lumen"]:
            classes[classes == 2] = 0
        return Classes(classes)


def network_input(patch: Patch) -> NDArray[np.float32]:
    """Return (3, y, x) eosin, hematoxylin and optical density, 0 .. 1.

    The image is mirrored beyond its border: padding with glass would shift the group normalisation.
    """
    tables = np.asarray(patch.statistics["tables"], np.float32)
    box = patch.image
    red, green, blue = patch.pixels[:, box.y0 : box.y1, box.x0 : box.x1].astype(np.uint8)
    channels = np.stack([t[0][red] + t[1][green] + t[2][blue] for t in tables])
    height, width = patch.pixels.shape[1:]
    beyond = ((0, 0), (box.y0, height - box.y1), (box.x0, width - box.x1))
    return np.pad(np.clip(channels, 0, 1), beyond, mode="symmetric")


def decide(logits: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (y, x) classes from logits (3, y, x) of lumen, epithelium and everything else.

    The class with the largest logit wins, if it has better than even odds. 1 is epithelium, 2
    lumen.
    """
    lumen, epithelium, other = logits
    ranked = np.stack([np.maximum(other, 0), epithelium, lumen])
    classes: NDArray[np.uint8] = ranked.argmax(axis=0).astype(np.uint8)
    return classes
