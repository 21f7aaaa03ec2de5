"""How soon the first contour comes, and how soon short requests are answered meanwhile.

    python -m tests.benchmarks.responsiveness

Through a real server, as a viewer sees it: statistics cached, workers warm, the focus in tissue.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import requests

from isoline import client as api
from isoline.client import Client
from isoline.demo.slide import SAMPLE_SLIDE
from isoline.models import downloads
from tests.benchmarks.measuring import describe_machine, median, spread
from tests.serving import serving

REGION = [2600, 3900, 10792, 12092]
FOCUS = [6000, 7500]
TILE = 512
WORKERS = 2
RUNS = 5
REQUESTS = 400


def main() -> None:
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        images, data = Path(folder) / "images", Path(folder) / "data"
        images.mkdir()
        data.mkdir()
        shutil.copy(downloads.fetch(SAMPLE_SLIDE), images / "slide.svs")
        with serving(images, data, more=f"[engine]\nworkers = {WORKERS}\n") as url:
            client = Client(url)
            _run(client, "slides/slide.svs")  # the survey, and what workers load once
            _first_contour(client, "slides/slide.svs")
            _while_busy(url, client, "slides/slide.svs")


def _first_contour(client: Client, image: str) -> None:
    runs = [_run(client, image) for _ in range(RUNS)]
    first = [run[0] for run in runs]
    whole = [run[1] for run in runs]
    tile = [seconds * WORKERS / tiles for _, seconds, tiles in runs]
    print(f"\nfirst contour, nuclei on {REGION}, tile {TILE}, medians of {RUNS}")
    print(f"  first contour        {spread(first, 3)} s")
    print(f"  whole region         {spread(whole)} s, one tile {median(tile) * 1e3:.0f} ms")
    in_tiles = [a / b for a, b in zip(first, tile, strict=True)]
    print(f"  first / tile time    {spread(in_tiles)}   (at most 5)")
    shares = [a / b for a, b in zip(first, whole, strict=True)]
    print(f"  first / whole        {spread(shares, 3)}   (at most 0.05)")


def _run(client: Client, image: str) -> tuple[float, float, int]:
    """Return the seconds to the first contour and to the end, and the number of tiles."""
    began = time.perf_counter()
    first = 0.0
    job = client.submit(image, "nuclei", region=REGION, focus=FOCUS, tile=TILE)
    for event in job.events():
        if isinstance(event, api.Contours) and not first:
            first = time.perf_counter() - began
        if isinstance(event, api.Done):
            return first, time.perf_counter() - began, event.tiles
    raise AssertionError("the job did not end well")


def _while_busy(url: str, client: Client, image: str) -> None:
    print(f"\n{REQUESTS} requests while every worker is busy and a viewer follows")
    for path in ("/v1/health", "/v1/models"):
        job = client.submit(image, "nuclei", tile=TILE)
        stream = job.events()
        next(stream)
        took = []
        with requests.Session() as session:
            for _ in range(REQUESTS):
                began = time.perf_counter()
                session.get(url + path, timeout=10).raise_for_status()
                took.append(time.perf_counter() - began)
                time.sleep(0.01)
        busy = job.state()["state"] == "running"
        p99 = statistics.quantiles(took, n=100)[98]
        print(
            f"  {path:12} median {median(took) * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, busy: {busy}"
        )
        job.cancel()


if __name__ == "__main__":
    main()
