"""What a click costs besides its model: HTTP, the journal, the worker's pipe, the encoder.

    python -m tests.benchmarks.prompt_overhead

A model that answers at once, on a picture that lies in the worker's memory, through a real server
and one kept connection, as a viewer asks. The numbers are milliseconds to the last event.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import requests
from PIL import Image

from isoline.client import Client, Progress
from isoline.demo.slide import SAMPLE_SLIDE
from isoline.models import downloads
from tests.benchmarks.measuring import describe_machine, median, spread
from tests.serving import serving

CLICKS = 60
BODY = {"image": "slides/p.png", "model": "flood"}
Click: TypeAlias = Callable[[requests.Session, str, str], bytes]


def main() -> None:
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        images, data = Path(folder) / "images", Path(folder) / "data"
        images.mkdir()
        data.mkdir()
        picture = np.full((500, 700, 3), 240, np.uint8)
        picture[100:200, 150:280] = 30
        Image.fromarray(picture).save(images / "p.png")
        shutil.copy(downloads.fetch(SAMPLE_SLIDE), images / "slide.svs")
        with serving(images, data) as url:
            idle = [_measured(name, url, click) for name, click in WAYS.items()]
            print(f"  of which the worker    {_answer_ms(url):.1f} ms on average")
            job = Client(url).submit("slides/slide.svs", "nuclei")
            stream = job.events()
            while not isinstance(next(stream), Progress):
                pass
            print("while a slide is segmented")
            busy = [_measured(name, url, click) for name, click in WAYS.items()]
            ratios = ", ".join(f"{b / a:.2f}" for a, b in zip(idle, busy, strict=True))
            print(f"  times as long          {ratios}   (at most 2)")
            assert job.state()["state"] == "running"
            job.cancel()


def _measured(name: str, url: str, click: Click) -> float:
    """Print and return the median of the milliseconds that a click takes."""
    with requests.Session() as session:
        times = list(_timed(session, url, click))[5:]
    print(f"  {name:22} {spread(times)} ms, medians of {CLICKS}")
    return median(times)


def _timed(session: requests.Session, url: str, click: Click) -> Iterator[float]:
    for k in range(CLICKS + 5):
        prompts = [{"kind": "point", "points": [[160 + k, 110]]}]
        body = json.dumps({**BODY, "prompts": prompts})
        began = time.perf_counter()
        last = json.loads(click(session, url, body))
        yield 1e3 * (time.perf_counter() - began)
        assert (last["event"], last["objects"]) == ("done", 1)


def _segment(session: requests.Session, url: str, body: str) -> bytes:
    response = session.post(
        f"{url}/v1/segment", body, headers={"Content-Type": "application/json"}, timeout=20
    )
    return response.content.splitlines()[-1]


def _job(session: requests.Session, url: str, body: str) -> bytes:
    headers = {"Content-Type": "application/json"}
    job = session.post(f"{url}/v1/jobs", body, headers=headers, timeout=20).json()
    return session.get(url + job["events"], timeout=20).content.splitlines()[-1]


def _answer_ms(url: str) -> float:
    """Return the mean time that the worker took, as /metrics says it."""
    lines = requests.get(f"{url}/metrics", timeout=20).text.splitlines()
    said = dict(line.rsplit(" ", 1) for line in lines if 'stage="answer"' in line)
    total = float(said['isoline_tile_seconds_sum{stage="answer"}'])
    return 1e3 * total / float(said['isoline_tile_seconds_count{stage="answer"}'])


WAYS: dict[str, Click] = {"POST /v1/segment": _segment, "POST /v1/jobs, events": _job}

if __name__ == "__main__":
    main()
