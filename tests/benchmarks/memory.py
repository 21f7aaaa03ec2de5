"""Memory does not grow with the slide.

    python -m tests.benchmarks.memory [nuclei | epithelium ...]

Peak resident memory above idle, of this process and its workers, on the whole real slide and on
4096 x 4096 pixels of it; each in a fresh process.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from isoline.config.settings import Settings
from isoline.demo.slide import SAMPLE_SLIDE
from isoline.domain.request import SegmentRequest
from isoline.engines.engine import Agenda
from isoline.engines.local import LocalEngine
from isoline.geometry.region import Region
from isoline.images.catalog import Images
from isoline.jobs.journal import JournalWriter
from isoline.models import downloads
from isoline.models.catalogue import MODELS, ModelCatalogue
from isoline.models.weights import pull
from tests.benchmarks.measuring import describe_machine, family_rss
from tests.planning import tiled_plan

REGION = Region.rectangle(4400, 5200, 8496, 9296)
"""4096 x 4096 pixels of dense tissue."""


class Peak:
    """Watches the memory of this process and its children for the length of a block."""

    def __init__(self) -> None:
        self.bytes = 0
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Peak:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.bytes = max(self.bytes, family_rss())


def measure(model: str, where: str) -> None:
    """Print the bytes above idle of one run; called in a process of its own."""
    slide = downloads.fetch(SAMPLE_SLIDE)
    weights = Settings().weights
    region = REGION if where == "region" else None
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        request = SegmentRequest(slide.name, model, region=region)
        prepared = tiled_plan(request, Images.of_file(slide), weights)
        engine = LocalEngine(2, ModelCatalogue(weights))
        while not engine.ready:
            time.sleep(0.1)
        idle = family_rss()
        journal = JournalWriter(data / "journal")
        agenda = Agenda(prepared.lattice, prepared.tiles, None)
        with Peak() as peak:
            for batch in prepared.events(engine, agenda):
                journal.append(batch)
        engine.close()
    print(peak.bytes - idle)


def main(models: list[str]) -> None:
    print(describe_machine())
    for model in models:
        pull(MODELS.load(model).spec, Settings().weights)
        above = {}
        for where in ("region", "slide"):
            command = [sys.executable, "-m", "tests.benchmarks.memory", "--one", model, where]
            ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            above[where] = int(ran.stdout.split()[-1])
            print(f"{model}: {above[where] / 1e6:.0f} MB above idle on the {where}")
        print(f"{model}: slide / region {above['slide'] / above['region']:.2f}\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure(*sys.argv[2:4])
    else:
        main(sys.argv[1:] or ["nuclei", "epithelium"])
