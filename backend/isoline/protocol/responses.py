"""The server's responses, apart from the events of a job: a type and a constructor for each.

mypy checks the types, and the OpenAPI document is generated from them. Later versions may add
keys, which a client ignores.
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

Area = Annotated[
    tuple[int, int, int, int], Field(description="x0, y0, x1, y1 in pixels of this level.")
]
Millimetres = Annotated[
    tuple[float, float, float], Field(description="x, y, z in LPS millimetres.")
]


# --- The server --------------------------------------------------------------------------------


ServerStatus: TypeAlias = Literal["starting", "ready", "closing", "broken"]


class HealthJson(TypedDict):
    """The state of the server."""

    status: ServerStatus
    version: str
    workers: Annotated[Whole, Field(description="The number of processes that compute tiles.")]


class ReadinessJson(TypedDict):
    """Whether the server accepts requests."""

    status: ServerStatus


# --- Models ------------------------------------------------------------------------------------


class AnatomyJson(TypedDict):
    """The anatomical structure that a label stands for."""

    code: Annotated[str, Field(description="A code of SNOMED CT.")]
    meaning: str


class LabelJson(TypedDict):
    """One class of a model's output."""

    name: str
    color: Color
    anatomy: NotRequired[AnatomyJson]


class NumberParameterJson(TypedDict):
    """A parameter that is a number between two bounds."""

    kind: Literal["number"]
    name: str
    default: float
    minimum: float
    maximum: float
    help: str
    integer: Annotated[bool, Field(description="Whether it must be a whole number.")]


class ChoiceParameterJson(TypedDict):
    """A parameter that is one of several words."""

    kind: Literal["choice"]
    name: str
    default: str
    choices: tuple[str, ...]
    help: str


class SwitchParameterJson(TypedDict):
    """A parameter that is either true or false."""

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
    kind: Annotated[
        ResultKind,
        Field(description="What it returns: countable objects, areas, or labelled slices."),
    ]
    labels: Annotated[list[LabelJson], Field(min_length=1)]
    spacings_um: Annotated[
        tuple[Positive, ...],
        Field(description="Micrometres per pixel that it was trained for; empty if it takes any."),
    ]
    channels: Annotated[
        tuple[Whole, ...], Field(description="The numbers of channels that it accepts.")
    ]
    dimensions: Annotated[
        tuple[Literal[2, 3], ...],
        Field(description="2 for slides and pictures, 3 for volumes; one or both."),
    ]
    tile_px: Annotated[Whole, Field(description="Default side of a tile in working pixels.")]
    fixed_tile: Annotated[bool, Field(description="Whether it refuses any other tile size.")]
    prompts: Annotated[
        tuple[PromptKind, ...],
        Field(description="The kinds of prompts that it accepts; empty if it takes none."),
    ]
    automatic: Annotated[bool, Field(description="Whether it also runs without prompts.")]
    parameters: list[ParameterJson]
    licence: str
    cite: str
    problem: Annotated[
        str | None, Field(description="Why it cannot run on this server now; null if it can.")
    ]


class BrokenModelJson(TypedDict):
    """A model that could not be loaded."""

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
    """The name of a slice in DICOM."""

    instance: Annotated[str, Field(description="SOPInstanceUID.")]
    frame: Annotated[Whole, Field(description="Frame number, from 1.")]


class VolumeJson(TypedDict):
    """The grid of a volume in LPS millimetres, and the names of its slices."""

    size: Annotated[
        tuple[Whole, Whole, Whole], Field(description="The number of voxels along i, j and k.")
    ]
    origin_mm: Millimetres
    step_i_mm: Millimetres
    step_j_mm: Millimetres
    step_k_mm: Millimetres
    frame_of_reference: Annotated[
        str, Field(description="FrameOfReferenceUID; empty if the volume has none.")
    ]
    modality: Annotated[str, Field(description="Modality as in DICOM; empty if unknown.")]
    slices: Annotated[
        list[SliceNameJson],
        Field(description="In the order of k; empty if the slices have no names."),
    ]


class SeriesJson(TypedDict):
    """One of several images in a file."""

    name: Annotated[str, Field(description="Empty if the file does not name it.")]
    size: Size


class ImageJson(TypedDict):
    """The description of an image."""

    name: str
    kind: Literal["slide", "image", "volume"]
    reader: str
    fingerprint: Annotated[
        str, Field(description="A digest of the content: copies of a file share it.")
    ]
    size: Size
    spacing_um: Annotated[
        Pair | None,
        Field(description="Micrometres per pixel, x and y; null if the file does not give it."),
    ]
    levels: Annotated[list[LevelJson], Field(min_length=1)]
    channels: tuple[str, ...]
    dtype: str
    z_planes: Whole
    series: Annotated[
        list[SeriesJson],
        Field(description="The images in the file, if there are several; `series` chooses one."),
    ]
    taken: Annotated[Whole, Field(description="Index in `series` of the image described here.")]
    problems: Annotated[
        tuple[str, ...], Field(description="Problems with the file, as sentences for the user.")
    ]
    volume: NotRequired[VolumeJson]


class ImagesJson(TypedDict):
    """The images and archives that requests can name."""

    images: list[str]
    archives: Annotated[
        list[str], Field(description="The values of SOURCE in `dicomweb:SOURCE/STUDY/SERIES`.")
    ]


# --- Uploads and labelmaps ---------------------------------------------------------------------


class UploadLayerJson(TypedDict):
    """The area that the viewer has to send at one resolution."""

    downsample: Annotated[Whole, Field(description="Image pixels per pixel of this level.")]
    area: Area


class UploadJson(TypedDict):
    """An upload: the pixels that the viewer has to send."""

    upload: Annotated[str, Field(description="The id of the upload.")]
    image: Annotated[str, Field(description="The name of this image in requests.")]
    tile_px: Annotated[
        Whole,
        Field(description="Side of a tile in pixels; tiles at the edges of an area are smaller."),
    ]
    levels: Annotated[
        list[UploadLayerJson],
        Field(min_length=1, description="Full resolution, then the overview."),
    ]
    pixels: Annotated[Whole, Field(description="The total number of pixels to send.")]


class VolumeUploadJson(TypedDict):
    """An upload: the slices that the viewer has to send."""

    upload: Annotated[str, Field(description="The id of the upload.")]
    image: Annotated[str, Field(description="The name of this image in requests.")]
    slices: Annotated[Whole, Field(description="The number of slices to send.")]
    bytes: Annotated[Whole, Field(description="The total number of bytes to send.")]


class SavedJson(TypedDict):
    """A labelmap that is in the archive."""

    study: Annotated[str, Field(description="StudyInstanceUID, the same as the source's.")]
    series: Annotated[str, Field(description="SeriesInstanceUID.")]
    instance: Annotated[str, Field(description="SOPInstanceUID.")]
    new: Annotated[bool, Field(description="False if the archive already had it.")]


# --- Jobs --------------------------------------------------------------------------------------


class JobJson(TypedDict):
    """The state and progress of a job."""

    job: Annotated[str, Field(description="The id of the job.")]
    state: Literal["queued", "parked", "running", "done", "failed", "cancelled"]
    image: str
    model: str
    position: Annotated[Whole, Field(description="The number of jobs waiting before it.")]
    urgent: Annotated[
        bool, Field(description="Whether it takes precedence over jobs with large regions.")
    ]
    waits_for: Annotated[
        Literal["a token", "a place", "tiles"] | None,
        Field(
            description='What it is waiting for. "a token": one with permission to read its image; '
            '"a place": one among the running jobs; "tiles": their results. Null once it has '
            "ended."
        ),
    ]
    seconds_waiting: Annotated[
        float, Field(ge=0, description="How long it waited before it started.")
    ]
    tiles_done: Whole
    tiles: Whole
    seconds_left: Annotated[
        float | None, Field(description="An estimate; null until the first tile has been timed.")
    ]
    objects: Annotated[Whole, Field(description="The number of final objects so far.")]
    last_seq: Annotated[
        Whole | None, Field(description="The number of its latest event; null before the first.")
    ]


class CreatedJobJson(JobJson):
    """A job that has just been queued."""

    events: Annotated[str, Field(description="The path of its event stream.")]
    share: Annotated[
        str,
        Field(description="Other callers that send this as Isoline-Share may use the job."),
    ]


class JobsJson(TypedDict):
    """Jobs, oldest first."""

    jobs: list[JobJson]


# --- From the types of `domain` ----------------------------------------------------------------


def model_json(spec: ModelSpec, problem: str | None = None) -> ModelJson:
    """Return the description of a model; `problem` is why it cannot run on this server now."""
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
    """Return the description of the image `name`."""
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
        "series": [{"name": each.name, "size": each.size} for each in info.series],
        "taken": info.taken,
        "problems": info.problems,
    }
    if info.volume:
        said["volume"] = volume_json(info.volume)
    return said


def volume_json(volume: VolumeInfo) -> VolumeJson:
    """Return the grid of a volume in LPS millimetres, and the names of its slices."""
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
    """Return the name, colour and anatomy of a label."""
    said: LabelJson = {"name": label.name, "color": label.color}
    if label.anatomy is not None:
        code, meaning = label.anatomy
        said["anatomy"] = {"code": code, "meaning": meaning}
    return said


def upload_json(upload: str, manifest: Manifest) -> UploadJson:
    """Return the id of an upload and the pixels that the viewer has to send."""
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
    """Return the id of an upload and the number of slices that the viewer has to send."""
    slices = manifest.volume.grid.size[2]
    return {
        "upload": upload,
        "image": f"upload:{upload}",
        "slices": slices,
        "bytes": slices * manifest.slice_bytes,
    }


def saved_json(saved: Saved) -> SavedJson:
    """Return the UIDs of a stored labelmap."""
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
