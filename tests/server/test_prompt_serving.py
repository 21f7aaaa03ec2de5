"""Prompts through a real server and its workers: whose answer, on which worker, how soon."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image
from shapely.geometry import shape

from isoline import client as api
from isoline.client import Client, ClientError, box, point, polygon, scribble
from isoline.domain.batch import Batch
from isoline.domain.events import Done, Failed, Warned
from isoline.domain.request import SegmentRequest
from isoline.engines.engine import Agenda, Engine
from isoline.engines.local import LocalEngine
from isoline.images.catalog import Images
from isoline.inference.prompts import PromptResult
from isoline.inference.task import Result, Task, TileFailed
from isoline.models import devices
from isoline.models.catalogue import ModelCatalogue
from tests.planning import prompt_plan
from tests.prompting import asking, models_for_tests
from tests.prompting import point as asked_point
from tests.serving import serving

pytestmark = pytest.mark.slow

USERS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures whose one dark box is as wide as the picture's number, and one for a long job."""
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(1, USERS + 1):
        picture = np.full((120, 160, 3), 240, np.uint8)
        picture[10:20, 10 : 10 + k] = 20
        picture[50:60, 100:103] = 20
        Image.fromarray(picture).save(folder / f"{k}.png")
    Image.new("RGB", (2560, 2560)).save(folder / "long.png")
    return folder


@pytest.fixture(scope="module")
def url(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    more = "[engine]\nworkers = 1\nurgent_workers = 1\n"
    with serving(folder, tmp_path_factory.mktemp("data"), more=more) as url:
        yield url


def click(url: str, image: int, *prompts: api.Json, **options: object) -> list[api.Event]:
    asked = prompts or (point(10.5, 10.5),)
    return list(Client(url).segment(f"slides/{image}.png", "flood", prompts=asked, **options))  # type: ignore[arg-type]


def areas(events: list[api.Event]) -> list[float]:
    found = [event for event in events if isinstance(event, api.Contours)]
    return [shape(each["geometry"]).area for event in found for each in event.features]


def test_a_click_is_one_object(url: str) -> None:
    started, contours, done = click(url, 7)
    assert isinstance(started, api.Started)
    assert (started.kind, started.tiles, started.scale) == ("objects", 1, (1.0, 1.0))
    assert isinstance(contours, api.Contours)
    assert contours.features[0]["properties"]["label"] == "thing"
    assert areas([contours]) == [70]
    assert isinstance(done, api.Done)
    assert (done.objects, done.tiles) == (1, 1)


@pytest.mark.parametrize("dialect", ["qupath", "dsa"])
def test_in_every_dialect(url: str, dialect: str) -> None:
    _, contours, _ = click(url, 7, point(10, 10), format=dialect)
    assert isinstance(contours, api.Contours)
    (feature,) = contours.features
    corners = feature["points"] if dialect == "dsa" else feature["geometry"]["coordinates"][0]
    assert sorted({corner[0] for corner in corners}) == [10, 17]


def test_a_click_on_nothing_says_why(url: str) -> None:
    _, warned, done = click(url, 7, point(90, 90))
    assert isinstance(warned, api.Warned)
    assert (warned.code, warned.message) == ("NothingFound", "it is bright there")
    assert isinstance(done, api.Done)
    assert done.objects == 0


def test_a_job_is_a_click_as_well(url: str) -> None:
    job = Client(url).submit("slides/5.png", "flood", prompts=[point(11, 11)])
    assert areas(list(job.events())) == [50]
    state = job.state()
    assert (state["urgent"], state["objects"], state["state"]) == (True, 1, "done")


def test_what_is_wrong_is_a_problem(url: str) -> None:
    with pytest.raises(ClientError, match=r"prompts\[0\] lies outside") as refused:
        click(url, 3, point(500, 1))
    assert (refused.value.status, refused.value.code) == (422, "BadPrompt")
    with pytest.raises(ClientError, match="does not support a box"):
        click(url, 3, box((1, 1), (5, 5)))
    with pytest.raises(ClientError, match="a polygon is three"):
        click(url, 3, polygon([(1, 1), (5, 5)]), scribble([(1, 1)], include=False))


def test_models_say_what_they_understand(url: str) -> None:
    models = {model["name"]: model for model in Client(url).models()}
    assert models["flood"]["prompts"] == ["point", "scribble", "polygon"]
    assert models["flood"]["dimensions"] == [2, 3]
    assert models["threshold"]["prompts"] == []


def test_two_users_of_one_image_get_their_own(url: str) -> None:
    def ask(x: float, y: float) -> set[float]:
        return {area for _ in range(6) for area in areas(click(url, 9, point(x, y)))}

    with ThreadPoolExecutor(2) as users:
        left, right = users.map(ask, (11, 101), (11, 51))
    assert (left, right) == ({90}, {30})


def test_twenty_users_at_once_get_their_own(url: str) -> None:
    barrier = threading.Barrier(USERS)

    def ask(k: int) -> list[float]:
        barrier.wait(20)
        return areas(click(url, k)) + areas(click(url, k, point(10, 10), point(101, 51)))

    with ThreadPoolExecutor(USERS) as users:
        found = list(users.map(ask, range(1, USERS + 1)))
    assert found == [[10 * k, 10 * k + 30] for k in range(1, USERS + 1)]


def test_a_click_does_not_wait_for_a_slide(url: str) -> None:
    """Nor for a small region; each of their tiles takes longer than a click may."""
    server, slow = Client(url), {"seconds": 4.0}
    jobs = [server.submit("slides/long.png", "slow", parameters=slow) for _ in range(6)]
    try:
        time.sleep(0.5)
        began = time.monotonic()
        for k in range(1, 6):
            assert areas(click(url, k)) == [10 * k]
        assert time.monotonic() - began < 4
        assert {job.state()["state"] for job in jobs} == {"running", "queued"}
        assert jobs[0].state()["tiles_done"] < 3
    finally:
        for job in jobs:
            job.cancel()


def test_clicks_are_counted(url: str) -> None:
    click(url, 2)
    text = requests.get(f"{url}/metrics", timeout=20).text
    assert 'isoline_tile_seconds_count{stage="answer"}' in text


# --- Which worker, without a server ------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    with models_for_tests():
        engine = LocalEngine(
            1, ModelCatalogue(tmp_path_factory.mktemp("weights")), urgent_workers=2
        )
        yield engine
        engine.close()


def run(
    engine: Engine, folder: Path, image: int, seconds: float = 0.0, on_gpu: bool = False
) -> Result:
    request = asking(f"{image}.png", asked_point(10, 10), parameters={"seconds": seconds})
    prepared = prompt_plan(request, Images({"": folder}), folder)
    agenda = Agenda(prepared.lattice, prepared.tiles, None, urgent=True)
    (result,) = engine.run(
        replace(prepared.task, spec=replace(prepared.task.spec, on_gpu=on_gpu)), agenda
    )
    return result


def homes(engine: LocalEngine, folder: Path, image: int) -> list[int]:
    """Return the places of the workers that have looked at an image."""
    seen = Images({"": folder}).find(f"{image}.png").info.fingerprint
    return [place for place, each in enumerate(engine._scheduler.workers) if seen in each.images]


def test_clicks_go_to_the_worker_that_knows_the_image(engine: LocalEngine, folder: Path) -> None:
    busy = threading.Thread(target=run, args=(engine, folder, 1, 1.5))
    busy.start()
    time.sleep(0.3)
    run(engine, folder, 2)  # while the first is busy
    busy.join()
    for _ in range(3):
        for image in (1, 2):
            assert isinstance(run(engine, folder, image), PromptResult)
    (first,), (second,) = homes(engine, folder, 1), homes(engine, folder, 2)
    assert {first, second} == {0, 1}
    assert not engine._scheduler.workers[2].slot.urgent_only


def test_a_click_does_not_wait_long_for_that_worker(engine: LocalEngine, folder: Path) -> None:
    run(engine, folder, 3)
    busy = threading.Thread(target=run, args=(engine, folder, 3, 2.5))
    busy.start()
    time.sleep(0.3)
    run(engine, folder, 3)
    assert busy.is_alive()
    busy.join()


def test_of_several_gpus_one_knows_the_image(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "gpus", lambda wanted: ("cpu", "cpu"))
    with models_for_tests():
        engine = LocalEngine(1, ModelCatalogue(tmp_path), urgent_workers=1)
        try:
            run(engine, folder, 1)  # by a model that computes on CPUs
            for _ in range(4):
                assert isinstance(run(engine, folder, 1, on_gpu=True), PromptResult)
            urgent, gpu = homes(engine, folder, 1)
        finally:
            engine.close()
    assert engine._scheduler.workers[urgent].slot.urgent_only
    assert engine._scheduler.workers[gpu].slot.gpu is not None


# --- What a job says ---------------------------------------------------------------------------


class Canned(Engine):
    """Gives what it was told to give."""

    def __init__(self, *results: Result) -> None:
        self._results = results

    def survey(self, task: Task, agenda: Agenda) -> Result:
        raise AssertionError("a click looks at no whole image")

    def run(self, task: Task, agenda: Agenda) -> Iterator[Result]:
        yield from self._results

    def close(self) -> None:
        """Nothing to end."""


@pytest.mark.parametrize("replayed", [False, True])
def test_a_job_goes_on_where_it_was(folder: Path, replayed: bool) -> None:
    with models_for_tests():
        request = SegmentRequest("1.png", "flood", prompts=(asked_point(1, 1),))
        ready = prompt_plan(request, Images({"": folder}), folder)
    agenda = Agenda(ready.lattice, ready.tiles, None)
    replay = [Batch(0, None, (ready.started,))] if replayed else []
    (tile,) = ready.tiles
    nothing = Canned(PromptResult(tile, None, "why", 0.1))
    told = list(ready.events(nothing, agenda, replay))
    assert [batch.seq for batch in told] == ([1] if replayed else [0, 1])
    assert [type(event) for event in told[-1].events] == [Warned, Done]
    failing = Canned(TileFailed(tile, "Broken", "flood raised"))
    (*_, last) = ready.events(failing, agenda, replay)
    assert last.events == (Failed("Broken", "flood raised"),)
