"""Slices of labels for OHIF: named as the viewer names them, cropped and run-length coded.

    {"instance": SOPInstanceUID, "frame": 1, "k": 12, "layers": [
        {"label": 1, "box": [i0, j0, i1, j1], "runs": BASE64}, ...]}

`instance` and `frame` are null where slices have no names (NIfTI). A slice without layers is empty.
What `runs` holds is told in `domain.mask_rle`.
"""

from __future__ import annotations

from binascii import b2a_base64

import orjson

from isoline.domain import mask_rle
from isoline.domain.events import End, Layer, Mask, Objects, Started
from isoline.errors import NotSupported
from isoline.exports.base import Encoder
from isoline.geometry.volume_grid import SliceName


class OHIF(Encoder):
    """What the OHIF plugin draws into its labelmap."""

    name = "ohif"
    suffix = ".json"
    media_type = "application/json"
    kinds = frozenset(("mask",))

    def mask(self, mask: Mask, started: Started) -> bytes:
        names = started.volume.slices if started.volume is not None else ()
        return b",".join(
            _slice(k, names[k] if names else None, layers) for k, layers in mask_rle.layers(mask)
        )

    def features(self, objects: Objects, started: Started, provisional: bool) -> bytes:
        raise NotSupported("ohif writes masks, not outlines", "ask for another format")

    def header(self, started: Started) -> bytes:
        raise NotSupported("ohif is a stream, not a file", "use nifti, dicomseg or rtstruct")

    def footer(self, started: Started, end: End | None) -> bytes:
        return b""


def _slice(k: int, name: SliceName | None, layers: list[Layer]) -> bytes:
    coded = [
        {
            "label": layer.label,
            "box": layer.box,
            "runs": b2a_base64(layer.code, newline=False).decode("ascii"),
        }
        for layer in layers
    ]
    instance, frame = name or (None, None)
    return orjson.dumps({"instance": instance, "frame": frame, "k": k, "layers": coded})
