"""How the isoline server gets the pixels of an item: by its id, with the rights of who asks."""

from __future__ import annotations

import datetime
from typing import Any

from girder.constants import TokenScope
from girder.models.token import Token

from isoline_dsa import settings

TOKEN_DAYS = 2.0


def segmenting(item: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Return `request` as the isoline server wants it: of `item`, answered in elements."""
    return {**request, "image": f"girder:{settings.name()}/{item['_id']}", "format": "dsa"}


def read_token(user: Any) -> str:
    """Return a token that reads what `user` may read, and can do nothing else.

    The same one serves for a day, so that the isoline server can keep tiles from run to run.
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
