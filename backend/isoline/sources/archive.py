"""The address of a DICOMweb archive (PS3.18); the code that talks to it is in `dicomweb`."""

from __future__ import annotations

from dataclasses import dataclass, field

PARALLEL = 8
"""Frames requested in parallel."""


@dataclass(frozen=True)
class Archive:
    """[dicomweb.NAME]: the address of an archive, and the headers that it expects."""

    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Sent with every request; credentials belong here."""
    timeout_seconds: float = 30.0
    """How long the archive may stay silent."""
    parallel: int = PARALLEL
    volume_mib: int = 4096
    """Size as float32 of the largest volume to fetch."""
