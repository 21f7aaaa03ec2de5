"""Where a user may look: at a point of a picture, or at a slice of a volume."""

from __future__ import annotations

from isoline.domain.events import Started
from isoline.engines.engine import Agenda
from isoline.errors import NotSupported
from isoline.geometry.grid import XY, Grid
from isoline.geometry.volume_grid import SliceName, VolumeInfo


def look_at_point(grid: Grid, agenda: Agenda, at: XY | SliceName | int) -> None:
    """Move the focus of `agenda` to a point in image coordinates. Raises NotSupported for a
    slice."""
    agenda.focus(grid.point(_point(at)))


def look_at_slice(volume: VolumeInfo, name: str, agenda: Agenda, at: XY | SliceName | int) -> None:
    """Move the focus of `agenda` to a slice. Raises NotSupported for a point, BadRegion outside."""
    agenda.slice = _slice(volume, name, at)


def check_look(started: Started, at: XY | SliceName | int) -> None:
    """Raise what looking at `at` would raise in a job that has `started`, even if it has ended."""
    if started.volume is None:
        _point(at)
    else:
        _slice(started.volume, started.image, at)


def _point(at: XY | SliceName | int) -> XY:
    if not isinstance(at, XY):
        raise NotSupported(
            "slice does not apply to a picture", "send focus for a picture, slice for a volume"
        )
    return at


def _slice(volume: VolumeInfo, name: str, at: XY | SliceName | int) -> int:
    if isinstance(at, XY):
        raise NotSupported(
            "focus does not apply to a volume", "send focus for a picture, slice for a volume"
        )
    return volume.k_of(at, name)
