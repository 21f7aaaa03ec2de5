"""How long after the server has a slice it is on a radiologist's screen, in unmodified OHIF.

    python -m tests.benchmarks.ohif_slices [PAIRS] [EVERY]    (two minutes of two cores)

The head is thinned to every EVERYth voxel, by default every second: 91 slices of 109 x 91. On one
page the panel shows what `threshold3d` finds in PAIRS of runs, by default five: once from the real
server, then at once from a mock within the page, which has the same lines at the same times without
network or server: what that takes is the browser's own cost. A slice counts from when another
reader of the job has it, or the mock, until a frame of the browser has been drawn with it. The page
hears of its job when that reader has asked for it, so that neither is early. There is one clock:
all is on one machine. Slices are compared one by one with themselves, so what a slice
waits for those before it, and what else the machine does in those seconds, hits both alike. The
first pair is not counted: it warms both.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import requests
from playwright.sync_api import Page, expect

from isoline.demo.ohif import head
from tests import browser
from tests.benchmarks.measuring import describe_machine, median, spread
from tests.ohif import stack
from tests.ohif.panel import Panel

WANTED_MS = 250
WATCH = """() => {
    const { cache, eventTarget, metaData } = window.cornerstone;
    window.drawn = {};
    eventTarget.addEventListener('CORNERSTONE_TOOLS_SEGMENTATION_DATA_MODIFIED', ({ detail }) => {
        const { segmentationId, modifiedSlicesToUse: slices = [] } = detail;
        const { representationData } =
            window.services.segmentationService.getSegmentation(segmentationId);
        const ids = representationData.Labelmap.imageIds;
        const names = slices.map((k) => metaData.get(
            'instance', cache.getImage(ids[k]).referencedImageId).SOPInstanceUID);
        const { drawn } = window; // by then there may be another run
        // the first callback comes before the frame is drawn, the second after
        requestAnimationFrame(() => requestAnimationFrame(() => {
            names.forEach((name) => { drawn[name] ??= Date.now(); });
        }));
    });
}"""
MOCK = """() => {
    const real = window.fetch;
    window.script = null;  // lines to hear instead of the server's, each with its milliseconds
    window.said = {};
    let began = 0;
    const answer = (body) => new Response(
        JSON.stringify(body), { status: 201, headers: { 'Content-Type': 'application/json' } });
    const stream = (lines) => new ReadableStream({
        async start(controller) {
            for (const [after, line] of lines) {
                const wait = began + after - Date.now();
                if (wait > 0) { await new Promise((resolve) => setTimeout(resolve, wait)); }
                for (const { instance } of JSON.parse(line).slices ?? []) {
                    window.said[instance] ??= began + after;
                }
                controller.enqueue(new TextEncoder().encode(line + '\\n'));
            }
            controller.close();
        },
    });
    window.fetch = async (url, options) => {
        const path = String(url);
        if (!path.includes('/v1/jobs')) { return real(url, options); }
        if (path.endsWith('/v1/jobs')) {
            const created = window.script
                ? answer({ job: 'mock', position: 0 }) : await real(url, options);
            await window.created((await created.clone().json()).job);
            began = Date.now();
            return created;
        }
        if (!window.script) { return real(url, options); }
        return path.includes('/events') ? new Response(stream(window.script)) : answer({});
    };
}"""
DRAWN = "() => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))"
EMPTY = """() => {
    const { segmentationService } = window.services;
    segmentationService.getSegmentations().map((each) => each.segmentationId)
        .forEach((id) => segmentationService.remove(id));
    window.drawn = {};
    window.said = {};
}"""

Times = dict[str, float]
"""Of each slice, by SOPInstanceUID, in milliseconds."""


class Reader(threading.Thread):
    """Another reader of a job, beside the browser: it sees when the server has each line."""

    def __init__(self, job: str) -> None:
        """Ask for the events of the job at this address; return when they begin to come."""
        super().__init__()
        self._answer = requests.get(f"{job}/events", stream=True, timeout=60)
        self.began = time.time()
        """When it was answered, in seconds."""
        self.lines: list[tuple[float, str]] = []
        """Each with the time at which it came, in seconds."""

    def run(self) -> None:
        with self._answer as answer:
            for line in answer.iter_lines(chunk_size=None):
                if line:
                    self.lines.append((time.time(), line.decode()))

    def slices(self) -> Times:
        """Return when each slice came."""
        came: Times = {}
        for at, line in self.lines:
            for each in json.loads(line).get("slices", ()):
                came.setdefault(each["instance"], 1000 * at)
        return came


class Bench:
    """A page with the panel, and what is measured on it."""

    def __init__(self, page: Page, url: str) -> None:
        self._page, self._url = page, url
        self._readers: list[Reader] = []
        page.expose_function("created", self._created)
        for hook in (WATCH, MOCK):
            page.evaluate(hook)

    def _created(self, job: str) -> None:
        """Read the events of a job; the page hears of the job when this returns."""
        if job != "mock":
            reader = Reader(f"{self._url}/v1/jobs/{job}")
            reader.start()
            self._readers.append(reader)

    def real(self) -> tuple[Times, Reader]:
        """Return how long each slice took to the screen, and what the server said."""
        self._page.evaluate(EMPTY)
        Panel(self._page).press("Run")
        drawn = self._finished()
        told = self._readers.pop()
        told.join()
        return {name: drawn[name] - at for name, at in told.slices().items()}, told

    def mock(self, told: Reader) -> Times:
        """Let the page hear again what the server said, at the same pace."""
        self._page.evaluate(EMPTY)
        lines = [[1000 * (at - told.began), line] for at, line in told.lines]
        self._page.evaluate("(lines) => { window.script = lines; }", lines)
        Panel(self._page).press("Run")
        drawn = self._finished()
        self._page.evaluate("() => { window.script = null; }")
        said: Times = self._page.evaluate("window.said")
        return {name: drawn[name] - at for name, at in said.items()}

    def _finished(self) -> Times:
        """Return when each slice was drawn, once all are."""
        expect(Panel(self._page).said).to_contain_text("Finished", timeout=60_000)
        self._page.evaluate(DRAWN)
        drawn: Times = self._page.evaluate("window.drawn")
        return drawn


def thinned(folder: Path, every: int) -> Path:
    whole: Any = nibabel.load(stack.needed(head.find))
    voxels = np.asarray(whole.dataobj)[::every, ::every, ::every]
    affine = whole.affine @ np.diag([every, every, every, 1])
    nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / "head.nii")
    return folder / "head.nii"


def main(pairs: int, every: int) -> None:
    print(describe_machine())
    real: list[Times] = []
    mock: list[Times] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with stack.running(folder) as running, browser.launched() as chromium:
            study = running.store(head.series(thinned(folder, every)))
            with running.opened(chromium, study, "isoline") as page:
                bench = Bench(page, running.url)
                for number in range(1 + pairs):
                    Panel(page).choose("threshold3d", above=60 + number)  # nothing is known yet
                    found, told = bench.real()
                    real.append(found)
                    mock.append(bench.mock(told))
    report(real[1:], mock[1:])


def report(real: list[Times], mock: list[Times]) -> None:
    """Print what was measured in pairs of runs, against what is wanted."""
    beyond = [
        {name: one[name] - other[name] for name in one}
        for one, other in zip(real, mock, strict=True)
    ]
    medians = [median([*each.values()]) for each in beyond]
    print(
        f"OHIF {stack.VERSION}, {len(real[0])} slices in each of {len(real)} pairs of runs,"
        " milliseconds: median (least to most)\n"
        f"on screen after the server had it  {_spread(real)}\n"
        f"on screen after the mock had it    {_spread(mock)}\n"
        f"beyond the browser's own cost      {_spread(beyond)}:"
        f" a median of at most {WANTED_MS} wanted\n"
        f"the median of that in each pair    {spread(medians, 0)}"
    )


def _spread(runs: list[Times]) -> str:
    return spread([took for run in runs for took in run.values()], 0)


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:]]
    main(*(given + [5, 2][len(given) :]))
