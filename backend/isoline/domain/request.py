"""What a caller asks for: one image, one model, where and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from isoline.domain.prompts import DrawnSlice, Prompt
from isoline.geometry.grid import XY
from isoline.geometry.region import Region
from isoline.geometry.volume_grid import SliceName
from isoline.sources.base import ImageInfo, Level


@dataclass(frozen=True)
class SegmentRequest:
    """One request, its types right and nothing else checked: `pipeline.prepare` does the rest."""

    image: str
    """The name of the image under the configured roots."""
    model: str
    region: Region | None = None
    """None: the whole image."""
    focus: XY | None = None
    """Where the user looks, in image coordinates; tiles nearest to it run first."""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    """Of the model, as given: neither checked nor completed."""
    tile: int | None = None
    """Side of a tile in grid pixels; None: the model's own."""
    spacing_um: XY | None = None
    """Micrometres per image pixel, as the caller states them."""
    at_um: float | None = None
    """Working resolution in micrometres per pixel; None: the model's own."""
    channel: tuple[str | int, ...] | None = None
    """Channels by name or index, in the order in which the model takes them."""
    z: int | None = None
    slice: SliceName | int | None = None
    """Where the user looks in a volume: a slice by name, or by k where slices have none."""
    prompts: tuple[Prompt, ...] = ()
    """Everything that the user drew to point at one object, in the order in which it was drawn."""
    frame_of_reference: str | None = None
    """FrameOfReferenceUID of prompts in LPS millimetres; None: they are in voxels or pixels."""
    initial: Region | tuple[DrawnSlice, ...] | None = None
    """An outline or a mask that the prompts correct."""
    format: str = "geojson"
    """The name of the encoder."""
    image_size: tuple[int, int] | None = None
    """(width, height) of what the viewer shows: a file of another size is not that image."""
    simplify_px: float | None = None
    """How far a simplified outline may stray, in grid pixels; None: outlines are exact."""


@dataclass(frozen=True)
class UploadRequest:
    """Pixels that a viewer is about to send, because the server does not see the file."""

    size: tuple[int, int]
    """(width, height) of the whole image at full resolution."""
    request: SegmentRequest
    """What they are for: it decides which pixels are wanted."""
    spacing_um: XY | None = None
    channels: tuple[str, ...] = ("red", "green", "blue")
    dtype: Literal["uint8", "uint16"] = "uint8"
    is_slide: bool = True
    """Whether there is glass around the tissue."""

    @property
    def info(self) -> ImageInfo:
        """What will be known of the image once it is here."""
        dtype = np.dtype(self.dtype)
        return ImageInfo(
            reader="upload",
            fingerprint="",
            kind="slide" if self.is_slide else "image",
            levels=(Level(self.size, XY(1.0, 1.0)),),
            spacing_um=self.spacing_um,
            channels=self.channels,
            dtype=dtype,
            background=(0,) * len(self.channels),
        )


Value: TypeAlias = float | int | bool | str
