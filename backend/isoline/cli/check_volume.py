"""What `isoline check` says of a volume: what a radiologist asks before trusting a result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from isoline.geometry.volume_grid import VolumeGrid
from isoline.images.catalog import Found
from isoline.sources.dicom_pixels import syntax_of
from isoline.sources.dicom_series import DicomSource, Series
from isoline.sources.registry import open_image

_TOWARDS = (("left", "right"), ("posterior", "anterior"), ("superior", "inferior"))
_PLANES = ("sagittal", "coronal", "axial")
"""By the patient's axis that is closest to the normal."""
_LETTERS = "LRPASI"


def rows_of(found: Found) -> Iterator[tuple[str, str]]:
    """Yield names and values, line by line, of the volume `found`."""
    info = found.info
    assert info.volume is not None
    grid = info.volume.grid
    source = open_image(found.path, info.reader)
    try:
        series = source.series if isinstance(source, DicomSource) else None
    finally:
        source.close()
    yield "reader", info.reader
    yield "kind", "volume"
    yield "modality", info.volume.modality or "unknown"
    if series is not None:
        yield "series", str(series.headers[0].get("SeriesDescription") or "without description")
    yield "orientation", _orientation(grid)
    yield "size", "{} x {} x {} voxels".format(*grid.size)
    lengths = (f"{n * mm:.1f}" for n, mm in zip(grid.size, grid.spacing_mm, strict=True))
    yield "extent", f"{' x '.join(lengths)} mm"
    yield "voxel", f"{' x '.join(f'{mm:.4g}' for mm in grid.spacing_mm)} mm"
    if series is not None:
        yield from _series_rows(series)
    yield "values", _values(series, info.dtype)
    yield "fingerprint", info.fingerprint


def _series_rows(series: Series) -> Iterator[tuple[str, str]]:
    if len(series.slices) > 1:
        origins = np.array([each.plane.origin_mm for each in series.slices])
        gaps = np.linalg.norm(np.diff(origins, axis=0), axis=1)
        yield "slices apart", f"{gaps.mean():.4g} mm ({gaps.min():.4g} to {gaps.max():.4g})"
    count = len(series.headers)
    yield "files", f"{count} read, with {len(series.slices)} slices"
    syntaxes = {syntax.name for header in series.headers if (syntax := syntax_of(header))}
    # a series with a syntax that cannot be decoded is refused when it is opened
    yield "stored as", f"{', '.join(sorted(syntaxes)) or 'unknown'} (can be decoded)"
    first = series.slices[0].header
    centre, width = (_first(first.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre and width:
        yield "window", f"centre {centre}, width {width}"


def _first(value: Any) -> str:
    """Return the first of several numbers."""
    if value is None or value == "":
        return ""
    is_several = hasattr(value, "__iter__") and not isinstance(value, str)
    first = next(iter(value), "") if is_several else value
    return f"{float(first):g}" if first != "" else ""


def _orientation(grid: VolumeGrid) -> str:
    axes = grid.affine[:3, :3] / np.array(grid.spacing_mm)
    along = np.abs(axes).argmax(axis=0)
    signs = [int(axes[axis, n] < 0) for n, axis in enumerate(along)]
    letters = "".join(_LETTERS[2 * axis + sign] for axis, sign in zip(along, signs, strict=True))
    normal = np.abs(np.array(grid.normal))
    plane = int(normal.argmax())
    off = float(np.degrees(np.arccos(min(1.0, normal[plane]))))
    oblique = f", {off:.1f} degrees oblique" if off > 0.05 else ""
    words = [_TOWARDS[axis][sign] for axis, sign in zip(along, signs, strict=True)]
    return (
        f"{_PLANES[plane]}{oblique}; columns, rows and slices run to {words[0]}, {words[1]} and"
        f" {words[2]} ({letters})"
    )


def _values(series: Series | None, dtype: np.dtype[np.generic]) -> str:
    if series is None:
        return f"{dtype}, of unknown unit"
    header = series.slices[0].header
    unit = str(header.get("Units") or header.get("RescaleType") or "")
    if not unit and header.get("Modality") == "CT":
        unit = "HU"
    return f"{dtype}, in {unit}" if unit else f"{dtype}, of no unit"
