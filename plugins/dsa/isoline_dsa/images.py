"""Requests for an item: the isoline server reads its pixels by id, with the user's permissions."""

from __future__ import annotations

import datetime
from typing import Any

from girder.constants import TokenScope
from girder.models.token import Token

from isoline_dsa import settings

TOKEN_DAYS = 2.0


def segmenting(item: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Return `request` completed for the isoline server: for `item`, with results as elements."""
    return {**request, "image": f"girder:{settings.name()}/{item['_id']}", "format": "dsa"}


def read_token(user: Any) -> str:
    """Return a token that can only read data, with the permissions of `user`.

    The same token is returned for a day, so that the isoline server can reuse tiles between runs.
    """
    tokens = Token()
    now = datetime.datetime.now(datetime.timezone.utc)
    still_good = now + datetime.timedelta(days=TOKEN_DAYS / 2)
    token = tokens.findOne({"userId": user["_id"], "isoline": True, "expires": {"$gt": still_good}})
    if token is None:
        token = tokens.createToken(user, days=TOKEN_DAYS, scope=[TokenScope.DATA_READ])
        token["isoline"] = True
        token = tokens.save(token)
    return str(token["_id"])
