"""Pointing at objects in unmodified OHIF: clicks, boxes, scribbles, taken back and corrected."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, expect

from tests.ohif.conftest import Series
from tests.ohif.panel import Panel, Shown, shown, shown_once
from tests.ohif.stack import Stack

SLICE = 30
BRAIN = (30.0, 30.0)
"""Column and row in the middle of that slice."""
_CLICK = """([x, y]) => {
    const target = document.elementFromPoint(x, y);
    for (const [kind, buttons] of [['mousemove', 0], ['mousedown', 1], ['mouseup', 0]]) {
        target.dispatchEvent(
            new MouseEvent(kind, { bubbles: true, clientX: x, clientY: y, buttons }));
    }
    return window.cornerstoneTools.annotation.state.getAllAnnotations().length;
}"""
"""Click, and return at once how many marks there are."""


@pytest.fixture
def panel(ohif: Stack, mr_head: Series, chromium: Browser) -> Iterator[Panel]:
    with ohif.opened(chromium, mr_head.study, "isoline") as page:
        page.locator("isoline-panel").get_by_role("button", name="Point on the object").wait_for()
        yield Panel(page)


def point(panel: Panel, key: str, column: float, row: float) -> None:
    """Draw a point with the tool that Shift and `key` choose."""
    panel.page.keyboard.press(f"Shift+{key}")
    panel.page.mouse.click(*panel.at(column, row))


def segments(panel: Panel) -> NDArray[np.uint8]:
    """Return (k, j, i) what the one segmentation on screen holds; slices in the viewer's order."""
    (segmentation,) = shown(panel.page)
    return segmentation.voxels


def changed(panel: Panel, before: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Wait until the segmentation is another one than `before`, and return it.

    With None before, until anything is drawn.
    """

    def is_new(now: list[Shown]) -> bool:
        return any((each.voxels != (0 if before is None else before)).any() for each in now)

    found = shown_once(panel.page, is_new)
    assert is_new(found), f"nothing was drawn; the panel says {panel.said.inner_text()!r}"
    (segmentation,) = found
    return segmentation.voxels


def test_points_boxes_and_scribbles_one_object_after_another(panel: Panel) -> None:
    panel.scroll(SLICE)
    panel.page.keyboard.press("Shift+P")
    drawn = panel.page.evaluate(_CLICK, panel.at(*BRAIN))
    assert drawn == 1, "a click waits for no second one"
    first = changed(panel, None)
    assert first[SLICE, 30, 30], "the object lies under the point"
    rows, columns = np.nonzero(first[SLICE])
    far = np.argmax((rows - 30) ** 2 + (columns - 30) ** 2)
    row, column = int(rows[far]), int(columns[far])
    point(panel, "N", column, row)
    second = changed(panel, first)
    assert second[SLICE, 30, 30]
    assert not second[SLICE, row, column]
    panel.press("Undo prompt")
    np.testing.assert_array_equal(changed(panel, second), first)
    panel.press("Redo prompt")
    np.testing.assert_array_equal(changed(panel, first), second)

    panel.page.keyboard.press("Shift+Enter")
    panel.page.keyboard.press("Shift+B")
    panel.drag(panel.at(8, 20), panel.at(20, 40))
    third = changed(panel, second)
    np.testing.assert_array_equal(third == 1, second == 1, "what is there stays")
    panel.page.keyboard.press("Shift+X")
    panel.drag(panel.at(10, 25), panel.at(12, 30))
    fourth = changed(panel, third)
    np.testing.assert_array_equal(fourth == 1, second == 1)


def draw(panel: Panel, plane: str, key: str, *way: tuple[int, int]) -> tuple[int, int, int]:
    """Draw with the tool that Shift and `key` choose; return the (k, j, i) of a plane's middle.

    Places are pixels from that middle.
    """
    (x, y), voxel = panel.centre(plane)
    panel.page.keyboard.press(f"Shift+{key}")
    panel.drag(*((x + right, y + down) for right, down in way))
    return voxel


GESTURES = {
    "mpr-sagittal": ("P", [(0, 0)]),
    "mpr-coronal": ("B", [(-30, -30), (30, 30)]),
    "mpr-axial": ("L", [(-30, -30), (30, -30), (30, 30), (-30, 30), (-30, -26)]),
}
"""Of each plane, not active before, a tool and what is drawn with it around the middle."""


def test_every_plane_frozen_segments_and_going_on_by_hand(panel: Panel) -> None:
    page = panel.page
    panel.show_planes()
    before = None
    for plane, (key, way) in GESTURES.items():
        voxel = draw(panel, plane, key, *way)
        drawn = changed(panel, before)
        assert drawn[voxel], f"the object lies where {key} was drawn in {plane}"
        page.keyboard.press("Shift+Z")
        before = changed(panel, drawn)
        assert not before.any()
        page.keyboard.press("Shift+Y")
        np.testing.assert_array_equal(changed(panel, before), drawn)
        page.keyboard.press("Shift+Z")
        changed(panel, drawn)
    page.keyboard.press("Shift+Y")
    first = changed(panel, before)

    page.keyboard.press("Shift+Enter")
    draw(panel, "mpr-coronal", "S", (-60, 0), (-60, 25))
    second = changed(panel, first)
    np.testing.assert_array_equal(second == 1, first == 1, "other segments are frozen")

    live = panel.root.get_by_label("Answer after each gesture")
    live.uncheck()
    draw(panel, "mpr-coronal", "X", (-60, 0), (-60, 25))
    expect(panel.root.get_by_role("button", name="Answer", exact=True)).to_be_enabled()
    np.testing.assert_array_equal(segments(panel), second, "nothing was asked yet")
    page.keyboard.press("Shift+A")
    third = changed(panel, second)
    assert (third == 2).sum() < (second == 2).sum()
    live.check()

    lock = panel.root.get_by_label("Lock").last
    lock.check()
    draw(panel, "mpr-axial", "P", (0, 0))  # which activates the plane for OHIF's brush as well
    expect(panel.said).to_contain_text("Object 2 is locked")
    lock.uncheck()
    np.testing.assert_array_equal(segments(panel), third)

    panel.take_brush()
    (x, y), _ = panel.centre("mpr-axial")
    panel.drag((x - 110, y - 130), (x - 95, y - 130))  # in the air: it is in no segment yet
    brushed = changed(panel, third)
    with page.expect_request("**/v1/segment") as asked:
        draw(panel, "mpr-axial", "N", (-100, -130))
    request = json.loads(asked.value.post_data or "")
    assert len(request["prompts"]) == 1
    assert request["initial"], "the stroke is what the prompt corrects"
    fourth = changed(panel, brushed)
    np.testing.assert_array_equal(fourth == 1, third == 1)
    assert not ((fourth == 2) & (brushed != 2)).any()
