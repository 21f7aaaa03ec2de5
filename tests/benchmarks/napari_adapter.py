"""The napari example: how soon a contour is in the layer, and 10,000 of them, and a killed server.

    python -m tests.benchmarks.napari_adapter

The time of a contour on its way is measured against a bare reader of the same stream. The layers
that napari has for outlines take up the same contours, in 20 portions as tiles bring them; Shapes
need `napari[bermuda]` for that, and take many times as long without.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import requests

from isoline_client import Client, Run
from isoline_client.outlines import rings
from tests.benchmarks.measuring import describe_machine, spread
from tests.killable import Server, running
from tests.slides import Shapes, disks

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "examples" / "napari"))
TICK_SECONDS = 0.05
"""As the timer of the example."""
SIZE = 7003, 6803
"""Holds a little more than 10,000 objects."""
PORTIONS = 20
RUNS = 3
KILLED_AFTER = 2000


def main() -> None:
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        images, data = Path(folder) / "images", Path(folder) / "data"
        images.mkdir()
        data.mkdir()
        slide = disks(images / "disks.tif", SIZE)
        with running(images, data, more="[engine]\nworkers = 2\n") as server:
            first = [_first(server) for _ in range(RUNS)]
            taken = [_taken_up(server, slide) for _ in range(RUNS)]
            exact = _features(server)
            simple = _features(server, simplify_px=1.0)
            doubled, missing = _killed(server, slide)
    print(f"\n{slide.count} objects of {_corners(exact):.0f} corners")
    print(f"  first contour in the layer   {spread(first, 3)} s after a bare reader has it (0.15)")
    print(f"  all contours taken up        {spread(taken)} s for 10,000 (2.5)")
    print(f"  killed server                {doubled} double, {missing} missing (0, 0)")
    print(f"\nCPU seconds in {PORTIONS} portions, exact and with {_corners(simple):.0f} corners")
    for name, take_up in _layers().items():
        figures = [_per_10000(take_up, each) for each in (exact, simple)]
        print("  {:28} exact {:6.1f}   simplified {:6.1f}".format(name, *figures))


def _open(server: Server) -> Any:
    components = importlib.import_module("napari.components")
    adapter = importlib.import_module("napari_isoline").Adapter
    return adapter(components.ViewerModel(), Client(server.url), "slides/disks.tif")


def _run(adapter: Any) -> Any:
    return adapter.results["threshold"].run


def _first(server: Server) -> float:
    """Return how long after a bare reader has the first contour it is in the layer."""
    adapter = _open(server)
    adapter.segment("threshold")
    arrived: list[float] = []
    url = f"{server.url}/v1/jobs/{_run(adapter).job.id}/events"
    reader = threading.Thread(target=_read_first, args=(url, arrived))
    reader.start()
    while not _run(adapter).store.objects:
        time.sleep(TICK_SECONDS)
        adapter.update()
    shown = time.monotonic()
    reader.join()
    adapter.cancel()
    return shown - arrived[0]


def _read_first(url: str, arrived: list[float]) -> None:
    with requests.get(url, stream=True, timeout=60) as response:
        for line in response.iter_lines(chunk_size=1 << 16):
            if b'"contours"' in line[:40]:
                arrived.append(time.monotonic())
                return


def _taken_up(server: Server, slide: Shapes) -> float:
    """Return the seconds per 10,000 contours from the first event of a finished job to the last."""
    run = Run(Client(server.url), "slides/disks.tif", "threshold").start()
    while not run.is_over:
        run.update(1.0)
    adapter = _open(server)
    began = time.monotonic()
    adapter.resume("threshold", run.bookmark)
    while not _run(adapter).is_over:
        time.sleep(TICK_SECONDS / 5)
        adapter.update()
    adapter.update()
    seconds = time.monotonic() - began
    assert len(_run(adapter).store.objects) == slide.count
    return seconds * 10_000 / slide.count


def _features(server: Server, **options: float) -> list[Any]:
    run = Run(Client(server.url), "slides/disks.tif", "threshold", **options).start()  # type: ignore[arg-type]
    while not run.is_over:
        run.update(1.0)
    return [*run.store.objects.values()]


def _killed(server: Server, slide: Shapes) -> tuple[int, int]:
    """Kill the server in the middle of a run; return how many objects are double and missing."""
    adapter = _open(server)
    run = Run(Client(server.url), "slides/disks.tif", "threshold", tile=256).start()
    adapter.resume("threshold", run.bookmark)
    while len(_run(adapter).store.final()) < KILLED_AFTER:
        adapter.update()
    assert not _run(adapter).is_over
    server.kill()
    server.start()
    while not _run(adapter).is_over:
        time.sleep(TICK_SECONDS)
        adapter.update()
    numbers = np.asarray(adapter.results["threshold"].layer.data[0])
    pairs = np.unique(np.stack([slide.labels.ravel(), numbers.ravel()]), axis=1)
    wrong = np.count_nonzero((pairs == 0).any(axis=0)) - 1  # but for glass that is glass
    doubled = len(pairs.T) - 1 - len(np.unique(pairs[0][pairs[0] > 0]))
    return max(doubled, len(adapter.results["threshold"].layer.features) - slide.count), wrong


TakeUp = Callable[[Sequence[Any]], None]
"""Takes one more portion of features up."""


def _layers() -> dict[str, Callable[[], TakeUp]]:
    def example() -> TakeUp:
        result = importlib.import_module("napari_isoline").SlideResult
        components = importlib.import_module("napari.components")
        change = importlib.import_module("isoline_client").Change
        labels = [{"name": "Foreground", "color": [228, 26, 28]}]
        image = type("Image", (), {"size": SIZE})
        made = result(components.ViewerModel(), image, "threshold", labels)
        return lambda features: made.show(change(added=features))

    def shapes() -> TakeUp:
        layer = importlib.import_module("napari.layers").Shapes(ndim=2)

        def take_up(features: Sequence[Any]) -> None:
            layer.add(
                [rings(each["geometry"])[0][:-1, ::-1] for each in features], shape_type="polygon"
            )

        return take_up

    def vectors() -> TakeUp:
        layer = importlib.import_module("napari.layers").Vectors(ndim=2)
        parts: list[Any] = []

        def take_up(features: Sequence[Any]) -> None:
            for each in features:
                for ring in rings(each["geometry"]):
                    parts.append(np.stack([ring[:-1, ::-1], np.diff(ring[:, ::-1], axis=0)], 1))
            layer.data = np.concatenate(parts)

        return take_up

    return {"labels, as the example": example, "Shapes": shapes, "Vectors": vectors}


def _per_10000(make: Callable[[], TakeUp], features: Sequence[Any]) -> float:
    make()(features[:10])  # what is compiled at first is not measured
    take_up, size = make(), -(-len(features) // PORTIONS)
    began = time.process_time()
    for start in range(0, len(features), size):
        take_up(features[start : start + size])
    return (time.process_time() - began) * 10_000 / len(features)


def _corners(features: Sequence[Any]) -> float:
    return float(
        np.mean([sum(len(ring) - 1 for ring in rings(each["geometry"])) for each in features])
    )


if __name__ == "__main__":
    main()
