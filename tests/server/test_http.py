"""The HTTP API of a real server: gunicorn and waitress, worker processes, real sockets."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from isoline import client as api
from isoline.client import Client, ClientError
from tests.serving import serving
from tests.slides import Shapes, bit_flipped

pytestmark = pytest.mark.slow

SLIDE = "slides/disks.tif"
SQUARE = [1000, 1000, 2024, 2024]


@dataclass(frozen=True)
class Running:
    """A server and where it keeps its things."""

    url: str
    data: Path
    client: Client

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=20, **options)

    def post(self, path: str, body: Any, **options: Any) -> requests.Response:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return requests.post(self.url + path, data=data, timeout=20, **options)

    @property
    def job_folders(self) -> list[Path]:
        return list((self.data / "jobs").iterdir())


@pytest.fixture(scope="module")
def images(disk_slide: Shapes, real_slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    bit_flipped(real_slide, folder / "damaged.svs")
    shutil.copy(disk_slide.path, folder / "disks.tif")
    flat = np.full((300, 400, 3), 230, np.uint8)
    flat[100:120, 50:90] = 40
    Image.fromarray(flat).save(folder / "flat.png")
    (folder / "broken.svs").write_bytes(b"II*\0" + b"no slide" * 40)
    (folder / "leak.png").symlink_to(tmp_path_factory.mktemp("secret") / "secret.png")
    Image.fromarray(flat).save((folder / "leak.png").resolve())
    return folder


@pytest.fixture(scope="module", params=["gunicorn", "waitress"])
def server(
    request: pytest.FixtureRequest, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    data = tmp_path_factory.mktemp("data")
    with serving(images, data, kind=request.param, more="[engine]\nworkers = 2\n") as url:
        yield Running(url, data, Client(url))


def test_what_there_is(server: Running) -> None:
    assert server.client.health() == {"status": "ready", "version": "0.1.0", "workers": 2}
    assert set(server.client.images()) == {
        SLIDE,
        "slides/damaged.svs",
        "slides/flat.png",
        "slides/broken.svs",
    }
    models = {model["name"]: model for model in server.client.models()}
    assert models["threshold"]["problem"] is None
    assert "isoline models pull epithelium" in models["epithelium"]["problem"]
    info = server.get(f"/v1/images/{SLIDE}").json()
    assert info["size"] == [6007, 5003]


def test_a_picture_of_a_region(server: Running, disk_slide: Shapes) -> None:
    answer = server.get(f"/v1/images/{SLIDE}/region?box=1000,900,1100,980&size=100")
    pixels = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert answer.headers["X-Isoline-Box"] == "1000.0,900.0,1100.0,980.0"
    dark = pixels[..., 0] < 150
    assert (dark == (disk_slide.labels[900:980, 1000:1100] > 0)).all()


def test_a_job_from_started_to_done(server: Running, disk_slide: Shapes) -> None:
    job = server.client.submit(
        SLIDE, "threshold", region=SQUARE, parameters={"below": 180}, tile=256
    )
    events = list(job.events())
    assert isinstance(events[0], api.Started)
    assert events[0].job == job.id
    assert [event.seq for event in events] == list(range(len(events)))
    end = events[-1]
    assert isinstance(end, api.Done)
    features = [
        each for event in events if isinstance(event, api.Contours) for each in event.features
    ]
    assert len({feature["id"] for feature in features}) == len(features) == end.objects > 100
    assert job.state()["state"] == "done"

    middle = len(events) // 2
    assert list(job.events(after=middle)) == events[middle + 1 :]
    assert job.state()["last_seq"] == events[-1].seq
    began = time.monotonic()
    assert list(job.events(after=events[-1].seq)) == []  # nothing more is said, and nobody waits
    assert time.monotonic() - began < 5
    assert server.get(f"/v1/jobs/{job.id}/events?after={events[-1].seq}").status_code == 204
    assert server.get(f"/v1/jobs/{job.id}/events?after={events[-1].seq - 1}").status_code == 200
    both = {"Last-Event-ID": str(events[-1].seq)}
    assert server.get(f"/v1/jobs/{job.id}/events?after=0", headers=both).status_code == 204
    assert server.get(f"/v1/jobs/{job.id}/events?after=true", headers=both).status_code == 400


def test_events_as_server_sent_events(server: Running) -> None:
    job = server.client.submit("slides/flat.png", "threshold")
    answer = server.get(f"/v1/jobs/{job.id}/events", headers={"Accept": "text/event-stream"})
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    messages = [message.split("\n") for message in answer.text.split("\n\n") if message[:2] == "id"]
    seqs = [int(number.removeprefix("id: ")) for number, _ in messages]
    assert seqs == list(range(len(seqs)))
    said = [json.loads(data.removeprefix("data: ")) for _, data in messages]
    assert said[-1]["event"] == "done"
    resumed = server.get(
        f"/v1/jobs/{job.id}/events",
        headers={"Accept": "text/event-stream", "Last-Event-ID": str(seqs[-2])},
    )
    assert resumed.text.count("id: ") == 1


def test_a_quiet_stream_shows_a_sign_of_life_each_second(server: Running) -> None:
    job = server.client.submit(
        SLIDE, "slow", region=[1000, 1000, 1010, 1010], parameters={"seconds": 3.5}
    )
    path = f"/v1/jobs/{job.id}/events"
    with server.get(path, stream=True) as answer:
        arrived = [(time.monotonic(), chunk) for chunk in answer.iter_content(None)]
    assert sum(chunk == b"\n" for _, chunk in arrived) >= 2
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(arrived)]
    assert max(gaps) < 2.0


def test_contours_arrive_while_the_job_runs(server: Running) -> None:
    job = server.client.submit(SLIDE, "slow", region=SQUARE)
    kinds = []
    for event in job.events():
        if isinstance(event, api.Contours):
            kinds.append(job.state()["state"])
    assert kinds[0] == "running"


def test_cancelling_keeps_what_was_found_and_frees_the_workers(server: Running) -> None:
    job = server.client.submit(SLIDE, "slow", parameters={"seconds": 0.4})
    events = []
    for event in job.events():
        events.append(event)
        if isinstance(event, api.Contours) and not any(
            isinstance(earlier, api.Contours) for earlier in events[:-1]
        ):
            job.cancel()
            asked = time.monotonic()
    assert isinstance(events[-1], api.Cancelled)
    assert time.monotonic() - asked < 1.0
    assert server.client.job(job.id).state()["state"] == "cancelled"
    began = time.monotonic()
    list(server.client.submit("slides/flat.png", "threshold").events())
    assert time.monotonic() - began < 1.5


def test_moving_the_focus_moves_the_work(server: Running) -> None:
    job = server.client.submit(SLIDE, "slow", focus=[100, 100])
    centres: list[tuple[float, float]] = []
    for event in job.events():
        if isinstance(event, api.Contours):
            x, y = event.features[0]["geometry"]["coordinates"][0][0]
            centres.append((x, y))
            if len(centres) == 2:
                job.focus(5900, 4900)
            if len(centres) == 10:
                job.cancel()
    assert len(centres) >= 10
    assert all(x < 1000 and y < 1000 for x, y in centres[:2])
    assert all(x > 4000 and y > 3000 for x, y in centres[7:10])


def test_hanging_up_on_segment_cancels(server: Running) -> None:
    stream = server.client.segment(SLIDE, "slow", parameters={"seconds": 0.3})
    first = next(stream)
    assert isinstance(first, api.Started)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    hung_up = time.monotonic()
    while server.client.job(first.job).state()["state"] == "running":
        assert time.monotonic() - hung_up < 4.0
        time.sleep(0.05)
    assert server.client.job(first.job).state()["state"] == "cancelled"


def test_closing_an_events_stream_cancels_nothing(server: Running) -> None:
    job = server.client.submit(SLIDE, "slow", region=SQUARE, parameters={"seconds": 0.2})
    stream = job.events()
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert isinstance(list(job.events())[-1], api.Done)


def test_a_model_that_raises_costs_its_tiles_and_no_more(server: Running) -> None:
    job = server.client.submit(SLIDE, "faulty", region=[0, 0, 2560, 2560])
    events = list(job.events())
    warned = [event for event in events if isinstance(event, api.Warned)]
    end = events[-1]
    assert isinstance(end, api.Done)
    assert 0 < len(warned) == end.tiles_failed < end.tiles == 100
    assert "ArithmeticError: the middle is dark" in warned[0].message
    assert warned[0].area is not None
    assert warned[0].area[2] - warned[0].area[0] == 256


def test_damage_in_a_slide_costs_its_tile_and_no_more(server: Running) -> None:
    """One compressed block of 240 x 240 pixels at the origin of the slide is damaged."""
    job = server.client.submit("slides/damaged.svs", "threshold", region=[0, 0, 2048, 2048])
    events = list(job.events())
    warned = [event for event in events if isinstance(event, api.Warned)]
    assert [event.area for event in warned] == [(0.0, 0.0, 1024.0, 1024.0)]
    assert warned[0].code == "Unreadable"
    end = events[-1]
    assert isinstance(end, api.Done)
    assert (end.tiles, end.tiles_failed) == (4, 1)


def test_a_worker_that_dies_costs_its_tile_and_no_more(server: Running) -> None:
    dark = [2304, 0, 3072, 768]
    job = server.client.submit(SLIDE, "faulty", region=dark, parameters={"how": "die"})
    events = list(job.events())
    end = events[-1]
    assert isinstance(end, api.Done)
    assert 0 < end.tiles_failed < end.tiles
    assert any("died" in event.message for event in events if isinstance(event, api.Warned))
    assert isinstance(
        list(server.client.submit("slides/flat.png", "threshold").events())[-1], api.Done
    )


BAD_REQUESTS: list[tuple[dict[str, Any], int, str]] = [
    ({"model": "nucleii"}, 404, "nuclei"),
    ({"image": "slides/none.svs"}, 404, "isoline images"),
    ({"image": "other/disks.tif"}, 404, "slides"),
    ({"image": "slides/../../etc/passwd"}, 403, "roots"),
    ({"image": "slides/leak.png"}, 403, "roots"),
    ({"image": "slides//etc/passwd"}, 403, "roots"),
    ({"image": "slides/a\0b"}, 404, ""),
    ({"image": "slides/" + "a" * 300}, 404, "slides"),
    ({"image": "slides/broken.svs"}, 422, "copy it again"),
    ({"region": [9000, 9000, 9100, 9100]}, 422, "6007 x 5003"),
    ({"region": [10, 10, 10, 20]}, 422, ""),
    ({"region": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}}, 422, ""),
    ({"image": "slides/flat.png", "model": "nuclei"}, 422, "spacing_um"),
    ({"spacing_um": 0.5}, 422, "spacing_um"),
    ({"parameters": {"below": 999}}, 422, "0 to 255"),
    ({"parameters": {"bellow": 9}}, 422, "below"),
    ({"tile": 7}, 422, "64 to 4096"),
    ({"model": "epithelium"}, 409, "isoline models pull"),
    ({"format": "svg"}, 404, "geojson"),
    ({"z": 3}, 422, "plane"),
    ({"channel": ["DAPI"]}, 422, "red"),
    ({"at_um": -1}, 400, ""),
    ({"regoin": [0, 0, 1, 1]}, 400, "region"),
    ({"focus": "middle"}, 400, "focus"),
]


@pytest.mark.parametrize(("change", "status", "remedy"), BAD_REQUESTS)
def test_a_mistake_is_named_and_leaves_nothing_behind(
    server: Running, change: dict[str, Any], status: int, remedy: str
) -> None:
    before = server.job_folders
    body = {"image": SLIDE, "model": "threshold", **change}
    for path in ("/v1/jobs", "/v1/segment"):
        answer = server.post(path, body)
        assert answer.status_code == status, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == status
        assert remedy in problem["detail"] + problem["remedy"]
    assert server.job_folders == before


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"image": 3, "model": "x"}', b"\xff\xfe"])
def test_a_body_that_is_no_request(server: Running, body: bytes) -> None:
    assert server.post("/v1/jobs", body).status_code == 400


def test_what_is_not_there(server: Running) -> None:
    assert server.get("/v1/jobs/nope").status_code == 404
    assert server.get("/v2").json()["remedy"] == "see /v1/openapi.json for the routes"
    assert server.post("/v1/health", {}).status_code == 405


def test_a_body_that_is_too_large(server: Running) -> None:
    answer = server.post("/v1/jobs", b" " * (9 << 20))
    assert answer.status_code == 413
    assert answer.json()["code"] == "TooLarge"
    assert answer.json()["remedy"] == "send at most 8 MiB"


def test_a_token_is_asked_for(images: Path, tmp_path: Path) -> None:
    with serving(images, tmp_path, token="open sesame") as url:
        with pytest.raises(ClientError) as caught:
            Client(url).models()
        assert caught.value.status == 401
        assert caught.value.code == "NotAuthenticated"
        assert caught.value.remedy == "send Authorization: Bearer TOKEN"
        assert Client(url, "open sesame").images()


def test_what_is_too_much_is_refused_for_now(images: Path, tmp_path: Path) -> None:
    limits = "[engine]\nworkers = 1\n[limits]\nrunning_jobs = 1\nqueued_jobs = 1\nstreams = 1\n"
    with serving(images, tmp_path, more=limits) as url:
        client = Client(url)
        running = client.submit(SLIDE, "slow")
        waiting = client.submit(SLIDE, "slow")
        state = waiting.state()
        assert (state["state"], state["position"]) == ("queued", 0)
        answer = requests.post(
            f"{url}/v1/jobs", data=json.dumps({"image": SLIDE, "model": "slow"}), timeout=20
        )
        assert answer.status_code == 429
        assert answer.headers["Retry-After"]
        with requests.get(f"{url}/v1/jobs/{running.id}/events", stream=True, timeout=20) as first:
            next(first.iter_content(None))
            second = requests.get(f"{url}/v1/jobs/{running.id}/events", timeout=20)
            assert second.status_code == 503
            assert second.headers["Retry-After"]
            assert second.json()["code"] == "StreamsTaken"
            asked = json.dumps({"image": SLIDE, "model": "slow"})
            refused = requests.post(f"{url}/v1/segment", data=asked, timeout=20)
            assert refused.status_code == 503
            assert len(client.jobs()) == 2, "what is refused is not begun"
            prompts = [api.point(800.5, 600.5)]
            assert isinstance(list(client.segment(SLIDE, "click", prompts=prompts))[-1], api.Done)
            assert client.health()["status"] == "ready"
        waiting.cancel()
        running.cancel()
        assert isinstance(list(waiting.events())[-1], api.Cancelled)
