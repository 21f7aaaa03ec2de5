"""Exports by name: one for each dialect."""

from __future__ import annotations

from typing import Literal

from isoline.errors import NotSupported, UnknownFormat
from isoline.exports.base import Encoder
from isoline.plugins import Plugins

EXPORTS: Plugins[Encoder] = Plugins("export", UnknownFormat)
"""The dialects that are installed."""


def check_kind(encoder: type[Encoder], kind: Literal["objects", "regions", "mask"]) -> None:
    """Raise NotSupported where the dialect of `encoder` cannot say results of `kind`."""
    if kind in encoder.kinds:
        return
    if kind == "mask":
        raise NotSupported(f"{encoder.name} writes outlines, not masks", "ask for format ohif")
    raise NotSupported(f"{encoder.name} writes masks, not outlines", "ask for another format")
