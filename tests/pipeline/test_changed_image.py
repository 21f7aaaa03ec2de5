"""An image that is overwritten while a job on it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from PIL import Image

from isoline.domain.events import Contours, Event
from isoline.domain.request import SegmentRequest
from isoline.engines.engine import Agenda, Engine
from isoline.errors import ImageChanged
from isoline.images.catalog import Images
from isoline.inference.task import Attention, Result, Task, TileFailed
from tests.planning import tiled_plan
from tests.running import SerialEngine


class Overwritten:
    """An engine whose every tile finds another image than the job's."""

    def run(self, task: Task, agenda: Agenda) -> Iterator[Result]:
        while (tile := agenda.take()) is not None:
            yield TileFailed(tile, "ImageChanged", "a.png changed after the job was accepted")


class LaterOverwritten(SerialEngine):
    """An engine whose second tile finds another image than the job's."""

    def run(self, task: Task, agenda: Agenda) -> Iterator[Result]:
        tile = agenda.take()
        assert tile is not None
        yield from task.compute(self._resources, tile, Attention())
        yield from Overwritten().run(task, agenda)


def test_the_job_fails_in_words(tmp_path: Path) -> None:
    Image.new("L", (600, 600)).save(tmp_path / "a.png")
    request = SegmentRequest("a.png", "threshold", tile=128)
    plan = tiled_plan(request, Images.of_file(tmp_path / "a.png"))
    events = plan.events(cast(Engine, Overwritten()), plan.agenda())
    with pytest.raises(ImageChanged, match="changed after the job was accepted"):
        list(events)


def test_an_area_that_the_next_tile_would_have_completed_stays(tmp_path: Path) -> None:
    Image.new("L", (600, 600)).save(tmp_path / "a.png")
    request = SegmentRequest("a.png", "threshold", tile=128)
    plan = tiled_plan(request, Images.of_file(tmp_path / "a.png"))
    events: list[Event] = []
    batches = plan.events(LaterOverwritten(tmp_path), plan.agenda())
    with pytest.raises(ImageChanged):
        events.extend(event for batch in batches for event in batch.events)
    (found,) = (event.objects for event in events if isinstance(event, Contours))
    assert found.incomplete.tolist() == [True]
    assert found.area_px.tolist() == [128 * 128]
