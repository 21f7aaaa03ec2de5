from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isoline.errors import ImageChanged
from isoline.geometry.grid import Box
from isoline.inference.resources import SOURCES, Resources
from isoline.models.catalogue import ModelCatalogue
from isoline.sources.registry import open_image
from isoline.sources.source import Source


@pytest.fixture
def resources(tmp_path: Path) -> Resources:
    return Resources(ModelCatalogue(tmp_path), "cpu")


def _picture(folder: Path, number: int) -> tuple[Path, str, str]:
    """Return path, reader and fingerprint of a picture."""
    path = folder / f"{number}.png"
    Image.fromarray(np.full((9, 7), number, np.uint8)).save(path)
    source = open_image(path)
    source.close()
    return path, source.info.reader, source.info.fingerprint


def _is_open(source: Source) -> bool:
    try:
        source.read_level(0, Box(0, 0, 1, 1))
    except ValueError:
        return False
    return True


def test_the_images_used_last_stay_open(resources: Resources, tmp_path: Path) -> None:
    pictures = [_picture(tmp_path, number) for number in range(SOURCES + 1)]
    opened = [resources.source(*picture) for picture in pictures[:SOURCES]]
    assert resources.source(*pictures[0]) is opened[0]
    opened.append(resources.source(*pictures[SOURCES]))
    assert [_is_open(source) for source in opened] == [True, False, True, True, True]
    assert resources.source(*pictures[1]) is not opened[1]
    resources.close()
    assert not any(map(_is_open, opened))


def test_an_image_that_was_overwritten_is_opened_again(
    resources: Resources, tmp_path: Path
) -> None:
    before = _picture(tmp_path, 1)
    opened = resources.source(*before)
    Image.fromarray(np.full((9, 7), 2, np.uint8)).save(before[0])
    # a job on what it was fails; one on what it is now does not
    with pytest.raises(ImageChanged, match="submit the job again"):
        resources.source(*before)
    assert not _is_open(opened)
    now = open_image(before[0]).info
    again = resources.source(before[0], now.reader, now.fingerprint)
    assert (again.read_level(0, Box(0, 0, 7, 9)) == 2).all()
    with pytest.raises(ImageChanged):
        resources.source(*before)


def test_a_model_is_loaded_once(resources: Resources) -> None:
    loaded = resources.model("threshold", "1")
    assert resources.model("threshold", "1") is loaded
    assert resources.model("threshold", "2") is not loaded
