"""Opening the image that a result is of once more, for what only its files have."""

from __future__ import annotations

from isoline.errors import NotSupported
from isoline.exports.labelmap import Source
from isoline.images.catalog import Found
from isoline.sources.dicom_series import DicomSource
from isoline.sources.registry import open_image
from isoline.sources.volume import VolumeSource


def source_of(found: Found) -> Source:
    """Return the volume `found`, with its headers if it is a DICOM series.

    Raises NotSupported if it is not a volume, and what opening it raises.
    """
    opened = open_image(found.path, found.info.reader)
    try:
        if not isinstance(opened, VolumeSource):
            raise NotSupported(f"{found.name} is not a volume", "choose a volume")
        headers = tuple(opened.series.headers) if isinstance(opened, DicomSource) else ()
        return Source(found.name, opened.volume, headers)
    finally:
        opened.close()
