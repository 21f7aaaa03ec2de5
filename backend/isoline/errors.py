"""All errors; each states what happened, where, and the remedy.

IsolineError
├── RequestError            the caller can correct the request
│   ├── Malformed               not JSON, a wrong type, an unknown key
│   ├── BadParameter            a model parameter out of its bounds
│   ├── BadRegion               empty, or outside the image
│   ├── BadPrompt               malformed, off the image, or nothing that is included
│   ├── WrongImage              a file of that name, but not the one in the viewer
│   ├── BadSpacing              missing, contradicting the file, or outside the model's range
│   ├── BadSeries               slices that do not form one volume
│   ├── ChoiceNeeded            several channels or planes, and none was chosen
│   ├── TooLarge                a body, an image or a region over a limit
│   ├── NotSupported            the image, model and format cannot be combined
│   ├── NotAuthenticated        no token, or one that is not valid
│   └── NotAllowed              a path outside the configured roots, or a missing scope
├── NotFound                no such model, image, job, format or route
│   ├── UnknownModel
│   ├── UnknownImage
│   ├── UnknownFormat
│   └── UnknownJob
├── Conflict                the resource exists but is in the wrong state
│   ├── KeyReused               an Idempotency-Key was used again with a different request
│   ├── UploadState             an upload that lacks tiles, or is in use and cannot be changed
│   ├── ImageChanged            the file was replaced or edited after the job was accepted
│   └── WeightsMissing          the model is known, its weights are not here yet
├── Unreadable              the file exists but cannot be decoded
├── NotStored               an archive is down or did not accept the object
├── Busy                    the queue is full, or requests come too fast; try again
│   └── StreamsTaken            every place for a streamed answer is taken
└── Broken                  the server failed: a model raised an error, a disk is full
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST_NAME = 100
"""Longer names are not compared, since the cost grows with the square of the length."""


class IsolineError(Exception):
    """An error with a message for a person: what happened and where, then the remedy."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what

    @property
    def code(self) -> str:
        """The class name, which clients compare; stable across versions."""
        return type(self).__name__


class RequestError(IsolineError):
    """The caller can correct the request."""


class Malformed(RequestError):
    """Not JSON, a wrong type, an unknown key."""


class BadParameter(RequestError):
    """A model parameter that does not exist or is out of its bounds."""


class BadRegion(RequestError):
    """A region that is empty or lies outside the image."""


class BadPrompt(RequestError):
    """A prompt that is malformed or off the image, or prompts that include nothing."""


class WrongImage(RequestError):
    """There is a file of that name, but it is not the one in the viewer."""


class BadSpacing(RequestError):
    """A pixel size that is missing, contradicts the file, or is outside the model's range."""


class BadSeries(RequestError):
    """Slices that do not form one volume: missing, duplicate, misaligned, or of several volumes."""


class ChoiceNeeded(RequestError):
    """The image has several channels or planes, and the request chose none."""


class TooLarge(RequestError):
    """A body, an image or a region over a limit."""


class NotSupported(RequestError):
    """The image, the model and the format cannot be combined."""


class NotAllowed(RequestError):
    """A path outside the configured roots, or a scope that the caller's token does not have."""


class NotAuthenticated(RequestError):
    """The request has no token, or one that is not valid."""


class NotFound(IsolineError):
    """There is nothing of that name."""


class UnknownModel(NotFound):
    """No model of that name is installed."""


class UnknownImage(NotFound):
    """There is no image of that name below the configured roots."""


class UnknownFormat(NotFound):
    """No encoder of that name is installed."""


class UnknownJob(NotFound):
    """There is no job with that id, or it has expired."""


class Conflict(IsolineError):
    """The resource exists but is in the wrong state for this."""


class UploadState(Conflict):
    """An upload that lacks tiles, or is in use and can no longer be changed."""


class ImageChanged(Conflict):
    """The file was replaced or edited after the job was accepted."""


class WeightsMissing(Conflict):
    """The model is known, but its weights are not on this machine yet."""


class Unreadable(IsolineError):
    """The file exists but cannot be decoded."""


class KeyReused(Conflict):
    """An Idempotency-Key was used again with a different request."""


class NotStored(IsolineError):
    """An archive is down, or did not accept the object."""


class Busy(IsolineError):
    """The queue is full, or requests come too fast."""

    retry_after = 5
    """In how many seconds it is worth another try."""


class StreamsTaken(Busy):
    """Every place for a streamed answer is taken."""


class Broken(IsolineError):
    """The server failed: a model raised an error, a worker died, a disk is full."""


def restored(code: str, what: str, remedy: str = "") -> IsolineError:
    """Return the error with that `code`, or Broken if there is no such class."""
    kinds: list[type[IsolineError]] = [IsolineError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    named = next((kind for kind in kinds if kind.__name__ == code), Broken)
    return named(what, remedy)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the one of `known` that `name` was probably meant to be, None if none is similar."""
    close = get_close_matches(name, known, 1) if len(name) <= _LONGEST_NAME else []
    return close[0] if close else None


def failure_of(error: Exception) -> tuple[str, str, str]:
    """Return code, message and remedy of the error that ended a job."""
    if isinstance(error, IsolineError):
        return error.code, error.what, error.remedy
    return "Broken", f"{type(error).__name__}: {error}", "see the server's log"
