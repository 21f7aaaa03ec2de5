"""A million detections from the server into QuPath's client; first objects; clicks; uploads.

    python -m tests.benchmarks.qupath_stream [--objects 50000] [--client script|java]

The job is real from the queue to the socket: pipeline, assembly, journal, encoder, HTTP. Only the
worker is not: tiles hold made-up nuclei, so that a million of them take no hour. The client is the
one without a window, in a JVM with 4 GB, its hierarchy that of the stubs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import requests
import tifffile
from numpy.typing import NDArray
from PIL import Image

from isoline.client import Client
from isoline.config.settings import Limits
from isoline.demo.slide import SAMPLE_SLIDE
from isoline.domain.events import Objects
from isoline.domain.request import SegmentRequest
from isoline.engines.engine import Agenda
from isoline.geometry.grid import XY
from isoline.geometry.polygons import Polygons
from isoline.geometry.region import Region
from isoline.images.uploads import Uploads
from isoline.inference.task import Task
from isoline.inference.tiles import Stages, Survey, TileResult
from isoline.sources.upload import UploadRequest
from tests import serving
from tests.benchmarks.measuring import describe_machine, median
from tests.planning import footprint
from tests.qupath import building as qupath
from tests.slides import disks

SIDE, TILE = 16384, 512
HEAP_GB = 4
TILE_S = 0.3
CORNERS = 24
MODEL = {"model": "nuclei", "tile": TILE}


# --- A worker that makes nuclei up ---------------------------------------------------------------


def nuclei(task: Task, x0: int, y0: int, count: int) -> Objects:
    """Return `count` outlines of 24 corners in the tile whose first pixel is (x0, y0)."""
    rng = np.random.default_rng(x0 * 1_000_003 + y0)
    step = np.repeat(np.arange(CORNERS // 4), 2)
    stairs = np.concatenate([np.stack([step[1:], step[:-1]], 1), [[5, 5]]])
    outline = np.concatenate([stairs, stairs[::-1] + np.array([8, 0])])[:CORNERS]
    places = rng.integers(0, TILE - 24, (count, 1, 2))
    corners = (places + outline + np.array([x0, y0])).reshape(-1, 2).astype(np.int32)
    starts = np.arange(count + 1)
    return Objects(
        polygons=Polygons(corners, starts * len(outline), starts, starts),
        ids=rng.integers(0, 256, (count, 16), dtype=np.uint8),
        label=np.zeros(count, np.uint16),
        area_px=np.full(count, 60, np.int64),
        anchor=places[:, 0].astype(np.int32) + np.array([x0, y0], np.int32),
        incomplete=np.zeros(count, np.bool_),
        measurements={
            name: rng.random(count, np.float32) for name in ("contrast", "solidity", "stain")
        },
    )


def serve(config: str, per_tile: int) -> None:
    """Serve with that worker; the main function of the server's process."""
    from isoline.config import settings as configuration
    from isoline.engines.local import LocalEngine
    from isoline.server import wsgi

    def run(_: LocalEngine, task: Task, agenda: Agenda) -> Iterator[TileResult]:
        while (tile := agenda.take()) is not None:
            found = nuclei(task, tile.write.x0, tile.write.y0, per_tile)
            yield TileResult(tile, found, Stages(0, 0, 0))

    def survey(_: LocalEngine, _task: Task, _agenda: Agenda) -> Survey:
        return Survey(None)

    LocalEngine.run = run  # type: ignore[assignment, method-assign]
    LocalEngine.survey = survey  # type: ignore[assignment, method-assign]
    wsgi.serve(configuration.load(Path(config)))


@contextlib.contextmanager
def serving_nuclei(folder: Path, total: int, side: int = SIDE) -> Iterator[str]:
    """Serve a white slide of `side` x `side` pixels with `total` nuclei, and yield the URL."""
    tiles = (side // TILE) ** 2
    white = np.full((TILE, TILE, 3), 255, np.uint8)
    tifffile.imwrite(
        folder / "white.tif",
        (white for _ in range(tiles)),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(TILE, TILE),
        photometric="rgb",
        compression="zlib",
        resolution=(40_000, 40_000),
        resolutionunit="CENTIMETER",
    )
    port = serving.free_port()
    config = folder / "isoline.toml"
    config.write_text(
        f'data = "{folder.as_posix()}"\n[server]\nport = {port}\n[engine]\nworkers = 1\n'
        f'[images]\nslides = "{folder.as_posix()}"\n[file_uris]\n"/slides" = "slides"\n'
    )
    call = f"q.serve({str(config)!r}, {-(-total // tiles)})"
    code = f"from tests.benchmarks import qupath_stream as q; {call}"
    process = subprocess.Popen([sys.executable, "-c", code])
    url = f"http://127.0.0.1:{port}"
    try:
        serving._await_ready(process, Client(url))
        yield url
    finally:
        process.terminate()
        process.wait(20)


# --- What is measured ----------------------------------------------------------------------------


def measure_server(url: str, repeats: int) -> None:
    """How fast a finished job is read from its journal, encoded and sent, to a reader in C."""
    job = Client(url).submit("slides/white.tif", "nuclei", format="qupath", tile=TILE)
    began = time.perf_counter()
    while job.state()["state"] in ("queued", "running"):
        time.sleep(0.2)
    state = job.state()
    assert state["state"] == "done", state
    made = state["objects"] / (time.perf_counter() - began)
    rates, size = [], 0
    for _ in range(repeats):
        began = time.perf_counter()
        with requests.get(f"{url}/v1/jobs/{job.id}/events", stream=True, timeout=60) as answer:
            size = sum(map(len, answer.iter_content(1 << 20)))
        rates.append(state["objects"] / (time.perf_counter() - began))
    print(f"server   {state['objects']:,} objects, {size / 1e6:.0f} MB of GeoJSON")
    print(f"         assembled and journaled  {made:10,.0f} objects/s")
    print(f"         streamed, median         {median(rates):10,.0f} objects/s  (at least 20,000)")


def measure_client(url: str, kind: str, repeats: int) -> None:
    """How long the client takes from the request to the last object in the hierarchy."""
    build = qupath.build()
    asked = {"do": "run", "url": url, "uri": "file:///slides/white.tif", "size": [SIDE, SIDE],
             "um": 0.25, "options": MODEL}  # fmt: skip
    runs: list[dict[str, Any]] = []
    for _ in range(repeats):
        began = os.times()
        command = ["java", f"-Xmx{HEAP_GB}g", "-cp", qupath.joined(build.harness(kind)), "Harness"]
        said = subprocess.run([*command, json.dumps(asked)], capture_output=True, check=True)
        runs.append(json.loads(said.stdout.splitlines()[-1]))
        ended = os.times()
        runs[-1]["cpu"] = ended.children_user + ended.children_system
        runs[-1]["cpu"] -= began.children_user + began.children_system
        assert runs[-1]["state"] == "done", runs[-1]["message"]
    seconds = median([run["seconds"] for run in runs])
    objects = runs[0]["objects"]
    print(f"client   {kind}: {objects:,} objects in {seconds:.1f} s, {objects / seconds:,.0f} /s")
    print(f"         heap after the run  {median([run['megabytes'] for run in runs]):8,.0f} MB"
          f"  (at most {HEAP_GB} GB; the JVM is given no more)")  # fmt: skip
    print(f"         CPU of the JVM      {median([run['cpu'] for run in runs]):8.1f} s")
    print(f"         first objects after {median([run['first'] for run in runs]):8.2f} s")
    print(f"         hierarchy events    {runs[0]['events']:8,}, at least "
          f"{min(run['shortest_pause'] for run in runs):.2f} s apart")  # fmt: skip


def measure_first(kind: str, repeats: int) -> None:
    """How long after a request the first objects are in the hierarchy, with slow tiles."""
    with tempfile.TemporaryDirectory() as folder:
        disks(Path(folder) / "disks.tif")
        more = "[file_uris]\n'/scans' = 'slides'\n"
        with serving.serving(Path(folder), Path(folder), more=more) as url:
            options = {"model": "slow", "parameters": {"seconds": TILE_S}}
            slide = {"uri": "file:///scans/disks.tif", "size": [6007, 5003], "um": 0.25}
            asked = {"do": "cancel", "url": url, "options": options, **slide}
            runs = [qupath.build().run(kind, **asked) for _ in range(repeats)]
    first = median([run["first"] for run in runs])
    print(f"first    tiles of {TILE_S} s: first objects after {first:.2f} s"
          f"  (at most {TILE_S + 1:.1f})")  # fmt: skip


def measure_clicks(kind: str) -> None:
    """How long after a click on the real slide the object is in the hierarchy."""
    from isoline.models import downloads
    from isoline.sources.registry import open_image

    slide = downloads.fetch(SAMPLE_SLIDE)
    size, spacing = (info := open_image(slide).info).size, info.spacing_um
    assert spacing is not None

    def click(x: float, y: float) -> dict[str, Any]:
        geometry = {"type": "Point", "coordinates": [x, y]}
        properties = {"objectType": "annotation"}
        return {"draw": [{"type": "Feature", "geometry": geometry, "properties": properties}]}

    places = [(4500 + 40 * k, 5200 + 25 * k) for k in range(10)]
    steps = [step for x, y in places for step in (click(x, y), click(x + 6, y + 4), {"do": "next"})]
    with tempfile.TemporaryDirectory() as folder:
        more = "[file_uris]\n'/scans' = 'slides'\n"
        with serving.serving(slide.parent, Path(folder), more=more) as url:
            said = qupath.build().run(
                kind, do="click", url=url, options={"model": "click"}, steps=steps,
                uri=f"file:///scans/{slide.name}", size=list(size), um=spacing.x,
            )  # fmt: skip
    seconds = [step["seconds"] for step in said["after"]]
    print(f"clicks   the first of all                 {seconds[0] * 1e3:6.0f} ms")
    print(f"         on another object, median        {median(seconds[3::3]) * 1e3:6.0f} ms")
    print(f"         again on the same, median        {median(seconds[1::3]) * 1e3:6.0f} ms")


def measure_upload() -> None:
    """How many bytes an upload costs, against the same pixels as one PNG."""
    from isoline.geometry.grid import Box
    from isoline.models import downloads
    from isoline.sources.registry import open_image

    source = open_image(downloads.fetch(SAMPLE_SLIDE))
    for side in (1024, 2048, 4096):
        region = Region.rectangle(2600, 3900, 2600 + side, 3900 + side)
        asked = UploadRequest(
            source.info.size, SegmentRequest("upload:", "nuclei", region), XY(0.2457, 0.2457)
        )
        area = footprint(asked)
        with tempfile.TemporaryDirectory() as folder:
            _, manifest = Uploads(Path(folder), Limits()).create(asked, area)
            step = manifest.layers[1].downsample
            coarse = min(range(len(source.info.levels)), key=lambda k: abs(
                source.info.levels[k].downsample.x - step))  # fmt: skip
            whole = source.read_level(coarse, Box(0, 0, *source.info.levels[coarse].size))
            overview = np.asarray(Image.fromarray(np.moveaxis(whole, 0, 2)).resize(
                (manifest.layers[1].area.width, manifest.layers[1].area.height)))  # fmt: skip
            sent = len(png(overview))
            for level, column, row in manifest.tiles:
                if level == 0:
                    pixels = source.read_level(0, manifest.tile(level, column, row))
                    sent += len(png(np.moveaxis(pixels, 0, 2)))
        alone = len(png(np.moveaxis(source.read_level(0, area), 0, 2)))
        print(f"upload   {side} x {side}: {sent / 1e6:6.1f} MB, {sent / alone:.3f} times the same "
              f"{area.width} x {area.height} pixels as one PNG  (at most 1.3)")  # fmt: skip


def measure_uploaded_results(kind: str, side: int = 2048) -> None:
    """What the client itself sends, and whether the result is that of the file on the server."""
    from isoline.geometry.grid import Box
    from isoline.models import downloads
    from isoline.sources.registry import open_image

    source = open_image(downloads.fetch(SAMPLE_SLIDE))
    pixels = np.moveaxis(source.read_level(0, Box(2600, 3900, 2600 + side, 3900 + side)), 0, 2)
    with tempfile.TemporaryDirectory() as folder:
        seen, unseen = Path(folder) / "seen.tif", Path(folder) / "unseen.png"
        um: dict[str, Any] = {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(seen, pixels, tile=(TILE, TILE), photometric="rgb", **um)
        unseen.write_bytes(alone := png(pixels))
        more = "[file_uris]\n'/scans' = 'slides'\n"
        asked = {"do": "run", "size": [side, side], "um": 0.25, "pixels": str(unseen)}
        asked["options"] = MODEL
        with serving.serving(Path(folder), Path(folder), more=more) as server:
            proxy = qupath.Proxy(server)
            with qupath.proxied(proxy) as url:
                build = qupath.build()
                at = build.run(kind, url=server, uri="file:///scans/seen.tif", **asked)
                away = build.run(kind, url=url, uri="file:///elsewhere/seen.tif", **asked)
    assert at["state"] == away["state"] == "done", (at["message"], away["message"])
    same = "identical to" if at["outlines"] == away["outlines"] else "OTHER THAN"
    print(f"upload   by the client, {side} x {side}: {proxy.sent / len(alone):.3f} times the PNG"
          f"  (at most 1.3)")  # fmt: skip
    print(f"         {away['children']:,} nuclei, {same} those that the server finds in the file")


def png(pixels: NDArray[np.generic]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG")
    return stream.getvalue()


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--client", default="script", choices=("script", "java"))
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    print(describe_machine())
    with (
        tempfile.TemporaryDirectory() as folder,
        serving_nuclei(Path(folder), given.objects) as url,
    ):
        measure_server(url, given.repeats)
        measure_client(url, given.client, given.repeats)
    measure_first(given.client, given.repeats)
    measure_clicks(given.client)
    measure_upload()
    measure_uploaded_results(given.client)


if __name__ == "__main__":
    main()
