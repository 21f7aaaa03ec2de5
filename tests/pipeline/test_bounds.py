"""Slides of which only a part was scanned, in the frame of the viewer that asks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isoline.domain.request import SegmentRequest
from isoline.errors import WrongImage
from isoline.geometry.grid import Box
from isoline.geometry.region import Region
from isoline.images.catalog import Images
from isoline.inference.resources import Resources
from isoline.models.catalogue import ModelCatalogue
from isoline.sources.registry import open_image
from tests.planning import tiled_plan
from tests.slides import leica

REQUEST = SegmentRequest("a.scn", "threshold", region=Region.rectangle(0, 0, 300, 300))


@pytest.mark.parametrize("at", [(300, 500), (301, 503)])
def test_qupath_counts_from_the_corner_of_the_scan(tmp_path: Path, at: tuple[int, int]) -> None:
    scan = leica(tmp_path / "a.scn", at)
    images = Images.of_file(tmp_path / "a.scn")
    info = images.find("a.scn").info
    assert info.bounds == Box(*at, at[0] + 800, at[1] + 600)
    assert any("from x {}, y {};".format(*at) in problem for problem in info.problems)
    resources = Resources(ModelCatalogue(tmp_path), "cpu")
    for request in (replace(REQUEST, format="qupath"), replace(REQUEST, image_size=(800, 600))):
        plan = tiled_plan(request, images, tmp_path)
        assert plan.lattice.grid.image_size == (800, 600)
        assert plan.warnings == ()
        pixels = plan.task.patch(resources, Box(0, 0, 800, 600)).pixels
        np.testing.assert_array_equal(np.moveaxis(pixels, 0, 2), scan)
    # other viewers show the whole slide
    for request in (REQUEST, replace(REQUEST, image_size=info.size)):
        plan = tiled_plan(request, images, tmp_path)
        assert plan.lattice.grid.image_size == info.size
        assert [(each.code, each.message) for each in plan.warnings] == [
            ("Image", info.problems[0])
        ]
    with pytest.raises(WrongImage):
        tiled_plan(replace(REQUEST, image_size=(801, 600)), images, tmp_path)
    resources.close()


@pytest.mark.parametrize(("at", "levels"), [((300, 500), 2), ((301, 500), 1)])
def test_only_levels_in_place_are_used(tmp_path: Path, at: tuple[int, int], levels: int) -> None:
    scan = leica(tmp_path / "a.scn", at)
    request = replace(REQUEST, format="qupath")
    plan = tiled_plan(request, Images.of_file(tmp_path / "a.scn"), tmp_path)
    source = open_image(plan.task.path, plan.task.reader)
    assert len(source.info.levels) == levels
    last = source.read_level(levels - 1, Box(0, 0, *source.info.levels[-1].size))
    expected = scan[100, 60]
    assert (last[:, 100 // levels, 60 // levels] == expected).all()
