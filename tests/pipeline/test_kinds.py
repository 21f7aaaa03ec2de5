"""The kind of work follows the request: one model may answer prompts and do without."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from isoline.domain import mask_rle
from isoline.domain.events import Mask
from isoline.domain.request import SegmentRequest
from isoline.errors import BadPrompt, Broken, NotSupported, UnknownFormat
from isoline.images.catalog import Images
from isoline.inference.prompts import PromptResult
from isoline.inference.resources import Resources
from isoline.inference.task import Attention
from isoline.inference.volumes import VolumePart
from isoline.models.catalogue import ModelCatalogue
from isoline.models.model import Bounded, Model, ModelSpec, Patch, Prediction
from isoline.pipeline.kinds import Lane
from isoline.pipeline.planner import kind_of
from isoline.pipeline.prompts import PromptWork
from isoline.pipeline.tiled import TiledWork
from tests.planning import prompt_plan, tiled_plan, volume_plan
from tests.prompting import models_for_tests, point

SHAPE = (6, 20, 30)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """A bright volume with two dark cubes."""
    voxels = np.full(SHAPE, 200, np.int16)
    voxels[1:3, 2:6, 3:8] = voxels[3:5, 12:16, 20:26] = 0
    nibabel.save(nibabel.Nifti1Image(voxels.T, np.eye(4)), tmp_path / "v.nii.gz")
    return Images({"": tmp_path})


def drawn(masks: list[Mask]) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    for mask in masks:
        mask_rle.draw(mask, labels)
    return labels


def test_one_model_labels_a_volume_and_answers_prompts_in_it(images: Images) -> None:
    alone = SegmentRequest("v.nii.gz", "twofold", format="ohif")
    pointed = SegmentRequest("v.nii.gz", "twofold", format="ohif", prompts=(point(5, 4, 2),))
    with models_for_tests():
        resources = Resources(ModelCatalogue(Path("none")), "cpu")
        whole, click = volume_plan(alone, images), prompt_plan(pointed, images)
        assert (whole.lane, click.lane) == (Lane.LARGE, Lane.INTERACTIVE)
        assert (whole.transient, click.transient) == (False, True)
        parts = list(whole.task.compute(resources, whole.tiles[0], Attention()))
        (answer,) = click.task.compute(resources, click.tiles[0], Attention())
        resources.close()
    assert isinstance(answer, PromptResult)
    assert isinstance(answer.found, Mask)
    labels = drawn([part.mask for part in parts if isinstance(part, VolumePart) and part.mask])
    assert labels.sum() == 2 * 4 * 5 + 2 * 4 * 6
    one = drawn([answer.found])
    assert one.sum() == 2 * 4 * 5
    assert one[1:3, 2:6, 3:8].all()


def test_the_format_suits_the_image_by_default(images: Images, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "p.png")
    pointed = SegmentRequest("v.nii.gz", "click", prompts=(point(5, 4, 2),))
    assert prompt_plan(pointed, images).format == "ohif"
    assert volume_plan(SegmentRequest("v.nii.gz", "threshold3d"), images).format == "ohif"
    assert tiled_plan(SegmentRequest("p.png", "threshold"), images).format == "geojson"
    with pytest.raises(NotSupported, match="geojson supports outlines, not masks") as refused:
        volume_plan(SegmentRequest("v.nii.gz", "threshold3d", format="geojson"), images)
    assert refused.value.remedy == "leave format out, or use ohif"
    with pytest.raises(UnknownFormat):
        volume_plan(SegmentRequest("nowhere", "threshold3d", format="gjson"), images)


def test_prompts_for_a_model_that_takes_none_are_refused(images: Images) -> None:
    asked = SegmentRequest("v.nii.gz", "threshold3d", format="ohif", prompts=(point(1, 1, 1),))
    with pytest.raises(BadPrompt, match="threshold3d takes no prompts"):
        prompt_plan(asked, images)


def model_of(spec: ModelSpec) -> type[Model]:
    class Declared(Model):
        def infer(self, patch: Patch) -> Prediction:
            raise Broken("declares only")

    Declared.spec = spec
    return Declared


def test_exactly_one_kind_accepts_a_request() -> None:
    plain = ModelSpec("a", "A", "", "1", (), output=Bounded(1.0))
    prompted = ModelSpec("b", "B", "", "1", (), prompts=("point",), prompt_dimensions=(2,))
    request = SegmentRequest("i", "m")
    assert kind_of(request, model_of(plain)) is TiledWork
    assert kind_of(request, model_of(prompted)) is PromptWork
    nothing = ModelSpec("c", "C", "", "1", ())
    with pytest.raises(Broken, match="this request for c is accepted by no kind of work"):
        kind_of(request, model_of(nothing))
