"""Translating a client's request to a run of the pipeline, and its results to a reply."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
from werkzeug.datastructures import FileStorage

from isoline.errors import Malformed
from isoline.images.catalog import Found, Images
from isoline.models.base import ModelSpec
from isoline.models.catalogue import ModelCatalogue
from isoline.server.monailabel import forms, masks, points, volumes, wsi
from isoline.server.monailabel.masks import Frame, Kind
from isoline.server.monailabel.names import Names
from isoline.server.monailabel.runs import Run, Runner
from isoline.server.monailabel.sessions import SCHEME as SESSION
from isoline.server.monailabel.sessions import Sessions
from isoline.server.monailabel.volumes import VolumeAnswer
from isoline.server.monailabel.wsi import Answer, Asked

_PLACE = ("level", "location", "size", "tile_size", "min_poly_area")


@dataclass(frozen=True)
class Reply:
    """A body and its media type."""

    body: bytes
    media_type: str
    filename: str = ""


@dataclass(frozen=True)
class Label:
    """The result on an image in the form that the datastore stores."""

    body: bytes
    suffix: str
    params: Mapping[str, object]
    """Metadata of the label."""


@dataclass(frozen=True)
class Inference:
    """Runs inference requests."""

    images: Images
    names: Names
    sessions: Sessions
    runner: Runner
    assumed_um: float
    max_mask_pixels: int
    models: ModelCatalogue
    scratch: Path
    """The directory for temporary files."""

    @contextlib.contextmanager
    def source(self, image: str, session: str, file: FileStorage | None) -> Iterator[Found]:
        """Yield the requested image; nothing else in a request can change it."""
        if session:
            yield self.images.find(f"{SESSION}:{session}")
        elif file is not None and file.filename:
            with self.sessions.passing(file) as name:
                yield self.images.find(name)
        elif image:
            yield self.images.find(self.names.find(image))
        else:
            raise Malformed("there is no image, file or session_id", "send one of them")

    def run(
        self,
        model: str,
        asked: Asked,
        found: Found,
        owner: str,
        is_gone: Callable[[], bool],
        *,
        masked: bool = False,
    ) -> Answer:
        """Run `model` on the region of the image `found`, for `owner`.

        With `masked`, a region whose mask would be too large is rejected at once.
        """
        spec = self.spec(model)
        name, info = found.name, found.info
        where = wsi.place(asked, name, info)
        if masked:
            masks.check_size(where.size, self.max_mask_pixels)
        prompts = points.prompts(asked.params, spec, 2)
        runs = [
            self.runner.run(
                wsi.request(asked, where, name, info, model, spec, self.assumed_um, each),
                found,
                owner,
                is_gone,
            )
            for each in ([prompts] if masked or not prompts else points.one_by_one(prompts))
        ]
        return Answer(Run.together(runs), spec, asked, where)

    def spec(self, model: str) -> ModelSpec:
        """Return the spec of a model. Raises UnknownModel or Broken."""
        return self.models.get(model).spec

    def run_volume(
        self,
        model: str,
        params: Mapping[str, object],
        scribbled: FileStorage | None,
        found: Found,
        owner: str,
        is_gone: Callable[[], bool],
    ) -> VolumeAnswer:
        """Run `model` on the volume `found`, for `owner`."""
        spec = self.spec(model)
        assert found.info.volume is not None
        pointed = points.prompts(params, spec, 3)
        if scribbled is not None and "scribble" in spec.prompts:
            pointed += points.scribbles(scribbled, found.info.volume.grid, self.scratch)
        request = volumes.request(found.name, model, spec, params, pointed)
        return VolumeAnswer(self.runner.run(request, found, owner, is_gone), spec, found)

    def label(
        self,
        model: str,
        params: Mapping[str, object],
        name: str,
        owner: str,
        is_gone: Callable[[], bool],
    ) -> Label:
        """Run `model` on the image called `name`; return a mask of a volume, a document of a
        plane."""
        found = self.images.find(name)
        if found.info.volume is not None:
            kind = volumes.Kind.of(params)
            labelled = self.run_volume(model, params, None, found, owner, is_gone)
            return Label(volumes.as_mask(labelled, kind), kind.suffix, volumes.explained(labelled))
        answer = self.run(model, whole_or_part(params), found, owner, is_gone)
        return Label(wsi.as_dsa(answer), ".json", {"latencies": answer.latencies})


def whole_or_part(params: Mapping[str, object]) -> Asked:
    """Return the part of the image that the `params` of /infer/MODEL select: all, or a region."""
    given = {key: params[key] for key in _PLACE if params.get(key) is not None}
    roi = params.get("roi")
    if isinstance(roi, list) and len(roi) == 4 and "size" not in given:
        x0, y0, x1, y1 = (value if isinstance(value, int | float) else 0 for value in roi)
        given |= {"location": [x0, y0], "size": [x1 - x0, y1 - y0]}
    return wsi.parse({"min_poly_area": 0, **given, "params": dict(params)}, size=(0.0, 0.0))


def as_mask(answer: Answer, kind: Kind) -> Reply:
    """Return the results as a label image."""
    where = answer.where
    frame = Frame(where.origin, where.size, where.downsample)
    mask = masks.draw(answer.found(), answer.run.started.grid, frame)
    # the Python client stores it under this name, in the folder of earlier ones
    return Reply(*masks.encode(mask, kind), f"{secrets.token_hex(6)}{kind.suffix}")


def as_json(answer: Answer) -> Reply:
    """Return the contours and the meaning of the values in a mask."""
    labels = orjson.dumps({"label_names": label_indices(answer.spec)})
    return Reply(b"%b,%b" % (labels[:-1], wsi.as_json(answer)[1:]), "application/json")


def as_both(answer: Answer, kind: Kind) -> Reply:
    """Return a multipart form with both."""
    mask = as_mask(answer, kind)
    return Reply(*forms.multipart(as_json(answer).body, mask.filename, mask.body, mask.media_type))


def of_volume(answer: VolumeAnswer, output: str, params: Mapping[str, object]) -> Reply:
    """Return the result on a volume as `output`: image, json, all or dicom_seg."""
    if output == "dicom_seg":
        return Reply(volumes.as_dicom_seg(answer), volumes.DICOM, f"{secrets.token_hex(6)}.dcm")
    document = volumes.as_json(answer)
    if output == "json":
        return Reply(document, "application/json")
    kind = volumes.Kind.of(params)
    mask, filename = volumes.as_mask(answer, kind), f"{secrets.token_hex(6)}{kind.suffix}"
    if output == "image":
        return Reply(mask, "application/octet-stream", filename)
    return Reply(*forms.multipart(document, filename, mask, "application/octet-stream"))


def label_indices(spec: ModelSpec) -> dict[str, int]:
    """Return the value of each label in a mask."""
    return {label.name: k for k, label in enumerate(spec.labels, 1)}
