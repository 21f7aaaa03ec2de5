"""The panel in unmodified OHIF: runs, corrections and what becomes of them, in numbers."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Locator, Page, expect

from tests.ohif.conftest import Series
from tests.ohif.stack import Stack

MODE = "isoline"
ABOVE = 90
_READ = """() => window.services.segmentationService.getSegmentations().map((segmentation) => ({
    id: segmentation.segmentationId,
    segments: Object.values(segmentation.segments).map((each) => [each.segmentIndex, each.label]),
    slices: segmentation.representationData.Labelmap.imageIds.map((id) => {
        const image = window.cornerstone.cache.getImage(id);
        const of = window.cornerstone.metaData.get('instance', image.referencedImageId);
        const pixels = image.voxelManager.getScalarData();
        return {
            instance: of.SOPInstanceUID, rows: image.rows, columns: image.columns,
            pixels: btoa(Array.from(pixels, (each) => String.fromCharCode(each)).join('')),
        };
    }),
}))"""


@dataclass(frozen=True)
class Shown:
    """A segmentation that the viewer holds."""

    segments: dict[int, str]
    slices: dict[str, NDArray[np.uint8]]
    """(rows, columns) of segments, by SOPInstanceUID."""


def shown(page: Page) -> list[Shown]:
    """Return what the viewer holds, in the order in which it was made."""
    return [
        Shown(
            dict(each["segments"]),
            {
                one["instance"]: np.frombuffer(base64.b64decode(one["pixels"]), np.uint8).reshape(
                    one["rows"], one["columns"]
                )
                for one in each["slices"]
            },
        )
        for each in page.evaluate(_READ)
    ]


class Panel:
    """The panel as a user sees it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.root: Locator = page.locator("isoline-panel")
        self.said: Locator = self.root.get_by_role("status")

    def choose(self, model: str, **parameters: float) -> None:
        """Choose a model and fill in its form."""
        self.root.get_by_label("Model", exact=True).select_option(model)
        details = self.root.locator("details")
        if parameters and details.get_attribute("open") is None:
            details.locator("summary").click()
        for name, value in parameters.items():
            self.root.get_by_label(name.capitalize(), exact=True).fill(str(value))

    def press(self, button: str) -> None:
        self.root.get_by_role("button", name=button, exact=True).click()

    def run(self, model: str, **parameters: float) -> None:
        """Run a model to its end."""
        self.choose(model, **parameters)
        self.press("Run")
        expect(self.said).to_contain_text("Finished", timeout=60_000)


@pytest.fixture(scope="module")
def opened(ohif: Stack, mr_head: Series, chromium: Browser) -> Iterator[Page]:
    with ohif.opened(chromium, mr_head.study, MODE) as page:
        page.locator("isoline-panel").get_by_role("button", name="Run").wait_for()
        yield page


@pytest.fixture
def panel(opened: Page) -> Iterator[Panel]:
    """The panel of a viewer without segmentations."""
    yield Panel(opened)
    opened.evaluate("""() => {
        const { segmentationService } = window.services;
        segmentationService.getSegmentations().map((each) => each.segmentationId)
            .forEach((id) => segmentationService.remove(id));
    }""")


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
