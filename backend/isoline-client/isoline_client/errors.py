"""What goes wrong between a client and its server."""

from __future__ import annotations

PASSING = frozenset({0, 429, 502, 503, 504})
"""Statuses that may be another one soon; 0 is no answer."""


class ClientError(Exception):
    """The server refused, or cannot be reached."""

    def __init__(
        self, status: int, code: str, what: str, remedy: str = "", retry_after: float = 0.0
    ) -> None:
        super().__init__(status, code, what, remedy, retry_after)
        self.status = status
        """Of HTTP; 0 when there was no answer."""
        self.code = code
        """What to compare: stable across versions."""
        self.what = what
        self.remedy = remedy
        self.retry_after = retry_after
        """Seconds for which the server asks to be left alone; 0 when it does not say."""

    @property
    def is_passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in PASSING

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


class NothingMore(Exception):
    """The job has ended and its last event was read before."""
