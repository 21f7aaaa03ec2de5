"""Reading a MONAI configuration as data, without executing any code in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

from isoline.errors import Broken
from isoline.models.bundles.files import JSON

Table: TypeAlias = "dict[str, JSON]"

_END_IN_D = frozenset({"CropForeground"})
"""Transforms whose array version has a name that ends in "d" too."""


class Configuration:
    """A MONAI configuration; `@references` are resolved and code is not executed."""

    def __init__(self, root: Table) -> None:
        self._root = root

    def get(self, key: str, default: JSON = None) -> JSON:
        """Return the value of `key`, with references resolved."""
        return self._resolved(self._root.get(key, default), key)

    def transforms(self, key: str, required: bool = True) -> Iterator[tuple[str, Table]]:
        """Yield the name of each transform, without MONAI's suffix "d", and its arguments."""
        found = self.get(key)
        if isinstance(found, dict):
            found = found.get("transforms", [found])
        if found is None and not required:
            return
        if not isinstance(found, list):
            raise Broken(
                f"the bundle's inference configuration has no list {key!r}",
                "add it, following MONAI's specification of bundles",
            )
        for each in found:
            given = table(each, key)
            if given.get("_disabled_") is not True:
                yield short_name(given.get("_target_")), given

    def _resolved(self, value: JSON, where: str, depth: int = 0) -> JSON:
        """Resolve references in `value`; an expression is left as it is until it is needed."""
        if depth > 32:
            raise Broken(f"{where}: its references form a cycle", "fix the bundle's configuration")
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
    """Return the name without package and suffix: "Spacing" for "monai.transforms.Spacingd"."""
    name = str(target).rpartition(".")[2]
    return name if name in _END_IN_D else re.sub(r"(Dict|[dD])$", "", name)


def table(value: JSON, where: str) -> Table:
    """Return `value`, which must be a mapping. Raises Broken."""
    if not isinstance(value, dict):
        raise Broken(f"the bundle has no {where}", "see MONAI's specification of bundles")
    return value


def three(value: JSON, where: str) -> list[JSON]:
    """Return `value` as a list of one value per dimension. Raises Broken."""
    values: list[JSON] = value if isinstance(value, list) else [value] * 3
    if len(values) != 3:
        raise Broken(f"{where}: {value!r} does not have three values", "give one per dimension")
    return values


def fact(given: Table, key: str, where: str, default: float | None = None) -> float:
    """Return the number `given[key]`, or `default`. Raises Broken."""
    value = given.get(key, default)
    if value is None and default is not None:
        value = default
    return number(value, f"{where}.{key}")


def number(value: JSON, where: str) -> float:
    """Return `value`, which must be a number. Raises Broken."""
    if isinstance(value, str):
        raise Broken(
            f"{where}: {value!r} is code, not a number, and code is not run",
            "replace it with the number, or set run_code = true for this bundle",
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Broken(f"{where}: {value!r} is not a number", "give a number")
    return float(value)
