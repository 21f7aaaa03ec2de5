"""How long after the server has a slice it is on a radiologist's screen, in unmodified OHIF.

    python -m tests.benchmarks.ohif_slices [RUNS] [EVERY]    (a minute of two cores)

The head is thinned to every EVERYth voxel, by default every second: 91 slices of 109 x 91. In each
run the panel shows what `threshold3d` finds, once from the real server and once from a mock within
the page, which has the same lines at the same times without network or server: what that takes is
the browser's own cost. A slice counts from when another reader of the job has it, or the mock,
until a frame of the browser has been drawn with it. There is one clock: all is on one machine.
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
from tests.benchmarks.measuring import describe_machine, median
from tests.ohif import stack
from tests.ohif.panel import Panel

WATCH = """() => {
    const { cache, eventTarget, metaData } = window.cornerstone;
    window.drawn = {};
    window.said = {};
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
MOCK = """([lines, job]) => {
    const real = window.fetch;
    const answer = (body) => new Response(
        JSON.stringify(body), { status: 201, headers: { 'Content-Type': 'application/json' } });
    let began = 0;
    const stream = () => new ReadableStream({
        async start(controller) {
            for (const [after, line] of lines) {
                const wait = began + after - Date.now();
                if (wait > 0) { await new Promise((resolve) => setTimeout(resolve, wait)); }
                const event = JSON.parse(line);
                for (const { instance } of event.slices ?? []) {
                    window.said[instance] ??= began + after;
                }
                controller.enqueue(new TextEncoder().encode(line + '\\n'));
            }
            controller.close();
        },
    });
    window.fetch = async (url, options) => {
        const path = String(url);
        if (path.endsWith('/v1/jobs')) {
            began = Date.now();
            return answer({ job, position: 0 });
        }
        if (path.includes('/v1/jobs/' + job + '/events')) { return new Response(stream()); }
        return path.includes('/v1/jobs/') ? answer({}) : real(url, options);
    };
    return () => { window.fetch = real; };
}"""


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

    def slices(self) -> dict[str, float]:
        """Return when each slice came, by SOPInstanceUID, in milliseconds."""
        came: dict[str, float] = {}
        for at, line in self.lines:
            for each in json.loads(line).get("slices", ()):
                came.setdefault(each["instance"], 1000 * at)
        return came


def run_real(page: Page, url: str) -> tuple[list[float], Reader]:
    """Return how long each slice took, in milliseconds, and what the server said."""
    panel = Panel(page)
    page.evaluate(WATCH)
    with page.expect_response("**/v1/jobs") as answer:
        panel.press("Run")
    reader = Reader(f"{url}/v1/jobs/{answer.value.json()['job']}")
    reader.start()
    reader.join()
    came = reader.slices()
    drawn = finished(page, panel, len(came))
    return [drawn[name] - came[name] for name in came], reader


def run_mock(page: Page, told: Reader) -> list[float]:
    """Let the page hear again what the server said, at the same pace."""
    panel = Panel(page)
    page.evaluate(WATCH)
    lines = [[1000 * (at - told.began), line] for at, line in told.lines]
    page.evaluate(MOCK, [lines, "mock"])
    panel.press("Run")
    drawn = finished(page, panel, len(told.slices()))
    said: dict[str, float] = page.evaluate("window.said")
    return [drawn[name] - said[name] for name in said]


def finished(page: Page, panel: Panel, slices: int) -> dict[str, float]:
    expect(panel.said).to_contain_text("Finished", timeout=60_000)
    page.wait_for_function("(slices) => Object.keys(window.drawn).length >= slices", arg=slices)
    drawn: dict[str, float] = page.evaluate("window.drawn")
    return drawn


def thinned(folder: Path, every: int) -> Path:
    whole: Any = nibabel.load(stack.needed(head.find))
    voxels = np.asarray(whole.dataobj)[::every, ::every, ::every]
    affine = whole.affine @ np.diag([every, every, every, 1])
    nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / "head.nii")
    return folder / "head.nii"


def main(runs: int, every: int) -> None:
    print(describe_machine())
    real: list[float] = []
    mock: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with stack.running(folder) as running, browser.launched() as chromium:
            study = running.store(head.series(thinned(folder, every)))
            for number in range(runs):
                for figures in (real, mock):
                    with running.opened(chromium, study, "isoline") as page:
                        Panel(page).choose("threshold3d", above=60 + number)
                        if figures is real:
                            found, told = run_real(page, running.url)
                        else:
                            found = run_mock(page, told)
                    figures += found
    print(
        f"{len(real) // runs} slices, {runs} runs\n"
        f"from the server:  {median(real):6.0f} ms at the median, {max(real):.0f} ms at most\n"
        f"from the mock:    {median(mock):6.0f} ms at the median, {max(mock):.0f} ms at most\n"
        f"server, network:  {median(real) - median(mock):6.0f} ms at the median: at most 250 wanted"
    )


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:]]
    main(*(given + [3, 2][len(given) :]))
