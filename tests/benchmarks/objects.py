"""How many objects a second one core traces, names, journals and encodes.

    python -m tests.benchmarks.objects

Each tile is read with a halo, as the pipeline reads it; what counts are the objects it owns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isoline.domain.batch import Batch
from isoline.domain.events import Contours, Objects, Scope
from isoline.domain.object_ids import identify, scope_key
from isoline.exports.geojson import GeoJSON
from isoline.geometry.grid import Box
from isoline.geometry.seams import Owned, own
from isoline.jobs.journal import JournalWriter
from isoline.testing.contracts.results import STARTED
from tests.benchmarks.measuring import describe_machine, interleaved, median, seconds, spread

TILE_PX, HALO_PX = 1024, 128
WRITE = Box(TILE_PX, TILE_PX, 2 * TILE_PX, 2 * TILE_PX)
READ = WRITE.grow(HALO_PX)
IMAGE = Box(0, 0, 3 * TILE_PX, 3 * TILE_PX)
DENSITIES = (200, 1000, 4000)
"""Objects per tile: a sparse one, a usual one, a lymph node."""
KEY = scope_key(Scope("fingerprint", "nuclei", "1", ()))


def nuclei(per_tile: int, ragged: bool) -> NDArray[np.int32]:
    """Return labels (y, x) over READ: ellipses as large as nuclei at 0.25 um, as they come.

    Their outlines are smooth, or `ragged` as a threshold leaves them.
    """
    rng = np.random.default_rng(per_tile)
    labels = np.zeros((READ.height, READ.width), np.int32)
    count = per_tile * READ.area // WRITE.area
    largest = min(22.0, 0.45 * (READ.area / count) ** 0.5)
    y, x = np.mgrid[-24:25, -24:25]
    for label in range(1, count + 1):
        top, left = rng.integers(0, READ.height - 49), rng.integers(0, READ.width - 49)
        a, b = rng.uniform(0.4, 1, 2) * largest
        turn = rng.uniform(0, np.pi)
        u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        edge = 1 + 0.1 * rng.standard_normal(u.shape) if ragged else 1
        window = labels[top : top + 49, left : left + 49]
        window[((u / a) ** 2 + (v / b) ** 2 < edge) & (window == 0)] = label
    return labels


def measure(labels: NDArray[np.int32], folder: Path) -> tuple[Owned, dict[str, list[float]]]:
    """Return what is owned, and the seconds of five runs of each step."""
    owned = own(labels, READ, WRITE, IMAGE)
    label = np.zeros(len(owned.number), np.uint16)
    objects = Objects(
        owned.polygons,
        identify(KEY, label, owned.polygons),
        label,
        owned.area_px,
        owned.anchor,
        np.zeros(len(label), np.bool_),
        {"score": np.linspace(0, 1, len(label), dtype=np.float32)},
    )
    journal = JournalWriter(folder / f"journal-{len(label)}-{owned.polygons.corners.size}")

    def trace_and_own() -> None:
        own(labels, READ, WRITE, IMAGE)

    def ids() -> None:
        identify(KEY, label, owned.polygons)

    def write() -> None:
        journal.append(Batch(journal.last_seq + 1, (1, 1), (Contours(objects),)))

    def encode() -> None:
        GeoJSON().features(objects, STARTED, False)

    steps: dict[str, Callable[[], float]] = {
        "trace + own": lambda: seconds(trace_and_own),
        "ids": lambda: seconds(ids),
        "journal": lambda: seconds(write),
        "encode": lambda: seconds(encode),
    }
    return owned, interleaved(steps)


def main() -> None:
    """Print one line for each density and kind of outline."""
    print(describe_machine())
    print(f"tiles of {TILE_PX} + 2 x {HALO_PX} px, one core, medians of 5 (least to most)")
    with tempfile.TemporaryDirectory() as folder:
        for ragged in (False, True):
            for density in DENSITIES:
                _print_row(nuclei(density, ragged), ragged, Path(folder))


def _print_row(labels: NDArray[np.int32], ragged: bool, folder: Path) -> None:
    owned, times = measure(labels, folder)
    count = len(owned.number)
    total = sum(median(times[step]) for step in times)
    corners = len(owned.polygons.corners) / count
    print(
        f"{count:5d} {'ragged' if ragged else 'smooth'} objects of {corners:3.0f} corners: "
        f"{count / total:7.0f} objects/s"
        + "".join(f"; {step} {spread([1e3 * t for t in times[step]])} ms" for step in times)
    )


if __name__ == "__main__":
    main()
