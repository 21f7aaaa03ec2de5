"""The command `isoline`, run as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.serving import PLUGINS
from tests.slides import Shapes


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "isoline", *map(str, arguments)]


def environment(data: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(PLUGINS), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "ISOLINE_DATA": str(data), "COLUMNS": "120"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def isoline(data: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=environment(data), capture_output=True, text=True, timeout=120
    )


def test_what_isoline_sees_in_a_file(data: Path, disk_slide: Shapes, histo: Path) -> None:
    seen = isoline(data, "check", disk_slide.path)
    assert seen.returncode == 0
    assert "6007 x 5003 px" in seen.stdout
    assert "0.25 x 0.25 um" in seen.stdout
    plain = isoline(data, "check", histo)
    assert "spacing      unknown" in plain.stdout
    assert "! " in plain.stdout


def test_a_link_to_another_directory_is_checked_and_explained(
    data: Path, tmp_path: Path, histo: Path
) -> None:
    (tmp_path / "link.png").symlink_to(histo)
    seen = isoline(data, "check", tmp_path / "link.png")
    assert seen.returncode == 0, seen.stderr
    assert f"it is a link to {histo.resolve()}" in seen.stdout
    assert "link" not in isoline(data, "check", histo).stdout


def test_the_models_and_what_they_lack(data: Path) -> None:
    listed = isoline(data, "models")
    assert "nuclei" in listed.stdout
    assert "run `isoline models pull epithelium`" in listed.stdout


@pytest.mark.parametrize("dialect", ["geojson", "qupath", "dsa"])
@pytest.mark.slow
def test_segment_writes_a_file_of_each_dialect(
    data: Path, disk_slide: Shapes, tmp_path: Path, dialect: str
) -> None:
    out = tmp_path / "out.json"
    ran = isoline(
        data, "segment", disk_slide.path, "--model", "threshold", "--param", "below=180",
        "--region", "1000,1000,2000,2000", "--tile", 300, "--workers", 1,
        "--format", dialect, "--out", out,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert " objects in " in ran.stderr
    document = json.loads(out.read_text())
    found = document["elements" if dialect == "dsa" else "features"]
    assert len(found) > 100


@pytest.mark.slow
def test_the_stream_of_events_on_standard_output(data: Path, disk_slide: Shapes) -> None:
    ran = isoline(
        data, "segment", disk_slide.path, "--model", "threshold", "--region", "0,0,900,900",
        "--focus", "800,800", "--workers", 1, "--format", "ndjson", "--out", "-",
    )  # fmt: skip
    said: list[dict[str, Any]] = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [event["seq"] for event in said] == list(range(len(said)))
    assert (said[0]["event"], said[-1]["event"]) == ("started", "done")


@pytest.mark.slow
def test_a_drawn_region_from_a_file(data: Path, disk_slide: Shapes, tmp_path: Path) -> None:
    drawn = {"type": "Polygon", "coordinates": [[[0, 0], [900, 0], [0, 900], [0, 0]]]}
    (tmp_path / "roi.geojson").write_text(json.dumps(drawn))
    out = tmp_path / "out.geojson"
    ran = isoline(
        data, "segment", disk_slide.path, "--model", "threshold", "--param", "below=180",
        "--roi", tmp_path / "roi.geojson", "--workers", 1, "--out", out,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert 20 < len(json.loads(out.read_text())["features"]) < 150


@pytest.mark.slow
def test_ctrl_c_stops_and_leaves_what_was_found(
    data: Path, disk_slide: Shapes, tmp_path: Path
) -> None:
    out = tmp_path / "out.geojson"
    arguments = ("segment", disk_slide.path, "--model", "slow", "--workers", 1, "--out", out)
    process = subprocess.Popen(
        command(*arguments), env=environment(data), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (out.exists() and b'"id"' in out.read_bytes()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "stopped after" in said
    assert "Traceback" not in said
    assert 1 <= len(json.loads(out.read_text())["features"]) < 400


MISTAKES = [
    (("--model", "nucleii"), "did you mean 'nuclei'"),
    (("--model", "threshold", "--param", "below"), "expected K=V"),
    (("--model", "threshold", "--param", "below=dark"), "0 to 255"),
    (("--model", "threshold", "--region", "9000,0,9010,10"), "6007 x 5003"),
    (("--model", "threshold", "--region", "0,0,9,9", "--roi", "a"), "use only one"),
    (("--model", "threshold", "--roi", "none.geojson"), "cannot read none.geojson"),
    (("--model", "threshold", "--spacing-um", "0.5"), "leave --spacing-um out"),
    (("--model", "threshold", "--format", "svg"), "geojson"),
    (("--model", "nuclei", "--at-um", "4"), "nuclei works at"),
]


@pytest.mark.parametrize(("options", "remedy"), MISTAKES)
@pytest.mark.slow
def test_a_mistake_is_named_with_its_remedy(
    data: Path, disk_slide: Shapes, tmp_path: Path, options: tuple[str, ...], remedy: str
) -> None:
    out = tmp_path / "out.geojson"
    ran = isoline(data, "segment", disk_slide.path, *options, "--out", out)
    assert ran.returncode == 2
    assert remedy in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not out.exists()


@pytest.mark.slow
def test_an_image_without_pixel_size(data: Path, histo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.geojson"
    arguments = ("segment", histo, "--model", "nuclei", "--workers", 1, "--out", out)
    refused = isoline(data, *arguments)
    assert refused.returncode == 2
    assert "pass --spacing-um" in refused.stderr
    assert isoline(data, *arguments, "--spacing-um", "0.5").returncode == 0
    assert len(json.loads(out.read_text())["features"]) > 20


def test_a_damaged_image(data: Path, tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_bytes(b"II*\0 this is no slide")
    ran = isoline(data, "check", tmp_path / "a.svs")
    assert ran.returncode == 2
    assert ran.stderr.count("a.svs") == 1
    assert "copy it again" in ran.stderr


@pytest.mark.parametrize("through", ["itself", "a link", "the region"])
def test_no_output_over_an_input(data: Path, tmp_path: Path, through: str) -> None:
    image, drawn = tmp_path / "a.png", tmp_path / "drawn.geojson"
    Image.new("RGB", (40, 30), "white").save(image)
    drawn.write_text('{"type":"Polygon","coordinates":[[[0,0],[9,0],[9,9],[0,0]]]}')
    (tmp_path / "link.png").symlink_to(image)
    out = {"itself": image, "a link": tmp_path / "link.png", "the region": drawn}[through]
    before = out.read_bytes()
    ran = isoline(data, "segment", image, "--model", "threshold", "--roi", drawn, "--out", out)
    assert ran.returncode == 2
    assert "would overwrite" in ran.stderr
    assert out.read_bytes() == before


@pytest.mark.slow
def test_a_data_directory_is_not_needed_to_segment(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    image, out = tmp_path / "a.png", tmp_path / "a.geojson"
    Image.new("RGB", (40, 30), "white").save(image)
    ran = isoline(tmp_path / "file/data", "segment", image, "--model", "threshold", "--out", out)
    assert ran.returncode == 0
    assert json.loads(out.read_text())["isoline"]["outcome"] == "done"
    served = isoline(tmp_path / "file/data", "serve", "--images", tmp_path)
    assert served.returncode == 2
    assert "data cannot be used" in served.stderr
    assert "Traceback" not in served.stderr


def test_serving_nothing_is_a_mistake(data: Path) -> None:
    assert "--images" in isoline(data, "serve").stderr
    beyond = isoline(data, "serve", "--images", data, "--host", "0.0.0.0")
    assert beyond.returncode == 2
    assert "token" in beyond.stderr


def test_importing_isoline_loads_nothing_heavy() -> None:
    heavy = ("torch", "flask", "openslide", "numba", "cv2", "onnxruntime", "large_image", "cc3d")
    light = "isoline.protocol.requests, isoline.protocol.events, isoline.models.catalogue"
    light += ", isoline.geometry.tiling, isoline.domain.events"
    assert _loaded(light, heavy) == []
    assert _loaded("isoline.client", ("numpy", "pydantic")) == []


@pytest.mark.parametrize(
    "module",
    ["isoline", "isoline.cli.main", "isoline.config.settings", "isoline.engines.worker"],
)
def test_what_starts_often_does_without_pydantic(module: str) -> None:
    """It takes a tenth of a second, which `isoline --version` and a worker need not wait for."""
    assert _loaded(module, ("pydantic",)) == []
    assert _loaded("isoline.protocol.requests", ("pydantic",)) == ["pydantic"]


def _loaded(modules: str, others: Sequence[str]) -> list[str]:
    """Return which of `others` come along when `modules` are imported."""
    check = f"import sys, {modules}; print(*(name for name in {others} if name in sys.modules))"
    return subprocess.check_output([sys.executable, "-c", check], text=True).split()


def test_the_server_answers_before_it_loads_what_computes() -> None:
    heavy = (
        *("numba", "cv2", "scipy", "cc3d", "torch", "onnxruntime", "shapely", "openslide"),
        *("tifffile", "imagecodecs", "large_image", "pydicom", "highdicom", "nibabel"),
        *("requests", "jwt", "cryptography"),
    )
    check = (
        f"import sys, isoline.server.wsgi; print([name for name in {heavy} if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", check], text=True) == "[]\n"


@pytest.mark.slow
def test_the_demo(real_slide: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        command("demo", "--once", "--out", tmp_path), capture_output=True, text=True, timeout=240
    )
    assert ran.returncode == 0, ran.stderr
    assert "the first contours after" in ran.stderr
    collection = json.loads((tmp_path / "contours.geojson").read_text())
    assert len(collection["features"]) > 1500
    with Image.open(tmp_path / "contours.png") as picture:
        greenish = sum(
            count
            for count, (red, green, blue) in picture.getcolors(1 << 24) or []
            if green > red + 80 and green > blue + 60
        )
        assert picture.size == (2048, 1024)
        assert greenish > 20_000


def test_check_lists_the_images_in_a_file(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for name, side in (("macro", 300), ("scan", 200)):
            tiff.write(np.zeros((side, side), np.uint8), metadata={"Name": name})
    seen = isoline(data, "check", path).stdout
    assert "series 0     300 x 300 px (macro)\n" in seen
    assert "series 1     200 x 200 px (scan), read\n" in seen
    assert "another can be chosen with --series" in seen
    assert "size         300 x 300 px" in isoline(data, "check", path, "--series", "macro").stdout
