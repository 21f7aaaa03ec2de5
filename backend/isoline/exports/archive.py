"""Storing a label map, as a user sees it, in the archive that its series comes from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from isoline.domain import mask_rle
from isoline.domain.segments import LabelledSlice, Saved, SaveRequest
from isoline.errors import BadRegion, Malformed, NotSupported, UnknownFormat
from isoline.exports import labelmap as volume_file
from isoline.exports import stow
from isoline.exports.labelmap import Segmented
from isoline.geometry.volume_grid import VolumeInfo
from isoline.images.dicomweb import DicomWebImages
from isoline.sources.archive import Archive
from isoline.sources.dicomweb import DicomWebSource


def save(request: SaveRequest, archives: DicomWebImages) -> Saved:
    """Create and store the DICOM object that `request` describes; equal requests, equal objects.

    Raises UnknownFormat, UnknownImage, NotSupported, BadRegion, Malformed or NotStored.
    """
    if not request.image.startswith("dicomweb:"):
        raise NotSupported(
            f"{request.image} is not in an archive, so its result cannot be stored in one",
            "use an image named dicomweb:SOURCE/STUDY/SERIES",
        )
    if request.format not in volume_file.DICOM:
        raise UnknownFormat(
            f"results cannot be stored in an archive as {request.format!r}",
            f"choose {', '.join(volume_file.DICOM)}",
        )
    remote = archives.series(request.image)
    source = remote.open()
    try:
        return keep(segmented(request, source), request.format, remote.archive)
    finally:
        source.close()


def keep(result: Segmented, format_: str, archive: Archive) -> Saved:
    """Store `result` in `archive` as `format_`. Raises NotStored or NotSupported."""
    made: Dataset = volume_file.maker(format_)(result)
    is_new = stow.store(archive, made)
    return Saved(
        str(made.StudyInstanceUID), str(made.SeriesInstanceUID), str(made.SOPInstanceUID), is_new
    )


def segmented(request: SaveRequest, source: DicomWebSource) -> Segmented:
    """Return the complete result that `request` describes on `source`."""
    number = np.zeros(256, np.uint8)
    for place, (label, _) in enumerate(request.segments, 1):
        if number[label]:
            raise Malformed(
                f"two segments have the label {label}", "give each segment its own label"
            )
        number[label] = place
    return Segmented(
        labels=number[labelmap(request.slices, source.volume, number > 0)],
        segments=tuple(segment for _, segment in request.segments),
        volume=source.volume,
        image=request.image,
        description=request.description,
        headers=tuple(source.series.headers),
    )


def labelmap(
    slices: tuple[LabelledSlice, ...], volume: VolumeInfo, known: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return (k, j, i) the labels in `slices`; `known` (256,) tells which labels exist."""
    place = {name: k for k, name in enumerate(volume.slices)}
    labels = np.zeros(volume.grid.shape, np.uint8)
    columns, rows, _ = volume.grid.size
    for each in slices:
        where = f"slice {each.name.instance}, frame {each.name.frame}"
        k = place.pop(each.name, None)
        if k is None:
            is_double = each.name in volume.slices
            raise BadRegion(
                f"{where} is {'given twice' if is_double else 'not in the series'}",
                "include each slice of this series at most once",
            )
        for layer in each.layers:
            i0, j0, i1, j1 = layer.box
            if not known[layer.label]:
                raise Malformed(
                    f"{where} has the label {layer.label}, which no segment has",
                    "add a segment with that label",
                )
            if not (i0 < i1 <= columns and j0 < j1 <= rows):
                raise BadRegion(
                    f"{where}: the box {list(layer.box)} is not in {columns} x {rows} voxels",
                    "write it as [i0, j0, i1, j1] with i0 < i1 and j0 < j1",
                )
            try:
                it = mask_rle.decode(layer.code, layer.box)
            except ValueError as error:
                raise Malformed(f"{where}: {error}", "see docs/protocol.md#mask") from error
            inside = labels[k, j0:j1, i0:i1]
            if inside[it].any():
                raise Malformed(
                    f"{where}: two labels on one voxel", "give each voxel at most one label"
                )
            inside[it] = layer.label
    return labels
