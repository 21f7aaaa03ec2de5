"""Drivers of the client under test: a program in another process, or a callable in this one.

`docs/conformance.md` is the contract for drivers.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO, Literal, Protocol, TypeAlias, get_args

import orjson

from isoline.errors import Malformed
from isoline.geometry.region import brief

Capability: TypeAlias = Literal[
    "regions", "spacing", "contours", "prompts", "volumes", "volume_prompts", "nifti", "rerun",
    "replaces", "follow",
]  # fmt: skip
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)
"""All capabilities; `docs/conformance.md` explains each."""
Mode: TypeAlias = Literal["capabilities", "request", "events", "rerun", "follow"]

_REMEDY = f"print a JSON list of some of: {', '.join(CAPABILITIES)}"


@dataclass(frozen=True)
class Printed:
    """The output of a driver."""

    text: bytes = b""
    """Its standard output."""
    problem: str | None = None
    """Why it did not complete, None if it did."""


class Driver(Protocol):
    """A client under test. Must be thread-safe."""

    def run(self, mode: Mode, sent: bytes, seconds: float) -> Printed:
        """Run `mode` with the input `sent`, and return what is printed within `seconds`.

        Raises Malformed if the driver cannot be started.
        """


@dataclass(frozen=True)
class Command:
    """A driver that is a separate program, in any language; it is run as COMMAND MODE."""

    command: Sequence[str]

    def run(self, mode: Mode, sent: bytes, seconds: float) -> Printed:
        """Run the program, and kill it after `seconds`. Raises Malformed if it cannot start."""
        try:
            done = subprocess.run(
                [*self.command, mode], input=sent, capture_output=True, timeout=seconds
            )
        except OSError as error:
            raise Malformed(
                f"cannot run {self.command[0]}: {error.strerror}",
                "give the driver's command after --",
            ) from error
        except subprocess.TimeoutExpired as error:
            return Printed(error.stdout or b"", _busy(seconds))
        if done.returncode == 0:
            return Printed(done.stdout)
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return Printed(done.stdout, f"exit status {done.returncode}: {last}")


@dataclass(frozen=True)
class InProcess:
    """A driver that is a callable in this process."""

    answer: Callable[[str, BinaryIO], object]
    """Takes a mode and the input. Returns what a program would print, as a JSON value; in the mode
    `follow` an iterator of JSON objects."""

    def run(self, mode: Mode, sent: bytes, seconds: float) -> Printed:
        """Call it in a daemon thread, which is abandoned after `seconds`."""
        lines: list[bytes] = []
        problems: list[str] = []

        def call() -> None:
            try:
                said = self.answer(mode, BytesIO(sent))
                for value in said if mode == "follow" else [said]:  # type: ignore[attr-defined]
                    lines.append(json.dumps(value).encode() + b"\n")
            except Exception as error:  # any error of the client is a result
                problems.append(f"it raised {type(error).__name__}: {error}")

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(seconds)
        busy = [_busy(seconds)] if thread.is_alive() else []
        return Printed(b"".join(lines), next(iter([*busy, *problems]), None))


def _busy(seconds: float) -> str:
    return f"it was still busy after {seconds:g} s"


def capabilities(driver: Driver, seconds: float = 40.0) -> frozenset[Capability]:
    """Return what `driver` declares. Raises Malformed if that is not a list of capabilities."""
    printed = driver.run("capabilities", b"", seconds)
    if printed.problem:
        raise Malformed(f"the driver does not declare its capabilities: {printed.problem}", _REMEDY)
    try:
        declared = orjson.loads(printed.text)
    except orjson.JSONDecodeError:
        declared = printed.text.decode(errors="replace")
    if not isinstance(declared, list) or not all(isinstance(each, str) for each in declared):
        raise Malformed(f"capabilities: expected a list, got {brief(declared)}", _REMEDY)
    if unknown := sorted({*declared} - {*CAPABILITIES}):
        raise Malformed(f"capabilities: there is no {unknown[0]!r}", _REMEDY)
    return frozenset(each for each in CAPABILITIES if each in declared)
