"""Label map slices for OHIF: identified as in the viewer, cropped and run-length encoded.

    {"instance": SOPInstanceUID, "frame": 1, "k": 12, "layers": [
        {"label": 1, "box": [i0, j0, i1, j1], "runs": BASE64}, ...]}

`instance` and `frame` are null if slices have no names (NIfTI). A slice without layers is empty.
`domain.mask_rle` describes the content of `runs`.
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
    """Slices that the OHIF plugin draws into its label map."""

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
        raise NotSupported("ohif supports masks, not outlines", "use another format")

    def header(self, started: Started) -> bytes:
        raise NotSupported("ohif is a stream, not a file format", "use nifti, dicomseg or rtstruct")

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
