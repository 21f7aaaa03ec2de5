"""What a caller asks for: one image, one model, where and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from isoline.domain.prompts import DrawnSlice, Prompt
from isoline.geometry.grid import XY
from isoline.geometry.region import Region
from isoline.geometry.volume_grid import SliceName

Value: TypeAlias = float | int | bool | str
"""Of a parameter."""


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

    keep: bool = False
    """Whether an answer that is given from memory is kept as a job all the same."""
