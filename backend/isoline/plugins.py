"""Plugins: classes that packages register under an entry-point group, loaded on first use.

Importing this module imports none of them; one that fails to import is listed with the reason and
does not affect the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Generic, TypeVar, cast

from isoline.errors import Broken, IsolineError, NotFound, nearest

T = TypeVar("T")


@dataclass(frozen=True)
class Installed(Generic[T]):
    """The installed plugins of one group."""

    working: dict[str, type[T]]
    broken: dict[str, str]
    """Name -> the reason why it cannot be imported."""


@dataclass(frozen=True)
class Plugins(Generic[T]):
    """The classes in the entry-point group `isoline.<noun>s`."""

    noun: str
    unknown: type[NotFound] = NotFound
    """The error raised for an unregistered name."""

    def names(self) -> tuple[str, ...]:
        """Return the registered names, including those of classes that cannot be imported."""
        return tuple(sorted(entry_points(self.noun)))

    def added(self) -> tuple[str, ...]:
        """Return the names registered by packages other than isoline, in their order."""
        entries = entry_points(self.noun).items()
        return tuple(name for name, entry in entries if not entry.value.startswith("isoline."))

    def load(self, name: str, others: Iterable[str] = ()) -> type[T]:
        """Return the class called `name`; `others` are names that exist in addition.

        Raises `unknown` with a suggestion, or Broken if importing the class fails.
        """
        entries = entry_points(self.noun)
        if name not in entries:
            suggestion = _suggestion(name, [*entries, *others])
            raise self.unknown(f"there is no {self.noun} named {name!r}", suggestion)
        try:
            return cast("type[T]", entries[name].load())
        except Exception as error:  # importing third-party code can raise anything
            raise Broken(
                f"the {self.noun} {name!r} is installed but cannot be imported: {error}",
                f"repair or remove the package behind {entries[name].value}",
            ) from error

    def load_all(self) -> Installed[T]:
        """Load every class that can be imported."""
        installed: Installed[T] = Installed({}, {})
        for name in self.names():
            try:
                installed.working[name] = self.load(name)
            except IsolineError as error:
                installed.broken[name] = str(error)
        return installed


@cache
def entry_points(noun: str) -> dict[str, metadata.EntryPoint]:
    """Return the entry points of `isoline.<noun>s` by name, cached."""
    return {entry.name: entry for entry in metadata.entry_points(group=f"isoline.{noun}s")}


def _suggestion(name: str, entries: Iterable[str]) -> str:
    existing = sorted(entries)
    if not existing:
        return "nothing is registered: install isoline with pip"
    close = nearest(name, existing)
    listed = f"there are {', '.join(existing)}"
    return f"did you mean {close!r}? {listed}" if close else listed
