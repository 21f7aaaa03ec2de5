"""What the routes share: who asks, and answers in JSON."""

from __future__ import annotations

import orjson
from flask import Response, request

from isoline.images.catalog import Caller


def caller() -> Caller:
    """Return who asks, as the keepers of images elsewhere know them."""
    token = request.headers.get("Girder-Token")
    return Caller({"girder": token} if token else {})


def json_response(value: object, status: int = 200) -> Response:
    """Return `value` in JSON."""
    return Response(orjson.dumps(value), status, content_type="application/json")
