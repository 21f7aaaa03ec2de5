"""How fast pixels come through Girder, beside a plain client that fetches the same tiles.

    python -m tests.benchmarks.dsa_pixels

To reach: at most 1.2 times the plain client, which has as many threads and keeps connections, and
the pixels of the file. Each run reads a part of the slide that nobody has read before, so that
Girder's own cache helps neither.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openslide
import requests

from isoline.config.settings import Girder
from isoline.demo.slide import SAMPLE_SLIDE
from isoline.geometry.grid import Box
from isoline.images.catalog import Caller, Descriptions
from isoline.images.girder import GirderImages
from isoline.models import downloads
from isoline.sources.girder import CONNECTIONS, EXACT, GirderImage
from tests.benchmarks.measuring import describe_machine, median, seconds, spread
from tests.dsa.stack import Stack, running

TILE = 240
TILES = 10
"""Along each side of what one run reads: 2400 x 2400 pixels."""
RUNS = 8


def main() -> None:
    print(describe_machine())
    slide = downloads.fetch(SAMPLE_SLIDE)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), slide) as stack:
        image = _image(stack)
        source = image.open()
        _same(source.read_level(0, Box(6000, 6700, 7000, 7700)), slide)
        ours: list[float] = []
        plain: list[float] = []
        for run in range(RUNS):
            # of tiles, through the tissue; what was the one's is the other's in the next run
            x, (y, z) = TILES * run, (18, 28) if run % 2 else (28, 18)
            ours.append(seconds(lambda: source.read_level(0, _box(x, y))))  # noqa: B023
            plain.append(seconds(lambda: _fetch(image, x, z)))  # noqa: B023
        source.close()
    print(f"isoline      {spread(ours)} s")
    print(f"plain client {spread(plain)} s")
    print(f"ratio        {median(ours) / median(plain):.2f}, to reach 1.2")


def _image(stack: Stack) -> GirderImage:
    finder = GirderImages({"archive": Girder(stack.url)}, Descriptions().of)
    caller = Caller({"girder": stack.guest.token})
    image = finder.find(f"girder:archive/{stack.item}", caller).path
    assert isinstance(image, GirderImage)
    return image


def _box(x: int, y: int) -> Box:
    """Return the pixels of TILES x TILES whole tiles."""
    return Box(x * TILE, y * TILE, (x + TILES) * TILE, (y + TILES) * TILE)


def _fetch(image: GirderImage, x: int, y: int) -> None:
    """Fetch the same number of the same kind of tiles, and throw them away."""
    with requests.Session() as session:
        session.trust_env = False
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS)
        session.mount("http://", adapter)
        session.headers["Girder-Token"] = image.token
        root = f"{image.url}/api/v1/item/{image.item}/tiles/zxy/{image.zooms[0]}"

        def one(place: tuple[int, int]) -> int:
            answer = session.get(f"{root}/{place[0]}/{place[1]}{EXACT}", timeout=60)
            answer.raise_for_status()
            return len(answer.content)

        places = [(x + i, y + j) for j in range(TILES) for i in range(TILES)]
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(one, places))


def _same(pixels: np.ndarray, slide: Path) -> None:
    with openslide.OpenSlide(slide) as opened:
        seen = np.asarray(opened.read_region((6000, 6700), 0, (1000, 1000)).convert("RGB"))
    same = np.array_equal(np.moveaxis(pixels, 0, 2), seen)
    print(f"pixels of the file: {'identical' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
