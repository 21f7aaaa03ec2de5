"""A conformance suite that replays recorded gestures and event streams to a viewer's client.

`docs/conformance.md` is the contract for drivers. `cases.py` makes the cases from the recordings,
`requests.py` and `shown.py` judge the output of a driver.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson

from isoline.testing import reconnecting
from isoline.testing.conformance.cases import ConformanceCase, cases
from isoline.testing.conformance.requests import judge_request
from isoline.testing.conformance.shown import judge_features, judge_labels
from isoline.testing.drivers import Driver, capabilities
from isoline.testing.verdict import Verdict, some

__all__ = ["ConformanceCase", "cases", "judge", "run", "save"]

TIMEOUT_SECONDS = 30.0


def run(
    driver: Driver,
    format: str = "geojson",  # noqa: A002
    at_a_time: int = 1,
) -> Iterator[Verdict]:
    """Replay every case to `driver`, with contours in the dialect `format`; yield the verdicts.

    A case that needs a capability that the driver does not declare is not run, and its verdict says
    so. `at_a_time` cases run concurrently, each in its own thread.

    Raises UnknownFormat; Malformed if the driver cannot be started, does not declare its
    capabilities, or declares none that a case needs.
    """
    return some(_verdicts(driver, format, at_a_time))


def _verdicts(driver: Driver, dialect: str, at_a_time: int) -> Iterator[Verdict]:
    declared = capabilities(driver)

    def verdict(case: ConformanceCase) -> Verdict:
        if lacks := tuple(each for each in case.needs if each not in declared):
            return Verdict(case, lacks=lacks)
        printed = driver.run(case.mode, case.sent, TIMEOUT_SECONDS)
        return Verdict(case, printed.problem or judge(case, printed.text))

    with ThreadPoolExecutor(at_a_time) as pool:
        yield from pool.map(verdict, cases(dialect))
    if "follow" in declared:
        yield from reconnecting.run(driver, dialect, reconnecting.TOKENS)
    else:
        yield from (Verdict(case, lacks=("follow",)) for case in reconnecting.TOKENS)


def save(directory: Path, format: str = "geojson") -> None:  # noqa: A002
    """Write the input and the expected output of each case into `directory`, for other test tools.

    Raises UnknownFormat.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for case in cases(format):
        name = "".join(each for each in case.name if each not in ",:").replace(" ", "-")
        (directory / f"{case.mode}-{name}.sent").write_bytes(case.sent)
        (directory / f"{case.mode}-{name}.expected.json").write_bytes(orjson.dumps(case.expected))


def judge(case: ConformanceCase, printed: bytes) -> str | None:
    """Return what is wrong with the output of a driver, None if it is correct."""
    try:
        said = orjson.loads(printed)
    except orjson.JSONDecodeError as error:
        return f"it did not print JSON: {error}"
    if case.mode == "request":
        return judge_request(said, case)
    if case.volume is not None:
        return judge_labels(said, case.expected)
    assert isinstance(case.expected, list)
    return judge_features(said, case.expected)
