"""What a suite says of a client."""

from dataclasses import dataclass
from typing import Protocol


class Case(Protocol):
    """One thing to get right."""

    @property
    def name(self) -> str: ...

    @property
    def why(self) -> str: ...


@dataclass(frozen=True)
class Verdict:
    """How a client did in one case."""

    case: Case
    problem: str | None
    """What it got wrong; None when it passed."""
