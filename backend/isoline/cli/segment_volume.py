"""Running a request on a volume in a terminal; the file is written once all labels are known."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from isoline.cli.segment import OK, Display, EventLines, open_output, stopped_by_ctrl_c
from isoline.config.settings import Settings
from isoline.domain import events, mask_rle
from isoline.domain.events import Started
from isoline.domain.request import SegmentRequest
from isoline.engines.local import LocalEngine
from isoline.errors import Malformed, NotSupported, UnknownFormat
from isoline.exports import archive, labelmap
from isoline.exports.labelmap import Segmented
from isoline.exports.ohif import OHIF
from isoline.images.catalog import Found, Images, file_name
from isoline.images.dicomweb import DicomWebImages
from isoline.models.catalogue import ModelCatalogue
from isoline.pipeline.kinds import Plan
from isoline.pipeline.planner import Planner
from isoline.pipeline.surveys import Surveys
from isoline.sources.dicom_series import DicomSource
from isoline.sources.dicomweb import DicomWebSeries
from isoline.sources.registry import open_image

EVENTS = "ndjson"


def segment_volume(
    request: SegmentRequest, settings: Settings, out: str, format_: str, *, store: bool = False
) -> int:
    """Run `request`, write `out` as `format_`, return the exit status.

    The image is a path or `dicomweb:SOURCE/STUDY/SERIES`. `format_` is one of `labelmap.FORMATS`,
    or "ndjson" for the event stream as it arrives. With `store`, the result is stored in the
    archive of the series, and also written to `out` unless that is "". Raises UnknownFormat,
    NotSupported and what `Planner.plan` raises, before anything is computed.
    """
    if format_ not in (*labelmap.FORMATS, EVENTS):
        raise UnknownFormat(
            f"results on volumes cannot be written as {format_!r}",
            f"choose {', '.join(labelmap.FORMATS)} or {EVENTS}",
        )
    if store and (format_ not in labelmap.DICOM or not request.image.startswith("dicomweb:")):
        raise NotSupported(
            f"{request.image} cannot be stored as {format_}",
            f"store a dicomweb: series as {', '.join(labelmap.DICOM)}",
        )
    images, name = located(request.image, settings)
    request = dataclasses.replace(request, image=name, format=OHIF.name)
    models = ModelCatalogue.of(settings)
    planner = Planner(images, models, Surveys(settings.surveys), settings.limits)
    plan = planner.plan(request)
    labels, status = _run(plan, models, settings, out if format_ == EVENTS else None)
    if format_ != EVENTS and status == OK:
        _finish(plan.started, images.find(name), labels, format_, out, store=store)
    return status


def located(image: str, settings: Settings) -> tuple[Images, str]:
    """Return a catalogue that contains `image`, a path or a name in an archive, and its name
    there."""
    if image.startswith("dicomweb:"):
        return Images({}, {"dicomweb": DicomWebImages.configured(settings)}), image
    path = Path(image)
    return Images.of_file(path), file_name(path)


def _run(
    plan: Plan, models: ModelCatalogue, settings: Settings, lines_to: str | None
) -> tuple[NDArray[np.uint8], int]:
    """Return the labels (k, j, i) and the exit status."""
    assert plan.started.volume is not None
    labels = np.zeros(plan.started.volume.grid.shape, np.uint8)
    agenda = plan.agenda()
    engine = LocalEngine(1, models, settings.engine.device, cores=settings.engine.worker_count)
    with contextlib.ExitStack() as stack:
        stack.callback(engine.close)
        lines = None
        if lines_to is not None:
            lines = EventLines(stack.enter_context(open_output(lines_to)), OHIF())
        stack.enter_context(stopped_by_ctrl_c(agenda))
        display = stack.enter_context(Display())
        for batch in plan.events(engine, agenda):
            for event in batch.events:
                if lines is not None:
                    lines.write(event)
                if isinstance(event, events.Mask) and not event.provisional:
                    mask_rle.draw(event, labels)
                display.show(event)
    return labels, display.status


def _finish(
    started: Started,
    found: Found,
    labels: NDArray[np.uint8],
    format_: str,
    out: str,
    *,
    store: bool,
) -> None:
    path = found.path
    source = open_image(path, found.info.reader)
    headers = tuple(source.series.headers) if isinstance(source, DicomSource) else ()
    result = Segmented.found(labels, started, headers)
    try:
        if out:
            labelmap.writer(format_)(result, Path(out))
        if store:
            assert isinstance(path, DicomWebSeries)
            saved = archive.keep(result, format_, path.archive)
            was = "stored" if saved.is_new else "already stored"
            click.echo(f"{was} as series {saved.series}, instance {saved.instance}", err=True)
    except OSError as error:
        raise Malformed(f"cannot write {out}: {error.strerror}", "choose another --out") from error
    finally:
        source.close()
