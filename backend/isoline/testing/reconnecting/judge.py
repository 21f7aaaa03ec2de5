"""The judgement of a client, by the output of its driver and the times of its requests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from isoline.testing.drivers import Printed
from isoline.testing.reconnecting.cases import Break, Fault, Place, ReconnectingCase, RefusedAnswer
from isoline.testing.reconnecting.server import Attempt

Json: TypeAlias = Mapping[str, Any]

MACHINE_SECONDS = 0.7
"""The tolerance after the policy's longest pause, for a slow machine."""
CLOCK_SECONDS = 0.01
"""The tolerance before its shortest, for the differing clocks of two processes."""
LIMITS = {"silence_seconds": 15.0, "request_seconds": 30.0, "stream_seconds": 300.0}
KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Outcome:
    """The output of a driver."""

    lines: Sequence[Json] = ()
    """The parsed lines of its output."""
    problem: str | None = None
    """Why it cannot be judged: it failed, or its output is not JSON; None if it can."""


def outcome_of(printed: Printed) -> Outcome:
    """Return the parsed lines of the output of a driver."""
    lines: list[Json] = []
    for line in filter(None, printed.text.splitlines()):
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            text = line[:80].decode(errors="replace")
            problem = printed.problem or f"its output is not a JSON object: {text}"
            return Outcome(lines, problem)
        lines.append(said)
    return Outcome(lines, printed.problem)


def judge(
    case: ReconnectingCase,
    request: Json,
    events: Sequence[Json],
    attempts: Sequence[Attempt],
    outcome: Outcome,
) -> str | None:
    """Return the first thing that is wrong, None if there is none.

    `request` is the one to be submitted, `events` are all events of the job, `attempts` are the
    requests that the server received, and `outcome` is the output of the driver.
    """
    return outcome.problem or next(_wrong(case, request, events, attempts, outcome), None)


def _wrong(
    case: ReconnectingCase,
    request: Json,
    events: Sequence[Json],
    attempts: Sequence[Attempt],
    outcome: Outcome,
) -> Iterator[str]:
    by_place: dict[Place, list[Attempt]] = {"submit": [], "events": [], "focus": []}
    for attempt in attempts:
        by_place[attempt.place].append(attempt)
    yield from _wrong_submission(by_place["submit"], request)
    yield from _wrong_token(case.token, attempts, outcome.lines)
    for place in ("submit", "events"):
        yield from _wrong_attempts(case, place, by_place[place])
    yield from _wrong_resumption(by_place["events"])
    yield from _wrong_looks(case, by_place["focus"])
    told = max((attempt.told for attempt in by_place["events"]), default=0)
    yield from _wrong_events(outcome.lines, events[:told])
    yield from _wrong_end(outcome.lines, told == len(events))


def _wrong_submission(attempts: Sequence[Attempt], request: Json) -> Iterator[str]:
    if not attempts:
        yield "submit: no request arrived"
    keys = {attempt.key for attempt in attempts}
    if len(keys) > 1:
        yield f"submit: the Idempotency-Key changed between attempts: {_listed(keys)}"
    for key in keys:
        if key is None:
            yield "submit: there is no Idempotency-Key"
        elif not KEY.fullmatch(key):
            yield f"submit: the Idempotency-Key {key!r} is not 1 to 64 letters, digits, - and _"
    for attempt in attempts:
        if attempt.body != request:
            yield f"submit: expected the body {request}, got {attempt.body}"


def _wrong_token(token: str, attempts: Sequence[Attempt], lines: Sequence[Json]) -> Iterator[str]:
    expected = f"Bearer {token}" if token else None
    for attempt in attempts:
        if token and token in attempt.address:
            yield f"{attempt.place}: the token is in the URL, which servers log"
        if attempt.authorization != expected:
            wanted = "Authorization: Bearer TOKEN" if token else "no Authorization"
            got = "none" if attempt.authorization is None else "something else"
            yield f"{attempt.place}: expected {wanted}, got {got}"
    for line in lines:
        if token and token in str(line.get("error")):
            yield "the token is in the error message"


def _listed(keys: set[str | None]) -> str:
    return ", ".join(sorted(map(str, keys)))


# --- Pauses ------------------------------------------------------------------------------------


def _wrong_attempts(
    case: ReconnectingCase, place: Place, attempts: Sequence[Attempt]
) -> Iterator[str]:
    """Yield what is wrong with the number and the times of the attempts at one thing."""
    in_row = 0
    for number, (attempt, later) in enumerate(pairwise(attempts), 2):
        if attempt.fault is None or _is_final(attempt.fault):
            yield f"{place}: attempt {number} was made although the previous one was final"
            return
        in_row = 1 if attempt.is_alive else in_row + 1
        low, high = _pause(attempt.fault, in_row, case.limits)
        waited = later.began - attempt.failed
        # without a byte, silence begins when the request is sent, before the server receives it
        early = MACHINE_SECONDS if attempt.fault == Break("silent") else CLOCK_SECONDS
        if not low - early <= waited <= high + MACHINE_SECONDS:
            yield (
                f"{place}: attempt {number} was made {waited:.2f} s after {attempt.fault}, "
                f"expected {low:.2f} to {high:.2f} s"
            )
    fewest, most = _attempts_expected(case, place)
    if not fewest <= len(attempts) <= most:
        wanted = str(most) if fewest == most else f"{fewest} to {most}"
        faults = ", ".join(map(str, case.faults(place))) or "no fault"
        yield f"{place}: expected {wanted} attempts ({faults}), got {len(attempts)}"


def _pause(fault: Fault, in_row: int, limits: Mapping[str, float]) -> tuple[float, float]:
    """Return the shortest and the longest pause after `fault`, the `in_row`-th in a row."""
    if isinstance(fault, RefusedAnswer) and fault.retry_after is not None:
        rounded = 1.0 if fault.is_date else 0.0  # a date is in whole seconds
        return fault.retry_after, (fault.retry_after + rounded) * 1.1
    pause = min(0.25 * 2 ** (in_row - 1), 8.0)
    is_silent = isinstance(fault, Break) and fault.how == "silent"
    silence = {**LIMITS, **limits}["silence_seconds"] if is_silent else 0.0
    return silence + 0.75 * pause, silence + 1.25 * pause


def _is_final(fault: Fault) -> bool:
    return isinstance(fault, RefusedAnswer) and fault.status not in (429, 502, 503, 504)


def _attempts_expected(case: ReconnectingCase, place: Place) -> tuple[int, int]:
    """Return the minimum and maximum numbers of attempts."""
    faults = case.faults(place)
    if case.forever == place:
        limit = "stream_seconds" if place == "events" else "request_seconds"
        patience = {**LIMITS, **case.limits}[limit]
        before = max(0, len(faults) - 2)  # the time limit begins at the last but one
        longest, shortest = (_attempts_within(patience, faults[-1], which) for which in (1, 0))
        return before + longest, before + shortest
    if place == "events" and (case.forever == "submit" or any(map(_is_final, case.submit))):
        return 0, 0
    count = len(faults) + (not (faults and _is_final(faults[-1])))
    return count, count


def _attempts_within(patience: float, fault: Fault, which: int) -> int:
    """Return the number of attempts that begin within `patience` seconds.

    `which` selects the shortest (0) or the longest (1) pauses.
    """
    count, began = 1, 0.0
    while (began := began + _pause(fault, count, {})[which]) <= patience:
        count += 1
    return count


# --- Requests and received events --------------------------------------------------------------


def _wrong_resumption(attempts: Sequence[Attempt]) -> Iterator[str]:
    told = 0
    for number, attempt in enumerate(attempts, 1):
        if attempt.after != told - 1:
            yield f"events: attempt {number} asked after={attempt.after}, expected {told - 1}"
        told = max(told, attempt.told)


def _wrong_looks(case: ReconnectingCase, attempts: Sequence[Attempt]) -> Iterator[str]:
    if len(case.looks) < 2:
        if case.looks or attempts:
            yield from _wrong_attempts(case, "focus", attempts)
        bodies = [{"focus": list(look.focus)} for look in case.looks]
        for attempt in attempts:
            if attempt.body not in bodies:
                yield f"focus: expected {bodies}, got {attempt.body}"
        return
    *earlier, latest = [{"focus": list(look.focus)} for look in case.looks]
    for body in earlier:
        if [attempt.body for attempt in attempts].count(body) > 1:
            yield f"focus: {body} was sent again although the focus had moved"
    same = [attempt for attempt in attempts if attempt.body == latest]
    if not same or attempts[-1] is not same[-1] or same[-1].fault is not None:
        yield f"focus: the last request should be {latest}, without a fault"
    for one, other in pairwise(same):
        low = _pause(one.fault, 1, case.limits)[0] if one.fault else 0.0
        if other.began - one.failed < low - CLOCK_SECONDS:
            yield f"focus: {latest} was sent again before {low:g} s had passed"


def _wrong_events(lines: Sequence[Json], expected: Sequence[Json]) -> Iterator[str]:
    got = [(line.get("event"), line.get("seq")) for line in lines if "event" in line]
    wanted = [(event["event"], event["seq"]) for event in expected]
    if got == wanted:
        return
    numbers = [seq for _, seq in got]
    for name, seq in wanted:
        if seq not in numbers:
            yield f"it did not deliver event {seq} ({name})"
        elif numbers.count(seq) > 1:
            yield f"it delivered event {seq} ({name}) {numbers.count(seq)} times"
    yield f"it delivered {got}, expected {wanted}"


def _wrong_end(lines: Sequence[Json], is_whole: bool) -> Iterator[str]:
    errors = [line["error"] for line in lines if "error" in line]
    if is_whole and errors:
        yield f"it received the whole job, but reported an error: {errors[0]}"
    if not is_whole and not (errors and isinstance(errors[0], str) and errors[0].strip()):
        yield 'it gave up without reporting why: expected a line {"error": ...}'
