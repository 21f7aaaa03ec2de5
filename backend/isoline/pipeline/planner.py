"""Turning a request into a plan: everything it refers to is looked up, then its kind checks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from isoline.config.settings import Limits
from isoline.domain.request import SegmentRequest
from isoline.errors import Broken, Malformed, NotSupported
from isoline.exports.encoder import Encoder
from isoline.exports.registry import EXPORTS
from isoline.geometry.grid import Box
from isoline.images.catalog import ANYONE, Caller, Found, Images
from isoline.models.catalogue import ModelCatalogue
from isoline.models.model import Model
from isoline.models.parameters import check_parameters
from isoline.pipeline.kinds import KINDS, Context, Kind, Plan
from isoline.pipeline.surveys import Surveys
from isoline.sources.source import ImageInfo
from isoline.sources.upload import UploadRequest
from isoline.sources.uploaded_volume import VolumeUploadRequest


@dataclass(frozen=True)
class Planner:
    """Everything that requests may refer to, created once at start-up."""

    images: Images
    models: ModelCatalogue
    surveys: Surveys
    limits: Limits = Limits()  # noqa: RUF009  it is frozen

    def plan(self, request: SegmentRequest, caller: Caller = ANYONE) -> Plan:
        """Validate the `request` of `caller` and return its plan, without computing anything.

        Raises a RequestError, NotFound, Conflict or Unreadable that states what is wrong.
        """
        return self._plan(request, lambda: self.images.find(request.image, caller))

    def plan_on(self, found: Found, request: SegmentRequest) -> Plan:
        """Return the plan of `request` on its image, already `found`; raises like `plan`."""
        return self._plan(request, lambda: found)

    def _plan(self, request: SegmentRequest, find: Callable[[], Found]) -> Plan:
        # errors that do not depend on the image are found before it is opened
        model = self.models.get(request.model)
        self.models.files(model.spec)
        encoder = None if request.format is None else EXPORTS.load(request.format)
        parameters = check_parameters(model.spec, request.parameters)
        found = find().of_series(request.series).as_shown(request)
        encoder = encoder or default_encoder(found.info)
        context = Context(request, model, parameters, found, self.limits, self.surveys)
        plan = kind_of(request, model).plan(context, encoder)
        return replace(plan, replaces=_replaced(request, plan, encoder()))

    def footprint(self, upload: UploadRequest) -> Box:
        """Return the image pixels that the results of an announced request depend on.

        Raises like `plan`: what cannot be done is refused before a pixel is sent.
        """
        found, request = _announced(upload)
        self.plan_on(found, request)
        model = self.models.get(request.model)
        parameters = check_parameters(model.spec, request.parameters)
        context = Context(request, model, parameters, found, self.limits, self.surveys)
        return kind_of(request, model).footprint(context)

    def check_upload(self, upload: VolumeUploadRequest) -> None:
        """Raise like `plan` if the announced request on a volume cannot be carried out."""
        self.plan_on(*_announced(upload))


def _announced(upload: UploadRequest | VolumeUploadRequest) -> tuple[Found, SegmentRequest]:
    """Return the image as it will be, and the request on it."""
    name = "the image"
    return Found(name, Path(), upload.info), replace(upload.request, image=name)


def default_encoder(info: ImageInfo) -> type[Encoder]:
    """Return the dialect of results on an image for requests that name none."""
    return EXPORTS.load("geojson" if info.volume is None else "ohif")


def _replaced(request: SegmentRequest, plan: Plan, encoder: Encoder) -> tuple[bytes, ...]:
    """Return the ids of the features that `request` replaces. Raises NotSupported or Malformed."""
    if isinstance(request.replaces, str) or not request.replaces:
        return ()
    if plan.started.kind == "mask":
        raise NotSupported(
            "replaces: a mask has no features", "name the job whose mask it replaces"
        )
    raw = {each: encoder.id_bytes(each) for each in request.replaces}
    for text, value in raw.items():
        if encoder.id_text(value) != text:
            raise Malformed(
                f"replaces: {text} is not an id in the format {encoder.name}",
                "send ids as the events contain them, in the same format",
            )
    return tuple(raw.values())


def kind_of(request: SegmentRequest, model: type[Model]) -> type[Kind]:
    """Return the only kind of work that accepts `request`. Raises Broken."""
    loaded = KINDS.load_all().working
    accepting = {name: kind for name, kind in loaded.items() if kind.accepts(request, model)}
    if len(accepting) != 1:
        claim = " and ".join(sorted(accepting)) or "no kind of work"
        raise Broken(
            f"this request for {model.spec.name} is accepted by {claim}",
            "make sure that exactly one registered kind of work accepts it",
        )
    (kind,) = accepting.values()
    return kind
