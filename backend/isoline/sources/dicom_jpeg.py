"""Colours of JPEG tiles in DICOM slides, where files contradict themselves.

Some converters write PhotometricInterpretation RGB though their JPEG encoder stored YCbCr. What the
JPEG says of itself is right: JFIF means YCbCr, and Adobe's marker names the transform (ITU-T T.871,
ITU-T T.872 6.5.3).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from isoline.sources.dicom_head import is_dicom

Encoding: TypeAlias = Literal["RGB", "YCbCr"]

_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_SEARCHED_BYTES = 8 << 20
"""The first tile begins after a table of the positions of all tiles."""


def contradiction(path: Path) -> Encoding | None:
    """Return how the tiles of a DICOM file are encoded, if its header states something else."""
    if not is_dicom(path):
        return None
    from pydicom import dcmread  # importing it takes longer than opening most files

    with path.open("rb") as file:
        header = dcmread(file, stop_before_pixels=True)
        syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
        if syntax not in _JPEG or header.get("SamplesPerPixel") != 3:
            return None
        found = encoding_of(file.read(_SEARCHED_BYTES))
    stated = "RGB" if header.get("PhotometricInterpretation") == "RGB" else "YCbCr"
    return found if found != stated else None


def encoding_of(content: bytes) -> Encoding | None:
    """Return what the first JPEG in `content` says of its colours, None if nothing."""
    at = content.find(b"\xff\xd8\xff") + 2
    if at < 2:
        return None
    while content[at : at + 1] == b"\xff" and content[at + 1 : at + 2] not in (b"", b"\xda"):
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        segment = content[at + 4 : at + 2 + length]
        match content[at + 1]:
            case 0xE0 if segment.startswith(b"JFIF"):
                return "YCbCr"
            case 0xEE if segment.startswith(b"Adobe") and len(segment) >= 12:
                return "YCbCr" if segment[11] else "RGB"
        at += 2 + length
    return None


def to_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return RGB (y, x, 3) of YCbCr samples that were taken for RGB (ITU-T T.871)."""
    y, cb, cr = np.moveaxis(pixels.astype(np.float32), 2, 0)
    cb, cr = cb - 128, cr - 128
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=2)
    return np.asarray(np.clip(np.rint(rgb), 0, 255), np.uint8)
