"""Pointing at objects in unmodified OHIF: clicks, boxes, scribbles, taken back and corrected."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser

from tests.ohif.conftest import Series
from tests.ohif.panel import Panel, shown
from tests.ohif.stack import Stack

SLICE = 30
BRAIN = (30.0, 30.0)
"""Column and row in the middle of that slice."""


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
    return np.stack(list(segmentation.slices.values()))


def changed(panel: Panel, before: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Wait until the segmentation is another one than `before`, and return it."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if shown(panel.page):
            now = segments(panel)
            if now.any() and (before is None or (now != before).any()):
                return now
        panel.page.wait_for_timeout(50)
    pytest.fail(f"nothing was drawn; the panel says {panel.said.inner_text()!r}")


def test_points_boxes_and_scribbles_one_object_after_another(panel: Panel) -> None:
    panel.scroll(SLICE)
    point(panel, "P", *BRAIN)
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
