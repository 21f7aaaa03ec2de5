"""For waitress: requests that announce a body and send none are answered all the same.

MONAI Label's Python client sends the content length of an earlier call with GET and DELETE.
waitress would wait for that body; gunicorn leaves waiting to whoever reads it.
"""

from __future__ import annotations

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser

_WITHOUT_BODY = ("GET", "HEAD", "DELETE")


def accept_stale_lengths() -> None:
    """Let every waitress server of this process believe no length of a GET, HEAD or DELETE."""
    HTTPChannel.parser_class = _Parser


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Takes such a request as complete, and the connection as spent: what follows is no request."""

    drops_rest = False
    body_rcv: object

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        if self.command in _WITHOUT_BODY and (self.body_rcv is not None):
            self.drops_rest = True
            self.content_length, self.chunked, self.body_rcv = 0, False, None
            self.headers["CONTENT_LENGTH"] = "0"
            self.headers["CONNECTION"] = "close"

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        return len(data) if self.drops_rest else consumed
