"""`isoline conformance`: the reference adapter passes, adapters with one fault are caught."""

from __future__ import annotations

import json
import re
import runpy
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from click.testing import CliRunner

from isoline.cli.main import main
from isoline.errors import Malformed, NotSupported, UnknownFormat
from isoline.exports.registry import EXPORTS
from isoline.testing import conformance
from isoline.testing.conformance import ConformanceCase
from isoline.testing.conformance.cases import EARLIER_JOB
from isoline.testing.drivers import Command, InProcess
from isoline.testing.reconnecting import TOKENS
from tests.protocol.test_openapi import check

ADAPTER = Path(__file__).parents[2] / "docs" / "examples" / "adapter.py"

PIXEL = "45935728-d0ec-539d-88db-2960a421f5eb"
OTHER = PIXEL.replace("4", "5")
STALE = """    for step in gesture.get("steps", [])[1:2]:
        if "volume" not in gesture and "answer" in step:
            body["replaces"] = [each["id"] for each in step["answer"][1]["features"]]
"""
"""Names the second answer, which was undone."""

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
    "heartbeats are not expected": ({"if line.strip() and": "if"}, {"heartbeats"}),
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
    "half a line is an event": (
        {' and line.endswith(b"\\n")': ""},
        {"cut in the middle of a line"},
    ),
    "whole numbers on screen": (
        {'"bounds": [min(xs), min(ys), max(xs)': '"bounds": [int(min(xs)), min(ys), max(xs)'},
        {"scale"},
    ),
    "an undone prompt is sent": (
        {"marks.pop()": "pass"},
        {"undo of a prompt", "undo of two prompts", "undo of every prompt",
         "undo of a prompt in a volume"},
    ),
    "undo takes the first": ({"marks.pop()": "marks.pop(0)"}, {"undo of a prompt"}),
    "prompts of the object before": ({"marks.clear()": "pass"}, {"the next object"}),
    "an undone answer is named": (
        {'    if "again" in': STALE + '    if "again" in'},
        {"undo of a prompt"},
    ),
    "the middle of a voxel as of a pixel": (
        {'points = [mark["voxel"]]': 'points = [middle(mark["voxel"])]'},
        {"a click on a voxel", "a box of voxels"},
    ),
    "no frame of reference": (
        {'body["frame_of_reference"] = gesture["volume"]["frame_of_reference"]': "pass"},
        {"a click in a volume", "everything that was drawn in a volume"},
    ),
    "slices by number": ({"names[k] if names else k": "k"}, {"a whole volume"}),
    "slices by name alone": (
        {"names[k] if names else k": "names[k]"}, {"a whole volume without names"},
    ),
    "a run that replaces nothing": (
        {'body["replaces"] = gesture["again"]["job"]': "pass"},
        {"the same region again", "the same volume again"},
    ),
    "frames are not told apart": (
        {'(each["instance"], each["frame"]): k': '(each["instance"], 1): k',
         'each["instance"], each["frame"]] if': 'each["instance"], 1] if'},
        {"frames of one instance"},
    ),
    "slices need names": ({' if self.numbers else each["k"]': ""}, {"slices without names"}),
    "slices add up": (
        {"            self.labels[k] = self.empty()\n": ""},
        {"a coarse slice, then a fine one", "a coarse slice that is empty after all",
         "slices that are cleared before it is cancelled", "run again: slices"},
    ),
    "whole is not known": (
        {"if whole": "if False"},
        {"the whole result", "a whole result of nothing", "run again: the whole volume"},
    ),
    "rows for columns": (
        {"row, column = divmod": "column, row = divmod"}, {"slices of a volume", "two labels"},
    ),
    "boxes from their far corner": ({"i0, j0, i1, _ =": "_, j0, i1, i0 ="}, {"slices of a volume"}),
    "runs of one byte": ({"shift += 7": "shift += 0"}, {"long runs"}),
    "what a user has changed goes": (
        {" - self.touched": ""}, {"run again: what the user kept"},
    ),
    "a new run clears everything": (
        {"layer.seen = -1  # each": "layer.seen = -1; layer.features.clear()  # each"},
        {"run again: what is replaced goes", "run again: cancelled"},
    ),
    "numbers go on from run to run": (
        {"layer.seen = -1  # each": "pass  # each"}, {"run again: what is replaced goes"},
    ),
}  # fmt: skip


def wrong(adapter: Path) -> dict[str, str]:
    """Replay every case to `adapter` within this process; return what it got wrong, by case."""
    driver = InProcess(runpy.run_path(str(adapter))["answer"])
    return {each.case.name: each.problem for each in conformance.run(driver) if each.problem}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(fault: str, tmp_path: Path) -> None:
    changes, cases = FAULTS[fault]
    text = ADAPTER.read_text(encoding="utf-8")
    for right, changed in changes.items():
        assert text.count(right) == 1
        text = text.replace(right, changed)
    (tmp_path / "broken.py").write_text(text, encoding="utf-8")
    assert cases <= set(wrong(tmp_path / "broken.py"))


FROM, TO = [-40.5, -59.75, 102], [-40.6875, -56.875, 104]
BESIDE, BELOW = [-40.6875, -56.875, 102], [-40.5, -59.75, 104]


@pytest.mark.parametrize(
    ("corners", "has_frame", "problem"),
    [
        ([FROM, TO], True, "None"),
        ([TO, FROM], True, "None"),
        ([FROM, BESIDE, BELOW, TO], True, "None"),
        ([BELOW, FROM, TO, BESIDE], True, "None"),
        ([FROM, FROM, TO, TO], True, "not the four corners of a rectangle"),
        ([FROM, BESIDE, BESIDE, TO], True, "not the four corners of a rectangle"),
        ([FROM, BESIDE, [-40.5, -59.75, 103], TO], True, "not the four corners of a rectangle"),
        ([FROM, [-40.6, -57, 102], [-40.5875, -59.625, 104], TO], True, "not the four corners"),
        ([FROM, BESIDE, BELOW, [-40.6875, -56.875, 104.5]], True, "a different position"),
        ([FROM, BESIDE, BELOW, TO], False, "name their frame_of_reference"),
        ([FROM, BESIDE, TO], True, "box"),
    ],
)
def test_a_box_in_a_volume_has_two_or_four_corners(
    corners: list[list[float]], has_frame: bool, problem: str
) -> None:
    name = "everything that was drawn in a volume"
    (case,) = (case for case in conformance.cases() if case.name == name)
    said = json.loads(json.dumps(case.expected))
    said["prompts"][0]["points"] = corners
    if not has_frame:
        del said["frame_of_reference"]
    assert problem in str(conformance.judge(case, json.dumps(said).encode()))


def test_half_a_pixel_is_called_by_its_name(tmp_path: Path) -> None:
    text = ADAPTER.read_text(encoding="utf-8").replace("n + 0.5", "n")
    (tmp_path / "broken.py").write_text(text, encoding="utf-8")
    assert "half a pixel off" in wrong(tmp_path / "broken.py")["pixel of focus"]


def test_coordinates_may_be_kept_as_floats_of_32_bits(tmp_path: Path) -> None:
    text = ADAPTER.read_text(encoding="utf-8")
    assert text.count("    xs, ys = zip(*") == 1
    kept = "import numpy\nsingle = lambda n: float(numpy.float32(n))\n" + text.replace(
        "    xs, ys = zip(*",
        "    polygons = [[[[single(n) for n in corner] for corner in ring] for ring in rings]"
        " for rings in polygons]\n    xs, ys = zip(*",
    )
    (tmp_path / "single.py").write_text(kept, encoding="utf-8")
    assert wrong(tmp_path / "single.py") == {}
    rounded = kept.replace("float(numpy.float32(n))", "round(n, 1)")
    (tmp_path / "rounded.py").write_text(rounded, encoding="utf-8")
    assert "scale" in wrong(tmp_path / "rounded.py")


@pytest.mark.slow
def test_the_reference_adapter_passes_as_a_command() -> None:
    done = CliRunner().invoke(main, ["conformance", "--", sys.executable, str(ADAPTER)])
    count = len(conformance.cases())
    assert done.exit_code == 0, done.output
    assert f"{count} of {count} cases passed" in done.output
    assert f"{len(TOKENS)} not run: the driver does not declare follow" in done.output
    assert "-     token: refused" in done.output


def test_what_is_not_declared_is_not_run() -> None:
    verdicts = list(conformance.run(InProcess(only("prompts"))))
    run = [each for each in verdicts if not each.lacks]
    assert run
    assert {each.case.needs for each in run if isinstance(each.case, ConformanceCase)} == {
        ("prompts",)
    }
    assert {each.problem for each in run} == {None}
    assert len(verdicts) == len(conformance.cases()) + len(TOKENS)


def only(*declared: str) -> Callable[[str, BinaryIO], object]:
    """Return the reference adapter, which declares no more than `declared`."""
    answer = runpy.run_path(str(ADAPTER))["answer"]
    return lambda mode, stream: [*declared] if mode == "capabilities" else answer(mode, stream)


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        ([], "0 cases were run.*declare what"),
        (["nifti"], "0 cases were run"),
        (["contours", "stereo"], "there is no 'stereo'.*contours"),
        ({"contours": True}, "expected a list"),
        (["contours", 3], "expected a list"),
    ],
)
def test_a_driver_has_to_say_what_it_can_do(declared: object, problem: str) -> None:
    with pytest.raises(Malformed, match=problem):
        list(conformance.run(InProcess(lambda *_: declared)))


def test_no_case_is_no_pass() -> None:
    program = [sys.executable, "-c", "print('[]')"]
    done = CliRunner().invoke(main, ["conformance", "--", *program])
    assert done.exit_code == 2
    assert "0 cases were run" in done.output


def test_a_command_that_fails_is_told_why(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "import sys\n"
        "if sys.argv[1] != 'capabilities': sys.exit('no such viewer')\n"
        "print('[\"contours\"]')",
        encoding="utf-8",
    )
    done = CliRunner().invoke(main, ["conformance", "--", sys.executable, str(tmp_path / "a.py")])
    assert done.exit_code == 1
    assert "exit status 1: no such viewer" in done.output


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(Malformed, match="cannot run"):
        list(conformance.run(Command(["no-such-command-here"])))


def test_a_driver_that_does_not_end() -> None:
    never = threading.Event()
    printed = InProcess(lambda *_: never.wait(10)).run("events", b"", 0.05)
    assert printed.problem == "it was still busy after 0.05 s"
    never.set()


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


@pytest.mark.parametrize(
    ("printed", "problem"),
    [
        ([], "labels of all voxels"),
        ([[[0, 1], [0]]], "labels of all voxels"),
        ("turned", r"expected 6 slices of 12 rows of 16.*slices, rows, columns"),
        ("upside down", r"voxel i 5, j 2, k 1: expected 0, got 1.*slices are in reverse order"),
        ("shifted", r"columns are off by one"),
    ],
)
def test_what_is_wrong_with_labels_is_called_by_its_name(printed: object, problem: str) -> None:
    (case,) = (case for case in conformance.cases() if case.name == "slices of a volume")
    labels = np.array(case.expected)
    turned = {
        "turned": labels.T,
        "upside down": labels[::-1],
        "shifted": np.roll(labels, 1, axis=2),
    }
    said = turned[printed].tolist() if isinstance(printed, str) else printed
    assert re.search(problem, str(conformance.judge(case, json.dumps(said).encode())))


GONE = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    ("name", "changes", "problem"),
    [
        ("the same region again", {"replaces": [OTHER]}, "features that are not shown"),
        ("the same region again", {"replaces": []}, "expected the id of the earlier"),
        ("the same region again", {"replaces": [PIXEL]}, "leaves out"),
        ("the same region again", {"replaces": "another"}, "nothing of the job another is shown"),
        ("the same region again", {"replaces": 3}, "the server would refuse it: replaces"),
        ("the next object", {"replaces": EARLIER_JOB}, "nothing of the job"),
        ("undo of a prompt", {"initial": [0, 0, 9, 9]}, "initial"),
        ("a click in a volume", {"frame_of_reference": "1.2"}, "expected 1.2.3.9, got 1.2"),
        ("a click in a volume", {"frame_of_reference": None}, "these are voxel indices"),
        ("a click in a volume", {"prompts": [{"kind": "point", "points": [[1, 2]]}]}, "three"),
        ("a whole volume", {"slice": {"instance": "1.2.3.4", "frame": 1}}, "slice"),
    ],
)
def test_a_request_that_is_wrong_is_told_why(
    name: str, changes: dict[str, object], problem: str
) -> None:
    (case,) = (case for case in conformance.cases() if case.name == name)
    assert isinstance(case.expected, dict)
    said = {**case.expected, **changes}
    assert problem in str(conformance.judge(case, json.dumps(said).encode()))


def numbers_in(value: object) -> Iterator[float]:
    """Yield every number in parsed JSON."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        yield from (number for each in value for number in numbers_in(each))
    elif isinstance(value, int | float):
        yield float(value)


def test_requests_are_exact_as_floats_of_32_bits() -> None:
    requests = [case.expected for case in conformance.cases() if case.mode == "request"]
    numbers = list(numbers_in(requests))
    assert len(numbers) > 100
    assert numbers == [float(np.float32(number)) for number in numbers]


def test_voxels_and_millimetres_say_the_same() -> None:
    (case,) = (case for case in conformance.cases() if case.name == "a click in a volume")
    assert case.volume is not None
    assert isinstance(case.expected, dict)
    ((place,),) = (prompt["points"] for prompt in case.expected["prompts"])
    indices = case.volume.grid.to_index(np.array(place)).tolist()
    said = {**case.expected, "prompts": [{"kind": "point", "points": [indices]}]}
    del said["frame_of_reference"]
    assert conformance.judge(case, json.dumps(said).encode()) is None
    said["prompts"][0]["points"] = [[indices[0] + 0.5, *indices[1:]]]
    assert "voxel" in str(conformance.judge(case, json.dumps(said).encode()))


def test_the_lines_are_those_of_a_server() -> None:
    known = [
        line
        for case in conformance.cases()
        if case.mode == "events" and not case.name.startswith(("unknown", "cut in the middle"))
        for line in case.sent.split(b"\n")
        if line
    ]
    assert len(known) > 20
    for line in known:
        check(json.loads(line), "Event")


OUTLINES = [name for name in EXPORTS.names() if "objects" in EXPORTS.load(name).kinds]


@pytest.mark.parametrize("name", OUTLINES)
def test_there_are_cases_in_every_dialect_of_outlines(name: str) -> None:
    cases = [case for case in conformance.cases(name) if case.mode != "request"]
    assert len(cases) > 1
    for case in cases:
        assert conformance.judge(case, json.dumps(case.expected).encode()) is None
        dialect = name if case.volume is None else "ohif"
        assert b'"format":"%b"' % dialect.encode() in case.sent


def test_a_dialect_that_is_not_there() -> None:
    with pytest.raises(UnknownFormat):
        conformance.cases("svg")


def test_a_dialect_without_outlines() -> None:
    with pytest.raises(NotSupported, match="ohif supports masks"):
        conformance.cases("ohif")


def test_cases_can_be_saved(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["conformance", "--save", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert len(list(tmp_path.iterdir())) == 2 * len(conformance.cases())
    expected = json.loads((tmp_path / "events-hole.expected.json").read_bytes())
    assert expected[0]["area"] == 16
    assert 0.01 < expected[0]["tolerance"]["area"] < 0.03
