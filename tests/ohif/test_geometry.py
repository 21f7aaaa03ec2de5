"""What is stored is what was on screen, where it was: on series that lie as they like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, expect

from isoline.geometry.volume_grid import VolumeGrid
from tests import segs, volumes
from tests.ohif.panel import Panel, once
from tests.ohif.stack import Stack

ORDER = [3, 1, 4, 0, 5, 8, 2, 6, 7]
GRIDS = {
    "oblique": volumes.grid(axes=volumes.turned(0.4, -0.3, 1.2)),
    "reversed": volumes.grid(axes=np.diag([1.0, -1.0, -1.0])),
    "not square": volumes.grid(size=(30, 14, 9), spacing=(0.5, 1.7, 3.0)),
    "multi-frame": volumes.grid(axes=volumes.turned(-0.2, 0.5, 0.1)),
}
STUDIES = {name: f"2.25.77.{number}" for number, name in enumerate(GRIDS)}
_ON_SCREEN = """() => {
    const [{ representationData }] = window.services.segmentationService.getSegmentations();
    const { cache, metaData } = window.cornerstone;
    return representationData.Labelmap.imageIds.map((id) => {
        const { referencedImageId, voxelManager } = cache.getImage(id);
        const { imagePositionPatient } = metaData.get('imagePlaneModule', referencedImageId);
        return [[...imagePositionPatient], Array.from(voxelManager.getScalarData())];
    });
}"""


@pytest.fixture(scope="module")
def stored(ohif: Stack, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The stack with a study for each grid."""
    folder = tmp_path_factory.mktemp("series")
    for name, where in GRIDS.items():
        ohif.store(instances(folder / name, name, where))
    return ohif


def instances(folder: Path, name: str, where: VolumeGrid) -> Iterator[pydicom.Dataset]:
    voxels, study = volumes.ramp(where.shape), STUDIES[name]
    if name == "multi-frame":
        files = [volumes.write_enhanced(folder / "all.dcm", where, voxels, ORDER)]
    else:
        files = volumes.write_classic(folder, where, voxels, ORDER)
    for path in volumes.as_series(files, f"{study}.1"):
        header = pydicom.dcmread(path)
        header.StudyInstanceUID, header.PatientID = study, name
        header.WindowCenter, header.WindowWidth = 700, 3500
        yield header


def on_screen(page: Page, where: VolumeGrid) -> NDArray[np.uint8]:
    """Return the labelmap that the viewer holds, (k, j, i) on the grid that was written."""
    labels = np.zeros(where.shape, np.uint8)
    for position, pixels in page.evaluate(_ON_SCREEN):
        i, j, k = np.rint(where.to_index(np.array(position))).astype(int)
        assert (i, j) == (0, 0)
        labels[k] = np.array(pixels, np.uint8).reshape(labels[k].shape)
    return labels


def save(panel: Panel, page: Page) -> dict[str, Any]:
    with page.expect_response("**/v1/segmentations") as answer:
        panel.press("Save")
    assert answer.value.status == 201, answer.value.text()
    saved: dict[str, Any] = answer.value.json()
    return saved


def read(stack: Stack, saved: dict[str, Any]) -> Any:
    client = DICOMwebClient(stack.archive.url, headers=dict(stack.archive.headers))
    uids = (saved["study"], saved["series"], saved["instance"])
    return client.retrieve_instance(*uids, media_types=(("application/dicom", "*"),))


@dataclass(frozen=True)
class Tab:
    """One user's browser, with a series of its own."""

    page: Page
    panel: Panel
    where: VolumeGrid
    above: int

    @property
    def truth(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = volumes.ramp(self.where.shape) >= self.above
        return found


@pytest.fixture(scope="module")
def tabs(stored: Stack, chromium: Browser) -> Iterator[dict[str, Tab]]:
    with ExitStack() as opened:
        found = {}
        for number, (name, where) in enumerate(GRIDS.items()):
            page = opened.enter_context(stored.opened(chromium, STUDIES[name], "isoline"))
            found[name] = Tab(page, Panel(page), where, 900 + 150 * number)
        yield found


def test_users_do_not_disturb_each_other(tabs: dict[str, Tab]) -> None:
    assert len(tabs) == len(GRIDS) > 1
    for tab in tabs.values():
        tab.panel.choose("threshold3d", above=tab.above)
    for tab in tabs.values():
        tab.panel.press("Run")
    for tab in tabs.values():
        expect(tab.panel.said).to_contain_text("Finished", timeout=60_000)
        np.testing.assert_array_equal(on_screen(tab.page, tab.where), tab.truth)


@pytest.mark.parametrize("name", GRIDS)
def test_what_is_stored_is_what_is_on_screen(
    stored: Stack, tabs: dict[str, Tab], name: str
) -> None:
    tab = tabs[name]
    tab.panel.scroll(6)
    tab.panel.brush(3, 3)
    corrected = once(
        tab.page,
        lambda: on_screen(tab.page, tab.where),
        lambda now: bool((now != tab.truth).any()),
    )
    assert 0 < (corrected != tab.truth).sum() < 200
    seg = read(stored, save(tab.panel, tab.page))
    expected = segs.expected(tab.where, corrected > 0)
    np.testing.assert_allclose(segs.positions(seg, 1), expected, atol=1e-3)
    segment = seg.SegmentSequence[-1]  # the background may be one
    assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert seg.PatientID == name
