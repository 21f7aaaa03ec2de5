"""`isoline-client`, built and installed where there is nothing but requests."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

import isoline
from isoline.client import Client, Contours, Done
from tests.serving import serving

pytestmark = pytest.mark.slow

PROJECT = Path(isoline.__file__).parents[1] / "isoline-client"
HOOK = "import sys; from setuptools import build_meta; build_meta.build_{}(sys.argv[1])"
"""One of the two builds of PEP 517, run in the folder of a project."""

SCRIPT = """
import json, sys
from isoline_client import Client, Contours, Done, __version__

client = Client(sys.argv[1])
job = client.submit("slides/flat.png", "threshold", parameters={"below": 128})
*events, end = job.events()
ids = [each["id"] for event in events if isinstance(event, Contours) for each in event.features]
heavy = [name for name in ("isoline", "numpy", "orjson", "click") if name in sys.modules]
print(json.dumps([__version__, sorted(ids), isinstance(end, Done), heavy]))
"""


def build(kind: str, project: Path, into: Path) -> Path:
    into.mkdir()
    subprocess.run(
        [sys.executable, "-c", HOOK.format(kind), str(into)],
        cwd=project,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (built,) = into.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client")
    shutil.copytree(PROJECT, folder / "project")  # a build leaves files behind
    return build("sdist", folder / "project", folder / "sdist")


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """The wheel as a packager builds it: from the sdist, without the repository."""
    unpacked = sdist.parents[1] / "unpacked"
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (project,) = unpacked.iterdir()
    return build("wheel", project, sdist.parents[1] / "wheel")


def test_the_wheel_holds_the_client_alone(wheel: Path) -> None:
    carried = zipfile.ZipFile(wheel)
    assert wheel.name == f"isoline_client-{isoline.__version__}-py3-none-any.whl"
    sources = {f"isoline_client/{path.name}" for path in (PROJECT / "isoline_client").glob("*.py*")}
    code = {name for name in carried.namelist() if ".dist-info/" not in name}
    assert code == {name for name in sources if "__pycache__" not in name} | {
        "isoline_client/py.typed"
    }
    (metadata,) = (name for name in carried.namelist() if name.endswith("/METADATA"))
    said = carried.read(metadata).decode()
    assert [line for line in said.splitlines() if line.startswith("Requires-Dist")] == [
        "Requires-Dist: requests>=2.31"
    ]
    assert "License-Expression: Apache-2.0" in said
    (licence,) = (name for name in carried.namelist() if name.endswith("/LICENSE"))
    assert b"Apache License" in carried.read(licence)


@pytest.fixture(scope="module")
def python(wheel: Path) -> Path:
    """The interpreter of an environment with the wheel and what it asks for."""
    environment = wheel.parents[1] / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, timeout=120)
    python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    installing = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*installing, str(wheel), f"requests=={requests.__version__}"], check=True, timeout=240
    )
    return python


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    images = tmp_path_factory.mktemp("images")
    flat = np.full((300, 400, 3), 230, np.uint8)
    flat[100:120, 50:90] = flat[200:203, 300:310] = 40
    Image.fromarray(flat).save(images / "flat.png")
    with serving(images, tmp_path_factory.mktemp("data")) as url:
        yield url


def test_a_script_runs_with_requests_alone(python: Path, url: str) -> None:
    listing = subprocess.check_output([str(python), "-m", "pip", "list", "--format", "json"])
    installed = {each["name"].lower().replace("_", "-") for each in json.loads(listing)}
    assert installed - {"pip", "setuptools"} == {
        "isoline-client",
        "requests",
        "certifi",
        "charset-normalizer",
        "idna",
        "urllib3",
    }
    said = subprocess.check_output([str(python), "-c", SCRIPT, url], text=True, timeout=120)
    *events, end = (
        Client(url).submit("slides/flat.png", "threshold", parameters={"below": 128}).events()
    )
    ids = [each["id"] for event in events if isinstance(event, Contours) for each in event.features]
    assert isinstance(end, Done)
    assert len(ids) == end.objects == 2
    assert json.loads(said) == [isoline.__version__, sorted(ids), True, []]
