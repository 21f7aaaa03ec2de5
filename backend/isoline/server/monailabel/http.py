"""Shared helpers of the routes: responses in the clients' format, and lenient query values."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

import orjson
from flask import Response, request, send_file

from isoline.errors import Malformed, NotFound
from isoline.server.monailabel.files import has_check_sum


def detail(message: str, status: int) -> Response:
    """Return an error response in the format that clients expect."""
    return as_json({"detail": message}, status)


def as_json(value: object, status: int = 200) -> Response:
    """Return `value` as a JSON response."""
    return Response(orjson.dumps(value), status, content_type="application/json")


def not_available(what: str) -> Response:
    """Return the response for a feature that this server does not implement."""
    return detail(f"{what} is not available on this server", 501)


def send(path: Path, check_sum: str | None = None) -> Response:
    """Return a file; for HEAD, Flask returns the same headers without a body."""
    if check_sum is not None and not has_check_sum(path, check_sum):
        raise NotFound("the image has another checksum", "fetch it again")
    response = send_file(path, conditional=True)
    response.headers["Content-Disposition"] = attachment(path.name)
    return response


def attachment(name: str) -> str:
    """Return a header that the Python client understands: it requires the name in quotes."""
    if re.fullmatch(r"[ -!#-\[\]-~]+", name):
        return f'attachment; filename="{name}"'
    return f"attachment; filename*=utf-8''{quote(name)}"


def flag(name: str) -> bool:
    """Return whether a flag in the query is set."""
    return request.args.get(name, "").lower() in ("1", "true", "yes", "on")


def whole(text: str) -> int:
    """Parse a non-negative integer in the query. Raises Malformed."""
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Malformed(f"{text!r} is not a whole number", "send digits")
    return int(text)
