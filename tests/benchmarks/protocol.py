"""How fast requests are read and events are said, beside another version of isoline.

    python -m tests.benchmarks.protocol [CHECKOUT | REVISION] [--runs 7]

CHECKOUT is the root of another version, a REVISION of this repository is unpacked for the run;
without either it is 794c392, the last that read requests by hand. Both versions run in processes
of their own and take turns. Every line is the median of the ratios new / old of all turns, below 1
where the new one is faster, with the least and the greatest. Seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import subprocess
import sys
import tarfile
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import orjson

from tests.benchmarks.measuring import describe_machine, median, spread

ROOT = Path(__file__).parents[2]
START = "794c392"

READER = """
import sys, time
import numpy as np
try:
    from isoline.protocol.requests import parse_request
    from isoline.protocol.events import encode_event
    from isoline.domain.events import Progress
    from isoline.exports.geojson import GeoJSON
except ImportError:
    from isoline.wire import encode_event, parse_request
    from isoline.events import Progress
    from isoline.encoders.geojson import GeoJSON

dialect, progress = GeoJSON(), Progress(3, 16, 4.2)
while command := sys.stdin.buffer.readline():
    name, size, times = command.split()
    body, times = sys.stdin.buffer.read(int(size)), range(int(times))
    if name == b"request":
        work = lambda: parse_request(body)
    else:
        work = lambda: encode_event(7, progress, None, dialect)
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in times:
            work()
        best = min(best, (time.process_time() - began) / len(times))
    print(best, flush=True)
"""
"""Does as it is told on its standard input, and says the best seconds of five rounds."""


def bodies() -> Mapping[str, object]:
    """Return what is read, by what it is."""
    slide = {"image": "slides/a.svs", "model": "nuclei"}
    volume = {"image": "dicomweb:pacs/1.2/3.4", "model": "click", "format": "ohif"}
    turns = [2 * math.pi * k / 20_000 for k in range(20_000)]
    ring = [[5000 + 4000 * math.cos(turn), 5000 + 4000 * math.sin(turn)] for turn in turns]
    runs = b64encode(bytes([5, 100, 28, 100] * 40)).decode()
    drawn = [
        {
            "slice": {"instance": f"1.2.826.0.1.3680043.8.498.{k}", "frame": 1},
            "box": [10, 20, 138, 140],
            "runs": runs,
        }
        for k in range(300)
    ]
    full = {
        **slide,
        "region": [4000, 5000, 8096, 9096],
        "focus": [6000.5, 7000],
        "parameters": {"sensitivity": 0.5, "output": "instances", "fast": True},
        "tile": 512,
        "spacing_um": [0.25, 0.25],
        "channel": ["DAPI", 2],
        "image_size": [31872, 13835],
        "format": "qupath",
    }
    way = [[k + 0.5, 2 * k + 0.25] for k in range(1000)]
    return {
        "two keys": slide,
        "ten keys": full,
        "a click": {**slide, "prompts": [{"kind": "point", "points": [[4512.5, 5210.0]]}]},
        "20,000 corners": {**slide, "region": {"type": "Polygon", "coordinates": [ring]}},
        "1,000 points": {
            **slide,
            "prompts": [{"kind": "point", "points": [point]} for point in way],
        },
        "a line of 1,000": {**slide, "prompts": [{"kind": "scribble", "points": way}]},
        "300 slices": {
            **volume,
            "prompts": [{"kind": "point", "points": [[1, 2, 3]]}],
            "initial": {"slices": drawn},
        },
    }


class Reader:
    """Another process, in which one version reads."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._say: IO[bytes] = process.stdin
        self._hear: IO[bytes] = process.stdout

    def seconds(self, name: str, body: bytes, times: int) -> float:
        self._say.write(b"%b %d %d\n%b" % (name.encode(), len(body), times, body))
        self._say.flush()
        return float(self._hear.readline())


@contextmanager
def reader(checkout: Path) -> Iterator[Reader]:
    """Start a reader with the code in `checkout`."""
    path = os.pathsep.join([str(checkout / "backend"), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-c", READER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        cwd=checkout,
    ) as process:
        yield Reader(process)
        assert process.stdin is not None
        process.stdin.close()


@contextmanager
def checkout_of(given: str) -> Iterator[Path]:
    """Give the directory `given`, or one with the revision of that name."""
    if Path(given).is_dir():
        yield Path(given).resolve()
        return
    packed = subprocess.run(
        ["git", "archive", given, "backend"], cwd=ROOT, capture_output=True, check=True
    )
    with (
        tempfile.TemporaryDirectory() as directory,
        tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive,
    ):
        archive.extractall(directory, filter="data")
        yield Path(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", nargs="?", default=START)
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    print(describe_machine())
    with ExitStack() as stack:
        other = stack.enter_context(checkout_of(given.other))
        new, old = (stack.enter_context(reader(each)) for each in (ROOT, other))
        cases = {name: ("request", orjson.dumps(body)) for name, body in bodies().items()}
        cases["an event"] = ("event", b"")
        for name, (kind, body) in cases.items():
            times = max(5, 2_000_000 // (2000 + 20 * len(body)))
            turns = [
                (new.seconds(kind, body, times), old.seconds(kind, body, times))
                for _ in range(given.runs)
            ]
            micros = 1e6 * median([seconds for seconds, _ in turns])
            ratios = spread([one / another for one, another in turns])
            print(f"{name:<16} {micros:10.1f} us   new / old {ratios}")


if __name__ == "__main__":
    main()
