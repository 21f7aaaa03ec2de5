"""Where networks run: every GPU has a worker of its own, and the others compute beside it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from isoline.domain.events import Done
from isoline.engines.local import LocalEngine
from isoline.errors import Malformed
from isoline.models import devices
from isoline.models.bundles.files import Bundle
from isoline.models.catalogue import ModelCatalogue
from tests import bundles
from tests.jobs.test_volume_jobs import Running, catalogue, folder  # noqa: F401
from tests.models.test_bundles import labels, scan

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_what_may_be_configured() -> None:
    assert devices.gpus("cpu") == ()
    assert devices.gpus("cuda") == ("cuda:0",)
    assert devices.gpus("cuda:3") == ("cuda:3",)
    assert len(devices.gpus("auto")) == torch.cuda.device_count()
    with pytest.raises(Malformed, match="choose auto"):
        devices.gpus("gpu")


@pytest.mark.slow
def test_networks_run_on_the_worker_of_the_gpu(
    folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A CPU plays the GPU: its worker gets the bundle, the other one gets the threshold."""
    monkeypatch.setattr(devices, "gpus", lambda wanted: (wanted,))
    engine = LocalEngine(1, catalogue(folder))
    seen: dict[str, set[int]] = {}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.002):
            for place, worker in enumerate(engine._scheduler.workers):
                for run in list(engine._scheduler.runs):
                    if run.number in worker.begun:
                        seen.setdefault(run.task.model, set()).add(place)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        while not engine.ready:
            time.sleep(0.05)
        for name in ("bundle:slow", "threshold3d"):
            job = Running(folder, engine, name.removeprefix("bundle:"))
            assert isinstance(list(job.batches)[-1].events[-1], Done)
    finally:
        stop.set()
        watcher.join()
        engine.close()
    assert seen == {"bundle:slow": {1}, "threshold3d": {0}}


@GPU
def test_a_gpu_gives_the_same_labels(tmp_path: Path) -> None:
    """Nearly those of a CPU, and the same bits in any order."""
    name = "bundle:tiny"
    kind = ModelCatalogue(Path(), {name: Bundle(bundles.write(tmp_path / "b"))}).get(name)
    on_cpu, on_gpu = kind({}, "cpu"), kind({}, "cuda:0")
    found = [labels(on_gpu, scan(focus=focus)) for focus in (0, 28, 11)]  # type: ignore[arg-type]
    assert all((each == found[0]).all() for each in found)
    assert np.mean(found[0] == labels(on_cpu, scan())) > 0.999  # type: ignore[arg-type]
