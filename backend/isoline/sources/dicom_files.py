"""The DICOM files in a folder: which of them are the slices of the wanted series."""

from __future__ import annotations

import filecmp
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from isoline.errors import BadSeries, ChoiceNeeded, Unreadable
from isoline.sources.dicom_frames import file_name

_NOT_NEEDED = 1 << 16
"""Values longer than this, the pixels, stay on disk until they are needed."""
_NUMBERED = re.compile(r"(?i)[a-z]{0,5}[-_.]?\d+")
"""Names that scanners give to files without a suffix, such as IM0001."""
_DERIVED = {
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.66.5": "a surface segmentation",
    "1.2.840.10008.5.1.4.1.1.481.2": "a radiotherapy dose",
}
"""Objects with pixels or shapes that are results, not images (PS3.4 B.5)."""


def find_series(path: Path) -> tuple[list[FileDataset], tuple[str, ...]]:
    """Return the headers of the only image series in a folder, or of the series of a file.

    Also return what was found beside it and left out, a sentence each.

    Raises Unreadable, ChoiceNeeded if there are several series, or BadSeries if `path` is no image
    or a file that may be a slice cannot be read.
    """
    folder = path if path.is_dir() else path.parent
    wanted = None if path.is_dir() else _wanted(path)
    images: dict[str, list[FileDataset]] = {}
    others: list[FileDataset] = []
    unread: list[tuple[Path, Unreadable]] = []
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        try:
            header = read_header(file)
        except Unreadable as error:
            unread.append((file, error))
            continue
        if _what_instead(header):
            others.append(header)
        else:
            images.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(header)
    series = _chosen(path, wanted, images, others)
    _check_unread(series, unread)
    unique, copies = _without_copies(series)
    return unique, tuple(_left_out(copies, others if wanted is None else ()))


def read_header(file: Path) -> FileDataset:
    """Return the header of a DICOM file. Raises Unreadable.

    Files without the preamble of PS3.10, which some programs leave out, are read too.
    """
    try:
        try:
            header = pydicom.dcmread(file, defer_size=_NOT_NEEDED)
        except pydicom.errors.InvalidDicomError:
            header = pydicom.dcmread(file, defer_size=_NOT_NEEDED, force=True)
            if "SOPClassUID" not in header:
                raise
    except Exception as error:  # InvalidDicomError, and many other errors for damaged files
        raise Unreadable(f"{file.name} is not a DICOM file: {error}", "check the file") from error
    if "TransferSyntaxUID" not in header.file_meta:
        # nothing compressed comes without the file's own header
        is_implicit = header.original_encoding[0]
        header.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
        )
    return header


def _wanted(path: Path) -> str:
    """Return the series of the file at `path`. Raises BadSeries if it is not an image."""
    header = read_header(path)
    if instead := _what_instead(header):
        raise BadSeries(f"{path.name} is {instead}, not an image", _remedy(header))
    return str(header.get("SeriesInstanceUID", ""))


def _what_instead(header: Dataset) -> str:
    """Return what an instance is if it is not an image; empty if it is one."""
    kind = str(header.get("SOPClassUID", "") or "")
    if kind in _DERIVED:
        return _DERIVED[kind]
    if "DirectoryRecordSequence" in header:
        return "the index of a folder (DICOMDIR)"
    if "Rows" in header:
        return ""
    return f"a document ({UID(kind).name})" if kind else "no DICOM image"


def _remedy(header: Dataset) -> str:
    if "DirectoryRecordSequence" in header:
        return "give its folder, or one of the files in it"
    referenced = header.get("ReferencedSeriesSequence") or ()
    uids = [str(each.get("SeriesInstanceUID", "")) for each in referenced]
    if uids:
        return f"choose the series that it was made from: {', '.join(uids)}"
    return "choose a series of CT or MR slices"


def _chosen(
    path: Path,
    wanted: str | None,
    images: dict[str, list[FileDataset]],
    others: Sequence[FileDataset],
) -> list[FileDataset]:
    if wanted is not None:
        return images.get(wanted, [])
    if not images:
        what = f"{path.name} contains no DICOM image"
        if others:
            found = sorted({f"{file_name(each)} is {_what_instead(each)}" for each in others})
            raise BadSeries(f"{what}: {'; '.join(found[:5])}", _remedy(others[0]))
        raise Unreadable(what, "check the folder")
    if len(images) > 1:
        listed = "; ".join(_described(uid, headers) for uid, headers in images.items())
        raise ChoiceNeeded(
            f"{path.name} contains {len(images)} series: {listed}",
            "give the path of one of the files of the series that you want",
        )
    return next(iter(images.values()))


def _described(uid: str, headers: Sequence[FileDataset]) -> str:
    first = headers[0]
    title = first.get("SeriesDescription") or uid
    return f"{len(headers)} x {title} ({first.get('Modality', '?')}, such as {file_name(first)})"


def _check_unread(series: Sequence[FileDataset], unread: Sequence[tuple[Path, Unreadable]]) -> None:
    """Raise Unreadable if a file that is called like the slices of `series` was not read."""
    suffixes = {Path(file_name(header)).suffix.lower() for header in series}
    lost = [(file, error) for file, error in unread if _may_be_slice(file, suffixes)]
    if lost:
        names = ", ".join(file.name for file, _ in lost[:5])
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        raise Unreadable(
            f"{names}{more} may belong to the series and cannot be read: {lost[0][1].what}",
            "copy or export the series again, or remove the file if it is not a slice",
        )


def _may_be_slice(file: Path, suffixes: set[str]) -> bool:
    if file.name.startswith("."):
        return False
    suffix = file.suffix.lower()
    if suffix and suffix[1:].isdigit():  # 1.2.840.1 is a name without a suffix
        return bool(_NUMBERED.search(file.name))
    return suffix in suffixes and (bool(suffix) or bool(_NUMBERED.fullmatch(file.name)))


def _without_copies(series: Sequence[FileDataset]) -> tuple[list[FileDataset], list[str]]:
    """Return the instances, each once, and the names of the files that are copies of others."""
    first: dict[str, FileDataset] = {}
    unique: list[FileDataset] = []
    copies = []
    for header in series:
        instance = str(header.get("SOPInstanceUID", "") or "")
        known = first.setdefault(instance, header)
        if instance and known is not header and _is_copy(known, header):
            copies.append(file_name(header))
        else:
            unique.append(header)
    return unique, copies


def _is_copy(one: FileDataset, other: FileDataset) -> bool:
    assert one.filename is not None and other.filename is not None  # noqa: PT018
    return filecmp.cmp(str(one.filename), str(other.filename), shallow=False)


def _left_out(copies: Sequence[str], others: Sequence[FileDataset]) -> Iterator[str]:
    if copies:
        names = ", ".join(copies[:5]) + (", ..." if len(copies) > 5 else "")
        is_one = len(copies) == 1
        what = "1 file is a copy of another and was" if is_one else f"{len(copies)} files are"
        more = "" if is_one else " copies of others and were"
        yield f"{what}{more} left out: {names}"
    for header in others:
        if "DirectoryRecordSequence" not in header:
            yield f"{file_name(header)} was left out: it is {_what_instead(header)}"
