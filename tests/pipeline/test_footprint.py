"""Which pixels a viewer has to upload: those that the result depends on, to the pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from isoline.domain.prompts import Prompt
from isoline.domain.request import SegmentRequest, Value
from isoline.errors import BadRegion, BadSpacing
from isoline.geometry.grid import XY, Box
from isoline.geometry.region import Region
from isoline.models.nuclei import MAX_EXTENT_UM, Nuclei
from isoline.models.threshold import Threshold
from isoline.models.tissue import Tissue
from isoline.sources.upload import UploadRequest
from tests import planning

WHOLE = Box(0, 0, 3000, 2000)
NOTHING: Mapping[str, Value] = {}
SQUARE = XY(0.5, 0.5)
ROI = Region.rectangle(1200, 900, 1300, 950)


def footprint(
    model: str,
    region: Region | None = ROI,
    spacing_um: XY | None = SQUARE,
    at_um: float | None = None,
    parameters: Mapping[str, Value] = NOTHING,
) -> Box:
    request = SegmentRequest("upload:", model, region, at_um=at_um, parameters=parameters)
    return planning.footprint(UploadRequest((WHOLE.width, WHOLE.height), request, spacing_um))


def test_bounded_objects_need_their_extent_and_the_reach_of_the_filters() -> None:
    halo = int(MAX_EXTENT_UM / 0.5) + Nuclei.spec.reach_px + 2
    around = halo + 1  # and one for pixels that are cut at the edge
    assert footprint("nuclei") == Box(1200 - around, 900 - around, 1300 + around, 950 + around)
    assert around == 61


def test_the_halo_is_in_pixels_of_the_finer_axis() -> None:
    """The grid has pixels of 0.5 x 0.4 um: those of the image, near enough to 0.5 um."""
    around = math.ceil(MAX_EXTENT_UM / 0.4) + Nuclei.spec.reach_px + 2 + 1
    assert footprint("nuclei", spacing_um=XY(0.5, 0.4)) == Box(
        1200 - around, 900 - around, 1300 + around, 950 + around
    )
    assert around == 74


def test_unbounded_objects_need_a_tile_more() -> None:
    tile = Threshold.spec.tile_px
    small = Region.rectangle(1200, 1100, 1201, 1102)
    assert tile == 1024
    assert footprint("threshold", small) == Box(1200 - 1025, 1100 - 1025, 1201 + 1025, 2000)


def test_a_mask_needs_the_reach_of_the_filters_at_its_own_scale() -> None:
    scale, reach = 8, Tissue.spec.reach_px  # at 4 um per pixel
    x0, y0, x1, y1 = 1200 // scale - reach, 900 // scale - reach, 163 + reach, 119 + reach
    assert footprint("tissue") == Box(
        scale * x0 - 1, scale * y0 - 1, scale * x1 + 1, scale * y1 + 1
    )


def test_a_scale_that_is_no_whole_number_rounds_outwards() -> None:
    """At 4.1 um per pixel: grid pixels 146.3 to 158.5 along x, 109.7 to 115.9 along y."""
    reach, scale = Tissue.spec.reach_px, 8.2
    box = footprint("tissue", at_um=4.1)
    assert box.x0 == int((146 - reach) * scale) - 1
    assert box.y0 == int((109 - reach) * scale) - 1
    assert box.x1 == int((159 + reach) * scale) + 2
    assert box.y1 == int((116 + reach) * scale) + 2


def test_what_a_grown_cell_depends_on_is_needed_too() -> None:
    """Cells reach beyond their nuclei, and so do those beside them that they stop at."""
    grown = 2 * 10.0 + (10.0 + MAX_EXTENT_UM)
    around = math.ceil((MAX_EXTENT_UM + grown) / 0.5) + Nuclei.spec.reach_px + 2 + 1
    box = footprint("nuclei", parameters={"cell_expansion_um": 10.0})
    assert box == Box(1200 - around, 900 - around, 1300 + around, 950 + around)


def test_what_has_no_place_or_no_scale_is_refused() -> None:
    with pytest.raises(BadRegion, match="outside the image; the image has 3000 x 2000"):
        footprint("nuclei", Region.rectangle(3001, 0, 3050, 50))
    with pytest.raises(BadSpacing, match="has no pixel size"):
        footprint("nuclei", spacing_um=None)


def test_nothing_beyond_the_image_is_wanted() -> None:
    assert footprint("nuclei", Region.rectangle(-50, -50, 10, 20)) == Box(0, 0, 71, 81)
    assert footprint("nuclei", Region.rectangle(2990, 1980, 9000, 9000)) == Box(
        2990 - 61, 1980 - 61, 3000, 2000
    )
    assert footprint("nuclei", region=None) == WHOLE


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((1500.5, 1000.25), Box(476, 0, 2525, 2000)),
        ((1100.0, 100.0), Box(76, 0, 2125, 1125)),
        ((2999.0, 1999.0), Box(1975, 975, 3000, 2000)),
        ((10.0, 20.0), Box(0, 0, 1035, 1045)),
    ],
)
def test_a_click_needs_an_object_of_1024_pixels_to_each_side(
    point: tuple[float, float], expected: Box
) -> None:
    request = SegmentRequest("upload:", "click", prompts=(Prompt("point", (point,), True),))
    assert planning.footprint(UploadRequest((3000, 2000), request)) == expected


def test_what_the_prompts_correct_is_needed_too() -> None:
    outline = Region.rectangle(1600, 1300, 1700.5, 1500)
    clicks = (
        Prompt("point", ((1500.0, 1400.0),), True),
        Prompt("point", ((1650.0, 1200.0),), True),
    )
    request = SegmentRequest("upload:", "click", prompts=clicks, initial=outline)
    box = planning.footprint(UploadRequest((9000, 9000), request))
    assert box == Box(1500 - 1024, 1200 - 1024, 1701 + 1024, 1501 + 1024)
