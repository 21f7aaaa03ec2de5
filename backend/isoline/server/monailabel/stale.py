"""For waitress: handling requests that announce a body but do not send one.

MONAI Label's Python client sends the content length of an earlier call with GET and DELETE.
waitress would wait for that body; gunicorn waits only if the body is read.
"""

from __future__ import annotations

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser

_WITHOUT_BODY = ("GET", "HEAD", "DELETE")


def accept_stale_lengths() -> None:
    """Make every waitress server in this process ignore the length of a GET, HEAD or DELETE."""
    HTTPChannel.parser_class = _Parser


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Treats such a request as complete and closes the connection, ignoring anything that
    follows."""

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
