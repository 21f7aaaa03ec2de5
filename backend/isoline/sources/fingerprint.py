"""A digest of an image's content: equal for copies, whatever their names, different after a change.

A slide of gigabytes can't be hashed whole each time it is opened. What is hashed is the size and
`SAMPLES` blocks spread evenly from the first byte to the last, all of it for smaller files. The
price: an edit that keeps the size and falls between two blocks is not seen. Encoders and scanners
never write such a file (a changed tile changes lengths and offsets in the head or the tail); an
edit in place with a hex editor can.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from isoline.errors import Unreadable

BLOCK = 64 * 1024
SAMPLES = 32
DIGEST_BYTES = 20


def fingerprint(path: Path) -> str:
    """Return the hex digest of the image at `path`, with every file that it consists of.

    Raises Unreadable when a file cannot be read.
    """
    try:
        digests = sorted(_digest(file) for file in image_files(path))
    except OSError as error:
        raise Unreadable(f"{path.name}: {error.strerror or error}") from error
    if len(digests) == 1:
        return digests[0].hex()
    return hashlib.blake2b(b"".join(digests), digest_size=DIGEST_BYTES).hexdigest()


def image_files(path: Path) -> Iterable[Path]:
    """Return the files that make up the image at `path`; most images are one file."""
    match path.suffix.lower():
        case ".mrxs":  # the pixels lie in a folder of the same name
            return [path, *_files(path.with_suffix(""))]
        case ".vms" | ".vmu":  # an index of files beside it
            index = path.read_text("utf-8", errors="replace")
            return [path, *(file for file in _files(path.parent) if file.name in index)]
        case ".dcm":
            return _series(path)
        case _:
            return [path]


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []


def _series(path: Path) -> list[Path]:
    """Return the DICOM files beside `path` that belong to its series: one file per level."""
    wanted = _series_uid(path)
    if wanted is None:
        return [path]
    beside = (file for file in _files(path.parent) if file.suffix.lower() == ".dcm")
    return [file for file in beside if _series_uid(file) == wanted]


def _series_uid(path: Path) -> str | None:
    import pydicom  # takes longer to import than most files to open

    try:
        head = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
        uid = head.get("SeriesInstanceUID")
    except Exception:  # no DICOM file, or one that is damaged: pydicom raises many things
        return None
    return None if uid is None else str(uid)


def _digest(path: Path) -> bytes:
    size = path.stat().st_size
    digest = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=DIGEST_BYTES)
    with path.open("rb") as file:
        if size <= SAMPLES * BLOCK:
            digest.update(file.read())
        else:
            last = size - BLOCK
            for sample in range(SAMPLES):
                file.seek(last * sample // (SAMPLES - 1))
                digest.update(file.read(BLOCK))
    return digest.digest()
