"""QuPath's client, as a jar and as a script, against a real server and a network that fails."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

import numpy as np
import pytest
from PIL import Image

from isoline.client import Client, Contours
from isoline.server.access import digest
from tests.killable import running
from tests.qupath import building as qupath
from tests.qupath.building import Build, Proxy, proxied
from tests.serving import free_port, serving
from tests.slides import Shapes

URI = "file:/S:/scans/disks.tif"
BOX = [1000.0, 900.0, 2600.0, 2400.0]
REGION = {
    "type": "Polygon",
    "coordinates": [[[1000, 900], [2600, 900], [2600, 2400], [1000, 2400], [1000, 900]]],
}
OBJECTS = {"model": "threshold", "parameters": {"below": 200}, "tile": 512}
REGIONS = {"model": "threshold", "parameters": {"below": 200, "output": "mask"}, "tile": 512}
SLOW = {"model": "slow", "parameters": {"seconds": 0.3}}


@pytest.fixture(scope="module")
def build() -> Build:
    return qupath.built()


@pytest.fixture(params=["java", "script"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def expected(server: str) -> set[str]:
    """The ids of the objects in the region, as another client gets them."""
    options: dict[str, Any] = {"parameters": OBJECTS["parameters"], "region": BOX}
    events = Client(server).segment(
        "slides/disks.tif", "threshold", format="qupath", tile=700, **options
    )
    batches = [event.features for event in events if isinstance(event, Contours)]
    return {feature["id"] for features in batches for feature in features}


def asked(server: str, options: dict[str, Any], do: str = "run", **more: Any) -> dict[str, Any]:
    return {
        "do": do,
        "url": server,
        "uri": URI,
        "size": [6007, 5003],
        "um": 0.25,
        "region": REGION,
        "options": options,
    } | more


def test_a_pixel_size_set_by_hand_counts(build: Build, kind: str, server: str) -> None:
    by_hand = build.run(kind, **asked(server, OBJECTS, um=0.5, um_read=0.25))
    assert by_hand["state"] == "done", by_hand["message"]
    another_file = build.run(kind, **asked(server, OBJECTS, um=0.5))
    assert "0.25 um per pixel" in another_file["message"]


def test_objects_come_below_the_annotation(
    build: Build, kind: str, server: str, expected: set[str]
) -> None:
    said = build.run(kind, **asked(server, OBJECTS))
    assert said["state"] == "done", said["message"]
    assert set(said["ids"]) == expected
    assert said["types"] == {"detection": len(expected)}
    assert said["classes"] == {"Foreground": len(expected)}
    assert said["objects"] == said["children"] == len(expected) > 100
    assert said["events"] == said["flushes"] >= 1


def test_several_areas_come_one_after_another(build: Build, kind: str, server: str) -> None:
    """An annotation with a hole and the core of a TMA; a point is no area."""
    hole = [[1400, 1300], [1400, 2000], [2200, 2000], [2200, 1300], [1400, 1300]]
    core = [[3000, 3000], [3500, 2900], [3700, 3600], [3100, 3700], [3000, 3000]]
    areas = [
        {"type": "Polygon", "coordinates": [*REGION["coordinates"], hole]},
        {"type": "Polygon", "coordinates": [core]},
    ]
    drawn = [
        {"type": "Feature", "geometry": geometry, "properties": {"objectType": kind_of_object}}
        for kind_of_object, geometry in (
            ("annotation", areas[0]),
            ("annotation", {"type": "Point", "coordinates": [1500, 1500]}),
            ("tmaCore", areas[1]),
        )
    ]
    found = []
    for region in areas:
        options: dict[str, Any] = {"parameters": OBJECTS["parameters"], "region": region}
        events = Client(server).segment("slides/disks.tif", "threshold", format="qupath", **options)
        found.append(sum(len(e.features) for e in events if isinstance(e, Contours)))
    request = {**asked(server, OBJECTS, "several"), "drawn": drawn}
    del request["region"]
    said = build.run(kind, **request)
    assert said["state"] == "done", said["message"]
    assert said["found"] == found
    assert said["objects"] == sum(found) > 100
    assert {"Region 1 of 2: Running", "Region 2 of 2: Running"} <= set(said["words"])


def test_regions_replace_their_pieces(build: Build, kind: str, server: str) -> None:
    options: dict[str, Any] = {"parameters": REGIONS["parameters"], "region": BOX, "tile": 512}
    events = list(
        Client(server).segment("slides/disks.tif", "threshold", format="qupath", **options)
    )
    final = [e for e in events if isinstance(e, Contours) and not e.provisional]
    said = build.run(kind, **asked(server, REGIONS))
    assert set(said["ids"]) == {feature["id"] for event in final for feature in event.features}
    assert said["provisional"] == 0
    assert set(said["types"]) == {"annotation"}


def test_a_stream_that_breaks_is_taken_up_again(
    build: Build, kind: str, server: str, expected: set[str]
) -> None:
    proxy = Proxy(server, cuts=[3, 0, 5])
    with proxied(proxy) as url:
        said = build.run(kind, **asked(url, OBJECTS))
    assert said["state"] == "done"
    assert set(said["ids"]) == expected
    streams = [call for call in proxy.calls if "/events" in call]
    afters = [int(re.findall(r"after=(-?\d+)", call)[0]) for call in streams]
    assert afters[:4] == [-1, 2, 2, 7]


def test_half_a_line_is_none_though_it_may_look_whole(
    build: Build, kind: str, server: str, expected: set[str]
) -> None:
    """An event ends with the list of its features; so does what is torn behind another list."""
    torn = []

    def inner_end(line: bytes) -> int:
        return line.find(b"]}", line.find(b'"features":[{') + 1) + 2

    def has_inner_end(line: bytes) -> bool:
        return b'"features":[{' in line and inner_end(line) < len(line) - 3

    def tear(line: bytes) -> int:
        torn.append(line[: inner_end(line)])
        return inner_end(line)

    proxy = Proxy(server, cuts=[2] * 8, tear=tear, tearable=has_inner_end)
    with proxied(proxy) as url:
        said = build.run(kind, **asked(url, OBJECTS))
    assert torn
    assert all(line.endswith(b"]}") for line in torn)
    assert said["state"] == "done", said["message"]
    assert set(said["ids"]) == expected


def test_a_run_outlives_the_server(build: Build, disk_slide: Shapes, tmp_path: Path) -> None:
    more = "[file_uris]\n'S:\\scans' = 'slides'\n"
    slides = disk_slide.path.parent
    with running(slides, tmp_path, more=more) as server, ThreadPoolExecutor() as pool:
        run = pool.submit(build.run, "java", **asked(server.url, SLOW))
        while server.client.jobs() == []:
            sleep(0.1)
        (job,) = server.client.jobs()
        while server.client.job(job["job"]).state()["tiles_done"] < 4:
            sleep(0.1)
        server.kill()
        server.launch()
        said = run.result()
        undisturbed = build.run("java", **asked(server.url, {**SLOW, "parameters": {"seconds": 0}}))
    assert said["state"] == "done", said["message"]
    assert said["outlines"] == undisturbed["outlines"]


def test_what_arrived_stays_when_the_connection_is_lost_for_good(build: Build, server: str) -> None:
    with proxied(Proxy(server, cuts=[8] + 14 * [0])) as url:
        said = build.run("java", **asked(url, OBJECTS), seconds=3)
    assert said["state"] == "lost"
    assert said["children"] > 0
    assert re.search(
        r"results so far are kept.*stream ended.*Gave up after [1-3] s", said["message"]
    )


def test_a_busy_server_is_left_alone_as_long_as_it_asks(
    build: Build, kind: str, server: str, expected: set[str]
) -> None:
    refusals = [("POST /v1/jobs", 503, "1"), ("POST /v1/jobs", 429, ""), ("GET /v1/jobs", 503, "1")]
    proxy = Proxy(server, refusals=refusals)
    with proxied(proxy) as url:
        said = build.run(kind, **asked(url, OBJECTS))
    assert said["state"] == "done", said["message"]
    assert set(said["ids"]) == expected
    assert not proxy.refusals
    assert len(proxy.keys) == 3
    assert len(set(proxy.keys)) == 1
    assert re.fullmatch("[A-Za-z0-9_-]{16,64}", proxy.keys[0])
    waited = " ".join(said["waited"])
    assert re.search(
        r"HTTP 503 from http\S+: .* Trying again in 2 s, for another (30|2\d) s at most", waited
    )
    assert re.search(r"HTTP 429.* Trying again in 1 s, for another 2\d s at most", waited)
    assert re.search(r"for another (300|29\d) s at most", waited)


@pytest.mark.parametrize("how", ["give up: cancel", "give up: interrupt"])
def test_a_wait_is_stopped_at_once(build: Build, kind: str, server: str, how: str) -> None:
    proxy = Proxy(server, refusals=[("POST /v1/jobs", 503, "25")])
    with proxied(proxy) as url:
        said = build.run(kind, **asked(url, OBJECTS, how))
    assert said["state"] == "cancelled"
    assert said["interrupted"] is how.endswith("interrupt")
    assert said["seconds"] < 10
    assert said["children"] == 0


def test_a_job_that_was_created_unseen_is_withdrawn(build: Build, server: str) -> None:
    """The user stops while the answer is under way: nobody would follow the job."""
    proxy = Proxy(server, refusals=[("POST /v1/jobs", 503, "")], delays=[("POST /v1/jobs", 3)])
    with proxied(proxy) as url:
        said = build.run("java", **asked(url, SLOW, "give up: cancel"), linger=4)
    assert said["state"] == "cancelled"
    assert said["seconds"] < 3
    assert len(proxy.keys) >= 2
    assert len(set(proxy.keys)) == 1
    assert proxy.calls[-1].startswith("DELETE /v1/jobs/")


def test_waiting_for_a_place_is_said(build: Build, server: str) -> None:
    others = [Client(server).submit("slides/disks.tif", "slow") for _ in range(6)]
    try:
        said = build.run("java", **asked(server, OBJECTS, "give up: cancel"))
    finally:
        for job in others:
            job.cancel()
    assert said["state"] == "cancelled"
    assert re.fullmatch(
        r"Waiting for a place on the server: \d s so far; \d jobs? came before this one\.",
        said["waited"][0],
    )


def test_the_models_are_asked_for_again_and_a_test_of_the_connection_is_not(
    build: Build, server: str
) -> None:
    proxy = Proxy(server, refusals=[("GET", 503, ""), ("GET", 502, ""), ("GET", 504, "")])
    with proxied(proxy) as url:
        words = build.run("java", do="test", url=url)["words"]
        models = build.run("java", do="models", url=url)["models"]
    assert re.search("HTTP 503 from .*: a proxy answers there instead of isoline", words)
    assert models > 3
    assert proxy.calls == ["GET /v1/health", *["GET /v1/models"] * 3]


def test_a_feature_that_qupath_refuses_costs_only_itself(
    build: Build, kind: str, server: str, expected: set[str]
) -> None:
    spoilt: list[str] = []

    def spoil(line: bytes) -> bytes:
        event = json.loads(line) if line.strip() else {}
        if event.get("features") and len(spoilt) < 2:
            spoilt.append(event["features"][0]["id"])
            ring = event["features"][0]["geometry"]["coordinates"][0]
            (ring[0] if isinstance(ring[0][0], list) else ring).pop()
            return json.dumps(event, separators=(",", ":")).encode() + b"\n"
        return line

    with proxied(Proxy(server, rewrite=spoil)) as url:
        said = build.run(kind, **asked(url, OBJECTS))
    assert said["refused"] == len(spoilt) == 2
    assert set(said["ids"]) == expected - set(spoilt)
    assert "could not read 2 objects" in said["message"]
    assert "closed linestring" in said["message"]


@pytest.mark.parametrize("how", ["cancel", "interrupt"])
def test_a_run_that_is_stopped_stops_the_server_too(
    build: Build, kind: str, server: str, how: str
) -> None:
    proxy = Proxy(server)
    with proxied(proxy) as url:
        said = build.run(kind, **asked(url, SLOW, how))
    job = Client(server).job(re.findall(r"/jobs/(\w+)", " ".join(proxy.calls))[0])
    state = job.state()
    assert any(call.startswith("DELETE") for call in proxy.calls)
    assert said["state"] == "cancelled"
    assert said["interrupted"] is (how == "interrupt")
    assert said["children"] > 0
    assert state["tiles_done"] < state["tiles"]


def test_partial_results_can_be_taken_back(build: Build, kind: str, server: str) -> None:
    said = build.run(kind, **asked(server, OBJECTS, "remove"))
    assert said["left"] == 4
    assert said["removed"] == said["children"] - 4


def test_a_slide_that_the_server_does_not_see_is_uploaded(
    build: Build, kind: str, server: str, disk_slide: Shapes, crops: Path, tmp_path: Path
) -> None:
    import tifffile

    noise = np.random.default_rng(1).integers(0, 24, (1400, 1800, 3), np.uint8)
    pixels = tifffile.imread(disk_slide.path)[:1400, :1800] // 8 * 7 + noise
    Image.fromarray(pixels).save(tmp_path / "pixels.png")
    um: dict[str, Any] = {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(crops / "seen.tif", pixels, tile=(256, 256), photometric="rgb", **um)
    region = {
        "type": "Polygon",
        "coordinates": [[[300, 200], [1500, 200], [1500, 1300], [300, 1300], [300, 200]]],
    }
    more: dict[str, Any] = {
        "size": [1800, 1400],
        "region": region,
        "pixels": str(tmp_path / "pixels.png"),
    }
    proxy = Proxy(server)
    with proxied(proxy) as url:
        away = asked(url, REGIONS, **{**more, "uri": "file:/elsewhere/disks.tif"})
        other = asked(url, REGIONS, **more)  # the path is known, but the file has another size
        turned = asked(url, REGIONS, **more, type="OpenSlide (Rotate 180)")
        results = [build.run(kind, **each) for each in (away, other, turned)]
        seen = build.run(kind, **asked(server, REGIONS, **{**more, "uri": "file:/crops/seen.tif"}))
    for said in (*results, seen):
        assert said["state"] == "done", said["message"]
        assert said["outlines"] == seen["outlines"]
    assert sum(call == "POST /v1/uploads" for call in proxy.calls) == 3
    assert sum(call == "POST /v1/jobs" for call in proxy.calls) == 2 + 2 + 1
    assert results[0]["ids"] == results[1]["ids"] == results[2]["ids"]
    assert results[0]["children"] > 50
    whole = tmp_path / "whole.png"
    Image.fromarray(pixels[200:1300, 300:1500]).save(whole)
    assert proxy.sent / 3 <= 1.3 * whole.stat().st_size


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_pixels_are_uploaded_as_they_are(
    build: Build, server: str, tmp_path: Path, dtype: type[np.unsignedinteger]
) -> None:
    grey = np.zeros((500, 700), dtype)
    grey[100:200, 300:340] = 200 if dtype is np.uint8 else 40_000
    Image.fromarray(grey).save(tmp_path / "grey.png")
    options = {"model": "threshold", "parameters": {"below": 0, "above": 90}}
    more: dict[str, Any] = {"size": [700, 500], "pixels": str(tmp_path / "grey.png"), "grey": True}
    request = {**asked(server, options, **more), "uri": "omero:7", "region": None}
    said = build.run("java", **{key: value for key, value in request.items() if value is not None})
    assert said["state"] == "done", said["message"]
    assert said["children"] == 1


def test_an_upload_goes_on_when_the_server_is_back(
    build: Build, server: str, tmp_path: Path
) -> None:
    grey = np.zeros((500, 700), np.uint8)
    grey[100:200, 300:340] = 200
    Image.fromarray(grey).save(tmp_path / "grey.png")
    options = {"model": "threshold", "parameters": {"below": 0, "above": 90}}
    more: dict[str, Any] = {"size": [700, 500], "pixels": str(tmp_path / "grey.png"), "grey": True}
    refusals = [
        ("POST /v1/uploads", 429, "1"),
        *[("PUT", status, "") for status in (502, 503, 504)],
    ]
    proxy = Proxy(server, refusals=refusals)
    with proxied(proxy) as url:
        request = {**asked(url, options, **more), "uri": "omero:7"}
        del request["region"]
        said = build.run("java", **request)
        failing = Proxy(server, refusals=[("PUT", 500, "")])
        with proxied(failing) as bad:
            failed = build.run("java", **{**request, "url": bad})
    assert said["state"] == "done", said["message"]
    assert said["children"] == 1
    assert not proxy.refusals
    assert failed["state"] == "failed"
    assert "HTTP 500" in failed["message"]


def test_objects_come_in_the_order_in_which_the_user_looks(build: Build, server: str) -> None:
    """At the right upper corner first, and then, panning, at the left lower one."""
    proxy = Proxy(server)
    options = {"model": "slow", "parameters": {"seconds": 0.15}}
    with proxied(proxy) as url:
        said = build.run("script", **asked(url, options, look=[2500, 1000], pan=[1100, 2300]))
    assert said["state"] == "done", said["message"]
    tiles = [(int(x // 256), int(y // 256)) for x, y in said["places"]]
    assert (9, 3) in tiles[:4]  # two workers, who begin together
    # without the pan the left column comes last and from above
    assert tiles.index((4, 8)) < tiles.index((4, 3))
    assert proxy.moves == [{"focus": [1100, 2300]}]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("{server}", r"Connected to isoline .*: \d+ models\."),
        ("{host}/", "Connected"),
        ("  {server}/v1/models ", "Connected"),
        ("http://127.0.0.1:{free}", "Nothing answers at .*isoline serve"),
        ("https://{host}", "cannot be reached over https"),
        ("http://no.such.machine.invalid", "no host of that name"),
        ("http://bad address", "is not an address"),
        ("ftp://{host}", "is not an address"),
        ("", "is not an address"),
    ],
)
def test_the_connection_is_judged_in_words(
    build: Build, server: str, typed: str, words: str
) -> None:
    host = server.removeprefix("http://")
    url = typed.format(server=server, host=host, free=free_port())
    assert re.search(words, build.run("java", do="test", url=url)["words"])


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, r"Something answers at .* \(HTTP 404\), but it is not isoline. Is the port right\?"),
        (400, r"Is the port right, or is it https://\?"),  # nginx, to http at its port of https
        (301, "points to https://elsewhere.example/v1/health: write that address"),
    ],
)
def test_something_else_that_answers_is_not_taken_for_isoline(
    build: Build, status: int, words: str
) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", "https://elsewhere.example/v1/health")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_address[1]}"
        said = build.run("java", do="test", url=url)["words"]
        other.shutdown()
    assert re.search(words, said)


def test_a_token_is_asked_for_and_refused_in_words(
    build: Build, tmp_path: Path, disk_slide: Shapes
) -> None:
    reader = f"[tokens.guest]\nsha256 = '{digest('guest')}'\nscopes = ['view']\n"
    with serving(disk_slide.path.parent, tmp_path, token="right", more=reader) as url:
        words = [
            build.run("java", do="test", url=url, token=token)["words"]
            for token in ("", "wrong", "right")
        ]
        run = build.run("script", **asked(url, OBJECTS), token="wrong")
        guest = build.run("java", **asked(url, OBJECTS), token="guest")
    assert words[0].startswith("The server requires a token, and none is set. Enter the one for")
    assert words[1].startswith("The server does not accept this token. Enter the one for")
    assert words[1] == run["message"]
    assert words[2].startswith("Connected")
    assert "guest may not do this" in guest["message"]  # that token is known: another is no remedy


def test_a_mistake_in_the_request_is_said_with_the_remedy(
    build: Build, kind: str, server: str
) -> None:
    said = build.run(kind, **asked(server, {"model": "threshold", "parameters": {"below": -1}}))
    assert said["state"] == "failed"
    assert "Remedy:" in said["message"]
    assert said["children"] == said["events"] == 0


def test_what_cannot_be_read_is_not_blamed_on_the_server(
    build: Build, server: str, tmp_path: Path
) -> None:
    """No pixel size anywhere; pixels that are not there, or of a type that PNG does not have."""
    Image.fromarray(np.full((300, 400, 3), 240, np.uint8)).save(tmp_path / "a.png")
    pixels: dict[str, Any] = {
        "size": [400, 300],
        "pixels": str(tmp_path / "a.png"),
        "uri": "omero:7",
    }
    nuclei = asked(server, {"model": "nuclei"}, **pixels)
    threshold = asked(server, OBJECTS, **pixels)
    for request in (nuclei, threshold):
        del request["region"]
    del nuclei["um"], threshold["pixels"]
    sizeless = build.run("java", **nuclei)["message"]
    assert re.search("no pixel size.*double-click on Pixel width in the Image tab", sizeless)
    unread = build.run("script", **threshold)["message"]
    assert unread.startswith("QuPath cannot read the pixels of this image")
    strange = build.run("java", **threshold, grey=True, dtype="FLOAT32")["message"]
    assert strange.startswith("The server cannot read the file")
    assert "type float32 cannot be uploaded. Remedy: [file_uris]" in strange
