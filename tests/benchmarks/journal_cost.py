"""What journal and queue add to a region and to a click.

    python -m tests.benchmarks.journal_cost

The same request on the same workers: straight through the pipeline, and as a job that is queued,
written to its journal and followed by a reader. Interleaved; what is compared are the medians.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from isoline import datasets, pipeline
from isoline.config import Limits
from isoline.engines.base import Agenda
from isoline.engines.local import LocalEngine
from isoline.images import Images
from isoline.jobs import Jobs
from isoline.pipeline import Prepared
from isoline.region import Region
from isoline.request import SegmentRequest
from isoline.surveys import Surveys
from tests.benchmarks.measuring import describe_machine, interleaved, median, seconds, spread

REGION = Region.rectangle(2600, 3900, 6696, 7996)
CLICK = Region.rectangle(5200, 5200, 5400, 5400)


def main() -> None:
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        shutil.copy(datasets.fetch(datasets.SAMPLE_SLIDE), data / "slide.svs")
        engine = LocalEngine(2, data / "weights")
        surveys = Surveys(data / "surveys")
        jobs = Jobs(data / "jobs", engine, surveys, Limits(), lambda _: _prepare(data, REGION))
        try:
            _compare("region", _prepare(data, REGION), engine, surveys, jobs, runs=5)
            _compare("click", _prepare(data, CLICK), engine, surveys, jobs, runs=21)
        finally:
            jobs.close()
            engine.close()


def _prepare(data: Path, region: Region) -> Prepared:
    request = SegmentRequest("slide.svs", "nuclei", region, tile=512)
    return pipeline.prepare(request, Images({"": data}), data / "weights")


def _compare(
    name: str, prepared: Prepared, engine: LocalEngine, surveys: Surveys, jobs: Jobs, runs: int
) -> None:
    def straight() -> None:
        agenda = Agenda(prepared.lattice, prepared.tiles, prepared.focus)
        for _ in pipeline.events(prepared, engine, surveys, agenda):
            pass

    def as_job() -> None:
        for _ in jobs.submit(b"{}", prepared).follow(-1, 1.0):
            pass

    def timed(work: Callable[[], object]) -> Callable[[], float]:
        return lambda: seconds(work)

    straight()
    as_job()
    figures = interleaved({"straight": timed(straight), "as a job": timed(as_job)}, runs)
    added = median(figures["as a job"]) - median(figures["straight"])
    print(f"\n{name}, {len(prepared.tiles)} tiles, medians of {runs}")
    for way, taken in figures.items():
        print(f"  {way:10} {spread([1e3 * each for each in taken], 1)} ms")
    share = 100 * added / median(figures["straight"])
    limit = "at most 5 ms" if name == "click" else "at most 3 %"
    print(f"  added      {1e3 * added:.1f} ms, {share:.1f} %   ({limit})")
    time.sleep(0.1)


if __name__ == "__main__":
    main()
