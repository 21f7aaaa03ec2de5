"""Decoding the pixels of DICOM instances."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from isoline.errors import Unreadable
from isoline.sources.dicom_frames import Slice

_PLAIN_SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)


def syntax_of(header: Dataset) -> UID | None:
    """Return the transfer syntax of an instance, None if it is not known (from an archive)."""
    meta = getattr(header, "file_meta", None)
    return None if meta is None else meta.get("TransferSyntaxUID")


def check_decodable(header: Dataset, name: str) -> None:
    """Raise Unreadable if nothing installed here decodes the pixels of the instance `name`."""
    syntax = syntax_of(header)
    if syntax is None or syntax in _PLAIN_SYNTAXES:
        return
    try:
        if get_decoder(syntax).is_available:
            return
    except NotImplementedError:
        raise Unreadable(
            f"{name} is in {syntax.name}, which isoline cannot decode",
            "convert the series, for example with `dcmconv` or `gdcmconv --raw`",
        ) from None
    raise Unreadable(
        f"{name} is in {syntax.name}, and no decoder for it is installed",
        "install one with: pip install 'isoline[radiology]'",
    )


def decoded(each: Slice) -> NDArray[np.generic]:
    """Return the stored values (frames, rows, columns) of the instance that `each` belongs to.

    Raises Unreadable.
    """
    header = each.header
    check_decodable(header, str(each.plane))
    is_shifted = int(header.get("HighBit", 0)) + 1 != int(header.get("BitsStored", 1))
    if is_shifted and syntax_of(header) in _PLAIN_SYNTAXES:
        frames = range(int(header.get("NumberOfFrames", 1) or 1))
        shifted = [_plain_frame(header, number) for number in frames]
        if not any(frame is None for frame in shifted):
            return np.stack([frame for frame in shifted if frame is not None])
    try:
        pixels: NDArray[np.generic] = header.pixel_array
    except Exception as error:  # every codec raises its own errors
        raise Unreadable(
            f"{each.plane} cannot be decoded: {error}", "export or send the series again"
        ) from error
    return pixels.reshape(-1, *pixels.shape[-2:])


def stored_frame(each: Slice) -> NDArray[np.generic]:
    """Return the stored values (rows, columns). Raises Unreadable."""
    if syntax_of(each.header) in _PLAIN_SYNTAXES:
        here = _plain_frame(each.header, each.frame)
        if here is not None:
            return here
    frame: NDArray[np.generic] = decoded(each)[each.frame]
    return frame


def _plain_frame(header: Dataset, frame: int) -> NDArray[np.generic] | None:
    """Return one frame of an uncompressed instance; None if there are too few bytes."""
    raw = memoryview(header.get("PixelData") or b"")
    length = int(header.Rows) * int(header.Columns) * int(header.BitsAllocated) // 8
    return plain(raw[frame * length : (frame + 1) * length], header)


def plain(raw: bytes | memoryview, header: Dataset) -> NDArray[np.generic] | None:
    """Return (rows, columns) of one uncompressed frame; None if `raw` is not one."""
    rows, columns = int(header.Rows), int(header.Columns)
    bits = int(header.get("BitsAllocated", 16))
    if bits not in (8, 16, 32) or len(raw) < rows * columns * bits // 8:
        return None
    is_signed = int(header.get("PixelRepresentation", 0))
    kind = np.dtype(f"<{'i' if is_signed else 'u'}{bits // 8}")
    pixels: NDArray[Any] = np.frombuffer(raw, kind, rows * columns).reshape(rows, columns)
    # bits above HighBit and below the BitsStored are not part of the value (PS3.5, 8.1.1)
    stored = int(header.get("BitsStored", bits))
    above = bits - 1 - int(header.get("HighBit", stored - 1))
    spare = bits - stored
    return (pixels << above) >> spare if spare > 0 and 0 <= above <= spare else pixels
