"""From the click on *Segment what I see* to the first contour on screen, in HistomicsUI.

    python -m tests.benchmarks.dsa_first_polygon

To reach: at most 1.5 s, with a model that needs 0.3 s a tile. The pixels come through Girder; the
browser draws without a GPU. Also, to reach 200 ms: from the request to the moment in which Girder
is asked for the first tile, seen by a proxy that stands between the isoline server and Girder. It
is measured on the first slide that anybody asks both servers for, on slides that nobody has asked
for before, and on one that is known.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import urllib3
from playwright.sync_api import Page

from isoline.demo.slide import SAMPLE_SLIDE
from isoline.models import downloads
from tests import browser
from tests.benchmarks.measuring import describe_machine, spread
from tests.dsa.stack import Stack, running
from tests.serving import serving

RUNS = 5
TILE_SECONDS = 0.5
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
    slide = downloads.fetch(SAMPLE_SLIDE)
    with tempfile.TemporaryDirectory() as folder:
        home, data = Path(folder) / "girder", Path(folder) / "isoline"
        home.mkdir()
        data.mkdir()
        with running(home, slide) as stack, _witness(stack.url) as witness:
            known = f'[girder.girder]\nurl = "{stack.url}"\n'
            known += f'[girder.witnessed]\nurl = "{witness.url}"\n'
            with serving(data, data, more=known) as url, browser.page(1400, 1000) as page:
                _set(stack, "url", url)
                _set(stack, "name", "witnessed")
                earliest = _first_tile(stack, witness, stack.item, 0)
                unseen = [_first_tile(stack, witness, _copy(stack), 0) for _ in range(RUNS)]
                known_ones = [_first_tile(stack, witness, stack.item, k) for k in range(RUNS)]
                _set(stack, "name", "girder")
                clicks = [_click(page, stack, run) for run in range(RUNS)]
                starts = [_start(stack, run) for run in range(RUNS)]
    print("request to the first tile asked for, to reach 200 ms")
    print(f"  of the first slide of all                    {1000 * earliest:.0f} ms")
    print(f"  of a slide that nobody has asked for before  {spread(_ms(unseen), 0)} ms")
    print(f"  of a slide that is known                     {spread(_ms(known_ones), 0)} ms")
    print(f"click to the first contour on screen           {spread(clicks)} s, to reach 1.5")
    print(f"request to the first contour in the API        {spread(starts)} s, 0.3 of it the model")


def _ms(figures: list[float]) -> list[float]:
    return [1000 * each for each in figures]


def _set(stack: Stack, key: str, value: str) -> None:
    stack.admin.call("PUT", "system/setting", key=f"isoline.{key}", value=value)


class _Witness(ThreadingHTTPServer):
    """Passes requests on to Girder and notes when the first tile is asked for."""

    daemon_threads = True

    def __init__(self, girder: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.pool = urllib3.connection_from_url(girder, maxsize=16)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked = threading.Event()
        """Set with the first tile; then `asked_at` says when that was."""
        self.asked_at = 0.0


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Witness

    def do_GET(self) -> None:
        if "/tiles/zxy/" in self.path and not self.server.asked.is_set():
            self.server.asked_at = time.perf_counter()
            self.server.asked.set()
        headers = {"Girder-Token": self.headers.get("Girder-Token", "")}
        answer = self.server.pool.request("GET", self.path, headers=headers)
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(answer.data)))
        self.end_headers()
        self.wfile.write(answer.data)

    def log_message(self, *_: object) -> None:
        """Say nothing of each tile."""


@contextlib.contextmanager
def _witness(girder: str) -> Iterator[_Witness]:
    with _Witness(girder) as witness:
        threading.Thread(target=witness.serve_forever, daemon=True).start()
        try:
            yield witness
        finally:
            witness.shutdown()


def _copy(stack: Stack) -> str:
    """Return the id of another item with the same slide."""
    return str(stack.admin.call("POST", f"item/{stack.item}/copy")["_id"])


def _first_tile(stack: Stack, witness: _Witness, item: str, run: int) -> float:
    """Return the seconds from a request for `item` to the first tile that Girder is asked for."""
    x = 9000 + 2000 * run
    body: dict[str, Any] = {"model": "slow", "region": [x, 3000, x + 1000, 3800]}
    witness.asked.clear()
    began = time.perf_counter()
    stack.admin.call("POST", f"isoline/item/{item}/run", json=body)
    if not witness.asked.wait(60):
        raise SystemExit("no tile is asked for")
    stack.clear(item)
    time.sleep(TILE_SECONDS)  # that of this run is computed to its end
    return witness.asked_at - began


def _click(page: Page, stack: Stack, run: int) -> float:
    x = 5000 + 1500 * run
    where = f"image={stack.item}&bounds={x},6500,{x + 1200},7300,0"
    page.goto(f"{stack.url}/histomics?token={stack.admin.token}#?{where}")
    page.wait_for_selector("#isoline-model option[value=slow]", state="attached")
    page.select_option("#isoline-model", "slow")
    page.wait_for_timeout(3000)  # the slide itself is drawn first
    taken = float(page.evaluate(CLOCK))
    page.goto("about:blank")
    stack.clear()
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
    stack.clear()
    return taken


if __name__ == "__main__":
    main()
