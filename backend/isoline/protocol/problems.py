"""Error responses: `application/problem+json`, as in RFC 9457."""

from __future__ import annotations

import re
from typing import Annotated

import orjson
from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from isoline.errors import (
    Broken,
    Busy,
    Conflict,
    IsolineError,
    Malformed,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    NotStored,
    RequestError,
    StreamsTaken,
    TooLarge,
    Unreadable,
)

PROBLEM = "application/problem+json"

_STATUS: tuple[tuple[type[IsolineError], int], ...] = (
    (TooLarge, 413),
    (NotAuthenticated, 401),
    (NotAllowed, 403),
    (Malformed, 400),
    (RequestError, 422),
    (NotFound, 404),
    (Conflict, 409),
    (Unreadable, 422),
    (NotStored, 502),
    (StreamsTaken, 503),
    (Busy, 429),
    (Broken, 500),
)


class ProblemJson(TypedDict):
    """A problem as in RFC 9457, with `code` and `remedy` added."""

    type: str
    title: str
    status: int
    detail: Annotated[str, Field(description="What is wrong, and where.")]
    code: Annotated[str, Field(description="Stable across versions.")]
    remedy: Annotated[str, Field(description="How to correct it.")]
    position: Annotated[
        NotRequired[int],
        Field(
            ge=0,
            description="The number of jobs that would be before this one; given if the queue is "
            "full.",
        ),
    ]


def http_status(error: IsolineError) -> int:
    """Return the HTTP status for `error`; 500 if its class is not in the table."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem(error: IsolineError, status: int | None = None, position: int | None = None) -> bytes:
    """Return the body of the response that reports `error`.

    `status` overrides the HTTP status of its class; `position` is the number of jobs in a full
    queue.
    """
    said: ProblemJson = {
        "type": f"urn:isoline:problem:{error.code}",
        "title": re.sub(r"(?<=[a-z])(?=[A-Z])", " ", error.code).capitalize(),
        "status": http_status(error) if status is None else status,
        "detail": error.what,
        "code": error.code,
        "remedy": error.remedy,
    }
    if position is not None:
        said["position"] = position
    return orjson.dumps(said)
