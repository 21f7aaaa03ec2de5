"""From a click on the slide to the object's outline on screen, in HistomicsUI.

    python -m tests.benchmarks.dsa_click [MODEL]

The object is then corrected by a second click, for which nothing is read again. Also: how much
longer a click takes through Girder than at the isoline server itself. The pixels come through
Girder; the browser draws without a GPU.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import requests
from playwright.sync_api import Page

from isoline.demo.slide import SAMPLE_SLIDE
from isoline.models import downloads
from tests import browser
from tests.benchmarks.measuring import describe_machine, interleaved, median, spread
from tests.dsa.stack import Stack, running
from tests.serving import serving

OBJECTS = 7
CLOCK = """([x, y]) => new Promise((resolve) => {
    const prompting = document.querySelector('.isoline-prompting');
    let began;
    new MutationObserver((changes, observer) => {
        if (prompting.dataset.state === 'ready') {
            observer.disconnect();
            // one frame to draw in, and one to know that it was drawn
            requestAnimationFrame(() => requestAnimationFrame(
                () => resolve([performance.now() - began, Number(prompting.dataset.shown)])));
        }
    }).observe(prompting, {attributes: true, attributeFilter: ['data-state']});
    const slide = document.elementFromPoint(x, y);
    began = performance.now();
    for (const type of ['mousemove', 'mousedown', 'mouseup']) {
        slide.dispatchEvent(new MouseEvent(type, {
            bubbles: true, clientX: x, clientY: y, button: 0, buttons: type === 'mouseup' ? 0 : 1
        }));
    }
})"""


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else "click"
    print(describe_machine())
    slide = downloads.fetch(SAMPLE_SLIDE)
    with tempfile.TemporaryDirectory() as folder:
        home, data = Path(folder) / "girder", Path(folder) / "isoline"
        home.mkdir()
        data.mkdir()
        with running(home, slide) as stack:
            server = f'[girder.girder]\nurl = "{stack.url}"\n'
            with serving(data, data, more=server) as url, browser.page(1400, 1000) as page:
                stack.admin.call("PUT", "system/setting", key="isoline.url", value=url)
                first, second = _clicks(page, stack, model)
                figures = interleaved(
                    {
                        "Girder": lambda: _through_girder(stack, model),
                        "isoline": lambda: _directly(stack, url, model),
                    },
                    15,
                )
    print(f"the very first click                      {first[0]:.0f} ms")
    print(f"a first click, to the outline on screen   {spread(first[1:], 0)} ms")
    print(f"a second click on the object              {spread(second, 0)} ms")
    for name, each in figures.items():
        print(f"the same question again, asked at {name:8}{spread([1000 * t for t in each], 1)} ms")
    added = 1000 * (median(figures["Girder"]) - median(figures["isoline"]))
    print(f"Girder adds                               {added:.1f} ms")


def _clicks(page: Page, stack: Stack, model: str) -> tuple[list[float], list[float]]:
    where = f"image={stack.item}&bounds=5400,6500,6600,7300,0"
    page.goto(f"{stack.url}/histomics?token={stack.admin.token}#?{where}")
    page.wait_for_selector(f"#isoline-model option[value={model}]", state="attached")
    page.select_option("#isoline-model", model)
    page.wait_for_timeout(3000)  # the slide itself is drawn first
    page.click("text=Click to segment")
    first: list[float] = []
    second: list[float] = []
    for k in range(OBJECTS):
        x, y = 150 + 120 * k, 250 + 70 * k
        for figures, place in ((first, (x, y)), (second, (x + 4, y))):
            taken, shown = page.evaluate(CLOCK, place)
            if not shown:
                raise SystemExit(f"no object at {place}: {page.inner_text('#isoline-panel')}")
            figures.append(float(taken))
        page.click(".isoline-prompting >> text=Discard")
    return first, second


def _question(model: str) -> dict[str, Any]:
    return {"model": model, "prompts": [{"kind": "point", "points": [[5700.5, 6774.5]]}]}


def _through_girder(stack: Stack, model: str) -> float:
    began = time.perf_counter()
    route = f"isoline/item/{stack.item}/prompt"
    stack.admin.open("POST", route, json=_question(model)).raise_for_status()
    return time.perf_counter() - began


def _directly(stack: Stack, url: str, model: str) -> float:
    body = {**_question(model), "image": f"girder:girder/{stack.item}", "format": "dsa"}
    began = time.perf_counter()
    headers = {"Girder-Token": stack.admin.token}
    requests.post(f"{url}/v1/segment", json=body, headers=headers, timeout=60).raise_for_status()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
