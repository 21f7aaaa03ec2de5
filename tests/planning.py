"""Plans of requests in tests, each of the kind of work that the test is about."""

from __future__ import annotations

from pathlib import Path

from isoline.config.settings import Limits
from isoline.domain.request import SegmentRequest
from isoline.geometry.grid import Box
from isoline.images.catalog import Images
from isoline.models.catalogue import ModelCatalogue
from isoline.pipeline.kinds import Plan
from isoline.pipeline.planner import Planner
from isoline.pipeline.prompts import PromptPlan
from isoline.pipeline.surveys import Surveys
from isoline.pipeline.tiled import TiledPlan
from isoline.pipeline.volumes import VolumePlan
from isoline.sources.upload import UploadRequest


def planner(images: Images, models: Path | ModelCatalogue) -> Planner:
    """Return what plans requests on `images`; surveys are kept beside the weights of `models`."""
    known = ModelCatalogue(models) if isinstance(models, Path) else models
    return Planner(images, known, Surveys(known.weights.parent / "surveys"), Limits())


def any_plan(
    request: SegmentRequest, images: Images, models: Path | ModelCatalogue = Path("none")
) -> Plan:
    return planner(images, models).plan(request)


def tiled_plan(
    request: SegmentRequest, images: Images, models: Path | ModelCatalogue = Path("none")
) -> TiledPlan:
    plan = any_plan(request, images, models)
    assert isinstance(plan, TiledPlan)
    return plan


def prompt_plan(
    request: SegmentRequest, images: Images, models: Path | ModelCatalogue = Path("none")
) -> PromptPlan:
    plan = any_plan(request, images, models)
    assert isinstance(plan, PromptPlan)
    return plan


def volume_plan(
    request: SegmentRequest,
    images: Images,
    models: Path | ModelCatalogue = Path("none"),
) -> VolumePlan:
    plan = any_plan(request, images, models)
    assert isinstance(plan, VolumePlan)
    return plan


def footprint(upload: UploadRequest) -> Box:
    return planner(Images({}), Path("none")).footprint(upload)
