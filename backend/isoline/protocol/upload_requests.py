"""The bodies of `POST /v1/uploads`, which announce the upload of a picture or a volume."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, TypeAdapter
from typing_extensions import NotRequired, TypedDict

from isoline.geometry.volume_grid import LPS, SliceName, VolumeGrid, VolumeInfo
from isoline.protocol.requests import Spacing, UploadPurpose, json_in
from isoline.protocol.strict import Expected, Reads, expected, read, strict, tag, tagged
from isoline.protocol.values import MAX_TEXT, Finite, Flag, Side, Size, Text, Whole
from isoline.sources.upload import UploadRequest
from isoline.sources.uploaded_volume import VolumeUploadRequest, VoxelType

MAX_CHANNELS = 64


# --- A picture ---------------------------------------------------------------------------------


def _different(names: list[str]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise expected("a list of different names")
    return tuple(names)


@strict(
    examples=[
        {
            "size": [31872, 13835],
            "spacing_um": [0.2457, 0.2457],
            "request": {"model": "nuclei", "region": [4000, 5000, 6048, 7048]},
        }
    ]
)
class UploadRequestJson(TypedDict):
    """The announcement of the upload of a part of a slide or picture."""

    size: Size
    spacing_um: NotRequired[Annotated[Spacing | None, Field(description="Micrometres per pixel.")]]
    channels: NotRequired[
        Annotated[
            tuple[str, ...],
            Reads(
                Annotated[
                    list[Text],
                    Field(min_length=1, max_length=MAX_CHANNELS),
                    Expected(f"a list of 1 to {MAX_CHANNELS} names"),
                ],
                _different,
            ),
            Field(
                description="The names of the channels; RGB by default.",
                json_schema_extra={"uniqueItems": True},
            ),
        ]
    ]
    dtype: NotRequired[Annotated[Literal["uint8", "uint16"], Expected('"uint8" or "uint16"')]]
    is_slide: NotRequired[
        Annotated[
            Flag, Field(description="Whether there is glass around the tissue; true by default.")
        ]
    ]
    request: UploadPurpose


# --- A volume ----------------------------------------------------------------------------------

_Millimetres = Annotated[
    LPS,
    Reads(
        Annotated[tuple[Finite, Finite, Finite], Expected("[x, y, z] in millimetres")],
        lambda given: LPS(*given),
    ),
    Field(description="x, y, z in LPS millimetres."),
]
_TextOrNone = Annotated[str, Field(max_length=MAX_TEXT), Expected("a string")]


@strict()
class UploadedSliceJson(TypedDict):
    """The name of a slice in DICOM."""

    instance: Annotated[Text, Field(description="SOPInstanceUID.")]
    frame: NotRequired[Annotated[Whole, Field(description="Frame number, from 1 (the default).")]]


def _slice_name(given: UploadedSliceJson) -> SliceName:
    return SliceName(given["instance"], given.get("frame", 1))


@strict()
class VolumeGeometryJson(TypedDict):
    """The position of the voxels in the patient, as in `started`."""

    size: Annotated[
        tuple[Side, Side, Side],
        Expected("[columns, rows, slices]"),
        Field(description="The number of voxels along i, j and k."),
    ]
    origin_mm: _Millimetres
    step_i_mm: _Millimetres
    step_j_mm: _Millimetres
    step_k_mm: _Millimetres
    frame_of_reference: NotRequired[
        Annotated[_TextOrNone, Field(description="FrameOfReferenceUID; empty if there is none.")]
    ]
    modality: NotRequired[
        Annotated[
            _TextOrNone, Field(description="As in DICOM, such as CT or MR; empty if unknown.")
        ]
    ]
    slices: NotRequired[
        Annotated[
            list[Annotated[SliceName, Reads(UploadedSliceJson, _slice_name)]],
            Expected("a list of slices"),
            Field(
                description="The names of the slices, in the order of k; empty if they have none."
            ),
        ]
    ]


def _volume(given: VolumeGeometryJson) -> VolumeInfo:
    grid = VolumeGrid(
        size=given["size"],
        origin_mm=given["origin_mm"],
        step_i_mm=given["step_i_mm"],
        step_j_mm=given["step_j_mm"],
        step_k_mm=given["step_k_mm"],
        frame_of_reference=given.get("frame_of_reference", ""),
    )
    return VolumeInfo(grid, tuple(given.get("slices", ())), given.get("modality", ""))


@strict(
    examples=[
        {
            "volume": {
                "size": [512, 512, 240],
                "origin_mm": [-153.6, -153.6, 0.0],
                "step_i_mm": [0.6, 0.0, 0.0],
                "step_j_mm": [0.0, 0.6, 0.0],
                "step_k_mm": [0.0, 0.0, 1.5],
                "modality": "CT",
            },
            "dtype": "int16",
            "request": {"model": "threshold3d"},
        }
    ]
)
class VolumeUploadRequestJson(TypedDict):
    """The announcement of the upload of a volume, slice by slice."""

    volume: Annotated[VolumeInfo, Reads(VolumeGeometryJson, _volume)]
    dtype: Annotated[
        VoxelType,
        Expected("uint8, int8, uint16, int16 or float32"),
        Field(description="The type of the values, which are in the units of the modality."),
    ]
    request: UploadPurpose


# --- Parsing -----------------------------------------------------------------------------------


def _kind(value: object) -> str:
    return "volume" if isinstance(value, dict) and "volume" in value else "picture"


_Announcement = Annotated[
    Annotated[
        UploadRequest,
        Reads(UploadRequestJson, lambda given: UploadRequest(**given)),
        tag("picture"),
    ]
    | Annotated[
        VolumeUploadRequest,
        Reads(VolumeUploadRequestJson, lambda given: VolumeUploadRequest(**given)),
        tag("volume"),
    ],
    Discriminator(
        tagged(
            lambda value: "volume" if isinstance(value, dict) and "volume" in value else "picture"
        )
    ),
]
_ANNOUNCEMENT = TypeAdapter[UploadRequest | VolumeUploadRequest](_Announcement)


def parse_upload(body: bytes) -> UploadRequest | VolumeUploadRequest:
    """Parse the body that creates an upload.

    Raises TooLarge, Malformed, BadRegion, and BadSpacing or BadSeries for voxels that do not form a
    volume.
    """
    return read(_ANNOUNCEMENT, json_in(body), "the upload")
