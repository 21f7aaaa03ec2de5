"""Draw the pictures of docs/ohif.md anew, in unmodified OHIF: to be looked at.

    python -m tests.ohif.pictures [FOLDER]    (a few minutes of two cores)

The head is ch2 of Debian's mricron-data; the brain is that of `isoline models pull brain`.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import expect
from pydicom.dataset import Dataset

from isoline.config.data_directory import default_directory
from isoline.demo.ohif import head
from isoline.models import weights
from isoline.models.brain import Brain
from tests import browser
from tests.ohif import stack
from tests.ohif.panel import Panel

DOCS = Path(__file__).parents[2] / "docs" / "images"
VENTRICLES = 97
"""The slice through the bodies of both, counted from the feet."""
RIGHT, LEFT, BESIDE = (78, 108), (102, 108), (92, 104)
"""Columns and rows in that slice: in the ventricles, and between them."""
ANSWER_MS = 3000
MOST_MS = 300_000


def main(folder: Path) -> None:
    weights.pull(Brain.spec, default_directory() / "weights")
    instances = list(head.series(stack.needed(head.find)))
    with (
        tempfile.TemporaryDirectory() as scratch,
        stack.running(Path(scratch)) as running,
        browser.launched() as chromium,
    ):
        Path(scratch, "weights").symlink_to(default_directory() / "weights")
        study = running.store(instances)
        with running.opened(chromium, study, "isoline") as page:
            of_points(Panel(page), instances, folder / "ohif-points.png")
        with running.opened(chromium, study, "isoline") as page:
            of_a_run(Panel(page), instances, folder)


def of_a_run(panel: Panel, instances: Sequence[Dataset], folder: Path) -> None:
    """Take a run in the stack, and its end in three planes."""
    show_ventricles(panel, instances)
    panel.choose("brain")
    panel.press("Run")
    expect(panel.root.get_by_role("listitem")).to_have_count(1, timeout=MOST_MS)
    expect(panel.said).to_contain_text(re.compile("Running · [3-9]. %"), timeout=MOST_MS)
    take(panel, folder / "ohif-running.png")
    expect(panel.said).to_contain_text("Finished", timeout=MOST_MS)
    panel.show_planes()
    panel.drawn_in_planes()
    take(panel, folder / "ohif-planes.png")


def show_ventricles(panel: Panel, instances: Sequence[Dataset]) -> None:
    wanted = instances[VENTRICLES].SOPInstanceUID
    # in OHIF the first one may be at the head
    assert wanted in (panel.scroll(k) for k in (VENTRICLES, len(instances) - 1 - VENTRICLES))


def of_points(panel: Panel, instances: Sequence[Dataset], path: Path) -> None:
    """Take two objects, the second one with a click on it and one beside it."""
    show_ventricles(panel, instances)
    panel.root.get_by_label("Extent").select_option("slice")
    point(panel, "P", *RIGHT)
    panel.press("Next object")
    point(panel, "P", *LEFT)
    point(panel, "N", *BESIDE)
    take(panel, path)


def point(panel: Panel, key: str, column: int, row: int) -> None:
    """Draw a point with the tool that Shift and `key` choose, and wait for the answer."""
    panel.page.keyboard.press(f"Shift+{key}")
    with panel.page.expect_response("**/v1/segment"):
        panel.page.mouse.click(*panel.at(column, row))
    panel.page.wait_for_timeout(ANSWER_MS)


def take(panel: Panel, path: Path) -> None:
    panel.page.mouse.move(0, 0)
    panel.page.wait_for_timeout(1000)  # what fades has faded
    panel.page.screenshot(path=path)
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS)
