"""Runs that take the place of earlier ones: what is on the screen at any moment."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import nibabel
import numpy as np
import pytest
import requests

from isoline.client import Job
from tests.killable import Server, running
from tests.slides import Shapes

pytestmark = pytest.mark.slow

SLIDE, VOLUME = "slides/disks.tif", "slides/v.nii.gz"
SQUARE = [0, 0, 2048, 2048]
THINGS = {"image": SLIDE, "model": "greedy", "region": SQUARE}
AREAS = {"image": SLIDE, "model": "slow", "region": SQUARE}


@pytest.fixture(scope="module")
def server(disk_slide: Shapes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    images = tmp_path_factory.mktemp("images")
    shutil.copy(disk_slide.path, images / "disks.tif")
    voxels = np.zeros((40, 30, 24), np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), images / "v.nii.gz")
    with running(images, tmp_path_factory.mktemp("data"), more="[engine]\nworkers = 2\n") as server:
        yield server


@dataclass
class Screen:
    """What a viewer shows that does as `docs/protocol.md` says, and no more."""

    features: dict[str, dict[str, Any]] = field(default_factory=dict)
    provisional: set[str] = field(default_factory=set)
    slices: dict[int, Any] = field(default_factory=dict)
    replacing: int = 0
    """Number of events that removed something final."""
    twice: int = 0
    """Largest number of final features with one and the same outline, less one."""
    end: str = ""

    def follow(self, job: Job) -> Screen:
        """Show the events of `job` on top of what there is, as a new screen."""
        new = Screen(dict(self.features), set(self.provisional), dict(self.slices))
        for event in job.events_json():
            new.show(event)
        return new

    def show(self, event: dict[str, Any]) -> None:
        if event["event"] == "contours":
            gone = set(event["replaces"])
            self.replacing += bool(gone & (self.features.keys() - self.provisional))
            for each in gone:
                self.features.pop(each, None)
            self.provisional -= gone
            for feature in event["features"]:
                self.features[feature["id"]] = feature
                if event["provisional"]:
                    self.provisional.add(feature["id"])
            outlines = Counter(str(f["geometry"]) for f in self.final.values())
            self.twice = max(self.twice, max(outlines.values(), default=1) - 1)
        elif event["event"] == "mask":
            if event["whole"]:
                self.slices.clear()
            self.slices |= {each["k"]: each["layers"] for each in event["slices"]}
        elif event["event"] in ("done", "failed", "cancelled"):
            self.end = event["event"]

    @property
    def final(self) -> dict[str, dict[str, Any]]:
        return {k: each for k, each in self.features.items() if k not in self.provisional}

    @property
    def outlines(self) -> list[str]:
        return sorted(str(each["geometry"]) for each in self.features.values())


def submit(server: Server, work: dict[str, Any], **more: Any) -> Job:
    parameters = {"widest": 4096.0} if work["model"] == "greedy" else {}
    parameters |= more.pop("parameters", {})
    return server.client.submit_request({**work, "parameters": parameters, **more})


def cancelled_after(server: Server, job: Job, screen: Screen, batches: int) -> Screen:
    """Cancel `job` once it has sent so many events with results; return what is left."""
    new = Screen(dict(screen.features), set(screen.provisional), dict(screen.slices))
    seen = 0
    for event in job.events_json():
        new.show(event)
        seen += event["event"] in ("contours", "mask")
        if seen == batches:
            job.cancel()
    assert new.end == "cancelled", "it was too fast to be cancelled"
    return new


@pytest.fixture(scope="module")
def things(server: Server) -> tuple[Job, Screen]:
    job = submit(server, THINGS)
    screen = Screen().follow(job)
    assert len(screen.features) > 40
    return job, screen


def test_things_go_with_the_tile_that_finds_them_anew(
    server: Server, things: tuple[Job, Screen]
) -> None:
    first, before = things
    second = submit(server, THINGS, replaces=first.id, parameters={"widest": 4000.0})
    after = before.follow(second)
    assert after.end == "done"
    assert after.features.keys() == Screen().follow(second).features.keys()
    assert not after.features.keys() & before.features.keys()
    assert after.outlines == before.outlines
    assert after.replacing > 5, "one tile after the other"
    assert after.twice == 0, "nothing is drawn twice at any moment"


def test_the_same_run_again_replaces_nothing(server: Server, things: tuple[Job, Screen]) -> None:
    first, before = things
    after = before.follow(submit(server, THINGS, replaces=first.id))
    assert after.features == before.features
    assert after.replacing == 0


def test_what_lies_outside_a_smaller_region_stays(
    server: Server, things: tuple[Job, Screen]
) -> None:
    first, before = things
    again = {**THINGS, "region": [512, 512, 1300, 1300]}
    second = submit(server, again, replaces=first.id, parameters={"widest": 4000.0})
    after = before.follow(second)
    new = Screen().follow(second).features.keys()
    assert after.outlines == before.outlines
    assert 0 < len(new) < len(before.features)
    assert new <= after.features.keys()


def test_cancelled_it_leaves_each_thing_once(server: Server, things: tuple[Job, Screen]) -> None:
    first, before = things
    slowly = {"widest": 4000.0, "seconds": 0.15}
    second = submit(server, THINGS, replaces=first.id, parameters=slowly)
    after = cancelled_after(server, second, before, 5)
    assert after.outlines == before.outlines
    assert 0 < len(after.features.keys() & before.features.keys()) < len(before.features)

    third = submit(server, THINGS, replaces=second.id, parameters={"widest": 3999.0})
    end = after.follow(third)
    assert end.outlines == before.outlines
    assert not end.features.keys() & after.features.keys(), "both earlier runs are replaced"


def test_tiles_that_fail_replace_nothing(server: Server, things: tuple[Job, Screen]) -> None:
    first, before = things
    second = submit(server, THINGS, replaces=first.id, parameters={"widest": 10.0}, tile=256)
    after = before.follow(second)
    assert after.end == "done"
    assert after.features == before.features


def test_areas_stay_until_the_new_ones_are_complete(server: Server) -> None:
    first = submit(server, AREAS, parameters={"seconds": 0.0})
    before = Screen().follow(first)
    assert before.features
    second = submit(server, AREAS, replaces=first.id, parameters={"seconds": 0.1})
    half = cancelled_after(server, second, before, 12)
    assert before.features.keys() <= half.features.keys()
    assert not half.provisional

    third = submit(server, AREAS, replaces=second.id, parameters={"seconds": 0.01})
    after = half.follow(third)
    assert after.end == "done"
    assert after.features.keys() == Screen().follow(third).features.keys()
    assert not after.features.keys() & half.features.keys()


def test_a_run_that_is_still_going_is_stopped(server: Server) -> None:
    first = submit(server, AREAS, parameters={"seconds": 1.0})
    second = submit(server, AREAS, replaces=first.id, parameters={"seconds": 0.0})
    before = Screen().follow(first)
    assert before.end == "cancelled"
    after = before.follow(second)
    assert after.end == "done"
    assert after.features.keys() == Screen().follow(second).features.keys()


def test_killed_in_the_middle_it_replaces_the_rest(
    server: Server, things: tuple[Job, Screen]
) -> None:
    first, before = things
    slowly = {"widest": 4000.0, "seconds": 0.1}
    second = submit(server, THINGS, replaces=first.id, parameters=slowly)
    seen = 0
    for event in second.events_json():
        seen += event["event"] == "contours"
        if seen == 5:
            break
    server.kill()
    server.start()
    after = before.follow(second)
    assert after.end == "done"
    assert after.outlines == before.outlines
    assert not after.features.keys() & before.features.keys()
    assert after.twice == 0


def test_coarse_slices_of_a_cancelled_run_are_as_they_were(server: Server) -> None:
    work = {"image": VOLUME, "model": "halves", "format": "ohif"}
    alone = submit(server, work, parameters={"seconds": 2.0})
    nothing = cancelled_after(server, alone, Screen(), 1)
    assert nothing.slices
    assert not any(nothing.slices.values())

    first = submit(server, work, parameters={"seconds": 0.0})
    before = Screen().follow(first)
    assert all(before.slices.values())
    second = submit(server, work, replaces=first.id, parameters={"seconds": 2.0})
    after = cancelled_after(server, second, before, 1)
    assert after.slices == before.slices


def test_the_answer_to_a_prompt_replaces_features(
    server: Server, things: tuple[Job, Screen]
) -> None:
    _, before = things
    one, two, *_ = before.features.values()
    y, x = min((y, x) for x, y in one["geometry"]["coordinates"][0])
    prompts = [{"kind": "point", "points": [[x + 0.5, y + 0.5]]}]
    below = {"below": 180.0}
    work = {"image": SLIDE, "model": "flood", "prompts": prompts, "parameters": below}
    gone = [one["id"], two["id"]]
    events = segment(server, {**work, "replaces": gone})
    replaced = [each for event in contours(events) for each in event["replaces"]]
    assert sorted(replaced) == sorted(gone)
    assert [len(event["features"]) for event in contours(events)] == [1], "in a single event"
    kept = segment(server, {**work, "replaces": gone, "keep": True})
    assert [event["replaces"] for event in contours(kept)] == [replaced]


def segment(server: Server, request: dict[str, Any]) -> list[dict[str, Any]]:
    answer = requests.post(f"{server.url}/v1/segment", json=request, timeout=60)
    return [json.loads(line) for line in answer.iter_lines() if line]


def contours(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == "contours"]


@pytest.mark.parametrize(
    ("replaces", "status", "said"),
    [
        ("no-job", 404, "there is no job 'no-job'"),
        (["nonsense"], 400, "replaces[0]: expected the id of a feature"),
        (["0" * 24], 400, "is not an id in the format geojson"),
        (7, 400, "replaces"),
    ],
)
def test_what_cannot_be_replaced(server: Server, replaces: Any, status: int, said: str) -> None:
    work = {**THINGS, "replaces": replaces}
    answer = requests.post(f"{server.url}/v1/jobs", json=work, timeout=60)
    assert answer.status_code == status
    assert said in answer.json()["detail"]


def test_a_run_on_another_image_cannot_be_replaced(
    server: Server, things: tuple[Job, Screen]
) -> None:
    work = {"image": VOLUME, "model": "halves", "format": "ohif", "replaces": things[0].id}
    answer = requests.post(f"{server.url}/v1/jobs", json=work, timeout=60)
    assert answer.status_code == 422
    assert answer.json()["detail"].endswith("is on another image, slides/disks.tif")
