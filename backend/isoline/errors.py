"""Everything that can go wrong, each with what happened, where, and the remedy.

IsolineError
├── RequestError            the caller can mend the request
│   ├── Malformed               not JSON, a wrong type, an unknown key
│   ├── BadParameter            a model parameter out of its bounds
│   ├── BadRegion               empty, or outside the image
│   ├── BadPrompt               no position on the image, or none that says what is meant
│   ├── WrongImage              a file of that name, but not the one that the viewer shows
│   ├── BadSpacing              missing, contradicting the file, or outside the model's range
│   ├── BadSeries               slices that do not make one volume
│   ├── ChoiceNeeded            several channels or planes and none chosen
│   ├── TooLarge                a body, an image or a region over a limit
│   ├── NotSupported            the image, model and format do not go together
│   ├── NotAuthenticated        no token, or one that nobody knows
│   └── NotAllowed              a path outside the configured roots, a scope that is lacking
├── NotFound                no such model, image, job, format or route
│   ├── UnknownModel
│   ├── UnknownImage
│   ├── UnknownFormat
│   └── UnknownJob
├── Conflict                the thing exists and is in the wrong state
│   ├── UploadState             an upload that lacks tiles, or is in use and can't be changed
│   └── WeightsMissing          the model is known, its weights are not here yet
├── Unreadable              the file is there and cannot be decoded
├── NotStored               an archive did not take what was to be kept
├── Busy                    the queue or the streams are full; try again
└── Broken                  our own side failed: a model raised, a disk is full
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST_NAME = 100
"""No name is longer; the work of comparing grows with the square of the length."""


class IsolineError(Exception):
    """An error with a message for a person: what happened and where, then how to mend it."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what

    @property
    def code(self) -> str:
        """The class name: what a client compares, stable across versions."""
        return type(self).__name__


class RequestError(IsolineError):
    """The caller can mend the request."""


class Malformed(RequestError):
    """Not JSON, a wrong type, an unknown key."""


class BadParameter(RequestError):
    """A model parameter that does not exist or is out of its bounds."""


class BadRegion(RequestError):
    """A region that is empty or lies outside the image."""


class BadPrompt(RequestError):
    """A prompt that is malformed, or prompts none of which says what is meant."""


class WrongImage(RequestError):
    """There is a file of that name, but it is not the one that the viewer shows."""


class BadSpacing(RequestError):
    """A pixel size that is missing, contradicts the file, or does not suit the model."""


class BadSeries(RequestError):
    """Slices that do not make one volume: missing, doubled, askew, or several volumes in one."""


class ChoiceNeeded(RequestError):
    """The image has several channels or planes and the request chose none."""


class TooLarge(RequestError):
    """A body, an image or a region over a limit."""


class NotSupported(RequestError):
    """The image, the model and the format do not go together."""


class NotAllowed(RequestError):
    """A path outside the configured roots, or a scope that the caller's token does not have."""


class NotAuthenticated(RequestError):
    """No token came with the request, or one that nobody knows."""


class NotFound(IsolineError):
    """No such thing under that name."""


class UnknownModel(NotFound):
    """No model of that name is installed."""


class UnknownImage(NotFound):
    """No image of that name lies under the configured roots."""


class UnknownFormat(NotFound):
    """No encoder of that name is installed."""


class UnknownJob(NotFound):
    """No job of that id, or it has outlived its time to live."""


class Conflict(IsolineError):
    """The thing exists and is in the wrong state for this."""


class UploadState(Conflict):
    """An upload that lacks tiles, or is in use and can't be changed any more."""


class WeightsMissing(Conflict):
    """The model is known, its weights are not on this machine yet."""


class Unreadable(IsolineError):
    """The file is there and cannot be decoded."""


class KeyReused(Conflict):
    """An Idempotency-Key came again with another request."""


class NotStored(IsolineError):
    """An archive is down, or refused what was to be kept."""


class Busy(IsolineError):
    """The queue or the streams are full."""

    retry_after = 5
    """In how many seconds it is worth another try."""


class Broken(IsolineError):
    """Our own side failed: a model raised, a worker died, a disk is full."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the one of `known` that was probably meant by `name`, None where none is like it."""
    close = get_close_matches(name, known, 1) if len(name) <= _LONGEST_NAME else []
    return close[0] if close else None


def failure_of(error: Exception) -> tuple[str, str, str]:
    """Return code, message and remedy of what ended a job."""
    if isinstance(error, IsolineError):
        return error.code, error.what, error.remedy
    return "Broken", f"{type(error).__name__}: {error}", "see the server's log"
