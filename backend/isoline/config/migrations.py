"""Migrations of the data directory's formats from one version to the next."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Migration:
    """A conversion from one version of the formats to the next, file by file."""

    files: str
    """The files to convert: a pattern below the data directory, such as "jobs/*/card.json"."""
    rewrite: Callable[[bytes], bytes]
    """Returns the content in the next version, deterministically. It returns unreadable content
    unchanged; the error is then reported by the code that opens the file."""


def _name_the_lane(card: bytes) -> bytes:
    """Replace `prompted` and `urgent` of formats 1 by the lane of the job, as in formats 2."""
    try:
        parsed = json.loads(card)
    except ValueError:
        return card
    if not isinstance(parsed, dict) or "lane" in parsed:
        return card
    prompted, urgent = parsed.pop("prompted", False), parsed.pop("urgent", False)
    parsed["lane"] = 0 if prompted else 1 if urgent else 2
    return json.dumps(parsed).encode()


MIGRATIONS: tuple[Migration, ...] = (Migration("jobs/*/card.json", _name_the_lane),)
"""The first converts formats 1 to formats 2, and so on."""
