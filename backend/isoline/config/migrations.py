"""What has changed in the formats of the data directory, from one version to the next."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Migration:
    """What makes one version of the formats into the next, file by file."""

    files: str
    """Which files change: a pattern below the data directory, such as "jobs/*/card.json"."""
    rewrite: Callable[[bytes], bytes]
    """Returns the content in the next version: the same for the same content, every time. What it
    cannot read it returns as it is; whoever opens that file will say what is wrong with it."""


def _name_the_lane(card: bytes) -> bytes:
    """Formats 1 said `prompted` and `urgent` where formats 2 name the lane in which a job waits."""
    try:
        said = json.loads(card)
    except ValueError:
        return card
    if not isinstance(said, dict) or "lane" in said:
        return card
    prompted, urgent = said.pop("prompted", False), said.pop("urgent", False)
    said["lane"] = 0 if prompted else 1 if urgent else 2
    return json.dumps(said).encode()


MIGRATIONS: tuple[Migration, ...] = (Migration("jobs/*/card.json", _name_the_lane),)
"""The first leads from formats 1 to formats 2, and so on."""
