"""How close a region comes to the physical limit: nobody waits, nothing is done twice.

    python -m tests.benchmarks.overlap [nuclei | epithelium ...] [--runs 5]

The limit of a run is the larger of the pure model time on the same tiles held in memory and the
CPU-seconds of reading, inference and contouring, each measured alone, divided by the cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import cv2
import psutil

from isoline.config.settings import Settings
from isoline.demo.slide import SAMPLE_SLIDE
from isoline.domain.request import SegmentRequest
from isoline.engines.engine import Agenda
from isoline.engines.local import LocalEngine
from isoline.geometry.grid import Box
from isoline.images.catalog import Images
from isoline.inference.resources import Resources
from isoline.inference.tiles import TiledTask
from isoline.jobs.journal import JournalWriter
from isoline.models import downloads
from isoline.models.catalogue import MODELS, ModelCatalogue
from isoline.models.model import Model, Patch, Prediction
from isoline.models.weights import pull, weight_files
from isoline.pipeline.tiled import TiledPlan
from tests.benchmarks.measuring import describe_machine, interleaved, median, spread
from tests.planning import tiled_plan

TILES = 64
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Alone:
    """CPU-seconds of the stages, each by itself on one core."""

    read: float
    infer: float
    contour: float

    @property
    def total(self) -> float:
        return self.read + self.infer + self.contour


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["nuclei", "epithelium"])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(describe_machine())
    slide = downloads.fetch(SAMPLE_SLIDE)
    weights = Settings().weights
    for name in options.models or ["nuclei", "epithelium"]:
        pull(MODELS.load(name).spec, weights)
        with tempfile.TemporaryDirectory() as folder:
            _measure(name, slide, weights, Path(folder), options.runs)


def _measure(name: str, slide: Path, weights: Path, data: Path, runs: int) -> None:
    request = SegmentRequest(slide.name, name)
    prepared = tiled_plan(request, Images.of_file(slide), weights)
    engine = LocalEngine(CORES, ModelCatalogue(weights))
    try:
        agenda = Agenda(prepared.lattice, prepared.tiles, None)
        survey = prepared.surveys.get(prepared.task, engine, agenda)
        assert survey is not None
        task = prepared.task.with_survey(survey)
        tiles = [tile for tile in prepared.tiles if _has_tissue(task, tile.write)][:TILES]
        prepared = replace(prepared, tiles=tuple(tiles))
        while not engine.ready:
            time.sleep(0.1)
        _run(prepared, engine, data)  # workers open the slide and load the model once
        stages: list[Alone] = []
        bench = Resources(ModelCatalogue(weights), "cpu")
        patches = [task.patch(bench, tile.read) for tile in tiles]

        def limit() -> float:
            stages.append(_alone(bench, task, prepared, patches))
            return max(_pure_model(name, weights, patches), stages[-1].total / CORES)

        busy: list[float] = []

        def wall() -> float:
            before = _cpu(engine.process_ids)
            seconds = _run(prepared, engine, data)
            busy.append((_cpu(engine.process_ids) - before) / (seconds * CORES))
            return seconds

        figures = interleaved({"wall": wall, "limit": limit}, runs)
    finally:
        engine.close()
    ratios = [wall / best for wall, best in zip(figures["wall"], figures["limit"], strict=True)]
    pixels = sum(tile.write.area for tile in tiles) / 1e6
    print(f"\n{name}, {len(tiles)} tiles, {pixels:.0f} megapixels, {CORES} cores")
    for stage in ("read", "infer", "contour"):
        print(f"  {stage:8} alone {spread([getattr(each, stage) for each in stages])} CPU-s")
    print(f"  limit          {spread(figures['limit'])} s")
    print(f"  wall           {spread(figures['wall'])} s")
    print(f"  wall / limit   {spread(ratios)}")
    print(f"  workers busy   {spread([100 * share for share in busy], 0)} % of the wall time")
    print(f"  megapixels/s   {pixels / median(figures['wall']):.1f}")


def _cpu(process_ids: list[int]) -> float:
    """Return the CPU-seconds that these processes have used."""
    times = [psutil.Process(each).cpu_times() for each in process_ids]
    return float(sum(each.user + each.system for each in times))


def _has_tissue(task: TiledTask, box: Box) -> bool:
    return task.tissue is None or task.tissue.meets(task.plane.grid, box)


def _run(prepared: TiledPlan, engine: LocalEngine, data: Path) -> float:
    """Run the job as the server does, journal included; return its wall seconds."""
    path = data / "journal"
    path.unlink(missing_ok=True)
    journal = JournalWriter(path)
    agenda = Agenda(prepared.lattice, prepared.tiles, None)
    began = time.perf_counter()
    for batch in prepared.events(engine, agenda):
        journal.append(batch)
    seconds = time.perf_counter() - began
    journal.close()
    return seconds


def _alone(bench: Resources, task: TiledTask, prepared: TiledPlan, patches: list[Patch]) -> Alone:
    model = task.load_model(bench)

    def cpu(work: Callable[[], object]) -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    read = cpu(lambda: [task.patch(bench, tile.read) for tile in prepared.tiles])
    predictions: list[Prediction] = []
    infer = cpu(lambda: predictions.extend(model.infer(patch) for patch in patches))
    pairs = list(zip(prepared.tiles, predictions, strict=True))
    contour = cpu(lambda: [task.found(tile, made) for tile, made in pairs])
    return Alone(read, infer, contour)


_model: Model
_patches: list[Patch]


def _load(name: str, weights: Path, patches: list[Patch]) -> None:
    global _model, _patches  # a pool's initializer has no other way to leave things for its tasks
    cv2.setNumThreads(1)
    kind = MODELS.load(name)
    _model, _patches = kind(weight_files(kind.spec, weights), "cpu"), patches
    _model.infer(patches[0])


def _infer(k: int) -> None:
    _model.infer(_patches[k])


def _pure_model(name: str, weights: Path, patches: list[Patch]) -> float:
    """Return the wall seconds of inference alone, on every core, pixels in memory."""
    context = get_context("fork")  # the patches come along without a copy
    with ProcessPoolExecutor(CORES, context, _load, (name, weights, patches)) as pool:
        list(pool.map(_infer, range(CORES * 2)))
        began = time.perf_counter()
        list(pool.map(_infer, range(len(patches))))
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
