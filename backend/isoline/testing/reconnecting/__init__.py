"""A conformance suite of reconnection: a faulty server, and the judgement of a client.

`docs/conformance.md` is the contract of drivers and lists what is judged. The cases are in
`cases.py`; `server.py` plays them, and `judge.py` judges the client.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict

from isoline.testing.drivers import Driver
from isoline.testing.reconnecting.cases import CASES, TOKENS, ReconnectingCase
from isoline.testing.reconnecting.judge import judge, outcome_of
from isoline.testing.reconnecting.server import FaultyServer
from isoline.testing.streams import recorded_stream
from isoline.testing.verdict import Verdict, some

__all__ = ["CASES", "TOKENS", "ReconnectingCase", "run"]

TIMEOUT_SECONDS = 40.0

AT_A_TIME = 8
"""The number of concurrent cases; they mostly wait, but each may start a program."""
PLAYED_AGAIN = 4
"""If more cases than this fail, a slow machine is not the reason."""


def run(
    driver: Driver,
    format: str = "geojson",  # noqa: A002
    cases: Sequence[ReconnectingCase] | None = None,
) -> Iterator[Verdict]:
    """Have `driver` follow a job in each of `cases` (by default `CASES`); yield their verdicts.

    Cases run concurrently and slow each other down on a small machine. If only a few fail, they are
    therefore run again, one at a time, and the second result counts.

    Raises UnknownFormat, or Malformed if the driver cannot be started or there are no cases.
    """
    return some(_verdicts(driver, format, CASES if cases is None else cases))


def _verdicts(
    driver: Driver, dialect: str, chosen: Sequence[ReconnectingCase]
) -> Iterator[Verdict]:
    lines = recorded_stream("reconnecting.json", dialect)
    keys: dict[str, str] = {}

    def judged(case: ReconnectingCase) -> Verdict:
        key, problem = _play(driver, case, lines, dialect)
        other = keys.setdefault(key, case.name) if key else case.name
        if other != case.name:
            problem = problem or f"submit: its Idempotency-Key was also used in {other!r}"
        return Verdict(case, problem)

    wrong: list[tuple[ReconnectingCase, Verdict]] = []
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        played = {pool.submit(judged, case): case for case in chosen}
        for done in as_completed(played):
            verdict = done.result()
            if verdict.problem is None:
                yield verdict
            else:
                wrong.append((played[done], verdict))
    is_crowded = len(wrong) <= PLAYED_AGAIN and len(chosen) > 1
    for case, verdict in wrong:
        yield judged(case) if is_crowded else verdict


def _play(
    driver: Driver, case: ReconnectingCase, lines: Sequence[bytes], dialect: str
) -> tuple[str | None, str | None]:
    """Return the Idempotency-Key that the client sent, and what is wrong with the client."""
    request = {"image": "slides/a.svs", "model": "nuclei", "format": dialect}
    with FaultyServer(case, lines) as server:
        assignment = {
            "url": server.url,
            "request": request,
            "looks": [asdict(look) for look in case.looks],
            "limits": dict(case.limits),
            **({"token": case.token} if case.token else {}),
        }
        printed = driver.run("follow", json.dumps(assignment).encode(), TIMEOUT_SECONDS)
    attempts = [*server.attempts]
    keys = [attempt.key for attempt in attempts if attempt.place == "submit"]
    events = [json.loads(line) for line in lines]
    return keys[0] if keys else None, judge(case, request, events, attempts, outcome_of(printed))
