"""Series that mix several volumes: echoes, b-values or moments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from isoline.errors import BadSeries
from isoline.sources.dicom_frames import Slice

_ALWAYS = ("EchoTime", "DiffusionBValue")
"""Attributes that all slices of a volume have in common; others may vary from slice to slice."""
_MOST_NAMED = 8
_DECIMALS = 3


def check_single(slices: Sequence[Slice]) -> None:
    """Raise BadSeries if `slices` are those of several volumes, by what their headers say."""
    places = Counter(_place(each) for each in slices)
    is_stacked = len(places) > 1 and max(places.values()) > 1
    names = dict.fromkeys(name for each in slices for name, _ in each.contrast)
    for name in names:
        if not (is_stacked or name in _ALWAYS):
            continue
        volumes = _volumes(slices, name)
        if len(volumes) < 2 or any(_repeats(each) for each in volumes.values()):
            continue
        if is_stacked or all(len(each) > 1 for each in volumes.values()):
            raise BadSeries(
                f"the series has {len(volumes)} volumes that differ in {name}:"
                f" {_listed(volumes)}{_lost(volumes, places) if is_stacked else ''}",
                "split it into one series per volume, for example with dcm2niix",
            )


def _place(each: Slice) -> tuple[float, ...]:
    return tuple(np.round(each.plane.origin_mm, _DECIMALS).tolist())


def _volumes(slices: Sequence[Slice], name: str) -> dict[str, list[Slice]]:
    volumes: dict[str, list[Slice]] = {}
    for each in slices:
        volumes.setdefault(dict(each.contrast).get(name, "none"), []).append(each)
    return dict(sorted(volumes.items(), key=lambda item: _order(item[0])))


def _order(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return np.inf, value


def _repeats(volume: Sequence[Slice]) -> bool:
    return len({_place(each) for each in volume}) < len(volume)


def _listed(volumes: dict[str, list[Slice]]) -> str:
    named = [f"{value} ({len(each)} slices)" for value, each in volumes.items()]
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    return ", ".join(named[:_MOST_NAMED]) + more


def _lost(volumes: dict[str, list[Slice]], places: Counter[tuple[float, ...]]) -> str:
    """Return which volume lacks which slice, empty if none does."""
    for number, (value, volume) in enumerate(volumes.items(), 1):
        lost = sorted(set(places) - {_place(each) for each in volume})
        if lost and len(lost) < len(volume):
            where = ", ".join(f"{each:g}" for each in lost[0])
            return f"; volume {number} ({value}) lacks the slice at ({where}) mm"
    return ""
