"""From a scan to a network's input: reorientation, resampling, cropping and intensity scaling.

Each step reproduces a MONAI transform that a bundle names. Its effect on positions is kept as one
linear function per axis, so that labels can be mapped back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from isoline.errors import BadSeries
from isoline.geometry import resampling
from isoline.geometry.reorient import Orientation
from isoline.models.volumetric import Scan


@dataclass(frozen=True)
class Respace:
    """`Spacingd`: resample to this voxel size in mm along each axis; None keeps the scan's own."""

    spacing_mm: tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class Crop:
    """`CropForegroundd`: crop to the bounding box of all voxels above 0."""


@dataclass(frozen=True)
class Range:
    """`ScaleIntensityRanged`: map the range `a` to `b`, or to 0 .. 1 if `b` is None."""

    a: tuple[float, float]
    b: tuple[float, float] | None
    clip: bool


@dataclass(frozen=True)
class Percentiles:
    """`ScaleIntensityRangePercentilesd`: map these percentiles of the scan to `b`."""

    percent: tuple[float, float]
    b: tuple[float, float] | None
    clip: bool


@dataclass(frozen=True)
class MinMax:
    """`ScaleIntensityd`: map the smallest and the largest value to `b`."""

    b: tuple[float, float]


@dataclass(frozen=True)
class Normalize:
    """`NormalizeIntensityd`: subtract the mean and divide by the standard deviation.

    Given values replace either; both are of all voxels or, with `nonzero`, of those that are not 0.
    """

    nonzero: bool
    subtrahend: float | None
    divisor: float | None


Intensity: TypeAlias = Range | Percentiles | MinMax | Normalize
Step: TypeAlias = Respace | Crop | Intensity


@dataclass(frozen=True)
class Input:
    """A scan at some step of preprocessing."""

    values: NDArray[np.generic]
    """(k, j, i): the axes in the scan's order, each in the direction that the network expects."""
    spacing_mm: tuple[float, float, float]
    """Along (k, j, i), like `offset` and `scale`."""
    offset: tuple[float, float, float]
    scale: tuple[float, float, float]
    """Index n of `values` is voxel offset + n * scale of the flipped scan."""
    is_cropped: bool = False

    @classmethod
    def of(cls, scan: Scan, orientation: Orientation) -> Input:
        k, j, i = scan.grid.spacing_mm[::-1]
        turned = np.flip(scan.voxels, orientation.flipped_axes)
        return cls(turned, (k, j, i), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    def after(self, step: Step, orientation: Orientation) -> Input:
        """Return the input after `step`. Raises BadSeries if nothing is left."""
        match step:
            case Respace(spacing_mm):
                return self._respaced(orientation.of_array(spacing_mm))
            case Crop():
                return self._cropped()
            case _:
                return replace(self, values=_scaled(self.values, step))

    def _respaced(self, wanted: tuple[float | None, ...]) -> Input:
        new = [w if w else s for w, s in zip(wanted, self.spacing_mm, strict=True)]
        ratio = np.array(new) / self.spacing_mm
        if np.allclose(ratio, 1, atol=1e-5):
            return self
        # the centre of the first voxel stays in place (monai.data.utils.compute_shape_offset)
        counts = np.round((np.array(self.values.shape) - 1) / ratio + 1).astype(int)
        at = tuple(np.arange(n) * r for n, r in zip(counts, ratio, strict=True))
        k, j, i = (float(s * r) for s, r in zip(self.scale, ratio, strict=True))
        return replace(
            self,
            values=resampling.volume(self.values, at),
            spacing_mm=(new[0], new[1], new[2]),
            scale=(k, j, i),
        )

    def _cropped(self) -> Input:
        inside = np.greater(self.values, 0)
        box, offset = [], []
        for axis in range(3):
            others = tuple(n for n in range(3) if n != axis)
            found = np.flatnonzero(inside.any(axis=others))
            if not len(found):
                raise BadSeries(
                    "the scan has no value above 0 where the bundle looks for the body",
                    "check that the scan has the modality that the bundle was made for",
                )
            low = int(found[0])
            box.append(slice(low, int(found[-1]) + 1))
            offset.append(self.offset[axis] + low * self.scale[axis])
        return replace(
            self,
            values=self.values[tuple(box)],
            offset=(offset[0], offset[1], offset[2]),
            is_cropped=True,
        )

    def index(self, axis: int, extent: int, is_flipped: bool) -> NDArray[np.float64]:
        """Return the fractional index in `values` of each of the scan's `extent` voxels on
        `axis`."""
        voxel = np.arange(extent, dtype=np.float64)
        if is_flipped:
            voxel = extent - 1 - voxel
        index: NDArray[np.float64] = (voxel - self.offset[axis]) / self.scale[axis]
        return index


def _scaled(values: NDArray[np.generic], step: Intensity) -> NDArray[np.float32]:
    """Return `values` after `step`; writeable float32 is changed in place."""
    # a resampled array belongs to this input, the scan's array does not
    is_ours = values.dtype == np.float32 and values.flags.writeable
    scaled = np.asarray(values, np.float32) if is_ours else np.array(values, np.float32)
    match step:
        case Range(a, b, clip):
            _stretch(scaled, a, b, clip)
        case Percentiles(percent, b, clip):
            low, high = np.percentile(scaled, percent)
            _stretch(scaled, (float(low), float(high)), b, clip)
        case MinMax(b):
            low, high = scaled.min(), scaled.max()
            if low == high:
                scaled *= np.float32(b[0])
            else:
                _stretch(scaled, (float(low), float(high)), b, clip=False)
        case Normalize():
            _normalize(scaled, step)
    return scaled


def _stretch(
    values: NDArray[np.float32],
    a: tuple[float, float],
    b: tuple[float, float] | None,
    clip: bool,
) -> None:
    values -= np.float32(a[0])
    if a[0] != a[1]:
        values /= np.float32(a[1] - a[0])
    low, high = b or (0.0, 1.0)
    if a[0] == a[1]:
        values += np.float32(low)
    elif b is not None:
        values *= np.float32(high - low)
        values += np.float32(low)
    if clip and b is not None:
        np.clip(values, low, high, out=values)


def _normalize(values: NDArray[np.float32], step: Normalize) -> None:
    """Normalise plane by plane, so that no second volume is held in memory."""
    counted = [plane[plane != 0] if step.nonzero else plane.ravel() for plane in values]
    count = sum(plane.size for plane in counted)
    if not count:
        return
    mean = sum(float(plane.sum(dtype=np.float64)) for plane in counted) / count
    variance = sum(float(np.square(plane - mean, dtype=np.float64).sum()) for plane in counted)
    less = mean if step.subtrahend is None else step.subtrahend
    by = float(np.sqrt(variance / count)) if step.divisor is None else step.divisor
    for plane in values:
        where = plane != 0 if step.nonzero else np.True_
        np.subtract(plane, np.float32(less), out=plane, where=where)
        np.divide(plane, np.float32(by or 1.0), out=plane, where=where)
