"""Running a request in a terminal: a progress bar, a clean Ctrl-C, a file written incrementally."""

from __future__ import annotations

import contextlib
import gzip
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from isoline.cli.wording import on_command_line
from isoline.config.settings import Settings
from isoline.domain import events
from isoline.domain.events import Event
from isoline.domain.request import SegmentRequest
from isoline.engines.engine import Agenda
from isoline.engines.local import LocalEngine
from isoline.errors import Malformed
from isoline.exports.encoder import ContourFile, Encoder
from isoline.exports.registry import EXPORTS
from isoline.images.catalog import Images
from isoline.models.catalogue import ModelCatalogue
from isoline.pipeline.planner import Planner
from isoline.pipeline.surveys import Surveys
from isoline.protocol.events import encode_event

OK, FAILED, INTERRUPTED = 0, 1, 130
"""The command's exit statuses."""


def segment_file(
    image: Path, request: SegmentRequest, settings: Settings, out: str, *, events_only: bool
) -> int:
    """Run `request` on `image` in its own worker processes, write `out`, return the exit status.

    `out` is a path, compressed if it ends in .gz, or "-" for standard output. With `events_only`,
    the file contains the event stream, one JSON object per line; otherwise it is in the request's
    dialect. Raises what `Planner.plan` raises, before anything is written.
    """
    models = ModelCatalogue.of(settings)
    planner = Planner(Images.of_file(image), models, Surveys(settings.surveys), settings.limits)
    plan = planner.plan(request)
    encoder = EXPORTS.load(plan.format)()
    agenda = plan.agenda()
    workers = min(plan.tile_count, settings.engine.worker_count)
    engine = LocalEngine(workers, models, settings.engine.device)
    try:
        with open_output(out) as stream, stopped_by_ctrl_c(agenda), Display() as display:
            sink = EventLines(stream, encoder) if events_only else ContourFile(stream, encoder)
            with sink:
                for batch in plan.events(engine, agenda):
                    for event in batch.events:
                        sink.write(event)
                        display.show(event)
                    stream.flush()
        return display.status
    finally:
        engine.close()


class EventLines:
    """Writes the event stream itself."""

    def __init__(self, stream: BinaryIO, encoder: Encoder) -> None:
        self._stream = stream
        self._encoder = encoder
        self._started: events.Started | None = None
        self._seq = -1

    def __enter__(self) -> EventLines:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: every line is complete in itself."""

    def write(self, event: Event) -> None:
        if isinstance(event, events.Started):
            self._started = event
        assert self._started is not None
        self._seq += 1
        line = encode_event(self._seq, event, self._started, self._encoder)
        self._stream.write(line + b"\n")


class Display:
    """A progress bar on standard error, with a line for each noteworthy event."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[found]}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task("starting", total=None, found="")
        self._objects = 0
        self._slices = 0
        self._is_mask = False
        self.status = FAILED

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, event: Event) -> None:
        match event:
            case events.Started(tiles=tiles, kind=kind):
                self._is_mask = kind == "mask"
                self._bar.update(self._task, description="segmenting", total=tiles)
            case events.Contours(objects, provisional):
                self._objects += 0 if provisional else len(objects)
                self._bar.update(self._task, found=f"{self._objects:,} objects")
            case events.Mask() as mask:
                self._slices += 0 if mask.provisional else len(mask.slices)
                self._bar.update(self._task, found=f"{self._slices:,} slices")
            case events.Progress(done, tiles):
                self._bar.update(self._task, completed=done, total=tiles)
            case events.Warned(_, message):
                self._say(f"warning: {message}", "yellow")
            case events.Failed(_, message, remedy):
                self._say(f"failed: {message}; {remedy}" if remedy else f"failed: {message}", "red")
            case events.Cancelled(done, tiles):
                stopped = f"{done} %" if self._is_mask else f"{done} of {tiles} tiles"
                kept = "nothing" if self._is_mask else "the results so far were"
                self._say(f"stopped after {stopped}; {kept} written")
                self.status = INTERRUPTED
            case events.Done() as end:
                self.status = FAILED if end.tiles_failed else OK
                self._bar.update(self._task, completed=end.tiles, total=end.tiles)
                self._say(self._result(end))

    def _result(self, end: events.Done) -> str:
        if self._is_mask:
            found = f"{end.objects} label{'' if end.objects == 1 else 's'}"
            return f"{found if end.objects else 'nothing'} found in {end.seconds:.1f} s"
        failed = f", {end.tiles_failed} failed" if end.tiles_failed else ""
        skipped = f", {end.tiles_skipped} without tissue" if end.tiles_skipped else ""
        return (
            f"{end.objects:,} objects in {end.seconds:.1f} s ({end.tiles} tiles{skipped}{failed})"
        )

    def _say(self, line: str, style: str = "") -> None:
        self._console.print(on_command_line(line), style=style, markup=False, highlight=False)


@contextlib.contextmanager
def open_output(out: str) -> Iterator[BinaryIO]:
    """Open the file `out` for writing, or standard output for "-". Raises Malformed."""
    if out == "-":
        yield sys.stdout.buffer
        return
    try:
        stream = Path(out).open("wb")  # noqa: SIM115 - closed below; only opening may raise here
    except OSError as error:
        raise Malformed(f"cannot write {out}: {error.strerror}", "choose another --out") from error
    with stream:
        if Path(out).suffix != ".gz":
            yield stream
            return
        with gzip.GzipFile("", "wb", 6, stream, mtime=0) as packed:
            yield cast(BinaryIO, packed)


@contextlib.contextmanager
def stopped_by_ctrl_c(agenda: Agenda) -> Iterator[None]:
    """Cancel the job at the first Ctrl-C (or SIGTERM); a second one ends the program at once."""

    def stop(*_: object) -> None:
        agenda.cancel()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
