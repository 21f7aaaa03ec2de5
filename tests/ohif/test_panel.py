"""The panel in unmodified OHIF: runs, corrections and what becomes of them, in numbers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import numpy as np
import pytest
import requests
from highdicom.seg import Segmentation
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, expect

from tests.ohif.conftest import Series
from tests.ohif.panel import Panel, Shown, shown, shown_once
from tests.ohif.stack import Stack

MODE = "isoline"
ABOVE = 90
AIR = (57, 24)
"""Column and row of a pixel beside the head."""
_IS_LOADED = """() => services.segmentationService.getSegmentations().some(
    ({ representationData }) => representationData.Labelmap.imageIds.every(
        (id) => cornerstone.cache.getImage(id)))"""


@pytest.fixture(scope="module")
def opened(ohif: Stack, mr_head: Series, chromium: Browser) -> Iterator[Page]:
    with ohif.opened(chromium, mr_head.study, MODE) as page:
        page.locator("isoline-panel").get_by_role("button", name="Run").wait_for()
        yield page


@pytest.fixture
def panel(opened: Page) -> Iterator[Panel]:
    """The panel of a viewer without segmentations."""
    shown_now = Panel(opened)
    yield shown_now
    opened.evaluate("""() => {
        const { segmentationService } = window.services;
        segmentationService.getSegmentations().map((each) => each.segmentationId)
            .forEach((id) => segmentationService.remove(id));
    }""")
    expect(shown_now.root.get_by_role("listitem")).to_have_count(0)


@pytest.fixture(scope="module")
def voxels(ohif: Stack, mr_head: Series) -> dict[str, NDArray[np.int16]]:
    """(rows, columns) of each slice, by SOPInstanceUID."""
    return {each.SOPInstanceUID: each.pixel_array for each in mr_head.instances}


def test_a_run_draws_what_the_model_finds(
    panel: Panel, voxels: dict[str, NDArray[np.int16]]
) -> None:
    panel.run("threshold3d", above=ABOVE)
    (found,) = shown(panel.page)
    assert found.segments == {1: "Foreground"}
    assert found.slices.keys() == voxels.keys()
    for instance, values in voxels.items():
        np.testing.assert_array_equal(found.slices[instance], values >= ABOVE)


def test_what_a_person_drew_or_corrected_is_never_lost(
    panel: Panel, voxels: dict[str, NDArray[np.int16]]
) -> None:
    looked_at = panel.scroll(30)
    panel.run("threshold3d", above=ABOVE)
    (found,) = shown(panel.page)
    brushed = brushed_in_air(panel, found)
    changed = [name for name in voxels if (found.slices[name] != brushed.slices[name]).any()]
    assert changed == [looked_at]

    panel.run("threshold3d", above=ABOVE - 20)
    (again,) = shown(panel.page)
    assert again.segments == {1: "Foreground", 2: "Foreground 2"}
    for name, values in voxels.items():
        mine = brushed.slices[name] == 1
        np.testing.assert_array_equal(again.slices[name] == 1, mine)
        np.testing.assert_array_equal(again.slices[name] == 2, (values >= ABOVE - 20) & ~mine)

    panel.press("Undo")
    expect(panel.said).to_contain_text("undone")
    (undone,) = shown(panel.page)
    assert undone.segments == brushed.segments
    for name in voxels:
        np.testing.assert_array_equal(undone.slices[name], brushed.slices[name])
    panel.press("Undo")
    expect(panel.said).to_contain_text("undone")
    assert shown(panel.page) == []


def brushed_in_air(panel: Panel, before: Shown) -> Shown:
    """Draw beside the head and return what the viewer holds then."""
    panel.brush(*AIR)
    (after,) = shown_once(panel.page, lambda now: differ(now[0], before))
    return after


def differ(one: Shown, other: Shown) -> bool:
    return any((one.slices[name] != other.slices[name]).any() for name in one.slices)


def test_names_colours_and_locks(panel: Panel, voxels: dict[str, NDArray[np.int16]]) -> None:
    panel.run("threshold3d", above=ABOVE)
    panel.root.get_by_label("Name of segment 1").fill("Skin and fat")
    panel.root.get_by_label("Name of segment 1").press("Enter")
    panel.root.get_by_label("Colour of Skin and fat").fill("#00ff10")
    panel.root.get_by_label("Lock").check()
    panel.run("threshold3d", above=ABOVE - 20)
    (found,) = shown(panel.page)
    assert found.segments == {1: "Skin and fat", 2: "Foreground"}
    for name, values in voxels.items():
        np.testing.assert_array_equal(found.slices[name] == 1, values >= ABOVE)
    expect(panel.root.get_by_label("Colour of Skin and fat")).to_have_value("#00ff10")


def test_a_first_impression_then_slices_around_the_one_on_screen_until_stop(
    panel: Panel, ohif: Stack
) -> None:
    looked_at = panel.scroll(40)
    panel.choose("halves", seconds=10)
    panel.press("Run")
    expect(panel.root.get_by_role("listitem")).to_have_count(2)
    (first,) = shown_once(panel.page, lambda now: 2 in now[0].slices[looked_at])
    halves = [name for name, each in first.slices.items() if 2 in each]
    assert all((each != 0).all() for each in first.slices.values()), "provisional everywhere"
    assert looked_at in halves
    panel.press("Stop")
    expect(panel.said).to_contain_text("Stopped", timeout=8_000)  # a slab takes 10 s
    until = time.monotonic() + 8
    while time.monotonic() < until:
        jobs = requests.get(f"{ohif.url}/v1/jobs", timeout=10).json()["jobs"]
        states = [job["state"] for job in jobs if job["model"] == "halves"]
        if states == ["cancelled"]:
            break
        time.sleep(0.1)
    assert states == ["cancelled"], "a worker is still at it"
    (stopped,) = shown(panel.page)
    final = [name for name, each in stopped.slices.items() if each.any()]
    assert looked_at in final
    assert 0 < len(final) < len(first.slices), "what was only provisional is gone"


def test_a_server_that_goes_away_leaves_the_viewer_usable(
    panel: Panel, voxels: dict[str, NDArray[np.int16]]
) -> None:
    gone = re.compile(r"/v1/jobs.*")
    panel.page.route(re.compile(r"/events"), lambda route: route.abort())
    panel.choose("halves", seconds=0.4)
    panel.press("Run")
    expect(panel.said).to_contain_text("does not respond; trying again")
    panel.page.unroute_all()
    expect(panel.said).to_contain_text("Finished")
    (found,) = shown(panel.page)
    assert len(found.slices) == len(voxels)
    assert all(each.all() for each in found.slices.values())

    panel.page.route(gone, lambda route: route.abort())
    panel.press("Run")
    expect(panel.said).to_contain_text("does not respond; trying again")
    panel.press("Stop")
    expect(panel.said).to_have_text("Stopped")
    panel.press("Run")
    expect(panel.said).to_contain_text("does not respond; trying again")
    panel.page.unroute_all()
    expect(panel.said).to_contain_text("Finished")


def test_what_is_on_screen_is_stored_and_found_again(
    panel: Panel, ohif: Stack, mr_head: Series, chromium: Browser
) -> None:
    panel.scroll(30)
    panel.run("threshold3d", above=ABOVE)
    (found,) = shown(panel.page)
    on_screen = brushed_in_air(panel, found)
    panel.root.get_by_label("Save to the archive as").fill("corrected by hand")
    panel.press("Save")
    expect(panel.said).to_contain_text("Stored in the archive")

    stored = ohif.segmentation(mr_head.study)
    assert stored.SeriesDescription == "corrected by hand"
    foreground = stored.SegmentSequence[-1]  # in a label map the background is one, too
    assert foreground.SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert foreground.SegmentAlgorithmName == "threshold3d"
    instances = list(on_screen.slices)
    pixels = Segmentation.from_dataset(stored).get_pixels_by_source_instance(
        instances, combine_segments=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(pixels, np.stack([on_screen.slices[each] for each in instances]))

    with ohif.opened(chromium, mr_head.study, MODE) as page:
        page.get_by_text("corrected by hand").dblclick()
        page.get_by_text("LOAD", exact=True).click()
        page.wait_for_function(_IS_LOADED)
        (again,) = shown_once(page, lambda now: not differ(now[0], on_screen))
        assert again.segments == on_screen.segments
        for name, each in on_screen.slices.items():
            np.testing.assert_array_equal(again.slices[name], each)


def test_it_draws_in_every_plane(panel: Panel, voxels: dict[str, NDArray[np.int16]]) -> None:
    page = panel.page  # the last test of this page: it stays in this layout
    panel.show_planes()
    panel.run("threshold3d", above=ABOVE)
    (found,) = shown(page)
    assert found.slices.keys() == voxels.keys()
    for name, values in voxels.items():
        np.testing.assert_array_equal(found.slices[name], values >= ABOVE)
    panel.drawn_in_planes()
