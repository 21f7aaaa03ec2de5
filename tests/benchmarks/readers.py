"""How fast each reader gives tiles of a slide, and whether they give the same pixels.

    python -m tests.benchmarks.readers SLIDE

Reads the same random tiles through every reader, one and two threads, in five interleaved rounds,
and prints the median milliseconds per tile, the ratio to OpenSlide in the same run, and how far
the pixels are from OpenSlide's. Each round opens its readers anew: no cache carries over but the
page cache of the system.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
import openslide
from numpy.typing import NDArray

from isoline.geometry.grid import Box
from isoline.sources.large_image import LargeImageSource
from isoline.sources.openslide import OpenSlideSource
from isoline.sources.source import Source
from isoline.sources.tiff import TiffSource
from tests.benchmarks.measuring import describe_machine, interleaved, median, seconds

TILES = 12

Read: TypeAlias = Callable[[Box], NDArray[np.generic]]


def through_openslide(path: Path) -> Read:
    """Return what a user of openslide-python would write."""
    slide = openslide.OpenSlide(path)

    def read(box: Box) -> NDArray[np.generic]:
        region = slide.read_region((box.x0, box.y0), 0, (box.width, box.height))
        return np.asarray(region)[..., :3]

    return read


def through(kind: type[Source]) -> Callable[[Path], Read]:
    def opened(path: Path) -> Read:
        source = kind.open(path)
        return lambda box: np.moveaxis(source.read_level(0, box), 0, 2)

    return opened


READERS: dict[str, Callable[[Path], Read]] = {
    "OpenSlide": through_openslide,
    "tifffile + imagecodecs": through(TiffSource),
    "large_image": through(LargeImageSource),
    "isoline's default": through(OpenSlideSource),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("slide", type=Path)
    path: Path = parser.parse_args().slide
    path.read_bytes()  # into the page cache: no reader pays for the first touch
    info = OpenSlideSource.open(path).info
    print(f"{path.name}: {info.size[0]} x {info.size[1]}; {describe_machine()}")
    print("\nms per tile, and times as fast as OpenSlide")
    for side in (512, 1024):
        for threads in (1, 2):
            took = measure(path, info.size, side, threads)
            print(f"\n{side} px, threads: {threads}")
            for name, milliseconds in took.items():
                ratio = took["OpenSlide"] / milliseconds
                print(f"  {name:24s}{milliseconds:8.1f}{ratio:8.2f}")
    print("\ngrey values from OpenSlide's: largest, mean")
    boxes = places(info.size, 1024, seed=99)[:4]
    expected = [through_openslide(path)(box).astype(int) for box in boxes]
    for name, opened in READERS.items():
        read = opened(path)
        apart = np.abs(
            [read(box).astype(int) - there for box, there in zip(boxes, expected, strict=True)]
        )
        print(f"  {name:24s}{apart.max():8d}{apart.mean():8.2f}")


def measure(path: Path, size: tuple[int, int], side: int, threads: int) -> dict[str, float]:
    """Return the median milliseconds per tile of each reader."""

    def timed(opened: Callable[[Path], Read]) -> Callable[[], float]:
        rounds = itertools.count()  # every reader meets the same places in the same round

        def run() -> float:
            read, boxes = opened(path), places(size, side, seed=next(rounds))
            with ThreadPoolExecutor(threads) as pool:
                return 1000 * seconds(lambda: list(pool.map(read, boxes))) / len(boxes)

        return run

    figures = interleaved({name: timed(opened) for name, opened in READERS.items()})
    return {name: median(times) for name, times in figures.items()}


def places(size: tuple[int, int], side: int, seed: int) -> Sequence[Box]:
    """Return random boxes from the middle of the slide, where the tissue is."""
    rng = random.Random(seed)
    boxes = []
    for _ in range(TILES):
        x, y = (rng.randrange(length // 8, length * 7 // 8 - side) for length in size)
        boxes.append(Box(x, y, x + side, y + side))
    return boxes


if __name__ == "__main__":
    main()
