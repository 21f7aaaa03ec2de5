"""A digest of an image's content: the same for copies under any name, different after a change.

A slide of several gigabytes cannot be hashed entirely each time it is opened. The digest covers the
size and `SAMPLES` blocks spread evenly from the first byte to the last, or all of a smaller file.
The price: an edit that keeps the size and falls between two blocks goes unnoticed. Encoders and
scanners never write such a file (a changed tile changes lengths and offsets in the head or the
tail); an edit in place with a hex editor can.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from isoline.errors import Unreadable
from isoline.sources.dicom_head import read_head

BLOCK = 64 * 1024
SAMPLES = 32
DIGEST_BYTES = 20


def fingerprint(path: Path) -> str:
    """Return the hex digest of the image at `path`, including every file that belongs to it.

    Raises Unreadable if a file cannot be read.
    """
    try:
        digests = sorted(_digest(file) for file in image_files(path))
    except OSError as error:
        raise Unreadable(f"{path.name}: {error.strerror or error}") from error
    if len(digests) == 1:
        return digests[0].hex()
    return hashlib.blake2b(b"".join(digests), digest_size=DIGEST_BYTES).hexdigest()


def of_part(whole: str, part: str) -> str:
    """Return the hex digest of one of several images in a file with the digest `whole`."""
    return hashlib.blake2b(f"{whole} {part}".encode(), digest_size=DIGEST_BYTES).hexdigest()


def state_of(path: Path) -> tuple[int, ...]:
    """Return numbers that change with the files of the image at `path`, at the cost of a look.

    Raises OSError if it does not exist.
    """
    places = [path]
    match path.suffix.lower():
        case ".mrxs":
            places += sorted(_files(path.with_suffix("")))
        case ".vms" | ".vmu":
            places.append(path.parent)
        case ".dcm":  # a file of the series may be overwritten in its place
            places += sorted(_files(path.parent))
    if path.is_dir():
        places += sorted(each for each in path.rglob("*") if each.is_file())
    looks = [place.stat() for place in places]
    return tuple(
        number for look in looks for number in (look.st_size, look.st_mtime_ns, look.st_ino)
    )


def content_digests(files: Iterable[Path]) -> list[bytes]:
    """Return a digest of each file, sorted, so that their names and order do not matter.

    Raises Unreadable if one cannot be read.
    """
    try:
        return sorted(_digest(file) for file in files)
    except OSError as error:
        raise Unreadable(f"a file cannot be read: {error.strerror or error}") from error


def image_files(path: Path) -> Iterable[Path]:
    """Return the files that make up the image at `path`; most images are one file."""
    match path.suffix.lower():
        case ".mrxs":  # the pixels are in a folder of the same name
            return [path, *_files(path.with_suffix(""))]
        case ".vms" | ".vmu":  # an index of files in the same folder
            index = path.read_text("utf-8", errors="replace")
            return [path, *(file for file in _files(path.parent) if file.name in index)]
        case ".dcm":
            return _series(path)
        case _:
            return [path]


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []


def _series(path: Path) -> list[Path]:
    """Return the DICOM files in the folder of `path` that belong to its series, one per level."""
    head = read_head(path)
    if head is None or head.series is None:
        return [path]
    beside = (file for file in _files(path.parent) if file.suffix.lower() == ".dcm")
    heads = ((file, read_head(file)) for file in beside)
    return [file for file, each in heads if each is not None and each.series == head.series]


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
