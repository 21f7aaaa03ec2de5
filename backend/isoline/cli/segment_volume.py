"""Running a request on a volume in a terminal; the file is written once all labels are known."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from isoline.cli.segment import OK, Display, EventLines, open_output, stopped_by_ctrl_c
from isoline.config.settings import Settings
from isoline.domain import events, mask_rle
from isoline.domain.request import SegmentRequest
from isoline.engines.local import LocalEngine
from isoline.errors import IsolineError, Malformed, NotSupported, UnknownFormat
from isoline.exports import archive, labelmap
from isoline.exports.labelmap import Segmented
from isoline.exports.ohif import OHIF
from isoline.exports.volume_source import source_of
from isoline.images.catalog import Images, file_name
from isoline.images.dicomweb import DicomWebImages
from isoline.models.catalogue import ModelCatalogue
from isoline.pipeline.kinds import Plan
from isoline.pipeline.planner import Planner
from isoline.pipeline.surveys import Surveys
from isoline.sources.dicomweb import DicomWebSeries

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
    if format_ == EVENTS:
        return _run(plan, models, settings, out)[1]
    path = Path(out) if out else None
    if path is not None:
        labelmap.check_path(format_, path)
    found = images.find(name)
    source = source_of(found)
    labelmap.rehearse(format_, plan.started.labels, source)
    labels, status = _run(plan, models, settings, None)
    if status == OK:
        result = Segmented.found(labels, plan.started, source.headers)
        write(result, format_, path, found.path if store else None)
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


def write(result: Segmented, format_: str, path: Path | None, remote: object) -> None:
    """Write `result` to `path` and store it in the archive of `remote`; either may be None.

    Raises what went wrong, after writing the mask to another file: nothing computed is lost.
    """
    try:
        if path is not None:
            labelmap.writer(format_)(result, path)
        if remote is not None:
            assert isinstance(remote, DicomWebSeries)
            _store(result, format_, remote)
    except OSError as error:
        what = f"cannot write {path}: {error.strerror}"
        raise Malformed(what, f"choose another --out; {_kept(result, path)}") from error
    except IsolineError as error:
        if not result.labels.any():
            raise  # an empty mask is what the error says
        raise type(error)(error.what, f"{error.remedy}; {_kept(result, path)}") from error


def _store(result: Segmented, format_: str, remote: DicomWebSeries) -> None:
    saved = archive.keep(result, format_, remote.archive)
    was = "stored" if saved.is_new else "already stored"
    click.echo(f"{was} as series {saved.series}, instance {saved.instance}", err=True)


def _kept(result: Segmented, path: Path | None) -> str:
    """Write the mask as NIfTI beside `path`, or to the folder for temporary files; return where."""
    stem = path.name.partition(".")[0] if path is not None else "isoline"
    beside = [] if path is None else [path.absolute().parent]
    for folder in (*beside, Path(tempfile.gettempdir())):
        try:
            handle, name = tempfile.mkstemp(".nii.gz", f"{stem}-", folder)
            os.close(handle)
            labelmap.writer("nifti")(result, Path(name))
        except OSError:
            continue
        return f"the mask is in {name}"
    return "the mask could not be kept anywhere"
