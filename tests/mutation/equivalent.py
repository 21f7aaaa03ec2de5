"""Mutants that no test can kill, because they change nothing that anybody could see."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Reasons: TypeAlias = Mapping[tuple[str, str, str], str]
"""Why the mutant of that key is equivalent."""

_FILE = Path(__file__).with_suffix(".toml")


def load() -> Reasons:
    """Return the reason for each mutant of `equivalent.toml`, by its key."""
    listed = tomllib.loads(_FILE.read_text(encoding="utf-8")).get("equivalent", [])
    return {
        (each["module"], " ".join(each["before"].split()), " ".join(each["after"].split())): each[
            "reason"
        ]
        for each in listed
    }
