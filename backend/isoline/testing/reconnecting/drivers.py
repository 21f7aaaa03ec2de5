"""Drivers of clients: a program in another process, or isoline's own client in this one."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from isoline.errors import Malformed
from isoline.testing import driver
from isoline.testing.reconnecting.judge import Json, Outcome

TIMEOUT_SECONDS = 40.0
BUSY = f"it was still busy after {TIMEOUT_SECONDS:g} s"


class Driver(Protocol):
    """A driver as described in `docs/conformance.md`. It must be thread-safe."""

    def follow(self, assignment: Json) -> Outcome:
        """Submit and follow the request in `assignment`; return once it has ended."""


@dataclass(frozen=True)
class Command:
    """A driver that is a separate program, in any language."""

    command: Sequence[str]

    def follow(self, assignment: Json) -> Outcome:
        """Run the program. Raises Malformed if it cannot be started."""
        try:
            done = subprocess.run(
                [*self.command, "follow"],
                input=json.dumps(assignment).encode(),
                capture_output=True,
                timeout=TIMEOUT_SECONDS,
            )
        except OSError as error:
            raise Malformed(
                f"cannot run {self.command[0]}: {error.strerror}",
                "give the driver's command after --",
            ) from error
        except subprocess.TimeoutExpired as error:
            return Outcome(
                *_lines(error.stdout or b"")[:1], f"still busy after {TIMEOUT_SECONDS:g} s"
            )
        lines, problem = _lines(done.stdout)
        if done.returncode != 0:
            last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            problem = f"exit status {done.returncode}: {last}"
        return Outcome(lines, problem)


class OwnClient:
    """isoline's own client, in this process."""

    def follow(self, assignment: Json) -> Outcome:
        lines: list[Json] = []
        thread = threading.Thread(
            target=driver.follow, args=(dict(assignment), lines.append), daemon=True
        )
        thread.start()
        thread.join(TIMEOUT_SECONDS)
        return Outcome(lines, BUSY if thread.is_alive() else None)


def _lines(printed: bytes) -> tuple[Sequence[Json], str | None]:
    lines: list[Json] = []
    for line in filter(None, printed.splitlines()):
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            return lines, f"its output is not a JSON object: {line[:80].decode(errors='replace')}"
        lines.append(said)
    return lines, None
