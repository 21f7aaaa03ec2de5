"""Instances that scanners put into a series beside its slices: localizers and reports."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import UID, SecondaryCaptureImageStorage

from isoline.sources.dicom_frames import file_name


def without_companions(headers: Sequence[Dataset]) -> tuple[list[Dataset], tuple[str, ...]]:
    """Return the instances that are slices, and a sentence for each that was left out.

    If all are alike, they are what the user chose, whatever they are.
    """
    found = [(header, _companion(header)) for header in headers]
    slices = [header for header, what in found if not what]
    if not slices:
        return list(headers), ()
    notes = (f"{_name(header)} was left out: it is {what}" for header, what in found if what)
    return slices, tuple(notes)


def _companion(header: Dataset) -> str:
    """Return what an instance is if it accompanies the slices; empty if it is one of them."""
    kinds = header.get("ImageType") or ()
    if "LOCALIZER" in [
        str(kind).upper() for kind in ([kinds] if isinstance(kinds, str) else kinds)
    ]:
        return "a localizer"
    kind = UID(str(header.get("SOPClassUID", "") or ""))
    if kind == SecondaryCaptureImageStorage or kind.startswith(f"{SecondaryCaptureImageStorage}."):
        return f"a screenshot or a report ({kind.name})"
    return ""


def _name(header: Dataset) -> str:
    return file_name(header) or str(header.get("SOPInstanceUID", "an instance without UID"))
