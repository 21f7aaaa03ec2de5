"""Reading the facts in a configuration of MONAI without running what is written there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

from isoline.errors import Broken
from isoline.models.bundles.files import JSON

Table: TypeAlias = "dict[str, JSON]"

_END_IN_D = frozenset({"CropForeground"})
"""Transforms whose name for arrays ends as that for dictionaries does."""


class Configuration:
    """A configuration of MONAI, whose `@references` are followed and whose code is not run."""

    def __init__(self, root: Table) -> None:
        self._root = root

    def get(self, key: str, default: JSON = None) -> JSON:
        """Return what is written under `key`."""
        return self._resolved(self._root.get(key, default), key)

    def transforms(self, key: str, required: bool = True) -> Iterator[tuple[str, Table]]:
        """Yield the name, as MONAI calls it without "d", and the arguments of each transform."""
        found = self.get(key)
        if isinstance(found, dict):
            found = found.get("transforms", [found])
        if found is None and not required:
            return
        if not isinstance(found, list):
            raise Broken(f"the bundle's inference has no list of {key}", "add it, as MONAI does")
        for each in found:
            given = table(each, key)
            if given.get("_disabled_") is not True:
                yield short_name(given.get("_target_")), given

    def _resolved(self, value: JSON, where: str, depth: int = 0) -> JSON:
        """Follow references in `value`; an expression stays as it is until it is needed."""
        if depth > 32:
            raise Broken(f"{where}: its references run in a circle", "mend the bundle")
        if isinstance(value, dict):
            return {
                key: self._resolved(each, f"{where}.{key}", depth + 1)
                for key, each in value.items()
            }
        if isinstance(value, list):
            return [self._resolved(each, where, depth + 1) for each in value]
        if isinstance(value, str) and re.fullmatch(r"\$?@[\w:#]+", value):
            return self._resolved(self._at(value.lstrip("$@"), where), where, depth + 1)
        return value

    def _at(self, path: str, where: str) -> JSON:
        value: JSON = self._root
        for key in re.split("::|#", path):
            if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            elif isinstance(value, dict) and key in value:
                value = value[key]
            else:
                return f"${path}"  # set when the bundle is run, such as @device
        return value


def short_name(target: JSON) -> str:
    """Return "Spacing" for "monai.transforms.Spacingd" and the like."""
    name = str(target).rpartition(".")[2]
    return name if name in _END_IN_D else re.sub(r"(Dict|[dD])$", "", name)


def table(value: JSON, where: str) -> Table:
    """Return what has to be a mapping. Raises Broken."""
    if not isinstance(value, dict):
        raise Broken(f"the bundle has no {where}", "see MONAI's specification of bundles")
    return value


def three(value: JSON, where: str) -> list[JSON]:
    """Return a value for each dimension. Raises Broken."""
    values: list[JSON] = value if isinstance(value, list) else [value] * 3
    if len(values) != 3:
        raise Broken(f"{where}: {value!r} is not for three dimensions", "mend it")
    return values


def fact(given: Table, key: str, where: str, default: float | None = None) -> float:
    """Return a number of `given`. Raises Broken."""
    value = given.get(key, default)
    if value is None and default is not None:
        value = default
    return number(value, f"{where}.{key}")


def number(value: JSON, where: str) -> float:
    """Return what has to be a number. Raises Broken."""
    if isinstance(value, str):
        raise Broken(
            f"{where}: {value!r} is not a number but code, which is not run",
            "write the number there, or set run_code = true for this bundle",
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Broken(f"{where}: {value!r} is no number", "mend it")
    return float(value)
