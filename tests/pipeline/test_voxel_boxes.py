"""A box is the same box, whichever of its corners are given and however the image is turned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from isoline.domain.prompts import Prompt
from isoline.errors import BadPrompt
from isoline.geometry.volume_grid import VolumeGrid
from isoline.images.catalog import Images
from isoline.inference.resources import Resources
from isoline.models.catalogue import ModelCatalogue
from isoline.pipeline.voxel_boxes import box_in_voxels
from tests import volumes
from tests.planning import prompt_plan
from tests.prompting import answer, asking, drawn, labelmap, models_for_tests

TURNED = volumes.grid((72, 60, 40), (0.8, 0.9, 1.5), volumes.turned(0, 0, np.deg2rad(30)))
OBLIQUE = volumes.grid((72, 60, 40), (0.8, 0.9, 1.5), volumes.turned(0.4, -0.3, 1.2))
ALONG = volumes.grid((40, 30, 22), axes=np.array([[0, 0, 1.0], [-1, 0, 0], [0, 1, 0]]).T)
MIDDLE = np.array([30, 32, 18])
RADIUS_MM = 8.0


def ring(where: VolumeGrid, half: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return the corners of a rectangle in the slice of `MIDDLE`, (4, 3) LPS, around it."""
    signs = np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])
    return where.to_lps(MIDDLE + signs * half)


def placed(where: VolumeGrid, *corners: Any) -> Prompt:
    return box_in_voxels(drawn("box", *map(tuple, corners)), "prompts[0]", where)


@pytest.mark.parametrize("order", permutations(range(4)))
@pytest.mark.parametrize("where", [TURNED, OBLIQUE, ALONG], ids=["turned", "oblique", "along"])
def test_four_corners_in_a_slice_are_a_box_of_voxels(
    where: VolumeGrid, order: tuple[int, ...]
) -> None:
    found = placed(where, *ring(where, (9, 7, 0))[list(order)])
    points = np.array(found.points)
    assert (found.kind, len(points)) == ("box", 2)
    np.testing.assert_allclose(points.min(axis=0), MIDDLE - (9, 7, 0), atol=1e-6)
    np.testing.assert_allclose(points.max(axis=0), np.add(MIDDLE, (9, 7, 0)), atol=1e-6)


DIAGONALS = [((-10, -12, 0), (10, 12, 0)), ((-10, 12, 0), (10, -12, 0))]


@pytest.mark.parametrize(("first", "second"), DIAGONALS)
@pytest.mark.parametrize("where", [TURNED, OBLIQUE], ids=["turned", "oblique"])
def test_two_corners_in_millimetres_lie_along_the_patient(
    where: VolumeGrid, first: tuple[float, ...], second: tuple[float, ...]
) -> None:
    middle = where.to_lps(MIDDLE)
    found = placed(where, middle + first, middle + second)
    assert found.kind == "polygon"
    sides = {tuple(np.round(each, 6)) for each in where.to_lps(np.array(found.points)) - middle}
    assert sides == {(x, y, 0.0) for x in (-10.0, 10.0) for y in (-12.0, 12.0)}


@pytest.mark.parametrize("deep", [((-10, -12, -9), (10, 12, 9)), ((10, -12, -9), (-10, 12, 9))])
def test_a_deep_box_is_covered_from_either_diagonal(deep: Any) -> None:
    middle = OBLIQUE.to_lps(MIDDLE)
    found = placed(OBLIQUE, *(middle + each for each in deep))
    low, high = np.array(found.points)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T
    index = OBLIQUE.to_index(middle + signs * (10, 12, 9))
    assert found.kind == "box"
    np.testing.assert_allclose([low, high], [index.min(axis=0), index.max(axis=0)], atol=1e-6)


def test_what_two_corners_do_not_determine_is_refused() -> None:
    corners = ring(OBLIQUE, (9, 7, 0))
    with pytest.raises(BadPrompt, match=r"prompts\[0\]: two opposite corners .* all four corners"):
        placed(OBLIQUE, corners[0], corners[2])
    found = placed(ALONG, *ring(ALONG, (9, 7, 0))[[0, 2]])
    np.testing.assert_allclose(np.abs(np.diff(found.points, axis=0)), [[18, 14, 0]], atol=1e-6)
    with pytest.raises(BadPrompt, match="not those of a rectangle"):
        placed(OBLIQUE, *(corners[:3]), corners[3] + (5, 0, 0))


# Through the model


@pytest.fixture(scope="module", autouse=True)
def _flood() -> Iterator[None]:
    with models_for_tests():
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    folder = tmp_path_factory.mktemp("boxes")
    for name, where in (("turned", TURNED), ("oblique", OBLIQUE)):
        voxels = np.where(ball(where), 300, -200).astype(np.int16)
        volumes.write_classic(folder / name, where, voxels)
    return Images({"": folder})


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Resources]:
    bench = Resources(ModelCatalogue(tmp_path), "cpu")
    yield bench
    bench.close()


def ball(where: VolumeGrid) -> NDArray[np.bool_]:
    k, j, i = np.indices(where.shape)
    off = where.to_lps(np.stack([i, j, k], axis=-1)) - where.to_lps(MIDDLE)
    inside: NDArray[np.bool_] = np.linalg.norm(off, axis=-1) <= RADIUS_MM
    return inside


@pytest.mark.parametrize("name", ["turned", "oblique"])
@pytest.mark.parametrize("given", ["one diagonal", "the other", "four corners"])
def test_the_object_in_the_box_is_found(
    images: Images, bench: Resources, name: str, given: str
) -> None:
    where = {"turned": TURNED, "oblique": OBLIQUE}[name]
    middle = where.to_lps(MIDDLE)
    corners = {
        "one diagonal": middle + np.array([(-10, -12, 0), (10, 12, 0)]),
        "the other": middle + np.array([(-10, 12, 0), (10, -12, 0)]),
        "four corners": ring(where, (13, 12, 0)),
    }[given]
    request = replace(
        asking(name, drawn("box", *map(tuple, corners)), format="ohif"),
        model="click",
        frame_of_reference=volumes.FRAME,
    )
    found = labelmap(answer(request, images, bench), where.shape) > 0
    # the grid is the series as written, so the arrays compare voxel by voxel
    truth = ball(where)
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.85


def test_a_model_without_lassos_says_what_it_lacks(images: Images) -> None:
    middle = TURNED.to_lps(MIDDLE)
    box = drawn("box", tuple(middle - (10, 12, 0)), tuple(np.add(middle, (10, 12, 0))))
    four = drawn("box", *map(tuple, ring(TURNED, (9, 7, 0))))
    with pytest.raises(BadPrompt, match="four corners of a box are in millimetres"):
        prompt_plan(replace(asking("turned", four, format="ohif"), model="click"), images, Path())
    with pytest.raises(BadPrompt, match="flood does not support a box"):
        prompt_plan(
            asking("turned", box, format="ohif", frame_of_reference=volumes.FRAME), images, Path()
        )
