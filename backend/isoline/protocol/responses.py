"""What the server answers, apart from the events of a job: each answer's type, and what makes it.

The types are what mypy checks and what the OpenAPI document is made of. Later versions may add
keys, which a client passes over.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal, TypeAlias, cast

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from isoline.domain.events import Label
from isoline.domain.prompts import PromptKind
from isoline.domain.segments import Saved
from isoline.geometry.grid import Box
from isoline.geometry.volume_grid import LPS, SliceName, VolumeInfo
from isoline.models.model import Choice, ModelSpec, Number, Parameter, ResultKind
from isoline.protocol.values import Color, Pair, Positive, Size, Whole
from isoline.sources.source import ImageInfo
from isoline.sources.upload import Manifest
from isoline.sources.uploaded_volume import VolumeManifest

Area = Annotated[tuple[int, int, int, int], Field(description="x0, y0, x1, y1 in its pixels.")]
Millimetres = Annotated[tuple[float, float, float], Field(description="LPS, millimetres.")]


# --- The server --------------------------------------------------------------------------------


ServerStatus: TypeAlias = Literal["starting", "ready", "closing", "broken"]


class HealthJson(TypedDict):
    """How the server is."""

    status: ServerStatus
    version: str
    workers: Annotated[Whole, Field(description="Processes that compute tiles.")]


class ReadinessJson(TypedDict):
    """Whether requests should be sent here."""

    status: ServerStatus


# --- Models ------------------------------------------------------------------------------------


class AnatomyJson(TypedDict):
    """What a label is in the body."""

    code: Annotated[str, Field(description="Of SNOMED CT.")]
    meaning: str


class LabelJson(TypedDict):
    """One class of a model's output."""

    name: str
    color: Color
    anatomy: NotRequired[AnatomyJson]


class NumberParameterJson(TypedDict):
    """A number between bounds."""

    kind: Literal["number"]
    name: str
    default: float
    minimum: float
    maximum: float
    help: str
    integer: Annotated[bool, Field(description="No fractions.")]


class ChoiceParameterJson(TypedDict):
    """One word of several."""

    kind: Literal["choice"]
    name: str
    default: str
    choices: tuple[str, ...]
    help: str


class SwitchParameterJson(TypedDict):
    """On or off."""

    kind: Literal["switch"]
    name: str
    default: bool
    help: str


ParameterJson: TypeAlias = Annotated[
    NumberParameterJson | ChoiceParameterJson | SwitchParameterJson, Field(discriminator="kind")
]


class ModelJson(TypedDict):
    """What a viewer needs to offer a model."""

    name: str
    title: str
    description: str
    version: str
    kind: Annotated[ResultKind, Field(description="Things to count, areas, or slices of labels.")]
    labels: Annotated[list[LabelJson], Field(min_length=1)]
    spacings_um: Annotated[
        tuple[Positive, ...], Field(description="It was made for these; empty: for any.")
    ]
    channels: Annotated[tuple[Whole, ...], Field(description="How many channels it takes.")]
    dimensions: Annotated[
        tuple[Literal[2, 3], ...],
        Field(description="2: slides and pictures, 3: volumes; one or both."),
    ]
    tile_px: Annotated[Whole, Field(description="Default side of a tile.")]
    fixed_tile: Annotated[bool, Field(description="Whether it refuses any other tile.")]
    prompts: Annotated[
        tuple[PromptKind, ...],
        Field(description="What it understands; empty: it takes no prompts."),
    ]
    automatic: Annotated[bool, Field(description="Whether it answers without prompts too.")]
    parameters: list[ParameterJson]
    licence: str
    cite: str
    problem: Annotated[str | None, Field(description="Why it cannot run here and now.")]


class BrokenModelJson(TypedDict):
    """A model that cannot even be described."""

    name: str
    problem: str


class ModelsJson(TypedDict):
    """The installed models."""

    models: list[ModelJson | BrokenModelJson]


# --- Images ------------------------------------------------------------------------------------


class LevelJson(TypedDict):
    """One resolution of an image."""

    size: Size
    downsample: Annotated[Pair, Field(description="Image pixels per pixel, x and y.")]


class SliceNameJson(TypedDict):
    """What a viewer calls a slice."""

    instance: Annotated[str, Field(description="SOPInstanceUID.")]
    frame: Annotated[Whole, Field(description="From 1.")]


class VolumeJson(TypedDict):
    """Where the voxels of a volume lie, in LPS millimetres, and its slices' names."""

    size: Annotated[tuple[Whole, Whole, Whole], Field(description="Along i, j, k.")]
    origin_mm: Millimetres
    step_i_mm: Millimetres
    step_j_mm: Millimetres
    step_k_mm: Millimetres
    frame_of_reference: Annotated[str, Field(description="Empty where there is none.")]
    modality: Annotated[str, Field(description="Empty where unknown.")]
    slices: Annotated[list[SliceNameJson], Field(description="By k; empty without names.")]


class ImageJson(TypedDict):
    """What a viewer needs to know of an image."""

    name: str
    kind: Literal["slide", "image", "volume"]
    reader: str
    fingerprint: Annotated[str, Field(description="Of the content: copies of a file share it.")]
    size: Size
    spacing_um: Annotated[
        Pair | None,
        Field(description="Micrometres per pixel, null where the file does not say."),
    ]
    levels: Annotated[list[LevelJson], Field(min_length=1)]
    channels: tuple[str, ...]
    dtype: str
    z_planes: Whole
    problems: Annotated[tuple[str, ...], Field(description="Sentences for the user.")]
    volume: NotRequired[VolumeJson]


class ImagesJson(TypedDict):
    """The images and archives that requests can name."""

    images: list[str]
    archives: Annotated[list[str], Field(description="SOURCE of `dicomweb:SOURCE/STUDY/SERIES`.")]


# --- Uploads and labelmaps ---------------------------------------------------------------------


class UploadLayerJson(TypedDict):
    """Pixels that are wanted at one resolution."""

    downsample: Annotated[Whole, Field(description="Image pixels per pixel.")]
    area: Area


class UploadJson(TypedDict):
    """The pixels that a viewer is asked for."""

    upload: Annotated[str, Field(description="The id.")]
    image: Annotated[str, Field(description="What a request calls this image.")]
    tile_px: Annotated[
        Whole, Field(description="Side of a tile; at the edges of an area tiles are smaller.")
    ]
    levels: Annotated[
        list[UploadLayerJson],
        Field(min_length=1, description="Full resolution, then the overview."),
    ]
    pixels: Annotated[Whole, Field(description="To be sent in all.")]


class VolumeUploadJson(TypedDict):
    """The slices that a viewer is asked for."""

    upload: Annotated[str, Field(description="The id.")]
    image: Annotated[str, Field(description="What a request calls this image.")]
    slices: Annotated[Whole, Field(description="How many slices to send.")]
    bytes: Annotated[Whole, Field(description="To be sent in all.")]


class SavedJson(TypedDict):
    """A labelmap that is in the archive."""

    study: Annotated[str, Field(description="StudyInstanceUID, that of the source.")]
    series: Annotated[str, Field(description="SeriesInstanceUID.")]
    instance: Annotated[str, Field(description="SOPInstanceUID.")]
    new: Annotated[bool, Field(description="False where the archive had it already.")]


# --- Jobs --------------------------------------------------------------------------------------


class JobJson(TypedDict):
    """How far a job is."""

    job: Annotated[str, Field(description="The id.")]
    state: Literal["queued", "parked", "running", "done", "failed", "cancelled"]
    image: str
    model: str
    position: Annotated[Whole, Field(description="How many jobs wait before it.")]
    urgent: Annotated[bool, Field(description="A small region: it goes before all others.")]
    waits_for: Annotated[
        Literal["a token", "a place", "tiles"] | None,
        Field(
            description="A token that may read its image, a place among the jobs that run, or "
            "tiles to be computed; null when it has ended."
        ),
    ]
    seconds_waiting: Annotated[float, Field(ge=0, description="Before it began.")]
    tiles_done: Whole
    tiles: Whole
    seconds_left: Annotated[
        float | None, Field(description="Null until the first tile has been timed.")
    ]
    objects: Annotated[Whole, Field(description="Final ones, so far.")]
    last_seq: Annotated[
        Whole | None, Field(description="The number of its latest event; null before the first.")
    ]


class CreatedJobJson(JobJson):
    """A job that was just queued."""

    events: Annotated[str, Field(description="The path of its event stream.")]
    share: Annotated[
        str, Field(description="Others may use the job who send this as Isoline-Share.")
    ]


class JobsJson(TypedDict):
    """Jobs, the oldest first."""

    jobs: list[JobJson]


# --- From the types of `domain` ----------------------------------------------------------------


def model_json(spec: ModelSpec, problem: str | None = None) -> ModelJson:
    """Return what a viewer needs to offer a model; `problem`: why it cannot run here and now."""
    return {
        "name": spec.name,
        "title": spec.title,
        "description": spec.description,
        "version": spec.version,
        "kind": spec.kind,
        "labels": [label_json(label) for label in spec.labels],
        "spacings_um": spec.spacings_um,
        "channels": spec.channels,
        "dimensions": spec.dimensions,
        "tile_px": spec.tile_px,
        "fixed_tile": spec.fixed_tile,
        "prompts": spec.prompts,
        "automatic": spec.output is not None,
        "parameters": [_parameter(parameter) for parameter in spec.parameters],
        "licence": spec.licence,
        "cite": spec.cite,
        "problem": problem,
    }


def image_json(name: str, info: ImageInfo) -> ImageJson:
    """Return what a viewer needs to know of an image."""
    spacing = info.spacing_um
    said: ImageJson = {
        "name": name,
        "kind": info.kind,
        "reader": info.reader,
        "fingerprint": info.fingerprint,
        "size": info.size,
        "spacing_um": None if spacing is None else (spacing.x, spacing.y),
        "levels": [
            {"size": level.size, "downsample": (level.downsample.x, level.downsample.y)}
            for level in info.levels
        ],
        "channels": info.channels,
        "dtype": info.dtype.name,
        "z_planes": info.z_planes,
        "problems": info.problems,
    }
    if info.volume:
        said["volume"] = volume_json(info.volume)
    return said


def volume_json(volume: VolumeInfo) -> VolumeJson:
    """Return where the voxels of a volume lie, in LPS millimetres, and its slices' names."""
    grid = volume.grid
    return {
        "size": grid.size,
        "origin_mm": _point(grid.origin_mm),
        "step_i_mm": _point(grid.step_i_mm),
        "step_j_mm": _point(grid.step_j_mm),
        "step_k_mm": _point(grid.step_k_mm),
        "frame_of_reference": grid.frame_of_reference,
        "modality": volume.modality,
        "slices": [_slice_name(name) for name in volume.slices],
    }


def label_json(label: Label) -> LabelJson:
    """Return how a viewer draws a label and what it is."""
    said: LabelJson = {"name": label.name, "color": label.color}
    if label.anatomy is not None:
        code, meaning = label.anatomy
        said["anatomy"] = {"code": code, "meaning": meaning}
    return said


def upload_json(upload: str, manifest: Manifest) -> UploadJson:
    """Return what a viewer needs to send the pixels that are wanted."""
    return {
        "upload": upload,
        "image": f"upload:{upload}",
        "tile_px": manifest.tile_px,
        "levels": [
            {"downsample": layer.downsample, "area": _corners(layer.area)}
            for layer in manifest.layers
        ],
        "pixels": sum(layer.area.area for layer in manifest.layers),
    }


def volume_upload_json(upload: str, manifest: VolumeManifest) -> VolumeUploadJson:
    """Return what a viewer needs to send the slices that are wanted."""
    slices = manifest.volume.grid.size[2]
    return {
        "upload": upload,
        "image": f"upload:{upload}",
        "slices": slices,
        "bytes": slices * manifest.slice_bytes,
    }


def saved_json(saved: Saved) -> SavedJson:
    """Return what a viewer needs to find a kept labelmap again."""
    return {
        "study": saved.study,
        "series": saved.series,
        "instance": saved.instance,
        "new": saved.is_new,
    }


def _corners(box: Box) -> tuple[int, int, int, int]:
    return box.x0, box.y0, box.x1, box.y1


def _point(lps: LPS) -> tuple[float, float, float]:
    return lps.x, lps.y, lps.z


def _slice_name(name: SliceName) -> SliceNameJson:
    return {"instance": name.instance, "frame": name.frame}


def _parameter(parameter: Parameter) -> ParameterJson:
    keys = asdict(parameter)
    match parameter:
        case Number():
            return cast(NumberParameterJson, {"kind": "number", **keys})
        case Choice():
            return cast(ChoiceParameterJson, {"kind": "choice", **keys})
        case _:
            return cast(SwitchParameterJson, {"kind": "switch", **keys})
