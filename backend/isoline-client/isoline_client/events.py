"""The events of a job; isoline's `docs/protocol.md` has the meaning of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, TypeAlias

from isoline_client.options import Json


@dataclass(frozen=True)
class Started:
    """The job has started: its image, model and working grid."""

    seq: int
    job: str
    image: str
    image_size: tuple[int, int]
    spacing_um: tuple[float, float] | None
    z: int
    model: str
    version: str
    parameters: Mapping[str, float | int | bool | str]
    fingerprint: str
    scope: str
    kind: str
    labels: Sequence[Json]
    scale: tuple[float, float]
    tiles: int
    format: str
    volume: Json | None = None
    """For a volume: its grid in LPS millimetres and the names of its slices."""


@dataclass(frozen=True)
class Contours:
    """Features in the requested dialect, in image pixels."""

    seq: int
    features: Sequence[Json]
    provisional: bool
    """Shown until a later event replaces them, never stored."""
    replaces: Sequence[str]
    """Ids of provisional features that these take the place of."""


@dataclass(frozen=True)
class Mask:
    """Complete slices of labels of a volume; a later event replaces slices of an earlier one."""

    seq: int
    slices: Sequence[Json]
    provisional: bool
    """Shown until a final one comes, never stored."""


@dataclass(frozen=True)
class Progress:
    """The progress of the job."""

    seq: int
    tiles_done: int
    tiles: int
    seconds_left: float | None


@dataclass(frozen=True)
class Warned:
    """Something went wrong, but the job continues."""

    seq: int
    code: str
    message: str
    area: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class Done:
    """The job has finished."""

    seq: int
    objects: int
    tiles: int
    tiles_failed: int
    tiles_skipped: int
    seconds: float


@dataclass(frozen=True)
class Failed:
    """The job could not continue."""

    seq: int
    code: str
    message: str
    remedy: str


@dataclass(frozen=True)
class Cancelled:
    """The job was cancelled."""

    seq: int
    tiles_done: int
    tiles: int


Event: TypeAlias = Started | Contours | Mask | Progress | Warned | Done | Failed | Cancelled
End: TypeAlias = Done | Failed | Cancelled

_EVENTS: Mapping[str, type[Event]] = {
    kind.__name__.lower(): kind
    for kind in (Started, Contours, Mask, Progress, Warned, Done, Failed, Cancelled)
}

ENDS = frozenset({"done", "failed", "cancelled"})
"""The names of the events that end a job."""


def decode_event(line: bytes | str) -> Event | None:
    """Return the event that one line of a stream says, None for one that is not known here.

    Keys that are not known are passed over, and so is an event that lacks what this client knows
    of its kind: an older client reads a newer server. Raises ValueError when the line is no event.
    """
    return event_of(parse_event(line))


def parse_event(line: bytes | str) -> Json:
    """Return the JSON object in one line, which has the keys `event`, its name, and `seq`.

    Raises ValueError if the line is not an event.
    """
    try:
        said = json.loads(line)
    except RecursionError:
        said = None
    match said:
        case {"event": str(), "seq": int()}:
            return dict(said)
    raise ValueError(f"not an event: {line[:80]!r}")


def event_of(said: Json) -> Event | None:
    """Return the event in the JSON object that `parse_event` returns, None for an unknown one."""
    kind = _EVENTS.get(said["event"])
    if kind is None:
        return None
    fields = kind.__dataclass_fields__
    if any(name not in said for name, each in fields.items() if each.default is MISSING):
        return None
    return kind(**{name: _frozen(name, said[name]) for name in fields if name in said})


_TUPLES = frozenset({"image_size", "spacing_um", "scale", "area"})


def _frozen(name: str, value: Any) -> Any:
    return tuple(value) if name in _TUPLES and isinstance(value, list) else value
