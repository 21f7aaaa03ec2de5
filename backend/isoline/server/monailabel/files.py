"""Names and contents of files that come from outside."""

from __future__ import annotations

import hashlib
import html
import re
from pathlib import Path

from isoline.errors import Malformed, NotAllowed, NotSupported

_DOUBLE = (".nii.gz", ".seg.nrrd", ".ome.tif", ".ome.tiff", ".tar.gz")
_PLAIN = re.compile(r"[^\x00-\x1f\x7f/\\:*?\"<>|.][^\x00-\x1f\x7f/\\:*?\"<>|]*")
"""A file name anywhere: no separator, no control character, not hidden."""
MAX_NAME_BYTES, MAX_SUFFIX_BYTES = 200, 32
"""Together well below the 255 bytes that file systems allow."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def safe_name(name: str | None) -> str:
    """Return `name` if any folder may have a file called so. Raises Malformed."""
    plain = _PLAIN.fullmatch(name or "")
    if plain is None or plain[0].endswith((".", " ")) or len(plain[0].encode()) > MAX_NAME_BYTES:
        raise Malformed(f"{name!r} is not a name for a file", "use letters, digits, - and _")
    return plain[0]


def split(name: str) -> tuple[str, str]:
    """Return stem and suffix of a file name; `.nii.gz` and its like are one suffix."""
    for suffix in _DOUBLE:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], name[-len(suffix) :]
    path = Path(name)
    if len(path.suffix.encode()) > MAX_SUFFIX_BYTES:
        return name, ""
    return path.stem, path.suffix


def has_check_sum(path: Path, given: str) -> bool:
    """Return whether a file has the check sum `given`, as `ALGORITHM:HEX` or the hex of SHA256."""
    algorithm, _, digest = given.rpartition(":")
    if (algorithm or "SHA256") not in ("SHA256", "SHA512", "MD5"):
        return False
    hashed = hashlib.new(algorithm or "SHA256")
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hashed.update(chunk)
    return hashed.hexdigest() == digest.lower()


def check_readable(path: Path) -> None:
    """Refuse a file that came from outside and is not one image complete in itself.

    Some slide formats name further files, by any path: none of those is opened for a stranger.
    Raises NotSupported or NotAllowed.
    """
    with path.open("rb") as file:
        head = file.read(132)
    if head.startswith(_TIFF):
        _check_references(path)
    elif not (head.startswith((_PNG, _JPEG)) or head[128:] == b"DICM" or _is_nifti(path, head)):
        raise NotSupported(
            f"{path.name} is not an image that isoline reads here",
            "send PNG, JPEG, TIFF, DICOM or NIfTI in one file",
        )


def is_dicom(path: Path) -> bool:
    """Return whether `path` is a DICOM file."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _is_nifti(path: Path, head: bytes) -> bool:
    """Return whether `path` is one file of NIfTI-1 or -2; a .hdr names a second one."""
    name = path.name.lower()
    if name.endswith(".nii.gz"):
        return head.startswith(b"\x1f\x8b")
    sizes = [int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")]
    return name.endswith(".nii") and bool({348, 540} & set(sizes))


def _check_references(path: Path) -> None:
    """Refuse an OME-TIFF whose metadata names files in other folders."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            described = html.unescape(tiff.pages.first.description)
    except Exception as error:  # a damaged file can raise anything
        raise NotSupported(f"{path.name} is not a TIFF that can be read: {error}") from error
    elsewhere = re.search(r"FileName\s*=\s*[\"'][^\"']*[/\\]", described)
    if elsewhere or "<!ENTITY" in described:
        raise NotAllowed(f"{path.name} speaks of files in other folders", "send a single file")
