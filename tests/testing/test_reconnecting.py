"""`isoline conformance --reconnecting`: each client comes back, and faults in one are caught."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest
from click.testing import CliRunner

import isoline_client
from isoline.cli.main import main
from isoline.errors import Malformed
from isoline.testing import driver as own_driver
from isoline.testing import reconnecting
from isoline.testing.drivers import Command, Driver, InProcess, Mode, Printed
from isoline.testing.reconnecting import CASES, TOKENS, ReconnectingCase
from isoline.testing.reconnecting.server import FaultyServer
from isoline.testing.streams import recorded_stream

ROOT = Path(__file__).parents[2]
PYTHON = (sys.executable, "-m", "isoline.testing.driver")


def wrong(driver: Driver, cases: Sequence[ReconnectingCase] = CASES) -> dict[str, str]:
    """Return what `driver` gets wrong, by case."""
    verdicts = list(reconnecting.run(driver, cases=cases))
    assert len(verdicts) == len(cases)
    return {each.case.name: each.problem for each in verdicts if each.problem}


OWN = InProcess(own_driver.answer)
DRIVERS: Mapping[str, Driver] = {
    "Python, in this process": OWN,
    "Python, in another process": Command(PYTHON),
    "OHIF": Command(("node", str(ROOT / "plugins" / "ohif" / "test" / "driver.mjs"))),
    "Digital Slide Archive": Command((sys.executable, "-m", "tests.dsa.driver")),
}
NEED_NODE = ("OHIF", "Digital Slide Archive")


@pytest.mark.slow
@pytest.mark.parametrize("name", DRIVERS)
def test_every_client_comes_back(name: str) -> None:
    if name in NEED_NODE and shutil.which("node") is None:
        assert os.environ.get("CI") != "true"
        pytest.skip("no node on this machine")
    assert wrong(DRIVERS[name], (*CASES, *TOKENS)) == {}


@dataclass(frozen=True)
class Fault:
    """One fault in the client, and a case that catches it."""

    file: str
    right: str
    changed: str
    case: str


PAGE = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")


def test_the_page_quotes_the_driver() -> None:
    quoted = Path(own_driver.__file__).read_text(encoding="utf-8")
    assert f"```python\n{quoted}```" in PAGE


@pytest.mark.slow
def test_the_assignment_on_the_page_can_be_done() -> None:
    example = json.loads(PAGE.partition("```json assignment\n")[2].partition("```")[0])
    (case,) = case_of("focus: no answer")
    assert [each["after"] for each in example["looks"]] == [each.after for each in case.looks]
    with FaultyServer(case, recorded_stream("reconnecting.json")) as server:
        written = list(own_driver.follow({**example, "url": server.url}))
        assert server.has_looked()
    assert [line["seq"] for line in written] == list(range(8))
    assert written[-1]["event"] == "done"


def case_of(name: str) -> list[ReconnectingCase]:
    return [case for case in (*CASES, *TOKENS) if case.name == name]


FAULTS = {
    "Retry-After is not read": Fault("retry.py", "if retry_after > 0", "if False", "submit: 429"),
    "a date is not understood": Fault(
        "retry.py",
        "moment = parsedate_to_datetime(header)",
        "return 0.0",
        "submit: 503 until a date",
    ),
    "it waits for much longer than asked": Fault(
        "retry.py", "return retry_after * (1", "return retry_after * (1.5", "events: 503"
    ),
    "it comes a little too early": Fault(
        "retry.py", "return retry_after * (1 ", "return retry_after * (0.85 ", "events: 429"
    ),
    "pauses do not grow": Fault(
        "retry.py", "2.0 ** min(attempt - 1, 16)", "1.0", "submit: growing pauses"
    ),
    "pauses never begin anew": Fault(
        "retry.py",
        "        self._failed = 0\n        self._since = self._policy.now()\n\n    def again",
        "        self._since = self._policy.now()\n\n    def again",
        "events: pauses begin anew",
    ),
    "a 429 is final": Fault("errors.py", "{0, 429,", "{0,", "events: 429"),
    "no answer is final": Fault("errors.py", "{0, 429,", "{429,", "submit: no answer"),
    "everything is tried again": Fault(
        "errors.py", "return self.status in PASSING", "return True", "submit: refused"
    ),
    "a stream that is gone is asked for again": Fault(
        "errors.py", "return self.status in PASSING", "return True", "events: gone"
    ),
    "it never gives up a request": Fault(
        "retry.py", "- self._since > self._patience", "- self._since > 9", "submit: given up"
    ),
    "it never gives up a stream": Fault(
        "retry.py", "- self._since > self._patience", "- self._since > 9", "events: given up"
    ),
    "a key for each attempt": Fault(
        "connection.py",
        "self.http.answer(method, path, body, headers)",
        "self.http.answer(method, path, body, "
        '{"Idempotency-Key": __import__("secrets").token_hex()})',
        "submit: 503",
    ),
    "no key": Fault("client.py", '"Idempotency-Key": ', '"Key": ', "submit: silence"),
    "a key that is no word": Fault(
        "client.py", "secrets.token_urlsafe(16)", '"a b"', "submit: 503"
    ),
    "silence is never noticed": Fault(
        "transport.py", "timeout=self._silence", "timeout=4", "events: silence"
    ),
    "silence is noticed too early": Fault(
        "retry.py",
        "silence_seconds: float = 15.0",
        "silence_seconds: float = 9.0",
        "silence for 15 seconds",
    ),
    "a heartbeat is no sign of life": Fault(
        "transport.py",
        "timeout=self._silence",
        "timeout=self._silence / 16",
        "events: heartbeats alone",
    ),
    "it resumes from the start": Fault(
        "job.py", "after={after}{form}", "after=-1{form}", "events: cut line"
    ),
    "what comes again is taken again": Fault(
        "retry.py", 'event["seq"] > after', "True", "events: some come again"
    ),
    "what is no JSON is passed over": Fault(
        "retry.py",
        '        raise ClientError(0, "Lost", str(error)) from error\n',
        "        return None\n",
        "events: not JSON",
    ),
    "an early end is the end": Fault(
        "retry.py",
        "        if not attempts.again(lost):\n            if attempts.is_stopped:\n"
        "                return\n            what",
        "        return\n        if True:\n            if lost:\n"
        "                return\n            what",
        "events: early end",
    ),
    "the token is in the URL": Fault(
        "job.py", "after={after}{form}", "after={after}&token={self.server.http._token}", "token"
    ),
    "the token is in the error": Fault(
        "errors.py",
        '        return f"{self.what}; {self.remedy}" if self.remedy else self.what',
        '        return f"{self.what}; iso_7QmX-2vK9_token"',
        "token: refused",
    ),
    "a 401 is tried again": Fault("errors.py", "{0, 429,", "{0, 401, 429,", "token: refused later"),
    "the token is sent once": Fault(
        "transport.py", "if self._token:", 'if self._token and request.method == "POST":', "token"
    ),
    "an old look is sent again": Fault(
        "job.py", "            self._outdated.set()\n", "", "focus: only the latest"
    ),
    "a look is sent once": Fault(
        "job.py",
        'self.server.ask("PATCH", self._path, place, stop=outdated)',
        'self.server.http.answer("PATCH", self._path, place)',
        "focus: 503",
    ),
}


def broken_client(fault: Fault, folder: Path) -> Command:
    """Return a driver around a copy of the client, in `folder`, that has `fault`."""
    package = Path(isoline_client.__file__).parent
    shutil.copytree(package, folder / "isoline_client")
    changed = folder / "isoline_client" / fault.file
    text = changed.read_text(encoding="utf-8")
    assert text.count(fault.right) == 1, fault
    changed.write_text(text.replace(fault.right, fault.changed), encoding="utf-8")
    start = folder / "start.py"
    start.write_text(
        f"import runpy, sys; sys.path.insert(0, {str(folder)!r})\n"
        "runpy.run_module('isoline.testing.driver', run_name='__main__')",
        encoding="utf-8",
    )
    return Command((sys.executable, str(start)))


@pytest.fixture(scope="module")
def caught(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Fault -> what is wrong with the client that has it, all tried side by side."""

    def judged(name: str) -> dict[str, str]:
        fault = FAULTS[name]
        driver = broken_client(fault, tmp_path_factory.mktemp("client"))
        return wrong(driver, case_of(fault.case))

    with ThreadPoolExecutor(8) as pool:
        return dict(zip(FAULTS, pool.map(judged, FAULTS), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught(name: str, caught: dict[str, dict[str, str]]) -> None:
    assert list(caught[name]) == [FAULTS[name].case]


def test_a_key_that_is_used_twice_is_caught(tmp_path: Path) -> None:
    fault = Fault("client.py", "secrets.token_urlsafe(16)", '"always-this"', "")
    cases = [case for case in CASES if case.name.startswith("submit: re")]
    cases += [case for case in CASES if case.name == "submit: cut answer"]
    (problem,) = wrong(broken_client(fault, tmp_path), cases).values()
    assert "was also used in" in problem


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("raise SystemExit('no such viewer')", "exit status 1: no such viewer"),
        ("print('hello')", "not a JSON object: hello"),
        ("print([])", "not a JSON object"),
        ("pass", "submit: no request arrived"),
    ],
)
def test_a_driver_that_does_not_drive_is_told_why(
    program: str, problem: str, tmp_path: Path
) -> None:
    (tmp_path / "driver.py").write_text(program, encoding="utf-8")
    driver = Command((sys.executable, str(tmp_path / "driver.py")))
    assert problem in wrong(driver, case_of("submit: refused"))["submit: refused"]


def test_a_refusal_must_be_told_to_the_user(tmp_path: Path) -> None:
    package = "import runpy; runpy.run_module('isoline.testing.driver', run_name='__main__')"
    (tmp_path / "driver.py").write_text(
        f"import sys, io; real, sys.stdout = sys.stdout, io.StringIO(); {package}", encoding="utf-8"
    )
    driver = Command((sys.executable, str(tmp_path / "driver.py")))
    assert "without reporting why" in wrong(driver, case_of("submit: refused"))["submit: refused"]


class Crowded:
    """Has no time the first few times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.played = 0

    def run(self, mode: Mode, sent: bytes, seconds: float) -> Printed:
        self.played += 1
        if self.played <= self.times:
            return Printed(problem="no time")
        return OWN.run(mode, sent, seconds)


@pytest.mark.slow
def test_a_few_that_go_wrong_are_played_again_alone() -> None:
    quick = [
        case for case in CASES if case.name.startswith(("submit: no", "submit: c", "events: g"))
    ]
    assert len(quick) > reconnecting.PLAYED_AGAIN
    few, many = Crowded(reconnecting.PLAYED_AGAIN), Crowded(reconnecting.PLAYED_AGAIN + 1)
    assert wrong(few, quick) == {}
    assert few.played == len(quick) + reconnecting.PLAYED_AGAIN
    assert set(wrong(many, quick).values()) == {"no time"}
    assert many.played == len(quick)


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(Malformed, match="cannot run"):
        wrong(Command(["no-such-command-here"]))


def test_as_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnecting, "CASES", case_of("submit: no answer"))
    for driver in ((), ("--", *PYTHON)):
        done = CliRunner().invoke(main, ["conformance", "--reconnecting", *driver])
        assert (done.exit_code, done.output) == (
            0,
            "ok    submit: no answer\n1 of 1 cases passed\n",
        )
    monkeypatch.setattr(reconnecting, "CASES", ())
    none = CliRunner().invoke(main, ["conformance", "--reconnecting"])
    assert none.exit_code == 2
    assert "0 cases were run" in none.output


@pytest.mark.slow
def test_the_token_is_in_the_header_alone() -> None:
    assert wrong(OWN, TOKENS) == {}


def without_token(mode: str, stream: BinaryIO) -> object:
    return own_driver.follow({**json.load(stream), "token": None}) if mode == "follow" else []


@pytest.mark.slow
def test_a_client_without_the_token_is_caught() -> None:
    problems = wrong(InProcess(without_token), TOKENS)
    assert len(problems) == len(TOKENS)
    assert problems["token: refused"] == "submit: expected Authorization: Bearer TOKEN, got none"
