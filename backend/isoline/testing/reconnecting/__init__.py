"""A server that fails in every way that networks do, and what a client makes of it.

`docs/conformance.md` is the contract of a driver and says what is judged; `cases.py` holds the
cases, `server.py` plays them, `judge.py` judges.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict

from isoline.testing.conformance import recorded_stream
from isoline.testing.reconnecting.cases import CASES, Case
from isoline.testing.reconnecting.drivers import Command, Driver, OwnClient
from isoline.testing.reconnecting.judge import judge
from isoline.testing.reconnecting.server import FaultyServer
from isoline.testing.verdict import Verdict

__all__ = ["CASES", "Case", "Command", "Driver", "OwnClient", "run"]

AT_A_TIME = 8
"""Cases; they mostly wait, but each may start a program."""


def run(
    driver: Driver,
    format: str = "geojson",  # noqa: A002
    cases: Sequence[Case] | None = None,
) -> Iterator[Verdict]:
    """Have `driver` follow a job in each of `CASES`, or of `cases`; yield verdicts as they come.

    Raises UnknownFormat, or Malformed when the driver cannot be started.
    """
    lines = recorded_stream("reconnecting.json", format)
    used: dict[str, str] = {}
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        chosen = CASES if cases is None else cases
        played = [pool.submit(_play, driver, case, lines, format) for case in chosen]
        for done in as_completed(played):
            case, key, problem = done.result()
            other = used.setdefault(key, case.name) if key else case.name
            if other != case.name:
                problem = problem or f"submit: its Idempotency-Key was also used in {other!r}"
            yield Verdict(case, problem)


def _play(
    driver: Driver, case: Case, lines: Sequence[bytes], dialect: str
) -> tuple[Case, str | None, str | None]:
    """Return the case, the Idempotency-Key that came and what is wrong."""
    request = {"image": "slides/a.svs", "model": "nuclei", "format": dialect}
    with FaultyServer(case, lines) as server:
        assignment = {
            "url": server.url,
            "request": request,
            "looks": [asdict(look) for look in case.looks],
            "limits": dict(case.limits),
        }
        outcome = driver.follow(assignment)
    attempts = [*server.attempts]
    keys = [attempt.key for attempt in attempts if attempt.place == "submit"]
    events = [json.loads(line) for line in lines]
    return case, keys[0] if keys else None, judge(case, request, events, attempts, outcome)
