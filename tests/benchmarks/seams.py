"""Exact at every seam: the full matrix of tiles, orders, workers, regions and resolutions.

    python -m tests.benchmarks.seams [--quick]

Threshold on a slide of known shapes, against its truth and one untiled run; then `nuclei` on
8192 x 8192 pixels of the real slide. Every row must say "equal". The exit status counts failures.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely

from isoline.demo.slide import SAMPLE_SLIDE
from isoline.domain.request import SegmentRequest
from isoline.engines.engine import Engine
from isoline.engines.local import LocalEngine
from isoline.geometry.grid import XY
from isoline.geometry.region import Region
from isoline.images.catalog import Images
from isoline.models import downloads
from isoline.models.catalogue import ModelCatalogue
from tests.benchmarks.measuring import describe_machine
from tests.running import Outcome, SerialEngine, run, shapes
from tests.slides import disks

TILES = (256, 512, 1024, 2048)
WORKERS = (1, 2, 4)
LASSO = Region.from_geojson(
    {"type": "Polygon", "coordinates": [[[701, 655], [5333, 900], [2900, 4100], [701, 655]]]}
)
NUCLEI_REGION = Region.rectangle(2600, 3900, 2600 + 8192, 3900 + 8192)


class Matrix:
    """Runs requests and compares what they give with a reference."""

    def __init__(self, image: Path, data: Path, engines: dict[str, Engine]) -> None:
        self._images = Images.of_file(image)
        self._data = data
        self._engines = engines
        self.failures = 0

    def reference(self, name: str, request: SegmentRequest) -> Outcome:
        began = time.perf_counter()
        whole = run(request, self._images, self._engines["in order"], self._data, untiled=True)
        seconds = time.perf_counter() - began
        print(f"\n{name}: untiled {whole.count:,} objects, {whole.area_px:,} px, {seconds:.1f} s")
        self._check_geometry(whole)
        return whole

    def compare(self, request: SegmentRequest, wanted: Outcome, tiles: tuple[int, ...]) -> None:
        for tile in tiles:
            for name, engine in self._engines.items():
                began = time.perf_counter()
                found = run(replace(request, tile=tile), self._images, engine, self._data)
                seconds = time.perf_counter() - began
                self.expect(
                    f"  tile {tile:5} {name:12} {found.count:6,} objects {seconds:6.1f} s",
                    found.digest() == wanted.digest(),
                )

    def expect(self, row: str, equal: bool) -> None:
        self.failures += not equal
        print(f"{row}  {'equal' if equal else 'DIFFERENT'}", flush=True)

    def _check_geometry(self, outcome: Outcome) -> None:
        bad = wrong = 0
        for objects in outcome.final:
            geometries = np.array(shapes(objects))
            bad += int((~shapely.is_valid(geometries)).sum())
            wrong += int((shapely.area(geometries) != objects.area_px).sum())
        self.expect(f"  {bad} invalid geometries, {wrong} areas that differ", bad == wrong == 0)


def main(quick: bool) -> int:
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        engines: dict[str, Engine] = {
            "in order": SerialEngine(data / "weights"),
            "shuffled": SerialEngine(data / "weights", seed=3),
        }
        for count in WORKERS[1:2] if quick else WORKERS:
            engines[f"{count} worker{'s' * (count > 1)}"] = LocalEngine(
                count, ModelCatalogue(data / "weights")
            )
        try:
            return _threshold(data, engines, quick) + _nuclei(data, engines, quick)
        finally:
            for engine in engines.values():
                engine.close()


def _threshold(data: Path, engines: dict[str, Engine], quick: bool) -> int:
    slide = disks(data / "disks.tif")
    matrix = Matrix(slide.path, data, engines)
    tiles = TILES[1:2] if quick else TILES
    for output in ("instances", "mask"):
        parameters = {"below": 180, "output": output}
        request = SegmentRequest(slide.path.name, "threshold", parameters=parameters)
        whole = matrix.reference(f"threshold, {output}", request)
        areas = np.concatenate([objects.area_px for objects in whole.final])
        truth = sorted(areas) == sorted(slide.area_px)
        matrix.expect(f"  truth: {slide.count:,} shapes of {slide.area_px.sum():,} px", truth)
        matrix.compare(request, whole, tiles)

        coarse = replace(request, at_um=0.37, focus=XY(3000, 2500))
        whole = matrix.reference(f"threshold, {output}, scale 1.48", coarse)
        matrix.compare(coarse, whole, tiles)

        inside = replace(request, region=LASSO)
        whole = matrix.reference(f"threshold, {output}, in a lasso", inside)
        matrix.compare(inside, whole, tiles)
    return matrix.failures


def _nuclei(data: Path, engines: dict[str, Engine], quick: bool) -> int:
    slide = downloads.fetch(SAMPLE_SLIDE)
    matrix = Matrix(slide, data, engines)
    region = Region.rectangle(7001, 6003, 9049, 8051) if quick else NUCLEI_REGION
    request = SegmentRequest(slide.name, "nuclei", region=region)
    images = Images.of_file(slide)
    whole = run(replace(request, tile=4096), images, engines["in order"], data)
    print(f"\nnuclei on {region.bounds}: tile 4096 {whole.count:,} objects")
    matrix.compare(request, whole, TILES[1:3] if quick else TILES)
    coarse = replace(request, at_um=0.4)
    whole = run(replace(coarse, tile=4096), images, engines["in order"], data)
    print(f"\nnuclei at 0.4 um: tile 4096 {whole.count:,} objects")
    matrix.compare(coarse, whole, TILES[1:2] if quick else TILES[1:])
    return matrix.failures


if __name__ == "__main__":
    sys.exit(main("--quick" in sys.argv))
