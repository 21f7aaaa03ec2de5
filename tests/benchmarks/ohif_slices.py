"""How long after the server has a slice it is on a radiologist's screen, in unmodified OHIF.

    python -m tests.benchmarks.ohif_slices [PAIRS] [EVERY]    (two minutes of two cores)

The head is thinned to every EVERYth voxel, by default every second: 91 slices of 109 x 91. On one
page the panel shows what `threshold3d` finds in PAIRS of runs, by default five: once from the real
server, then at once from a mock within the page, which has the same lines at the same times without
network or server: what that takes is the browser's own cost. A slice counts from when another
reader of the job has it, or the mock, until a frame of the browser has been drawn with it. There is
one clock: all is on one machine. Slices are compared one by one with themselves, so what a slice
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

from isoline.ohif import head
from tests import browser
from tests.benchmarks.measuring import describe_machine, spread
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
        // the first callback comes before the frame is drawn, the second after
        requestAnimationFrame(() => requestAnimationFrame(() => {
            names.forEach((name) => { window.drawn[name] ??= Date.now(); });
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
        if (!window.script || !path.includes('/v1/jobs')) { return real(url, options); }
        if (path.endsWith('/v1/jobs')) {
            began = Date.now();
            return answer({ job: 'mock', position: 0 });
        }
        return path.includes('/events') ? new Response(stream(window.script)) : answer({});
    };
}"""
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

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.began = time.time()
        """When the job was there."""
        self.lines: list[tuple[float, str]] = []
        """Each with the time at which it came, in seconds."""

    def run(self) -> None:
        with requests.get(f"{self.url}/events", stream=True, timeout=60) as answer:
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


def run_real(page: Page, url: str) -> tuple[Times, Reader]:
    """Return how long each slice took to the screen, and what the server said."""
    page.evaluate(EMPTY)
    with page.expect_response("**/v1/jobs") as answer:
        Panel(page).press("Run")
    reader = Reader(f"{url}/v1/jobs/{answer.value.json()['job']}")
    reader.start()
    reader.join()
    came = reader.slices()
    drawn = finished(page, len(came))
    return {name: drawn[name] - came[name] for name in came}, reader


def run_mock(page: Page, told: Reader) -> Times:
    """Let the page hear again what the server said, at the same pace."""
    page.evaluate(EMPTY)
    lines = [[1000 * (at - told.began), line] for at, line in told.lines]
    page.evaluate("(lines) => { window.script = lines; }", lines)
    Panel(page).press("Run")
    drawn = finished(page, len(told.slices()))
    page.evaluate("() => { window.script = null; }")
    said: Times = page.evaluate("window.said")
    return {name: drawn[name] - said[name] for name in said}


def finished(page: Page, slices: int) -> Times:
    page.wait_for_function(
        "(slices) => Object.keys(window.drawn).length >= slices", arg=slices, polling=100
    )
    expect(Panel(page).said).to_contain_text("Finished", timeout=60_000)
    drawn: Times = page.evaluate("window.drawn")
    return drawn


def thinned(folder: Path, every: int) -> Path:
    whole: Any = nibabel.load(stack.needed(head.find))
    voxels = np.asarray(whole.dataobj)[::every, ::every, ::every]
    affine = whole.affine @ np.diag([every, every, every, 1])
    nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / "head.nii")
    return folder / "head.nii"


def main(pairs: int, every: int) -> None:
    print(describe_machine())
    real: list[float] = []
    mock: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with stack.running(folder) as running, browser.launched() as chromium:
            study = running.store(head.series(thinned(folder, every)))
            with running.opened(chromium, study, "isoline") as page:
                for hook in (WATCH, MOCK):
                    page.evaluate(hook)
                for number in range(1 + pairs):
                    Panel(page).choose("threshold3d", above=60 + number)  # nothing is known yet
                    found, told = run_real(page, running.url)
                    again = run_mock(page, told)
                    if number:
                        real += found.values()
                        mock += (again[name] for name in found)
    beyond = [one - other for one, other in zip(real, mock, strict=True)]
    print(
        f"OHIF {stack.VERSION}, {len(real)} slices of {pairs} runs, milliseconds: "
        "median (least to most)\n"
        f"on screen after the server had it  {spread(real, 0)}\n"
        f"on screen after the mock had it    {spread(mock, 0)}\n"
        f"beyond the browser's own cost      {spread(beyond, 0)}: "
        f"a median of at most {WANTED_MS} wanted"
    )


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:]]
    main(*(given + [5, 2][len(given) :]))
