"""A segmentation request: one image, one model, where and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from isoline.domain.prompts import DrawnSlice, Prompt
from isoline.geometry.grid import XY
from isoline.geometry.region import Region
from isoline.geometry.volume_grid import SliceName

Value: TypeAlias = float | int | bool | str
"""The value of a parameter."""


@dataclass(frozen=True)
class SegmentRequest:
    """A request with correct types, not validated further; `pipeline.planner` does that."""

    image: str
    """The name of the image under the configured roots."""
    model: str
    region: Region | None = None
    """None for the whole image."""
    focus: XY | None = None
    """Where the user is looking, in image coordinates; the nearest tiles run first."""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    """Model parameters as given: neither validated nor completed with defaults."""
    tile: int | None = None
    """Side of a tile in grid pixels; None for the model's default."""
    spacing_um: XY | None = None
    """Micrometres per image pixel, as stated by the caller."""
    override_spacing: bool = False
    """Whether `spacing_um` counts even if the file records another."""
    at_um: float | None = None
    """Working resolution in micrometres per pixel; None for the model's default."""
    channel: tuple[str | int, ...] | None = None
    """Channels by name or index, in the order that the model expects."""
    z: int | None = None
    series: str | int | None = None
    """Which image of a file that contains several, by name or index; None for the default."""
    slice: SliceName | int | None = None
    """The slice that the user is looking at: by name, or by k if slices have no names."""
    prompts: tuple[Prompt, ...] = ()
    """All prompts for one object, in the order in which they were drawn."""
    frame_of_reference: str | None = None
    """FrameOfReferenceUID for prompts in LPS millimetres; None if they are in voxels or pixels."""
    initial: Region | tuple[DrawnSlice, ...] | None = None
    """An outline or a mask for the prompts to correct."""
    format: str | None = None
    """The name of the encoder; None for the one that suits the image."""
    image_size: tuple[int, int] | None = None
    """(width, height) of the image in the viewer: a file of another size is not the same image."""
    simplify_px: float | None = None
    """Tolerance of simplified outlines in grid pixels; None for exact outlines."""
    keep: bool = False
    """Whether to store a result as a job even if it is returned from memory."""
    replaces: str | tuple[str, ...] = ()
    """What the results take the place of: an earlier job, by its id, or features, by theirs."""
