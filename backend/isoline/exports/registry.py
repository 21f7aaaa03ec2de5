"""Encoders by name, one for each dialect."""

from __future__ import annotations

from typing import Literal

from isoline.errors import NotSupported, UnknownFormat
from isoline.exports.encoder import Encoder
from isoline.plugins import Plugins

EXPORTS: Plugins[Encoder] = Plugins("export", UnknownFormat)
"""The installed dialects."""


def check_kind(encoder: type[Encoder], kind: Literal["objects", "regions", "mask"]) -> None:
    """Raise NotSupported if the dialect of `encoder` cannot express results of `kind`."""
    if kind in encoder.kinds:
        return
    if kind == "mask":
        raise NotSupported(
            f"{encoder.name} supports outlines, not masks", "leave format out, or use ohif"
        )
    raise NotSupported(
        f"{encoder.name} supports masks, not outlines", "leave format out, or use geojson"
    )
