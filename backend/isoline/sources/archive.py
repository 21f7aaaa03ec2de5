"""Where an archive that speaks DICOMweb (PS3.18) answers; what talks to it is in `dicomweb`."""

from __future__ import annotations

from dataclasses import dataclass, field

PARALLEL = 8
"""Frames asked for at once."""


@dataclass(frozen=True)
class Archive:
    """[dicomweb.NAME]: where an archive answers, and what it wants to hear first."""

    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Sent with every request; what grants access belongs here."""
    timeout_seconds: float = 30.0
    """Longest silence of the archive."""
    parallel: int = PARALLEL
    volume_mib: int = 4096
    """The largest volume that is fetched, as float32."""
