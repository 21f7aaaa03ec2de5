"""From the click on *Segment what I see* to the first contour on screen, in HistomicsUI.

    python -m tests.benchmarks.dsa_first_polygon

To reach: at most 1.5 s, with a model that needs 0.3 s a tile. The pixels come through Girder; the
browser draws without a GPU. Also: how long after the request Girder is asked for the first tile.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from isoline import datasets
from tests import browser
from tests.benchmarks.measuring import describe_machine, spread
from tests.dsa.stack import Stack, running
from tests.serving import serving

RUNS = 5
CLOCK = """() => {
    const panel = document.querySelector('#isoline-panel');
    const button = panel.querySelector('.isoline-tools .btn-primary');
    return new Promise((resolve) => {
        const began = performance.now();
        new MutationObserver((changes, observer) => {
            if (panel.querySelector('.isoline-run[data-shown]:not([data-shown="0"])')) {
                observer.disconnect();
                // one frame to draw in, and one to know that it was drawn
                requestAnimationFrame(() => requestAnimationFrame(
                    () => resolve((performance.now() - began) / 1000)));
            }
        }).observe(panel, {attributes: true, childList: true, subtree: true});
        button.click();
    });
}"""


def main() -> None:
    print(describe_machine())
    slide = datasets.fetch(datasets.SAMPLE_SLIDE)
    with tempfile.TemporaryDirectory() as folder:
        home, data = Path(folder) / "girder", Path(folder) / "isoline"
        home.mkdir()
        data.mkdir()
        with running(home, slide) as stack:
            server = f'[girder.girder]\nurl = "{stack.url}"\n'
            with serving(data, data, more=server) as url, browser.page(1400, 1000) as page:
                stack.admin.call("PUT", "system/setting", key="isoline.url", value=url)
                clicks = [_click(page, stack, run) for run in range(RUNS)]
                starts = [_start(stack, run) for run in range(RUNS)]
    print(f"click to the first contour on screen     {spread(clicks)} s")
    print(f"request to the first contour in the API  {spread(starts)} s, of which 0.3 s the model")


def _click(page: Page, stack: Stack, run: int) -> float:
    x = 5000 + 1500 * run
    where = f"image={stack.item}&bounds={x},6500,{x + 1200},7300,0"
    page.goto("about:blank")
    page.goto(f"{stack.url}/histomics?token={stack.admin.token}#?{where}")
    page.wait_for_selector("#isoline-model option[value=slow]", state="attached")
    page.select_option("#isoline-model", "slow")
    page.wait_for_timeout(3000)  # the slide itself is drawn first
    taken = float(page.evaluate(CLOCK))
    page.locator(".isoline-run >> text=Stop").dispatch_event("click")  # it may have ended by now
    page.wait_for_selector(".isoline-run:not([data-state=running])")
    page.click(".isoline-run >> text=Discard")
    page.wait_for_selector(".isoline-run", state="detached")
    return taken


def _start(stack: Stack, run: int) -> float:
    body: dict[str, Any] = {"model": "slow", "region": [5000 + run, 9000, 6200, 9800]}
    began = time.perf_counter()
    started = stack.admin.call("POST", f"isoline/item/{stack.item}/run", json=body)
    events = stack.admin.open("GET", f"isoline/run/{started['_id']}/events", stream=True)
    for line in events.iter_lines():
        if b'"contours"' in line:
            taken = time.perf_counter() - began
            break
    events.close()
    stack.admin.call("POST", f"isoline/run/{started['_id']}/cancel")
    return taken


if __name__ == "__main__":
    main()
