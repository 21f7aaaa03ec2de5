"""Shared helpers of the routes: the caller's credentials, and JSON responses."""

from __future__ import annotations

import orjson
from flask import Response, request

from isoline.images.catalog import Caller


def caller() -> Caller:
    """Return the request's credentials for remote image stores."""
    token = request.headers.get("Girder-Token")
    return Caller({"girder": token} if token else {})


def json_response(value: object, status: int = 200) -> Response:
    """Return `value` as a JSON response."""
    return Response(orjson.dumps(value), status, content_type="application/json")
