"""`isoline conformance`: the reference adapter passes, adapters with one fault are caught."""

from __future__ import annotations

import io
import json
import runpy
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from isoline.cli.main import main
from isoline.errors import Malformed, UnknownFormat
from isoline.exports.registry import EXPORTS
from isoline.testing import conformance
from tests.protocol.test_openapi import check

ADAPTER = Path(__file__).parents[2] / "docs" / "examples" / "adapter.py"

FAULTS: dict[str, tuple[dict[str, str], set[str]]] = {
    "half a pixel to the right": (
        {"[x0, y0, x1 + 1, y1 + 1]": "[x0 + 0.5, y0 + 0.5, x1 + 1.5, y1 + 1.5]"},
        {"whole pixels", "one pixel"},
    ),
    "the last pixel is left out": (
        {"[x0, y0, x1 + 1, y1 + 1]": "[x0, y0, x1, y1]"},
        {"whole pixels", "one pixel"},
    ),
    "corners as they came": (
        {"min(xs), min(ys), max(xs), max(ys)]\n": "xs[0], ys[0], xs[1], ys[1]]\n"},
        {"rectangle drawn backwards"},
    ),
    "rounded": (
        {"= [min(xs), min(ys)": "= [int(min(xs)), int(min(ys))"},
        {"fractions of a pixel"},
    ),
    "holes of the lasso forgotten": (
        {'*gesture.get("holes", [])': ""},
        {"polygon with a hole"},
    ),
    "the corner of a pixel for its middle": (
        {"n + 0.5": "n"},
        {"pixel of focus", "a click on a pixel"},
    ),
    "a lasso that is closed": ({"points = points[:-1]": "pass"}, {"a lasso"}),
    "everything includes": (
        {'mark.get("include", True)': "True"},
        {"everything that was drawn"},
    ),
    "only the last that was drawn": (
        {'gesture["drawn"]]': 'gesture["drawn"][-1:]]'},
        {"everything that was drawn"},
    ),
    "parameters as text": (
        {"key: gesture[key]": 'key: str(gesture[key]) if key == "parameters" else gesture[key]'},
        {"parameters"},
    ),
    "a key of its own": ({"return body": 'return {**body, "viewer": "mine"}'}, {"whole image"}),
    "replaces is ignored": (
        {'self.remove(event["replaces"])': "pass"},
        {"provisional pieces", "pieces that vanish", "dropped connection, pieces"},
    ),
    "adds, then removes": (
        {
            "self.remove(event": "later = list(event",
            '    case "done"': '        self.remove(later)\n            case "done"',
        },
        {"a piece that is the whole"},
    ),
    "brings back what was replaced": (
        {'event["seq"] <= self.seen': "False"},
        {"dropped connection, pieces"},
    ),
    "counts what comes again": (
        {
            'event["seq"] <= self.seen': "False",
            'features[feature["id"]]': 'features[len(self.features), feature["id"]]',
        },
        {"dropped connection", "replay from the start"},
    ),
    "pieces are not shown": (
        {'in event["features"]': 'in [] if event["provisional"] else event["features"]'},
        {"pieces while it runs"},
    ),
    "leftover pieces are kept": (
        {"self.remove(self.provisional)": "pass"},
        {"pieces left over"},
    ),
    "heartbeats are not expected": ({"if not line.strip()": "if False"}, {"heartbeats"}),
    "every event is a contour": ({'match event["event"]': 'match "contours"'}, {"unknown events"}),
    "keys are counted": (
        {'match event["event"]': 'assert len(event) < 7\n        match event["event"]'},
        {"unknown keys"},
    ),
    "holes are filled": ({"- sum(map(area, holes))": ""}, {"hole", "scale"}),
    "only the first part": (
        {'geometry["coordinates"] if several': 'geometry["coordinates"][:1] if several'},
        {"several parts"},
    ),
    "half a pixel off on screen": (
        {"[min(xs), min(ys), max(xs), max(ys)],": "[n - 0.5 for n in (*min(zip(xs, ys)), 1, 1)],"},
        {"objects", "hole"},
    ),
    "as if it had not failed": ({'"done" | "failed"': '"done"'}, {"pieces left over"}),
}  # fmt: skip


def wrong(adapter: Path) -> dict[str, str]:
    """Replay every case to `adapter` within this process; return what it got wrong, by case."""
    answer = runpy.run_path(str(adapter))["answer"]
    problems: dict[str, str] = {}
    for case in conformance.cases():
        try:
            printed = json.dumps(answer(case.mode, io.BytesIO(case.sent))).encode()
            problem = conformance.judge(case, printed)
        except Exception as error:
            problem = repr(error)
        if problem:
            problems[case.name] = problem
    return problems


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(fault: str, tmp_path: Path) -> None:
    changes, cases = FAULTS[fault]
    text = ADAPTER.read_text(encoding="utf-8")
    for right, changed in changes.items():
        assert text.count(right) == 1
        text = text.replace(right, changed)
    (tmp_path / "broken.py").write_text(text, encoding="utf-8")
    assert cases <= set(wrong(tmp_path / "broken.py"))


def test_half_a_pixel_is_called_by_its_name(tmp_path: Path) -> None:
    text = ADAPTER.read_text(encoding="utf-8").replace("n + 0.5", "n")
    (tmp_path / "broken.py").write_text(text, encoding="utf-8")
    assert "half a pixel off" in wrong(tmp_path / "broken.py")["pixel of focus"]


def test_the_reference_adapter_passes_as_a_command() -> None:
    done = CliRunner().invoke(main, ["conformance", "--", sys.executable, str(ADAPTER)])
    assert done.exit_code == 0, done.output
    assert f"{len(conformance.cases())} of {len(conformance.cases())}" in done.output


def test_a_command_that_fails_is_told_why(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("raise SystemExit('no such viewer')", encoding="utf-8")
    done = CliRunner().invoke(main, ["conformance", "--", sys.executable, str(tmp_path / "a.py")])
    assert done.exit_code == 1
    assert "exit status 1: no such viewer" in done.output


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(Malformed, match="cannot run"):
        list(conformance.run(["no-such-command-here"]))


@pytest.mark.parametrize(
    ("printed", "problem"),
    [
        (b"", "did not print JSON"),
        (b"{}", "a list"),
        (b"[{}]", "not a feature"),
        (b'[{"id": "x", "label": "Y", "area": 3, "bounds": [0, 0, 1, 1]}]', "should not show"),
        (b"[]", "does not show"),
    ],
)
def test_what_is_printed_must_be_features(printed: bytes, problem: str) -> None:
    (case,) = (case for case in conformance.cases() if case.name == "objects")
    assert problem in str(conformance.judge(case, printed))


def test_the_lines_are_those_of_a_server() -> None:
    known = [
        line
        for case in conformance.cases()
        if case.mode == "events" and case.name not in ("unknown events", "unknown keys")
        for line in case.sent.split(b"\n")
        if line
    ]
    assert len(known) > 20
    for line in known:
        check(json.loads(line), "Event")


OUTLINES = [name for name in EXPORTS.names() if "objects" in EXPORTS.load(name).kinds]


@pytest.mark.parametrize("name", OUTLINES)
def test_there_are_cases_in_every_dialect_of_outlines(name: str) -> None:
    cases = [case for case in conformance.cases(name) if case.mode == "events"]
    assert len(cases) > 1
    for case in cases:
        assert conformance.judge(case, json.dumps(case.expected).encode()) is None
        assert b'"format":"%b"' % name.encode() in case.sent


def test_a_dialect_that_is_not_there() -> None:
    with pytest.raises(UnknownFormat):
        conformance.cases("svg")


def test_cases_can_be_saved(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["conformance", "--save", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert len(list(tmp_path.iterdir())) == 2 * len(conformance.cases())
    assert json.loads((tmp_path / "events-hole.expected.json").read_bytes())[0]["area"] == 16
