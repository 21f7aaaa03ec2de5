"""The result of a case of a conformance suite."""

from dataclasses import dataclass
from typing import Protocol


class Case(Protocol):
    """One test case of a suite."""

    @property
    def name(self) -> str: ...

    @property
    def why(self) -> str:
        """The rule that is tested."""


@dataclass(frozen=True)
class Verdict:
    """The result of one client in one case."""

    case: Case
    problem: str | None
    """What it got wrong; None if it passed."""
