"""How long after mouse-up the pixel under a click changes, in unmodified OHIF.

    python -m tests.benchmarks.ohif_clicks [CLICKS] [EVERY]    (two minutes of two cores)

The head is thinned to every EVERYth voxel, by default every second: 91 slices of 109 x 91. Each
click is drawn twice on the same page, at the same place, into an empty segment: once the real
server answers, then a mock within the page with the same bytes at once, which is the browser's own
cost. Time runs from the mouse-up event of the browser until the pixel under the click is drawn in
another colour; what of it the server worked is told in its answer. The first click is
not counted: it makes the segmentation, and the server reads the series.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from playwright.sync_api import Page

from isoline.demo.ohif import head
from tests import browser
from tests.benchmarks.measuring import describe_machine, median, spread
from tests.benchmarks.ohif_slices import thinned
from tests.ohif import stack
from tests.ohif.panel import Panel

WANTED_MS = 250
POLL_MS = 50
"""Seldom enough to take no time from what is measured."""
_TOOK = "() => window.took"
HOOK = """() => {
    const real = window.fetch;
    window.mocked = null;  // an answer to give instead of the server's
    window.said = null;  // what the server answered last
    window.fetch = async (url, options) => {
        if (!String(url).endsWith('/v1/segment')) {
            return real(url, options);
        }
        if (window.mocked) {
            return new Response(window.mocked);
        }
        const answer = await real(url, options);
        answer.clone().text().then((said) => { window.said = said; }, () => {});
        return answer;
    };
    window.addEventListener('mouseup', (event) => { window.up = event.timeStamp; }, true);
    const canvasAt = ([x, y]) => document.elementFromPoint(x, y)
        .closest('[data-viewport-uid]').querySelector('canvas');
    const colorAt = ([x, y]) => {
        const canvas = canvasAt([x, y]);
        const { left, top, width, height } = canvas.getBoundingClientRect();
        const pixel = canvas.getContext('2d').getImageData(
            (x - left) * canvas.width / width, (y - top) * canvas.height / height, 1, 1);
        return pixel.data.join();
    };
    // once the pixel there has another colour, `took` is how many milliseconds after mouse-up
    window.watch = (place) => {
        const before = colorAt(place);
        const viewport = canvasAt(place).closest('[data-viewport-uid]');
        const name = window.cornerstone.Enums.Events.IMAGE_RENDERED;
        const look = () => {
            if (colorAt(place) !== before) {
                window.took = performance.now() - window.up;
                viewport.removeEventListener(name, look);
            }
        };
        window.took = null;
        viewport.addEventListener(name, look);
    };
}"""


@dataclass(frozen=True)
class Click:
    """One click, in milliseconds."""

    real: float
    """From mouse-up to the changed pixel, answered by the server."""
    mock: float
    """The same, answered at once."""
    server: float
    """What the server says that it worked."""


def clicks(page: Page, places: list[tuple[int, int, int]]) -> Iterator[Click]:
    """Yield a click at each (k, j, i), the first one not to be counted."""
    panel = Panel(page)
    page.evaluate(HOOK)
    for k, j, i in places:
        panel.scroll(k)
        place = panel.at(i, j)
        page.evaluate("() => { window.said = null; }")
        real = drawn(panel, place)
        said = page.wait_for_function("() => window.said").json_value()
        page.evaluate("(said) => { window.mocked = said; }", said)
        mock = drawn(panel, place)
        page.evaluate("() => { window.mocked = null; }")
        (done,) = (event for event in map(json.loads, said.split()) if event["event"] == "done")
        yield Click(real, mock, 1000 * done["seconds"])


def drawn(panel: Panel, place: tuple[float, float]) -> float:
    """Point at a place of the page, wait for the object, take it back; return how long it took."""
    page = panel.page
    page.keyboard.press("Shift+P")
    page.mouse.move(*place)
    page.evaluate("(place) => window.watch(place)", list(place))
    page.mouse.click(*place)
    took: float = page.wait_for_function(_TOOK, polling=POLL_MS).json_value()
    page.evaluate("(place) => window.watch(place)", list(place))
    page.keyboard.press("Shift+Z")
    page.wait_for_function(_TOOK, polling=POLL_MS)
    return took


def places(path: Path, wanted: int) -> list[tuple[int, int, int]]:
    """Return (k, j, i) in the brain, one for each click, the same for the same head."""
    voxels = np.stack([each.pixel_array for each in head.series(path)])
    depth, rows, columns = voxels.shape
    k, j, i = np.indices(voxels.shape)
    inside = (
        ((k / depth - 0.55) / 0.15) ** 2
        + ((j / rows - 0.5) / 0.25) ** 2
        + ((i / columns - 0.5) / 0.25) ** 2
    ) < 1
    candidates = np.argwhere(inside & (voxels > np.median(voxels[inside]) / 2))
    chosen = np.random.default_rng(4).choice(candidates, wanted, replace=False)
    return [(int(k), int(j), int(i)) for k, j, i in chosen]


def main(wanted: int, every: int) -> None:
    print(describe_machine())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = thinned(folder, every)
        with stack.running(folder) as running, browser.launched() as chromium:
            study = running.store(head.series(path))
            with running.opened(chromium, study, "isoline") as page:
                page.get_by_role("button", name="Point on the object").first.wait_for()
                _, *found = clicks(page, places(path, wanted + 1))
    after = median([each.real - each.server for each in found])
    own = median([each.mock for each in found])
    beyond = median([each.real - each.server - each.mock for each in found])
    print(
        f"OHIF {stack.VERSION}, {len(found)} clicks, milliseconds: median (least to most)\n"
        f"the server worked              {spread([each.server for each in found], 0)}\n"
        f"mouse-up to pixel, server      {spread([each.real for each in found], 0)}\n"
        f"mouse-up to pixel, mock        {spread([each.mock for each in found], 0)}\n"
        f"pixel after the server's time  {after:.0f}, of which the browser's own {own:.0f}\n"
        f"beyond server and browser      {beyond:.0f}: at most {WANTED_MS} wanted"
    )


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:]]
    main(*(given + [20, 2][len(given) :]))
