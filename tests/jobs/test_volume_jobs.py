"""A volume that takes long: stopped, looked at elsewhere, and taken up again."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray

from isoline.domain import mask_rle
from isoline.domain.batch import Batch
from isoline.domain.events import Cancelled, Done, Event, Mask, Progress
from isoline.domain.request import SegmentRequest
from isoline.engines.local import LocalEngine
from isoline.images.catalog import Images
from isoline.models.bundles.files import Bundle
from isoline.models.catalogue import ModelCatalogue
from tests import bundles, volumes
from tests.planning import volume_plan

pytestmark = pytest.mark.slow

WHERE = volumes.grid(size=(24, 20, 60))
WINDOW = [24, 20, 4]
"""Sixty slices in rows of one window and four slices, overlapping by one."""


class Slow(torch.nn.Module):
    """Above 600 or not, after so many rounds of work that change nothing."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.ones(256, 256)
        for _ in range(self.rounds):
            y = torch.mm(y, y).clamp(0.0, 1.0)
        high = (x - 0.55) * y.mean()
        return torch.cat([-high, high], 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volumes")
    ras = np.diag([-1, -1, 1, 1.0]) @ WHERE.affine
    voxels = np.random.default_rng(0).integers(-500, 1500, WHERE.shape).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels.T, ras), folder / "ct.nii.gz")
    config = bundles.inference(spacing=None, overlap=0.25)
    config["window"] = WINDOW
    said = bundles.metadata(("background", "bright"))
    for name, rounds in (("slow", 40), ("stuck", 1_000_000)):
        bundles.write(folder / name, said, config, Slow(rounds))
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(1, catalogue(folder))
    yield engine
    engine.close()


def catalogue(folder: Path) -> ModelCatalogue:
    """Return what is installed and the bundles in `folder`."""
    return ModelCatalogue(
        folder, {f"bundle:{each}": Bundle(folder / each) for each in ("slow", "stuck")}
    )


class Running:
    """A job that is under way."""

    def __init__(
        self, folder: Path, engine: LocalEngine, name: str, replay: tuple[Batch, ...] = ()
    ) -> None:
        model = f"bundle:{name}" if name in ("slow", "stuck") else name
        asked = SegmentRequest(image="ct.nii.gz", model=model, format="ohif", slice=2)
        ready = volume_plan(asked, Images({"": folder}), catalogue(folder))
        self.agenda = ready.agenda()
        self.batches = ready.events(engine, self.agenda, replay)


def masks_in(batches: list[Batch]) -> list[Mask]:
    told: list[Event] = [event for batch in batches for event in batch.events]
    return [event for event in told if isinstance(event, Mask) and not event.provisional]


def drawn(batches: list[Batch]) -> NDArray[np.uint8]:
    labelmap = np.full(WHERE.shape, 9, np.uint8)
    for mask in masks_in(batches):
        mask_rle.draw(mask, labelmap)
    return labelmap


def test_who_turns_to_another_slice_sees_it_next(folder: Path, engine: LocalEngine) -> None:
    job, given = Running(folder, engine, "slow"), list[int]()
    for batch in job.batches:
        given += [k for mask in masks_in([batch]) for k in mask.slices.tolist()]
        if given:
            job.agenda.slice = 55
    assert given[0] < 8
    assert given.index(55) < 30
    assert sorted(given) == list(range(60))


def test_a_job_that_was_cut_off_goes_on(folder: Path, engine: LocalEngine) -> None:
    whole = list(Running(folder, engine, "slow").batches)
    cut = next(n for n, _ in enumerate(whole) if len(masks_in(whole[: n + 1])) > 5)
    before = whole[: cut + 1]
    after = list(Running(folder, engine, "slow", tuple(before)).batches)
    assert after[0].seq == before[-1].last_seq + 1
    had = {k for mask in masks_in(before) for k in mask.slices.tolist()}
    came = [k for mask in masks_in(after) for k in mask.slices.tolist()]
    assert sorted(came) == sorted(set(range(60)) - had)
    assert drawn([*before, *after]).tobytes() == drawn(whole).tobytes()
    told = [event for batch in [*before, *after] for event in batch.events]
    percent = [event.tiles_done for event in told if isinstance(event, Progress)]
    assert percent == sorted(set(percent))
    assert isinstance(told[-1], Done)
    first, last = (batches[-1].events[-1] for batches in (whole, after))
    assert isinstance(first, Done)
    assert isinstance(last, Done)
    assert dataclasses.replace(last, seconds=first.seconds) == first


def test_stop_frees_a_worker_that_does_not_listen(folder: Path, engine: LocalEngine) -> None:
    """Its network would compute for an hour; the next job begins in a new process."""
    job, (before,) = Running(folder, engine, "stuck"), engine.process_ids
    stopped: list[float] = []

    def stop() -> None:
        while not engine._scheduler.busy:
            time.sleep(0.01)
        time.sleep(0.5)
        stopped.append(time.monotonic())
        job.agenda.cancel()

    threading.Thread(target=stop, daemon=True).start()
    assert isinstance(list(job.batches)[-1].events[-1], Cancelled)
    assert time.monotonic() - stopped[0] < 1
    while psutil.pid_exists(before):
        assert time.monotonic() - stopped[0] < 2
        time.sleep(0.05)
    assert isinstance(list(Running(folder, engine, "slow").batches)[-1].events[-1], Done)
