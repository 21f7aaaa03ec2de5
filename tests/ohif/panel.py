"""The panel as a user sees it, and what the viewer holds, for tests."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Locator, Page, expect

from tests.ohif import stack

T = TypeVar("T")
PATIENCE_SECONDS = 60
FAR_PX = 8
"""A press that moves at most 3 pixels may become a double click: cornerstone waits 400 ms for one
before it draws anything."""
_READ = """() => window.services.segmentationService.getSegmentations().map((segmentation) => ({
    id: segmentation.segmentationId,
    segments: Object.values(segmentation.segments).filter((each) => each.segmentIndex)
        .map((each) => [each.segmentIndex, each.label]),
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
PLANES = ["mpr-axial", "mpr-sagittal", "mpr-coronal"]
_CENTRE = """(plane) => {
    const { cornerstone, services } = window;
    const viewport = services.cornerstoneViewportService.getCornerstoneViewport(plane);
    const { focalPoint } = viewport.getCamera();
    const [x, y] = viewport.worldToCanvas(focalPoint);
    const { left, top } = viewport.canvas.getBoundingClientRect();
    const [uid] = services.viewportGridService.getState().viewports.get(plane)
        .displaySetInstanceUIDs;
    const voxels = services.displaySetService.getDisplaySetByUID(uid).imageIds.map((id) => {
        const {
            imagePositionPatient, rowCosines, columnCosines, columnPixelSpacing, rowPixelSpacing,
        } = cornerstone.metaData.get('imagePlaneModule', id);
        const away = focalPoint.map((at, axis) => at - imagePositionPatient[axis]);
        const along = (unit) => away.reduce((sum, at, axis) => sum + at * unit[axis], 0);
        const [i, j] = [along(rowCosines), along(columnCosines)];
        return {
            j: Math.round(j / rowPixelSpacing), i: Math.round(i / columnPixelSpacing),
            off: Math.hypot(...away) ** 2 - i ** 2 - j ** 2,
        };
    });
    const k = voxels.reduce((best, { off }, at) => (off < voxels[best].off ? at : best), 0);
    return [[left + x, top + y], [k, voxels[k].j, voxels[k].i]];
}"""


@dataclass(frozen=True)
class Shown:
    """A segmentation that the viewer holds."""

    segments: dict[int, str]
    slices: dict[str, NDArray[np.uint8]]
    """(rows, columns) of segments, by SOPInstanceUID."""

    @property
    def voxels(self) -> NDArray[np.uint8]:
        """(k, j, i), the slices in the order in which the viewer has them."""
        return np.stack(list(self.slices.values()))


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


def once(page: Page, read: Callable[[], T], holds: Callable[[T], bool]) -> T:
    """Return what `read` gives once it is as it should be; after a minute, as it is."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not holds(now := read()) and time.monotonic() < until:
        page.wait_for_timeout(50)
    return now


def shown_once(page: Page, holds: Callable[[list[Shown]], bool]) -> list[Shown]:
    return once(page, lambda: shown(page), holds)


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

    def scroll(self, k: int) -> str:
        """Show slice k of the viewer's stack and return its SOPInstanceUID."""
        instance: str = self.page.evaluate(
            """async (k) => {
                const { cornerstoneViewportService, viewportGridService } = window.services;
                const id = viewportGridService.getActiveViewportId();
                const viewport = cornerstoneViewportService.getCornerstoneViewport(id);
                await viewport.setImageIdIndex(k);
                viewport.render();
                const { metaData } = window.cornerstone;
                return metaData.get('instance', viewport.getCurrentImageId()).SOPInstanceUID;
            }""",
            k,
        )
        return instance

    def take_brush(self) -> None:
        """Choose a small one of OHIF's own brushes."""
        self.page.evaluate(
            """() => {
                const { commandsManager } = window;
                commandsManager.run('setBrushSize', { value: 4, toolNames: ['CircularBrush'] });
                commandsManager.run('setToolActive', { toolName: 'CircularBrush' });
            }"""
        )

    def brush(self, column: int, row: int) -> None:
        """Draw with a small brush at a pixel of the slice on screen."""
        self.take_brush()
        x, y = self.at(column, row)
        self.drag((x, y), (x + FAR_PX, y))

    def at(self, column: float, row: float) -> tuple[float, float]:
        """Return where on the page the centre of a pixel of the slice on screen lies."""
        x, y = self.page.evaluate(
            """([column, row]) => {
                const { cornerstone, services } = window;
                const { cornerstoneViewportService, viewportGridService } = services;
                const id = viewportGridService.getActiveViewportId();
                const viewport = cornerstoneViewportService.getCornerstoneViewport(id);
                const image = viewport.getCurrentImageId();
                const plane = cornerstone.metaData.get('imagePlaneModule', image);
                const at = [0, 1, 2].map((axis) => plane.imagePositionPatient[axis]
                    + column * plane.columnPixelSpacing * plane.rowCosines[axis]
                    + row * plane.rowPixelSpacing * plane.columnCosines[axis]);
                const [x, y] = viewport.worldToCanvas(at);
                const { left, top } = viewport.canvas.getBoundingClientRect();
                return [left + x, top + y];
            }""",
            [column, row],
        )
        return x, y

    def show_planes(self) -> None:
        """Change to OHIF's layout of three planes, and wait until each shows the volume."""
        self.page.evaluate(
            "() => commandsManager.runCommand('toggleHangingProtocol', { protocolId: 'mpr' })"
        )
        self.page.wait_for_function(
            """(planes) => planes.every((id) => services.cornerstoneViewportService
                .getCornerstoneViewport(id)?.getActors().length)""",
            arg=PLANES,
            timeout=60_000,
        )
        stack.wait_until_still(self.page)

    def drawn_in_planes(self) -> None:
        """Wait until each plane shows the first segmentation."""
        self.page.wait_for_function(
            """(planes) => planes.every((id) => services.cornerstoneViewportService
                .getCornerstoneViewport(id)?.getActors().some(({ representationUID }) =>
                    representationUID?.includes(
                        services.segmentationService.getSegmentations()[0].segmentationId)))""",
            arg=PLANES,
            polling=200,  # there are no frames to wait for once all is drawn
            timeout=60_000,
        )

    def centre(self, plane: str) -> tuple[tuple[float, float], tuple[int, int, int]]:
        """Return where on the page the middle of a plane lies, and the (k, j, i) of that voxel.

        Slices count as `shown` gives them.
        """
        (x, y), (k, j, i) = self.page.evaluate(_CENTRE, plane)
        return (x, y), (k, j, i)

    def drag(self, *way: tuple[float, float]) -> None:
        """Press the mouse at the first place of the page, move through the others, let go."""
        self.page.mouse.move(*way[0])
        self.page.mouse.down()
        for place in way[1:]:
            self.page.mouse.move(*place, steps=4)
        self.page.mouse.up()

    def run(self, model: str, **parameters: float) -> None:
        """Run a model to its end."""
        self.choose(model, **parameters)
        self.press("Run")
        expect(self.said).to_contain_text("Finished", timeout=60_000)
