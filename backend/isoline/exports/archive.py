"""Keeping a labelmap, as it is on somebody's screen, in the archive that its series comes from."""

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


def save(asked: SaveRequest, archives: DicomWebImages) -> Saved:
    """Make the DICOM object that `asked` describes and store it; the same request, the same object.

    Raises UnknownFormat, UnknownImage, NotSupported, BadRegion, Malformed or NotStored.
    """
    if not asked.image.startswith("dicomweb:"):
        raise NotSupported(
            f"{asked.image} is in no archive that it could be kept in",
            "give dicomweb:SOURCE/STUDY/SERIES",
        )
    if asked.format not in volume_file.DICOM:
        raise UnknownFormat(
            f"archives do not keep {asked.format!r}", f"choose {', '.join(volume_file.DICOM)}"
        )
    remote = archives.series(asked.image)
    source = remote.open()
    try:
        return keep(segmented(asked, source), asked.format, remote.archive)
    finally:
        source.close()


def keep(result: Segmented, format_: str, archive: Archive) -> Saved:
    """Store `result` in `archive` as `format_`. Raises NotStored or NotSupported."""
    made: Dataset = volume_file.maker(format_)(result)
    is_new = stow.store(archive, made)
    return Saved(
        str(made.StudyInstanceUID), str(made.SeriesInstanceUID), str(made.SOPInstanceUID), is_new
    )


def segmented(asked: SaveRequest, source: DicomWebSource) -> Segmented:
    """Return the whole result that `asked` describes on `source`."""
    number = np.zeros(256, np.uint8)
    for place, (label, _) in enumerate(asked.segments, 1):
        if number[label]:
            raise Malformed(f"two segments have the label {label}", "give each its own")
        number[label] = place
    return Segmented(
        labels=number[labelmap(asked.slices, source.volume, number > 0)],
        segments=tuple(segment for _, segment in asked.segments),
        volume=source.volume,
        image=asked.image,
        description=asked.description,
        headers=tuple(source.series.headers),
    )


def labelmap(
    slices: tuple[LabelledSlice, ...], volume: VolumeInfo, known: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return (k, j, i) the labels that `slices` say; `known`, (256,), are those that there are."""
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
                "give each slice of this series at most once",
            )
        for layer in each.layers:
            i0, j0, i1, j1 = layer.box
            if not known[layer.label]:
                raise Malformed(f"{where} has the label {layer.label}", "name it in segments")
            if not (i0 < i1 <= columns and j0 < j1 <= rows):
                raise BadRegion(
                    f"{where}: the box {list(layer.box)} is not in {columns} x {rows} voxels",
                    "give [i0, j0, i1, j1]",
                )
            try:
                it = mask_rle.decode(layer.code, layer.box)
            except ValueError as error:
                raise Malformed(f"{where}: {error}", "see docs/protocol.md#mask") from error
            inside = labels[k, j0:j1, i0:i1]
            if inside[it].any():
                raise Malformed(f"{where}: two labels on one voxel", "a voxel has one label")
            inside[it] = layer.label
    return labels
