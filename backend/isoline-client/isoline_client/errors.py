"""The errors of the client."""

from __future__ import annotations

PASSING = frozenset({0, 429, 502, 503, 504})
"""Statuses after which a retry may succeed; 0 means that there was no response."""


class ClientError(Exception):
    """The server refused the request, or cannot be reached."""

    def __init__(
        self, status: int, code: str, what: str, remedy: str = "", retry_after: float = 0.0
    ) -> None:
        super().__init__(status, code, what, remedy, retry_after)
        self.status = status
        """The HTTP status; 0 if there was no response."""
        self.code = code
        """The kind of error, to be compared; stable across versions."""
        self.what = what
        self.remedy = remedy
        self.retry_after = retry_after
        """The pause in seconds that the server requests before a retry; 0 if it requests none."""

    @property
    def is_passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in PASSING

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


class NothingMore(Exception):
    """The job has ended, and its last event has already been read."""
