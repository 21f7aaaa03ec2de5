"""The command `isoline`."""

from __future__ import annotations

import dataclasses
import logging
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isoline import __version__
from isoline.cli.wording import on_command_line
from isoline.config import settings as config
from isoline.config.data_directory import open_data_directory
from isoline.config.settings import Settings
from isoline.domain.request import Value
from isoline.errors import BadParameter, IsolineError, Malformed, NotSupported
from isoline.geometry.grid import XY
from isoline.models.catalogue import ModelCatalogue
from isoline.models.model import ModelSpec, Number, Switch

if TYPE_CHECKING:
    from isoline.domain.prompts import DrawnSlice, Prompt
    from isoline.geometry.region import Region
    from isoline.geometry.volume_grid import VolumeInfo
    from isoline.testing.verdict import Verdict


class _Friendly(click.Group):
    """Reports errors in two lines, with the remedy, never as a traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except IsolineError as error:
            click.secho(f"isoline: {on_command_line(error.what)}", fg="red", err=True)
            if error.remedy:
                click.echo(f"  {on_command_line(error.remedy)}", err=True)
            context.exit(2)


class _Pair(click.ParamType[XY]):
    """Two numbers, `X,Y`, or one for both."""

    name = "X,Y"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> XY:
        numbers = _numbers(value)
        if len(numbers) == 1:
            numbers *= 2
        if len(numbers) != 2:
            self.fail(f"{value!r} is not X,Y", parameter, context)
        return XY(*numbers)


class _Box(click.ParamType[tuple[float, ...]]):
    """Four numbers, `X0,Y0,X1,Y1`, in image pixels."""

    name = "X0,Y0,X1,Y1"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[float, ...]:
        numbers = _numbers(value)
        if len(numbers) != 4:
            self.fail(f"{value!r} is not X0,Y0,X1,Y1", parameter, context)
        return numbers


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        return ()


@click.group(cls=_Friendly, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("-v", "--verbose", is_flag=True, help="Log progress to standard error.")
def main(verbose: bool) -> None:
    """Segment slides and volumes; contours stream in while the rest is still being computed."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


_config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="Configuration file, isoline.toml [default: built-in settings].",
)


def _ready(config_path: Path | None) -> Settings:
    """Read the configuration, and see to it that its data directory can be used."""
    settings = config.load(config_path)
    open_data_directory(settings.data)
    return settings


# --- segment -----------------------------------------------------------------------------------


@main.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--model", required=True, help="Name of the model; see `isoline models`.")
@click.option("--region", type=_Box(), help="Segment only this rectangle, in image pixels.")
@click.option("--roi", type=click.Path(path_type=Path), help="Segment only these GeoJSON polygons.")
@click.option("--focus", type=_Pair(), help="Point to start from, in image pixels.")
@click.option("--tile", type=int, help="Side of a tile, in pixels at working resolution.")
@click.option(
    "--workers", type=click.IntRange(1, 256), help="Worker processes [default: one per core]."
)
@click.option(
    "--param", "params", multiple=True, metavar="K=V", help="Model parameter; may be repeated."
)
@click.option("--spacing-um", type=_Pair(), help="Pixel size, if the image does not record it.")
@click.option(
    "--override-spacing",
    is_flag=True,
    help="Believe --spacing-um even if the image records another.",
)
@click.option(
    "--at-um", type=float, help="Working resolution, um per pixel [default: the model's]."
)
@click.option(
    "--channel",
    "channels",
    multiple=True,
    help="Channel, by name, or else by index from 0; may be repeated.",
)
@click.option("--z", type=int, help="Plane of a stack, from 0.")
@click.option("--series", help="Image of a file that contains several, by name or index from 0.")
@click.option(
    "--simplify-px",
    type=float,
    help="Tolerance for simplifying outlines [default: exact outlines].",
)
@click.option("--slice", "look", type=int, help="Volumes only: slice to start from, from 0.")
@click.option(
    "--prompt",
    "prompts",
    multiple=True,
    metavar="KIND:X,Y,...",
    help="What indicates the object: point:X,Y, box:X0,Y0,X1,Y1, scribble:X,Y,..., "
    'polygon:X,Y,... or a GeoJSON file; I,J,K instead of X,Y in a volume. Append ",-" to exclude. '
    "May be repeated.",
)
@click.option(
    "--initial",
    type=click.Path(path_type=Path),
    help="Segmentation for the prompts to correct: GeoJSON, or a NIfTI mask for a volume.",
)
@click.option(
    "--frame-of-reference", help="Frame of reference UID; prompts are then LPS millimetres in it."
)
@click.option(
    "--format",
    "format_",
    help="geojson, qupath, dsa or ndjson; for a volume nifti, dicomseg, rtstruct or ndjson "
    "[default: geojson; dicomseg with --store].",
)
@click.option("--out", default="", help="File to write; - for standard output.")
@click.option(
    "--store", is_flag=True, help="Store the result in the archive of a dicomweb: series."
)
@_config_option
def segment(
    image: Path,
    model: str,
    region: tuple[float, ...] | None,
    roi: Path | None,
    focus: XY | None,
    tile: int | None,
    workers: int | None,
    params: tuple[str, ...],
    spacing_um: XY | None,
    override_spacing: bool,
    at_um: float | None,
    channels: tuple[str, ...],
    z: int | None,
    series: str | None,
    simplify_px: float | None,
    look: int | None,
    prompts: tuple[str, ...],
    initial: Path | None,
    frame_of_reference: str | None,
    format_: str | None,
    out: str,
    store: bool,
    config_path: Path | None,
) -> None:
    """Segment IMAGE and write the contours as they are found."""
    from isoline.cli.outline_files import outline_of
    from isoline.cli.segment import segment_file
    from isoline.domain.request import SegmentRequest
    from isoline.geometry.region import Region
    from isoline.images.catalog import file_name

    if region is not None and roi is not None:
        raise Malformed("--region and --roi are both given", "use only one of them")
    if not out and not store:
        raise Malformed("there is no output file", "add --out FILE")
    _refuse_overwriting(out, image, roi, initial)
    format_ = format_ or ("dicomseg" if store else "geojson")
    where = Region.rectangle(*region) if region is not None else None
    if roi is not None:
        where = outline_of(roi)
    settings = _ready(config_path)
    spec = ModelCatalogue.of(settings).get(model).spec
    volume = _volume(spec, image, settings)
    is_volume = volume is not None
    streamed = "ohif" if is_volume else "geojson"
    request = SegmentRequest(
        image=str(image) if is_volume else file_name(image),
        model=model,
        region=where,
        focus=focus,
        parameters=_parameters(spec, params),
        tile=tile,
        spacing_um=spacing_um,
        override_spacing=override_spacing,
        at_um=at_um,
        channel=tuple(channels) or None,
        z=z,
        series=series,
        slice=look,
        prompts=_prompts(prompts, 3 if is_volume else 2),
        frame_of_reference=frame_of_reference,
        initial=_initial(initial, volume),
        format=streamed if is_volume or format_ == "ndjson" else format_,
        simplify_px=simplify_px,
    )
    if workers is not None:
        engine = dataclasses.replace(settings.engine, workers=workers)
        settings = dataclasses.replace(settings, engine=engine)
    if is_volume:
        from isoline.cli.segment_volume import segment_volume

        sys.exit(segment_volume(request, settings, out, format_, store=store))
    if store:
        raise NotSupported(
            f"{image} is not in an archive, so the result cannot be stored there", "use --out FILE"
        )
    sys.exit(segment_file(image, request, settings, out, events_only=format_ == "ndjson"))


def _refuse_overwriting(out: str, *inputs: Path | None) -> None:
    """Raise Malformed if the file `out` is, or belongs to, what is read."""
    from isoline.sources.fingerprint import image_files

    target = Path(out)
    if out in ("", "-") or not target.exists():
        return
    for path in filter(None, inputs):
        if not path.exists():
            continue
        files = path.rglob("*") if path.is_dir() else image_files(path)
        if any(target.samefile(file) for file in (path, *files)):
            raise Malformed(f"--out {out} would overwrite {path}", "choose another --out")


def _volume(spec: ModelSpec, image: Path, settings: Settings) -> VolumeInfo | None:
    """Return the geometry of the volume `image`; None if the model treats it as a picture."""
    from isoline.cli.segment_volume import located

    if 3 not in spec.dimensions:
        return None
    images, name = located(str(image), settings)
    volume = images.find(name).info.volume
    if volume is None and 2 not in spec.dimensions:
        raise NotSupported(
            f"{spec.name} works on volumes, and {name} is not one", "choose another model"
        )
    return volume


def _prompts(given: tuple[str, ...], dimensions: int) -> tuple[Prompt, ...]:
    from isoline.cli.prompt_files import prompts_of

    return tuple(prompt for each in given for prompt in prompts_of(each, dimensions))


def _initial(
    path: Path | None, volume: VolumeInfo | None
) -> Region | tuple[DrawnSlice, ...] | None:
    from isoline.cli.outline_files import outline_of
    from isoline.cli.prompt_files import initial_mask

    if path is None:
        return None
    return outline_of(path) if volume is None else initial_mask(path, volume)


def _parameters(spec: ModelSpec, given: tuple[str, ...]) -> Mapping[str, Value]:
    declared = {parameter.name: parameter for parameter in spec.parameters}
    values: dict[str, Value] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals:
            raise BadParameter(f"--param {pair}: expected K=V", "for example --param below=120")
        values[name] = _value(declared.get(name), text)
    return values


def _value(parameter: object, text: str) -> Value:
    """Parse `text` as the parameter's type; validation reports text that does not fit."""
    if isinstance(parameter, Switch) and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if isinstance(parameter, Number):
        try:
            return float(text)
        except ValueError:
            return text
    return text


# --- serve -------------------------------------------------------------------------------------


@main.command()
@_config_option
@click.option("--host", help="Address to listen on [default: 127.0.0.1].")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on [default: 8765].")
@click.option(
    "--images",
    "directories",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Serve the images below this directory; may be repeated.",
)
def serve(
    config_path: Path | None, host: str | None, port: int | None, directories: tuple[Path, ...]
) -> None:
    """Serve the HTTP API, with a small viewer at /."""
    from isoline.server import wsgi

    settings = with_address(_ready(config_path), host, port)
    roots = dict(settings.images) | {path.resolve().name: path for path in directories}
    if not (roots or settings.dicomweb or settings.girder):
        raise Malformed(
            "there are no images to serve",
            "pass --images DIRECTORY, or a --config with [images], [dicomweb] or [girder]",
        )
    settings = dataclasses.replace(settings, images=roots)
    address = f"http://{settings.server.host}:{settings.server.port}"
    click.echo(f"isoline {__version__} serves {', '.join(sorted(roots))} at {address}", err=True)
    wsgi.serve(settings)


def with_address(settings: Settings, host: str | None, port: int | None) -> Settings:
    """Return `settings` with its address overridden by the command line."""
    given = settings.server
    given = dataclasses.replace(given, host=host or given.host, port=port or given.port)
    return dataclasses.replace(settings, server=given)


@main.group()
def token() -> None:
    """Create access tokens for callers."""


@token.command()
@click.argument("name", default="NAME")
def new(name: str) -> None:
    """Print a new token for the caller NAME, and its section for isoline.toml."""
    from isoline.server.access import new_token

    secret, sha256 = new_token()
    click.echo(f"{secret}\n")
    click.echo(f'[tokens.{name}]\nsha256 = "{sha256}"\nscopes = ["view", "run"]')


# --- models, images, demonstrations ------------------------------------------------------------


@main.group(invoke_without_command=True)
@_config_option
@click.pass_context
def models(context: click.Context, config_path: Path | None) -> None:
    """List the models, or fetch a model's weights."""
    context.obj = _ready(config_path)
    if context.invoked_subcommand is not None:
        return
    catalogue = ModelCatalogue.of(context.obj)
    for name in catalogue.names():
        try:
            spec = catalogue.get(name).spec
            catalogue.files(spec)
            click.echo(f"{name:12} {spec.title}")
        except IsolineError as error:
            click.echo(f"{name:12} {error}")


@models.command()
@click.argument("name")
@click.pass_obj
def pull(settings: Settings, name: str) -> None:
    """Fetch and verify the weights of the model NAME."""
    from isoline.models import weights

    for path in weights.pull(ModelCatalogue.of(settings).get(name).spec, settings.weights).values():
        click.echo(path)


@main.command()
@_config_option
def images(config_path: Path | None) -> None:
    """List the images that the server serves."""
    from isoline.images.catalog import Images

    for name in Images(config.load(config_path).images).names():
        click.echo(name)


@main.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--series", help="Image of a file that contains several, by name or index from 0.")
def check(image: Path, series: str | None) -> None:
    """Show the metadata of IMAGE and warn of problems."""
    from isoline.cli import check_slide
    from isoline.images.catalog import Images, file_name

    found = Images.of_file(image).find(file_name(image)).of_series(series)
    if found.info.volume is None:
        rows = check_slide.rows_of(found.info)
    else:
        from isoline.cli.check_volume import rows_of

        rows = rows_of(found)
    for name, value in rows:
        click.echo(f"{name:12} {value}")
    problems = list(found.info.problems)
    target = image.resolve()
    if image.is_symlink() and target.parent != image.parent.resolve():
        problems.append(
            f"it is a link to {target}: a server lists and reads it only if that lies below the"
            " root of the link"
        )
    for problem in problems:
        click.secho(f"! {on_command_line(problem)}", fg="yellow")


@main.command()
@click.option("--once", is_flag=True, help="Exit after the first result instead of serving on.")
@click.option(
    "--out",
    "directory",
    default=".",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    help="Directory for contours.geojson and contours.png [default: current directory].",
)
@click.option(
    "--viewer",
    type=click.Choice(["browser", "ohif"]),
    default="browser",
    help="browser: a slide; ohif: a head in OHIF, with a DICOM archive.",
)
def demo(once: bool, directory: Path, viewer: str) -> None:
    """Serve a real slide and segment a region of it, or a real head in OHIF."""
    settings = _ready(None)
    _end_as_by_ctrl_c()
    if viewer == "ohif":
        from isoline.demo.ohif import run as volumes

        volumes.run(settings, once=once)
        return
    from isoline.demo import slide as first_look

    first_look.run(settings, directory, once=once)


def _end_as_by_ctrl_c() -> None:
    """Treat termination signals like Ctrl-C, so that child processes are ended too."""
    signals = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)  # unless nohup ignores it
    for number in signals:
        signal.signal(number, signal.default_int_handler)


COMMANDS_AT_A_TIME = 4
"""Drivers that `isoline conformance` runs side by side: starting one takes longer than its case."""


@main.command(context_settings={"ignore_unknown_options": True})
@click.option("--format", "format_", default="geojson", help="Dialect of contours to test with.")
@click.option("--save", type=click.Path(path_type=Path), help="Write the cases to this folder.")
@click.option(
    "--reconnecting",
    is_flag=True,
    help="Test reconnecting: the connection of the driver is broken, and its recovery is measured.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def conformance(
    command: tuple[str, ...], format_: str, save: Path | None, reconnecting: bool
) -> None:
    """Replay recorded gestures and events to COMMAND, a driver of a viewer's client, and judge it.

    Without COMMAND, --reconnecting tests isoline's own client.
    """
    from isoline.testing import conformance, driver, drivers
    from isoline.testing import reconnecting as suite

    if save is not None:
        if reconnecting:
            raise Malformed("--reconnecting has no cases to save as files", "leave out --save")
        conformance.save(save, format_)
    if command:
        tested = drivers.Command(command)
        if not reconnecting:
            sys.exit(_judged(conformance.run(tested, format_, at_a_time=COMMANDS_AT_A_TIME)))
        sys.exit(_judged(suite.run(tested, format_)))
    if reconnecting:
        sys.exit(_judged(suite.run(drivers.InProcess(driver.answer), format_)))
    if save is None:
        raise Malformed("there is no driver to test", "add its command after --")


def _judged(verdicts: Iterable[Verdict]) -> int:
    """Print each verdict as it arrives; return 0 if all cases that were run passed."""
    count = passed = 0
    not_run: Counter[str] = Counter()
    for verdict in verdicts:
        if verdict.lacks:
            not_run[", ".join(verdict.lacks)] += 1
            click.echo(f"-     {verdict.case.name}")
            continue
        count, passed = count + 1, passed + (verdict.problem is None)
        click.echo(f"{'wrong' if verdict.problem else 'ok':6}{verdict.case.name}")
        if verdict.problem:
            click.secho(f"      {verdict.problem}\n      {verdict.case.why}", fg="red")
    click.echo(f"{passed} of {count} cases passed")
    for lacks, number in not_run.items():
        click.secho(f"{number} not run: the driver does not declare {lacks}", fg="yellow")
    return int(passed < count)
