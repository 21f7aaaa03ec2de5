"""Which resolution a model works at, and what is said when none suits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from isoline.domain.events import Label
from isoline.errors import BadSpacing
from isoline.geometry.grid import XY
from isoline.models.base import ModelSpec, Regions
from isoline.pipeline.resolution import image_spacing, working_grid
from isoline.sources.base import ImageInfo, Level

SPEC = ModelSpec(
    name="some",
    title="",
    description="",
    version="1",
    labels=(Label("thing", (0, 0, 0)),),
    output=Regions(),
    spacings_um=(0.25, 0.5),
)
ANY = dataclasses.replace(SPEC, spacings_um=())


def info(spacing_um: XY | None) -> ImageInfo:
    return ImageInfo(
        reader="plain",
        fingerprint="00",
        kind="image",
        levels=(Level((1000, 800), XY(1.0, 1.0)),),
        spacing_um=spacing_um,
        channels=("red", "green", "blue"),
        dtype=np.dtype(np.uint8),
        background=(255, 255, 255),
    )


@pytest.mark.parametrize(
    ("native", "scale"),
    [
        (0.2457, 1.0),  # close enough to 0.25 to leave pixels alone
        (0.5, 1.0),
        (0.1213, 2.0),  # two pixels make 0.2426
        (0.165, 0.25 / 0.165),  # two make 0.33, a third too much: the exact scale it is
    ],
)
def test_pixels_are_left_whole_where_the_model_tolerates_it(native: float, scale: float) -> None:
    grid = working_grid("a.svs", info(XY(native, native)), SPEC, XY(native, native), None)
    assert grid.scale == XY(scale, scale)


def test_the_grid_lies_wholly_on_the_image() -> None:
    grid = working_grid("a.svs", info(None), SPEC, XY(0.25, 0.25), 0.3)
    assert grid.scale == XY(1.2, 1.2)
    assert grid.size == (833, 666)


def test_pixels_that_are_not_square() -> None:
    grid = working_grid("a.tif", info(None), SPEC, XY(0.25, 0.125), None)
    assert grid.scale == XY(1.0, 2.0)


def test_without_spacing_a_model_of_any_works_at_level_0() -> None:
    assert working_grid("a.png", info(None), ANY, None, None).scale == XY(1.0, 1.0)


@pytest.mark.parametrize(
    ("spacing", "at_um", "says"),
    [
        (None, None, "no pixel size"),
        (None, 0.25, "no pixel size"),
        (XY(2.0, 2.0), None, "too coarse"),
        (XY(0.25, 0.25), 1.0, "cannot work at 1 um"),
    ],
)
def test_what_does_not_go_together(spacing: XY | None, at_um: float | None, says: str) -> None:
    with pytest.raises(BadSpacing, match=says) as caught:
        working_grid("a.svs", info(spacing), SPEC, spacing, at_um)
    assert caught.value.remedy


def test_a_stated_spacing_must_agree_with_the_file() -> None:
    own = info(XY(0.25, 0.25))
    assert image_spacing("a.svs", own, XY(0.26, 0.26)) == XY(0.25, 0.25)
    assert image_spacing("a.png", info(None), XY(0.5, 0.5)) == XY(0.5, 0.5)
    with pytest.raises(BadSpacing, match="states"):
        image_spacing("a.svs", own, XY(0.27, 0.25))


@pytest.mark.parametrize("own", [XY(1e-7, 0.25), None])
def test_no_pixel_is_smaller_than_an_atom(own: XY | None) -> None:
    with pytest.raises(BadSpacing, match="no image has"):
        image_spacing("a.png", info(own), None if own else XY(5e-324, 5e-324))
