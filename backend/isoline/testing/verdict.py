"""The result of a case of a conformance suite."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from isoline.errors import Malformed
from isoline.testing.drivers import Capability


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
    problem: str | None = None
    """What it got wrong; None if it passed or was not run."""
    lacks: tuple[Capability, ...] = ()
    """The capabilities that the driver lacks for this case, which was then not run."""


def some(verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    """Yield `verdicts`. Raises Malformed at the end if no case was run."""
    has_run = False
    for verdict in verdicts:
        has_run = has_run or not verdict.lacks
        yield verdict
    if not has_run:
        raise Malformed(
            "0 cases were run: the driver declares no capability that a case needs",
            "declare what the client can do; docs/conformance.md lists the capabilities",
        )
