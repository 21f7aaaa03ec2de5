"""The demonstration: a real slide, a server, and contours streamed through its HTTP API."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from isoline import client as api
from isoline.config.settings import Settings
from isoline.demo import child_server
from isoline.demo import slide as demo
from isoline.errors import Broken
from isoline.models import downloads
from isoline.models.base import Weights

REGION = (4400, 5200, 8496, 9296)
"""4096 x 4096 pixels of tissue in the sample slide."""
CLOSE_UP = (6000, 6700, 6768, 7468)
"""Shown next to it at full resolution."""
MODEL = "nuclei"
PICTURE_PX = 1024
_COLOR = (0, 255, 128)


@dataclass
class Drawn:
    """The final features, as a viewer would display them."""

    features: list[dict[str, Any]] = field(default_factory=list)
    first_contour: float | None = None
    """Seconds from the request to the first contour."""
    seconds: float = 0.0


def run(settings: Settings, directory: Path, *, once: bool) -> None:
    """Fetch the sample slide, serve it, segment a region as a viewer would, and show the result.

    `contours.geojson` and `contours.png` are written to `directory`. Unless `once`, the server runs
    until Ctrl-C. Raises Broken if the slide cannot be fetched or the server does not start.
    """
    slide = downloads.fetch(demo.SAMPLE_SLIDE, settings.data / "samples")
    console = Console(stderr=True, highlight=False)
    port = child_server.free_port(settings.server.port)
    command = [sys.executable, "-m", "isoline", "serve", "--images", str(slide.parent)]
    with child_server.running([*command, "--port", str(port)], port, console) as url:
        name = f"{slide.parent.name}/{slide.name}"
        console.print(f"serving {slide.name} at {url}")
        drawn = _segment(api.Client(url, settings.server.token), name, console)
        geojson, picture = directory / "contours.geojson", directory / "contours.png"
        collection = {"type": "FeatureCollection", "features": drawn.features}
        geojson.write_text(json.dumps(collection), encoding="utf-8")
        _draw(url, settings.server.token, name, drawn.features).save(picture)
        console.print(
            f"{len(drawn.features):,} nuclei in {drawn.seconds:.1f} s, the first contours after"
            f" {drawn.first_contour or drawn.seconds:.2f} s\n"
            f"wrote {geojson} and {picture}"
        )
        if not once:
            console.print(
                f"\nStill serving. Next:\n"
                f"  open {url} in a browser and segment what you see\n"
                f"  isoline segment {slide} --model tissue --out tissue.geojson\n"
                f"  isoline serve --images YOUR_SLIDES\n"
                f"Press Ctrl-C to stop the server."
            )
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    time.sleep(3600)


def _segment(client: api.Client, image: str, console: Console) -> Drawn:
    drawn = Drawn()
    shown: dict[str, dict[str, Any]] = {}
    began = time.monotonic()
    centre = ((REGION[0] + REGION[2]) / 2, (REGION[1] + REGION[3]) / 2)
    columns = (TextColumn("segmenting"), BarColumn(), TextColumn("{task.fields[count]:,} nuclei"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("", total=None, count=0)
        job = client.submit(image, MODEL, region=REGION, focus=centre, tile=512)
        for event in job.events():
            match event:
                case api.Contours():
                    drawn.first_contour = drawn.first_contour or time.monotonic() - began
                    for gone in event.replaces:
                        shown.pop(gone, None)
                    shown |= {feature["id"]: feature for feature in event.features}
                    bar.update(task, count=len(shown))
                case api.Progress():
                    bar.update(task, completed=event.tiles_done, total=event.tiles)
                case api.Warned():
                    console.print(f"warning: {event.message}")
                case api.Failed():
                    raise Broken(event.message, event.remedy)
    drawn.seconds = time.monotonic() - began
    drawn.features = list(shown.values())
    return drawn


def _draw(url: str, token: str, image: str, features: list[dict[str, Any]]) -> Image.Image:
    """Return the region and a close-up, side by side, with the contours drawn over the tissue."""
    both = Image.new("RGB", (2 * PICTURE_PX, PICTURE_PX))
    for column, box in enumerate((REGION, CLOSE_UP)):
        answer = requests.get(
            f"{url}/v1/images/{quote(image)}/region",
            params={"box": ",".join(map(str, box)), "size": str(PICTURE_PX)},
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=60,
        )
        answer.raise_for_status()
        x0, y0, x1, y1 = map(float, answer.headers["X-Isoline-Box"].split(","))
        tissue = Image.open(io.BytesIO(answer.content))
        scale = (x1 - x0) / tissue.width, (y1 - y0) / tissue.height
        pen = ImageDraw.Draw(tissue)
        for feature in features:
            for ring in _rings(feature["geometry"]):
                line = [((x - x0) / scale[0], (y - y0) / scale[1]) for x, y in ring]
                pen.line(line, fill=_COLOR, width=1 if scale[0] > 2 else 2)
        both.paste(tissue, (column * PICTURE_PX, 0))
    return both


def _rings(geometry: dict[str, Any]) -> Iterator[list[list[float]]]:
    many = geometry["type"] == "MultiPolygon"
    for polygon in geometry["coordinates"] if many else [geometry["coordinates"]]:
        yield from polygon


SAMPLE_SLIDE = Weights(
    file="TCGA-DU-6399-01A-01-TS1.svs",
    sha256="a193f20c7c29f008a0c997a87bdb17c6ba5ecb1d66b626d77c022b602c39d935",
    requirement="histomicsui==2.0.0a2",
    archive_sha256="8d7d0ed42c16f30047e8740cc7be28817401de0721371bc6f951974d02f25c03",
    member="histomicsui-2.0.0a2/sample_data/sample_svs_image.TCGA-DU-6399-01A-01-TS1."
    "e8eb65de-d63e-42db-af6f-14fefbbdf7bd.svs",
    binary=False,
)
"""A real H&E slide from TCGA: glioma, 31872 x 13835 pixels, 0.2457 um, 21.7 MB."""
