"""Checking the names and contents of files that clients send."""

from __future__ import annotations

import hashlib
import html
import re
from pathlib import Path

from isoline.errors import Malformed, NotAllowed, NotSupported

_DOUBLE = (".nii.gz", ".seg.nrrd", ".ome.tif", ".ome.tiff", ".tar.gz")
_PLAIN = re.compile(r"[^\x00-\x1f\x7f/\\:*?\"<>|.][^\x00-\x1f\x7f/\\:*?\"<>|]*")
"""A file name valid on every system: no separators, no control characters, not hidden."""
MAX_NAME_BYTES, MAX_SUFFIX_BYTES = 200, 32
"""Together well below the 255 bytes that file systems allow."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def safe_name(name: str | None) -> str:
    """Return `name` if it is a valid file name on every system. Raises Malformed."""
    plain = _PLAIN.fullmatch(name or "")
    if plain is None or plain[0].endswith((".", " ")) or len(plain[0].encode()) > MAX_NAME_BYTES:
        raise Malformed(f"{name!r} is not a valid file name", "use letters, digits, - and _")
    return plain[0]


def split(name: str) -> tuple[str, str]:
    """Return stem and suffix of a file name; `.nii.gz` and the like count as one suffix."""
    for suffix in _DOUBLE:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], name[-len(suffix) :]
    path = Path(name)
    if len(path.suffix.encode()) > MAX_SUFFIX_BYTES:
        return name, ""
    return path.stem, path.suffix


def has_check_sum(path: Path, given: str) -> bool:
    """Return whether a file has the checksum `given`, as `ALGORITHM:HEX` or a SHA256 in hex."""
    algorithm, _, digest = given.rpartition(":")
    if (algorithm or "SHA256") not in ("SHA256", "SHA512", "MD5"):
        return False
    hashed = hashlib.new(algorithm or "SHA256")
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hashed.update(chunk)
    return hashed.hexdigest() == digest.lower()


def check_readable(path: Path) -> None:
    """Reject a file from a client that is not a single, self-contained image.

    Some slide formats refer to further files by arbitrary paths, which must not be opened for a
    client. Raises NotSupported or NotAllowed.
    """
    with path.open("rb") as file:
        head = file.read(132)
    if head.startswith(_TIFF):
        _check_references(path)
    elif not (head.startswith((_PNG, _JPEG)) or head[128:] == b"DICM" or _is_nifti(path, head)):
        raise NotSupported(
            f"{path.name} is not an image that isoline accepts here",
            "send a single PNG, JPEG, TIFF, DICOM or NIfTI file",
        )


def _is_nifti(path: Path, head: bytes) -> bool:
    """Return whether `path` is a single NIfTI-1 or -2 file; a .hdr refers to a second file."""
    name = path.name.lower()
    if name.endswith(".nii.gz"):
        return head.startswith(b"\x1f\x8b")
    sizes = [int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")]
    return name.endswith(".nii") and bool({348, 540} & set(sizes))


def _check_references(path: Path) -> None:
    """Reject an OME-TIFF whose metadata refers to files in other folders."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            described = html.unescape(tiff.pages.first.description)
    except Exception as error:  # a damaged file can raise anything
        raise NotSupported(f"{path.name} is not a readable TIFF: {error}") from error
    elsewhere = re.search(r"FileName\s*=\s*[\"'][^\"']*[/\\]", described)
    if elsewhere or "<!ENTITY" in described:
        raise NotAllowed(f"{path.name} refers to files in other folders", "send a single file")
