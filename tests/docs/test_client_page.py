"""The examples of docs/client.md, run from top to bottom on a real server."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from isoline.client import Done
from tests.serving import serving

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
URL = "http://127.0.0.1:8765"
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def url(real_slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    images = tmp_path_factory.mktemp("images")
    shutil.copy(real_slide, images / "slide.svs")
    i, j, k = np.mgrid[:40, :30, :24]
    ball = (i - 20) ** 2 + (j - 15) ** 2 + (k - 12) ** 2 < 60
    voxels = np.where(ball, 200, 0).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1, 1, 2.5, 1])), images / "head.nii.gz")
    with serving(images, tmp_path_factory.mktemp("data")) as url:
        yield url


def test_every_example_runs(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = PAGE.read_text(encoding="utf-8")
    assert page.count(URL) == 1
    found: dict[str, Any] = {}
    for example in EXAMPLE.finditer(page):
        above = "\n" * page.count("\n", 0, example.start(1))  # so that errors name the line
        code = compile(above + example[1].replace(URL, url), str(PAGE), "exec")
        exec(code, found)
    assert found["follower"].error is None
    assert len(found["saved"]) > 100
    assert found["kept"].features
    assert found["labels"].sum() == (found["voxels"] == 200).sum() > 0
    with Image.open("overview.png") as overview:
        assert max(overview.size) == 256
    assert found["tile"].shape == (512, 512, 3)
    assert len(found["run"].store.final()) > 5
    assert isinstance(found["end"], Done)
