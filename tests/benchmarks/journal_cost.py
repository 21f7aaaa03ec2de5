"""What journal and queue add to a region and to a click.

    python -m tests.benchmarks.journal_cost

The same request on the same workers: straight through the pipeline, and as a job that is queued,
written to its journal and followed by a reader. The two take turns, and each is compared with its
neighbour: the medians of these differences stay true on a busy machine. Beside the time on the
clock stands the processor time of the server's own process, which others hardly disturb.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from isoline.config.settings import Limits
from isoline.demo.slide import SAMPLE_SLIDE
from isoline.domain.request import SegmentRequest
from isoline.engines.engine import Agenda
from isoline.engines.local import LocalEngine
from isoline.geometry.region import Region
from isoline.images.catalog import Images
from isoline.jobs.queue import Jobs
from isoline.models import downloads
from isoline.models.catalogue import ModelCatalogue
from isoline.pipeline.surveys import Surveys
from isoline.pipeline.tiled import TiledPlan
from tests.benchmarks.measuring import describe_machine, median, spread
from tests.planning import tiled_plan

REGION = Region.rectangle(2600, 3900, 6696, 7996)
CLICK = Region.rectangle(5200, 5200, 5400, 5400)


@dataclass(frozen=True)
class Taken:
    """What one run took, in milliseconds."""

    wall: float
    cpu: float
    """Of this process: the workers compute the same either way."""


def main() -> None:
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        shutil.copy(downloads.fetch(SAMPLE_SLIDE), data / "slide.svs")
        engine = LocalEngine(2, ModelCatalogue(data / "weights"))
        surveys = Surveys(data / "surveys")
        jobs = Jobs(data / "jobs", engine, Limits(), lambda _: _prepare(data, REGION))
        try:
            _compare("region", _prepare(data, REGION), engine, surveys, jobs, pairs=9)
            _compare("click", _prepare(data, CLICK), engine, surveys, jobs, pairs=41)
        finally:
            jobs.close()
            engine.close()


def _prepare(data: Path, region: Region) -> TiledPlan:
    request = SegmentRequest("slide.svs", "nuclei", region, tile=512)
    return tiled_plan(request, Images({"": data}), data / "weights")


def _compare(
    name: str, prepared: TiledPlan, engine: LocalEngine, surveys: Surveys, jobs: Jobs, pairs: int
) -> None:
    def straight() -> None:
        agenda = Agenda(prepared.lattice, prepared.tiles, prepared.focus, urgent=name == "click")
        for _ in prepared.events(engine, agenda):
            pass

    def as_job() -> None:
        for _ in jobs.submit(b"{}", prepared).follow(-1, 1.0):
            pass

    straight()
    as_job()
    without, within = [], []
    for number in range(pairs):
        if number % 2:
            within.append(_taken(as_job))
            without.append(_taken(straight))
        else:
            without.append(_taken(straight))
            within.append(_taken(as_job))
    print(f"\n{name}, {len(prepared.tiles)} tiles, {pairs} pairs")
    for clock in ("wall", "cpu"):
        plain, job = ([getattr(taken, clock) for taken in runs] for runs in (without, within))
        added = median([b - a for a, b in zip(plain, job, strict=True)])
        print(f"  {clock:4} straight {spread(plain, 1)} ms")
        print(f"       as a job {spread(job, 1)} ms")
        print(f"       added    {added:.1f} ms, {100 * added / median(wall_of(without)):.1f} %")
    print(
        f"  goal          {'at most 5 ms' if name == 'click' else 'at most 3 %'} of the wall time"
    )


def wall_of(runs: list[Taken]) -> list[float]:
    return [taken.wall for taken in runs]


def _taken(work: Callable[[], object]) -> Taken:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    taken = Taken(1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu))
    time.sleep(0.05)  # what a job does after its last event is not the next one's
    return taken


if __name__ == "__main__":
    main()
