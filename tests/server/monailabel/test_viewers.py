"""Requests as the QuPath jar, the DSA task and the OHIF panel of MONAI Label send them."""

from __future__ import annotations

import io
import json
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import requests
from numpy.typing import NDArray
from PIL import Image
from shapely import Polygon

from isoline.client import Client
from tests.serving import serving
from tests.slides import Shapes

pytestmark = pytest.mark.slow

WHOLE = {"location": [0, 0], "size": [0, 0], "min_poly_area": 0, "params": {"below": 180}}
SQUARE = {"location": [1000, 900], "size": [512, 400], "params": {"below": 180}}


@dataclass(frozen=True)
class Server:
    """A server and how to ask it."""

    url: str

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        return requests.request(method, self.url + path, timeout=60, **options)

    def wsi(self, body: object, output: str, model: str = "threshold") -> requests.Response:
        path = f"/infer/wsi/{model}?image=disks&output={output}"
        answer = self.ask("POST", path, json=body)
        assert answer.status_code == 200, answer.text
        return answer

    def refused(self, body: object, model: str = "threshold") -> str:
        answer = self.ask("POST", f"/infer/wsi/{model}?image=disks", json=body)
        assert 400 <= answer.status_code < 500, answer.text
        detail: str = answer.json()["detail"]
        return detail


@pytest.fixture(scope="module")
def server(disk_slide: Shapes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    images, data = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("data")
    (images / "2024").mkdir()
    shutil.copy(disk_slide.path, images / "2024" / "disks.tif")
    for folder in ("a", "b"):
        (images / folder).mkdir()
        Image.new("RGB", (64, 64), "white").save(images / folder / "twin.png")
    (images.parent / "secret.png").write_bytes(png(np.zeros((8, 8, 3), np.uint8)))
    with serving(images, data, more="[engine]\nworkers = 2\n[monailabel]\nupload_mib = 4\n") as url:
        yield Server(url)


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def polygons(answer: requests.Response) -> list[Polygon]:
    (annotation,) = answer.json()["annotations"]
    found = []
    for element in annotation["annotation"]["elements"]:
        shells = element["contours"]
        holes = element.get("holes", [[]] * len(shells))
        found += [Polygon(shell, inner) for shell, inner in zip(shells, holes, strict=True)]
    return found


# Seams


def test_seams_are_exact(server: Server, disk_slide: Shapes) -> None:
    found = {
        side: polygons(server.wsi({**WHOLE, "tile_size": [side, side]}, "json"))
        for side in (256, 512, 1024)
    }
    assert {side: len(each) for side, each in found.items()} == dict.fromkeys(
        found, disk_slide.count
    )
    for each in found.values():
        areas = Counter(polygon.area for polygon in each)
        assert areas == Counter(map(float, disk_slide.area_px))
    texts = [sorted(polygon.wkt for polygon in each) for each in found.values()]
    assert texts[0] == texts[1] == texts[2]


def test_the_smallest_area(server: Server, disk_slide: Shapes) -> None:
    body = {key: value for key, value in WHOLE.items() if key != "min_poly_area"}
    assert len(polygons(server.wsi(body, "json"))) == (disk_slide.area_px >= 80).sum()
    large = polygons(server.wsi({**WHOLE, "min_poly_area": 1000}, "json"))
    assert len(large) == (disk_slide.area_px >= 1000).sum()


def test_levels_below_the_finest(server: Server, disk_slide: Shapes) -> None:
    # size in pixels of the level, location and contours in level-0 pixels
    answer = server.wsi({**SQUARE, "level": 1, "size": [256, 200], "min_poly_area": 0}, "json")
    said = answer.json()
    assert said["location"] == [1000, 900]
    assert said["size"] == [256, 200]
    found = polygons(answer)
    truth = np.unique(disk_slide.labels[900 : 900 + 800, 1000 : 1000 + 1024])
    assert abs(len(found) - len(truth)) < 0.15 * len(truth)
    rows = disk_slide.labels[900:1700, 1000:2024] > 0
    assert sum(polygon.area for polygon in found) == pytest.approx(rows.sum(), rel=0.2)
    assert all(
        920 < polygon.centroid.x < 2100 and 820 < polygon.centroid.y < 1800
        for polygon in found
        if polygon.area < 3000
    )


def test_the_whole_image_at_a_coarse_level(server: Server, disk_slide: Shapes) -> None:
    params = {"level": 2, "size": [0, 0], "below": 200, "result_extension": ".nrrd"}
    answer = server.ask(
        "POST", "/infer/threshold?image=disks&output=image", data={"params": json.dumps(params)}
    )
    header, _, pixels = answer.content.partition(b"\n\n")
    assert b"sizes: 375 312" in header
    mask = np.frombuffer(pixels, np.uint8).reshape(312, 375)
    truth = disk_slide.labels[: 312 * 16, : 375 * 16] > 0
    covered = truth.reshape(312, 16, 375, 16).mean(axis=(1, 3))
    assert (mask[covered > 0.6] == 1).all()
    assert (mask[covered < 0.05] == 0).all()


def test_what_is_wrong_with_a_region_is_said(server: Server) -> None:
    assert "has levels 0 to 2" in server.refused({"level": 3})
    assert "6007 x 5003" in server.refused({"location": [9000, 0]})
    assert "0 to 255" in server.refused({"params": {"below": 999}})
    assert "two numbers" in server.refused({"location": 3})
    assert "did you mean" in server.refused({}, model="thresold")
    assert "isoline models pull" in server.refused({}, model="epithelium")
    answer = server.ask("POST", "/infer/wsi/threshold?image=disks&output=svg", json={})
    assert answer.status_code == 400
    assert server.ask("POST", "/infer/wsi/threshold", json={}).status_code == 400


def test_unknown_keys_are_passed_over(server: Server) -> None:
    more = {"wsi_tiles": None, "gpus": "all", "params": {"below": 180, "max_workers": 2}}
    assert polygons(server.wsi({**SQUARE, **more}, "json"))


# The QuPath jar


def test_qupath_asks_for_the_slide_and_sends_its_region(server: Server, disk_slide: Shapes) -> None:
    head = server.ask("HEAD", "/datastore/image?image=disks")
    assert head.status_code == 200
    assert int(head.headers["Content-Length"]) == disk_slide.path.stat().st_size
    answer = server.wsi({**SQUARE, "min_poly_area": 0}, "asap")
    assert answer.headers["Content-Type"].startswith("application/xml")
    tree = ElementTree.fromstring(answer.content)
    assert tree.tag == "ASAP_Annotations"
    head_of = tree.find("Annotations")
    assert head_of is not None
    assert [head_of.get(key) for key in "XYWH"] == ["1000", "900", "512", "400"]
    found = []
    for annotation in tree.iter("Annotation"):
        assert annotation.get("Type") == "Polygon"
        assert annotation.get("Name") == annotation.get("PartOfGroup") == "Foreground"
        assert annotation.get("Color") == "#e41a1c"
        corners = list(annotation.iter("Coordinate"))
        assert [corner.get("Order") for corner in corners] == [*map(str, range(len(corners)))]
        found.append(Polygon([(float(c.get("X", "")), float(c.get("Y", ""))) for c in corners]))
    shells = [
        Polygon(each.exterior)
        for each in polygons(server.wsi({**SQUARE, "min_poly_area": 0}, "json"))
    ]
    assert sorted(each.wkt for each in found) == sorted(each.wkt for each in shells)


def test_qupath_sends_a_crop_of_a_slide_that_is_not_here(
    server: Server, disk_slide: Shapes
) -> None:
    assert server.ask("HEAD", "/datastore/image?image=elsewhere").status_code == 404
    crop = np.asarray(disk_slide.labels[900:1300, 1000:1512] > 0)
    pixels = np.where(crop[..., None], np.uint8(60), np.uint8(240)).repeat(3, axis=2)
    wsi = {"location": [0, 0], "size": [512, 400], "tile_size": [512, 512], "min_poly_area": 0}
    answer = server.ask(
        "POST",
        "/infer/wsi_v2/threshold?output=asap",
        data={"wsi": json.dumps(wsi)},
        files={"file": (r"C:\Users\me\Temp\patch1.png", png(pixels), "image/png")},
    )
    assert answer.status_code == 200, answer.text
    tree = ElementTree.fromstring(answer.content)
    boxes = 0.0
    for annotation in tree.iter("Annotation"):
        corners = [
            (float(c.get("X", "")), float(c.get("Y", ""))) for c in annotation.iter("Coordinate")
        ]
        assert all(0 <= x <= 512 and 0 <= y <= 400 for x, y in corners)
        boxes += Polygon(corners).area
    assert boxes >= crop.sum() > 0
    assert server.ask("GET", "/datastore/").json()["total"] == 0  # the crop is gone


# The DSA task


def test_dsa_reads_an_annotation(server: Server) -> None:
    document = server.wsi({**SQUARE, "min_poly_area": 0}, "dsa").json()
    shapes = polygons(server.wsi({**SQUARE, "min_poly_area": 0}, "json"))
    assert set(document) == {"name", "elements", "description"}
    described = json.loads(document["description"])
    assert described["model"] == "threshold"
    assert described["count"] == len(document["elements"]) == len(shapes)
    element = document["elements"][0]
    assert {key: element[key] for key in ("group", "type", "lineColor", "lineWidth", "closed")} == {
        "group": "Foreground",
        "type": "polyline",
        "lineColor": "rgb(228, 26, 28)",
        "lineWidth": 2,
        "closed": True,
    }
    assert element["label"] == {"value": "Foreground"}
    assert all(len(point) == 3 and point[2] == 0 for point in element["points"])
    areas = [
        Polygon(
            [point[:2] for point in each["points"]],
            [[point[:2] for point in hole] for hole in each["holes"]],
        ).area
        for each in document["elements"]
    ]
    assert Counter(areas) == Counter(shape.area for shape in shapes)


# The OHIF panel


def test_ohif_takes_a_mask(server: Server, disk_slide: Shapes) -> None:
    params = {
        "result_extension": ".nrrd",
        "result_dtype": "uint8",
        "result_compress": False,
        "below": 180,
        "location": [1000, 900],
        "size": [512, 400],
    }
    answer = server.ask(
        "POST",
        "/infer/threshold?image=disks&output=image",
        files={"params": (None, json.dumps(params))},
    )
    assert answer.status_code == 200, answer.text
    assert ".nrrd" in answer.headers["Content-Disposition"]
    header, _, pixels = answer.content.partition(b"\n\n")
    assert header.startswith(b"NRRD")
    assert b"type: uint8" in header
    mask = np.frombuffer(pixels, np.uint8).reshape(400, 512)
    inside = disk_slide.labels[900:1300, 1000:1512] > 0
    # whole objects whose anchor lies inside, so that only the edges may differ
    assert (mask[60:-60, 60:-60] == inside[60:-60, 60:-60]).mean() > 0.98

    said = server.ask(
        "POST", "/infer/threshold?image=disks&output=json", data={"params": json.dumps(params)}
    ).json()
    assert said["label_names"] == {"Foreground": 1}
    seg = server.ask("POST", "/infer/threshold?image=disks&output=dicom_seg", data={"params": "{}"})
    assert seg.status_code == 422
    assert "DICOM SEG" in seg.json()["detail"]


def test_a_mask_of_too_many_pixels_is_refused(server: Server) -> None:
    answer = server.ask("POST", "/infer/threshold?image=disks&output=image", data={"params": "{}"})
    assert answer.status_code == 413
    assert "location and size" in answer.json()["detail"]


# Pace


def test_info_answers_while_inference_runs(server: Server) -> None:
    running = threading.Thread(target=server.wsi, args=({**WHOLE, "tile_size": [256, 256]}, "dsa"))
    server.ask("GET", "/info/")
    running.start()
    seconds = []
    while running.is_alive():
        began = time.monotonic()
        assert server.ask("GET", "/info/").status_code == 200
        seconds.append(time.monotonic() - began)
        time.sleep(0.02)
    print(f"/info/ during inference: median {median(seconds):.4f} s, worst {max(seconds):.4f} s")
    assert len(seconds) > 5
    assert median(seconds) < 0.05


def test_hanging_up_cancels(server: Server) -> None:
    body = json.dumps({**WHOLE, "params": {"seconds": 0.3}}).encode()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(
            b"POST /infer/wsi/slow?image=disks HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        while not (running := states(server, "slow", "running")):
            time.sleep(0.05)
    began = time.monotonic()
    while states(server, "slow", "running"):
        assert time.monotonic() - began < 4
        time.sleep(0.05)
    assert running.items() <= states(server, "slow", "cancelled").items() | running.items()
    assert states(server, "slow", "cancelled")


def states(server: Server, model: str, state: str) -> dict[str, str]:
    jobs = server.ask("GET", "/v1/jobs").json()["jobs"]
    return {job["job"]: model for job in jobs if (job["model"], job["state"]) == (model, state)}


# What nobody may reach


@pytest.mark.parametrize(
    "image",
    ["/etc/passwd", "../secret.png", "slides/../../secret.png", "slides//etc/passwd", "twin\0.png"],
)
def test_no_image_but_the_configured_ones(server: Server, image: str) -> None:
    for path in ("/infer/wsi/threshold", "/infer/threshold"):
        answer = server.ask("POST", path, params={"image": image})
        assert answer.status_code == 404, answer.text
    assert server.ask("GET", "/datastore/image", params={"image": image}).status_code == 404
    over = {"image": image, **SQUARE, "params": {"image": image, "below": 180}}
    assert len(polygons(server.wsi(over, "json"))) == len(polygons(server.wsi(SQUARE, "json")))


def test_a_name_that_two_images_have(server: Server) -> None:
    answer = server.ask("HEAD", "/datastore/image?image=twin")
    assert answer.status_code == 404
    answer = server.ask("GET", "/datastore/image?image=twin")
    assert "slides/a/twin.png or slides/b/twin.png" in answer.json()["detail"]
    assert server.ask("HEAD", "/datastore/image?image=slides/a/twin.png").status_code == 200


def test_uploads_have_a_largest_size(server: Server) -> None:
    large = {"files": ("large.png", bytes(5 << 20), "image/png")}
    assert server.ask("PUT", "/session/", files=large).status_code == 413
    assert server.ask("PUT", "/session/", data="nothing").status_code == 400
    for session in ("..%2f..", "x", "0" * 36):
        assert server.ask("GET", f"/session/{session}").status_code == 404


# Batches, and what else there is


def test_a_batch_over_the_datastore(server: Server) -> None:
    pixels = np.full((100, 120, 3), 250, np.uint8)
    pixels[10:30, 20:60] = 20
    for name in ("one", "two"):
        files = {"file": (f"{name}.png", png(pixels), "image/png")}
        answer = server.ask("PUT", "/datastore/", files=files, data={"params": '{"by": "me"}'})
        assert answer.json() == {"image": name}
    assert server.ask("GET", "/batch/infer").status_code == 404
    answer = server.ask("POST", "/batch/infer/threshold?run_sync=true", json={"label_tag": "auto"})
    assert answer.json()["one"]["tag"] == "auto"
    label = server.ask("GET", "/datastore/label?label=two&tag=auto")
    (element,) = label.json()["elements"]
    assert element["points"] == [[20, 10, 0], [60, 10, 0], [60, 30, 0], [20, 30, 0]]
    info = server.ask("GET", "/datastore/label/info?label=two&tag=auto").json()
    assert info["model"] == "threshold"

    slow = server.ask("POST", "/batch/infer/slow?images=unlabeled", json={"seconds": 3})
    assert slow.json()["status"] in ("SUBMITTED", "RUNNING")
    assert server.ask("POST", "/batch/infer/slow", json={}).status_code == 429
    assert server.ask("GET", "/batch/infer?check_if_running=true").status_code == 200
    assert server.ask("DELETE", "/batch/infer").json()["status"] == "STOPPED"
    assert len(server.ask("GET", "/batch/infer?all=true").json()) == 2
    for name in ("one", "two"):
        assert server.ask("DELETE", f"/datastore/?id={name}").json() == {}
    assert server.ask("GET", "/datastore/?output=all").json()["objects"] == {}


def test_the_rest(server: Server) -> None:
    assert server.ask("GET", "/logs/").headers["Content-Type"].startswith("text/plain")
    assert server.ask("GET", "/model/info/threshold").status_code == 404
    assert server.ask("GET", "/model/threshold").status_code == 501
    for route in ("train", "scoring"):
        assert server.ask("GET", f"/{route}/").status_code == 404
        assert server.ask("POST", f"/{route}/dice", json={}).status_code == 501
        assert server.ask("DELETE", f"/{route}/").json() is None
    # the viewer and isoline's own API share the port
    assert server.ask("GET", "/").headers["Content-Type"].startswith("text/html")
    assert Client(server.url).health()["status"] == "ready"
