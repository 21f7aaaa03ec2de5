"""Which resolution a model works at, and what is said when none suits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from isoline.domain.events import Label
from isoline.errors import BadSpacing
from isoline.geometry.grid import XY
from isoline.models.model import ModelSpec, Regions
from isoline.pipeline.resolution import image_spacing, working_grid
from isoline.sources.source import ImageInfo, Level

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
    assert image_spacing("a.svs", own, None) == XY(0.25, 0.25)
    assert image_spacing("a.svs", own, XY(0.26, 0.26)) == XY(0.25, 0.25)
    assert image_spacing("a.png", info(None), XY(0.5, 0.5)) == XY(0.5, 0.5)
    assert image_spacing("a.png", info(None), None) is None


def test_a_wrong_spacing_can_be_overridden() -> None:
    own = info(XY(1.0, 1.0))
    assert image_spacing("a.tif", own, XY(0.25, 0.25), override=True) == XY(0.25, 0.25)
    with pytest.raises(BadSpacing, match="add override_spacing"):
        image_spacing("a.tif", own, XY(0.25, 0.25))
    with pytest.raises(BadSpacing, match="state spacing_um too"):
        image_spacing("a.tif", own, None, override=True)


@pytest.mark.parametrize("share", [0.951, 1.049])
def test_a_stated_spacing_may_be_five_per_cent_off(share: float) -> None:
    own = info(XY(0.25, 0.5))
    assert image_spacing("a.svs", own, XY(0.25 * share, 0.5 * share)) == XY(0.25, 0.5)


@pytest.mark.parametrize("share", [0.949, 1.051])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_stated_spacing_may_be_no_further_off_on_either_axis(share: float, axis: int) -> None:
    stated = [0.25, 0.5]
    stated[axis] *= share
    with pytest.raises(BadSpacing, match=rf"states {stated[axis]:.4g}"):
        image_spacing("a.svs", info(XY(0.25, 0.5)), XY(*stated))


@pytest.mark.parametrize("at_um", [0.1875, 0.625])
def test_a_working_spacing_may_be_a_quarter_off(at_um: float) -> None:
    """From a quarter below the finest spacing of the model to a quarter above the coarsest."""
    grid = working_grid("a.svs", info(None), SPEC, XY(0.25, 0.125), at_um)
    assert grid.scale == XY(at_um / 0.25, at_um / 0.125)


@pytest.mark.parametrize("at_um", [0.1874, 0.6251])
def test_a_working_spacing_may_be_no_further_off(at_um: float) -> None:
    with pytest.raises(BadSpacing, match=f"cannot work at {at_um} um") as caught:
        working_grid("a.svs", info(None), SPEC, XY(0.25, 0.25), at_um)
    assert caught.value.remedy == "some works at 0.188 to 0.625 um per pixel"


def test_a_model_of_several_spacings_works_from_the_finest_to_the_coarsest() -> None:
    several = dataclasses.replace(SPEC, spacings_um=(0.25, 0.5, 4.0))
    assert working_grid("a.svs", info(None), several, XY(0.25, 0.25), 5.0).scale == XY(20, 20)
    assert working_grid("a.svs", info(None), several, XY(1.0, 1.0), None).scale == XY(4, 4)
    with pytest.raises(BadSpacing) as caught:
        working_grid("a.svs", info(None), several, XY(0.25, 0.25), 5.01)
    assert caught.value.remedy == "some works at 0.188 to 5 um per pixel"


def test_a_model_of_any_spacing_works_at_any() -> None:
    assert working_grid("a.svs", info(None), ANY, XY(0.25, 0.5), 40.0).scale == XY(160.0, 80.0)


@pytest.mark.parametrize(
    ("spacing", "scale"),
    [
        (XY(0.5, 0.25), XY(1.0, 2.0)),
        (XY(0.3125, 0.125), XY(1.0, 2.0)),  # a quarter above the finer spacing is still it
        (XY(0.32, 0.25), XY(0.5 / 0.32, 2.0)),
        (XY(0.625, 0.5), XY(1.0, 1.0)),
    ],
)
def test_the_coarser_axis_chooses_the_spacing(spacing: XY, scale: XY) -> None:
    assert working_grid("a.svs", info(None), SPEC, spacing, None).scale == scale


@pytest.mark.parametrize("spacing", [XY(0.25, 0.63), XY(0.63, 0.25)])
def test_one_axis_that_is_too_coarse_is_enough(spacing: XY) -> None:
    with pytest.raises(BadSpacing, match=r"has 0\.63 um per pixel, too coarse") as caught:
        working_grid("a.svs", info(None), SPEC, spacing, None)
    assert caught.value.remedy == "some works at 0.188 to 0.625 um per pixel"


@pytest.mark.parametrize(("native", "scale"), [(0.2, 1.0), (0.1667, 0.25 / 0.1667), (0.1, 2.0)])
def test_whole_pixels_are_a_quarter_off_at_most(native: float, scale: float) -> None:
    """1.25 and 2.5 pixels become whole ones; 1.4997 would be a third off."""
    grid = working_grid("a.svs", info(None), SPEC, XY(native, native), None)
    assert grid.scale == XY(scale, scale)


def test_a_pixel_is_enlarged_sixteen_times_at_most() -> None:
    assert working_grid("a.svs", info(None), SPEC, XY(4.0, 8.0), 0.25).scale == XY(1 / 16, 1 / 32)
    with pytest.raises(BadSpacing, match=r"has 4\.08 um per pixel, far coarser") as caught:
        working_grid("a.svs", info(None), SPEC, XY(8.0, 4.08), 0.25)
    assert caught.value.remedy == "use at least 0.255, or leave at_um out"


@pytest.mark.parametrize("own", [XY(1e-7, 0.25), None])
def test_no_pixel_is_smaller_than_an_atom(own: XY | None) -> None:
    with pytest.raises(BadSpacing, match="no image has"):
        image_spacing("a.png", info(own), None if own else XY(5e-324, 5e-324))


def test_a_pixel_of_an_atom_is_an_image() -> None:
    assert image_spacing("a.png", info(XY(1e-6, 2e-6)), None) == XY(1e-6, 2e-6)
    with pytest.raises(BadSpacing, match=r"no image has 9\.99e-07 um") as caught:
        image_spacing("a.png", info(XY(2e-6, 9.99e-7)), None)
    assert caught.value.remedy == "state at least 1e-06, or correct the file"
