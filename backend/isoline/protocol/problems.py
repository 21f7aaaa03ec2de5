"""Errors as answers: RFC 9457 problems and their HTTP statuses."""

from __future__ import annotations

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
    TooLarge,
    Unreadable,
)

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
    (Busy, 429),
    (Broken, 500),
)


def http_status(error: IsolineError) -> int:
    """Return the HTTP status of `error`: the first row of the table that it is an instance of."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
