"""Exports by name: one for each dialect."""

from __future__ import annotations

from isoline.errors import UnknownFormat
from isoline.exports.base import Encoder
from isoline.plugins import Plugins

EXPORTS: Plugins[Encoder] = Plugins("export", UnknownFormat)
"""The dialects that are installed."""
