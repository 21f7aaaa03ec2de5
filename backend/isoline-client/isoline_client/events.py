"""The events of a job; isoline's `docs/protocol.md` has the meaning of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    """The ids of features to remove before these are added: provisional ones, and those of the job
    that the request replaces."""


@dataclass(frozen=True)
class Mask:
    """Complete slices of labels of a volume; a later event replaces slices of an earlier one."""

    seq: int
    slices: Sequence[Json]
    provisional: bool
    """Shown until a final one comes, never stored."""
    whole: bool = False
    """Whether slices that are not listed are empty."""


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
    """Return the event in one line of a stream, None for one that is not known here.

    An older client reads a newer server: keys that are not known are passed over, and so is an
    event that lacks what this client knows of its kind, or has it in another form. Raises
    ValueError when the line is no event.
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
    known = {name: said[name] for name in fields if name in said and _FORMS[name](said[name])}
    if any(name not in known for name, each in fields.items() if each.default is MISSING):
        return None
    return kind(**{name: _frozen(name, value) for name, value in known.items()})


def typed(said: Iterable[Json]) -> Iterator[Event]:
    """Yield those that are known here, as their types."""
    for each in said:
        event = event_of(each)
        if event is not None:
            yield event


Form: TypeAlias = Callable[[Any], bool]


def _is(*types: type) -> Form:
    return lambda value: isinstance(value, types)


def _list_of(form: Form, length: int | None = None) -> Form:
    return lambda value: (
        isinstance(value, list) and length in (None, len(value)) and all(map(form, value))
    )


def _or_null(form: Form) -> Form:
    return lambda value: value is None or form(value)


def _is_feature(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("id"), str)


def _is_slice(value: Any) -> bool:
    match value:
        case {"k": int(), "layers": list(layers)}:
            return all(isinstance(each, dict) for each in layers)
    return False


_TEXT, _WHOLE, _NUMBER, _FLAG, _OBJECT = _is(str), _is(int), _is(int, float), _is(bool), _is(dict)
_PAIR = _list_of(_NUMBER, 2)

_FORMS: Mapping[str, Form] = {
    **dict.fromkeys(("job", "image", "model", "version", "fingerprint", "scope"), _TEXT),
    **dict.fromkeys(("kind", "format", "code", "message", "remedy"), _TEXT),
    **dict.fromkeys(("seq", "z", "tiles", "tiles_done", "tiles_failed", "tiles_skipped"), _WHOLE),
    **dict.fromkeys(("image_size", "scale"), _PAIR),
    **dict.fromkeys(("provisional", "whole"), _FLAG),
    "objects": _WHOLE,
    "seconds": _NUMBER,
    "seconds_left": _or_null(_NUMBER),
    "spacing_um": _or_null(_PAIR),
    "area": _or_null(_list_of(_NUMBER, 4)),
    "parameters": _OBJECT,
    "labels": _list_of(_OBJECT),
    "volume": _or_null(_OBJECT),
    "features": _list_of(_is_feature),
    "replaces": _list_of(_TEXT),
    "slices": _list_of(_is_slice),
}
"""What this client can use, by the name of the field, which has one form in all events."""

_TUPLES = frozenset({"image_size", "spacing_um", "scale", "area"})


def _frozen(name: str, value: Any) -> Any:
    return tuple(value) if name in _TUPLES and value is not None else value
