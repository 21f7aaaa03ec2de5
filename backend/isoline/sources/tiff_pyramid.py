"""How the pages of a TIFF form channels, planes and the levels of a pyramid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from isoline.errors import Unreadable
from isoline.geometry.grid import XY
from isoline.sources.pyramid import fitting_level, scale_problems
from isoline.sources.source import Level
from isoline.sources.tiff_file import TiffFile, TiffPage
from isoline.sources.tiff_series import resolution_spacing


@dataclass(frozen=True)
class Stack:
    """How the pages of a series map to channels and planes, slowest axis first."""

    axes: tuple[tuple[str, int], ...]
    """(axis, length); the axis is C or Z, or another of which only the first index is read."""

    def length(self, axis: str) -> int:
        return dict(self.axes).get(axis, 1)

    @property
    def pages(self) -> int:
        return math.prod(length for _, length in self.axes)

    def page(self, channel: int, z: int) -> int:
        """Return the index of the page with this channel of this plane."""
        index = 0
        for axis, length in self.axes:
            index = index * length + {"C": channel, "Z": z}.get(axis, 0)
        return index

    def problems(self) -> tuple[str, ...]:
        return tuple(
            f"the file contains {length} images along its axis {axis}; only the first is read"
            for axis, length in self.axes
            if axis not in "CZ" and length > 1
        )


def stack_of(series: Any, name: str) -> Stack:
    """Parse the axes of a tifffile series, such as TZCYX, YXS or, in separate planes, SYX."""
    axes = series.axes
    planes = [axis for axis in zip(axes, map(int, series.shape), strict=True) if axis[0] != "S"]
    axes = axes.replace("S", "")
    if not axes.endswith("YX"):
        raise Unreadable(f"{name} has its axes in the order {axes}")
    outer = axes[: axes.index("Y")]
    if "C" not in outer:
        # an unnamed axis: pages of a file that does not say what they are
        outer = outer.replace("I", "C").replace("Q", "C")
    if len(set(outer)) < len(outer):
        raise Unreadable(f"{name} has its axes in the order {axes}")
    lengths = (length for _, length in planes)
    return Stack(tuple(zip(outer, lengths, strict=False)))


@dataclass(frozen=True)
class Pyramid:
    """The levels of one image, finest first."""

    levels: tuple[Level, ...]
    pages: tuple[tuple[TiffPage, ...], ...]
    """The pages of each level, as its `Stack` counts them."""
    problems: tuple[str, ...]


def separate(series: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Divide tifffile series into images and reduced copies, which are levels of one of them."""
    images = [part for part in series if not part.keyframe.is_reduced]
    reduced = [part for part in series if part.keyframe.is_reduced and part.keyframe.is_tiled]
    return (images, reduced) if images else (list(series), [])


def pyramid_of(file: TiffFile, image: Any, reduced: Sequence[Any]) -> Pyramid:
    """Return the levels of the tifffile series `image`, among them those of `reduced` that fit.

    Levels that do not show the image at one scale along both axes are left out, with a warning.
    Raises Unreadable.
    """
    first = _pages(file, image)
    found = [(Level(first[0].size, XY(1.0, 1.0)), first)]
    problems: list[str] = []
    own = [part for part in image.levels[1:] if part.axes == image.axes]
    for part in (*own, *(part for part in reduced if part.axes == image.axes)):
        pages = _pages(file, part)
        level = fitting_level(
            first[0].size, pages[0].size, pages[0].tile_size, _stated_scale(image, part)
        )
        if level is None or len(pages) != len(first) or pages[0].samples != first[0].samples:
            problems.append(
                "a level of {} x {} pixels does not fit the image and is not used".format(
                    *pages[0].size
                )
            )
        else:
            found.append((level, pages))
    found.sort(key=lambda each: each[0].downsample.x)
    levels = tuple(level for level, _ in found)
    return Pyramid(levels, tuple(pages for _, pages in found), (*problems, *scale_problems(levels)))


def _pages(file: TiffFile, part: Any) -> tuple[TiffPage, ...]:
    pages = tuple(TiffPage(file, page) for page in part.pages)
    if any(page.size != pages[0].size for page in pages):
        raise Unreadable(f"{file.path.name} has planes of different sizes")
    return pages


def _stated_scale(image: Any, part: Any) -> float | None:
    """Return the scale of a level by its resolution tags; None if they are those of the image."""
    whole, reduced = (resolution_spacing(each.keyframe) for each in (image, part))
    if whole is None or reduced is None or reduced.x <= whole.x * 1.5:
        return None
    return reduced.x / whole.x
